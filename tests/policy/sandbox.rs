//! What a policy cannot reach, and that the hub answers others while one attacks.

use std::time::Duration;

use mlx_openai_server_hub::policy::RequestVerdict;
use tokio::time::Instant;

use crate::world::{Hub, rejected, request};

const ROUTE: &str = "return { on_request = function(_, hub) return hub.route{model = 'beta'} end }";

/// Asks a policy whose `on_request` runs `body`; a well-behaved policy stands behind it.
fn attack(body: &str) -> (RequestVerdict, Vec<String>) {
    let source = format!("return {{ on_request = function(req, hub)\n{body}\nend }}");
    let hub = Hub::new().file("a.lua", source).file("b.lua", ROUTE);
    let (verdict, policies) = hub.ask();
    (verdict, policies.warnings())
}

#[test]
fn dangerous_globals_are_absent() {
    let hub = Hub::with(
        "local found = {}
         for _, name in ipairs{'os', 'io', 'debug', 'package', 'coroutine', 'load', 'loadfile',
                               'dofile', 'loadstring', 'collectgarbage', 'warn'} do
           if _G[name] ~= nil then table.insert(found, name) end
         end
         if string.dump then table.insert(found, 'string.dump') end
         return { on_request = function(_, hub)
           return hub.reject{status = 400, message = 'found: ' .. table.concat(found, ' ')}
         end }",
    );
    assert_eq!(rejected(&hub.ask().0).1, "found: ");
}

#[test]
fn an_endless_policy_is_cut_and_the_next_decides() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local function again() pcall(again) again() end again()",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) \
         while true do pcall(function() return t[1] end) end",
        "table.sort({1, 2, 3}, function() while true do end end)",
        "string.gsub('abc', '.', function() while true do end end)",
        "for _ in function() return 1 end do end",
        "::top:: goto top",
        "error(setmetatable({}, {__tostring = function() while true do end end}))",
    ] {
        let started = Instant::now();
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
        assert!(warnings[0].contains("50 ms"), "{body}: {warnings:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{body}");
    }
}

#[test]
fn memory_bombs_burst_alone() {
    for body in [
        "return ('x'):rep(1 << 40)",
        "return ('x'):rep(50000000)",
        "return ('xy'):rep(1 << 20, ('z'):rep(1 << 20))",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, math.huge do t[i] = ('x'):rep(1 << 20) .. i end",
        "return (('x'):rep(1 << 20):gsub('.', ('y'):rep(1 << 10)))",
        "return table.concat({('x'):rep(1 << 25), ('y'):rep(1 << 25)})",
    ] {
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
    }
}

#[test]
fn library_functions_do_not_loop_for_ever() {
    for body in [
        "return ('').rep('', 1 << 60)",
        "table.move({}, 1, 1 << 60, 2)",
        "return table.concat({}, '', 1, 1 << 60)",
        "return table.unpack({}, 1, 1 << 30)",
    ] {
        let (_, warnings) = attack(body);
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
    }
}

#[test]
fn deep_recursion_is_an_error() {
    for body in [
        "local function down(n) return 1 + down(n + 1) end return down(1)",
        "local function down() return (string.gsub('a', 'a', down)) end return down()",
        "local t = {} t.__index = t setmetatable(t, t) return t.x",
        "local t = {} for _ = 1, 200000 do t = { t } end return hub.route{set = t}",
        "local t = {} t.t = t return hub.route{set = t}",
    ] {
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
    }
}

/// Runs `body`, which must be ended by the time limit soon after it; `seconds` is room for a slow
/// machine, and far less than any of these would take.
fn is_cut_in_time(body: &str, seconds: u64) {
    let started = Instant::now();
    let (verdict, warnings) = attack(body);
    assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
    assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
    assert!(warnings[0].contains("50 ms"), "{body}: {warnings:?}");
    assert!(started.elapsed() < Duration::from_secs(seconds), "{body}");
}

#[test]
fn a_pattern_that_takes_years_is_cut() {
    for body in [
        "('a'):rep(30):find(('a?'):rep(30) .. ('a'):rep(30))",
        "('a'):rep(40):match(('a*'):rep(20) .. 'b')",
        "('x'):rep(100000):find('.-.-.-.-y')",
        "('x'):rep(100000):find('.*.*.*y')",
        "('a'):rep(1000000):gsub('.-b', '')",
        "('a'):rep(1000000):gsub('.-b', function() end)",
        "for _ in ('a'):rep(1000000):gmatch('.-b') do end",
        "('('):rep(1000000):find('%b()')",
        "('ab'):rep(100000):find('(.+)%1x')",
        "('a'):rep(1000000):find('[' .. ('b'):rep(100000) .. ']*c')",
        "pcall(string.find, ('x'):rep(100000), '.-.-.-.-y') return hub.allow()",
        "while true do pcall(string.gsub, ('x'):rep(100000), '.-.-y', '') end",
        "while true do ('x'):find('y') end",
        "local s = ('x'):rep(1 << 24) while true do s:find('y', 1, true) end",
        "('a'):rep(1 << 24):find(('a'):rep(1 << 23) .. 'b', 1, true) while true do end",
    ] {
        is_cut_in_time(body, 5);
    }
}

#[test]
fn a_table_that_lies_about_its_length_does_not_keep_the_library_busy() {
    for body in [
        "table.insert(lie, 1, 'x')",
        "table.remove(lie, 1)",
        "table.sort(lie)",
        "table.concat(lie)",
        "table.unpack(lie)",
        "table.insert(setmetatable({}, { __len = endless }), 1)",
        "table.concat(setmetatable({}, { __len = huge, __index = getmetatable, __metatable = '' }))",
        "table.sort(setmetatable({}, { __len = huge, __index = rawlen }))",
        "table.unpack(setmetatable({}, { __index = endless }), 1, 1000)",
    ] {
        let lie = "local function huge() return 1 << 60 end
                   local function endless() while true do end end
                   local lie = setmetatable({}, { __len = huge, __index = function() return 'x' end })";
        let started = Instant::now();
        let (verdict, warnings) = attack(&format!("{lie}\n{body}"));
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{body}");
    }
}

#[test]
fn large_work_in_c_counts_too() {
    for work in [
        "s:reverse()",
        "s:upper()",
        "s:sub(2)",
        "s:byte(1, 100000)",
        "('%s'):format(s)",
        "('%q'):format(s)",
        "utf8.len(s)",
        "utf8.offset(s, -1)",
        "utf8.codepoint(s, 1, 100000)",
        "tonumber(s, 36)",
        "table.concat({ s, s })",
        "('x'):rep(1 << 24)",
        "string.pack('s', s)",
        "s:gsub('y', 'z')",
        "table.insert(t, 1, 1)",
        "table.remove(t, 1)",
        "table.move(t, 1, #t, 2)",
        "table.sort(t)",
        "table.sort(t, math.ult)",
        "table.unpack(t, 1, 200000)",
        "local x = s == r",
        "local x = s < r",
        "local x = s .. 'y'",
        "hub.log.info(s)",
        "rawequal(s, r)",
    ] {
        is_cut_in_time(
            &format!(
                "local s = ('x'):rep(1 << 23)
                 local r = ('x'):rep((1 << 23) - 1) .. 'x'
                 local t = {{}} for i = 1, 100000 do t[i] = -i end
                 while true do {work} end"
            ),
            10,
        );
    }
}

#[test]
fn the_way_out_of_a_limit_is_limited_too() {
    for body in [
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
        "while true do pcall(function() local x <close> = setmetatable({}, { __close = function() error('no') end }) end) end",
        "xpcall(function() while true do end end, function(e) while true do end end)",
        "xpcall(error, function(e) return xpcall(error, function() while true do end end) end)",
        "pcall(pcall, pcall, function() while true do end end) while true do end",
        "local e = setmetatable({}, { __tostring = function() while true do end end }) error(e)",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        "local t = setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }) while true do pcall(function() return t.a end) end",
        "local t = setmetatable({}, { __eq = function() while true do end end }) return t == setmetatable({}, getmetatable(t))",
        "for k in pairs(setmetatable({}, { __pairs = function() return function() return 1 end end })) do end",
    ] {
        is_cut_in_time(body, 5);
    }
}

#[test]
fn errors_that_cannot_be_told_are_told_somehow() {
    for body in [
        "error(setmetatable({}, { __tostring = function() error('again') end }))",
        "error(setmetatable({}, { __tostring = function() return {} end }))",
        "error(setmetatable({}, { __name = ('x'):rep(100000) }))",
        "error(('x'):rep(1 << 22))",
        "error(hub.models)",
        "error(function() end)",
        "error()",
        "local t = {} for i = 1, 190 do t = setmetatable({}, { __index = t }) end return t.x.y",
        "getmetatable('').__index = nil",
        "local s = 'x' s.y = 1",
        "return ('x') + 1",
        "coroutine.wrap(function() end)()",
        "setmetatable({}, { __gc = function() end })",
        "local t = setmetatable({}, {}) getmetatable(t).__gc = function() while true do end end t = nil error('no')",
        "assert(false, setmetatable({}, { __tostring = error }))",
    ] {
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
        assert!(warnings[0].len() < 8192, "{body}: {}", warnings[0].len());
    }
}

#[test]
fn a_caught_error_is_the_text_it_would_be_in_lua() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local said = {}
           for _, body in ipairs{
             function() error('own') end,
             function() error({ code = 7 }) end,
             function() return req.modle end,
             function() hub.reject{} end,
             function() return ('x'):find('[') end,
             function() return ('x'):rep(1 << 40) end,
           } do
             local _, problem = pcall(body)
             table.insert(said, type(problem) == 'table' and problem.code or problem)
           end
           return hub.reject{ status = 400, message = table.concat(said, '\\n') }
         end }",
    );
    insta::assert_snapshot!(rejected(&hub.ask().0).1);
}

#[test]
fn memory_in_closures_is_counted() {
    for body in [
        "local f for i = 1, math.huge do local g, s = f, ('x'):rep(1000) .. i f = function() return g, s end end",
        "local t = {} for i = 1, math.huge do t = { t, i } end",
        "local t = {} for i = 1, math.huge do t[('x'):rep(100) .. i] = i end",
        "local function f(...) return f(1, ...) end f()",
    ] {
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(warnings[0].contains("a.lua:"), "{body}: {warnings:?}");
    }
}

#[test]
fn views_and_verdicts_cannot_be_changed() {
    for body in [
        "setmetatable(req, {})",
        "req.model = 'beta'",
        "hub.models.alpha.name = 'beta'",
        "hub.models.alpha = nil",
        "hub.reject = nil",
        "hub.log.info = nil",
        "rawset(req, 'model', 'beta')",
        "rawset(hub.models, 'alpha', 'beta')",
        "getmetatable(req).__index = nil",
        "getmetatable(hub).__index = nil",
        "getmetatable('').__index = nil",
        "hub.allow().x = 1",
    ] {
        let (verdict, warnings) = attack(body);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{body}");
        assert!(
            warnings[0].starts_with("Policy `a.lua` failed once"),
            "{body}"
        );
    }
}

#[test]
fn a_file_cannot_change_what_another_one_calls() {
    let hub = Hub::new()
        .file(
            "a.lua",
            "string.upper = function() return 'tampered' end
             table.concat, math.floor, pairs, tostring = nil, nil, nil, nil
             _G.leak = 'leaked'
             rawset(hub, 'reject', function() return 'tampered' end)
             return {}",
        )
        .file(
            "b.lua",
            "return { on_request = function(_, hub)
               local text = ('a'):upper() .. string.upper('b') .. table.concat{'c'} .. math.floor(1.5)
               return hub.reject{status = 400, message = text .. tostring(leak)}
             end }",
        );
    let (verdict, policies) = hub.ask();
    assert_eq!(policies.warnings(), [""; 0]);
    assert_eq!(rejected(&verdict).1, "ABc1nil");
}

#[test]
fn require_stays_in_the_folder() {
    let hub = Hub::new();
    let secret = hub.path().parent().unwrap().to_owned();
    for name in [
        "../secret",
        "/etc/passwd",
        "..secret",
        "lib/../x",
        "",
        ".",
        "a..b",
        "a\\\\b",
    ] {
        let hub = Hub::with(&format!("require('{name}') return {{}}"));
        let warnings = hub.load().warnings().join("\n");
        assert!(warnings.contains("is no module"), "{name}: {warnings}");
        assert!(!warnings.contains(secret.to_str().unwrap()), "{warnings}");
    }
}

#[test]
fn bytecode_is_refused() {
    let hub = Hub::new().file("a.lua", b"\x1bLua\x54\x00\x19\x93\r\n\x1a\n");
    let warnings = hub.load().warnings();
    assert!(warnings[0].contains("binary chunk"), "{warnings:?}");
}

#[test]
fn an_endless_file_does_not_load() {
    let hub = Hub::with("while true do pcall(error) end");
    let warnings = hub.load().warnings();
    assert!(
        warnings[0].contains("policy.lua:1: it took more than 250 ms"),
        "{warnings:?}"
    );
}

#[test]
fn others_are_answered_after_an_attack_on_the_memory() {
    let hub = Hub::new()
        .file(
            "a.lua",
            "kept = {}
             return { on_request = function()
               for i = 1, math.huge do kept[i] = ('x'):rep(1 << 16) .. i end
             end }",
        )
        .file("b.lua", ROUTE);
    let policies = hub.load();
    for _ in 0..12 {
        policies.on_request(request("alpha"));
    }
    // The set is full of what `a.lua` keeps; a reload empties it.
    let hub = hub.file("a.lua", "return {}");
    policies.reload(hub.path(), &[]);
    let (_, verdict) = policies.on_request(request("alpha"));
    assert!(matches!(verdict, RequestVerdict::Route(_)));
}

#[test]
fn memory_is_flat_over_many_calls() {
    for body in [
        "if req.model == 'nosuch' then return hub.route{model = 'beta'} end",
        "req.vars.x = req.headers['x-tier'] .. hub.models[req.model].name",
        "return hub.reject{status = 400, message = 'no ' .. hub.clock()}",
    ] {
        let hub = Hub::with(&format!(
            "return {{ on_request = function(req, hub) {body} end }}"
        ));
        let policies = hub.load();
        let mut view = Some(request("alpha"));
        let mut ask = |times: usize| {
            for _ in 0..times {
                view = view.take().map(|view| policies.on_request(view).0);
            }
            policies.memory_bytes()
        };
        let before = ask(10_000);
        let after = ask(60_000);
        assert!(
            after < before + (512 << 10),
            "{body}: {before} grew to {after}"
        );
    }
}

#[test]
fn a_first_line_for_the_shell_is_skipped_as_lua_does_in_modules_too() {
    let hub = Hub::with(
        "#!/usr/bin/env lua
         local text = require('lib.text')
         return { on_request = function() error(text) end }",
    )
    .file(
        "lib/text.lua",
        "\u{feff}#!/usr/bin/env lua\nreturn 'from the module'",
    );
    let (_, policies) = hub.ask();
    let warnings = policies.warnings().join("\n");
    assert!(
        warnings.contains("policy.lua:3: from the module"),
        "{warnings}"
    );
}

/// The most memory, in bytes, that a call of `on_request` takes at once.
fn peak(body: &str) -> u64 {
    let source = format!("return {{ on_request = function(req, hub)\n{body}\nend }}");
    let hub = Hub::new().file("a.lua", source).file("b.lua", ROUTE);
    let policies = hub.load();
    let mut view = Some(request("alpha"));
    let measured = allocation_counter::measure(|| {
        if let Some(view) = view.take() {
            policies.on_request(view);
        }
    });
    measured.bytes_max
}

#[test]
fn an_error_is_not_copied_out_of_lua_however_large_it_is() {
    for body in [
        "error(s)",
        "error(s, 0)",
        "assert(false, s)",
        "error(setmetatable({}, { __tostring = function() return s end }))",
        "error(setmetatable({}, { __name = s }))",
        "pcall(error, s) error(s, 0)",
        "return req[s]",
        "return hub[s]",
        "return hub.route{ [s] = 1 }",
        "return hub.route{ headers = { [s] = s } }",
        "hub.on(s, print)",
        "require(s)",
    ] {
        for text in ["x", "\\xff", "\\n"] {
            let text = format!("local s = ('{text}'):rep(1 << 22)");
            let most = peak(&format!("{text} {body}"));
            // The text itself, Lua's own error with it, and what a growing buffer had before.
            assert!(most < 13 << 20, "{most} bytes for {text} {body}");
        }
    }
}
