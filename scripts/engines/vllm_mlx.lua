-- vllm-mlx: one language or vision model with continuous batching, loaded before its port opens.
--
-- Its life is tested on a stand-in that does as the source of vllm-mlx's server says
-- (tests/support/engine_programs.py). Release 0.6.0 was started on the CPU with a tiny model: its options, `/health`
-- and names are these, but it did not answer every chat there. For a program of the same kind, such as rapid-mlx, set
-- `worker_command`.

-- In the order of the command line.
local keys = {
  { "continuous_batching", "switch" },
  { "max_num_seqs", "int", min = 1 },
  { "prefill_batch_size", "int", min = 1 },
  { "completion_batch_size", "int", min = 1 },
  { "prefill_step_size", "int", min = 1 },
  { "disable_prefix_cache", "switch" },
  { "cache_memory_mb", "int", min = 1 },
  { "cache_memory_percent", "number" },
  { "kv_cache_quantization", "switch" },
  { "kv_cache_quantization_bits", "int", min = 1 },
  { "use_paged_cache", "switch" },
  { "max_kv_size", "int", min = 1 },
  { "max_tokens", "int", min = 1 },
  { "max_request_tokens", "int", min = 1 },
  { "enable_mtp", "switch" },
  { "enable_auto_tool_choice", "switch" },
  { "tool_call_parser", "text" },
  { "reasoning_parser", "text" },
  { "mllm", "switch" },
  { "trust_remote_code", "switch" },
  { "timeout", "number" },
  { "mcp_config", "path" },
  { "default_temperature", "number" },
  { "default_top_p", "number" },
  { "default_top_k", "int" },
  { "default_min_p", "number" },
  { "default_chat_template_kwargs", "json" },
}

---@type hub.Engine
return {
  program = { "vllm-mlx" },
  install = { "uv tool install vllm-mlx", "pip install vllm-mlx" },
  help = { "serve", "--help" },
  lists = { "--served-model-name", "--port" },
  types = { "lm", "multimodal" },
  speaks = { "chat", "completions", "responses", "messages" },
  keys = keys,

  reserved = {
    ["--served-model-name"] = "remove it: requests use the model's `name`",
    ["--host"] = "host",
    ["--port"] = "port",
    ["--api-key"] = "remove it: only the hub talks to a worker, and checks the keys itself",
    ["--auto-unload-idle-seconds"] = "auto_unload_minutes",
    ["--idle-unload-seconds"] = "auto_unload_minutes",
    ["--lazy-load-model"] = "jit_enabled: true",
    ["--models-config"] = "write its models as entries of `models`",
  },

  command = function(model, cli)
    local argv = {
      "serve", model.path, "--served-model-name", model.name, "--host", model.host, "--port", model.port,
    }
    local warnings = cli.pass(argv, model.options)
    if model.type == "multimodal" and not model.keys.mllm and cli.has("--mllm") then
      argv[#argv + 1] = "--mllm"
    end
    return { argv = argv, warnings = warnings }
  end,

  ready = {
    get = "/health",
    answer = function(answer, model)
      local health = answer.body
      if answer.status ~= 200 then
        return nil
      elseif type(health) ~= "table" or health.model_name ~= model.name then
        return "other"
      -- rapid-mlx warms its model up between the two.
      elseif health.status == "healthy" and health.model_loaded and health.ready ~= false then
        return "loaded"
      end
    end,
  },

  name = function(model)
    return model.name
  end,
}
