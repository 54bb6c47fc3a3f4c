//! `hub.state`: what it holds, who may write it, and that a reload keeps it.

use mlx_openai_server_hub::policy::{Event, Policies};

use crate::world::{Hub, rejected, request};

/// A policy whose observer runs `written` and whose hook answers with `read`.
fn hub(written: &str, read: &str) -> Hub {
    Hub::with(&format!(
        "hub.on('config.reloaded', function(event, hub)\n{written}\nend)
         return {{ on_request = function(_, hub)
           return hub.reject{{ status = 400, message = tostring({read}) }}
         end }}"
    ))
}

fn happen(policies: &Policies) {
    policies.observe_now(&Event::config_reloaded(0.0));
}

fn said(policies: &Policies) -> String {
    let (_, verdict) = policies.on_request(request("alpha"));
    rejected(&verdict).1.to_owned()
}

/// What a hook reads after an observer has written.
fn read_after(written: &str, read: &str) -> String {
    let policies = hub(written, read).load();
    happen(&policies);
    assert_eq!(policies.warnings(), [""; 0], "{written}");
    said(&policies)
}

#[test]
fn what_an_observer_writes_every_hook_of_every_file_reads() {
    let hub = Hub::new()
        .file(
            "a.lua",
            "hub.on('config.reloaded', function(event, hub)
               hub.state.times = (hub.state.times or 0) + 1
             end)
             return {}",
        )
        .file(
            "b.lua",
            "return { on_request = function(_, hub)
               return hub.reject{ status = 400, message = tostring(hub.state.times) }
             end }",
        );
    let policies = hub.load();
    assert_eq!(said(&policies), "nil");
    happen(&policies);
    happen(&policies);
    assert_eq!(said(&policies), "2");
}

#[test]
fn it_holds_scalars_and_tables_and_looks_like_a_table() {
    for (written, read, expected) in [
        ("hub.state.x = 1", "hub.state.x", "1"),
        ("hub.state.x = 1.5", "hub.state.x", "1.5"),
        ("hub.state.x = true", "hub.state.x", "true"),
        ("hub.state.x = '\\0\\xff'", "#hub.state.x", "2"),
        ("hub.state[7] = 'seven'", "hub.state[7]", "seven"),
        ("hub.state.x = 1 hub.state.x = nil", "hub.state.x", "nil"),
        ("hub.state.t = { a = { b = 'c' } }", "hub.state.t.a.b", "c"),
        ("hub.state.t = {} hub.state.t.x = 2", "hub.state.t.x", "2"),
        (
            "local t = { 1 } hub.state.t = t t[1] = 2",
            "hub.state.t[1]",
            "1",
        ),
        (
            "hub.state.a = { 1 } hub.state.b = hub.state.a hub.state.b[1] = 2",
            "hub.state.a[1] .. hub.state.b[1]",
            "12",
        ),
        (
            "hub.state.l = {} for i = 1, 3 do table.insert(hub.state.l, i) end",
            "#hub.state.l .. table.concat(hub.state.l, ',') .. select('#', table.unpack(hub.state.l))",
            "31,2,33",
        ),
        (
            "hub.state.l = { 3, 1, 2 } table.sort(hub.state.l) table.remove(hub.state.l, 1)",
            "table.concat(hub.state.l)",
            "23",
        ),
        (
            "hub.state.t = { x = 1 }",
            "(function() local s = '' for k, v in pairs(hub.state.t) do s = s .. k .. v end return s end)()",
            "x1",
        ),
        (
            "hub.state.l = { 'a', 'b' }",
            "(function() local s = '' for i, v in ipairs(hub.state.l) do s = s .. i .. v end return s end)()",
            "1a2b",
        ),
        (
            "hub.state.t = { x = 1 }",
            "next(hub.state.t) .. rawget(hub.state.t, 'x')",
            "x1",
        ),
        ("hub.state.l = { 1, 2 }", "rawlen(hub.state.l)", "2"),
        ("", "next(hub.state)", "nil"),
    ] {
        assert_eq!(read_after(written, read), expected, "{written}; {read}");
    }
}

#[test]
fn its_tables_can_be_put_into_verdicts() {
    let hub = Hub::with(
        "hub.on('config.reloaded', function(_, hub)
           hub.state.fields = { top_k = 3, nested = { deep = { 1, 2 } } }
         end)
         return { on_request = function(_, hub)
           return hub.route{ set = { all = hub.state.fields } }
         end }",
    );
    let policies = hub.load();
    happen(&policies);
    let (_, verdict) = policies.on_request(request("alpha"));
    let mlx_openai_server_hub::policy::RequestVerdict::Route(route) = verdict else {
        panic!("not a route: {verdict:?}");
    };
    assert_eq!(
        serde_json::to_value(&route.set).unwrap(),
        serde_json::json!({"all": {"top_k": 3, "nested": {"deep": [1, 2]}}})
    );
}

#[test]
fn what_it_does_not_take_is_an_error_at_the_line_that_wrote_it() {
    let told = [
        "hub.state.f = function() end",
        "hub.state.hub = hub.models",
        "hub.state.t = { inner = { print } }",
        "hub.state[true] = 1",
        "hub.state.t = { [{}] = 1 }",
        "hub.state[0/0] = 1",
        "local t = {} t.t = t hub.state.t = t",
        "hub.state.s = ('x'):rep(1 << 20)",
        "for i = 1, 100 do hub.state[i] = ('x'):rep(1 << 15) end",
        "hub.state.t = {} local t = hub.state.t hub.state.t = nil t.x = 1",
        "hub.state = {}",
        "rawset(hub.state, 'x', 1)",
        "setmetatable(hub.state, {})",
        "getmetatable(hub.state).__index = {}",
    ]
    .map(|written| {
        let policies = hub(written, "1").load();
        happen(&policies);
        let warnings = policies.warnings().join("\n");
        assert!(policies.memory_bytes() < 8 << 20, "{written}");
        format!("{written}\n  {warnings}")
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_hook_that_writes_gets_an_error_that_names_observers() {
    let told = [
        "hub.state.x = 1",
        "hub.state.t.x = 1",
        "hub.state.x = nil",
        "table.insert(hub.state.t, 1)",
        "rawset(hub.state.t, 'x', 1)",
        "local _, inner = pairs(hub.state.t) inner.x = 1",
    ]
    .map(|written| {
        let hub = Hub::with(&format!(
            "hub.on('config.reloaded', function(_, hub) hub.state.t = {{}} end)
             return {{ on_request = function(_, hub) {written} end }}"
        ));
        let policies = hub.load();
        happen(&policies);
        policies.on_request(request("alpha"));
        format!("{written}\n  {}", policies.warnings().join("\n"))
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn it_is_kept_across_reloads_of_the_policies_and_can_be_read_while_they_load() {
    let read = "tostring(hub.state.n) .. #hub.state.s .. hub.state.t[1].deep";
    let written = "hub.state.n = (hub.state.n or 0) + 1
                   hub.state.s = '\\xff\\0' hub.state.t = { { deep = 'down' } }";
    let hub = hub(written, read);
    let policies = hub.load();
    happen(&policies);
    for _ in 0..3 {
        policies.reload(hub.path(), &[]);
    }
    assert_eq!(said(&policies), "12down");
    happen(&policies);
    assert_eq!(said(&policies), "22down");
    let hub = hub.file(
        "policy.lua",
        "local before = hub.state.n
         return { on_request = function(_, hub)
           return hub.reject{ status = 400, message = tostring(before) }
         end }",
    );
    policies.reload(hub.path(), &[]);
    assert_eq!(said(&policies), "2");
}

/// All of it but `seen` as a text, of strings their length.
const ALL: &str = "(function()
  local function told(value)
    if type(value) == 'string' then return '#' .. #value end
    if type(value) ~= 'table' then return tostring(value) end
    local texts = {}
    for key, below in pairs(value) do
      if key ~= 'seen' then
        texts[#texts + 1] = (math.type(key) or 'string') .. key .. '=' .. told(below)
      end
    end
    table.sort(texts)
    return '{' .. table.concat(texts, ' ') .. '}'
  end
  return told(hub.state)
end)()";

#[test]
fn hooks_see_what_observers_see_whatever_was_written() {
    for written in [
        "hub.state.a = { b = { c = { 1, 2, 3 } } } hub.state.a.b.c[4] = { deep = true }
         hub.state.a.b.c[4].deep = nil hub.state.a.b.c[4].other = { {} }",
        "hub.state.t = {} local t = hub.state.t
         t[1.0] = 'one' t[2.5] = { 'x' } t[2.5][2] = 'y' t['1'] = 0",
        "hub.state.a = { x = { 1 } } hub.state.b = hub.state.a.x hub.state.a = nil
         hub.state.b[2] = 2",
        "hub.state.l = {} for i = 1, 20 do table.insert(hub.state.l, 1, { i }) end
         table.remove(hub.state.l, 5) hub.state.l[1][1] = 'first'",
        "hub.state.many = {} for i = 1, 1100 do hub.state.many[i] = i end hub.state.many[7] = nil",
        "hub.state.s = ('x'):rep(1 << 18) hub.state.t = { hub.state.s, n = 1 } hub.state.s = 'y'",
        "hub.state.before = { 1 } hub.state.before[2] = { 2 } hub.state.f = function() end",
        "hub.state.x = 1 error('after all')",
        "hub.state.before = { ('x'):rep(1 << 20) }",
    ] {
        let observed = format!("pcall(function() {written} end) hub.state.seen = {ALL}");
        let read = format!("{ALL} == hub.state.seen and 'the same' or hub.state.seen");
        let policies = hub(&observed, &read).load();
        for _ in 0..3 {
            happen(&policies);
            assert_eq!(policies.warnings(), [""; 0], "{written}");
            assert_eq!(said(&policies), "the same", "{written}");
        }
    }
}

#[test]
fn hooks_see_what_an_observer_wrote_before_it_failed() {
    let policies = hub(
        "hub.state.n = (hub.state.n or 0) + 1 error('no')",
        "hub.state.n",
    )
    .load();
    happen(&policies);
    happen(&policies);
    assert_eq!(said(&policies), "2");
}

#[test]
fn it_is_kept_when_a_policy_has_filled_the_memory() {
    let written = "hub.state.n = 1
                   kept = {} for i = 1, math.huge do kept[i] = ('x'):rep(1 << 16) .. i end";
    let hub = hub(written, "hub.state.n");
    let policies = hub.load();
    happen(&policies);
    let hub = hub.file(
        "policy.lua",
        "return { on_request = function(_, hub)
           return hub.reject{ status = 400, message = tostring(hub.state.n) }
         end }",
    );
    policies.reload(hub.path(), &[]);
    assert_eq!(said(&policies), "1");
}

#[test]
fn room_that_is_given_back_can_be_used_again() {
    let policies = hub(
        "for _ = 1, 3 do hub.state.s = ('x'):rep(1 << 19) hub.state.t = { ('y'):rep(1 << 18) } end",
        "#hub.state.s",
    )
    .load();
    for _ in 0..20 {
        happen(&policies);
    }
    assert_eq!(policies.warnings(), [""; 0]);
    assert_eq!(said(&policies), (1 << 19).to_string());
}
