-- `hub.state`: what observers write and every hook reads. Runs once in each new Lua state; the one of the
-- hooks does the writes of the one of the observers after it.
-- A stored table is a node: an empty table whose metatable shows the values, so that a read costs no
-- call, and a write always comes here. `is_writable` says whether an observer runs, and `note` is told of
-- each of its writes: the way to the place, from the key up to the root, and what is there now.
-- Returns the root, the raw functions of the sandbox that know nodes, and what Rust calls.
local is_writable, note, MOST_BYTES = ...
local next, rawget, rawlen, rawset, type = next, rawget, rawlen, rawset, type
local error, setmetatable = error, setmetatable

local MOST_DEEP = 32
local OF_STRING, OF_TABLE, OF_SCALAR = 40, 64, 16

-- The values of each node; and of those that can still be reached from the root, in what they are, and
-- under which key.
local values = setmetatable({}, { __mode = "k" })
local parents = setmetatable({}, { __mode = "k" })
local keys = setmetatable({}, { __mode = "k" })
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

-- Without a parent it is taken out.
local function attach(value, parent, key)
  if type(value) == "table" then
    parents[value], keys[value] = parent, key
    for below_key, below in next, values[value] do
      attach(below, parent and value, below_key)
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
  elseif not parents[node] then
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
  attach(old, nil, nil)
  attach(new, node, key)
end

local root

local function way_to(node, key)
  local way = { key }
  while node ~= root do
    way[#way + 1] = keys[node]
    node = parents[node]
  end
  return way
end

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

local function assign(node, key, value)
  if not is_writable() then
    error("hub.state: only observers write it (hub.on); a hook reads", 2)
  end
  write(node, key, value)
  note(way_to(node, key), plain(values[node][key], 0))
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

root = make_node({})
parents[root] = root

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

  -- Does a write that another state noted.
  follow = function(way, value)
    local node = root
    for i = #way, 2, -1 do
      node = values[node][way[i]]
    end
    write(node, way[1], value)
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
