local function model(name, kind)
  return { name = name, model_path = "org/" .. name, model_type = kind, group = "g", jit_enabled = true,
    default = true, auto_unload_minutes = 5 }
end

local function hub_of()
  return test.hub({ files = { "keep_embedders.lua" }, config = {
    groups = { { name = "g", max_loaded = 1 } },
    models = { model("chat", "lm"), model("embed", "embeddings") },
  } })
end

test.case("the embedder stays, the other goes", function()
  local hub = hub_of()
  hub:load("chat")
  hub:load("embed")
  hub:settle()
  test.equal(hub.groups.g.loaded, { "chat", "embed" })
  hub:advance("10m")
  test.equal(hub.groups.g.loaded, { "embed" })
end)
