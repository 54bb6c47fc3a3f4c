-- Runs once in each new Lua state, before any other file, and decides what files can reach.
-- `check` raises what a policy may not swallow: an overrun, or the want of the body.
-- `raw` holds `next` and the raw functions: those of policies know the tables of `hub.state`.
-- `text_of` makes a text of an error that Rust raised.
-- Returns a function that makes the globals of one file.
local check, raw, text_of = ...
local pcall, setmetatable, rawget, sub = pcall, setmetatable, rawget, string.sub

-- An error of Rust becomes the text that it would be in Lua, and one of the sandbox names no place there.
local function caught(ok, problem, ...)
  check()
  if ok then
    return ok, problem, ...
  end
  local is_ours = type(problem) == "string" and sub(problem, 1, 10) == "[sandbox]:"
  if is_ours or type(problem) == "userdata" then
    problem = text_of(problem)
  end
  return ok, problem, ...
end

local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  return false, handler(...)
end

local guarded = {
  pcall = function(...)
    return caught(pcall(...))
  end,

  -- The handler is called after the stack is unwound: Lua's own `xpcall` runs it inside the hook
  -- that raised the error, where no time limit reaches it.
  xpcall = function(body, handler, ...)
    return handled(handler, caught(pcall(body, ...)))
  end,

  -- Finalizers run with hooks off, where no time limit reaches them.
  setmetatable = function(object, metatable)
    if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
      error("setmetatable: a policy may not have `__gc`", 2)
    end
    return setmetatable(object, metatable)
  end,
}

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
