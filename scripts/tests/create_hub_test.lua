-- The default policy in a simulated hub: who is refused, who makes room, who comes back.

---@param more? table # keys besides the models
local function config(more)
  local keys = {
    groups = { { name = "g", max_loaded = 1 } },
    models = {
      { name = "a", model_path = "org/a", group = "g", jit_enabled = true, default = true },
      { name = "b", model_path = "org/b", group = "g", jit_enabled = true, default = true },
      { name = "c", model_path = "org/c" },
    },
  }
  for key, value in pairs(more or {}) do
    keys[key] = value
  end
  return keys
end

test.case("a model that is not started is refused and says how to start it", function()
  local hub = test.hub({ config = config() })
  local request = hub:request("c")
  test.equal(request.status, 400)
  test.matches(request.message, "start%-model c")
  hub:start("c")
  hub:settle()
  test.equal(hub:request("c").state, "running")
end)

test.case("an unknown model is a 404", function()
  local request = test.hub({ config = config() }):request("nosuch")
  test.equal(request.status, 404)
  test.equal(request.code, "model_not_found")
end)

test.case("a full group refuses", function()
  local hub = test.hub({ config = config() })
  hub:request("a")
  hub:settle()
  local refused = hub:request("b")
  test.equal(refused.status, 429)
  test.equal(refused.code, "group_full")
  local message = "Group `g` holds at most 1 loaded model and already has `a`. "
    .. "Unload it first, or use the policy `lru_swap`."
  test.equal(refused.message, message)
end)

test.case("a load waits for a member that is leaving memory, a second one finds the group full", function()
  local models = config().models
  models[3] = { name = "c", model_path = "org/c", group = "g", jit_enabled = true, default = true }
  local hub = test.hub({ config = config({ models = models }) })
  local running = hub:request("a")
  hub:settle()
  hub:unload("a")
  test.equal(hub.models.a.memory_state, "unloading")
  local request = hub:request("b")
  test.equal(request.state, "waiting")
  test.equal(hub:request("c").status, 429)
  test.equal(running.state, "running")
  hub:advance("2s")
  test.equal(request.state, "waiting", "the memory is still in use")
  running:finish()
  hub:settle()
  test.equal(request.state, "running")
  test.equal(hub.groups.g.loaded, { "b" })
end)

test.case("a member that is idle for the group's limit makes room", function()
  local groups = { { name = "g", max_loaded = 1, idle_unload_trigger_min = 10 } }
  local hub = test.hub({ config = config({ groups = groups }) })
  hub:request("a", { seconds = 30.5 })
  hub:settle()
  hub:advance("30.5s")
  hub:advance("9m59s")
  test.equal(hub:request("b").status, 429)
  -- Just before the idle timer looks.
  hub:advance("1.2s")
  local request = hub:request("b")
  hub:settle()
  test.equal(request.state, "running")
  test.equal(hub.groups.g.loaded, { "b" })
end)

local limits = {
  { "never by default", model = {}, idle = "3h", state = "loaded" },
  { "not before its limit", model = { auto_unload_minutes = 30 }, idle = "29m", state = "loaded" },
  { "after its limit", model = { auto_unload_minutes = 30 }, idle = "31m", state = "unloaded" },
}

test.each(limits, function(row)
  local model = { name = "a", model_path = "org/a", jit_enabled = true, default = true }
  for key, value in pairs(row.model) do
    model[key] = value
  end
  local hub = test.hub({ config = { models = { model } } })
  hub:load("a")
  hub:settle()
  hub:advance(row.idle)
  test.equal(hub.models.a.memory_state, row.state)
end)

local wishes = {
  { "a client's wish is granted", wish = 300, idle = "6m", state = "unloaded" },
  { "and not before", wish = 300, idle = "4m", state = "loaded" },
  { "0 is at once", wish = 0, idle = "6s", state = "unloaded" },
  { "a limit of its own outlasts no wish", own = 30, wish = 3600, idle = "31m", state = "unloaded" },
  { "nor one for ever", own = 30, wish = -1, idle = "31m", state = "unloaded" },
  { "a shorter wish counts before it", own = 30, wish = 60, idle = "2m", state = "unloaded" },
  { "a model that its first request does not load stays", jit = false, wish = 60, idle = "2m", state = "loaded" },
}

test.each(wishes, function(row)
  local jit = row.jit ~= false
  local model = { name = "a", model_path = "org/a", jit_enabled = jit, default = true, auto_unload_minutes = row.own }
  local hub = test.hub({ config = { models = { model } } })
  hub:request("a", { keep_alive = row.wish, seconds = 1 })
  hub:settle()
  hub:advance("2s")
  hub:advance(row.idle)
  test.equal(hub.models.a.memory_state, row.state)
end)

test.case("a wish is about the time in memory in which it was said", function()
  local model = { name = "a", model_path = "org/a", jit_enabled = true, default = true }
  local hub = test.hub({ config = { models = { model } } })
  hub:request("a", { keep_alive = 60, seconds = 1 })
  hub:settle()
  test.equal(hub.models.a.keep_alive, 60)
  hub:request("a", { seconds = 1 })
  test.equal(hub.models.a.keep_alive, 60, "the last wish counts")
  hub:advance("5m")
  test.equal(hub.models.a.memory_state, "unloaded")
  hub:request("a", { seconds = 1 })
  hub:settle()
  test.equal(hub.models.a.keep_alive, nil)
  hub:advance("3h")
  test.equal(hub.models.a.memory_state, "loaded")
end)

test.case("a crashed worker comes back ever more slowly", function()
  local hub = test.hub({ config = config() })
  hub:start("c")
  hub:settle()
  for _, wait in ipairs({ 1, 2, 4, 8 }) do
    hub:crash("c", -9)
    hub:advance(wait - 0.5)
    test.equal(hub.models.c.process_state, "failed")
    hub:advance(0.5)
    test.equal(hub.models.c.process_state, "starting")
    hub:settle()
  end
end)

test.case("a worker that never was ready is left until somebody asks", function()
  local hub = test.hub({ config = config(), workers = { c = { fails = "no such file" } } })
  hub:start("c")
  hub:advance("1h")
  test.equal(hub.models.c.process_state, "failed")
  hub:set_worker("c", { fails = false })
  local request = hub:request("c")
  hub:settle()
  test.equal(request.state, "running")
end)
