-- Erases a state: its hash, its lists, its op ids and where it is listed. What is left is a trace for a
-- minute (see life.lua), so that neither the erasure nor a commit from before it takes effect again when
-- it is sent again. Allowed when memory is full.
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 op id and intent, 17 bytes, see life.lua; "" for none   2 the writer's epoch, 8 bytes
--      3 expect: "" for nothing, "absent", "present" or an incarnation of 8 bytes   4 and its number
--      5 since   6 until, as the caller has it (microseconds), "" for none
--      7 where (see unmet in life.lua), "" for none
--      8 STAMP, see life.lua
--
-- Reply: {"erased", "." or ""}   {"repeated", incarnation and number as in ".", number}
--        {"reused", incarnation, number}   {"doubtful"}   {"late"}   {"conflict", "." or "", field or nil}
--        {"fenced", epoch}   {"corrupted"}
-- or an error: LATE or TRYAGAIN, see commit.lua.

local state, ops_key = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last, since, mode = struct.unpack(STAMP, ARGV[8])
local op, asked, not_after = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6])
if asked then since = since == 0 and asked or math.min(since, asked) end

local meta = redis.call('HGET', state, '.')
local life, number, updated, deadline, ends, epoch = string.rep('\0', 8), 0, 0, 0, nil, UNFENCED
local forgot, had, size, erased, alive = 0, 0, 0, 0, false
if meta then
  if #meta == 64 then
    local _
    life, number, _, updated, deadline, ends, epoch, forgot, had, _, size, erased =
      struct.unpack(META, meta)
    alive = deadline == 0 or now < deadline
  elseif ARGV[3] ~= '' then
    return {'corrupted'}
  end
end

local keys = lasting(mode, now)
local past = keys.memories()
if op ~= '' then
  local erasure, trouble = past.erasure_of(state, op, erased)
  if trouble then return trouble end
  if erasure then
    local first = struct.unpack('<I5', erasure, 9)
    local reused = past.differ(string.sub(erasure, 14, 17), string.sub(op, 14))
    return {reused and 'reused' or 'repeated', string.sub(erasure, 1, reused and 8 or 13), first}
  end
  local record = had > 0 and (alive or since > 0) and record_of(ops_key, op, string.sub(op, 1, 2), size, 0)
  if record then return {'reused', life, (struct.unpack('<I5', record, 16))} end
end
if since > 0 and since < now - TRACE then return {'doubtful'} end
if last > 0 and now > last then return redis.error_reply('LATE ' .. text('%.0f', now)) end
if not_after and now > not_after then return {'late'} end
if not alive then epoch = keys.seen(state, epoch, deadline, updated) end
local writer = ARGV[2]
if writer ~= epoch and past.older(writer, epoch) then return {'fenced', epoch} end

local expect, holds = ARGV[3], true
if expect == 'absent' then holds = not alive
elseif expect == 'present' then holds = alive
elseif expect ~= '' then holds = alive and expect == life and tonumber(ARGV[4]) == number end
if not holds then return {'conflict', alive and meta or ''} end
if ARGV[7] ~= '' then
  local field, trouble = past.unmet(state, alive, ARGV[7])
  if trouble then return trouble end
  if field then return {'conflict', alive and meta or '', field} end
end
-- (see together.lua)

if meta and deadline ~= ERASED then
  local elsewhere = keys.elsewhere
  local index, kept = keys.index_of(state)
  local trouble
  if ends then
    trouble = elsewhere(state, true, ends == 0 and kept or index)
  else
    trouble = elsewhere(state, true, index, kept)
  end
  if trouble then return trouble end
end
local newest = past.newest_of(ops_key, had, size)
erased = keys.wipe(state, ops_key, ends, erased, {})
if not meta and op == '' and writer == UNFENCED then return {'erased', ''} end

local was = math.ceil(updated / 1000)
if updated < now then updated = now end
if not meta then
  forgot = past.unknown()
elseif not ends then
  forgot = math.ceil(now / 1000)
elseif deadline ~= ERASED then
  forgot = math.max(forgot, was, newest)
end
local stays = math.ceil(math.max(now + TRACE, last) / 1000)
if deadline == ERASED then stays = math.max(stays, ends) end
stays = math.max(stays, math.ceil(reach(state, ERASED, writer) / 1000))
if op ~= '' then
  if erased == 0 then erased = 1 end
  local what = alive and life .. struct.pack('<I5', number) or string.rep('\0', 13)
  redis.call(
    'HSET', state, '.e' .. string.sub(op, 1, 13),
    what .. string.sub(op, 14) .. struct.pack('<I6', math.ceil(updated / 1000))
  )
end
redis.call('HSET', state, '.', struct.pack(
  META, string.rep('\0', 8), 0, 0, updated, ERASED, stays, writer, forgot, 0, 1, 0, erased
))
redis.call('PEXPIREAT', state, text('%d', stays))
return {'erased', alive and meta or ''}
