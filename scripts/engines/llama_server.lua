-- llama-server of llama.cpp: one GGUF model, from a file or from a repository of Hugging Face.
--
-- It listens at once, or when a repository's files are there, and answers `/health` with 503 until the model is loaded.
-- A `model_path` that is a file is passed as `--model`, and a repository, such as `ggml-org/gemma-3-4b-it-GGUF:Q4_K_M`,
-- as `--hf-repo`. It has embeddings only for `model_type: embeddings`, or, with `reranking: true`, the ranking of
-- documents in their place. Its own `/v1/responses` remembers nothing: the hub translates those requests, and keeps
-- what `previous_response_id` continues. Told to end while it answers, it says nothing more, and ends when its clients
-- have gone, or by the second signal, at half of `stop_timeout`.
--
-- Its life is tested on builds 11434 and 11669 with a tiny model on the CPU (tests/real_worker/llama_server.rs), and on
-- a stand-in that does as its source says (tests/support/engine_programs.py). Repositories are tested on the stand-in
-- alone.

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
  { "pooling", "text" },
  { "reranking", "switch" },
}

---@type hub.Engine
return {
  program = { "llama-server" },
  install = { "brew install llama.cpp" },
  help = { "--help" },
  lists = { "--model", "--port" },
  types = { "lm", "multimodal", "embeddings" },
  -- The others it answers with 501, or with what means nothing.
  speaks = function(model)
    if model.type ~= "embeddings" then
      return { "chat", "completions", "messages" }
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
    ["--docker-repo"] = "remove it: `model_path` names the model",
    ["-dr"] = "remove it: `model_path` names the model",
    ["--alias"] = "remove it: requests use the model's `name`",
    ["-a"] = "remove it: requests use the model's `name`",
    ["--ctx-size"] = "context_length",
    ["-c"] = "context_length",
    ["--embeddings"] = "model_type: embeddings",
    ["--embedding"] = "model_type: embeddings",
    ["--rerank"] = "reranking: true",
    ["--sleep-idle-seconds"] = "auto_unload_minutes",
    ["--api-prefix"] = "remove it: the hub asks for paths without one",
    ["--api-key"] = "remove it: only the hub talks to a worker, and checks the keys itself",
    ["--api-key-file"] = "remove it: only the hub talks to a worker, and checks the keys itself",
    ["--ssl-key-file"] = "remove it: only the hub talks to a worker, in plain HTTP",
    ["--ssl-cert-file"] = "remove it: only the hub talks to a worker, in plain HTTP",
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
    -- Otherwise each of them has its part of the context, where the hub goes by the whole of it.
    if (model.keys.parallel or 1) > 1 and cli.has("--kv-unified") then
      options[#options + 1] = { key = "parallel", flag = "--kv-unified" }
    end
    for _, option in ipairs(model.options) do
      local flag = option.key == "context_length" and "--ctx-size" or option.flag
      options[#options + 1] = { key = option.key, flag = flag, value = option.value }
    end
    local argv = {}
    -- With a key of the user's own, which is for clients of other servers, it would refuse the hub's requests.
    return { argv = argv, env = { LLAMA_API_KEY = "" }, warnings = cli.pass(argv, options) }
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
