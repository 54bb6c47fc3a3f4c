-- At night the fans stay quiet: what is not loaded then is not loaded for a request, and a quiet model
-- answers instead.
--
-- Settings (`policy: {quiet_hours: …}` of hub.yaml):
--   model      the quiet one; requests for others go to it
--   from, to   whole hours of local time; 22 and 7 by default

local options = hub.options("quiet_hours", { model = "", from = 22, to = 7 })

---@type hub.Policy
return {
  on_request = function(req, hub)
    local is_quiet = (hub.time().hour - options.from) % 24 < (options.to - options.from) % 24
    local model = hub.models[req.model]
    if not is_quiet or not model or model.name == options.model or model.memory_state == "loaded" then
      return nil
    end
    if options.model ~= "" and model.type == "lm" then
      return hub.route({ model = options.model })
    end
  end,
}
