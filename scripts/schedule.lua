-- Keeps models to their hours and days, in local time. Outside of them a model takes no new load (429, with
-- the time until it may), and is unloaded when it is idle; requests in flight are not cut.
--
-- Settings (`policy: {schedule: …}` of a model; without them a model is not limited):
--   days    a list of mon, tue, wed, thu, fri, sat, sun; all by default
--   hours   like "08:00-18:00"; "22:00-06:00" goes over midnight and belongs to the day it begins on
--   stop    true stops the model outside its hours instead of unloading it; false by default

local DAYS = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" }
local DAY = 24 * 60
local DEFAULTS = { days = {}, hours = "00:00-24:00", stop = false }

---@param text string
local function minutes_of(text)
  local from_hour, from_min, to_hour, to_min = text:match("^(%d%d?):(%d%d)%-(%d%d?):(%d%d)$")
  local from, to = tonumber(from_hour), tonumber(to_hour)
  if not from or not to then
    error(('`policy: schedule.hours` must be like "08:00-18:00", it is "%s"'):format(text))
  end
  from, to = from * 60 + tonumber(from_min), to * 60 + tonumber(to_min)
  return from, to > from and to or to + DAY
end

---@param days string[]
local function by_day(days)
  local wanted = {}
  for _, day in ipairs(#days > 0 and days or DAYS) do
    wanted[day] = true
  end
  for day in pairs(wanted) do
    if not table.concat(DAYS, " "):find(day, 1, true) or #day ~= 3 then
      error(("`policy: schedule.days` must be of mon, tue, wed, thu, fri, sat, sun; `%s` is none"):format(day))
    end
  end
  return wanted
end

-- Minutes until the model may be loaded; 0 within its hours, nil when it has no schedule.
---@param model hub.Model
---@param hub hub.Hub
local function minutes_until(model, hub)
  if model.settings.schedule == nil then
    return nil
  end
  local options = hub.options("schedule", DEFAULTS, model.settings)
  local from, to = minutes_of(options.hours)
  local days, now = by_day(options.days), hub.time()
  local minute = now.hour * 60 + now.min
  for ahead = -1, 7 do
    local begins = ahead * DAY + from - minute
    local ends = ahead * DAY + to - minute
    if days[DAYS[(now.wday - 1 + ahead) % 7 + 1]] and ends > 0 then
      return math.max(begins, 0), options.stop
    end
  end
end

---@type hub.Policy
return {
  on_load = function(load, hub)
    local minutes = minutes_until(load.model, hub)
    if minutes and minutes > 0 then
      local message = ("Model `%s` is outside its hours. It may be loaded in %dh%02dm.")
        :format(load.model.name, minutes // 60, minutes % 60)
      return hub.reject({ status = 429, message = message, retry_after = minutes * 60 })
    end
  end,

  on_idle = function(model, hub)
    local minutes, stop = minutes_until(model, hub)
    if minutes and minutes > 0 then
      local why = { reason = "outside its hours" }
      return stop and hub.stop(why) or hub.unload(why)
    end
  end,
}
