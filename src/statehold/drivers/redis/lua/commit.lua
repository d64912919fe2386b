-- Folds one commit into a state: everything is looked at first, then everything is written.
--
-- KEYS 1  the state, a hash: "." (see life.lua), ".subject"; an entry as "field:entry", or "field"
--         for the entry ""; "#field", how many entries it has besides ""; ":field", how many items
--         the list at <state>:field has, and after a space the position of the first where that is not
--         1; ".:field", in which position a list without items goes on. A field of more than LARGE entries has
--         a hash of its own, <state>:field, with them by their names, and then "#:field" instead of
--         "#field"; it keeps it, as long as it has any, so that nobody has to go through them for the others
--      2  its op ids, a string (see life.lua)
--      3… the list of each change that appends or splices, and of each that drops a field, in order
-- ARGV 1  op id and intent, 17 bytes, see life.lua; "" for none
--      2  incarnation, 8 bytes, should a new life begin
--      3  time to live in microseconds, "" for never
--      4  how many arguments are options
--      5  n, the number of changes
--      6… for each change the field of the hash that it is about
--      …  options, each a name and a value: ops; epoch (8 bytes, big-endian); age (max age in
--         microseconds); subject (as in the hash, \255 for nobody); expect ("absent", "present" or an incarnation of 8 bytes) and
--         number; where (see unmet in life.lua); want (msgpack, see cells.lua); since and until
--         (microseconds), as the caller has it; at (microseconds), when it was made
--      …  changes, each beginning with its kind:
--         p put, i put if absent: field, entry, value, bound
--         n add to a number, v to an array of float64: field, entry, amount, bound
--         d drop an entry: field, entry
--         x drop a field: field
--         a append: field, keep, number of items, items…
--         e splice: field, keep, position or 0, how many of the newest go, number of items that are to
--           be there (-1: whatever is), these items…, number of items, items…
--         A bound is "" for none; with "-" before it the lowest entry gives way.
--         Numbers are decimal, floats have one of ".einf". Bytes that begin with a digit, "-" or a
--         space are stored with a space before them.
--      …  at the end STAMP, see life.lua
--
-- Reply: "." as it now stands if nothing was asked for; else one of
--   {"written", ".", cells}   {"repeated", ".", number, cells}
--   {"reused", incarnation, number}   {"doubtful"}   {"late"}   {"conflict", "." or "", field or nil}
--   {"fenced", epoch}   {"refused", field, reason, limit, found}   {"corrupted", field or none}
-- or an error: LATE and the server's time in microseconds, when STAMP says so; TRYAGAIN, when some of
-- the state's keys are at another node.

local state, ops_key = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local n = tonumber(ARGV[5])
local held
if n <= 2000 then
  held = redis.call('HMGET', state, '.', unpack(ARGV, 6, 5 + n))
else
  held = {redis.call('HGET', state, '.')}
  for i = 1, n do held[i + 1] = redis.call('HGET', state, ARGV[5 + i]) end
end

local meta = held[1]
local life, number, created, updated, deadline, ends, epoch = ARGV[2], 0, 0, 0, 0, nil, UNFENCED
local forgot, had, laid, size, erased = 0, 0, 1, 0, 0
local before = nil -- when the keys of the living state end
if meta then
  if #meta ~= 64 then return {'corrupted'} end
  life, number, created, updated, deadline, ends, epoch, forgot, had, laid, size, erased =
    struct.unpack(META, meta)
  if deadline == 0 or now < deadline then before = ends else held = {} end
end

local ops, age, writer, subject, expect, expected, want = 129, nil, UNFENCED, nil, nil, nil, nil
local where
local last, since, mode = struct.unpack(STAMP, ARGV[#ARGV])
local not_after, made
local at = 6 + n
local options = tonumber(ARGV[4])
if options > 0 then
  for i = at, at + options - 1, 2 do
    local name, value = ARGV[i], ARGV[i + 1]
    if name == 'ops' then ops = tonumber(value) + 1 -- by the oldest one sees what was forgotten before
    elseif name == 'epoch' then writer = value
    elseif name == 'age' then age = tonumber(value)
    elseif name == 'subject' then subject = value
    elseif name == 'expect' then expect = value
    elseif name == 'number' then expected = tonumber(value)
    elseif name == 'since' then since = since == 0 and tonumber(value) or math.min(since, tonumber(value))
    elseif name == 'until' then not_after = tonumber(value)
    elseif name == 'at' then made = tonumber(value)
    elseif name == 'where' then where = value
    else want = cmsgpack.unpack(value) end
  end
  at = at + options
end

-- What few commits need, made by whoever needs it first (see life.lua).
local keys, past

-- 1. an op id that is remembered: one of this life, or of one that has ended while it was sent again
local op = ARGV[1]
local mark = string.sub(op, 1, 2)
local record = had > 0
  and op ~= ''
  and (before or since > 0)
  and record_of(ops_key, op, mark, size, 0)
if record or erased > 0 or since > 0 then
  keys = lasting(mode, now)
  past = keys.memories()
  if not record and since > 0 and had > size then record = past.earlier(ops_key, op, size) end
  if record then
    local first = struct.unpack('<I5', record, 16)
    if past.differ(string.sub(record, 12, 15), string.sub(op, 14)) then
      return {'reused', string.sub(meta, 1, 8), first}
    end
    local found = want and cells(state, now, want, mode)
    if found and found.err then return found end
    return {'repeated', meta, first, found}
  end
  local erasure, trouble = past.erasure_of(state, op, op ~= '' and erased or 0)
  if trouble then return trouble end
  if erasure then return {'reused', string.sub(erasure, 1, 8), (struct.unpack('<I5', erasure, 9))} end
  -- 2. one that may have been forgotten
  if since > 0 then
    local doubtful
    if meta then
      doubtful = past.forgets(ops_key, had, size, forgot, since)
    else
      doubtful = since < past.unknown() * 1000
    end
    if doubtful then return {'doubtful'} end
  end
end

-- 3. too late
if last > 0 and now > last then return redis.error_reply('LATE ' .. text('%.0f', now)) end
if not_after and now > not_after then return {'late'} end

-- 4. fencing, 5. the conditions
if not before and epoch ~= UNFENCED then
  keys = keys or lasting(mode, now)
  epoch = keys.seen(state, epoch, deadline, updated)
end
if writer ~= epoch then
  keys = keys or lasting(mode, now)
  past = past or keys.memories()
  if past.older(writer, epoch) then return {'fenced', epoch} end
end
if expect then
  local holds
  if expect == 'absent' then holds = not before
  elseif expect == 'present' then holds = before
  else holds = before and expect == life and expected == number end
  if not holds then return {'conflict', before and meta or ''} end
end
if where then
  keys = keys or lasting(mode, now)
  past = past or keys.memories()
  local field, trouble = past.unmet(state, before, where)
  if trouble then return trouble end
  if field then return {'conflict', before and meta or '', field} end
end

if made then
  local born, over = before and created or made, ARGV[3] ~= '' and made + tonumber(ARGV[3]) or nil
  if age and (not over or born + age < over) then over = born + age end
  if over and over <= now then return {'late'} end
end

-- 6. the changes, staged: hash fields with their new value, false for none; what to do to lists
local staged, todo, lists, drops = {}, {}, 2, false

-- Where the entries of fields are, see places.lua.
local places

local function get(name)
  local value = staged[name]
  if value == nil and places then value = places.stored[name] end
  if value == nil then value = before and redis.call('HGET', state, name) end
  return value
end

if laid == 0 then places = placing(state, before, staged, get, mode, now, laid) end
local add_number, add_array

-- How many items a list has, and the position of the first, or of the next if there is none.
local function listed(field, value)
  if not value then return 0, tonumber(get('.:' .. field) or 1) end
  local gap = string.find(value, ' ', 1, true)
  if not gap then return tonumber(value) or 0, 1 end
  return tonumber(string.sub(value, 1, gap - 1)) or 0, tonumber(string.sub(value, gap + 1)) or 1
end

-- The lists that are spliced in this commit, by their keys: of the items that are stored, from position
-- `from` on, those of `first` to `left` stay, some of them with other values (`edits`); then come those in
-- `fresh`, up to position `last`.
local spliced

local function splicing()
  local function append(list, keep, from, to)
    local fresh = list.fresh
    for i = from, to do fresh[#fresh + 1] = ARGV[i] end
    list.last = list.last + to - from + 1
    list.first = math.max(list.first, list.last - keep + 1)
  end

  local function clear(list)
    list.first, list.fresh = list.last + 1, {}
  end

  -- The list as it is after the changes until now, which are not to be made otherwise any more.
  local function list_of(key, field, name)
    spliced = spliced or {}
    local list = spliced[key]
    if list then return list end
    local saved = staged
    staged = {}
    local value = get(name)
    local count, first = listed(field, value)
    staged = saved
    -- Where items were evicted, or taken by another's hand, its newest is in another place. Appends are
    -- taken all the same: once the list is full of new ones nothing is missing.
    local newest = count > 0 and saved[name] == nil and redis.pcall('LRANGE', key, count - 1, -1)
    if newest and #newest ~= 1 or value and count == 0 then return nil end
    list = {from = first, first = first, left = first + count - 1, last = first + count - 1}
    list.fresh, list.edits = {}, {}
    for j = 1, #todo do
      local change = todo[j]
      if change[1] == key then
        if change[3] then append(list, tonumber(change[3]), change[6], change[5]) else clear(list) end
        todo[j] = {}
      end
    end
    spliced[key] = list
    return list
  end

  -- The items in these positions, which the list has; nil where they cannot be read.
  local function items_of(list, key, from, to)
    local found = {}
    local stored = math.min(to, list.left)
    if from <= stored then
      found = redis.pcall('LRANGE', key, from - list.from, stored - list.from)
      if found.err or #found ~= stored - from + 1 then return nil end
      for at, item in pairs(list.edits) do
        if from <= at and at <= stored then found[at - from + 1] = item end
      end
    end
    for at = math.max(from, list.left + 1), to do
      found[#found + 1] = list.fresh[#list.fresh - list.last + at]
    end
    return found
  end

  -- Stage how many items a list has from now on, and from which position.
  local function relist(field, name, count, first)
    staged[name] = count > 0 and (first == 1 and text('%d', count) or text('%d %d', count, first))
    if count == 0 and first > 1 then
      staged['.:' .. field] = text('%d', first)
    elseif get('.:' .. field) then
      staged['.:' .. field] = false
    end
  end

  -- Apply the change at `at`: a refusal, or nil.
  local function splice(list, key, field, at)
    local keep, place, take = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local expected = tonumber(ARGV[at + 5])
    local size = list.last - list.first + 1
    local counted = at + 6 + math.max(expected, 0)
    if place > 0 and (place < list.first or place > list.last) then
      local limit = size == 0 and 'no items' or text('positions %d to %d', list.first, list.last)
      return {'refused', field, 'gone', limit, place}
    end
    if expected >= 0 then
      local from, to = list.last - expected + 1, list.last
      if place > 0 then from, to = place, place end
      local found = from >= list.first and items_of(list, key, from, to)
      if found == nil then return {'corrupted', field} end
      local same = found and #found == expected
      for i = 1, same and expected or 0 do same = same and found[i] == ARGV[at + 5 + i] end
      if not same then
        if place > 0 then return {'refused', field, 'changed', 'the item as it was', 'another'} end
        return {'refused', field, 'changed', 'the newest items as they were', 'others'}
      end
    end
    if place > list.left then
      list.fresh[#list.fresh - list.last + place] = ARGV[counted + 1]
    elseif place > 0 then
      list.edits[place] = ARGV[counted + 1]
    else
      take = math.min(take, size)
      list.last = list.last - take
      list.left = math.min(list.left, list.last)
      for i = 1, math.min(take, #list.fresh) do list.fresh[#list.fresh] = nil end
      local items = tonumber(ARGV[counted])
      if items > 0 then append(list, keep, counted + 1, counted + items) end -- else nothing is cut
    end
  end

  -- Write it. `expires`: when its key is to end, should it be new; false if that is seen to.
  local function write(key, list, expires)
    local fresh, stays = list.fresh, list.first <= list.left
    local from = stays and 1 or #fresh - list.last + list.first
    if stays then
      redis.call('LTRIM', key, list.first - list.from, list.left - list.from)
      for at, item in pairs(list.edits) do
        if list.first <= at and at <= list.left then redis.call('LSET', key, at - list.first, item) end
      end
    end
    local count = #fresh - from + 1
    if count > 0 then
      local length
      for i = from, #fresh, 4000 do
        length = redis.pcall('RPUSH', key, unpack(fresh, i, math.min(i + 3999, #fresh)))
        if type(length) == 'table' then -- not a list any more: another's hand, see cells.lua
          redis.call('UNLINK', key)
          length = redis.call('RPUSH', key, unpack(fresh, i, math.min(i + 3999, #fresh)))
        end
      end
      if not stays and length ~= count then redis.call('LTRIM', key, -count, '-1') end
      if expires and not stays then redis.call('PEXPIREAT', key, expires) end
    elseif not stays then
      redis.call('UNLINK', key)
    end
  end

  return list_of, append, clear, splice, relist, write
end
local list_of, append_to, clear, splice, relist, write_list

local i = 0
while i < n do
  i = i + 1
  local kind, field = ARGV[at], ARGV[at + 1]
  local name = ARGV[5 + i]
  local old = staged[name]
  if old == nil then old = held[1 + i] or false end

  if kind == 'a' then
    lists = lists + 1
    local keep, items = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    if items > 0 then
      local count, start = listed(field, old)
      if count == 0 and (tonumber(get('#' .. field) or 0) > 0 or get('#:' .. field) or get(field)) then
        return {'refused', field, 'type', 'items', 'entries'}
      end
      local last = at + 3 + items
      local first = items > keep and last - keep + 1 or at + 4
      local now_has = math.min(count + items, keep)
      if spliced and spliced[KEYS[lists]] then
        append_to(spliced[KEYS[lists]], keep, at + 4, last)
      else
        todo[#todo + 1] = {KEYS[lists], count, ARGV[at + 2], first, last, at + 4}
      end
      start = start + count + items - now_has
      staged[name] = start == 1 and text('%d', now_has) or text('%d %d', now_has, start)
      if count == 0 and get('.:' .. field) then staged['.:' .. field] = false end
    end
    at = at + 4 + items

  elseif kind == 'd' then
    local entry = ARGV[at + 2]
    if not old and staged[name] == nil and before and entry ~= '' then
      if places or redis.call('HGET', state, '#:' .. field) then
        places = places or placing(state, before, staged, get, mode, now, laid)
        local trouble
        old, trouble = places.look(field, entry)
        if trouble then return trouble end
      end
    end
    if old then
      staged[name] = false
      if entry ~= '' then
        local counter = places and places.counter_of(field) or '#' .. field
        staged[counter] = tonumber(get(counter) or 1) - 1
      end
    end
    at = at + 3

  elseif kind == 'e' then
    lists = lists + 1
    local key = KEYS[lists]
    if not old and (tonumber(get('#' .. field) or 0) > 0 or get('#:' .. field) or get(field)) then
      return {'refused', field, 'type', 'items', 'entries'}
    end
    if not splice then list_of, append_to, clear, splice, relist, write_list = splicing() end
    local list = list_of(key, field, name)
    if not list then return {'corrupted', field} end
    local refused = splice(list, key, field, at)
    if refused then return refused end
    relist(field, name, list.last - list.first + 1, list.first)
    at = at + 6 + math.max(tonumber(ARGV[at + 5]), 0)
    at = at + 1 + tonumber(ARGV[at])

  elseif kind == 'x' then
    lists = lists + 1
    if old then
      local count, first = listed(field, old)
      if spliced and spliced[KEYS[lists]] then
        clear(spliced[KEYS[lists]])
      else
        todo[#todo + 1] = {KEYS[lists]}
        drops = true
      end
      staged[name], staged['.:' .. field] = false, text('%d', first + count)
    else
      places = places or placing(state, before, staged, get, mode, now, laid)
      local _, trouble = places.look(field, '')
      if trouble then return trouble end
      local apart, counter, prefix = places.apart, places.counter_of(field), field .. ':'
      if tonumber(get(counter) or 0) > 0 then
        if apart[field] and not places.moving[field] then
          places.dropped[apart[field]] = true
          for entry in pairs(staged) do
            if string.sub(entry, 1, #prefix) == prefix then staged[entry] = false end
          end
        else
          if not places.names_of then places.rooms() end
          for _, entry in ipairs(places.names_of(field)) do staged[entry] = false end
          places.moving[field] = nil
        end
        staged[counter], apart[field] = false, false
      end
      if get(field) then staged[field] = false end
    end
    at = at + 2

  else
    local entry, value, bound = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    at = at + 5
    local refused
    if not old and staged[name] == nil and entry ~= '' then
      places = places or placing(state, before, staged, get, mode, now, laid)
      local trouble
      old, trouble = places.look(field, entry)
      if trouble then return trouble end
    end
    if not add_number and (kind == 'n' or kind == 'v') then add_number, add_array = sums() end
    if kind == 'n' then
      value, refused = add_number(field, old, value)
    elseif kind == 'v' then
      value, refused = add_array(field, old, value)
    elseif kind == 'i' and old then
      value = nil
    end
    if not old then
      -- a list in the place of entries comes before what is wrong with the amount
      if refused and get(':' .. field) then
        refused = {'refused', field, 'type', 'entries', 'items'}
      end
      local stays
      places = places or placing(state, before, staged, get, mode, now, laid)
      if not refused then refused, stays = (places.room or places.rooms())(field, entry, name, bound) end
      if not stays then value = nil end
    end
    if refused then return refused end
    if value then staged[name] = value end
  end
end

-- 7. everything is well: write
-- (see together.lua)
local was, ended = updated, deadline
if made and not before then updated = made end
made = made or now
if updated < made then updated = made end -- and never goes back
if not before then created = updated end
local gone = ends -- when the keys of what was before are to end
deadline = 0
if ARGV[3] ~= '' then deadline = made + tonumber(ARGV[3]) end
if age and (deadline == 0 or created + age < deadline) then deadline = created + age end
ends = end_of(reach(state, deadline, writer), now, before)

if mode > 0 and (ends ~= before or subject or want) then
  keys = keys or lasting(mode, now)
  local elsewhere = keys.elsewhere
  local index, kept = keys.index_of(state)
  local trouble
  if ends == before and not subject then
    trouble = elsewhere(state, true)
  elseif before and (before == 0) ~= (ends == 0) then
    trouble = elsewhere(state, true, index, kept)
  elseif not before and meta and ends == 0 then
    trouble = elsewhere(state, true, index, kept)
  else
    trouble = elsewhere(state, true, ends == 0 and kept or index)
  end
  if trouble then return trouble end
end
if mode > 0 and places and (next(places.moving) or next(places.dropped)) then -- a key that is made, maybe after one that is gone
  keys = keys or lasting(mode, now)
  local trouble = keys.elsewhere(state, false, state .. ':.')
  if trouble then return trouble end
end

local appended -- the last change that appends to each list, for who would delete it before
if drops or not before then
  appended = {}
  for j = 1, #todo do
    if todo[j][3] then appended[todo[j][1]] = j end
  end
  if spliced then
    for key, list in pairs(spliced) do
      if #list.fresh > 0 then appended[key] = 0 end
    end
  end
end
if not before then
  keys = keys or lasting(mode, now)
  local was_had, was_size = had, size
  life, number, had, size = ARGV[2], 0, 0, 0
  if not meta then
    redis.call('UNLINK', state, ops_key) -- left over from a life that was lost
    past = past or keys.memories()
    forgot = past.unknown()
  elseif ended ~= ERASED then
    past = past or keys.memories()
    local newest = past.newest_of(ops_key, was_had, was_size)
    local keep = {[ops_key] = op ~= ''}
    for key in pairs(appended) do keep[key] = true end
    erased = keys.wipe(state, ops_key, gone, erased, keep)
    forgot = math.max(forgot, math.ceil(was / 1000), newest)
  end
end

if places then
  for key in pairs(places.dropped) do redis.call('UNLINK', key) end
end
if spliced then
  for key, list in pairs(spliced) do
    write_list(key, list, ends == before and ends ~= 0 and ends)
  end
end
for j = 1, #todo do
  local key, count, keep, first, last = unpack(todo[j], 1, 5)
  if not key then -- it is among those that are spliced
  elseif not keep then
    -- what is appended to anew has nothing left of what there was
    if (appended[key] or 0) < j then redis.call('UNLINK', key) end
  else
    local length
    for from = first, last, 4000 do
      length = redis.pcall('RPUSH', key, unpack(ARGV, from, math.min(from + 3999, last)))
      if type(length) == 'table' then -- not a list any more: another's hand, see cells.lua
        redis.call('UNLINK', key)
        length = redis.call('RPUSH', key, unpack(ARGV, from, math.min(from + 3999, last)))
      end
    end
    if count == 0 and length ~= last - first + 1 then -- left over from a life that was lost
      redis.call('LTRIM', key, first - last - 1, '-1')
      length = last - first + 1
    end
    if length > tonumber(keep) then redis.call('LTRIM', key, '-' .. keep, '-1') end
    if (count == 0 or length == last - first + 1) and ends == before and ends ~= 0 then
      redis.call('PEXPIREAT', key, ends)
    end
  end
end

number = number + 1
if op ~= '' then
  local time = (math.max(updated, now) + 999) / 1000 -- rounded down when it is packed
  local record = string.sub(op, 3) .. struct.pack('<I5I6', number, time)
  local slot = size > 0 and had % size
  if had == 0 then
    size = math.min(ops, 17)
    local unused = string.rep('\0', size * 2 - 2)
    redis.call('SET', ops_key, mark .. unused .. record)
    if ends == before and ends ~= 0 then redis.call('PEXPIREAT', ops_key, ends) end
  elseif had >= size and (slot == 0 or size < ops) then
    -- full: more room, up to what was asked for, or another round
    keys = keys or lasting(mode, now)
    if size ~= ops and (size < ops or slot == 0) then
      local room = math.min(ops, size * 2 - 1)
      had, forgot = keys.resize(ops_key, had, size, room, forgot)
      size = room
      slot = had % size
    else
      keys.keep_round(ops_key, size, time)
    end
    if erased > 0 then
      local _, old
      _, old, erased = keys.erasures(state, erased)
      for from = 1, #old, 4000 do
        redis.call('HDEL', state, unpack(old, from, math.min(from + 3999, #old)))
      end
    end
  end
  if had > 0 then
    local length = redis.call('SETRANGE', ops_key, text('%d', slot * 2), mark)
    redis.call('SETRANGE', ops_key, text('%d', size * 2 + slot * 26), record)
    if length <= size * 2 and ends == before and ends ~= 0 then -- it is new
      redis.call('PEXPIREAT', ops_key, ends)
    end
  end
  had = had + 1
  if had > 2 * size then had = had - size end -- still more than there is room for
end

meta = struct.pack(
  META, life, number, created, updated, deadline, ends, writer, forgot, had, 1, size, erased
)
if next(staged) == nil then
  redis.call('HSET', state, '.', meta)
else
  local put, drop = {'.', meta}, {}
  if places and places.parted then
    places.parting()(put, drop, ends)
  else
    for name, value in pairs(staged) do
      if value and value ~= 0 then
        put[#put + 1] = name
        put[#put + 1] = value
      else
        drop[#drop + 1] = name
      end
    end
  end
  for from = 1, #drop, 4000 do
    redis.call('HDEL', state, unpack(drop, from, math.min(from + 3999, #drop)))
  end
  for from = 1, #put, 4000 do
    redis.call('HSET', state, unpack(put, from, math.min(from + 3999, #put)))
  end
end

if subject then
  local was = before and redis.call('HGET', state, '.subject')
  if was ~= subject then
    keys = keys or lasting(mode, now)
    local members_of = keys.members_of
    local index, kept, id = keys.index_of(state)
    if subject == NOBODY then
      redis.call('HDEL', state, '.subject')
    else
      redis.call('HSET', state, '.subject', subject)
    end
    if was then redis.call('ZREM', before == 0 and kept or index, unpack(members_of(was, id))) end
    if before and (ends == 0) == (before == 0) then -- else last_until does
      for _, member in ipairs(members_of(subject, id)) do
        keys.enlist(ends == 0 and kept or index, state, id, member)
      end
    end
  end
end
if ends ~= before then
  subject = subject or redis.call('HGET', state, '.subject')
  keys = keys or lasting(mode, now)
  keys.last_until(state, had > 0 and ops_key or nil, ends, before, subject)
end
if number % 128 == 0 then
  keys = keys or lasting(mode, now)
  local index, _, id = keys.index_of(state)
  keys.weed(index, string.sub(state, 1, #state - #id))
end

if want then
  local shown = cells(state, 0, want, mode) -- as it was left, though it may have ended itself by that
  if shown and not shown.err then shown[1] = now end
  return {'written', meta, shown or false}
end
return meta
