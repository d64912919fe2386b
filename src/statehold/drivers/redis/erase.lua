-- Erases a state: its hash, its lists, its op ids and where it is listed. Allowed when memory is full.
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 op id, "" for none   2 the writer's epoch
--      3 expect: "" for nothing, "absent", "present" or an incarnation of 8 bytes   4 and its number
--
-- Reply: {"erased", "." or ""}   {"repeated", ".", number}   {"conflict", "." or ""}
--        {"fenced", epoch}   {"corrupted"}

local state, ops_key = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local meta = redis.call('HGET', state, '.')
local life, number, epoch, had, size, alive = '', 0, 0, 0, 0, false
if meta then
  if #meta == 64 then
    local deadline, _
    life, number, _, _, deadline, _, epoch, had, size = struct.unpack(META, meta)
    alive = deadline == 0 or now < deadline
  elseif ARGV[3] ~= '' then
    return {'corrupted'}
  end
end

if alive then
  local known = ARGV[1] ~= '' and had > 0 and number_of(ops_key, ARGV[1], size)
  if known then return {'repeated', meta, known} end
  if tonumber(ARGV[2]) < epoch then return {'fenced', epoch} end
end

local expect, holds = ARGV[3], true
if expect == 'absent' then holds = not alive
elseif expect == 'present' then holds = alive
elseif expect ~= '' then holds = alive and expect == life and tonumber(ARGV[4]) == number end
if not holds then return {'conflict', alive and meta or ''} end

local _, wipe = lasting()
wipe(state, ops_key)
return {'erased', alive and meta or ''}
