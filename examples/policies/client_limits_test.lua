local limits = { ["10.0.0.1"] = { max_tokens = 500, temperature = 0.3 } }

local rows = {
  { "too much", client = "10.0.0.1", body = { max_tokens = 9000, temperature = 1 }, max_tokens = 500,
    temperature = 0.3 },
  { "within", client = "10.0.0.1", body = { max_tokens = 50, temperature = 0 }, max_tokens = 50, temperature = 0 },
  { "not said", client = "10.0.0.1", body = {}, max_tokens = 500, temperature = 0.3 },
  { "somebody else", client = "10.0.0.2", body = { max_tokens = 9000 }, max_tokens = 9000 },
}

test.each(rows, function(row)
  local hub = test.hub({
    files = { "client_limits.lua" },
    policy = { client_limits = { clients = limits } },
    config = { models = { { name = "a", model_path = "org/a", jit_enabled = true, default = true } } },
  })
  local request = hub:request("a", { client = row.client, body = row.body })
  test.equal(request.body.max_tokens, row.max_tokens)
  test.equal(request.body.temperature, row.temperature)
end)
