local function hub_of(settings)
  return test.hub({ files = { "fallback.lua" }, workers = { big = { fails = "no such file" } }, config = { models = {
    { name = "big", model_path = "org/big", jit_enabled = true, default = true, policy = settings },
    { name = "small", model_path = "org/small", jit_enabled = true, default = true },
  } } })
end

test.case("after a failure the other model answers", function()
  local hub = hub_of({ fallback = "small" })
  local first = hub:request("big")
  hub:settle()
  test.equal(first.status, 503)
  local second = hub:request("big")
  test.equal(second.model, "small")
  test.equal(hub.logged[1].text, "big has failed, small answers")
end)

test.case("without a setting the model is tried again", function()
  local hub = hub_of()
  hub:request("big")
  hub:settle()
  test.equal(hub:request("big").model, "big")
end)
