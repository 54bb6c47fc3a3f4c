local function config(most)
  local models = {}
  for _, name in ipairs({ "a", "b", "c" }) do
    table.insert(models, { name = name, model_path = "org/" .. name, group = "g", jit_enabled = true, default = true })
  end
  return { groups = { { name = "g", max_loaded = most } }, models = models }
end

local function hub_of(most, settings)
  return test.hub({ config = config(most), policies = { "lru_swap" }, policy = { lru_swap = settings } })
end

-- A request that takes a second, and its model in memory afterwards.
local function use(hub, model)
  hub:request(model, { seconds = 1 })
  hub:settle()
  hub:advance("1s")
end

test.case("the longest idle member makes room", function()
  local hub = hub_of(2)
  use(hub, "a")
  use(hub, "b")
  hub:advance("1m")
  use(hub, "a")
  local request = hub:request("c")
  test.equal(hub.models.b.memory_state, "unloading")
  hub:settle()
  test.equal(request.state, "running")
  test.equal(hub.groups.g.loaded, { "a", "c" })
end)

test.case("a free place needs no swap", function()
  local hub = hub_of(2)
  use(hub, "a")
  use(hub, "b")
  test.equal(hub.groups.g.loaded, { "a", "b" })
end)

test.case("a busy member is left alone until it is idle", function()
  local hub = hub_of(1)
  local first = hub:request("a")
  hub:settle()
  local second = hub:request("b")
  hub:advance("20s")
  test.equal(second.state, "waiting")
  test.equal(hub.models.a.memory_state, "loaded")
  first:finish()
  hub:settle()
  test.equal(second.state, "running")
end)

test.case("requests for the loaded model are batched, with a limit", function()
  local hub = hub_of(1, { batch_seconds = 30 })
  hub:request("a", { seconds = 10 })
  hub:settle()
  local other = hub:request("b")
  -- There is always one in flight.
  for _ = 1, 5 do
    hub:advance("5s")
    test.equal(hub:request("a", { seconds = 10 }).state, "running")
    test.equal(other.state, "waiting")
  end
  hub:advance("6s")
  test.equal(hub.models.a.memory_state, "unloading", "it is drained")
  local late = hub:request("a")
  hub:advance("30s")
  test.equal(other.state, "running")
  test.equal(late.state, "waiting")
end)

test.case("a member is kept for a while after its last request", function()
  local hub = hub_of(1, { idle_seconds = 10 })
  use(hub, "a")
  local request = hub:request("b")
  test.equal(request.state, "waiting")
  test.equal(hub.models.a.memory_state, "loaded")
  hub:advance("31s")
  hub:settle()
  test.equal(request.state, "running")
end)

test.case("nobody waits for ever", function()
  local hub = hub_of(1)
  local first = hub:request("a")
  hub:settle()
  local second = hub:request("b")
  hub:advance("10m")
  test.equal(first.state, "cut", "at drain_timeout")
  test.equal(second.state, "running")
end)

test.case("a wrong setting says what would be right", function()
  test.fails(function() hub_of(1, { batch_seconds = "long" }) end, "`policy: lru_swap.batch_seconds` must be a number")
end)
