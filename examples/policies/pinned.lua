-- Keeps some models in memory, however long they are idle.
--
-- Settings (`policy:` of the model):
--   pinned   true for a model to keep

---@type hub.Policy
return {
  on_idle = function(model, hub)
    if model.settings.pinned then
      return hub.keep({ seconds = 60 })
    end
  end,
}
