-- `auto` is the model for the language that the client prefers.
--
-- Settings (`policy: {by_language: {models: …}}` of hub.yaml): a model per language, like {zh: qwen3-4b,
-- other: gemma3-27b}; `other` is for all others.

local models = hub.options("by_language", { models = {} }).models

---@type hub.Policy
return {
  models = { auto = { description = "the model for your language", model = models.other } },

  on_request = function(req, hub)
    if req.model ~= "auto" then
      return nil
    end
    -- The first of "de-CH,de;q=0.9,en;q=0.8".
    local language = (req.headers["accept-language"] or ""):lower():match("^%a+") or "other"
    local model = models[language] or models.other
    if model then
      return hub.route({ model = model })
    end
  end,
}
