-- Claims an epoch: its own, or the next one that nobody holds. Of the state nothing else changes; where
-- there is none a trace is left, with the epoch in it (see life.lua).
--
-- KEYS 1 the state   2 its op ids
-- ARGV 1 op id, 17 bytes, see life.lua; "" for none   2 the epoch, 8 bytes; 0 asks for the next one
--      3 for how many microseconds it is held from now on
--      4 expect: "" for nothing, "absent", "present" or an incarnation of 8 bytes   5 and its number
--      6 until, as the caller has it (microseconds), "" for none
--      7 what is to be returned (msgpack, see cells.lua), "" for nothing
--      8 STAMP, see life.lua
--
-- Reply: {"claimed", "." or "", epoch, cells}   {"fenced", epoch, microseconds that it is still held}
--        {"late"}   {"conflict", "." or ""}   {"corrupted"}
-- or an error: LATE or TRYAGAIN, see commit.lua.

local state, ops_key, wanted = KEYS[1], KEYS[2], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last, _, mode = struct.unpack(STAMP, ARGV[8])
local not_after = tonumber(ARGV[6])
local op = string.sub(ARGV[1], 1, 13)

local meta = redis.call('HGET', state, '.')
local life, number, created, updated, deadline, ends, known = ARGV[2], 0, 0, 0, 0, 0, UNFENCED
local forgot, had, laid, size, erased, alive = 0, 0, 1, 0, 0, false
if meta then
  if #meta ~= 64 then return {'corrupted'} end
  life, number, created, updated, deadline, ends, known, forgot, had, laid, size, erased =
    struct.unpack(META, meta)
  alive = deadline == 0 or now < deadline
end
local keys = lasting(mode, now)
if not alive then known = keys.seen(state, known, deadline, updated) end
local past = keys.memories()

if last > 0 and now > last then return redis.error_reply('LATE ' .. text('%.0f', now)) end
if not_after and now > not_after then return {'late'} end

-- Who holds it, until when, and until when that is remembered.
local claim = redis.call('HGET', state, '.claim')
local held, till, by = 0, claim and struct.unpack('<I7', claim, 16) or 0, op
if claim and known ~= UNFENCED and string.sub(claim, 1, 8) == known then
  held = struct.unpack('<I7', claim, 9)
end

-- The next of an epoch, not lower than the time in microseconds; nil after the last one.
local function next_of(epoch)
  local high, low = struct.unpack('>I4I4', epoch)
  low = low + 1
  if low == 4294967296 then high, low = high + 1, 0 end
  if high >= 2147483648 then return nil end
  local other = math.floor(now / 4294967296)
  if other > high or (other == high and now % 4294967296 > low) then
    high, low = other, now % 4294967296
  end
  return struct.pack('>I4I4', high, low)
end

if wanted ~= UNFENCED then
  if wanted ~= known and past.older(wanted, known) then return {'fenced', known, 0} end
  by = claim and string.sub(claim, 1, 8) == wanted and string.sub(claim, 23) or ''
elseif op ~= '' and now < held and string.sub(claim, 23) == op then
  wanted = known -- it is sent again
elseif now < held then
  return {'fenced', known, held - now}
else
  wanted = next_of(known)
  if not wanted then return {'fenced', known, 0} end
end

local expect, holds = ARGV[4], true
if expect == 'absent' then holds = not alive
elseif expect == 'present' then holds = alive
elseif expect ~= '' then holds = alive and expect == life and tonumber(ARGV[5]) == number end
if not holds then return {'conflict', alive and meta or ''} end

held = now + tonumber(ARGV[3])
till = math.max(till, held + TRACE)
claim = wanted .. struct.pack('<I7I7', held, till) .. by

if alive then
  local before = ends
  if before ~= 0 and before * 1000 < math.max(deadline + TRACE, till) then
    ends = end_of(math.max(deadline + TRACE, till), now, before)
    local index = keys.index_of(state)
    local trouble = keys.elsewhere(state, true, index)
    if trouble then return trouble end
  end
  meta = struct.pack(
    META, life, number, created, updated, deadline, ends, wanted, forgot, had, laid, size, erased
  )
  redis.call('HSET', state, '.', meta, '.claim', claim)
  if ends ~= before then
    local subject = redis.call('HGET', state, '.subject')
    keys.last_until(state, had > 0 and ops_key or nil, ends, before, subject)
  end
  if ARGV[7] == '' then return {'claimed', meta, wanted} end
  return {'claimed', meta, wanted, cells(state, now, cmsgpack.unpack(ARGV[7]), mode) or false}
end

if meta and deadline ~= ERASED then
  local index, kept = keys.index_of(state)
  local trouble = keys.elsewhere(state, true, ends == 0 and kept or index)
  if trouble then return trouble end
  local newest = past.newest_of(ops_key, had, size)
  erased = keys.wipe(state, ops_key, ends, erased, {})
  forgot = math.max(forgot, math.ceil(updated / 1000), newest)
end
if not meta then forgot = past.unknown() end
local stays = math.ceil(math.max(till, now + TRACE, last) / 1000)
if deadline == ERASED then stays = math.max(stays, ends) end
redis.call('HSET', state, '.claim', claim, '.', struct.pack(
  META, string.rep('\0', 8), 0, 0, updated, ERASED, stays, wanted, forgot, 0, 1, 0, erased
))
redis.call('PEXPIREAT', state, text('%d', stays))
return {'claimed', '', wanted}
