-- llama-server of llama.cpp: one GGUF model, from a file or from a repository of Hugging Face.
--
-- It listens at once, and answers `/health` with 503 until the model is loaded. A `model_path` that is a file is
-- passed as `--model`, and a repository, such as `ggml-org/gemma-3-4b-it-GGUF:Q4_K_M`, as `--hf-repo`. It has
-- embeddings only for `model_type: embeddings`, or, with `reranking: true`, the ranking of documents in their place.
--
-- Written after llama.cpp's source and documentation. Its life is tested on a stand-in that does as the source says
-- (tests/support/engine_programs.py); the program itself was not run.

-- In the order of the command line.
local keys = {
  { "context_length", "int", min = 1 },
  { "n_gpu_layers", "text" },
  { "parallel", "int", min = 1 },
  { "threads", "int", min = 1 },
  { "batch_size", "int", min = 1 },
  { "ubatch_size", "int", min = 1 },
  { "flash_attn", "text" },
  { "cache_type_k", "text" },
  { "cache_type_v", "text" },
  { "mmproj", "path" },
  { "lora", "paths" },
  { "model_draft", "path" },
  { "jinja", "switch" },
  { "chat_template", "text" },
  { "chat_template_file", "path" },
  { "chat_template_kwargs", "json" },
  { "reasoning_format", "text" },
  { "predict", "int", min = 1 },
  { "seed", "int" },
  { "temp", "number" },
  { "top_k", "int" },
  { "top_p", "number" },
  { "min_p", "number" },
  { "presence_penalty", "number" },
  { "repeat_penalty", "number" },
  { "reranking", "switch" },
}

---@type hub.Engine
return {
  program = { "llama-server" },
  install = { "brew install llama.cpp" },
  help = { "--help" },
  lists = { "--model", "--port" },
  types = { "lm", "multimodal", "embeddings" },
  -- The routes of the others answer 501.
  speaks = function(model)
    if model.type ~= "embeddings" then
      return { "chat", "completions", "responses", "messages" }
    end
    return { model.keys.reranking and "rerank" or "embeddings" }
  end,
  keys = keys,

  reserved = {
    ["--model"] = "model_path",
    ["-m"] = "model_path",
    ["--hf-repo"] = "model_path",
    ["-hf"] = "model_path",
    ["-hfr"] = "model_path",
    ["--model-url"] = "model_path",
    ["-mu"] = "model_path",
    ["--host"] = "host",
    ["--port"] = "port",
    ["--alias"] = "remove it: requests use the model's `name`",
    ["-a"] = "remove it: requests use the model's `name`",
    ["--ctx-size"] = "context_length",
    ["-c"] = "context_length",
  },

  check = function(model)
    if model.keys.reranking and model.type ~= "embeddings" then
      local message = "`reranking` needs `model_type: embeddings`"
      return { problems = { { key = "reranking", message = message, hint = "set that, or remove it" } } }
    end
  end,

  command = function(model, cli)
    local is_file = model.path:match("^/") ~= nil
    local options = {
      { key = "model_path", flag = is_file and "--model" or "--hf-repo", value = model.path },
      { key = "name", flag = "--alias", value = model.name },
      { key = "host", flag = "--host", value = model.host },
      { key = "port", flag = "--port", value = model.port },
    }
    if model.type == "embeddings" then
      options[#options + 1] = { key = "model_type", flag = "--embeddings" }
    end
    for _, option in ipairs(model.options) do
      local flag = option.key == "context_length" and "--ctx-size" or option.flag
      options[#options + 1] = { key = option.key, flag = flag, value = option.value }
    end
    local argv = {}
    return { argv = argv, warnings = cli.pass(argv, options) }
  end,

  ready = {
    get = "/health",
    answer = function(answer)
      if answer.status == 200 then
        local health = answer.body
        return type(health) == "table" and health.status == "ok" and "loaded" or "other"
      end
    end,
  },

  name = function(model)
    return model.name
  end,
}
