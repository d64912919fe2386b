-- Reads a state. Writes nothing, so that it is allowed when memory is full.
--
-- KEYS 1 the state
-- ARGV 1 what is wanted (msgpack, see cells.lua), "" for everything
-- Reply: see cells.lua; nil when absent or expired.

local time = redis.call('TIME')
return cells(KEYS[1], time[1] * 1000000 + time[2], ARGV[1] ~= '' and cmsgpack.unpack(ARGV[1]) or nil)
