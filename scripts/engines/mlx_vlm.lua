-- mlx_vlm.server of mlx-vlm: one language or vision model, loaded before its port opens.
--
-- It loads whatever a request names as its `model` or `adapter_path`: it only ever sees its own path, and requests
-- with the other are refused.
--
-- Its life is tested on release 0.7.10 with a tiny language model on the CPU (tests/real_worker/mlx_vlm.rs), and on a
-- stand-in that does as its source says (tests/support/engine_programs.py).

-- In the order of the command line.
local keys = {
  { "adapter_path", "path_or_id" },
  { "draft_model", "path_or_id" },
  { "draft_kind", "text" },
  { "draft_block_size", "int", min = 1 },
  { "trust_remote_code", "switch" },
  { "vision_cache_size", "int" },
  { "prefill_step_size", "int", min = 1 },
  { "max_tokens", "int", min = 1 },
  { "enable_thinking", "switch" },
  { "thinking_budget", "int" },
  { "thinking_start_token", "text" },
  { "thinking_end_token", "text" },
  { "kv_bits", "number" },
  { "kv_quant_scheme", "text" },
  { "kv_group_size", "int", min = 1 },
  { "max_kv_size", "int", min = 1 },
  { "quantized_kv_start", "int" },
  { "max_num_seqs", "int", min = 1 },
  { "top_logprobs_k", "int" },
}

---@type hub.Engine
return {
  program = { "mlx_vlm.server" },
  install = { "uv tool install mlx-vlm", "pip install mlx-vlm" },
  help = { "--help" },
  lists = { "--model", "--port" },
  types = { "multimodal", "lm" },
  -- Its own description leaves out the routes below /v1.
  speaks = { "chat", "responses", "messages" },
  refuses = { "adapter_path" },
  keys = keys,

  reserved = {
    ["--model"] = "model_path",
    ["--host"] = "host",
    ["--port"] = "port",
    ["--log-level"] = "log_level",
    ["--api-key"] = "remove it: only the hub talks to a worker, and checks the keys itself",
    ["--reload"] = "remove it: it starts a process that the hub does not know",
  },

  command = function(model, cli)
    local argv = { "--model", model.path, "--host", model.host, "--port", model.port }
    if cli.has("--log-level") then
      argv[#argv + 1] = "--log-level"
      argv[#argv + 1] = model.log_level
    end
    return { argv = argv, warnings = cli.pass(argv, model.options) }
  end,

  ready = {
    get = "/health",
    answer = function(answer, model)
      if answer.status == 200 then
        local health = answer.body
        return type(health) == "table" and health.loaded_model == model.path and "loaded" or "other"
      end
    end,
  },

  name = function(model)
    return model.path
  end,
}
