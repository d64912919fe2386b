-- Commits to several states, which all stand or none does: each is tried, which writes nothing, and if all
-- stand they are made. `commit` and `erase` are the other scripts as functions: told to try, they return
-- {"stands"} where they would begin to write. All see one time.
--
-- Not for a cluster, where a commit may find its keys elsewhere when the one before it is written.
--
-- KEYS the keys of each in turn
-- ARGV 1 how many there are
--      … for each: "c" to commit or "e" to erase, the number of its keys, the number of its arguments,
--        and these, without STAMP
--      … at the end STAMP, see life.lua
-- Reply: what each replies; for those that were only tried, {"stands"}.

local stamp, key, at, parts = ARGV[#ARGV], 0, 2, {}
for i = 1, tonumber(ARGV[1]) do
  local keys, arguments = {}, {}
  for j = 1, tonumber(ARGV[at + 1]) do keys[j] = KEYS[key + j] end
  key = key + #keys
  local count = tonumber(ARGV[at + 2])
  for j = 1, count do arguments[j] = ARGV[at + 2 + j] end
  arguments[count + 1] = stamp
  parts[i] = {ARGV[at] == 'e' and erase or commit, keys, arguments}
  at = at + 3 + count
end

local replies, stand = {}, true
for i, part in ipairs(parts) do
  local reply = part[1](part[2], part[3], true)
  if reply.err then return reply end
  replies[i] = reply
  stand = stand and reply[1] == 'stands'
end
if stand then
  for i, part in ipairs(parts) do replies[i] = part[1](part[2], part[3], false) end
end
return replies
