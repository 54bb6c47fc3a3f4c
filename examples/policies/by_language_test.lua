local function hub_of(models)
  return test.hub({ files = { "by_language.lua" }, config = {
    policy = { by_language = { models = models } },
    models = {
      { name = "qwen", model_path = "org/qwen", jit_enabled = true, default = true },
      { name = "gemma", model_path = "org/gemma", jit_enabled = true, default = true },
    },
  } })
end

local rows = {
  { "a language with a model", accept = "zh-CN,zh;q=0.9,en;q=0.8", model = "qwen" },
  { "another", accept = "DE", model = "gemma" },
  { "none", model = "gemma" },
}

test.each(rows, function(row)
  local hub = hub_of({ zh = "qwen", other = "gemma" })
  local request = hub:request("auto", { headers = { ["Accept-Language"] = row.accept } })
  test.equal(request.model, row.model)
end)

test.case("without a model for others `auto` is unknown", function()
  test.equal(hub_of({ zh = "qwen" }):request("auto").status, 404)
end)

test.case("other names are left alone", function()
  test.equal(hub_of({ other = "gemma" }):request("qwen").model, "qwen")
end)
