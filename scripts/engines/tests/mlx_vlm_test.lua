local help = "--host --port --trust-remote-code --model MODEL --adapter-path --max-tokens N "
  .. "--log-level {DEBUG,INFO} --kv-bits KV_BITS"

local function worker(more)
  local entry = { engine = "mlx_vlm", name = "alpha", model_path = "org/alpha", model_type = "multimodal" }
  for key, value in pairs(more or {}) do
    entry[key] = value
  end
  return test.engine({ entry = entry, help = help })
end

test.case("what is set is passed", function()
  local made = worker({ max_tokens = 9, kv_bits = 3.5, draft_kind = "x" })
  test.equal(
    made.command,
    "mlx_vlm.server --model org/alpha --host 127.0.0.1 --port 47850 --log-level INFO --max-tokens 9 --kv-bits 3.5"
  )
  test.equal(made.warnings, { "`draft_kind` is ignored, the installed mlx_vlm.server has no `--draft-kind`" })
  test.equal(made.name, "org/alpha", "it would load whatever a request names")
end)

test.case("it is known by its model", function()
  local answer = worker().answer
  test.equal(answer(200, { status = "healthy", loaded_model = "org/alpha" }), "loaded")
  test.equal(answer(200, { status = "healthy", loaded_model = "org/b" }), "other")
  test.equal(answer(503), nil)
end)

test.case("other types of models are refused", function()
  test.fails(function()
    worker({ model_type = "whisper" })
  end, "engine `mlx_vlm` cannot serve `model_type: whisper`, only multimodal, lm")
end)
