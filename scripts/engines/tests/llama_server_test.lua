local help = "-m, --model FNAME  -hf, -hfr, --hf-repo R  -a, --alias S  --host H  --port P  --embedding, --embeddings "
  .. "-c, --ctx-size N  -ngl, --gpu-layers, --n-gpu-layers N  --jinja, --no-jinja  --temp N  -np, --parallel N "
  .. "--rerank, --reranking  --pooling {none,mean,cls,last,rank}  -kvu, --kv-unified, -no-kvu, --no-kv-unified"

local function worker(more)
  local entry = { engine = "llama_server", name = "alpha", model_path = "org/alpha-GGUF:Q4_K_M" }
  for key, value in pairs(more or {}) do
    entry[key] = value
  end
  return test.engine({ entry = entry, help = help })
end

test.each({
  {
    "a repository",
    entry = {},
    command = "llama-server --hf-repo org/alpha-GGUF:Q4_K_M --alias alpha --host 127.0.0.1 --port 47850",
  },
  {
    "a file",
    entry = { model_path = "/models/a.gguf", context_length = 4096, n_gpu_layers = "all", jinja = true },
    command = "llama-server --model /models/a.gguf --alias alpha --host 127.0.0.1 --port 47850 "
      .. "--ctx-size 4096 --n-gpu-layers all --jinja",
  },
  {
    "embeddings",
    entry = { model_type = "embeddings", pooling = "last" },
    command = "llama-server --hf-repo org/alpha-GGUF:Q4_K_M --alias alpha --host 127.0.0.1 --port 47850 --embeddings "
      .. "--pooling last",
  },
  {
    "several requests at a time, each with the whole context",
    entry = { context_length = 4096, parallel = 4 },
    command = "llama-server --hf-repo org/alpha-GGUF:Q4_K_M --alias alpha --host 127.0.0.1 --port 47850 --kv-unified "
      .. "--ctx-size 4096 --parallel 4",
  },
  {
    "one at a time",
    entry = { parallel = 1 },
    command = "llama-server --hf-repo org/alpha-GGUF:Q4_K_M --alias alpha --host 127.0.0.1 --port 47850 --parallel 1",
  },
}, function(row)
  local made = worker(row.entry)
  test.equal(made.command, row.command)
  test.equal(made.name, "alpha")
  test.equal(made.warnings, {})
  test.equal(made.env, { LLAMA_API_KEY = "" })
end)

test.case("what it speaks follows from its type: the other routes are not asked", function()
  local chats = { "chat", "completions", "messages" }
  test.equal(worker().speaks, chats)
  test.equal(worker({ model_type = "multimodal" }).speaks, chats)
  test.equal(worker({ model_type = "embeddings" }).speaks, { "embeddings" })
  local made = worker({ model_type = "embeddings", reranking = true })
  test.equal(made.speaks, { "rerank" })
  test.equal(made.command:match("%-%-embeddings .*"), "--embeddings --reranking")
  test.fails(function()
    worker({ reranking = true })
  end, "`reranking` needs `model_type: embeddings`")
end)

test.case("what is for the hub to decide is no extra argument", function()
  for _, row in ipairs({
    { "--api-key", "only the hub talks to a worker" },
    { "--embedding", "`model_type: embeddings`" },
    { "--rerank", "`reranking: true`" },
    { "--sleep-idle-seconds", "`auto_unload_minutes: 60`" },
    { "--docker-repo", "`model_path` names the model" },
  }) do
    test.fails(function()
      worker({ extra_args = { row[1], "60" } })
    end, row[2])
  end
end)

test.case("what it lacks is a warning", function()
  test.equal(worker({ top_k = 5 }).warnings, { "`top_k` is ignored, the installed llama-server has no `--top-k`" })
end)

test.case("it is ready when its model is loaded", function()
  local answer = worker().answer
  test.equal(answer(503, { error = { message = "Loading model" } }), nil)
  test.equal(answer(200, { status = "ok" }), "loaded")
  test.equal(answer(200, "ok"), "other")
end)
