-- Runs once in each new Lua state, before any policy, and decides what policies can reach.
-- `check` raises again what a policy may not swallow: an overrun, or the want of the body.
-- `raw` holds the raw functions that know the tables of `hub.state`.
-- Returns a function that makes the globals of one file.
local check, raw = ...
local pcall, setmetatable, rawget = pcall, setmetatable, rawget
local rep, move = string.rep, table.move

local MOST_MOVED = 1 << 20

local function unless_interrupted(...)
  check()
  return ...
end

local function handled(handler, ok, ...)
  check()
  if ok then
    return true, ...
  end
  return false, handler(...)
end

local guarded = {
  pcall = function(...)
    return unless_interrupted(pcall(...))
  end,

  -- The handler is called after the stack is unwound: Lua's own `xpcall` runs it inside the hook
  -- that raised the error, where no time limit reaches it.
  xpcall = function(body, handler, ...)
    return handled(handler, pcall(body, ...))
  end,

  -- Finalizers run with hooks off, where no time limit reaches them.
  setmetatable = function(object, metatable)
    if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
      error("setmetatable: a policy may not have `__gc`", 2)
    end
    return setmetatable(object, metatable)
  end,
}

-- Two library functions loop in C for as long as they are told to, where no time limit reaches.
function string.rep(text, times, separator)
  if text == "" and (separator == nil or separator == "") then
    return ""
  end
  return rep(text, times, separator)
end

function table.move(from, first, last, at, to)
  if type(first) == "number" and type(last) == "number" and last - first >= MOST_MOVED then
    error("table.move: at most " .. MOST_MOVED .. " elements at a time", 2)
  end
  return move(from, first, last, at, to or from)
end

string.dump = nil
getmetatable("").__metatable = false

local functions = {
  "assert", "error", "getmetatable", "ipairs", "pairs", "rawequal", "select", "tonumber",
  "tostring", "type",
}

local function copy(library)
  local own = {}
  for name, value in pairs(library) do
    own[name] = value
  end
  return own
end

-- Each file has tables of its own, so that none can change what another one calls.
return function(own)
  local globals = copy(guarded)
  for _, name in ipairs(functions) do
    globals[name] = _G[name]
  end
  for _, name in ipairs({ "math", "string", "table", "utf8" }) do
    globals[name] = copy(_G[name])
  end
  for name, value in pairs(own) do
    globals[name] = value
  end
  for name, value in pairs(raw) do
    globals[name] = value
  end
  globals._G = globals
  globals._VERSION = _VERSION
  return globals
end
