local function hub_of(text)
  return test.hub({ files = { "maintenance.lua" }, policy = { maintenance = text }, config = {
    models = { { name = "a", model_path = "org/a", jit_enabled = true, default = true } },
  } })
end

local rows = {
  { "everybody is told", text = "Back at noon.", client = "10.0.0.1", status = 503 },
  { "but who sits at the machine", text = "Back at noon.", client = "::1" },
  { "and nobody afterwards", client = "10.0.0.1" },
}

test.each(rows, function(row)
  local request = hub_of(row.text):request("a", { client = row.client })
  test.equal(request.status, row.status)
  test.equal(request.message, row.status and row.text)
end)
