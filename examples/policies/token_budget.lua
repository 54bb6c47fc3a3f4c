-- Gives each client so many tokens a day, prompt and answer together; then it is refused until midnight.
-- A client is a key, or in a hub without keys an address.
-- The count is in `hub.state`, so that a reload keeps it; a restart of the hub begins anew.
--
-- Settings (`policy: {token_budget: …}` of hub.yaml):
--   tokens    for each client; 200000 by default
--   clients   other limits, by key or address: {laptop: 1000000, "192.168.1.20": 1000000}

local options = hub.options("token_budget", { tokens = 200000, clients = {} })

---@param hub hub.Hub
local function today(hub)
  local now = hub.time()
  return now.year * 1000 + now.yday
end

hub.on("request.finished", function(event, hub)
  local used = hub.state.token_budget
  if not used or used.day ~= today(hub) then
    hub.state.token_budget = { day = today(hub), by_client = {} }
    used = hub.state.token_budget
  end
  local tokens = (event.prompt_tokens or 0) + (event.completion_tokens or 0)
  local client = event.key or event.client
  used.by_client[client] = (used.by_client[client] or 0) + tokens
end)

---@type hub.Policy
return {
  on_request = function(req, hub)
    local client = req.key or req.client
    local limit = options.clients[client] or options.tokens
    local used = hub.state.token_budget
    local so_far = used and used.day == today(hub) and used.by_client[client] or 0
    if so_far >= limit then
      local now = hub.time()
      local seconds = 24 * 3600 - now.hour * 3600 - now.min * 60 - now.sec
      local message = ("Your %d tokens of today are used up."):format(limit)
      return hub.reject({ status = 429, message = message, retry_after = seconds })
    end
  end,
}
