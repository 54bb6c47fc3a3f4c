---@meta test

-- What tests of policies can see and say, for editors with the Lua language server. A test is a
-- *_test.lua file beside the policies; `policy test` runs it in a simulated hub.

---@class hub.Test
---@field case fun(name: string, body: fun()) # runs on its own: the file is run from the top for each case
---@field each fun(rows: table[], body: fun(row: table)) # a case per row, named by its `name` or its first value
---@field engine fun(fields: hub.TestEngineFields): hub.TestEngine # the process that an engine makes of an entry
---@field hub fun(fields?: hub.TestHubFields): hub.TestHub # a simulated hub, which has started its default models
---@field equal fun(got: any, expected: any, about?: string) # tables by what is in them
---@field ok fun(got: any, about?: string) # neither nil nor false
---@field matches fun(got: any, pattern: string, about?: string) # a text with that pattern of Lua in it
---@field fails fun(body: fun(), text?: string) # an error with that text in it

---@class (exact) hub.TestHubFields
---@field config? string|table # the text of a hub.yaml, or a table like one; by default the file beside the test
---@field policies? string[] # bundled policies, in place of its `policies:`
---@field policy? table # settings, in place of its `policy:`
---@field files? string[] # user policies beside the test; by default all of them
---@field time? string # when it begins: "2026-03-02 08:00", a Monday, by default
---@field workers? table<string, hub.TestWorkerFields> # by model
---@field memory? hub.TestMemoryFields
---@field start? boolean # false: it does not start its default models
---@field may_fail? boolean # true: a policy that fails does not fail the case

---@class (exact) hub.TestEngineFields
---@field entry table # an entry of `models`, like { engine = "mlx_lm", name = "a", model_path = "org/a" }
---@field help? string # what the program's help says; without it the program lists no option
---@field port? integer # 47850 by default

---@class hub.TestEngine
---@field argv string[] # the command line, with its program
---@field command string # the same as one text
---@field env table<string, string> # variables that the engine sets
---@field files table<string, string> # those that it finds in its folder
---@field hosts string[] # the other machines on which it has processes
---@field addresses string[] # where these compute together, with a closed port
---@field warnings string[] # of the engine, for the installed program
---@field config_warnings string[] # of the checker of hub.yaml
---@field resident boolean # whether the process stays up without the model
---@field speaks string[]? # the APIs that the worker has; nil if it is asked
---@field name string? # what the worker calls the model in requests; nil for any name
---@field ready string # the path that is asked until the worker is ready
---@field answer fun(status: integer, body?: string|table): string? # "loaded", "unloaded", "other", or nil to ask again

---@class (exact) hub.TestReloadFields
---@field config? string|table # as of test.hub
---@field policies? string[] # as of test.hub
---@field policy? table # as of test.hub

---@class (exact) hub.TestWorkerFields
---@field load_seconds? number|string # 5 by default; texts like "1h30m" too
---@field end_seconds? number|string # 1 by default
---@field free_seconds? number|string # until the machine has its memory back after that; 0 by default
---@field memory? integer|string # bytes it holds once loaded; texts like "20GB" too
---@field peak? integer|string # the most it is known to have held
---@field fails? string|false # why its loads fail from now on, or that they do not
---@field resident? boolean # true: its process stays up without the weights
---@field silent? boolean # true: it hangs, its requests get no byte; finish one with a 5xx for errors
---@field cpu? number # the share of a core that it uses while it hangs; 0 by default
---@field moves? boolean # true: its log or its memory changes while it hangs
---@field expected? number|string # how long prompts like those that it gets are known to have taken

---@class (exact) hub.TestMemoryFields
---@field total? integer|string # 64 GiB by default
---@field other? integer|string # what other programs hold; 0 by default
---@field spares? integer|string # what spare processes hold; 0 by default
---@field pressure? "unknown"|"normal"|"warning"|"critical"
---@field unread? "available"|"all"|false # what of it cannot be read from now on

---@class hub.TestHub
---@field models table<string, hub.Model> # as policies see them, at the moment of the look
---@field groups table<string, hub.Group> # likewise
---@field memory hub.Memory # likewise
---@field state table # a copy of what observers have written
---@field logged { level: string, text: string, policy: string }[] # what policies logged in this case
---@field warnings string[] # what the status would say of the policies
---@field request fun(self: hub.TestHub, model: string?, fields?: hub.TestRequestFields): hub.TestRequest
---@field start fun(self: hub.TestHub, model: string): hub.TestRequest
---@field stop fun(self: hub.TestHub, model: string): hub.TestRequest
---@field load fun(self: hub.TestHub, model: string): hub.TestRequest
---@field unload fun(self: hub.TestHub, model: string): hub.TestRequest
---@field reload fun(self: hub.TestHub, fields?: hub.TestReloadFields): hub.TestRequest # another hub.yaml, and the policies again
---@field crash fun(self: hub.TestHub, model: string, exit_code?: integer) # ends its worker
---@field advance fun(self: hub.TestHub, time: number|string) # seconds, or a text like "1h30m"
---@field advance_to fun(self: hub.TestHub, time: string) # to the next "22:30", "Mon 22:30" or "2026-03-02 22:30"
---@field settle fun(self: hub.TestHub) # until no model is on its way from one state to another
---@field clock fun(self: hub.TestHub): number # Unix seconds
---@field time fun(self: hub.TestHub): hub.Time # its local time is UTC
---@field set_worker fun(self: hub.TestHub, model: string, fields: hub.TestWorkerFields)
---@field set_memory fun(self: hub.TestHub, fields: hub.TestMemoryFields)

---@class (exact) hub.TestRequestFields
---@field client? string # its address; 127.0.0.1 by default
---@field via? string # the address of the trusted proxy that sends it; none by default
---@field key? string # the name of its key, one of api_keys if the configuration has it
---@field headers? table<string, string>
---@field body? table # fields of the body
---@field prompt? string|integer # the text of a message, or how many characters it has
---@field stream? boolean
---@field path? string # /v1/chat/completions by default
---@field method? string # POST by default
---@field keep_alive? number # seconds that its client wishes the model to stay in memory, negative for ever
---@field seconds? number|string # it is done when its worker has answered for so long

---@class hub.TestRequest
---@field state "waiting"|"running"|"done"|"rejected"|"cut"|"cancelled" # running: its worker answers
---@field model string? # the one that answers, or that it waits for
---@field status integer? # once it has ended
---@field message string? # of an error
---@field type string? # of an error
---@field code string? # of an error
---@field param string? # of an error
---@field retry_after integer? # of an error
---@field body table # as the worker gets it
---@field headers table<string, string> # as the worker gets them
---@field waited_seconds number # for a model, or for its turn
---@field seconds number # since it came, up to its end
---@field finish fun(self: hub.TestRequest, fields?: hub.TestFinishFields) # its worker has answered
---@field cancel fun(self: hub.TestRequest) # its client goes away

---@class (exact) hub.TestFinishFields
---@field status? integer # 200 by default
---@field first_token_seconds? number # since it came
---@field prompt_tokens? integer
---@field completion_tokens? integer

---@type hub.Test
test = test
