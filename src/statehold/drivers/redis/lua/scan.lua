-- Lists what lives in one bucket, in byte order of ids. Writes nothing.
--
-- KEYS 1 the index of states that end   2 that of states that never do
-- ARGV 1 what members begin with: "i" for all, "s<length>:<subject>" for a subject's
--      2 the id to go on after, or what the first begins with   3 whether it is the former ("1")
--      4 most members to look at in each   5 subject, "" for all   6 what ids begin with, or ""
--      7 "1": each id comes after the 7 bytes that say when its state was updated, see life.lua
--      8 STAMP, see life.lua: in a cluster
-- Reply: for each index {ids that live…} and the last id looked at, false if there are no more.
-- Or an error, TRYAGAIN, when the slot is being moved and something is at the other node.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local prefix, limit = ARGV[1], tonumber(ARGV[4])
local from = (ARGV[3] == '1' and '(' or '[') .. prefix .. ARGV[2]
local bucket = string.sub(KEYS[1], 1, string.find(KEYS[1], '}', 1, true)) .. ':'
local by_subject = string.byte(prefix) == 115
local mode = ARGV[8] and string.byte(ARGV[8], 17) or 0
local reply = {}

-- Whether a state is about the subject; how several lie in ".subject" tells life.lua.
local function is_about(about)
  if about == ARGV[5] then return true end
  if not about or string.byte(about) ~= 255 then return false end
  local at = 2
  while at <= #about do
    local _, colon, length = string.find(about, '^(%d+):', at)
    at = colon + length + 1
    if string.sub(about, colon + 1, at - 1) == ARGV[5] then return true end
  end
end

for _, index in ipairs(KEYS) do
  local members = redis.call(
    'ZRANGEBYLEX', index, from, '(' .. prefix .. ARGV[6] .. '\255', 'LIMIT', 0, limit
  )
  local ids = {}
  for _, member in ipairs(members) do
    local id = string.sub(member, #prefix + 1)
    local held = redis.pcall('HMGET', bucket .. id, '.', '.subject')
    if held.err or (mode == 2 and not held[1]) then
      return redis.error_reply('TRYAGAIN another node may have some of the states')
    end
    if held[1] and (not by_subject or is_about(held[2])) then
      local deadline = #held[1] == 64 and struct.unpack('<d', held[1], 28) or 0
      if deadline == 0 or now < deadline then
        if ARGV[7] == '1' then id = string.sub(held[1], 21, 27) .. id end
        ids[#ids + 1] = id
      end
    end
  end
  reply[#reply + 1] = ids
  reply[#reply + 1] = #members == limit and string.sub(members[limit], #prefix + 1)
end
return reply
