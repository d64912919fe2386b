-- Shared by the scripts that add: numbers as text, exact to 64 bits, and arrays of float64.

local function sums()
  -- The sum of two whole numbers of any length as decimal text, in limbs of 7 digits.
  local function add_whole(a, b)
    local function limbs(text)
      local sign = 1
      if string.byte(text) == 45 then
        sign, text = -1, string.sub(text, 2)
      end
      local found = {}
      for last = #text, 1, -7 do
        found[#found + 1] = sign * tonumber(string.sub(text, math.max(last - 6, 1), last))
      end
      return found
    end
    local x, y, sum = limbs(a), limbs(b), {}
    for i = 1, math.max(#x, #y) do sum[i] = (x[i] or 0) + (y[i] or 0) end
    local sign = 1
    for i = #sum, 1, -1 do -- the sign is that of the highest limb that is not 0
      if sum[i] ~= 0 then
        if sum[i] < 0 then sign = -1 end
        break
      end
    end
    local carry, text = 0, ''
    for i = 1, #sum do
      local limb = sign * sum[i] + carry
      carry = math.floor(limb / 10000000)
      text = string.format('%07.0f', limb - carry * 10000000) .. text
    end
    text = string.gsub(string.format('%.0f', carry) .. text, '^0+', '')
    if text == '' then return '0' end
    return (sign < 0 and '-' or '') .. text
  end

  -- Whether whole decimal text is within int64.
  local function is_int64(text)
    local digits = string.gsub(text, '^-', '')
    if #digits ~= 19 then return #digits < 19 end
    local high, low = tonumber(string.sub(digits, 1, 10)), tonumber(string.sub(digits, 11))
    if high ~= 9223372036 then return high < 9223372036 end
    return low <= (digits == text and 854775807 or 854775808)
  end

  local function refuse_float(field, total)
    local found = 'nan'
    if total == math.huge then found = 'inf' elseif total == -math.huge then found = '-inf' end
    return nil, {'refused', field, 'range', 'finite float', found}
  end

  -- What is stored after `amount` is added to `old` (false for nothing), or nil and a refusal.
  local function add_number(field, old, amount)
    if old then
      local first = string.byte(old)
      if not first or (first ~= 45 and (first < 48 or first > 57)) or not tonumber(old) then
        return nil, {'refused', field, 'type', 'a number', 'bytes'}
      end
    end
    local whole = not string.find(amount, '[.en]')
    if whole and (not old or not string.find(old, '[.en]')) then
      if #amount <= 15 and (not old or #old <= 15) then
        if not old then return amount end
        return string.format('%.0f', tonumber(old) + tonumber(amount))
      end
      local total = add_whole(old or '0', amount)
      if is_int64(total) then return total end
      return nil, {'refused', field, 'range', 'int64', total}
    end
    local total = tonumber(amount)
    if old then total = tonumber(old) + total end
    if total - total ~= 0 then return refuse_float(field, total) end
    if not old then return amount end
    local text = string.format('%.15g', total)
    if tonumber(text) ~= total then text = string.format('%.17g', total) end
    if not string.find(text, '[.e]') then text = text .. '.0' end
    return text
  end

  -- The same for arrays: bytes, as they are stored.
  local function add_array(field, old, array)
    if #array % 8 ~= 0 then return nil, {'refused', field, 'shape', 'whole float64', #array} end
    if old then
      local first = string.byte(old)
      if first == 32 then
        old = string.sub(old, 2)
      elseif first and (first == 45 or (first >= 48 and first <= 57)) then
        local found = string.find(old, '[.en]') and 'float' or 'int'
        return nil, {'refused', field, 'type', 'an array', found}
      end
      if #old ~= #array then
        return nil, {'refused', field, 'shape', math.floor(#old / 8), #array / 8}
      end
    end
    local parts = {}
    for from = 1, #array, 800 do
      local count = math.min(#array - from + 1, 800) / 8
      local format = '<' .. string.rep('d', count)
      local sums = {struct.unpack(format, string.sub(array, from, from + 799))}
      if old then
        local others = {struct.unpack(format, string.sub(old, from, from + 799))}
        for i = 1, count do sums[i] = sums[i] + others[i] end
      end
      for i = 1, count do
        if sums[i] - sums[i] ~= 0 then
          return nil, {'refused', field, 'range', 'finite float', 'infinity or NaN'}
        end
      end
      parts[#parts + 1] = old and struct.pack(format, unpack(sums, 1, count))
    end
    local total = old and table.concat(parts) or array
    local first = string.byte(total)
    if first and (first == 32 or first == 45 or (first >= 48 and first <= 57)) then
      total = ' ' .. total
    end
    return total
  end

  return add_number, add_array
end
