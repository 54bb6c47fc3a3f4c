-- Limits how many requests a model answers at once, and lets those over the limit wait in turn: each
-- client's in the order they came, clients one after the other. So an agent with forty calls does not
-- keep another client from its one. A queue that is too long or too slow ends in a 429 (`queue_size`
-- and `queue_timeout` of the model).
--
-- Settings (`policy: {fair_share: …}` of hub.yaml, or of a model, which wins):
--   max_active     requests at once; 0 for no limit. 2 by default: one is answered, one is ready
--   client_header  the header that tells clients apart, like "x-user", or "session" for those in which agents
--                  name their sessions (x-session-affinity, x-session-id, x-claude-code-session-id); where a
--                  request has none, and by default, its key does, or in a hub without keys its address

local options = hub.options("fair_share", { max_active = 2, client_header = "" })

-- The headers in which opencode and Claude Code name a session, the first that is there counts.
local SESSION = { "x-session-affinity", "x-session-id", "x-claude-code-session-id" }

-- Under which key a request takes turns.
local function client_of(req, header)
  for _, name in ipairs(header == "session" and SESSION or { header }) do
    local value = name ~= "" and req.headers[name] or nil
    if value and value ~= "" then
      return value
    end
  end
  return req.key or req.client
end

---@type hub.Policy
return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    if not model or (model.process_state ~= "running" and model.process_state ~= "starting") then
      return nil
    end
    local own = options
    if model.settings.fair_share ~= nil then
      own = hub.options("fair_share", options, model.settings)
    end
    local before = model.active + model.waiting
    -- Who comes while others wait may not go past them.
    local is_newcomer = model.parked > 0 and req.waited_seconds == 0
    if own.max_active > 0 and (before >= own.max_active or is_newcomer) then
      return hub.wait({ seconds = 60, client = client_of(req, own.client_header) })
    end
  end,
}
