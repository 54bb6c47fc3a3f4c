-- Logs requests that took long, and what took so long: waiting for the model, or the answer.
--
-- Settings (`policy: {slow_requests: …}` of hub.yaml):
--   seconds   30 by default

local options = hub.options("slow_requests", { seconds = 30 })

hub.on("request.finished", function(event, hub)
  if event.seconds >= options.seconds then
    local text = "slow request %s for %s: %.0f s, %.0f of them waiting, %s tokens"
    local waited, tokens = event.wait_seconds or 0, event.completion_tokens or "unknown"
    hub.log.warn(text:format(event.id, event.model, event.seconds, waited, tokens))
  end
end)

---@type hub.Policy
return {}
