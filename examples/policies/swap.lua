-- In a full group, unloads the member that has been idle longest instead of refusing the load.
--
-- Settings (`policy:` in hub.yaml):
--   swap_after_seconds  a member must have been idle for so long; 0 by default

---@param names string[]
---@param hub hub.Hub
local function longest_idle(names, hub)
  local found
  for _, name in ipairs(names) do
    local member = hub.models[name]
    local is_free = member and member.memory_state == "loaded" and member.active == 0
    if is_free and (not found or member.idle_seconds > found.idle_seconds) then
      found = member
    end
  end
  return found
end

---@type hub.Policy
return {
  on_load = function(load, hub)
    local group = load.group
    if not group or group.free > 0 then
      return nil
    end
    local member = longest_idle(group.loaded, hub)
    if member and member.idle_seconds >= (hub.settings.swap_after_seconds or 0) then
      return hub.evict({ member.name })
    end
  end,
}
