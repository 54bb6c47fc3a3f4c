local function hub_of(kind, time)
  local model = { name = "m", model_path = "org/m", model_type = kind, config_name = "flux-dev", default = true }
  model.config_name = kind ~= "lm" and model.config_name or nil
  local hub = test.hub({ files = { "slow_images.lua" }, config = { models = { model } }, time = time })
  hub:settle()
  return hub
end

test.each({
  { "a picture takes its time", kind = "image-generation", state = "running" },
  { "a chat that hangs does not", kind = "lm", state = "cut" },
}, function(row)
  local hub = hub_of(row.kind)
  hub:set_worker("m", { silent = true })
  local request = hub:request("m")
  hub:advance("2h")
  test.equal(request.state, row.state)
end)

test.each({
  { "by day", time = "2026-03-02 12:00", state = "loading" },
  { "at night", time = "2026-03-02 02:00", state = "loaded" },
}, function(row)
  local hub = hub_of("lm", row.time)
  hub:set_worker("m", { load_seconds = 60 })
  for _ = 1, 5 do
    hub:request("m"):finish({ status = 500 })
  end
  hub:advance(10)
  test.equal(hub.models.m.memory_state, row.state)
end)
