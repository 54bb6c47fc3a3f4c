---@meta engine

-- What engines are and see, for editors with the Lua language server. An engine is a file in `engines` beside
-- hub.yaml; docs/engines.md shows how to write one.

---@alias hub.EngineType "lm"|"multimodal"|"image-generation"|"image-edit"|"embeddings"|"whisper"
---@alias hub.EngineApi "chat"|"completions"|"responses"|"messages"|"embeddings"|"rerank"|"transcriptions"|"speech"|"images"
---@alias hub.EngineKey "switch"|"int"|"number"|"text"|"path"|"new_path"|"path_or_id"|"paths"|"numbers"|"json"|"command"|"hosts"|"hostfile"|"refused"

---@class (exact) hub.Engine
---@field program string[]|fun(model: hub.EngineModel): string[] # the program and its first arguments; `worker_command` replaces it
---@field install? string|string[] # commands that install it, which the error of a missing program suggests
---@field help? string[] # arguments with which it lists its options; run once per program
---@field lists? string[] # options that its help must list; otherwise it is another program
---@field types? hub.EngineType[] # the types of models that it serves; all without it
---@field speaks? hub.EngineApi[]|fun(model: hub.EngineModel): hub.EngineApi[] # the APIs that it has; without it the worker is asked for its /openapi.json
---@field refuses? string[] # fields of a request's body for which it would load something else: such requests are refused
---@field keys? table # what a model's entry may set besides: `name = "int"`, or in order: `{ "name", "int", min = 1 }`
---@field reserved? table<string, string> # options that the hub passes itself, each with the key to use instead
---@field check? fun(model: hub.EngineModel): hub.EngineCheck? # what is wrong with an entry, besides the types of its keys
---@field command fun(model: hub.EngineModel, cli: hub.EngineCli): hub.EngineCommand # the arguments behind the program
---@field ready hub.EngineReady # how a worker shows that it is ready
---@field name? string|fun(model: hub.EngineModel, cli: hub.EngineCli): string? # what it calls the model in requests; any name without it
---@field resident? boolean|fun(model: hub.EngineModel, cli: hub.EngineCli): boolean # whether it stays up without the model
---@field fails? string # what the log has when the model cannot be loaded, of a program that lives on then
---@field spares? boolean # false: its program is always started by itself, never by a spare process
---@field load? hub.EngineLoad # the request that loads a worker which is up without its model

---@class (exact) hub.EngineReady
---@field get string|fun(model: hub.EngineModel): string # the path that is asked every 10 ms
---@field answer? fun(answer: hub.EngineAnswer, model: hub.EngineModel): "loaded"|"unloaded"|"other"|nil # 200 is "loaded" without it

---@class (exact) hub.EngineLoad
---@field get? string # a path
---@field post? string # a path, with a `body`
---@field body? table # sent as JSON

---@class hub.EngineModel
---@field name string
---@field path string # an absolute path, or a repository id
---@field type hub.EngineType
---@field host string # the address to listen on
---@field port integer # the port to listen on
---@field log_level "DEBUG"|"INFO"|"WARNING"|"ERROR"|"CRITICAL"
---@field mark string # what its processes on other machines are known by, in the variable MLX_HUB_RANK_OF
---@field jit_enabled boolean # whether it is loaded for its first request
---@field options hub.EngineOption[] # the engine's keys that are set, in their order
---@field keys table # the same by name, in their types

---@class hub.EngineOption
---@field key string # `max_tokens`
---@field flag string # `--max-tokens`
---@field value string? # nil for a switch

---@class hub.EngineCli
---@field has fun(flag: string): boolean # whether the help lists it
---@field pass fun(argv: (string|number)[], options: hub.EngineOption[]): string[] # appends those that the help lists; a warning for each other one
---@field takes fun(flag: string, word: string): boolean # whether it takes that word, where the help lists words

---@class hub.EngineAnswer
---@field status integer
---@field body table|string # a table for a JSON object
---@field argv string[] # the worker's command line

---@class (exact) hub.EngineCommand
---@field argv (string|number)[]
---@field launcher? string[] # the program that starts the program, with its arguments
---@field env? table<string, string> # hub.yaml's `env` wins
---@field files? table<string, string|table> # written into the folder in which it starts: texts by name, or tables for JSON
---@field hosts? string[] # the other machines on which it has processes, as `ssh` knows them
---@field addresses? string[] # where they compute together, with a closed port (`10.0.0.2:20015`): one that answered and does not any more is lost
---@field warnings? string[] # shown in `check` and the status, after the model's name

---@class (exact) hub.EngineCheck
---@field set? table<string, string> # keys with the values that they get where the entry sets none
---@field warnings? string[]
---@field problems? hub.EngineProblem[]

---@class (exact) hub.EngineProblem
---@field key string # where it is shown
---@field message string
---@field hint? string
