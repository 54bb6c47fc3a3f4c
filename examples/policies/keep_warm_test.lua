-- 2026-03-02 is a Monday, 2026-03-07 a Saturday.
local rows = {
  { "a weekday morning", time = "2026-03-02 08:30", settings = {}, state = "loaded" },
  { "too early", time = "2026-03-02 07:00", settings = {}, state = "unloaded" },
  { "at noon", time = "2026-03-02 12:00", settings = {}, state = "unloaded" },
  { "on Saturday", time = "2026-03-07 08:30", settings = {}, state = "unloaded" },
  { "on Saturday too", time = "2026-03-07 08:30", settings = { weekends = true }, state = "loaded" },
  { "other hours", time = "2026-03-02 20:00", settings = { from = 18, to = 23 }, state = "loaded" },
  { "without a setting", time = "2026-03-02 08:30", state = "unloaded" },
}

test.each(rows, function(row)
  local hub = test.hub({ files = { "keep_warm.lua" }, time = row.time, config = { models = { {
    name = "coder", model_path = "org/coder", jit_enabled = true, default = true, auto_unload_minutes = 5,
    policy = { keep_warm = row.settings and { weekends = row.settings.weekends or false, from = row.settings.from,
      to = row.settings.to } },
  } } } })
  hub:load("coder")
  hub:settle()
  hub:advance("30m")
  test.equal(hub.models.coder.memory_state, row.state)
end)
