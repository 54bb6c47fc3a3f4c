local jit = [[
  --model-path TEXT  [required]
  --port INTEGER
  --jit / --no-jit  Load
  --no-log-file
  --log-level [DEBUG|INFO]
  --max-concurrency INTEGER
]]
local current = "--model-path TEXT --port INTEGER --served-model-name TEXT --no-log-file --debug"

local function entry(more)
  local fields = { name = "alpha", model_path = "org/alpha" }
  for key, value in pairs(more or {}) do
    fields[key] = value
  end
  return fields
end

test.each({
  {
    "one with --jit stays up without its model",
    help = jit,
    entry = { jit_enabled = true, max_concurrency = 4 },
    command = "mlx-openai-server launch --model-path org/alpha --model-type lm --host 127.0.0.1 --port 47850 "
      .. "--no-log-file --log-level INFO --jit --max-concurrency 4",
    resident = true,
  },
  {
    "one without it answers to the name it was given",
    help = current,
    entry = { jit_enabled = true, debug = true },
    command = "mlx-openai-server launch --model-path org/alpha --model-type lm --host 127.0.0.1 --port 47850 "
      .. "--no-log-file --served-model-name alpha --debug",
    name = "alpha",
    resident = false,
  },
  {
    "an older one answers to the path",
    help = "--model-path --port",
    entry = {},
    command = "mlx-openai-server launch --model-path org/alpha --model-type lm --host 127.0.0.1 --port 47850",
    name = "org/alpha",
    resident = false,
  },
}, function(row)
  local worker = test.engine({ entry = entry(row.entry), help = row.help })
  test.equal(worker.command, row.command)
  test.equal(worker.name, row.name)
  test.equal(worker.resident, row.resident)
  test.equal(worker.warnings, {})
end)

test.case("what the program does not list is a warning", function()
  local worker = test.engine({ entry = entry({ debug = true }), help = jit })
  test.equal(worker.warnings, { "`debug` is ignored, the installed mlx-openai-server has no `--debug`" })
end)

test.case("image models have a config_name", function()
  local image = test.engine({
    entry = entry({ model_type = "image-edit" }),
    help = "--model-path --port --config-name",
  })
  test.matches(image.command, "%-%-config%-name flux%-kontext%-dev$")
  test.matches(image.config_warnings[1], "without `config_name` takes `flux%-kontext%-dev`$")
  local text = test.engine({ entry = entry({ config_name = "x" }) })
  test.matches(text.config_warnings[1], "means nothing to `model_type: lm`$")
end)

test.case("it is known by any name that it was given", function()
  local worker = test.engine({ entry = entry(), help = current })
  test.equal(worker.answer(200, { model_id = "org/alpha" }), "loaded")
  test.equal(worker.answer(200, { model_id = "alpha" }), "loaded")
  test.equal(worker.answer(200, { status = "ok" }), "loaded")
  test.equal(worker.answer(200, { model_id = "org/alpha", model_status = "unloaded" }), nil, "it loads")
  for _, other in ipairs({ '{"model_id": ""}', '{"model_id": "other"}', '{"model_id": null}', '"ok"', "[]", "ok" }) do
    test.equal(worker.answer(200, other), "other", other)
  end
  test.equal(worker.answer(503, { model_id = "alpha" }), nil)
end)

test.case("one that stays up may be without its model", function()
  local worker = test.engine({ entry = entry({ jit_enabled = true }), help = jit })
  test.equal(worker.answer(200, { model_id = "org/alpha", model_status = "unloaded" }), "unloaded")
  test.equal(worker.answer(200, { model_id = "org/alpha", model_status = "initialized" }), "loaded")
end)

test.case("extra_args may name it too", function()
  local worker = test.engine({ entry = entry({ extra_args = { "--name=c" } }), help = current })
  test.equal(worker.answer(200, { model_id = "c" }), "loaded")
end)
