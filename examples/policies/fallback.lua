-- Sends requests for a model that has failed to another one. (`alias`, a bundled policy, does more.)
--
-- Settings (`policy:` of the model):
--   fallback   name of the other model; without it nothing happens

---@type hub.Policy
return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    if model and model.memory_state == "failed" and model.settings.fallback then
      hub.log.warn(("%s has failed, %s answers"):format(model.name, model.settings.fallback))
      return hub.route({ model = model.settings.fallback })
    end
  end,
}
