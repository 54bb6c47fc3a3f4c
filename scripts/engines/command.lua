-- Any program that serves a model on a port: its command line stands in the model's entry.
--
--   engine: command
--   command: llama-server -m {model_path} --host {host} --port {port}
--   ready: /health
--
-- `command` is a text, in which quotes keep blanks together, or a list. The words in braces are those of the entry:
-- {model_path}, {name}, {host}, {port}, {model_type}, {log_level}. `ready` is a path that answers 200 once the model
-- is loaded, `/health` unless it is set. `served_name` is what the program calls the model in requests; without it a
-- request keeps the name that its client wrote.

local fields = {
  host = "host",
  log_level = "log_level",
  model_path = "path",
  model_type = "type",
  name = "name",
  port = "port",
}

---@type hub.Engine
return {
  keys = {
    { "command", "command" },
    { "ready", "text" },
    { "served_name", "text" },
  },

  program = function(model)
    local words = model.keys.command
    return { words and words[1] or "command" }
  end,

  check = function(model)
    local problems = {}
    local function refuse(key, message, hint)
      problems[#problems + 1] = { key = key, message = message, hint = hint }
    end
    local words = model.keys.command
    if not words then
      local hint = "add `command: PROGRAM --model {model_path} --port {port}`"
      refuse("engine", "`engine: command` needs `command`", hint)
    else
      local has_port = false
      for _, word in ipairs(words) do
        for field in word:gmatch("{([%a_]+)}") do
          has_port = has_port or field == "port"
          if not fields[field] then
            local known = "there are: {host}, {log_level}, {model_path}, {model_type}, {name}, {port}"
            refuse("command", ("`command` has `{%s}`, which stands for nothing"):format(field), known)
          end
        end
      end
      if not has_port then
        refuse("command", "`command` has no `{port}`: the hub chooses the port", "add it, like `--port {port}`")
      end
    end
    local ready = model.keys.ready
    if ready and not ready:match("^/") then
      refuse("ready", "`ready` must be a path", "write it as `ready: /health`")
    end
    return { problems = problems }
  end,

  command = function(model)
    local argv = {}
    for index, word in ipairs(model.keys.command) do
      local filled = word:gsub("{([%a_]+)}", function(field)
        return fields[field] and tostring(model[fields[field]])
      end)
      if index > 1 then
        argv[#argv + 1] = filled
      end
    end
    return { argv = argv }
  end,

  ready = {
    get = function(model)
      return model.keys.ready or "/health"
    end,
  },

  name = function(model)
    return model.keys.served_name
  end,
}
