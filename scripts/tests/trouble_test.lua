-- The default policy and workers that run and do not serve: who is replaced, and who is only at work.

---@param worker table
---@param more? table # keys of hub.yaml
local function hub_with(worker, more)
  local config = { models = { { name = "a", model_path = "org/a", jit_enabled = true, default = true } } }
  for key, value in pairs(more or {}) do
    config[key] = value
  end
  local hub = test.hub({ config = config, workers = { a = worker } })
  hub:load("a")
  hub:settle()
  return hub
end

local silences = {
  { "dead for less than stall_timeout", worker = {}, after = "4m50s", state = "running" },
  { "dead for longer", worker = {}, after = "5m20s", state = "cut" },
  { "dead, with another stall_timeout", worker = {}, keys = { stall_timeout = 30 }, after = "45s", state = "cut" },
  { "dead, and nobody wants to know", worker = {}, keys = { stall_timeout = 0 }, after = "3h", state = "running" },
  {
    "hardly any CPU, but its memory moves: a long prefill on the GPU",
    worker = { cpu = 0.004, moves = true },
    prompt = 100000,
    after = "30m",
    state = "running",
  },
  { "a first prefill of 30 minutes", worker = { cpu = 1 }, prompt = 20000, after = "30m", state = "running" },
  { "30 minutes, as expected", worker = { cpu = 0.3, expected = "25m" }, after = "30m", state = "running" },
  { "computes for less than ten minutes", worker = { cpu = 1, expected = "10s" }, after = "9m50s", state = "running" },
  { "computes for longer", worker = { cpu = 1, expected = "10s" }, after = "10m20s", state = "cut" },
  { "computes for five times the expected", worker = { cpu = 1, expected = "4m" }, after = "20m20s", state = "cut" },
  { "computes on its first prompt, a short one", worker = { cpu = 1 }, after = "31m", state = "cut" },
  {
    "computes for longer than its settings say",
    worker = { cpu = 1, expected = "10s" },
    keys = { policy = { create_hub = { busy_minutes = 2 } } },
    after = "2m20s",
    state = "cut",
  },
}

test.each(silences, function(row)
  local hub = hub_with(row.worker, row.keys)
  hub:set_worker("a", { silent = true })
  local request = hub:request("a", { prompt = row.prompt })
  hub:advance(row.after)
  test.equal(request.state, row.state)
end)

test.case("clients that give up do not hide a worker that is dead", function()
  local hub = hub_with({ silent = true })
  for _ = 1, 200 do
    local request = hub:request("a")
    hub:advance(2)
    if hub.models.a.memory_state ~= "loaded" then
      return
    end
    request:cancel()
  end
  error("it was never replaced")
end)

test.case("a worker that answers now and then is left alone", function()
  local hub = hub_with({ silent = true })
  local request = hub:request("a")
  for _ = 1, 10 do
    hub:advance("4m")
    hub:request("a"):finish()
  end
  test.equal(request.state, "running")
end)

test.case("what comes while a worker is replaced waits for the next one, which serves", function()
  local hub = hub_with({ silent = true, end_seconds = 5 })
  local hung = hub:request("a")
  hub:advance("4m50s")
  for _ = 1, 30 do
    if hub.models.a.memory_state == "loaded" then
      hub:advance(1)
    end
  end
  test.equal(hub.models.a.memory_state, "unloading")
  local late = hub:request("a")
  hub:set_worker("a", { silent = false })
  hub:settle()
  hub:advance(10)
  test.equal(hung.state, "cut")
  test.equal(late.state, "running")
end)

local errors = {
  { "four", statuses = { 500, 500, 502, 500 }, pause = 1, state = "loaded" },
  { "five within a minute", statuses = { 500, 500, 502, 500, 503 }, pause = 1, gone = true },
  { "five in more than a minute", statuses = { 500, 500, 500, 500, 500 }, pause = 20, state = "loaded" },
  { "five with a success between", statuses = { 500, 500, 200, 500, 500, 500 }, pause = 1, state = "loaded" },
  { "five, when that is nothing", statuses = { 500, 500, 500, 500, 500 }, pause = 1, most = 0, state = "loaded" },
}

test.each(errors, function(row)
  local hub = hub_with({ end_seconds = 60 }, row.most and { policy = { create_hub = { errors = row.most } } })
  for _, status in ipairs(row.statuses) do
    hub:request("a", { seconds = 100 }):finish({ status = status })
    hub:advance(row.pause)
  end
  hub:advance(5)
  test.equal(hub.models.a.memory_state, row.gone and "unloading" or row.state)
end)
