-- Cases that pass, and cases that fail in every way there is.

test.case("the second model takes the place of the first", function()
  local hub = test.hub()
  hub:request("a", { seconds = 2 })
  hub:settle()
  hub:advance("2s")
  local request = hub:request("b")
  test.equal(request.state, "waiting")
  hub:settle()
  test.equal(request.state, "running")
  test.equal(hub.groups.g.loaded, { "b" })
  test.equal(hub.logged[2], { level = "info", text = "asked for\tb", policy = "turns.lua:13" })
end)

test.case("a wrong expectation", function()
  local hub = test.hub()
  hub:request("a")
  test.equal(hub.models.a.memory_state, "loaded", "right after the request")
end)

test.case("tables that differ", function()
  test.equal({ 1, { b = 2 } }, { 1, { b = 3 } })
end)

test.case("a text that is not like it should be", function()
  local refused = test.hub({ files = {} }):request("nosuch")
  test.matches(refused.message, "not started")
end)

test.case("no truth", function()
  print("before", 1)
  test.ok(test.hub().models.a.active > 0)
end)

test.case("no error where one was expected", function()
  test.fails(function() return 1 end)
end)

test.case("another error than expected", function()
  test.fails(function() test.hub().models.c.name = 1 end, "read-only")
end)

test.case("a policy that fails", function()
  test.hub():request("a", { headers = { ["x-fail"] = "1" } })
end)

test.case("a policy that may fail", function()
  local hub = test.hub({ may_fail = true })
  hub:request("a", { headers = { ["x-fail"] = "1" } })
  test.matches(hub.warnings[1], "turns.lua:11")
end)

test.case("an error of Lua", function()
  local request = test.hub():request("a")
  return request.model.nothing.field
end)

test.case("a typo", function()
  return test.hub().model
end)

test.case("a typo in an option", function()
  test.hub():request("a", { clients = "10.0.0.1" })
end)

test.case("a wrong configuration", function()
  test.hub({ config = "models: [{name: a, model_path: org/a, jit_enable: true}]" })
end)

test.case("an unknown bundled policy", function()
  test.hub({ policies = { "nosuch" } })
end)

test.case("a file that is not there", function()
  test.hub({ files = { "nosuch.lua" } })
end)

test.case("a finish that comes too early", function()
  test.hub():request("a"):finish()
end)
