local function hub_of()
  return test.hub({ files = { "by_context.lua" }, config = {
    policy = { by_context = {
      models = { { name = "small", tokens = 8192 }, { name = "big", tokens = 32768 } },
    } },
    models = {
      { name = "small", model_path = "org/small", jit_enabled = true, default = true },
      { name = "big", model_path = "org/big", jit_enabled = true, default = true },
    },
  } })
end

local rows = {
  { "a short prompt", prompt = 300, model = "small" },
  { "one that just fits", prompt = (8192 - 1024) * 3, model = "small" },
  { "one more character", prompt = (8192 - 1024) * 3 + 1, model = "big" },
  { "a long answer", prompt = 300, max_tokens = 10000, model = "big" },
  { "too long for all", prompt = 200000, status = 400 },
}

test.each(rows, function(row)
  local request = hub_of():request("auto", { prompt = row.prompt, body = { max_tokens = row.max_tokens } })
  test.equal(request.model, row.model)
  test.equal(request.status, row.status)
end)

test.case("other names are left alone", function()
  test.equal(hub_of():request("small", { prompt = 200000 }).model, "small")
end)
