-- Installs a life that was read whole elsewhere, in the place of what stands if that is nothing newer:
-- everything is looked at first, then everything is written.
--
-- KEYS 1 the state   2 its op ids   3… its lists, those that have items; then the hashes of large fields
-- ARGV 1 incarnation, 8 bytes   2 number   3 created   4 updated   5 deadline, 0 for none (microseconds)
--      6 epoch, 8 bytes   7 forgot (milliseconds)
--      8 its op ids as they are stored   9 how many they are   10 for how many there is room
--      11 until when its epoch is held (microseconds), "" if it is not   12 by which op id, 13 bytes or none
--      13 its subject   14 whether it has one: 0 or 1
--      15 how many arguments are fields of the hash
--      16 how many hashes of large fields there are
--      17… the fields of the hash, a name and a value in turn
--      …  for each list how many items it has, and these; for each hash of a large field the same
--      …  at the end STAMP, see life.lua
--
-- Reply: "." as it now stands; or one of {"repeated", ".", number}   {"late"}   {"fenced", epoch}
--        {"conflict", "."}   {"corrupted"}
-- or an error: LATE or TRYAGAIN, see commit.lua.

local state, ops_key = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last, _, mode = struct.unpack(STAMP, ARGV[#ARGV])

local meta = redis.call('HGET', state, '.')
local life, number, updated, deadline, ends, known = '', 0, 0, 0, nil, UNFENCED
local forgot, had, size, erased, alive = 0, 0, 0, 0, false
if meta then
  if #meta ~= 64 then return {'corrupted'} end
  life, number, _, updated, deadline, ends, known, forgot, had, _, size, erased =
    struct.unpack(META, meta)
  alive = deadline == 0 or now < deadline
end
local keys = lasting(mode, now)
if not alive then known = keys.seen(state, known, deadline, updated) end
local past = keys.memories()

local comes, its, until_, epoch = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), ARGV[6]
if alive and life == comes and number == its and known == epoch then
  return {'repeated', meta, number}
end
if last > 0 and now > last then return redis.error_reply('LATE ' .. text('%.0f', now)) end
if until_ ~= 0 and now >= until_ then return {'late'} end
if epoch ~= known and past.older(epoch, known) then return {'fenced', known} end
if alive and (life ~= comes or number > its) then return {'conflict', meta} end

-- Who holds the epoch, and until when the keys are needed.
local claim, held, till = redis.call('HGET', state, '.claim'), 0, 0
if claim then held, till = struct.unpack('<I7I7', claim, 9) end
local needed = until_
if ARGV[11] ~= '' then
  local other = claim and string.sub(claim, 1, 8) == epoch and held or 0
  held = math.max(tonumber(ARGV[11]), other)
  till = math.max(till, held + TRACE)
  claim = epoch .. struct.pack('<I7I7', held, till) .. ARGV[12]
end
if needed ~= 0 and epoch ~= UNFENCED then needed = math.max(needed + TRACE, till) end
local index, kept, id = keys.index_of(state)
local stays = end_of(needed, now, nil)
local trouble
if meta and deadline ~= ERASED and (ends == 0) ~= (stays == 0) then
  trouble = keys.elsewhere(state, true, index, kept)
else
  trouble = keys.elsewhere(state, true, stays == 0 and kept or index)
end
if tonumber(ARGV[16]) > 0 then trouble = trouble or keys.elsewhere(state, false, state .. ':.') end -- made anew
if trouble then return trouble end

-- What was forgotten: of this life, elsewhere or here, or of those that were here before.
if not meta then
  forgot = past.unknown()
elseif alive then
  if had > size then forgot = math.max(forgot, past.time_of(ops_key, size, 0, had % size) or 0) end
elseif deadline ~= ERASED then
  forgot = math.max(forgot, math.ceil(updated / 1000), past.newest_of(ops_key, had, size))
end
forgot = math.max(forgot, tonumber(ARGV[7]))

local count, room = tonumber(ARGV[9]), tonumber(ARGV[10])
local keep = {[ops_key] = count > 0}
for list = 3, #KEYS do keep[KEYS[list]] = true end
if not meta then
  redis.call('UNLINK', state, ops_key) -- left over from a life that was lost
elseif deadline ~= ERASED then
  erased = keys.wipe(state, ops_key, ends, erased, keep)
end

redis.call('HSET', state, '.', struct.pack(
  META, comes, its, tonumber(ARGV[3]), tonumber(ARGV[4]), until_, stays, epoch, forgot, count, 1, room, erased
))
if claim then redis.call('HSET', state, '.claim', claim) end
local subject = ARGV[14] == '1' and ARGV[13]
if subject then redis.call('HSET', state, '.subject', subject) end
local at = 16 + tonumber(ARGV[15])
for first = 17, at, 4000 do
  redis.call('HSET', state, unpack(ARGV, first, math.min(first + 3999, at)))
end
local hashes = #KEYS - tonumber(ARGV[16])
for list = 3, hashes do
  local items = tonumber(ARGV[at + 1])
  for first = at + 2, at + 1 + items, 4000 do
    local some = {unpack(ARGV, first, math.min(first + 3999, at + 1 + items))}
    local length = redis.pcall('RPUSH', KEYS[list], unpack(some))
    if type(length) == 'table' then -- not a list any more: another's hand, see cells.lua
      redis.call('UNLINK', KEYS[list])
      redis.call('RPUSH', KEYS[list], unpack(some))
    end
  end
  redis.call('LTRIM', KEYS[list], -items, '-1') -- without what was there before
  at = at + 1 + items
end
for hash = hashes + 1, #KEYS do
  redis.call('UNLINK', KEYS[hash])
  local last = at + 1 + tonumber(ARGV[at + 1])
  for first = at + 2, last, 4000 do
    redis.call('HSET', KEYS[hash], unpack(ARGV, first, math.min(first + 3999, last)))
  end
  at = last
end
if count > 0 then redis.call('SET', ops_key, ARGV[8]) end
keys.last_until(state, count > 0 and ops_key or nil, stays, nil, subject)
return redis.call('HGET', state, '.')
