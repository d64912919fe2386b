-- Reads a state with what it remembers. Writes nothing.
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 STAMP, see life.lua: in a cluster
-- Reply: nil when absent or expired; else its cells (see cells.lua), what is in its string of op ids but
-- for earlier rounds, and ".claim", false where there is none (see life.lua for both).

local time = redis.call('TIME')
local mode = ARGV[1] and string.byte(ARGV[1], 17) or 0
local found = cells(KEYS[1], time[1] * 1000000 + time[2], nil, mode)
if not found or found.err then return found end
local meta, ops = found[2][2], ''
local size = #meta == 64 and struct.unpack('<I3', meta, 61) or 0
if size > 0 then ops = redis.call('GETRANGE', KEYS[2], '0', string.format('%d', size * 28 - 1)) end
return {found, ops, redis.call('HGET', KEYS[1], '.claim')}
