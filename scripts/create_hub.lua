-- What the hub does when no other policy decides, as Create-hub did.
--
--   on_request  a model that is not started is refused (400), one that is being stopped too (503)
--   on_load     a group holds at most `max_loaded` models; over that a load is refused (429), unless
--               members are leaving memory, or idle for `idle_unload_trigger_min`, and make room
--   on_idle     a model is unloaded after `auto_unload_minutes` or its last client's `keep_alive` (JIT models
--               only) or its group's `idle_unload_trigger_min`, whichever is shortest
--   on_exit     a worker that ended by itself is started again after 1 s, 2 s, … up to 60 s; one that
--               never was ready is left until somebody asks for the model
--   on_trouble  a worker is started anew whose requests get no byte while it does nothing for `stall_timeout`;
--               or while it computes for much longer than such a prompt ever took; or whose answers of the
--               last minute were all errors
--
-- Settings (`policy: {create_hub: …}` of hub.yaml, or of a model), all for on_trouble:
--   busy_minutes      a worker that computes and sends nothing is left alone for this many minutes; 10 by default
--   busy_factor       and for this many times what was expected; 5 by default
--   chars_per_second  what is expected of a model that has not answered yet, besides 6 minutes for the answer;
--                     10 by default
--   errors            this many answers of 500 and above in a row, within a minute, are too many; 5 by default,
--                     0 for never
-- `stall_timeout: 0` of hub.yaml lets every silence be.

local options = hub.options("create_hub", { busy_minutes = 10, busy_factor = 5, chars_per_second = 10, errors = 5 })

---@param model hub.Model
---@param minutes number?
local function is_due(model, minutes)
  return minutes ~= nil and model.active == 0 and model.idle_seconds >= minutes * 60
end

-- The members of a group that make room: those that are leaving memory, then the longest idle.
---@param group hub.Group
---@param hub hub.Hub
local function due_members(group, hub)
  local due, idle = {}, {}
  for _, name in ipairs(group.loaded) do
    local member = hub.models[name]
    local is_leaving = member and member.memory_state == "unloading"
    local is_free = member and member.memory_state == "loaded" and not member.settings.pinned
    if is_leaving or (is_free and is_due(member, group.idle_unload_trigger_min)) then
      table.insert(due, name)
      idle[name] = is_leaving and math.huge or member.idle_seconds
    end
  end
  table.sort(due, function(one, other) return idle[one] > idle[other] end)
  return due
end

-- Why a silent worker hangs, or nil while it may be at work: a long prompt is silent for long, and so is an
-- answer that is not streamed.
---@param trouble hub.Trouble
local function hangs(trouble, set)
  local limit = trouble.stall_timeout
  if limit and trouble.still_seconds >= limit then
    return ("requests got no byte and its processes used no CPU for %g s (`stall_timeout`)"):format(limit)
  end
  local chars, expected = trouble.prompt_chars, trouble.expected_seconds
  if not expected and chars and set.chars_per_second > 0 then
    expected = 360 + chars / set.chars_per_second
  end
  local busy = expected and math.max(set.busy_minutes * 60, set.busy_factor * expected)
  if limit and busy and trouble.silent_seconds >= busy then
    local message = "requests got no byte for %d s, and about %d s were to be expected"
    return message:format(trouble.silent_seconds // 1, expected // 1)
  end
end

---@type hub.Policy
return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    local state = model and model.process_state
    local stopped, stopping = state == "inactive" or state == "stopped", state == "stopping"
    if stopped or stopping then
      local text = ("Model `NAME` is STATE. Start it with `mlx-openai-server-hub start-model NAME` "
        .. "or POST /hub/models/NAME/start."):gsub("STATE", stopped and "not started" or "being stopped")
      return hub.reject({ status = stopped and 400 or 503, param = "model", message = text:gsub("NAME", model.name) })
    end
  end,

  on_load = function(load, hub)
    local group = load.group
    if not group or group.free > 0 then
      return hub.allow()
    end
    local needed, due = 1 - group.free, due_members(group, hub)
    if #due >= needed then
      return hub.evict({ table.unpack(due, 1, needed) })
    end
    local message = "Group `%s` holds at most %s and already has `%s`. Unload %s first, or use the policy `lru_swap`."
    local most = group.max_loaded == 1 and "1 loaded model" or group.max_loaded .. " loaded models"
    local held, one = table.concat(group.loaded, "`, `"), #group.loaded == 1 and "it" or "one"
    return hub.reject({ status = 429, code = "group_full", message = message:format(group.name, most, held, one) })
  end,

  on_idle = function(model, hub)
    local group = model.group and hub.groups[model.group]
    local by_group = group and group.idle_unload_trigger_min
    local by_model = model.jit_enabled and model.auto_unload_minutes or nil
    -- A client may wish a model away earlier, and not keep it longer.
    local wish = model.jit_enabled and model.keep_alive or -1
    local by_client = wish >= 0 and wish / 60 or nil
    if is_due(model, by_group) or is_due(model, by_model) or is_due(model, by_client) then
      return hub.unload()
    end
  end,

  on_exit = function(exit, hub)
    if exit.was_ready or exit.crashes > 1 then
      return hub.restart({ seconds = math.min(2 ^ (exit.crashes - 1), 60) })
    end
  end,

  on_trouble = function(trouble, hub)
    local set, reason = hub.options("create_hub", options, trouble.model.settings), nil
    if trouble.kind == "silent" then
      reason = hangs(trouble, set)
    elseif set.errors > 0 and trouble.recent_errors >= set.errors then
      reason = ("%d answers in a row were errors, the last one %d"):format(trouble.errors, trouble.last_status)
    end
    return reason and hub.restart({ seconds = math.min(2 ^ trouble.crashes, 60), reason = reason })
  end,
}
