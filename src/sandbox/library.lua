-- The library functions that work in C for as long as they are told to, where no time limit reaches.
-- Runs once in each new Lua state, before `sandbox.lua` hands the libraries out. `check` raises an
-- overrun when the time is up: it is called before work that is large. Tables with a metatable, which may
-- lie about their length, are worked on in Lua.
local check, patterns = ...
local error, getmetatable, rawlen, type = error, getmetatable, rawlen, type
local select, to_integer = select, math.tointeger
local concat, insert, move, remove, sort, unpack =
  table.concat, table.insert, table.move, table.remove, table.sort, table.unpack

-- Bytes or elements from which on work is large: less takes some microseconds.
local LARGE = 1 << 14
-- Bytes of a text that is made at once: more takes longer than a hook may.
local MOST_REPEATED = 1 << 24
local MOST_MOVED = 1 << 20

-- A function whose first argument says how much work it is.
local function by_first(original)
  return function(first, ...)
    if type(first) ~= "string" or #first > LARGE then
      check()
    end
    return original(first, ...)
  end
end

local function always(original)
  return function(...)
    check()
    return original(...)
  end
end

for _, name in ipairs({ "byte", "lower", "reverse", "sub", "upper" }) do
  string[name] = by_first(string[name])
end
for _, name in ipairs({ "char", "format", "pack", "packsize", "unpack" }) do
  string[name] = always(string[name])
end
for _, name in ipairs({ "codepoint", "codes", "len", "offset" }) do
  utf8[name] = by_first(utf8[name])
end
utf8.char = always(utf8.char)
tonumber = by_first(tonumber)

for name, matching in pairs(patterns) do
  string[name] = matching
end

local function bytes_of(part)
  return (type(part) == "string" or type(part) == "number") and #tostring(part) or 0
end

local rep = string.rep
function string.rep(text, times, separator)
  check()
  if text == "" and (separator == nil or separator == "") then
    return ""
  end
  local many, each = tonumber(times) or 0, bytes_of(text) + bytes_of(separator)
  if each > 0 and many > MOST_REPEATED // each then
    error("string.rep: at most " .. (MOST_REPEATED >> 20) .. " MiB at a time", 2)
  end
  return rep(text, times, separator)
end

-- Whether C may work on it: what is no table gets C's error.
local function is_plain(list)
  return type(list) ~= "table" or getmetatable(list) == nil
end

local function is_large(list)
  return type(list) == "table" and rawlen(list) > LARGE
end

local function position_in(name, position, highest)
  local integer = to_integer(position)
  if not integer then
    error("bad argument #2 to '" .. name .. "' (number expected, got " .. type(position) .. ")", 3)
  elseif integer < 1 or integer > highest then
    error("bad argument #2 to '" .. name .. "' (position out of bounds)", 3)
  end
  return integer
end

function table.insert(list, ...)
  local count = select("#", ...)
  if count == 2 and is_large(list) then
    check()
  end
  if is_plain(list) then
    return insert(list, ...)
  end
  local length = #list
  if count == 1 then
    list[length + 1] = (...)
    return
  elseif count ~= 2 then
    error("wrong number of arguments to 'insert'", 2)
  end
  local position, value = ...
  position = position_in("insert", position, length + 1)
  for i = length, position, -1 do
    list[i + 1] = list[i]
  end
  list[position] = value
end

function table.remove(list, ...)
  if is_large(list) then
    check()
  end
  if is_plain(list) then
    return remove(list, ...)
  end
  local length = #list
  local position = (...)
  if position == nil or position == length then
    position = length
  else
    position = position_in("remove", position, length + 1)
  end
  local removed = list[position]
  for i = position, length - 1 do
    list[i] = list[i + 1]
  end
  list[position < length and length or position] = nil
  return removed
end

-- The elements of a table with a metatable, in a table without.
local function copied(list, first, last)
  local copy, count = {}, 0
  for i = first, last do
    count = count + 1
    copy[count] = list[i]
  end
  return copy, count
end

function table.concat(list, separator, first, last)
  check()
  if is_plain(list) then
    return concat(list, separator, first, last)
  end
  local copy, count = copied(list, first or 1, last or #list)
  return concat(copy, separator, 1, count)
end

function table.unpack(list, first, last)
  if is_large(list) or type(last) == "number" and last > LARGE then
    check()
  end
  if is_plain(list) then
    return unpack(list, first, last)
  end
  local copy, count = copied(list, first or 1, last or #list)
  return unpack(copy, 1, count)
end

function table.move(from, first, last, at, to)
  if type(first) == "number" and type(last) == "number" and last - first >= LARGE then
    check()
    if last - first >= MOST_MOVED then
      error("table.move: at most " .. MOST_MOVED .. " elements at a time", 2)
    end
  end
  return move(from, first, last, at, to or from)
end

local function is_less(one, other)
  return one < other
end

-- A comparison in Lua is one that the time limit reaches.
local function watched(order)
  if type(order) ~= "function" then
    return order or is_less
  end
  return function(one, other)
    return order(one, other)
  end
end

function table.sort(list, order)
  if is_plain(list) then
    return sort(list, is_large(list) and watched(order) or order)
  end
  local copy, count = copied(list, 1, #list)
  sort(copy, watched(order))
  for i = 1, count do
    list[i] = copy[i]
  end
end

