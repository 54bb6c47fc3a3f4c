local function hub_of(settings)
  return test.hub({ files = { "long_prompts.lua" }, config = { models = {
    { name = "small", model_path = "org/small", jit_enabled = true, default = true, policy = settings },
    { name = "big", model_path = "org/big", jit_enabled = true, default = true },
  } } })
end

local both = { long_prompts_to = "big", long_prompt_chars = 100 }
local rows = {
  { "short", settings = both, prompt = 99, model = "small" },
  { "long", settings = both, prompt = 100, model = "big" },
  { "long by default", settings = { long_prompts_to = "big" }, prompt = 20000, model = "big" },
  { "without a setting", prompt = 20000, model = "small" },
}

test.each(rows, function(row)
  local request = hub_of(row.settings):request("small", { prompt = row.prompt })
  test.equal(request.model, row.model)
end)
