-- Keeps models in memory at certain hours once they are loaded, like the coder on weekday mornings. (A
-- policy loads nothing by itself: let cron call `load-model` at eight.)
--
-- Settings (`policy: {keep_warm: …}` of the model):
--   from, to    whole hours of local time; 8 and 12 by default
--   weekends    true to do so on Saturday and Sunday as well; false by default

---@type hub.Policy
return {
  on_idle = function(model, hub)
    if not model.settings.keep_warm then
      return nil
    end
    local own = hub.options("keep_warm", { from = 8, to = 12, weekends = false }, model.settings)
    local now = hub.time()
    local is_weekend = now.wday == 1 or now.wday == 7
    if now.hour >= own.from and now.hour < own.to and (own.weekends or not is_weekend) then
      return hub.keep({ seconds = 60 })
    end
  end,
}
