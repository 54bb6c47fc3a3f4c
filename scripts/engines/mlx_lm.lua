-- mlx_lm.server of Apple's mlx-lm: one language model, loaded at its start.
--
-- It answers `/health` before its model is loaded, and loads whatever a request names as its `model`, `draft_model`
-- or `adapters`: the hub asks for one token to know that the model is there, always calls it `default_model`, and
-- refuses the other two.
--
-- With `hosts` or `hostfile`, `mlx.launch` starts it on each of them: here as its children, elsewhere over ssh. The
-- first is this machine; only its process listens to requests.
--
-- Tried with mlx-lm 0.31.3 and mlx 0.32.4, the real programs; several machines with the backend `ring`, on the CPU.

-- Ports for each model that spans machines, of which each address of a machine takes one; the last is closed.
local PORTS = 16

local BACKENDS = { ring = true, jaccl = true, ["jaccl-ring"] = true }

-- The hostfile of a model, as mlx.launch reads it; nil for a model of this machine alone.
local function hostfile(model)
  local keys = model.keys
  local given = keys.hostfile or keys.hosts and { hosts = keys.hosts }
  if not given then
    return nil
  end
  local hosts = {}
  for i, host in ipairs(given.hosts) do
    -- 127.0.0.1 is the only one that mlx.launch does not log in to.
    local ssh = i == 1 and "127.0.0.1" or host.ssh
    hosts[i] = { ssh = ssh, ips = host.ips, rdma = host.rdma }
  end
  local envs = {}
  for _, env in ipairs(given.envs or {}) do
    envs[#envs + 1] = env
  end
  -- The last of two counts, and by this one the hub finds its processes there.
  envs[#envs + 1] = "MLX_HUB_RANK_OF=" .. model.mark
  local backend = keys.backend or given.backend
  return { hosts = hosts, envs = envs, backend = backend ~= "" and backend or "ring" }
end

local function is_jaccl(file)
  return file.backend:find("jaccl", 1, true) == 1
end

-- What is wrong with an entry that spans several machines.
local function problems_of(model, file)
  local keys, problems = model.keys, {}
  local function refuse(key, message, hint)
    problems[#problems + 1] = { key = key, message = message, hint = hint }
  end
  local given = keys.hostfile and "hostfile" or "hosts"
  if keys.hostfile and keys.hosts then
    refuse("hostfile", "`hosts` and `hostfile` both name the machines", "keep one of them")
  end
  if not BACKENDS[file.backend] then
    local key = keys.backend and "backend" or "hostfile"
    refuse(key, "`backend` must be `ring` or `jaccl`, not `" .. file.backend .. "`")
  end
  for i, host in ipairs(file.hosts) do
    local ips, rdma = host.ips or {}, host.rdma or {}
    if #ips == 0 and (i == 1 or not is_jaccl(file)) then
      refuse(given, "host #" .. i .. " has no `ips`, at which the others reach it", "write `ips: [10.0.0.2]`")
    end
    if is_jaccl(file) and #rdma ~= #file.hosts then
      local message = "`backend: " .. file.backend .. "` needs an `rdma` of " .. #file.hosts .. " devices for each host"
      local finder = "mlx.distributed_config --backend jaccl --over thunderbolt --output-hostfile FILE"
      refuse(given, message, "`" .. finder .. "` finds them")
      break
    end
  end
  for _, key in ipairs({ "adapter_path", "draft_model" }) do
    if keys[key] then
      refuse(key, "`" .. key .. "` cannot be set for a model of several machines: mlx_lm.server refuses it")
    end
  end
  for _, key in ipairs({ "decode_concurrency", "prompt_concurrency" }) do
    if is_jaccl(file) and keys[key] and keys[key] ~= 1 then
      refuse(key, "`" .. key .. "` must be 1 with `backend: " .. file.backend .. "`", "remove it")
    end
  end
  return problems
end

---@type hub.Engine
return {
  program = { "mlx_lm.server" },
  install = { "uv tool install mlx-lm", "pip install mlx-lm" },
  help = { "--help" },
  lists = { "--model", "--port" },
  types = { "lm" },
  speaks = { "chat", "completions" },
  refuses = { "draft_model", "adapters" },

  -- In the order of the command line.
  keys = {
    { "hosts", "hosts" },
    { "hostfile", "hostfile" },
    { "backend", "text" },
    { "pipeline", "switch" },
    { "adapter_path", "path_or_id" },
    { "draft_model", "path_or_id" },
    { "num_draft_tokens", "int", min = 1 },
    { "trust_remote_code", "switch" },
    { "chat_template", "text" },
    { "use_default_chat_template", "switch" },
    { "chat_template_args", "json" },
    { "temp", "number" },
    { "top_p", "number" },
    { "top_k", "int" },
    { "min_p", "number" },
    { "max_tokens", "int", min = 1 },
    { "decode_concurrency", "int", min = 1 },
    { "prompt_concurrency", "int", min = 1 },
    { "prefill_step_size", "int", min = 1 },
    { "prompt_cache_size", "int" },
    { "prompt_cache_bytes", "text" },
  },

  reserved = {
    ["--model"] = "model_path",
    ["--host"] = "host",
    ["--port"] = "port",
    ["--log-level"] = "log_level",
  },

  check = function(model)
    local file = hostfile(model)
    if not file then
      local problems = {}
      for _, key in ipairs({ "backend", "pipeline" }) do
        if model.keys[key] then
          local message = "`" .. key .. "` is for a model of several machines, and the entry names none"
          problems[#problems + 1] = { key = key, message = message, hint = "add `hosts` or `hostfile`, or remove it" }
        end
      end
      return { problems = problems }
    end
    local set = {}
    if is_jaccl(file) then
      -- Requests that are computed at the same time bring its ranks out of step.
      set = { decode_concurrency = "1", prompt_concurrency = "1" }
    end
    -- Its log tells of progress at every step: a prompt that is read is no hang.
    set.prefill_step_size = "512"
    return { set = set, problems = problems_of(model, file) }
  end,

  command = function(model, cli)
    local file = hostfile(model)
    local log_level = model.log_level
    if file and log_level ~= "DEBUG" then
      -- The lines that tell of progress.
      log_level = "INFO"
    end
    local argv = { "--model", model.path, "--host", model.host, "--port", model.port }
    if cli.has("--log-level") then
      argv[#argv + 1] = "--log-level"
      argv[#argv + 1] = log_level
    end
    local options = {}
    for _, option in ipairs(model.options) do
      if option.key ~= "hosts" and option.key ~= "hostfile" and option.key ~= "backend" then
        options[#options + 1] = option
      end
    end
    local made = { argv = argv, warnings = cli.pass(argv, options) }
    if file then
      -- Models that are loaded at the same time have ports of their own, below those that systems give out.
      local first = 20000 + model.port % 750 * PORTS
      made.launcher =
        { "mlx.launch", "--hostfile", "hosts.json", "--backend", file.backend, "--starting-port", first, "--" }
      made.files = { ["hosts.json"] = file }
      made.hosts, made.addresses = {}, {}
      local used = 0
      for _, host in ipairs(file.hosts) do
        used = used + #(host.ips or {})
      end
      for i = 2, #file.hosts do
        local host = file.hosts[i]
        if host.ssh ~= "127.0.0.1" then
          made.hosts[#made.hosts + 1] = host.ssh
          -- Were it one of theirs, a look at it would pass for a machine that joins.
          if used < PORTS and host.ips and host.ips[1] then
            made.addresses[#made.addresses + 1] = host.ips[1] .. ":" .. first + PORTS - 1
          end
        end
      end
    end
    return made
  end,
  ready = {
    get = "/health",
    answer = function(answer)
      if answer.status ~= 200 then
        return nil
      end
      local health = answer.body
      local is_ours = type(health) == "table" and health.status == "ok" and health.model_id == nil
      return is_ours and "unloaded" or "other"
    end,
  },
  load = {
    post = "/v1/completions",
    body = { model = "default_model", prompt = "a", max_tokens = 1, temperature = 0 },
  },

  -- The thread that loads the model ends with an exception, and the server lives on.
  fails = "(_generate)",

  name = "default_model",
}
