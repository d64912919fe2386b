-- Shared by the scripts that write: how long the keys of a state last, and where it is listed.
--
-- The hash of a state begins with the field "." of 64 bytes, little-endian:
--   c8  incarnation      d  number of the newest commit
--   d   created   d  updated   d  deadline     microseconds since the epoch; deadline 0: never
--   d   ends             milliseconds since the epoch: when the keys are collected; 0: never
--   d   epoch
--   I4  how many commits have put their op id into .ops   I4  how many it has room for
--
-- Keys end up to an eighth of the time to live after the deadline (a quarter where that was made
-- shorter), so that a commit has to move the end of every key only now and then; what counts is the
-- deadline.
--
-- A function is made anew each time that a script runs, whether it is called or not. So what most
-- commits do not need is made by one that they do not call.

-- Numbers are given to commands as text made by this: Redis itself would write them as doubles.
local text = string.format

local META = '<c8ddddddI4I4'

-- The op ids that are remembered lie in one string: first the marks, the first two bytes of each op
-- id; then, in the same order, the records of 18 bytes: an op id as committing.py makes it (13 bytes)
-- and the number of its commit. When it is full it grows, and at last goes round. Most op ids are new,
-- which the marks tell, fetched by one command and searched by one function.

-- The number of the commit that had this op id, or nil.
local function number_of(ops, op, size)
  local marks = redis.call('GETRANGE', ops, '0', text('%d', size * 2 - 1))
  local mark, place = string.sub(op, 1, 2), 0
  repeat
    place = string.find(marks, mark, place + 1, true)
    if place and place % 2 == 1 then
      local from = size * 2 + (place - 1) * 9
      local record = redis.call('GETRANGE', ops, from, from + 17)
      if string.sub(record, 1, 13) == op then return (struct.unpack('<I5', record, 14)) end
    end
  until not place
end

-- When the keys of a state with this deadline should end; what it is already if that will do.
local function end_of(deadline, now, before)
  if deadline == 0 then return 0 end
  local slack = math.max(deadline - now, 0) / 8 + 50000
  if before and before ~= 0 and deadline <= before * 1000 and before * 1000 <= deadline + 2 * slack
  then
    return before
  end
  return math.ceil((deadline + slack) / 1000)
end

-- What moves the end of a state's keys, what removes them, and how a state is listed by subject.
local function lasting()
  -- The lists of a state, by the names of their keys.
  local function lists_of(state)
    local found = {}
    for _, name in ipairs(redis.call('HKEYS', state)) do
      if string.byte(name) == 58 then found[#found + 1] = state .. name end
    end
    return found
  end

  -- The index of a bucket for states that end, the one for states that never do, and the state's id.
  local function index_of(state)
    local close = string.find(state, '}', 1, true)
    local tag = string.sub(state, 1, close)
    return tag .. '.index', tag .. '.kept', string.sub(state, close + 2)
  end

  local function of_subject(subject, id) return 's' .. #subject .. ':' .. subject .. id end

  -- List `member` in `index`. Whenever one is added two others are looked at, and taken out if their
  -- state is gone: so at most about half of an index is dead.
  local function enlist(index, state, id, member)
    if redis.call('ZADD', index, 0, member) == 0 then return end
    local bucket = string.sub(state, 1, #state - #id)
    for _, other in ipairs(redis.call('ZRANDMEMBER', index, 2)) do
      local owner, subject = string.sub(other, 2), false
      if string.byte(other) == 115 then
        local _, colon, length = string.find(other, '^s(%d+):')
        subject = string.sub(other, colon + 1, colon + length)
        owner = string.sub(other, colon + length + 1)
      end
      if other ~= member then
        local held = redis.call('HMGET', bucket .. owner, '.', '.subject')
        if not held[1] or (subject and held[2] ~= subject) then redis.call('ZREM', index, other) end
      end
    end
  end

  -- All keys of the state end at `ends`; it is listed where states of that kind are. `before` is when
  -- they ended until now, nil for a new life.
  local function last_until(state, ops, ends, before, subject)
    local index, other, id = index_of(state)
    if ends == 0 then index, other = other, index end
    local keys = lists_of(state)
    keys[#keys + 1] = state
    keys[#keys + 1] = ops
    for _, key in ipairs(keys) do
      if ends == 0 then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, ends) end
    end
    if before == nil or (before == 0) ~= (ends == 0) then
      enlist(index, state, id, 'i' .. id)
      if subject then enlist(index, state, id, of_subject(subject, id)) end
      if before then
        redis.call('ZREM', other, 'i' .. id)
        if subject then redis.call('ZREM', other, of_subject(subject, id)) end
      end
    end
    if ends ~= 0 then
      redis.call('PEXPIREAT', index, ends, 'NX')
      redis.call('PEXPIREAT', index, ends, 'GT')
    end
  end

  -- Remove every key of the state, and its members of the indexes.
  local function wipe(state, ops)
    local index, kept, id = index_of(state)
    local subject = redis.call('HGET', state, '.subject')
    for _, key in ipairs(lists_of(state)) do redis.call('DEL', key) end
    redis.call('DEL', state, ops)
    for _, listed in ipairs({index, kept}) do
      redis.call('ZREM', listed, 'i' .. id)
      if subject then redis.call('ZREM', listed, of_subject(subject, id)) end
    end
  end

  -- Give the op ids room for `size`; returns how many of the newest are kept, so many at most.
  local function resize(ops, had, old, size)
    local all = redis.call('GETRANGE', ops, old * 2, '-1')
    local marks, records = {}, {}
    for back = math.min(had, old, size), 1, -1 do
      local from = (had - back) % old * 18
      local record = string.sub(all, from + 1, from + 18)
      if #record == 18 then -- or another's hand has taken it
        marks[#marks + 1], records[#records + 1] = string.sub(record, 1, 2), record
      end
    end
    local unused = string.rep('\0', (size - #records) * 2)
    redis.call('SET', ops, table.concat(marks) .. unused .. table.concat(records), 'KEEPTTL')
    return #records
  end

  return last_until, wipe, index_of, of_subject, enlist, resize
end
