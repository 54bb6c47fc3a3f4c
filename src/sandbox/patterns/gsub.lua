-- `string.gsub`. A replacement that is a function or a table is asked here, in Lua, so that its errors
-- and its time are those of any Lua code; one that is a text is put in by Rust.
local cursor, replace = ...
local type, error = type, error
local sub, concat = string.sub, table.concat

return function(text, pattern, ...)
  local replacement, most = ...
  local kind = type(replacement)
  if kind ~= "function" and kind ~= "table" then
    return replace(text, pattern, ...)
  end
  local matches, whole = cursor(text, pattern, most, kind == "table")
  local parts, count, position = {}, 0, 1

  local function add(first, last, ...)
    if not first then
      return false
    end
    local value
    if kind == "function" then
      value = replacement(...)
    else
      value = replacement[(...)]
    end
    if not value then
      value = sub(whole, first, last)
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error("invalid replacement value (a " .. type(value) .. ")", 3)
    end
    parts[#parts + 1] = sub(whole, position, first - 1)
    parts[#parts + 1] = value
    position, count = last + 1, count + 1
    return true
  end

  while add(matches()) do
  end
  if count == 0 then
    return whole, 0
  end
  parts[#parts + 1] = sub(whole, position)
  return concat(parts), count
end
