local function hub_of(settings)
  return test.hub({ files = { "token_budget.lua" }, policy = { token_budget = settings }, config = { models = {
    { name = "a", model_path = "org/a", default = true },
  } } })
end

local function use(hub, client, tokens)
  local request = hub:request("a", { client = client })
  if request.state == "running" then
    request:finish({ prompt_tokens = tokens // 2, completion_tokens = tokens // 2 })
  end
  return request
end

test.case("who has used up the day's tokens is refused until midnight", function()
  local hub = hub_of({ tokens = 1000 })
  hub:settle()
  test.equal(use(hub, "10.0.0.1", 600).state, "done")
  test.equal(hub.state.token_budget.by_client, { ["10.0.0.1"] = 600 })
  test.equal(use(hub, "10.0.0.1", 600).state, "done", "the one that crosses the limit")
  local refused = use(hub, "10.0.0.1", 10)
  test.equal(refused.status, 429)
  test.equal(use(hub, "10.0.0.2", 10).state, "done", "another client")
  hub:advance(refused.retry_after)
  test.equal(use(hub, "10.0.0.1", 10).state, "done", "the next day")
end)

test.case("a client can have a limit of its own", function()
  local hub = hub_of({ tokens = 1000, clients = { ["10.0.0.1"] = 100 } })
  hub:settle()
  use(hub, "10.0.0.1", 100)
  use(hub, "10.0.0.2", 100)
  test.equal(use(hub, "10.0.0.1", 10).status, 429)
  test.equal(use(hub, "10.0.0.2", 10).state, "done")
end)

test.case("a key is one client, from wherever it comes", function()
  local hub = hub_of({ tokens = 1000, clients = { ann = 100 } })
  hub:settle()
  local function use_key(key, client, tokens)
    local request = hub:request("a", { key = key, client = client })
    if request.state == "running" then
      request:finish({ completion_tokens = tokens })
    end
    return request
  end
  use_key("ann", "10.0.0.1", 100)
  test.equal(hub.state.token_budget.by_client, { ann = 100 })
  test.equal(use_key("ann", "10.0.0.2", 1).status, 429)
  test.equal(use_key("bob", "10.0.0.2", 1).state, "done")
end)
