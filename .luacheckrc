-- What luacheck may expect of policies.
std = "lua54"
-- A global of every policy file; see scripts/types/hub.lua.
globals = { "hub" }
-- A hook takes what it is given, also when it needs less.
unused_args = false
-- Wrong on purpose: the inputs that test how a policy fails.
exclude_files = { "tests/inputs/bad_*/*", "tests/inputs/policy_test/broken_test.lua" }

-- A global of every test of policies; see scripts/types/test.lua.
files["**/*_test.lua"].read_globals = { "test" }

-- Closes holes of the standard library.
files["src/sandbox/sandbox.lua"].globals = { "string", "table" }
files["src/sandbox/library.lua"].globals = { "string", "table", "tonumber", "utf8" }
-- Annotations cannot be broken.
files["scripts/types/engine.lua"].max_line_length = false
files["scripts/types/hub.lua"].max_line_length = false
files["scripts/types/test.lua"].max_line_length = false
files["scripts/types/test.lua"].globals = { "test" }
