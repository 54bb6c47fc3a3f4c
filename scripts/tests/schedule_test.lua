local function config(schedule)
  return { models = { {
    name = "a", model_path = "org/a", jit_enabled = true, default = true, policy = { schedule = schedule },
  } } }
end

local function at(time, schedule, may_fail)
  return test.hub({ config = config(schedule), policies = { "schedule" }, time = time, may_fail = may_fail })
end

local weekdays = { days = { "mon", "tue", "wed", "thu", "fri" }, hours = "08:00-18:00" }
local night = { days = { "fri" }, hours = "22:00-06:00" }

-- 2026-03-02 is a Monday.
local rows = {
  { "within the hours", time = "2026-03-02 08:00", schedule = weekdays },
  { "the last minute", time = "2026-03-02 17:59", schedule = weekdays },
  { "the end is outside", time = "2026-03-02 18:00", schedule = weekdays, until_open = 14 * 60 },
  { "before the hours", time = "2026-03-02 07:30", schedule = weekdays, until_open = 30 },
  { "over the weekend", time = "2026-03-06 18:00", schedule = weekdays, until_open = 62 * 60 },
  { "on Sunday", time = "2026-03-08 12:00", schedule = weekdays, until_open = 20 * 60 },
  { "the evening of a night", time = "2026-03-06 22:00", schedule = night },
  { "after midnight", time = "2026-03-07 05:59", schedule = night },
  { "the morning after", time = "2026-03-07 06:00", schedule = night, until_open = 6 * 1440 + 16 * 60 },
  { "the night before is another day's", time = "2026-03-06 05:00", schedule = night, until_open = 17 * 60 },
  { "only days", time = "2026-03-07 00:00", schedule = { days = { "sat" } } },
  { "no schedule", time = "2026-03-07 03:00" },
}

test.each(rows, function(row)
  local hub = at(row.time, row.schedule)
  local request = hub:request("a")
  if row.until_open then
    test.equal(request.status, 429)
    test.equal(request.retry_after, row.until_open * 60)
    hub:advance(row.until_open * 60)
    request = hub:request("a")
  end
  hub:settle()
  test.equal(request.state, "running")
end)

test.case("a loaded model is unloaded at the end, after its requests", function()
  local hub = at("2026-03-02 17:58", weekdays)
  local request = hub:request("a")
  hub:advance_to("18:30")
  test.equal(hub.models.a.memory_state, "loaded")
  request:finish()
  hub:advance("3s")
  test.equal(hub.models.a.memory_state, "unloaded")
  test.equal(hub.models.a.process_state, "running")
end)

test.case("with `stop` it is stopped", function()
  local hub = at("2026-03-02 17:58", { hours = "08:00-18:00", stop = true })
  hub:load("a")
  hub:advance_to("18:01")
  test.equal(hub.models.a.process_state, "stopped")
end)

local wrong = {
  { "hours", schedule = { hours = "8-18" }, text = 'must be like "08:00%-18:00", it is "8%-18"' },
  { "days", schedule = { days = { "monday" } }, text = "`monday` is none" },
  { "keys", schedule = { day = "mon" }, text = "unknown setting `day`, did you mean `days`" },
}

test.each(wrong, function(row)
  local hub = at("2026-03-02 12:00", row.schedule, true)
  hub:request("a")
  test.matches(hub.warnings[1], row.text)
end)
