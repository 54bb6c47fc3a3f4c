-- mlx-openai-server: language, vision, image, embedding and audio models of MLX; the engine of a hub.yaml that
-- names none.
--
-- There are two dialects of `mlx-openai-server launch`, told apart by the options that its help lists. One has
-- `--jit`: its process stays up without the model. The other has `--served-model-name`: its process opens its port
-- when the model is loaded. Only what hub.yaml sets and the program lists is passed.

local at_least_0, at_least_1 = { "int" }, { "int", min = 1 }

-- In the order of the command line.
local options = {
  { "context_length", at_least_1 },
  { "max_concurrency", at_least_1 },
  { "queue_timeout", at_least_1 },
  { "queue_size", at_least_0 },
  { "quantize", at_least_1 },
  { "config_name", { "text" } },
  { "lora_paths", { "paths", also = "lora_paths_str" } },
  { "lora_scales", { "numbers", also = "lora_scales_str" } },
  { "disable_auto_resize", { "switch" } },
  { "enable_auto_tool_choice", { "switch" } },
  { "trust_remote_code", { "switch" } },
  { "tool_call_parser", { "text" } },
  { "reasoning_parser", { "text" } },
  { "message_converter", { "text" } },
  { "chat_template_file", { "path" } },
  { "debug", { "switch" } },
  { "decode_concurrency", at_least_1 },
  { "prompt_concurrency", at_least_1 },
  { "disable_batching", { "switch" } },
  { "draft_model_path", { "path_or_id" } },
  { "num_draft_tokens", at_least_0 },
  { "kv_bits", at_least_1 },
  { "kv_group_size", at_least_1 },
  { "quantized_kv_start", at_least_0 },
  { "max_bytes", at_least_0 },
  { "max_tokens", at_least_1 },
  { "prefill_step_size", at_least_1 },
  { "prompt_cache_dir", { "new_path" } },
  { "prompt_cache_size", at_least_0 },
  { "seed", at_least_0 },
  { "temperature", { "number" } },
  { "top_k", at_least_0 },
  { "top_p", { "number" } },
  { "min_p", { "number" } },
  { "presence_penalty", { "number" } },
  { "repetition_penalty", { "number" } },
  { "repetition_context_size", at_least_0 },
  { "xtc_probability", { "number" } },
  { "xtc_threshold", { "number" } },
}

local own_configuration = "the worker's `--config` silently wins over `model_path`: "
  .. "write what that file says as keys of this model"

local keys = {}
for _, option in ipairs(options) do
  local name, kind = option[1], option[2]
  keys[#keys + 1] = { name, kind[1], min = kind.min, also = kind.also }
end
keys[#keys + 1] = { "config", "refused", hint = own_configuration }

-- Image models need a `config_name`; Create-hub chose it for them.
local usual = { ["image-generation"] = "flux-schnell", ["image-edit"] = "flux-kontext-dev" }

local function stays_up(model, cli)
  return model.jit_enabled and cli.has("--jit")
end

---@type hub.Engine
return {
  program = { "mlx-openai-server" },
  install = { "uv tool install --python 3.12 mlx-openai-server", "pip install mlx-openai-server" },
  help = { "launch", "--help" },
  lists = { "--model-path", "--port" },
  keys = keys,

  -- The last of two options wins: with `extra_args: [--port, 9999]` the worker would listen on a port that the hub
  -- does not know.
  reserved = {
    ["--model-path"] = "model_path",
    ["--model-type"] = "model_type",
    ["--host"] = "host",
    ["--port"] = "port",
    ["--log-level"] = "log_level",
    ["--log-file"] = "log_file",
    ["--no-log-file"] = "no_log_file: true",
    ["--jit"] = "jit_enabled: true",
    ["--no-jit"] = "jit_enabled: false",
    ["--auto-unload-minutes"] = "auto_unload_minutes",
    ["--served-model-name"] = "remove it: requests use the model's `name`",
    ["--config"] = own_configuration,
  },

  check = function(model)
    local set, chosen = model.keys.config_name, usual[model.type]
    if set and not chosen then
      local warning = "`config_name` is for image models and means nothing to `model_type: %s`"
      return { warnings = { warning:format(model.type) } }
    elseif chosen and not set then
      local warning = "`model_type: %s` without `config_name` takes `%s`"
      return { set = { config_name = chosen }, warnings = { warning:format(model.type, chosen) } }
    end
  end,

  command = function(model, cli)
    local argv = { "launch" }
    local function pass(flag, value)
      argv[#argv + 1] = flag
      argv[#argv + 1] = value
    end
    pass("--model-path", model.path)
    pass("--model-type", model.type)
    pass("--host", model.host)
    pass("--port", model.port)
    -- The hub writes the log; the worker would write one under its working directory.
    if cli.has("--no-log-file") then
      pass("--no-log-file")
    end
    if cli.has("--log-level") then
      pass("--log-level", model.log_level)
    end
    if cli.has("--served-model-name") then
      pass("--served-model-name", model.name)
    end
    if stays_up(model, cli) then
      pass("--jit")
    end
    return { argv = argv, warnings = cli.pass(argv, model.options) }
  end,

  ready = {
    get = "/health",
    -- It names the model that it serves, by its path or by the name it was given: until then another program may
    -- have its port. A worker that names none is accepted.
    answer = function(answer)
      local health = answer.body
      if answer.status ~= 200 then
        return nil
      elseif type(health) ~= "table" then
        return "other"
      end
      local id = health.model_id
      local is_ours, is_resident = id == nil, false
      for _, word in ipairs(answer.argv) do
        is_ours = is_ours or word == id or word:match("^.-=(.*)$") == id
        is_resident = is_resident or word == "--jit"
      end
      if not is_ours then
        return "other"
      elseif health.model_status ~= "unloaded" then
        return "loaded"
      end
      -- Without `--jit` it is about to have its model.
      return is_resident and "unloaded" or nil
    end,
  },

  name = function(model, cli)
    if cli.has("--served-model-name") then
      return model.name
    elseif not cli.has("--jit") then
      return model.path
    end
  end,

  resident = stays_up,
  -- The one route that loads a worker without a chat.
  load = { get = "/v1/queue/stats" },
}
