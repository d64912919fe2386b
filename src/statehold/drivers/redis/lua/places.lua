-- For commit.lua: where the named entries of fields are, in the hash of the state or in one of the field's own,
-- and what goes from the one to the other. Not made unless a change needs it (see life.lua).
--
-- `before` is nil unless the state lives, `staged` what is to be written to its hash (names as if all entries
-- were there, false for what goes), and `get` gives what is staged or stored.

local function placing(state, before, staged, get, mode, now, laid)
  -- By field: the key of the hash that it has to itself, or false; what was found out about it in `state`. Those
  -- that get one now, whose entries are to be moved there; and the keys that go as all entries do.
  local apart, stored, moving, dropped = {}, {}, {}, {}
  local made = {apart = apart, stored = stored, moving = moving, dropped = dropped}

  -- Find out where the entries of a field are. What is stored of this one (if it is not "") in a hash that the
  -- field has to itself, else false; then an error reply, or nothing.
  function made.look(field, entry)
    local key = apart[field]
    if key == nil and before then
      local counter, other, list = '#' .. field, '#:' .. field, ':' .. field
      local found = redis.call('HMGET', state, counter, other, list, field)
      stored[counter], stored[other], stored[list], stored[field] = unpack(found)
      key = found[2] and state .. list
      apart[field] = key
      if key then
        made.parted = true
        local trouble
        if mode > 0 then trouble = lasting(mode, now).elsewhere(state, false, key) end
        if trouble then return false, trouble end
      end
    end
    if not key or entry == '' or moving[field] then return false end
    return redis.call('HGET', key, entry)
  end

  -- What a field's counter is called.
  local function counter_of(field) return (apart[field] and '#:' or '#') .. field end
  made.counter_of = counter_of

  -- From now on it has a hash of its own.
  local function leave(field, count)
    apart[field], moving[field], made.parted = state .. ':' .. field, true, true
    staged['#' .. field], staged['#:' .. field] = false, count
  end

  function made.rooms()
    -- The names of a field's entries but "", as fields of the hash.
    local function names_of(field)
      local prefix, found = field .. ':', {}
      local length = #prefix
      if before and apart[field] and not (moving[field]) then
        for _, entry in ipairs(redis.call('HKEYS', apart[field])) do
          if staged[prefix .. entry] == nil then found[#found + 1] = prefix .. entry end
        end
      elseif before then
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
      local _, trouble = made.look(field, '')
      if trouble then return trouble end
      if get(':' .. field) then
        return {'refused', field, 'type', 'entries', 'items'}
      end
      local counter = counter_of(field)
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
      if entry ~= '' then
        if count >= LARGE and not apart[field] then
          leave(field, count + 1)
        else
          staged[counter] = count + 1
        end
      end
      return nil, true
    end

    made.room, made.names_of = room, names_of
    return made.room
  end

  function made.parting()
    -- Write what is staged where it belongs, as some fields have hashes of their own: those of `state` that are
    -- to be put (names and values in turn) and to be dropped, beyond what these have already. `ends`: when the
    -- keys are to end.
    local function part(put, drop, ends)
      local puts, drops = {}, {}
      for name, key in pairs(apart) do
        if key then puts[key], drops[key] = {}, {} end
      end
      if before and next(moving) then
        local all = redis.call('HGETALL', state)
        for i = 1, #all, 2 do
          local name = all[i]
          local colon = string.find(name, ':', 2, true)
          local field = colon and string.sub(name, 1, colon - 1)
          if field and moving[field] then
            drop[#drop + 1] = name
            if staged[name] == nil then
              local some = puts[apart[field]]
              some[#some + 1] = string.sub(name, colon + 1)
              some[#some + 1] = all[i + 1]
            end
          end
        end
      end
      for name in pairs(moving) do redis.call('UNLINK', apart[name]) end -- left over from a life that was lost
      for name, value in pairs(staged) do
        local colon = string.find(name, ':', 1, true)
        local key = colon and colon > 1 and apart[string.sub(name, 1, colon - 1)]
        local some
        if value and value ~= 0 then
          some = key and puts[key] or put
          some[#some + 1] = key and string.sub(name, colon + 1) or name
          some[#some + 1] = value
        else
          some = key and drops[key] or drop
          some[#some + 1] = key and string.sub(name, colon + 1) or name
        end
      end
      for key, some in pairs(puts) do
        for from = 1, #some, 4000 do
          redis.call('HSET', key, unpack(some, from, math.min(from + 3999, #some)))
        end
        local gone = drops[key]
        for from = 1, #gone, 4000 do
          redis.call('HDEL', key, unpack(gone, from, math.min(from + 3999, #gone)))
        end
        if ends == before and ends ~= 0 and #some > 0 then redis.call('PEXPIREAT', key, ends, 'NX') end
      end
    end

    return part
  end

  -- Earlier layouts had all entries in the hash of the state: those of large fields are moved, once.
  if before and laid == 0 and redis.call('HLEN', state) > LARGE then
    for _, name in ipairs(redis.call('HKEYS', state)) do
      if string.byte(name) == 35 and string.byte(name, 2) ~= 58 then
        local count = tonumber(redis.call('HGET', state, name)) or 0
        if count > LARGE then leave(string.sub(name, 2), count) end
      end
    end
  end

  return made
end
