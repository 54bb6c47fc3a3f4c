-- `auto` is the first model of a list whose context the prompt fits into, with room for the answer.
--
-- Settings (`policy: {by_context: …}` of hub.yaml):
--   models            a list like [{name: small, tokens: 8192}, {name: big, tokens: 131072}], the
--                     smallest first
--   chars_per_token   how long a token is; 3 by default, on the safe side
--   answer            tokens for the answer where the request has no max_tokens; 1024 by default

local options = hub.options("by_context", { models = {}, chars_per_token = 3, answer = 1024 })

---@type hub.Policy
return {
  models = { auto = "the smallest model whose context fits the prompt" },

  on_request = function(req, hub)
    if req.model ~= "auto" then
      return nil
    end
    local answer = req.body and req.body.max_tokens or options.answer
    local needed = req.prompt_chars / options.chars_per_token + answer
    for _, model in ipairs(options.models) do
      if needed <= model.tokens then
        return hub.route({ model = model.name })
      end
    end
    local message = ("The prompt needs about %d tokens, more than any model here has."):format(needed // 1)
    return hub.reject({ status = 400, message = message, code = "context_length_exceeded", param = "messages" })
  end,
}
