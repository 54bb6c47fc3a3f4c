-- `hub.state`: what observers write and every hook reads. Runs once in each new Lua state.
-- A stored table is a node: an empty table whose metatable shows the values, so that a read costs no
-- call, and a write always comes here. `is_writable` says whether an observer runs.
-- Returns the root, the raw functions of the sandbox that know nodes, and what Rust calls.
local is_writable, MOST_BYTES = ...
local next, rawget, rawlen, rawset, type = next, rawget, rawlen, rawset, type
local error, setmetatable = error, setmetatable

local MOST_DEEP = 32
local OF_STRING, OF_TABLE, OF_SCALAR = 40, 64, 16

-- The values of each node, and the nodes that can still be reached from the root.
local values = setmetatable({}, { __mode = "k" })
local attached = setmetatable({}, { __mode = "k" })
local used = 0

local function bytes_of(value)
  local kind = type(value)
  if kind == "string" then
    return OF_STRING + #value
  elseif kind == "table" then
    local bytes = OF_TABLE
    for key, below in next, values[value] do
      bytes = bytes + bytes_of(key) + bytes_of(below)
    end
    return bytes
  end
  return value == nil and 0 or OF_SCALAR
end

local function set_attached(value, is_attached)
  if type(value) == "table" then
    attached[value] = is_attached
    for _, below in next, values[value] do
      set_attached(below, is_attached)
    end
  end
end

local make_node

-- A copy to store. Errors are raised for whoever wrote, `level` calls above.
local function stored(value, depth, level)
  local kind = type(value)
  if kind == "table" then
    if depth > MOST_DEEP then
      error("hub.state: tables in tables, more than " .. MOST_DEEP .. " deep", level)
    end
    local copy, bytes = {}, OF_TABLE
    for key, below in next, values[value] or value do
      if type(key) ~= "string" and type(key) ~= "number" then
        error("hub.state: a key is a " .. type(key) .. ", it must be a string or a number", level)
      end
      local below_copy, below_bytes = stored(below, depth + 1, level + 1)
      bytes = bytes + bytes_of(key) + below_bytes
      if bytes > MOST_BYTES then
        error("hub.state: it holds at most " .. MOST_BYTES .. " bytes in all", level)
      end
      copy[key] = below_copy
    end
    return make_node(copy), bytes
  elseif kind == "nil" or kind == "boolean" or kind == "number" or kind == "string" then
    return value, bytes_of(value)
  end
  error("hub.state: it holds booleans, numbers, strings and tables of these, not a " .. kind, level)
end

local function write(node, key, value)
  local of_node = values[node]
  if type(key) ~= "string" and type(key) ~= "number" then
    error("hub.state: a key is a " .. type(key) .. ", it must be a string or a number", 3)
  elseif key ~= key then
    error("hub.state: the key is not a number (NaN)", 3)
  elseif not attached[node] then
    error("hub.state: this table has been replaced and is no longer part of it", 3)
  end
  local new, bytes = stored(value, 1, 4)
  local old = of_node[key]
  local after = used + (new ~= nil and bytes + bytes_of(key) or 0)
  after = after - (old ~= nil and bytes_of(old) + bytes_of(key) or 0)
  if after > MOST_BYTES and after > used then
    error("hub.state: it holds at most " .. MOST_BYTES .. " bytes in all", 3)
  end
  of_node[key] = new
  used = after
  set_attached(old, nil)
  set_attached(new, true)
end

local function assign(node, key, value)
  if not is_writable() then
    error("hub.state: only observers write it (hub.on); a hook reads", 2)
  end
  write(node, key, value)
end

local function walk(node)
  local of_node = values[node]
  local function step(_, key)
    return next(of_node, key)
  end
  return step, node, nil
end

local function length(node)
  return #values[node]
end

function make_node(of_node)
  local node = setmetatable({}, {
    __index = of_node,
    __newindex = assign,
    __pairs = walk,
    __len = length,
    __metatable = "hub.state",
    __name = "hub.state",
  })
  values[node] = of_node
  return node
end

local root = make_node({})
attached[root] = true

-- Tables of their own in the place of nodes.
local function plain(value, depth)
  if type(value) ~= "table" or depth > MOST_DEEP then
    return value
  end
  local copy = {}
  for key, below in next, values[value] or value do
    copy[key] = plain(below, depth + 1)
  end
  return copy
end

return {
  root = root,

  raw = {
    next = function(object, key)
      return next(values[object] or object, key)
    end,
    rawget = function(object, key)
      return rawget(values[object] or object, key)
    end,
    rawlen = function(object)
      return rawlen(values[object] or object)
    end,
    rawset = function(object, key, value)
      if values[object] then
        error("hub.state: rawset does not write it; assign as to any table", 2)
      end
      return rawset(object, key, value)
    end,
  },

  plain = function(value)
    return plain(value, 0)
  end,

  -- Puts the content of a plain table in the place of all that is there.
  restore = function(content)
    for key in next, values[root] do
      write(root, key, nil)
    end
    for key, value in next, content do
      write(root, key, value)
    end
  end,
}
