local help = "--served-model-name NAME --host HOST --port PORT --continuous-batching --max-tokens N --mllm "
  .. "--tool-call-parser {hermes,qwen}"

local function worker(more)
  local entry = { engine = "vllm_mlx", name = "alpha", model_path = "org/alpha" }
  for key, value in pairs(more or {}) do
    entry[key] = value
  end
  return test.engine({ entry = entry, help = help })
end

test.case("what is set is passed", function()
  local begin = "vllm-mlx serve org/alpha --served-model-name alpha --host 127.0.0.1 --port 47850"
  test.equal(worker({ continuous_batching = true }).command, begin .. " --continuous-batching")
  test.equal(worker({ model_type = "multimodal" }).command, begin .. " --mllm")
  test.equal(worker({ model_type = "multimodal", mllm = true }).command, begin .. " --mllm")
  test.equal(worker().name, "alpha")
end)

test.case("what it lacks is a warning", function()
  test.equal(worker({ timeout = 5 }).warnings, { "`timeout` is ignored, the installed vllm-mlx has no `--timeout`" })
end)

test.case("it is known by its name, and is ready when it is healthy", function()
  local answer = worker().answer
  local health = { status = "healthy", model_loaded = true, model_name = "alpha" }
  test.equal(answer(200, health), "loaded")
  health.ready = false
  test.equal(answer(200, health), nil)
  health.ready = true
  test.equal(answer(200, health), "loaded")
  health.model_loaded = false
  test.equal(answer(200, health), nil)
  health.model_name = "other"
  test.equal(answer(200, health), "other")
  test.equal(answer(404), nil)
end)
