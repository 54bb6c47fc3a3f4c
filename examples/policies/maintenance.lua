-- Maintenance: with `policy: {maintenance: "Back at noon."}` in hub.yaml and a `reload`, every request is
-- answered with a 503 and that text. Clients on this machine still get through, to try things.

local text = hub.settings.maintenance

---@type hub.Policy
return {
  on_request = function(req, hub)
    local is_local = req.client == "127.0.0.1" or req.client == "::1"
    if text and not is_local then
      return hub.reject({ status = 503, message = tostring(text), retry_after = 600 })
    end
  end,
}
