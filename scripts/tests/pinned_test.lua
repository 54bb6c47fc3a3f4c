local function config(pinned)
  local function member(name, settings)
    return { name = name, model_path = "org/" .. name, group = "g", jit_enabled = true, default = true,
      auto_unload_minutes = 10, policy = settings }
  end
  return {
    groups = { { name = "g", max_loaded = 1, idle_unload_trigger_min = 20 } },
    models = { member("a", { pinned = pinned }), member("b") },
  }
end

local idle = {
  { "pinned stays", pinned = true, state = "loaded" },
  { "unpinned goes", pinned = false, state = "unloaded" },
}

test.each(idle, function(row)
  local hub = test.hub({ config = config(row.pinned), policies = { "pinned" } })
  hub:load("a")
  hub:settle()
  hub:advance("2h")
  test.equal(hub.models.a.memory_state, row.state)
end)

test.case("a load that only pinned models stand in the way of is refused", function()
  local hub = test.hub({ config = config(true), policies = { "pinned", "lru_swap" } })
  hub:load("a")
  hub:settle()
  hub:advance("1h")
  local refused = hub:request("b")
  test.equal(refused.status, 429)
  test.equal(refused.code, "group_full")
  test.matches(refused.message, "full of pinned models: `a`")
end)

test.case("unload still does what it says", function()
  local hub = test.hub({ config = config(true), policies = { "pinned" } })
  hub:load("a")
  hub:settle()
  hub:unload("a")
  hub:settle()
  test.equal(hub.models.a.memory_state, "unloaded")
end)

test.case("the default policy makes no room by a pinned model either", function()
  local hub = test.hub({ config = config(true) })
  hub:load("a")
  hub:settle()
  hub:advance("5m")
  test.equal(hub:request("b").status, 429)
end)

test.case("a wrong setting says what would be right", function()
  local hub = test.hub({ config = config("yes"), policies = { "pinned" }, may_fail = true })
  hub:load("a")
  hub:settle()
  hub:advance("2s")
  test.matches(hub.warnings[1], "`policy: pinned` of model `a` must be true or false, it is yes")
end)
