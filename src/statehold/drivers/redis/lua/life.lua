-- Shared by the scripts that write: how long the keys of a state last, where it is listed, and what it
-- remembers of the op ids that it was given.
--
-- The hash of a state begins with the field "." of 64 bytes, little-endian. It must not be longer: a
-- hash with a longer value takes several times the memory.
--   c8  incarnation      I5  number of the newest commit
--   I7  created   I7  updated   d  deadline     microseconds since the epoch; deadline 0: never
--   I7  ends             milliseconds since the epoch: when the keys are collected; 0: never
--   c8  epoch, big-endian
--   I6  forgot           milliseconds since the epoch: the newest time that a forgotten op id may have
--   I3  how many commits have put their op id into .ops (when it is full: more than it has room for)
--   B   laid             1; 0 where a large field may still lie in the hash, as it did in earlier layouts
--   I3  how many it has room for
--   B   erasures         0 none is remembered, 1 some are, 3 more are put aside
--
-- Keys end up to an eighth of the time to live after the deadline (a quarter where that was made
-- shorter), so that a commit has to move the end of every key only now and then; what counts is the
-- deadline. They stay for at least a minute after the newest commit, so that its op id is there when it is
-- sent again. That is so however short its life: where nothing is known of a state, nobody can tell how long
-- the lives were that it had, and only what is older may have been forgotten (`unknown`).
--
-- What is left of an erased state for a minute is its trace: a hash with nothing but "." (deadline 1)
-- and the erasures that are remembered. It may become the hash of a new life. A claim of an epoch where
-- there is no state makes a trace too.
--
-- Erasures that come faster than a hash should hold are put aside, many at a time: in two hashes at
-- <state>:.erased0 and <state>:.erased1, by turns of a minute, each of which ends when its next turn comes.
--
-- The epoch in "." counts for a minute after the deadline, and as long as there is a trace or a claim of it
-- is remembered. The field ".claim" says who claimed it: the epoch (8 bytes), until when it is held and until
-- when that is remembered (I7 each, microseconds), and the op id by which it was given out (13 bytes or
-- none). Where "." has another epoch nobody holds it.
--
-- A function is made anew each time that a script runs, whether it is called or not, and the more it
-- shares with others the longer that takes. So what most commits do not need is made by one that they do
-- not call, and names in capitals stand for their values already when the script is loaded (scripts.py).

-- Numbers are given to commands as text made by this: Redis itself would write them as doubles.
local text = string.format

local META = '<c8I5I7I7dI7c8I6I3BI3B'
local LARGE = 0x80 -- entries of a field; beyond so many it has a hash of its own (see commit.lua)
local ERASED = 1
local TRACE = 60000000 -- microseconds
local ERASURES = 128 -- beyond so many they are put aside
local MOST = 1040 -- op ids in earlier rounds
local ROUNDS = 8 -- and such rounds; also of looks at an index
local NOBODY = '\255' -- as .subject in a commit; it begins those of several, see members_of
local UNFENCED = '\0\0\0\0\0\0\0\0' -- epochs are bytes, since Lua's numbers are exact to 53 bits only

-- The last argument of a script that writes, set by whoever sends it: until when it may be executed and
-- since when it may have been (microseconds, 0 for none); and whether the server is a node of a
-- cluster: 0 no, 1 yes, 2 yes, and the slot is said to be on its way there.
local STAMP = '<ddB'

-- An op id is given as 17 bytes: 13 as commands.py makes them, and its intent. Those that are
-- remembered lie in one string: first the marks, the first two bytes of each op id; then, in the same
-- order, the records of 26 bytes: the other bytes of the op id, its intent, the number of its commit
-- (I5) and its time (I6, milliseconds). When it is full it grows, and at last goes round. Most op ids
-- are new, which the marks tell, fetched by one command and searched by one function.
--
-- What is sent again must find its op id although thousands of commits a second go round. So a round
-- that took less than two seconds is copied behind, and those that follow it, to where the oldest copy
-- is. Nobody looks there but who has been sent again.

-- The record of this op id, whose mark it is, or nil; `from` is where its round begins.
local function record_of(ops, op, mark, size, from)
  local marks, place
  if from == 0 then
    marks = redis.call('GETRANGE', ops, '0', size == 129 and '257' or text('%d', size * 2 - 1))
  else
    marks = redis.call('GETRANGE', ops, text('%d', from), text('%d', from + size * 2 - 1))
  end
  place = 0
  repeat
    place = string.find(marks, mark, place + 1, true)
    if place and place % 2 == 1 then
      local at = from + size * 2 + (place - 1) * 13
      local record = redis.call('GETRANGE', ops, at, at + 25)
      if string.sub(record, 1, 11) == string.sub(op, 3, 13) then return record end
    end
  until not place
end

-- When the keys of a state with this deadline should end; what it is already if that will do.
local function end_of(deadline, now, before)
  if deadline == 0 then return 0 end
  local needed = math.max(deadline, now + TRACE)
  local slack = (needed - now) / 8 + 50000
  if before and before ~= 0 and needed <= before * 1000 and before * 1000 <= needed + 2 * slack then
    return before
  end
  return math.ceil((needed + slack) / 1000)
end

-- Until when (microseconds) the keys of a state with this deadline and epoch are needed, 0 for ever.
local function reach(state, deadline, epoch)
  if deadline == 0 or epoch == UNFENCED then return deadline end
  local claim = redis.call('HGET', state, '.claim')
  return math.max(deadline + TRACE, claim and struct.unpack('<I7', claim, 16) or 0)
end

-- By name: what moves the end of a state's keys, what removes them, how a state is listed by subject, and
-- what makes more room for op ids. `mode`: see STAMP; `now`: microseconds.
local function lasting(mode, now)
  -- The epoch that bars, of what is in "." where no state lives: UNFENCED once it need not be remembered.
  local function seen(state, epoch, deadline, updated)
    local stays = epoch == UNFENCED or deadline == ERASED or now < math.max(deadline, updated) + TRACE
    if stays then return epoch end
    local claim = redis.call('HGET', state, '.claim')
    local claimed = claim and string.sub(claim, 1, 8) == epoch and now < struct.unpack('<I7', claim, 16)
    return claimed and epoch or UNFENCED
  end

  -- The keys of the lists of a state, and of the fields that have a hash of their own. What is gone through
  -- for that is small: the entries of large fields are not in it.
  local function lists_of(state)
    local found = {}
    for _, name in ipairs(redis.call('HKEYS', state)) do
      local first, second = string.byte(name, 1, 2)
      if first == 58 then
        found[#found + 1] = state .. name
      elseif first == 35 and second == 58 then
        found[#found + 1] = state .. string.sub(name, 2)
      end
    end
    return found
  end

  -- While a slot is moved between the nodes of a cluster, some keys of a state may be here and others
  -- there. Those that were not declared and are about to be touched are asked for before the first
  -- write: an error reply if one is not here, nil if all is well. The lists are those of the state.
  local function elsewhere(state, lists, ...)
    if mode == 0 then return nil end
    local keys = lists and lists_of(state) or {}
    for _, key in ipairs({...}) do keys[#keys + 1] = key end
    for _, key in ipairs(keys) do
      local found = redis.pcall('EXISTS', key)
      if type(found) == 'table' or (mode == 2 and found == 0) then
        return redis.error_reply('TRYAGAIN another node may have keys of this state')
      end
    end
  end

  -- By name: what is remembered and what may have been forgotten, which epoch is older, and which condition
  -- does not hold. Few commits need it: those that are sent again, begin a life, have an epoch or conditions.
  local function memories()
    -- The time of a record, nil if there is none; `from` is where its round begins.
    local function time_of(ops, size, from, slot)
      local at = from + size * 2 + slot * 26 + 20
      local time = redis.call('GETRANGE', ops, text('%d', at), text('%d', at + 5))
      return #time == 6 and struct.unpack('<I6', time) or nil
    end

    -- How many of them there may be.
    local function rounds_of(size) return math.min(ROUNDS, math.floor(MOST / size)) end

    -- The time (milliseconds) after which no commit can have been made to a state of which nothing is left:
    -- its keys would be there, or its trace.
    local function unknown() return math.ceil((now - TRACE) / 1000) end

    -- Whether an epoch is older than another.
    local function older(one, other)
      local high, low = struct.unpack('>I4I4', one)
      local other_high, other_low = struct.unpack('>I4I4', other)
      return high < other_high or (high == other_high and low < other_low)
    end

    -- What is remembered of the erasure with this op id, or false: incarnation (c8) and number (I5) of
    -- what it erased, its intent, and its time (I6, milliseconds). Or nil and an error reply. `flag` is how
    -- many erasures there are, as "." has it.
    local function erasure_of(state, op, flag)
      local name = '.e' .. string.sub(op, 1, 13)
      local found = flag > 0 and redis.call('HGET', state, name)
      for turn = 0, flag > 1 and 1 or -1 do
        if found then break end
        local aside = state .. ':.erased' .. turn
        local trouble = elsewhere(state, false, aside)
        if trouble then return nil, trouble end
        found = redis.call('HGET', aside, name)
      end
      return found
    end

    -- Whether two intents are of different things.
    local function differ(one, other)
      return one ~= other and one ~= '\0\0\0\0' and other ~= '\0\0\0\0'
    end

    -- The record of an op id in the earlier rounds, or nil.
    local function earlier(ops, op, size)
      for round = 1, rounds_of(size) do
        local found = record_of(ops, op, string.sub(op, 1, 2), size, round * size * 28)
        if found then return found end
      end
    end

    -- Whether an op id of that time (microseconds) or later may have been forgotten.
    local function forgets(ops, had, size, forgot, since)
      if forgot * 1000 >= since then return true end
      if had == 0 then return false end
      local oldest = time_of(ops, size, 0, had > size and had % size or 0) or 0
      for round = 1, rounds_of(size) do
        oldest = math.min(oldest, time_of(ops, size, round * size * 28, 0) or oldest)
      end
      return oldest == 0 or (had > size and oldest * 1000 >= since) -- 0: another's hand has taken it
    end

    -- The time of the newest op id (milliseconds). It came later than its commit was made, where
    -- somebody else decided when.
    local function newest_of(ops, had, size)
      return had > 0 and time_of(ops, size, 0, (had - 1) % size) or 0
    end

    local function is_number(value)
      local first = string.byte(value)
      return first and (first == 45 or (first >= 48 and first <= 57))
    end

    -- Whether one number is at least another: exact for whole ones of 64 bits, beyond Lua's 53.
    local function at_least(one, other)
      if string.find(one, '[.e]') or string.find(other, '[.e]') then
        return tonumber(one) >= tonumber(other)
      end
      local function halves(number)
        local sign = string.byte(number) == 45 and -1 or 1
        local digits = string.gsub(number, '^-', '')
        return sign * (tonumber(string.sub(digits, 1, -11)) or 0), sign * tonumber(string.sub(digits, -10))
      end
      local high, low = halves(one)
      local other_high, other_low = halves(other)
      return high > other_high or (high == other_high and low >= other_low)
    end

    -- The field of the first condition that does not hold, or nil; or an error reply. Each is its kind;
    -- whether it may be absent, + or -; then, after the length of each, its field, the field of the hash
    -- that it is about, and the value. Kinds: b bytes, n a number, g at least a number, l a list's newest
    -- item, and those in capitals if it may be nothing else than absent.
    local function unmet(state, alive, where)
      local at = 1
      while at <= #where do
        local kind, absent, field, name, value
        kind, absent, field, name, value, at = struct.unpack('<c1c1I4c0I4c0I4c0', where, at)
        local found = alive and redis.call('HGET', state, name)
        local named = alive and not found and #name > #field and string.byte(name) ~= 58
        if named and redis.call('HGET', state, '#:' .. field) then
          local key = state .. ':' .. field
          local trouble = elsewhere(state, false, key)
          if trouble then return nil, trouble end
          found = redis.call('HGET', key, string.sub(name, #field + 2))
        end
        if found and (kind == 'l' or kind == 'L') then
          local newest = redis.pcall('LRANGE', state .. name, '-1', '-1')
          if not newest.err and not newest[1] and mode == 2 then
            return nil, redis.error_reply('TRYAGAIN another node may have keys of this state')
          end
          found = newest[1]
          if not found then return nil, {'corrupted'} end
        end
        local holds = found and found == value and (kind == 'b' or kind == 'n' or kind == 'l')
        if not found then
          holds = absent == '+'
        elseif kind == 'n' and not holds then
          holds = is_number(found) and at_least(found, value) and at_least(value, found)
        elseif kind == 'g' then
          holds = is_number(found) and at_least(found, value)
        end
        if not holds then return field end
      end
    end

    return {
      erasure_of = erasure_of, differ = differ, earlier = earlier, forgets = forgets, unknown = unknown,
      older = older, time_of = time_of, rounds_of = rounds_of, newest_of = newest_of, unmet = unmet,
    }
  end

  -- The index of a bucket for states that end, the one for states that never do, and the state's id.
  local function index_of(state)
    local close = string.find(state, '}', 1, true)
    local tag = string.sub(state, 1, close)
    return tag .. '.index', tag .. '.kept', string.sub(state, close + 2)
  end

  -- What lists a state by those whom it is about. ".subject" is one of them as it is, or, after a byte
  -- that no text has, several: the length of each, a colon, and itself.
  local function members_of(about, id)
    if not about then return {} end
    if string.byte(about) ~= 255 then return {'s' .. #about .. ':' .. about .. id} end
    local members, at = {}, 2
    while at <= #about do
      local _, colon, length = string.find(about, '^(%d+):', at)
      local next_at = colon + length + 1
      members[#members + 1] = 's' .. string.sub(about, at, next_at - 1) .. id
      at = next_at
    end
    return members
  end

  -- Whether nothing that lives is listed by this member of an index; `bucket` is what its states begin with. One
  -- that has ended is listed anew when its next life begins, though its keys may be there for a while yet.
  local function is_over(bucket, member)
    local owner, by_subject = string.sub(member, 2), string.byte(member) == 115
    if by_subject then
      local _, colon, length = string.find(member, '^s(%d+):')
      owner = string.sub(member, colon + length + 1)
    end
    local held = redis.pcall('HMGET', bucket .. owner, '.', '.subject')
    if mode == 2 or held.err then return false end
    local meta = held[1]
    if not meta then return true end
    local deadline = #meta == 64 and struct.unpack('<d', meta, 28) or 0
    if deadline ~= 0 and now >= deadline then return true end
    for _, each in ipairs(by_subject and members_of(held[2], owner) or {}) do
      if each == member then return false end
    end
    return by_subject
  end

  -- Look at two members of an index and take out those that list nothing; at two more if neither did, and so
  -- on. `member` stays.
  local function weed(index, bucket, member)
    for _ = 1, ROUNDS do
      local others, over = redis.pcall('ZRANDMEMBER', index, '2'), {}
      for _, other in ipairs(others) do
        if other ~= member and is_over(bucket, other) then over[#over + 1] = other end
      end
      if #over > 0 then redis.call('ZREM', index, unpack(over)) end
      if #over < 2 then return end
    end
  end

  -- List `member` in `index`. Whenever one is added others are looked at: so at most about half of an index
  -- lists nothing that lives.
  local function enlist(index, state, id, member)
    if redis.call('ZADD', index, 0, member) == 0 then return end
    weed(index, string.sub(state, 1, #state - #id), member)
  end

  -- All keys of the state end at `ends`, those of `ops` if it has any (else nil); it is listed where states of that kind are. `before` is when
  -- they ended until now, nil for a new life. `about` is its ".subject".
  local function last_until(state, ops, ends, before, about)
    local index, other, id = index_of(state)
    if ends == 0 then index, other = other, index end
    local keys = lists_of(state)
    keys[#keys + 1] = state
    keys[#keys + 1] = ops
    for _, key in ipairs(keys) do
      if ends == 0 then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, ends) end
    end
    if before == nil or (before == 0) ~= (ends == 0) then
      local members = members_of(about, id)
      members[#members + 1] = 'i' .. id
      for _, member in ipairs(members) do enlist(index, state, id, member) end
      if before then redis.call('ZREM', other, unpack(members)) end
    end
    if ends ~= 0 then
      redis.call('PEXPIREAT', index, ends, 'NX')
      redis.call('PEXPIREAT', index, ends, 'GT')
    end
  end

  -- The erasures that are remembered in the hash (names and values in turn), the names of those that need not be
  -- there any more, and how many there are, as "." has it; `flag` is how many there were. When there are many
  -- they are put aside: what each of them costs does not grow, nor does what is read with the state.
  local function erasures(state, flag)
    local young, old, names = {}, {}, {}
    for _, name in ipairs(redis.call('HKEYS', state)) do
      if string.sub(name, 1, 2) == '.e' then names[#names + 1] = name end
    end
    for from = 1, #names, 4000 do
      local last = math.min(from + 3999, #names)
      local values = redis.call('HMGET', state, unpack(names, from, last))
      for i = from, last do
        local value = values[i - from + 1]
        local time = #value == 23 and struct.unpack('<I6', value, 18) or 0
        if time * 1000 <= now - TRACE then
          old[#old + 1] = names[i]
        else
          young[#young + 1], young[#young + 2] = names[i], value
        end
      end
    end
    local aside = false
    for turn = 0, flag > 1 and 1 or -1 do
      local key = state .. ':.erased' .. turn
      aside = aside or elsewhere(state, false, key) or redis.call('EXISTS', key) == 1
    end
    local turn = math.floor(now / TRACE)
    local key = state .. ':.erased' .. turn % 2
    if #young >= 2 * ERASURES and not elsewhere(state, false, key) then
      for from = 1, #young, 4000 do
        redis.call('HSET', key, unpack(young, from, math.min(from + 3999, #young)))
      end
      redis.call('PEXPIREAT', key, text('%d', (turn + 2) * TRACE / 1000))
      for i = 1, #young, 2 do old[#old + 1] = young[i] end
      young, aside = {}, true
    end
    return young, old, aside and 3 or #young > 0 and 1 or 0
  end

  -- Remove every key of the state, and its members of the indexes in which it may be: of those that end
  -- (`ends` is not 0), that never do (0), of both (nil). What stays is the erasures that are remembered,
  -- who claimed the epoch, and the keys in `keep`, which the caller makes anew; returns how many erasures there are, as "." has
  -- it.
  --
  -- In a cluster nothing is deleted that is made again: while its slot is moved, a node lets no script
  -- make a key, nor touch one that is gone.
  local function wipe(state, ops, ends, flag, keep)
    local index, kept, id = index_of(state)
    local members = members_of(redis.call('HGET', state, '.subject'), id)
    members[#members + 1] = 'i' .. id
    for _, key in ipairs(lists_of(state)) do
      if not keep[key] then redis.call('UNLINK', key) end
    end
    local young = {}
    if flag > 0 then
      local _
      young, _, flag = erasures(state, flag)
    end
    if mode == 0 then
      local claim = redis.call('HGET', state, '.claim')
      redis.call('UNLINK', state)
      if claim then redis.call('HSET', state, '.claim', claim) end
      if #young > 0 then redis.call('HSET', state, unpack(young)) end
    else
      local stays, drop = {['.'] = true, ['.claim'] = true}, {}
      for i = 1, #young, 2 do stays[young[i]] = true end
      for _, name in ipairs(redis.call('HKEYS', state)) do
        if not stays[name] then drop[#drop + 1] = name end
      end
      for from = 1, #drop, 4000 do
        redis.call('HDEL', state, unpack(drop, from, math.min(from + 3999, #drop)))
      end
    end
    if not keep[ops] then redis.call('UNLINK', ops) end
    for _, listed in ipairs(ends == 0 and {kept} or ends and {index} or {index, kept}) do
      redis.call('ZREM', listed, unpack(members))
    end
    return flag
  end

  -- Give the op ids room for `size`; returns how many of the newest are kept, so many at most, and the
  -- newest time that a forgotten one may have.
  local function resize(ops, had, old, size, forgot)
    local whole = redis.call('GETRANGE', ops, '0', text('%d', old * 28 - 1))
    if had == old and size > old and #whole == old * 28 then -- in order, and all of them
      local more = size - old
      redis.call(
        'SET', ops,
        string.sub(whole, 1, old * 2) .. string.rep('\0', more * 2)
          .. string.sub(whole, old * 2 + 1) .. string.rep('\0', more * 26),
        'KEEPTTL'
      )
      return had, forgot
    end
    local marks, records = {}, {}
    for back = math.min(had, old, size), 1, -1 do
      local slot = (had - back) % old
      local from = old * 2 + slot * 26
      local record = string.sub(whole, from + 1, from + 26)
      if #record == 26 then -- or another's hand has taken it
        marks[#marks + 1] = string.sub(whole, slot * 2 + 1, slot * 2 + 2)
        records[#records + 1] = record
      end
    end
    if had > #records then -- those before the oldest that is kept
      local oldest = records[1] and struct.unpack('<I6', records[1], 21) or 0
      forgot = math.max(forgot, oldest)
    end
    local left = size - #records
    local all_marks = table.concat(marks) .. string.rep('\0', left * 2)
    -- whole at once: a string that grows by itself takes twice the memory
    redis.call(
      'SET', ops, all_marks .. table.concat(records) .. string.rep('\0', left * 26), 'KEEPTTL'
    )
    return #records, forgot
  end

  -- A round is complete: keep it if it took so little time that an op id may still be looked for.
  local function keep_round(ops, size, time)
    local past = memories()
    local time_of = past.time_of
    local whole = size * 28
    local took = time - (time_of(ops, size, 0, 0) or 0)
    local any = time_of(ops, size, whole, 0)
    if took > 20000 and any then
      redis.call('SET', ops, redis.call('GETRANGE', ops, '0', text('%d', whole - 1)), 'KEEPTTL')
    elseif took < 2000 or any then
      local oldest, place
      for round = 1, past.rounds_of(size) do
        local its = time_of(ops, size, round * whole, 0) or 0
        if not oldest or its < oldest then oldest, place = its, round end
        if its == 0 then break end
      end
      if place then
        local copy = redis.call('GETRANGE', ops, '0', text('%d', whole - 1))
        redis.call('SETRANGE', ops, text('%d', place * whole), copy)
      end
    end
  end

  return {
    last_until = last_until, wipe = wipe, index_of = index_of, members_of = members_of, enlist = enlist,
    resize = resize, elsewhere = elsewhere, erasures = erasures, keep_round = keep_round,
    memories = memories, seen = seen, is_over = is_over, weed = weed,
  }
end
