local function config(more)
  local models = {}
  for _, name in ipairs({ "a", "b", "c", "d" }) do
    table.insert(models, {
      name = name, model_path = "org/" .. name, jit_enabled = true, default = true, policy = (more or {})[name],
    })
  end
  return { models = models }
end

local function worker(gb, load_seconds)
  return { memory = gb .. "GB", peak = gb .. "GB", load_seconds = load_seconds }
end

local function hub_of(workers, fields)
  local all = {
    config = config(), policies = { "memory_fit" }, workers = workers, memory = { total = "64GB" },
  }
  for key, value in pairs(fields or {}) do
    all[key] = value
  end
  return test.hub(all)
end

local function use(hub, model)
  hub:request(model, { seconds = 1 })
  hub:settle()
  hub:advance("1s")
end

local function loaded(hub)
  local names = {}
  for name, model in pairs(hub.models) do
    if model.memory_state == "loaded" then
      table.insert(names, name)
    end
  end
  return table.concat(names, " ")
end

test.case("what fits is loaded beside the others", function()
  local hub = hub_of({ a = worker(20), b = worker(20), c = worker(20) })
  use(hub, "a")
  use(hub, "b")
  use(hub, "c")
  test.equal(loaded(hub), "a b c")
end)

test.case("spare processes are no reason to unload anything", function()
  local hub = hub_of({ a = worker(30), b = worker(30) }, { memory = { total = "65GB", spares = "2GB" } })
  use(hub, "a")
  use(hub, "b")
  test.equal(loaded(hub), "a b")
end)

test.case("what does not fit takes the place of the cheapest", function()
  local hub = hub_of({ a = worker(20, 60), b = worker(20, 5), c = worker(20, 30), d = worker(20) })
  use(hub, "a")
  use(hub, "b")
  use(hub, "c")
  use(hub, "d")
  test.equal(loaded(hub), "a c d")
end)

test.case("a model that nobody asked for in a long time is cheap", function()
  local hub = hub_of({ a = worker(20, 60), b = worker(20, 5), c = worker(20, 30), d = worker(20) })
  use(hub, "a")
  hub:advance("2h")
  use(hub, "b")
  use(hub, "c")
  use(hub, "d")
  test.equal(loaded(hub), "b c d")
end)

test.case("as many go as are needed", function()
  local hub = hub_of({ a = worker(20, 5), b = worker(20, 6), c = worker(20, 7), d = worker(35) })
  use(hub, "a")
  use(hub, "b")
  use(hub, "c")
  use(hub, "d")
  test.equal(loaded(hub), "c d")
end)

test.case("a model that is being loaded counts with all that it will take", function()
  local hub = hub_of({ a = worker(40, 60), b = worker(40) })
  hub:request("a", { seconds = 1 })
  local second = hub:request("b")
  hub:advance("30s")
  test.equal(second.state, "waiting")
  hub:settle()
  hub:advance("2m")
  test.equal(second.state, "running")
  test.equal(loaded(hub), "b")
end)

test.case("a busy model is drained only when the load has waited", function()
  local hub = hub_of({ a = worker(40), b = worker(40) })
  local first = hub:request("a")
  hub:settle()
  local second = hub:request("b")
  hub:advance("25s")
  test.equal(hub.models.a.memory_state, "loaded")
  hub:advance("10s")
  test.equal(hub.models.a.memory_state, "unloading")
  first:finish()
  hub:settle()
  test.equal(second.state, "running")
end)

local rows = {
  { "more than there is", worker = worker(70), status = 429 },
  { "the reserve stays free", worker = worker(61), status = 429 },
  { "just below it", worker = worker(60), state = "running" },
}

test.each(rows, function(row)
  local hub = hub_of({ a = row.worker })
  local request = hub:request("a")
  hub:settle()
  test.equal(request.status, row.status)
  test.equal(request.code, row.status and "group_full")
  test.equal(request.state, row.state or "rejected")
end)

local estimates = {
  { "by default", settings = nil, model = nil, fits = true },
  { "for all", settings = { estimate_gb = 70 }, fits = false },
  { "for one", model = { memory_fit = { gb = 70 } }, fits = false },
  { "one before all", settings = { estimate_gb = 70 }, model = { memory_fit = { gb = 10 } }, fits = true },
}

test.each(estimates, function(row)
  local hub = hub_of({}, { config = config({ a = row.model }), policy = { memory_fit = row.settings } })
  local request = hub:request("a")
  hub:settle()
  test.equal(request.state, row.fits and "running" or "rejected")
end)

test.case("memory that is on its way back is waited for", function()
  local slow = worker(40)
  slow.free_seconds = 3
  local hub = hub_of({ a = slow, b = worker(40) })
  use(hub, "a")
  hub:unload("a")
  hub:settle()
  test.equal(hub.memory.returning, 40000000000)
  local request = hub:request("b")
  test.equal(request.state, "waiting")
  test.equal(hub.models.b.memory_state, "unloaded")
  hub:advance("3s")
  test.equal(hub.memory.returning, 0)
  test.equal(hub.models.b.memory_state, "loading")
  hub:settle()
  test.equal(request.state, "running")
end)

test.case("pinned models stay", function()
  local hub = hub_of({ a = worker(40), b = worker(40) }, { config = config({ a = { pinned = true } }) })
  use(hub, "a")
  test.equal(hub:request("b").status, 429)
end)

test.case("under critical pressure room is made first", function()
  local hub = hub_of({ a = worker(10), b = worker(10) })
  use(hub, "a")
  hub:set_memory({ pressure = "critical" })
  hub:request("b")
  test.equal(hub.models.a.memory_state, "unloading")
end)

test.case("the cap of a group holds as well", function()
  local grouped = config()
  grouped.groups = { { name = "g", max_loaded = 1 } }
  grouped.models[1].group, grouped.models[4].group = "g", "g"
  local workers = { a = worker(20, 60), b = worker(20, 5), c = worker(20, 6), d = worker(20) }
  local hub = hub_of(workers, { config = grouped })
  use(hub, "a")
  use(hub, "b")
  use(hub, "c")
  use(hub, "d")
  test.equal(loaded(hub), "b c d")
end)

local unread = {
  { "two that fit", unread = "available", peak = "20GB", state = "running", held = { "a", "b" } },
  { "one goes for the other", unread = "available", peak = "40GB", state = "running", held = { "b" } },
  { "nothing is known: one at a time", unread = "all", peak = "1GB", state = "running", held = { "b" } },
}

test.each(unread, function(row)
  local models = {}
  for i, name in ipairs({ "a", "b" }) do
    models[i] = { name = name, model_path = "org/" .. name, jit_enabled = true, default = true }
  end
  local known = { peak = row.peak }
  local hub = test.hub({
    config = { models = models },
    policies = { "memory_fit" },
    workers = { a = known, b = known },
    memory = { total = "64GB", unread = row.unread },
  })
  hub:load("a")
  hub:settle()
  local request = hub:request("b")
  hub:settle()
  hub:advance(10)
  hub:settle()
  test.equal(request.state, row.state)
  local held = {}
  for name, model in pairs(hub.models) do
    table.insert(held, model.memory_state == "loaded" and name or nil)
  end
  test.equal(held, row.held)
end)
