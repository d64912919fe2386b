-- Folds one commit into a state: everything is looked at first, then everything is written.
--
-- KEYS 1  the state, a hash: "." (see life.lua), ".subject"; an entry as "field:entry", or "field"
--         for the entry ""; "#field", how many entries it has besides ""; ":field", how many items
--         the list at <state>:field has
--      2  its op ids, a string (see life.lua)
--      3… the list of each change that appends, and of each that drops a field, in order
-- ARGV 1  op id as it is stored, "" for none
--      2  incarnation, 8 bytes, should a new life begin
--      3  time to live in microseconds, "" for never
--      4  how many arguments are options
--      5  n, the number of changes
--      6… for each change the field of the hash that it is about
--      …  options, each a name and a value: ops; epoch; age (max age in microseconds); subject;
--         expect ("absent", "present" or an incarnation of 8 bytes) and number; want (msgpack, see
--         cells.lua)
--      …  changes, each beginning with its kind:
--         p put, i put if absent: field, entry, value, bound
--         n add to a number, v to an array of float64: field, entry, amount, bound
--         d drop an entry: field, entry
--         x drop a field: field
--         a append: field, keep, number of items, items…
--         A bound is "" for none; with "-" before it the lowest entry gives way.
--         Numbers are decimal, floats have one of ".einf". Bytes that begin with a digit, "-" or a
--         space are stored with a space before them.
--
-- Reply: "." as it now stands if nothing was asked for; else one of
--   {"written", ".", cells}   {"repeated", ".", number, cells}
--   {"conflict", "." or ""}   {"fenced", epoch}   {"refused", field, reason, limit, found}
--   {"corrupted"}

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
local number, created, deadline, epoch, had, size = 0, now, 0, 0, 0, 0
local life, ends, before = ARGV[2], nil, nil
local over = false
if meta then
  if #meta ~= 64 then return {'corrupted'} end
  local l, no, cr, _, dl, en, ep, ha, si = struct.unpack(META, meta)
  if dl == 0 or now < dl then
    life, number, created, epoch, before, had, size = l, no, cr, ep, en, ha, si
  else
    over = true
    held = {}
  end
end

local ops, age, writer, subject, expect, expected, want = 128, nil, 0, nil, nil, nil, nil
local at = 6 + n
local options = tonumber(ARGV[4])
if options > 0 then
  for i = at, at + options - 1, 2 do
    local name, value = ARGV[i], ARGV[i + 1]
    if name == 'ops' then ops = tonumber(value)
    elseif name == 'epoch' then writer = tonumber(value)
    elseif name == 'age' then age = tonumber(value)
    elseif name == 'subject' then subject = value
    elseif name == 'expect' then expect = value
    elseif name == 'number' then expected = tonumber(value)
    else want = cmsgpack.unpack(value) end
  end
  at = at + options
end

-- 1. an op id of this life, among the newest
local op = ARGV[1]
local known = op ~= '' and had > 0 and number_of(ops_key, op, size)
if known then return {'repeated', meta, known, want and cells(state, now, want)} end

-- 2. fencing, 3. the condition
if writer < epoch then return {'fenced', epoch} end
if expect then
  local holds
  if expect == 'absent' then holds = not before
  elseif expect == 'present' then holds = before
  else holds = before and expect == life and expected == number end
  if not holds then return {'conflict', before and meta or ''} end
end

-- 4. the changes, staged: hash fields with their new value, false for none; what to do to lists
local staged, todo, lists = {}, {}, 2

local function get(name)
  local value = staged[name]
  if value == nil then value = before and redis.call('HGET', state, name) end
  return value
end

-- What only some changes need (see life.lua).
local function entries()
  -- The names of a field's entries but "", as fields of the hash.
  local function names_of(field)
    local prefix, found = field .. ':', {}
    local length = #prefix
    if before then
      for _, name in ipairs(redis.call('HKEYS', state)) do
        if string.sub(name, 1, length) == prefix and staged[name] == nil then
          found[#found + 1] = name
        end
      end
    end
    for name, value in pairs(staged) do
      if value and string.sub(name, 1, length) == prefix then found[#found + 1] = name end
    end
    return found
  end

  -- Whether a comes before b, byte by byte (Lua's own < goes by the locale).
  local function less(a, b)
    for i = 1, math.min(#a, #b) do
      local x, y = string.byte(a, i), string.byte(b, i)
      if x ~= y then return x < y end
    end
    return #a < #b
  end

  -- Room for one more entry: a refusal, or whether the new entry is to be stored.
  local function room(field, entry, name, bound)
    if tonumber(get(':' .. field) or 0) > 0 then
      return {'refused', field, 'type', 'entries', 'items'}
    end
    local counter = '#' .. field
    local count = tonumber(get(counter) or 0)
    if bound ~= '' then
      local drop = string.byte(bound) == 45
      local most = math.abs(tonumber(bound))
      local empty = get(field) and 1 or 0
      if count + empty >= most and not drop then
        return {'refused', field, 'bound', most, count + empty + 1}
      end
      local names
      while count + empty >= most do
        if entry == '' or (count == 0 and empty == 0) then return nil, false end
        if empty == 1 then
          staged[field], empty = false, 0
        else
          names = names or names_of(field)
          local lowest = 1
          for i = 2, #names do
            if less(names[i], names[lowest]) then lowest = i end
          end
          if #names == 0 or less(name, names[lowest]) then return nil, false end
          staged[names[lowest]] = false
          table.remove(names, lowest)
          count = count - 1
          staged[counter] = count
        end
      end
    end
    if entry ~= '' then staged[counter] = count + 1 end
    return nil, true
  end

  return room, names_of
end
local room, names_of, add_number, add_array

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
      local count = tonumber(old or 0) or 0
      if count == 0 and (tonumber(get('#' .. field) or 0) > 0 or get(field)) then
        return {'refused', field, 'type', 'items', 'entries'}
      end
      local last = at + 3 + items
      local first = items > keep and last - keep + 1 or at + 4
      todo[#todo + 1] = {KEYS[lists], count, ARGV[at + 2], first, last}
      local now_has = math.min(count + items, keep)
      if now_has ~= count then staged[name] = now_has end
    end
    at = at + 4 + items

  elseif kind == 'd' then
    if old then
      staged[name] = false
      if ARGV[at + 2] ~= '' then
        staged['#' .. field] = tonumber(get('#' .. field) or 1) - 1
      end
    end
    at = at + 3

  elseif kind == 'x' then
    lists = lists + 1
    if old and old ~= 0 then
      todo[#todo + 1] = {KEYS[lists]}
      staged[name] = false
    else
      if tonumber(get('#' .. field) or 0) > 0 then
        if not room then room, names_of = entries() end
        for _, entry in ipairs(names_of(field)) do staged[entry] = false end
        staged['#' .. field] = false
      end
      if get(field) then staged[field] = false end
    end
    at = at + 2

  else
    local entry, value, bound = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    at = at + 5
    local refused
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
      if refused and tonumber(get(':' .. field) or 0) > 0 then
        refused = {'refused', field, 'type', 'entries', 'items'}
      end
      local stays
      if not room then room, names_of = entries() end
      if not refused then refused, stays = room(field, entry, name, bound) end
      if not stays then value = nil end
    end
    if refused then return refused end
    if value then staged[name] = value end
  end
end

-- 5. everything is well: write
if not before then
  if over then
    local _, wipe = lasting()
    wipe(state, ops_key)
  else
    redis.call('DEL', state, ops_key)
  end
end

deadline = 0
if ARGV[3] ~= '' then deadline = now + tonumber(ARGV[3]) end
if age and (deadline == 0 or created + age < deadline) then deadline = created + age end
ends = end_of(deadline, now, before)

for j = 1, #todo do
  local key, count, keep, first, last = unpack(todo[j], 1, 5)
  if not keep then
    redis.call('DEL', key)
  else
    local length
    for from = first, last, 4000 do
      length = redis.pcall('RPUSH', key, unpack(ARGV, from, math.min(from + 3999, last)))
      if type(length) == 'table' then -- not a list any more: another's hand, see cells.lua
        redis.call('DEL', key)
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
  if had == 0 then
    size = math.min(ops, 16)
    redis.call('DEL', ops_key)
  elseif size > ops or (had >= size and size < ops) then
    local _, _, _, _, _, resize = lasting()
    local room_for = math.min(ops, size * 2)
    had, size = resize(ops_key, had, size, room_for), room_for
  end
  local slot = had % size
  local length = redis.call('SETRANGE', ops_key, text('%d', slot * 2), string.sub(op, 1, 2))
  redis.call(
    'SETRANGE', ops_key, text('%d', size * 2 + slot * 18), op .. struct.pack('<I5', number)
  )
  if length <= size * 2 and ends == before and ends ~= 0 then -- it is new
    redis.call('PEXPIREAT', ops_key, ends)
  end
  had = had + 1
end

meta = struct.pack(META, life, number, created, now, deadline, ends, writer, had, size)
if next(staged) == nil then
  redis.call('HSET', state, '.', meta)
else
  local put, drop = {'.', meta}, {}
  for name, value in pairs(staged) do
    if value and value ~= 0 then
      put[#put + 1] = name
      put[#put + 1] = value
    else
      drop[#drop + 1] = name
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
    local _, _, index_of, of_subject, enlist = lasting()
    local index, kept, id = index_of(state)
    redis.call('HSET', state, '.subject', subject)
    if was then redis.call('ZREM', before == 0 and kept or index, of_subject(was, id)) end
    if before and (ends == 0) == (before == 0) then -- else last_until does
      enlist(ends == 0 and kept or index, state, id, of_subject(subject, id))
    end
  end
end
if ends ~= before then
  local last_until = lasting()
  last_until(state, ops_key, ends, before, subject or redis.call('HGET', state, '.subject'))
end

if want then return {'written', meta, cells(state, now, want) or false} end
return meta
