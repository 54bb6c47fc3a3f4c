local function hub_at(time, settings)
  return test.hub({ files = { "quiet_hours.lua" }, time = time, config = {
    policy = { quiet_hours = settings or { model = "small" } },
    models = {
      { name = "big", model_path = "org/big", jit_enabled = true, default = true },
      { name = "small", model_path = "org/small", jit_enabled = true, default = true },
      { name = "embed", model_path = "org/embed", model_type = "embeddings", jit_enabled = true, default = true },
    },
  } })
end

local rows = {
  { "by day", time = "2026-03-02 12:00", to = "big", model = "big" },
  { "at night", time = "2026-03-02 23:00", to = "big", model = "small" },
  { "after midnight", time = "2026-03-02 06:59", to = "big", model = "small" },
  { "in the morning", time = "2026-03-02 07:00", to = "big", model = "big" },
  { "the quiet one itself", time = "2026-03-02 23:00", to = "small", model = "small" },
  { "no chat model", time = "2026-03-02 23:00", to = "embed", model = "embed" },
  { "other hours", time = "2026-03-02 12:00", settings = { model = "small", from = 12, to = 14 }, to = "big",
    model = "small" },
}

test.each(rows, function(row)
  test.equal(hub_at(row.time, row.settings):request(row.to).model, row.model)
end)

test.case("what is loaded goes on at night", function()
  local hub = hub_at("2026-03-02 21:59")
  hub:load("big")
  hub:advance("2m")
  test.equal(hub:request("big").model, "big")
end)
