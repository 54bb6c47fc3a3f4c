local function config(alias)
  local models = {}
  for _, name in ipairs({ "big", "small", "tiny" }) do
    table.insert(models, {
      name = name, model_path = "org/" .. name, jit_enabled = true, default = name ~= "tiny",
    })
  end
  return { models = models, policy = { alias = alias } }
end

local function hub_of(alias, more)
  local fields = { config = config(alias), policies = { "alias" } }
  for key, value in pairs(more or {}) do
    fields[key] = value
  end
  return test.hub(fields)
end

local names = { best = { "big", "small" }, cheap = "small", big = { "big", "small" } }

local routed = {
  { "the first of a list", to = "best", model = "big" },
  { "one name for one model", to = "cheap", model = "small" },
  { "a model with a fallback", to = "big", model = "big" },
  { "any other name", to = "small", model = "small" },
}

test.each(routed, function(row)
  local request = hub_of({ names = names }):request(row.to)
  test.equal(request.model, row.model)
end)

test.case("a model that failed is passed over until it may be tried again", function()
  local hub = hub_of({ names = names }, { workers = { big = { fails = "no such file" } } })
  local first = hub:request("best")
  hub:advance("5s")
  test.equal(first.status, 503, "the one that finds out")
  test.ok(hub.state.alias.big, "kept over a reload")
  test.equal(hub:request("best").model, "small")
  hub:set_worker("big", { fails = false })
  hub:advance("61s")
  test.equal(hub:request("best").model, "big")
end)

test.case("a crashed model is passed over until it is loaded again", function()
  local hub = hub_of({ names = names })
  hub:load("big")
  hub:settle()
  hub:crash("big", -9)
  test.equal(hub:request("best").model, "small")
  hub:load("big")
  hub:settle()
  test.equal(hub:request("best").model, "big")
end)

test.case("a stopped model is passed over, and with none left it is a 503", function()
  local hub = hub_of({ names = names })
  hub:stop("big")
  test.equal(hub:request("best").model, "small")
  hub:stop("small")
  local refused = hub:request("best")
  test.equal(refused.status, 503)
  test.matches(refused.message, "big, small")
end)

test.case("a model that takes too long to load gives way to one that is loaded", function()
  local hub = hub_of({ names = names, load_seconds = 10 }, { workers = { big = { load_seconds = 60 } } })
  hub:load("big")
  hub:settle()
  hub:unload("big")
  hub:settle()
  test.equal(hub:request("best").model, "big", "nothing else is loaded")
  hub:settle()
  hub:unload("big")
  hub:load("small")
  hub:settle()
  test.equal(hub:request("best").model, "small")
end)

local wrong = {
  { "no models", alias = { names = { best = {} } }, text = "alias.names.best` must be a model or a list" },
  { "a list without models", alias = { default = {} }, text = "alias.default` must be a model or a list" },
  { "a default that is no model", alias = { default = true }, text = "alias.default` must be" },
  { "no mapping", alias = { names = "big" }, text = "alias.names` must be a list or a mapping" },
  { "a typo", alias = { name = {} }, text = "unknown setting `name`, did you mean `names`" },
}

test.each(wrong, function(row)
  test.fails(function() hub_of(row.alias) end, row.text)
end)

test.case("an unknown model is the policy's error", function()
  local default = hub_of({ default = "nosuch" }, { may_fail = true })
  default:request(nil)
  test.matches(default.warnings[1], "alias.default` names `nosuch`, which is no model")
  local hub = hub_of({ names = { best = { "nosuch" } } }, { may_fail = true })
  hub:request("best")
  test.matches(hub.warnings[1], "names `nosuch`, which is no model")
end)

local wild = { ["claude-*haiku*"] = "small", ["claude-*"] = "big", ["gpt-*"] = { "small" }, ["*"] = "tiny" }

local matched = {
  { "the longer of two patterns", to = "claude-3-5-haiku-latest", model = "small" },
  { "the shorter where only that fits", to = "claude-opus-4-8", model = "big" },
  { "a list", to = "gpt-4.1", model = "small" },
  { "a dot is a dot", to = "gpt", model = "tiny" },
  { "a model is no alias", to = "small", model = "small" },
}

test.each(matched, function(row)
  local hub = hub_of({ names = wild })
  hub:start("tiny")
  local request = hub:request(row.to)
  test.equal(request.model, row.model)
end)

test.case("a whole name comes before a pattern, however long that is", function()
  local hub = hub_of({ names = { ["gpt-4"] = "big", ["gpt-4*"] = "small", ["*"] = "small" } })
  test.equal(hub:request("gpt-4").model, "big")
  test.equal(hub:request("gpt-4o").model, "small")
end)

test.case("default is for what names no model, or none that there is", function()
  local hub = hub_of({ names = wild, default = { "tiny", "big" } })
  test.equal(hub:request(nil).model, "big", "tiny is not started")
  test.equal(hub:request(nil).body.model, "big")
  hub:start("tiny")
  test.equal(hub:request("").model, "tiny", "a blank name is none")
  test.equal(hub:request("gpt-4.1").model, "small", "a pattern comes before it")
  test.equal(hub:request("big").model, "big", "a model is no unknown name")
  local without = hub_of({ names = { best = "big" }, default = "small" })
  test.equal(without:request("nosuch").model, "small")
end)

test.case("a mistyped name is refused with the nearest one", function()
  local refused = hub_of({ names = names }):request("chep")
  test.equal(refused.status, 404)
  test.matches(refused.message, "Did you mean `cheap`")
end)

test.case("without it they are refused as ever", function()
  local hub = hub_of({ names = { best = "big" } })
  local nameless, unknown = hub:request(nil), hub:request("nosuch")
  test.equal(nameless.status, 400)
  test.matches(nameless.message, "Model selection is required")
  test.equal(unknown.code, "model_not_found")
end)

test.case("what names no model and finds none is told so", function()
  local hub = hub_of({ default = "big" })
  hub:stop("big")
  test.matches(hub:request(nil).message, "None of the models of requests that name no model")
end)
