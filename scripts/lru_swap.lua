-- Lets the models of a full group take turns: instead of refusing a load, the member that has been idle
-- longest is unloaded. A member with requests in flight is left to them for a while, so that they come
-- in batches and not with a swap between each two; then it is drained. Pinned members stay.
--
-- Settings (`policy: {lru_swap: …}` of hub.yaml):
--   idle_seconds   a member makes room once it has been idle for this many seconds; 0 by default
--   batch_seconds  after this many seconds a load no longer waits for members to be idle; 30 by default

local options = hub.options("lru_swap", { idle_seconds = 0, batch_seconds = 30 })

---@param model hub.Model
local function is_idle(model)
  return model.active == 0 and model.idle_seconds >= options.idle_seconds
end

-- The members that may make room now, the best first, and how many may some time.
---@param load hub.Load
---@param hub hub.Hub
local function candidates(load, hub)
  local is_patient = load.waited_seconds < options.batch_seconds
  local now, later = {}, 0
  for _, name in ipairs(load.group.loaded) do
    local member = hub.models[name]
    if member and not member.settings.pinned then
      later = later + 1
      if member.memory_state == "loaded" and (is_idle(member) or not is_patient) then
        table.insert(now, member)
      end
    end
  end
  table.sort(now, function(one, other)
    if one.idle_seconds ~= other.idle_seconds then
      return one.idle_seconds > other.idle_seconds
    end
    return (one.loaded_seconds or 0) > (other.loaded_seconds or 0)
  end)
  return now, later
end

---@type hub.Policy
return {
  on_load = function(load, hub)
    local group = load.group
    if not group or group.free > 0 then
      return nil
    end
    local needed = 1 - group.free
    local now, later = candidates(load, hub)
    if #now >= needed then
      local names = { reason = "idle the longest" }
      for place = 1, needed do
        names[place] = now[place].name
      end
      return hub.evict(names)
    elseif later >= needed then
      -- Asked again when a request ends or a state changes, and when the patience is over.
      return hub.wait({ seconds = math.max(options.batch_seconds - load.waited_seconds, 1) })
    end
  end,
}
