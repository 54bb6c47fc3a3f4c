---@meta hub

-- What policies can see and say, for editors with the Lua language server. Point its
-- `workspace.library` at this folder; `.luarc.json` beside the scripts does.

---@class hub.Policy
---@field on_request? fun(req: hub.Request, hub: hub.Hub): hub.RequestVerdict? # once per request to /v1
---@field on_load? fun(load: hub.Load, hub: hub.Hub): hub.LoadVerdict? # before a model takes memory
---@field on_idle? fun(model: hub.Model, hub: hub.Hub): hub.IdleVerdict? # from time to time for each loaded model without a request
---@field on_exit? fun(exit: hub.Exit, hub: hub.Hub): hub.ExitVerdict? # a worker ended unasked
---@field on_trouble? fun(trouble: hub.Trouble, hub: hub.Hub): hub.TroubleVerdict? # a worker runs and does not serve
---@field models? string[]|table<string, string|hub.DeclaredModel> # names that on_request sends to models: clients find them in the list of models; one with `*` stands for all that look so
---@field on_error? "deny" # refuse when this policy fails, instead of asking the next

---@class (exact) hub.DeclaredModel
---@field description? string # a sentence for people
---@field model? string # the one that usually answers: its state and context length are those of the name

---@class (exact) hub.RequestVerdict
---@class (exact) hub.LoadVerdict
---@class (exact) hub.IdleVerdict
---@class (exact) hub.ExitVerdict
---@class (exact) hub.TroubleVerdict

---@class hub.Request
---@field id string # the request's X-Request-ID
---@field method string
---@field path string # without the query; of a request that is translated, that of the chat completion
---@field model string? # as the client wrote it; nil for a request that names none
---@field protocol "openai"|"responses"|"anthropic"|"ollama"|"lm_studio" # how the client speaks; what came in the form of another API than OpenAI's is a chat completion by now
---@field stream boolean # waits for the body
---@field body table? # the JSON body, nil when it is none; waits for it
---@field headers table<string, string?> # by name, in lower case
---@field client string # the client's address
---@field via string? # the address of the trusted proxy that sent it, nil for a client that came itself
---@field key string? # the name of the client's key, nil in a hub without keys
---@field size_bytes integer # of the body
---@field prompt_chars integer # characters of text in the prompt; waits for the body
---@field keep_alive number? # seconds that the client wishes the model to stay in memory after its last request, negative for ever (Ollama's API)
---@field vars table # kept for this request, from one policy to the next and while it waits
---@field waited_seconds number # that it has been parked so far; 0 when it is asked about first

---@class hub.Model
---@field name string
---@field path string
---@field type "lm"|"multimodal"|"image-generation"|"image-edit"|"embeddings"|"whisper"
---@field engine string # what runs it, as `engine list` names it
---@field group string? # its name
---@field process_state "inactive"|"starting"|"running"|"stopping"|"stopped"|"failed"
---@field memory_state "unloaded"|"loading"|"loaded"|"unloading"|"failed"
---@field active integer # requests in flight
---@field waiting integer # requests that wait for it to load
---@field parked integer # requests that `on_request` told to wait, with the one that is asked about again
---@field idle_seconds number # since the later of its load and the end of its last request
---@field loaded_seconds number? # since its load, nil unless it is loaded
---@field keep_alive number? # the last client's such wish since its load
---@field load_seconds number? # how long its last load took, kept across restarts of the hub
---@field hosts { name: string, share: number }[]? # the machines that it spans, this one first, each with its share of the weights; nil for this machine alone
---@field memory_bytes integer? # its processes on this machine hold now, nil without a process or a measure
---@field peak_bytes integer? # the most they ever held with these launch settings, nil if never measured
---@field default boolean # starts with the hub
---@field jit_enabled boolean # its first request loads it
---@field auto_unload_minutes integer?
---@field settings table # its `policy:` mapping in hub.yaml

---@class hub.Load
---@field model hub.Model # that wants memory
---@field reason "request"|"start"|"manual"
---@field waiting integer # requests that wait for it
---@field waited_seconds number # since a policy was first asked about this load
---@field group hub.Group? # of the model

---@class hub.Exit
---@field model hub.Model # whose worker ended
---@field exit_code integer? # -N for signal N, nil when it cannot be known
---@field was_ready boolean # it had been ready to serve
---@field uptime_seconds number # for this many seconds
---@field crashes integer # ends in a row, since it last ran for five minutes or was started by hand

---@class hub.Trouble
---@field kind "silent"|"errors" # requests wait and no byte comes; or its answers are errors, one after the other
---@field model hub.Model # whose worker it is
---@field silent_seconds number # requests have waited so long since its last byte
---@field still_seconds number # up to now it used no CPU, held as much memory as before and logged nothing for so long
---@field cpu_seconds number? # CPU time that it used in `silent_seconds`, nil when that cannot be read
---@field prompt_chars integer? # of the longest prompt that may be waiting, nil when that is not known
---@field expected_seconds number? # the longest that such a prompt made it silent for, nil before the first
---@field errors integer # answers of 500 and above in a row
---@field recent_errors integer # those of the last minute
---@field last_status integer? # of the last one
---@field requests integer # in flight
---@field crashes integer # unasked ends and restarts in a row, as in hub.Exit
---@field stall_timeout number? # of hub.yaml, nil for never

---@class hub.Group
---@field name string
---@field max_loaded integer?
---@field idle_unload_trigger_min integer?
---@field members string[] # names, in hub.yaml's order
---@field loaded string[] # names of the members that hold memory or are about to
---@field free number # how many more may be loaded; math.huge without a cap, below zero over it

---@alias hub.EventName "model.started"|"model.loading"|"model.loaded"|"model.unloaded"|"model.stopped"|"model.failed"|"request.finished"|"config.reloaded"

---@class hub.Event
---@field name hub.EventName
---@field time number # Unix seconds
---@field model string? # the model's name; nil for config.reloaded
---@field error string? # of model.failed
---@field seconds number? # model.loaded: of the load; request.finished: from its arrival to the end of its answer
---@field id string? # this and all below: of request.finished
---@field client string? # its address
---@field key string? # the name of its key, nil in a hub without keys
---@field path string? # without the query
---@field stream boolean?
---@field status integer? # of the answer
---@field wait_seconds number? # for the model or its turn
---@field first_token_seconds number? # from its arrival
---@field prompt_tokens integer?
---@field completion_tokens integer?
---@field tokens_per_second number?

---@class hub.Memory
---@field total integer? # bytes, nil when that cannot be measured
---@field available integer? # bytes that programs could take without swapping
---@field returning integer # bytes that ended models held and that are not available again; for 10 s at most
---@field spares integer # bytes that spare processes hold; they end when a load needs them
---@field pressure "unknown"|"normal"|"warning"|"critical"

---@alias hub.State table<string|number, boolean|number|string|table> # tables of these too; 1 MiB in all

---@class hub.Log
---@field info fun(...: any)
---@field warn fun(...: any)
---@field error fun(...: any)

---@class hub.Time
---@field year integer
---@field month integer
---@field day integer
---@field hour integer
---@field min integer
---@field sec integer
---@field wday integer # 1 for Sunday to 7 for Saturday
---@field yday integer # 1 to 366

---@class hub.Hub
---@field models table<string, hub.Model?> # by name or path; pairs() walks them in hub.yaml's order
---@field groups table<string, hub.Group?> # by name; pairs() walks them in hub.yaml's order
---@field memory hub.Memory # of the machine
---@field settings table # the top-level `policy:` mapping in hub.yaml
---@field options fun(name: string, defaults: table, settings?: table): table # the settings of that name, checked, with these defaults
---@field log hub.Log # lines in the hub's log
---@field clock fun(): number # Unix seconds
---@field state hub.State # written by observers, read by every hook, and all that the two share; kept across reloads of the policies
---@field on fun(event: hub.EventName, fn: fun(event: hub.Event, hub: hub.Hub)) # an observer, only while a file loads; it runs in a Lua state of its own
---@field time fun(): hub.Time # the same in local time
---@field route fun(to: hub.RouteFields): hub.RequestVerdict # go there, with a changed body
---@field reject fun(answer: hub.RejectFields): hub.RequestVerdict|hub.LoadVerdict # answer with an error
---@field allow fun(fields?: hub.ReasonFields): hub.LoadVerdict # load it
---@field evict fun(names: string[]|hub.ReasonFields): hub.LoadVerdict # unload these models, then load it
---@field wait fun(fields: hub.WaitFields): hub.RequestVerdict|hub.LoadVerdict # ask again when something changes
---@field unload fun(fields?: hub.ReasonFields): hub.IdleVerdict # free the memory, keep the model started
---@field stop fun(fields?: hub.ReasonFields): hub.IdleVerdict # stop the model
---@field keep fun(fields?: hub.KeepFields): hub.IdleVerdict|hub.TroubleVerdict # keep it, and do not ask again for `seconds`
---@field restart fun(fields: hub.RestartFields): hub.ExitVerdict|hub.TroubleVerdict # start it again
---@field leave fun(fields?: hub.ReasonFields): hub.ExitVerdict|hub.TroubleVerdict # leave it until somebody asks for it

---@class (exact) hub.ReasonFields
---@field reason? string # why, for `policy explain`

---@class (exact) hub.RouteFields
---@field model? string # name or path
---@field set? table<string, any> # top-level body fields to set
---@field unset? string[] # top-level body fields to remove
---@field headers? table<string, string> # headers to add
---@field reason? string # why, for `policy explain`

---@class (exact) hub.RejectFields
---@field status integer # 400 to 599
---@field message string
---@field type? string # by default OpenAI's for the status
---@field code? string|integer # by default the status; "group_full" tells clients of a 429 not to ask again
---@field param? string # the request field at fault
---@field retry_after? number # seconds, for the Retry-After header; of a 429 5 by default
---@field reason? string # why, for `policy explain`

---@class (exact) hub.WaitFields
---@field seconds number # or after this many seconds
---@field client? string # on_request: under which key it takes turns, by default the client's address
---@field reason? string # why, for `policy explain`

---@class (exact) hub.KeepFields
---@field seconds? number # 0 without it
---@field reason? string # why, for `policy explain`

---@class (exact) hub.RestartFields
---@field seconds number # after this many seconds
---@field reason? string # why, for `policy explain`

---@type hub.Hub
hub = hub
