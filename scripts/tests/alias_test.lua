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
  { "no mapping", alias = { names = "big" }, text = "alias.names` must be a list or a mapping" },
  { "a typo", alias = { name = {} }, text = "unknown setting `name`, did you mean `names`" },
}

test.each(wrong, function(row)
  test.fails(function() hub_of(row.alias) end, row.text)
end)

test.case("an unknown model is the policy's error", function()
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
