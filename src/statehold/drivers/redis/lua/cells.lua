-- Shared by the scripts that read: the cells of a state as a reply.
--
-- `want` is nil for everything, else a table: `fields`, those wanted (nil for all); `tail`, how many
-- of each list's newest items (nil for all); `tails`, the same for single fields by name; `after` and
-- `afters`, after which position, which comes before `tail`, and `limit`, how many then at most;
-- `entries`, by field, which of the hash's fields are wanted of it (nil for all, and no count of them
-- comes then); `unless`, incarnations and numbers as in ".", in hexadecimal: of a state that is there
-- only ".", ".subject" and "=" are said.
--
-- The reply: now (microseconds); the hash's fields and values in turn, "." first; then for each list
-- its field, its items, false in their place when they are not all there, and the position of the first;
-- and for each field that has a hash of its own "#:field", the entries and values in turn or false, and 0.
-- Returns nil when the state is absent or expired, and an error (TRYAGAIN) when the slot of the state is
-- being moved and one of its lists is at the other node. `mode`: see STAMP in life.lua.

local function cells(state, now, want, mode)
  local all
  if want and want.unless then
    local held = redis.call('HMGET', state, '.', '.subject')
    local meta = held[1] or ''
    local stands = string.gsub(string.sub(meta, 1, 13), '.', function(byte)
      return string.format('%02x', string.byte(byte))
    end)
    for _, known in ipairs(#meta == 64 and want.unless or {}) do
      if known == stands then
        local deadline = struct.unpack('<d', meta, 28)
        if deadline ~= 0 and now >= deadline then return nil end
        all = {'.', meta}
        if held[2] then all = {'.', meta, '.subject', held[2]} end
        return {now, all, '='}
      end
    end
  end
  local fields, entries = want and want.fields, want and want.entries
  if fields then
    local names = {'.', '.subject'}
    for _, field in ipairs(fields) do
      names[#names + 1] = ':' .. field
      local some = entries and entries[field]
      for _, name in ipairs(some or {'#' .. field, field}) do names[#names + 1] = name end
      names[#names + 1] = '#:' .. field
      names[#names + 1] = '.:' .. field
    end
    local counted
    all = {}
    for first = 1, #names, 2000 do -- Lua has room for so many arguments
      local last = math.min(first + 1999, #names)
      local held = redis.call('HMGET', state, unpack(names, first, last))
      for i = first, last do
        local value = held[i - first + 1]
        if value then
          all[#all + 1] = names[i]
          all[#all + 1] = value
          if string.byte(names[i]) == 35 and string.byte(names[i], 2) ~= 58 then
            counted = counted or {}
            counted[string.sub(names[i], 2)] = true
          end
        end
      end
    end
    if counted then
      local whole = redis.call('HGETALL', state)
      for i = 1, #whole, 2 do
        local colon = string.find(whole[i], ':', 2, true)
        if colon and counted[string.sub(whole[i], 1, colon - 1)] then
          all[#all + 1] = whole[i]
          all[#all + 1] = whole[i + 1]
        end
      end
    end
  else
    all = redis.call('HGETALL', state)
    if entries then -- of the fields named there only as far as they are listed
      local kept, listed = {}, {}
      for _, some in pairs(entries) do
        for _, name in ipairs(some) do listed[name] = true end
      end
      for i = 1, #all, 2 do
        local name = all[i]
        local mark = string.byte(name)
        local field = name
        if mark == 35 then
          field = string.sub(name, 2)
        elseif mark ~= 58 then
          field = string.match(name, '^[^:]*')
        end
        if not entries[field] or listed[name] then
          kept[#kept + 1] = name
          kept[#kept + 1] = all[i + 1]
        end
      end
      all = kept
    end
  end
  if all[1] ~= '.' then
    for i = 3, #all, 2 do
      if all[i] == '.' then
        all[1], all[2], all[i], all[i + 1] = all[i], all[i + 1], all[1], all[2]
        break
      end
    end
    if all[1] ~= '.' then return nil end
  end
  local deadline = #all[2] == 64 and struct.unpack('<d', all[2], 28)
  if deadline and deadline ~= 0 and now >= deadline then return nil end
  local reply = {now, all}
  for i = 3, #all, 2 do
    local name = all[i]
    local mark, second = string.byte(name, 1, 2)
    if mark == 35 and second == 58 then
      local key, some = state .. string.sub(name, 2), entries and entries[string.sub(name, 3)]
      local held = redis.pcall('HLEN', key)
      if held ~= tonumber(all[i + 1]) then
        if mode == 2 or type(held) == 'table' and string.find(held.err, 'non local', 1, true) then
          return redis.error_reply('TRYAGAIN another node may have keys of this state')
        end
        held = false
      elseif some then
        local asked, at = {}, #name
        held = {}
        for _, each in ipairs(some) do asked[#asked + 1] = string.sub(each, at) end
        for first = 1, #asked, 2000 do
          local values = redis.call('HMGET', key, unpack(asked, first, math.min(first + 1999, #asked)))
          for j, value in ipairs(values) do
            if value then
              held[#held + 1] = asked[first + j - 1]
              held[#held + 1] = value
            end
          end
        end
      else
        held = redis.call('HGETALL', key)
      end
      reply[#reply + 1] = name
      reply[#reply + 1] = held
      reply[#reply + 1] = 0
    elseif mark == 58 then
      local value, first = all[i + 1], 1
      local gap = string.find(value, ' ', 1, true)
      if gap then
        first = tonumber(string.sub(value, gap + 1)) or 1
        value = string.sub(value, 1, gap - 1)
      end
      local count = tonumber(value) or -1
      local skip, take = 0, count
      if want then
        local after = want.afters and want.afters[string.sub(name, 2)] or want.after
        local tail = want.tails and want.tails[string.sub(name, 2)] or want.tail
        if after then
          skip = math.min(math.max(after + 1 - first, 0), count)
          take = math.min(count - skip, want.limit or count)
        elseif tail and tail < count then
          skip, take = count - tail, tail
        end
      end
      local items = {}
      if take ~= 0 then
        items = redis.pcall('LRANGE', state .. name, skip - count, skip - count + take - 1)
      end
      if items.err or #items ~= take then
        if mode == 2 or (items.err and string.find(items.err, 'non local', 1, true)) then
          return redis.error_reply('TRYAGAIN another node may have keys of this state')
        end
        items = false
      end
      reply[#reply + 1] = name
      reply[#reply + 1] = items
      reply[#reply + 1] = first + skip
    end
  end
  return reply
end
