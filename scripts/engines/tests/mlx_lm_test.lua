local help = [[
  --model MODEL  --adapter-path ADAPTER_PATH  --host HOST  --port PORT  --draft-model DRAFT_MODEL
  --num-draft-tokens N  --trust-remote-code  --log-level {DEBUG,INFO,WARNING,ERROR,CRITICAL}
  --chat-template T  --use-default-chat-template  --temp TEMP  --top-p P  --top-k K  --min-p P
  --max-tokens N  --chat-template-args ARGS  --decode-concurrency N  --prompt-concurrency N
  --prefill-step-size N  --prompt-cache-size N  --prompt-cache-bytes N  --pipeline
]]

local function entry(more)
  local fields = { engine = "mlx_lm", name = "alpha", model_path = "org/alpha" }
  for key, value in pairs(more or {}) do
    fields[key] = value
  end
  return fields
end

test.case("what is set is passed, in the order of the keys", function()
  local set = { temp = 0.5, max_tokens = 9, trust_remote_code = true, chat_template_args = { enable_thinking = false } }
  local worker = test.engine({ entry = entry(set), help = help })
  test.equal(
    worker.command,
    "mlx_lm.server --model org/alpha --host 127.0.0.1 --port 47850 --log-level INFO --trust-remote-code "
      .. '--chat-template-args {"enable_thinking":false} --temp 0.5 --max-tokens 9'
  )
  test.equal(worker.name, "default_model", "it would load whatever a request names")
  test.equal(worker.resident, false)
end)

test.case("its health says nothing of its model", function()
  local worker = test.engine({ entry = entry(), help = help })
  test.equal(worker.ready, "/health")
  test.equal(worker.answer(200, { status = "ok" }), "unloaded")
  test.equal(worker.answer(200, { status = "ok", model_id = "org/other" }), "other")
  test.equal(worker.answer(200, "ok"), "other")
  test.equal(worker.answer(404), nil)
end)

test.case("an option of another version is a warning", function()
  local worker = test.engine({ entry = entry({ top_k = 5 }), help = "--model --port" })
  test.equal(worker.warnings, { "`top_k` is ignored, the installed mlx_lm.server has no `--top-k`" })
end)

test.case("other types of models, keys and options are refused", function()
  local function refused(more, text)
    test.fails(function()
      test.engine({ entry = entry(more) })
    end, text)
  end
  refused({ model_type = "whisper" }, "engine `mlx_lm` cannot serve `model_type: whisper`, only lm")
  refused({ reasoning_parser = "qwen3" }, "`reasoning_parser` is a key of engine `mlx_openai_server`")
  refused({ max_tokenz = 5 }, "did you mean `max_tokens`?")
  refused({ extra_args = { "--model", "org/b" } }, "write `model_path: org/b`")
end)

local far = { ssh = "ada@mini", ips = { "10.0.0.2" } }

test.case("several machines are started by mlx.launch, the first without ssh", function()
  local set = { hosts = { "mac-studio.local", far }, pipeline = true, max_tokens = 9 }
  local worker = test.engine({ entry = entry(set), help = help })
  test.equal(
    worker.command,
    "mlx.launch --hostfile hosts.json --backend ring --starting-port 29600 -- mlx_lm.server --model org/alpha "
      .. "--host 127.0.0.1 --port 47850 --log-level INFO --pipeline --max-tokens 9 --prefill-step-size 512"
  )
  test.equal(worker.files, {
    ["hosts.json"] = '{"backend":"ring","envs":["MLX_HUB_RANK_OF=mark"],"hosts":['
      .. '{"ips":["mac-studio.local"],"ssh":"127.0.0.1"},{"ips":["10.0.0.2"],"ssh":"ada@mini"}]}',
  })
  test.equal(worker.hosts, { "ada@mini" })
  test.equal(worker.addresses, { "10.0.0.2:29615" })
  test.equal(worker.name, "default_model")
  test.equal(worker.warnings, {})
end)

test.case("a port that the machines use among themselves is none to look at", function()
  local function looked_at(ips)
    local hosts = { { ssh = "a", ips = {} }, { ssh = "b", ips = {} } }
    for i = 1, ips do
      local of = hosts[i % 2 + 1].ips
      of[#of + 1] = "10.0." .. i % 2 .. "." .. i
    end
    return test.engine({ entry = entry({ hosts = hosts }), help = help }).addresses
  end
  test.equal(looked_at(15), { "10.0.1.1:29615" })
  test.equal(looked_at(16), {})
end)

test.case("models have ports of their own between the machines", function()
  local function first_port(port)
    local worker = test.engine({ entry = entry({ hosts = { "a", "b" } }), help = help, port = port })
    return tonumber(worker.command:match("%-%-starting%-port (%d+)"))
  end
  test.equal(first_port(47851) - first_port(47850), 16)
  test.equal(first_port(47999) - first_port(48000), 31984 - 20000, "below those that systems give out")
end)

test.case("progress is logged, whatever the level", function()
  local set = { hosts = { "a", "b" }, log_level = "ERROR", prefill_step_size = 64 }
  local worker = test.engine({ entry = entry(set), help = help })
  test.equal(worker.command:match("%-%-log%-level %u+"), "--log-level INFO")
  test.equal(worker.command:match("%-%-prefill%-step%-size %d+"), "--prefill-step-size 64")
end)

test.case("jaccl computes one request at a time", function()
  local hosts = {
    { ssh = "a", ips = { "10.0.0.1" }, rdma = { {}, "rdma_en2" } },
    { ssh = "b", rdma = { "rdma_en2", {} } },
  }
  local worker = test.engine({ entry = entry({ hosts = hosts, backend = "jaccl" }), help = help })
  test.equal(worker.command:match("%-%-backend (%S+)"), "jaccl")
  test.equal(worker.command:match("%-%-decode%-concurrency (%d+)"), "1")
  test.equal(worker.command:match("%-%-prompt%-concurrency (%d+)"), "1")
  test.equal(worker.addresses, { "b:29615" })
  test.fails(function()
    test.engine({ entry = entry({ hosts = hosts, backend = "jaccl", decode_concurrency = 4 }) })
  end, "`decode_concurrency` must be 1 with `backend: jaccl`")
end)

test.case("machines that cannot be are refused with what is right", function()
  local function refused(more, text)
    test.fails(function()
      test.engine({ entry = entry(more) })
    end, text)
  end
  refused({ hosts = { "a" } }, "`hosts` must name two machines or more, this one first")
  refused({ hosts = "a" }, "write `hosts: [mac-studio.local, {ssh: ada@mini, ips: [10.0.0.2]}]`")
  refused({ hosts = { "a", { shh = "b" } } }, "is no key of a machine: there are `ssh`, `ips` and `rdma`")
  refused({ hosts = { "a", "b" }, backend = "rign" }, "`backend` must be `ring` or `jaccl`, not `rign`")
  refused({ hosts = { "a", "b" }, backend = "jaccl" }, "needs an `rdma` of 2 devices for each host")
  refused({ hosts = { "a", "b" }, draft_model = "org/b" }, "cannot be set for a model of several machines")
  refused({ pipeline = true }, "add `hosts` or `hostfile`, or remove it")
  refused({ hostfile = "nowhere.json" }, "nowhere.json` is not there")
end)
