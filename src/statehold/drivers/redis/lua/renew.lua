-- Reads a state and moves its deadline.
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 what is wanted (msgpack, see cells.lua), "" for everything
--      2 time to live in microseconds, "" for never   3 max age in microseconds, "" for none
--      4 STAMP, see life.lua: in a cluster
-- Reply: see cells.lua, with "." as it now stands; nil when absent or expired.

local state = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local mode = ARGV[4] and string.byte(ARGV[4], 17) or 0
local reply = cells(state, now, ARGV[1] ~= '' and cmsgpack.unpack(ARGV[1]) or nil, mode)
if not reply or reply.err or #reply[2][2] ~= 64 then return reply end
local life, number, created, updated, old, before, epoch, forgot, had, laid, size, erased =
  struct.unpack(META, reply[2][2])
local deadline, ttl, age = 0, tonumber(ARGV[2]), tonumber(ARGV[3])
if ttl then deadline = now + ttl end
if age and (deadline == 0 or created + age < deadline) then deadline = created + age end
-- A state that is read over and over is not written each time.
local close = math.min(1000000, (ttl or 1000000000) / 1000)
if deadline == old or (deadline ~= 0 and old ~= 0 and math.abs(deadline - old) <= close) then
  return reply
end
local ends = end_of(reach(state, deadline, epoch), now, before)
local keys
if ends ~= before then
  keys = lasting(mode, now)
  local elsewhere = keys.elsewhere
  local index, kept = keys.index_of(state)
  local trouble
  if (before == 0) ~= (ends == 0) then
    trouble = elsewhere(state, true, index, kept)
  else
    trouble = elsewhere(state, true, ends == 0 and kept or index)
  end
  if trouble then return trouble end
end
local meta = struct.pack(
  META, life, number, created, updated, deadline, ends, epoch, forgot, had, laid, size, erased
)
redis.call('HSET', state, '.', meta)
if keys then
  keys.last_until(state, had > 0 and KEYS[2] or nil, ends, before, redis.call('HGET', state, '.subject'))
end
reply[2][2] = meta
return reply
