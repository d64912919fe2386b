-- Whether the user may do what the other scripts do: asked beforehand, since a command that is denied
-- in the middle of a commit would leave half of it. Writes nothing.
--
-- KEYS none   ARGV 1 a key such as states have
-- Reply: the names of the commands that are denied.

local key = ARGV[1]
local denied = {}
for _, command in ipairs({
  {'TIME'}, {'HGET', key, 'f'}, {'HMGET', key, 'f'}, {'HGETALL', key}, {'HKEYS', key}, {'HLEN', key},
  {'HSET', key, 'f', 'v'}, {'HDEL', key, 'f'}, {'RPUSH', key, 'v'}, {'LTRIM', key, '0', '1'},
  {'LSET', key, '0', 'v'}, {'LRANGE', key, '0', '1'}, {'UNLINK', key}, {'SET', key, 'v'},
  {'SETRANGE', key, '0', 'v'}, {'GETRANGE', key, '0', '1'}, {'PEXPIREAT', key, '1'}, {'PERSIST', key},
  {'ZADD', key, '0', 'm'}, {'ZREM', key, 'm'}, {'EXISTS', key}, {'ZRANDMEMBER', key, '2'},
  {'ZRANGEBYLEX', key, '-', '+'},
}) do
  if not redis.acl_check_cmd(unpack(command)) then denied[#denied + 1] = command[1] end
end
return denied
