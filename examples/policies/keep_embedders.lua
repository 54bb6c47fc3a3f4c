-- Embedding models are small and needed all the time: they are never idle, and no cap counts for them.

---@type hub.Policy
return {
  on_idle = function(model, hub)
    if model.type == "embeddings" then
      return hub.keep({ seconds = 3600 })
    end
  end,

  on_load = function(load, hub)
    if load.model.type == "embeddings" then
      return hub.allow()
    end
  end,
}
