-- Sends long prompts for one model to another with a longer context.
--
-- Settings (`policy:` of the model):
--   long_prompts_to     name of the other model; without it nothing happens
--   long_prompt_chars   from how many characters on; 20000 by default

---@type hub.Policy
return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    local settings = model and model.settings
    if not settings or not settings.long_prompts_to then
      return nil
    end
    if req.prompt_chars >= (settings.long_prompt_chars or 20000) then
      return hub.route({ model = settings.long_prompts_to })
    end
  end,
}
