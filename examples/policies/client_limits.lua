-- Keeps what one client asks for within bounds: tokens per answer, temperature, whatever its body has.
--
-- Settings (`policy: {client_limits: {clients: …}}` of hub.yaml): by address a mapping of body fields to
-- the most they may be, like {"192.168.1.20": {max_tokens: 500, temperature: 0.3}}. A field that the
-- client does not send is set to that.

local clients = hub.options("client_limits", { clients = {} }).clients

---@type hub.Policy
return {
  on_request = function(req, hub)
    local limits = clients[req.client]
    if not limits or not req.body then
      return nil
    end
    local set = {}
    for field, most in pairs(limits) do
      local sent = req.body[field]
      if type(sent) ~= "number" or sent > most then
        set[field] = most
      end
    end
    if next(set) then
      return hub.route({ set = set })
    end
  end,
}
