-- Looks at some members of an index, in their order, and takes out those that list nothing that lives.
--
-- KEYS 1 the index
-- ARGV 1 the member to go on after, "" for the first   2 most members to look at   3 STAMP, see life.lua
-- Reply: how many were taken out, how many were looked at, and the last of these, false if there are no more.

local index, most = KEYS[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local keys = lasting(string.byte(ARGV[3], 17), time[1] * 1000000 + time[2])
local bucket = string.sub(index, 1, string.find(index, '}', 1, true)) .. ':'
local members = redis.call(
  'ZRANGEBYLEX', index, ARGV[1] == '' and '-' or '(' .. ARGV[1], '+', 'LIMIT', 0, most
)
local over = {}
for _, member in ipairs(members) do
  if keys.is_over(bucket, member) then over[#over + 1] = member end
end
if #over > 0 then redis.call('ZREM', index, unpack(over)) end
return {#over, #members, #members == most and members[most]}
