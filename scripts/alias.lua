-- Virtual names for models, each with a list of models to try: the first that can answer does. One that
-- has failed, is stopped, or takes too long to load is passed over for the next. (The request that finds
-- out that a model fails gets the error; those after it go to the next.)
--
-- Settings (`policy: {alias: …}` of hub.yaml):
--   names           a mapping from a virtual name to a model or a list of models; a model's own name may
--                   be one too, to give it others to fall back to. A name with `*` (`claude-*haiku*`, `gpt-*`,
--                   `*`) stands for all that look so and are no model's. A whole name comes before any that
--                   looks so, and of several with `*` the one with the most other characters counts
--   default         a model or a list of models for requests that name none, and for names that neither
--                   `names` nor hub.yaml has; without it they are refused
--   load_seconds    a model that is not loaded, and took longer at its last load, is passed over while
--                   a later one is loaded; 0, the default: however long
--   failed_seconds  a model that failed is tried again after this many seconds; 60 by default
--
-- All of them are in the list of models that clients get, `default` as `*`.

local set = hub.settings.alias
local default = type(set) == "table" and set.default or nil
local options = hub.options("alias", { names = {}, default = default or "", load_seconds = 0, failed_seconds = 60 })

-- When each model failed, until it is loaded again: a reload of the policies keeps it.
local function note(event, hub)
  hub.state.alias = hub.state.alias or {}
  hub.state.alias[event.model] = event.name == "model.failed" and event.time or nil
end
hub.on("model.failed", note)
hub.on("model.loaded", note)

-- A list of models, however it was written.
local function list_of(setting, models)
  if type(models) == "string" and models ~= "" then
    return { models }
  elseif type(models) == "table" and #models > 0 then
    return models
  end
  error(("`policy: alias.%s` must be a model or a list of models"):format(setting))
end

local names, declared, patterns = {}, {}, {}
for name, models in pairs(options.names) do
  names[name] = list_of("names." .. name, models)
  if name:find("*", 1, true) then
    local literal = name:gsub("%*", "")
    local pattern = "^" .. name:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
    table.insert(patterns, { name = name, pattern = pattern, length = #literal })
  end
  declared[name] = { description = "alias of " .. table.concat(names[name], ", "), model = names[name][1] }
end
-- Those with more other characters first.
table.sort(patterns, function(one, two)
  if one.length ~= two.length then
    return one.length > two.length
  end
  return one.name < two.name
end)
local for_others = default ~= nil and list_of("default", default) or nil
if for_others and not declared["*"] then
  declared["*"] = { description = "all other names, by " .. table.concat(for_others, ", "), model = for_others[1] }
end

-- The models to try for a name, which may be nil, and the setting that says so; nil for a name that is
-- none of ours.
local function models_of(name, hub)
  if names[name] then
    return names[name], "names." .. name
  elseif name and hub.models[name] then
    return nil
  end
  for _, alias in ipairs(name and patterns or {}) do
    if name:find(alias.pattern) then
      return names[alias.name], "names." .. alias.name
    end
  end
  return for_others, "default"
end

---@param model hub.Model
---@param hub hub.Hub
local function can_answer(model, hub)
  local state, failed_at = model.process_state, hub.state.alias
  local failed = failed_at and failed_at[model.name]
  if failed and hub.clock() - failed < options.failed_seconds then
    return false
  end
  return state == "running" or state == "starting" or state == "failed"
end

---@param model hub.Model
local function is_slow(model)
  local is_ready = model.memory_state == "loaded"
  return options.load_seconds > 0 and not is_ready and (model.load_seconds or 0) > options.load_seconds
end

---@type hub.Policy
return {
  models = declared,

  on_request = function(req, hub)
    local models, setting = models_of(req.model, hub)
    if not models then
      return nil
    end
    local slow
    for _, name in ipairs(models) do
      local model = hub.models[name]
      if not model then
        error(("`policy: alias.%s` names `%s`, which is no model"):format(setting, name))
      elseif can_answer(model, hub) then
        local passed_over = is_slow(model) or (slow and model.memory_state ~= "loaded")
        if not passed_over then
          return hub.route({ model = name })
        end
        slow = slow or name
      end
    end
    if slow then
      return hub.route({ model = slow })
    end
    local asked = req.model and ("`%s`"):format(req.model) or "requests that name no model"
    local message = ("None of the models of %s can answer now: %s."):format(asked, table.concat(models, ", "))
    return hub.reject({ status = 503, message = message, param = "model", retry_after = options.failed_seconds })
  end,
}
