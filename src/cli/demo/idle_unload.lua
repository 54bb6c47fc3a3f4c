-- Unloads a JIT model that has had no request for a while: `idle_seconds` of its `policy:` in
-- hub.yaml, or of the hub's own, else 20.

---@type hub.Policy
return {
  on_idle = function(model, hub)
    local limit = model.settings.idle_seconds or hub.settings.idle_seconds or 20
    if model.jit_enabled and model.idle_seconds >= limit then
      return hub.unload()
    end
  end,
}
