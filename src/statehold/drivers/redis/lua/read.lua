-- Reads a state. Writes nothing, so that it is allowed when memory is full.
--
-- KEYS 1 the state
-- ARGV 1 what is wanted (msgpack, see cells.lua), "" for everything
--      2 STAMP, see life.lua: in a cluster
-- Reply: see cells.lua; nil when absent or expired.

local time = redis.call('TIME')
local mode = ARGV[2] and string.byte(ARGV[2], 17) or 0
local want = ARGV[1] ~= '' and cmsgpack.unpack(ARGV[1]) or nil
return cells(KEYS[1], time[1] * 1000000 + time[2], want, mode)
