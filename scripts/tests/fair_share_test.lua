local function hub_of(settings, own)
  local model = { name = "a", model_path = "org/a", jit_enabled = true, default = true, policy = own }
  return test.hub({
    config = { models = { model } }, policies = { "fair_share" }, policy = { fair_share = settings },
  })
end

-- Who is answered second by second, when each request takes a second.
local function order(hub, requests)
  local turns, seen = {}, {}
  for _ = 1, #requests do
    for place, request in ipairs(requests) do
      if request.state == "running" and not seen[place] then
        seen[place] = true
        table.insert(turns, place)
      end
    end
    hub:advance("1s")
  end
  return turns
end

test.case("one client with many requests does not keep another from its one", function()
  local hub = hub_of({ max_active = 1 })
  hub:load("a")
  hub:settle()
  local requests = {}
  for _ = 1, 5 do
    table.insert(requests, hub:request("a", { client = "10.0.0.1", seconds = 1 }))
  end
  table.insert(requests, hub:request("a", { client = "10.0.0.2", seconds = 1 }))
  test.equal(hub.models.a.parked, 5)
  test.equal(order(hub, requests), { 1, 2, 6, 3, 4, 5 })
end)

test.case("keys tell clients apart, wherever they are", function()
  local hub = hub_of({ max_active = 1 })
  hub:load("a")
  hub:settle()
  local requests = {}
  for place, key in ipairs({ "ann", "ann", "ann", "bob" }) do
    table.insert(requests, hub:request("a", { key = key, client = "10.0.0." .. place, seconds = 1 }))
  end
  test.equal(order(hub, requests), { 1, 2, 4, 3 })
end)

test.case("a header tells clients apart", function()
  local hub = hub_of({ max_active = 1, client_header = "x-user" })
  hub:load("a")
  hub:settle()
  local requests = {}
  for _, user in ipairs({ "ann", "ann", "ann", "bob" }) do
    table.insert(requests, hub:request("a", { headers = { ["X-User"] = user }, seconds = 1 }))
  end
  test.equal(order(hub, requests), { 1, 2, 4, 3 })
end)

test.case("sessions of agents tell clients apart, and addresses where there is none", function()
  local hub = hub_of({ max_active = 1, client_header = "session" })
  hub:load("a")
  hub:settle()
  local requests = {}
  for _, headers in ipairs({
    { ["x-session-affinity"] = "one", ["x-session-id"] = "its own" },
    { ["x-session-affinity"] = "one", ["x-session-id"] = "another" },
    { ["x-session-affinity"] = "one" },
    { ["X-Claude-Code-Session-Id"] = "two" },
    { ["x-session-affinity"] = "" },
  }) do
    table.insert(requests, hub:request("a", { headers = headers, seconds = 1 }))
  end
  test.equal(order(hub, requests), { 1, 2, 4, 5, 3 })
end)

local limits = {
  { "two by default", running = 2 },
  { "as many as are set", settings = { max_active = 3 }, running = 3 },
  { "no limit", settings = { max_active = 0 }, running = 5 },
  { "the model's own", settings = { max_active = 3 }, own = { fair_share = { max_active = 1 } }, running = 1 },
}

test.each(limits, function(row)
  local hub = hub_of(row.settings, row.own)
  local requests = {}
  for _ = 1, 5 do
    table.insert(requests, hub:request("a"))
  end
  hub:settle()
  test.equal(hub.models.a.active, row.running)
  for _ = 1, 5 do
    for _, request in ipairs(requests) do
      if request.state == "running" then
        request:finish()
      end
    end
  end
  for _, request in ipairs(requests) do
    test.equal(request.state, "done")
  end
end)

test.case("a queue that is too slow ends in a 429", function()
  local hub = hub_of({ max_active = 1 })
  hub:request("a")
  local second = hub:request("a")
  hub:advance("5m")
  test.equal(second.status, 429)
  test.ok(second.retry_after)
end)

test.case("a model that is not started is refused at once", function()
  local hub = hub_of({ max_active = 1 })
  hub:stop("a")
  test.equal(hub:request("a").status, 400)
end)
