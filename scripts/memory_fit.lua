-- Loads a model only if it fits into the memory that is free, and makes room by unloading idle models: first
-- those that load quickly and that nobody has asked for lately.
--
-- Settings (`policy: {memory_fit: …}` of hub.yaml; `gb` of a model):
--   reserve_gb     gigabytes that stay free; 4 by default
--   estimate_gb    what a model takes that was never measured; 8 by default
--   gb             the same for one model, while it has not been measured
--   batch_seconds  after this many seconds, models with requests in flight are drained too; 30 by default
-- Pinned models stay. While it cannot be read how much memory is available, that is the total without what
-- the models hold or ever held; where the total cannot be read either, there is one model at a time.

local GB = 1e9
local options = hub.options("memory_fit", { reserve_gb = 4, estimate_gb = 8, batch_seconds = 30 })

---@param model hub.Model
local function bytes_of(model)
  local own = hub.options("memory_fit", { gb = options.estimate_gb }, model.settings)
  return model.peak_bytes or own.gb * GB
end

-- What a model counts for while it is in memory: what it holds, or may hold if that cannot be read.
---@param model hub.Model
local function held_by(model, hub)
  local held = model.memory_bytes or 0
  return hub.memory.available and held or math.max(bytes_of(model), held)
end

-- Members of a full group come before all others: one of them has to go anyway.
---@param model hub.Model
---@param full string? # name of the group
local function reload_cost(model, full)
  local cost = (model.load_seconds or 60) / (1 + model.idle_seconds / 60)
  return full and model.group == full and cost - 1e9 or cost
end

-- Bytes that are free, that are about to be, that might be some time, and the models that may go now.
---@param load hub.Load
local function look_around(load, hub)
  local memory, is_known = hub.memory, hub.memory.available ~= nil
  -- Spare processes end when a load needs their memory.
  local free = (memory.available and memory.available + memory.spares or memory.total) - options.reserve_gb * GB
  free = memory.pressure == "critical" and 0 or free
  local coming, possible, idle = hub.memory.returning, 0, {}
  for _, model in pairs(hub.models) do
    local held, state = held_by(model, hub), model.memory_state
    if state == "unloading" then
      coming = coming + held
      free = is_known and free or free - held
    elseif model.name ~= load.model.name and (state == "loading" or state == "loaded") then
      local taken = state == "loading" and math.max(bytes_of(model), held) or held
      free = free - (is_known and taken - held or taken)
      possible = possible + (model.settings.pinned and 0 or taken)
      local may_go = model.active == 0 or load.waited_seconds >= options.batch_seconds
      if state == "loaded" and may_go and not model.settings.pinned then
        table.insert(idle, model)
      end
    end
  end
  local full = load.group and load.group.free <= 0 and load.group.name or nil
  table.sort(idle, function(one, other) return reload_cost(one, full) < reload_cost(other, full) end)
  return free, coming, possible, idle
end

-- One model at a time.
---@param load hub.Load
local function alone(load, hub)
  local idle, is_busy = {}, false
  for _, model in pairs(hub.models) do
    local state = model.memory_state
    if model.name ~= load.model.name and state == "loaded" and model.active == 0 and not model.settings.pinned then
      table.insert(idle, model.name)
    elseif model.name ~= load.model.name and (state == "loaded" or state == "loading" or state == "unloading") then
      is_busy = true
    end
  end
  if is_busy then
    return hub.wait({ seconds = 5 })
  end
  return #idle > 0 and hub.evict(idle) or nil
end

---@type hub.Policy
return {
  on_load = function(load, hub)
    local needed, group, evicted = bytes_of(load.model), load.group, {}
    if not hub.memory.available and not hub.memory.total then
      return alone(load, hub)
    end
    local free, coming, possible, idle = look_around(load, hub)
    local most = math.max(free + coming + possible, 0)
    if needed <= free then
      return nil
    elseif needed > most and hub.memory.pressure ~= "critical" then
      local message = ("Model `%s` needs %.1f GB, and no more than %.1f GB can be made free.")
        :format(load.model.name, needed / GB, most / GB)
      return hub.reject({ status = 429, code = "group_full", message = message })
    end
    local members = group and math.max(1 - group.free, 0) or 0 -- that have to go
    for _, model in ipairs(idle) do
      local counts = members > 0 and model.group == group.name
      if counts or free + coming < needed then
        table.insert(evicted, model.name)
        free, members = free + held_by(model, hub), members - (counts and 1 or 0)
      end
    end
    local fits = #evicted > 0 and free + coming >= needed and members <= 0
    return fits and hub.evict(evicted) or hub.wait({ seconds = 5 })
  end,
}
