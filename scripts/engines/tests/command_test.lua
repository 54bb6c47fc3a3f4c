local function entry(more)
  local fields = { engine = "command", name = "alpha", model_path = "org/alpha" }
  for key, value in pairs(more) do
    fields[key] = value
  end
  return fields
end

test.case("the words in braces are those of the entry", function()
  local command = "llama-server -m {model_path} --host {host} --port {port} --alias '{name} {other}' --log {log_level}"
  test.fails(function()
    test.engine({ entry = entry({ command = command }) })
  end, "`command` has `{other}`, which stands for nothing")
  local worker = test.engine({ entry = entry({ command = command:gsub(" {other}", " x") }), port = 9000 })
  test.equal(worker.argv, {
    "llama-server", "-m", "org/alpha", "--host", "127.0.0.1", "--port", "9000", "--alias", "alpha x", "--log", "INFO",
  })
  test.equal(worker.ready, "/health")
  test.equal(worker.name, nil)
  test.equal(worker.answer(200, "anything"), "loaded")
  test.equal(worker.answer(503, "loading"), nil)
end)

test.case("a list is taken as it is", function()
  local command = { "a", "{port}", "b c", "'d" }
  local worker = test.engine({ entry = entry({ command = command, ready = "/up", served_name = "x" }) })
  test.equal(worker.argv, { "a", "47850", "b c", "'d" })
  test.equal(worker.ready, "/up")
  test.equal(worker.name, "x")
end)

test.case("extra_args follow, and worker_command replaces the program", function()
  local worker = test.engine({
    entry = entry({ command = "a {port}", worker_command = "b c", extra_args = { "d" } }),
  })
  test.equal(worker.argv, { "b", "c", "47850", "d" })
end)

test.each({
  { "no command", more = {}, text = "`engine: command` needs `command`" },
  { "no port", more = { command = "a -m {model_path}" }, text = "the hub chooses the port" },
  { "an open quote", more = { command = "a 'b {port}" }, text = "a quote that does not end" },
  { "no path", more = { command = "a {port}", ready = "health" }, text = "write it as `ready: /health`" },
}, function(row)
  test.fails(function()
    test.engine({ entry = entry(row.more) })
  end, row.text)
end)
