local function hub_of(settings)
  return test.hub({ files = { "slow_requests.lua" }, workers = { a = { load_seconds = 20 } }, config = {
    policy = { slow_requests = settings },
    models = { { name = "a", model_path = "org/a", jit_enabled = true, default = true } },
  } })
end

test.case("a slow request is logged with what took so long", function()
  local hub = hub_of()
  local request = hub:request("a")
  hub:advance("45s")
  request:finish({ completion_tokens = 100 })
  test.equal(#hub.logged, 1)
  test.equal(hub.logged[1].level, "warn")
  test.equal(hub.logged[1].text, "slow request request-1 for a: 45 s, 20 of them waiting, 100 tokens")
end)

local rows = {
  { "a quick one is not", seconds = 5, lines = 0 },
  { "unless the limit is lower", settings = { seconds = 25 }, seconds = 5, lines = 1 },
}

test.each(rows, function(row)
  local hub = hub_of(row.settings)
  hub:request("a", { seconds = row.seconds })
  hub:advance("1m")
  test.equal(#hub.logged, row.lines)
end)
