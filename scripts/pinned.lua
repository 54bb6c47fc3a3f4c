-- Keeps models in memory, however long they are idle: those with `policy: {pinned: true}` in hub.yaml.
--
-- No idle limit unloads them, and the bundled policies that make room take others. A load that only
-- they stand in the way of is refused. Unload, stop and stop-model still do what they say.

---@param model hub.Model?
local function is_pinned(model)
  return model ~= nil and model.settings.pinned == true
end

---@type hub.Policy
return {
  on_idle = function(model, hub)
    local pinned = model.settings.pinned
    if pinned ~= nil and type(pinned) ~= "boolean" then
      error(("`policy: pinned` of model `%s` must be true or false, it is %s"):format(model.name, tostring(pinned)))
    end
    if pinned then
      return hub.keep({ seconds = 60, reason = "pinned" })
    end
  end,

  on_load = function(load, hub)
    local group = load.group
    if not group or group.free > 0 then
      return nil
    end
    for _, name in ipairs(group.loaded) do
      if not is_pinned(hub.models[name]) then
        return nil
      end
    end
    local message = ("Group `%s` is full of pinned models: `%s`. Unload one first.")
      :format(group.name, table.concat(group.loaded, "`, `"))
    return hub.reject({ status = 429, code = "group_full", message = message })
  end,
}
