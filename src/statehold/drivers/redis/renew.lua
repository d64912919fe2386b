-- Reads a state and moves its deadline.
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 what is wanted (msgpack, see cells.lua), "" for everything
--      2 time to live in microseconds, "" for never   3 max age in microseconds, "" for none
-- Reply: see cells.lua, with "." as it now stands; nil when absent or expired.

local state = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = cells(state, now, ARGV[1] ~= '' and cmsgpack.unpack(ARGV[1]) or nil)
if not reply or #reply[2][2] ~= 64 then return reply end
local life, number, created, updated, old, before, epoch, had, size =
  struct.unpack(META, reply[2][2])
local deadline, ttl, age = 0, tonumber(ARGV[2]), tonumber(ARGV[3])
if ttl then deadline = now + ttl end
if age and (deadline == 0 or created + age < deadline) then deadline = created + age end
-- A state that is read over and over is not written each time.
local close = math.min(1000000, (ttl or 1000000000) / 1000)
if deadline == old or (deadline ~= 0 and old ~= 0 and math.abs(deadline - old) <= close) then
  return reply
end
local ends = end_of(deadline, now, before)
local meta = struct.pack(META, life, number, created, updated, deadline, ends, epoch, had, size)
redis.call('HSET', state, '.', meta)
if ends ~= before then
  local last_until = lasting()
  last_until(state, KEYS[2], ends, before, redis.call('HGET', state, '.subject'))
end
reply[2][2] = meta
return reply
