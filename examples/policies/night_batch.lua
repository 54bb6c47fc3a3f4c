-- Keeps batch work for the night: by day its requests are refused, and told when to come again.
--
-- Settings (`policy: {night_batch: …}` of hub.yaml):
--   header      requests with this header are batch work; "x-batch" by default
--   from, to    the night, in whole hours of local time; 22 and 6 by default

local options = hub.options("night_batch", { header = "x-batch", from = 22, to = 6 })

---@type hub.Policy
return {
  on_request = function(req, hub)
    if not req.headers[options.header] then
      return nil
    end
    local now = hub.time()
    local is_night = (now.hour - options.from) % 24 < (options.to - options.from) % 24
    if not is_night then
      local seconds = (options.from - now.hour) % 24 * 3600 - now.min * 60 - now.sec
      local message = ("Batch work runs from %d to %d o'clock."):format(options.from, options.to)
      return hub.reject({ status = 429, message = message, retry_after = seconds })
    end
  end,
}
