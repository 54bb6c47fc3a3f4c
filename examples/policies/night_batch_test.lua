local function hub_at(time)
  return test.hub({ files = { "night_batch.lua" }, time = time, config = { models = {
    { name = "a", model_path = "org/a", jit_enabled = true, default = true },
  } } })
end

local batch = { headers = { ["X-Batch"] = "1" } }

local rows = {
  { "by day", time = "2026-03-02 13:30", retry_after = 8.5 * 3600 },
  { "in the morning", time = "2026-03-02 06:00", retry_after = 16 * 3600 },
  { "in the evening", time = "2026-03-02 22:00" },
  { "after midnight", time = "2026-03-02 05:59" },
}

test.each(rows, function(row)
  local hub = hub_at(row.time)
  local request = hub:request("a", batch)
  test.equal(request.retry_after, row.retry_after)
  test.equal(request.status, row.retry_after and 429)
  if row.retry_after then
    hub:advance(row.retry_after)
    test.equal(hub:request("a", batch).state, "waiting", "then it may come")
  end
end)

test.case("everything else runs at any time", function()
  test.equal(hub_at("2026-03-02 13:30"):request("a").state, "waiting")
end)
