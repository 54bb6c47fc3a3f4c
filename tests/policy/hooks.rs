//! What hooks see and return, and what becomes of their errors.

use std::sync::Arc;

use mlx_openai_server_hub::api::{Pressure, SystemMemory, WantedDecisions};
use mlx_openai_server_hub::policy::{
    IdleVerdict, LoadReason, LoadVerdict, PendingLoad, Policies, RequestVerdict,
};
use serde_json::json;

use crate::world::{Hub, ModelViewExt as _, group, model, pending, rejected, request};

/// The text a policy answers with when it runs `expression` in `on_request`.
fn shown(hub: &Hub, policies: &Policies, model: &str) -> String {
    let (_, verdict) = policies.on_request(request(model));
    assert_eq!(policies.warnings(), [""; 0]);
    let _ = hub;
    rejected(&verdict).1.to_owned()
}

fn evaluate(expression: &str) -> String {
    let hub = Hub::with(&format!(
        "return {{ on_request = function(req, hub)
           local model, group = hub.models.alpha, hub.groups.g
           return hub.reject{{status = 400, message = tostring({expression})}}
         end }}"
    ));
    *hub.world.groups.write() = vec![group("g", Some(2), Some(5)), group("free", None, None)];
    let settings = json!({"limit": 3, "names": ["x", "y"]});
    *hub.world.settings.write() = Arc::new(settings.as_object().unwrap().clone());
    let mut models = hub.world.models.write();
    models[0] = model("alpha").loaded(30.0).in_group("g").facts(|facts| {
        facts.load_seconds = Some(4.5);
        facts.auto_unload_minutes = Some(10);
    });
    models[0].keep_alive = Some(-1.0);
    models[0].activity.active_requests = 1;
    models[0].activity.waiting_requests = 2;
    models[0].activity.parked_requests = 3;
    models[0].settings = Arc::new(json!({"tier": 1}).as_object().unwrap().clone());
    drop(models);
    let policies = hub.load();
    shown(&hub, &policies, "alpha")
}

#[test]
fn the_views_show_the_hub() {
    for (expression, expected) in [
        ("req.id", "req-1"),
        ("req.method", "POST"),
        ("req.path", "/v1/chat/completions"),
        ("req.model", "alpha"),
        ("req.stream", "true"),
        ("req.body.messages[1].content", "héllo"),
        ("req.headers['x-tier']", "gold"),
        ("req.headers['X-Tier']", "gold"),
        ("req.headers.nosuch", "nil"),
        ("req.client", "127.0.0.1"),
        ("req.size_bytes", "79"),
        ("req.prompt_chars", "5"),
        ("req.vars.x", "nil"),
        ("req.keep_alive", "60.0"),
        ("req.waited_seconds", "0.0"),
        ("model.name", "alpha"),
        ("model.path", "org/alpha"),
        ("model.engine", "mlx_lm"),
        ("model.type", "lm"),
        ("model.group", "g"),
        ("model.process_state", "running"),
        ("model.memory_state", "loaded"),
        ("model.active", "1"),
        ("model.waiting", "2"),
        ("model.parked", "3"),
        ("model.idle_seconds", "30.0"),
        ("model.loaded_seconds", "30.0"),
        ("model.keep_alive", "-1.0"),
        ("model.load_seconds", "4.5"),
        ("model.default", "false"),
        ("model.jit_enabled", "true"),
        ("model.auto_unload_minutes", "10"),
        ("model.settings.tier", "1"),
        ("hub.models.beta.loaded_seconds", "nil"),
        ("hub.models.beta.keep_alive", "nil"),
        ("hub.models['org/beta'].name", "beta"),
        ("hub.models.nosuch", "nil"),
        ("hub.models[nil]", "nil"),
        ("group.name", "g"),
        ("group.max_loaded", "2"),
        ("group.idle_unload_trigger_min", "5"),
        ("#group.members", "1"),
        ("group.loaded[1]", "alpha"),
        ("group.free", "1"),
        ("hub.groups.free.free == math.huge", "true"),
        ("hub.groups.nosuch", "nil"),
        ("hub.clock()", "1764000000.0"),
        ("hub.settings.limit", "3"),
        ("hub.settings.names[2]", "y"),
        ("hub.settings.nosuch", "nil"),
    ] {
        assert_eq!(evaluate(expression), expected, "{expression}");
    }
}

#[test]
fn lists_come_in_the_order_of_hub_yaml() {
    let walk = |list: &str| {
        evaluate(&format!(
            "(function() local all = {{}}
               for name, view in pairs({list}) do table.insert(all, name .. '=' .. view.name) end
               return table.concat(all, ' ') end)()"
        ))
    };
    assert_eq!(walk("hub.models"), "alpha=alpha beta=beta gamma=gamma");
    assert_eq!(walk("hub.groups"), "g=g free=free");
}

#[test]
fn headers_can_be_walked() {
    let all = evaluate(
        "(function() local all = {}
           for name, value in pairs(req.headers) do table.insert(all, name .. '=' .. value) end
           table.sort(all) return table.concat(all, ' ') end)()",
    );
    assert_eq!(all, "content-type=application/json x-tier=gold");
}

#[test]
fn a_route_says_where_to_go_and_what_to_change() {
    let (verdict, policies) = Hub::with(
        "return { on_request = function(req, hub)
           return hub.route{
             model = 'beta',
             set = { temperature = 0.5, stop = {'a', 'b'}, deep = { on = true } },
             unset = {'seed'},
             headers = { ['X-Why'] = 'test' },
           }
         end }",
    )
    .ask();
    let RequestVerdict::Route(route) = verdict else {
        panic!("{verdict:?} {:?}", policies.warnings());
    };
    assert_eq!(route.model.as_deref(), Some("beta"));
    let set = json!({"temperature": 0.5, "stop": ["a", "b"], "deep": {"on": true}});
    assert_eq!(serde_json::Value::Object(route.set.clone()), set);
    assert_eq!(route.unset, ["seed"]);
    assert_eq!(route.headers.len(), 1);
    assert_eq!(route.headers[0].0, "x-why");
}

#[test]
fn a_rejection_fills_in_what_is_left_out() {
    let (verdict, _) = Hub::with(
        "return { on_request = function(_, hub)
           return hub.reject{status = 429, message = 'later', retry_after = 1.5}
         end }",
    )
    .ask();
    let RequestVerdict::Reject(error) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(error.kind, "rate_limit_error");
    assert_eq!(error.code, "429");
    assert_eq!(error.param, None);
    assert_eq!(error.retry_after, Some(2));
}

#[test]
fn on_load_sees_the_load_and_may_wait_or_evict() {
    let hub = Hub::with(
        "return { on_load = function(load, hub)
           if load.model.name == 'beta' and load.reason == 'manual' and load.waiting == 3 then
             return hub.wait{seconds = 2}
           elseif load.group == nil then
             return hub.evict{'org/alpha'}
           end
         end }",
    );
    let policies = hub.load();
    let verdict = policies.on_load("beta", pending(LoadReason::Manual, 3));
    assert_eq!(verdict, LoadVerdict::Wait(2.0));
    let verdict = policies.on_load("beta", pending(LoadReason::Request, 3));
    assert_eq!(verdict, LoadVerdict::Evict(vec!["alpha".to_owned()]));
    assert_eq!(policies.warnings(), [""; 0]);
}

/// A policy that admits what fits, and evicts one model for what does not; it waits at most 5 s.
const BY_MEMORY: &str = "return { on_load = function(load, hub)
  local memory, needed = hub.memory, load.model.peak_bytes
  if not needed or not memory.available then return end
  if memory.pressure ~= 'critical' and needed <= memory.available then return hub.allow() end
  if needed <= memory.available + memory.returning + memory.spares + hub.models.alpha.memory_bytes - 60 then return hub.evict{'alpha'} end
  if load.waited_seconds < 5 then return hub.wait{seconds = 5} end
  return hub.reject{status = 503, message = needed .. ' of ' .. memory.total}
end }";

#[test]
fn on_load_sees_measured_memory_and_how_long_the_load_has_waited() {
    let hub = Hub::with(BY_MEMORY);
    let policies = hub.load();
    let verdict = |available, pressure, peak_bytes, waited_seconds| {
        *hub.world.memory.write() = SystemMemory {
            total: Some(1000),
            available,
            returning: 50,
            spares: 10,
            pressure,
        };
        hub.world.models.write()[0].activity.memory_bytes = Some(300);
        hub.world.models.write()[1].activity.peak_bytes = peak_bytes;
        let load = PendingLoad {
            waited_seconds,
            ..pending(LoadReason::Request, 1)
        };
        policies.on_load("beta", load)
    };
    let (normal, critical) = (Pressure::Normal, Pressure::Critical);
    let evict = LoadVerdict::Evict(vec!["alpha".to_owned()]);
    assert_eq!(
        verdict(Some(600), normal, Some(600), 0.0),
        LoadVerdict::Allow
    );
    assert_eq!(verdict(Some(600), critical, Some(600), 0.0), evict);
    assert_eq!(verdict(Some(599), normal, Some(600), 0.0), evict);
    assert_eq!(
        verdict(Some(299), normal, Some(600), 4.9),
        LoadVerdict::Wait(5.0)
    );
    let LoadVerdict::Reject(error) = verdict(Some(299), normal, Some(600), 5.0) else {
        panic!("no rejection");
    };
    assert_eq!(error.message, "600 of 1000");
    assert_eq!(verdict(None, normal, Some(600), 0.0), LoadVerdict::Allow);
    assert_eq!(verdict(Some(1), normal, None, 0.0), LoadVerdict::Allow);
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn on_idle_may_unload_stop_or_keep() {
    for (constructor, verdict) in [
        ("hub.unload()", IdleVerdict::Unload),
        ("hub.stop()", IdleVerdict::Stop),
        ("hub.keep()", IdleVerdict::Keep(0.0)),
        ("hub.keep{seconds = 90}", IdleVerdict::Keep(90.0)),
        ("nil", IdleVerdict::Keep(0.0)),
    ] {
        let source = format!(
            "return {{ on_idle = function(model, hub)
               if model.idle_seconds == 30 then return {constructor} end
             end }}"
        );
        assert_eq!(Hub::with(&source).load().on_idle("alpha"), verdict);
    }
}

#[test]
fn policies_are_asked_in_name_order_and_the_first_verdict_wins() {
    let answer = |text: &str| {
        format!(
            "return {{ on_request = function(_, hub)
               return hub.reject{{status = 400, message = '{text}'}}
             end }}"
        )
    };
    let hub = Hub::new()
        .file("b.lua", answer("b"))
        .file("c.lua", answer("c"))
        .file("a.lua", "return { on_request = function() end }")
        .file("_helper.lua", "error('not a policy')")
        .file("a_test.lua", "error('not a policy')")
        .file("lib/module.lua", "error('not a policy')")
        .file("notes.txt", "not a policy");
    let (verdict, policies) = hub.ask();
    assert_eq!(rejected(&verdict), (400, "b"));
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn vars_pass_from_policy_to_policy_and_not_to_the_next_request() {
    let hub = Hub::new()
        .file(
            "a.lua",
            "return { on_request = function(req) req.vars.seen = (req.vars.seen or 0) + 1 end }",
        )
        .file(
            "b.lua",
            "return { on_request = function(req, hub)
               return hub.reject{status = 400, message = 'seen ' .. req.vars.seen}
             end }",
        );
    let policies = hub.load();
    for _ in 0..2 {
        let (_, verdict) = policies.on_request(request("alpha"));
        assert_eq!(rejected(&verdict).1, "seen 1");
    }
}

#[test]
fn a_body_that_has_not_arrived_is_asked_for_even_behind_pcall() {
    for read in [
        "local _ = req.body",
        "local _ = req.stream",
        "local _ = req.prompt_chars",
        "local _ = req.size_bytes",
        "pcall(function() return req.body end)",
        "xpcall(function() return req.body end, function() return 'handled' end)",
        "pcall(pcall, pcall, function() return req.body end)",
    ] {
        let hub = Hub::with(&format!(
            "return {{ on_request = function(req, hub) {read} return hub.route{{model = 'beta'}} end }}"
        ));
        let policies = hub.load();
        let mut view = request("alpha");
        let body = view.body.take();
        let (mut view, verdict) = policies.on_request(view);
        assert_eq!(verdict, RequestVerdict::NeedBody, "{read}");
        view.body = body;
        let (_, verdict) = policies.on_request(view);
        assert!(matches!(verdict, RequestVerdict::Route(_)), "{read}");
        assert_eq!(policies.warnings(), [""; 0], "{read}");
    }
}

#[test]
fn the_body_is_not_asked_for_when_nothing_of_it_is_read() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           return hub.reject{status = 400, message = req.model .. ' ' .. req.size_bytes}
         end }",
    );
    let mut view = request("alpha");
    view.body = None;
    let length = http::HeaderValue::from_static("1234");
    view.parts.headers.insert("content-length", length);
    let (view, verdict) = hub.load().on_request(view);
    assert_eq!(rejected(&verdict).1, "alpha 1234");
    assert_eq!(view.model.as_deref(), Some("alpha"));
}

#[test]
fn an_upload_has_no_json_body_and_is_not_waited_for() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local text = tostring(req.body) .. ' ' .. tostring(req.stream) .. ' ' .. req.prompt_chars
           return hub.reject{status = 400, message = text}
         end }",
    );
    let mut view = request("alpha");
    view.body = None;
    let form = http::HeaderValue::from_static("multipart/form-data; boundary=x");
    view.parts.headers.insert("content-type", form);
    let (_, verdict) = hub.load().on_request(view);
    assert_eq!(rejected(&verdict).1, "nil false 0");
}

#[test]
fn a_view_kept_after_its_hook_is_over() {
    let hub = Hub::with(
        "local kept
         return {
           on_request = function(req, hub)
             if not kept then
               kept = { req, req.headers, hub.models.alpha, hub.groups.g }
               return
             end
             local texts = {}
             for index, key in ipairs{'model', 'x-tier', 'name', 'free'} do
               local _, message = pcall(function() return kept[index][key] end)
               texts[index] = tostring(message):match('^[^\\n]*')
             end
             return hub.reject{status = 400, message = table.concat(texts, '\\n')}
           end,
         }",
    );
    *hub.world.groups.write() = vec![group("g", Some(1), None)];
    let policies = hub.load();
    policies.on_request(request("alpha"));
    let (_, verdict) = policies.on_request(request("beta"));
    insta::assert_snapshot!("kept_views", rejected(&verdict).1);
}

#[test]
fn a_failing_policy_is_reported_and_the_next_decides() {
    let hub = Hub::new()
        .file(
            "a.lua",
            "return { on_request = function(req)\n  return req.nosuch\nend }",
        )
        .file(
            "b.lua",
            "return { on_request = function(_, hub) return hub.route{model = 'beta'} end }",
        );
    let (verdict, policies) = hub.ask();
    assert!(matches!(verdict, RequestVerdict::Route(_)));
    assert_eq!(
        policies.warnings(),
        ["Policy `a.lua` failed once. The last: a.lua:2: request has no field `nosuch`"]
    );
}

#[test]
fn ten_failures_in_a_row_switch_a_policy_off_until_it_is_reloaded() {
    let hub = Hub::with(
        "local calls = 0
         return { on_request = function(_, hub)
           calls = calls + 1
           if calls == 5 then return nil end
           if calls > 15 then return hub.route{model = 'beta'} end
           error('broken')
         end }",
    );
    let policies = hub.load();
    for _ in 0..15 {
        policies.on_request(request("alpha"));
    }
    let (_, verdict) = policies.on_request(request("alpha"));
    assert_eq!(verdict, RequestVerdict::Pass, "not asked any more");
    insta::assert_snapshot!("switched_off", policies.warnings().join("\n"));
    policies.reload(hub.path(), &[]);
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn a_policy_that_denies_fails_closed_also_when_switched_off() {
    let hub = Hub::with(
        "local function fail() error('broken') end
         return { on_error = 'deny', on_request = fail, on_load = fail, on_idle = fail }",
    );
    let policies = hub.load();
    for _ in 0..12 {
        let (_, verdict) = policies.on_request(request("alpha"));
        assert_eq!(rejected(&verdict).0, 500);
        match policies.on_load("beta", pending(LoadReason::Request, 1)) {
            LoadVerdict::Reject(error) => assert_eq!(error.status, 503),
            other => panic!("{other:?}"),
        }
        assert_eq!(policies.on_idle("alpha"), IdleVerdict::Keep(0.0));
    }
}

#[test]
fn a_reload_replaces_all_or_nothing() {
    let answer = |text: &str| {
        format!(
            "return {{ on_request = function(_, hub)
               return hub.reject{{status = 400, message = '{text}'}}
             end }}"
        )
    };
    let hub = Hub::with(&answer("old"));
    let policies = hub.load();
    let said = || {
        let (_, verdict) = policies.on_request(request("alpha"));
        rejected(&verdict).1.to_owned()
    };
    let hub = hub
        .file("policy.lua", answer("new"))
        .file("zz.lua", "return {");
    policies.reload(hub.path(), &[]);
    assert_eq!(said(), "old");
    insta::assert_snapshot!("reload_refused", policies.warnings().join("\n"));

    let hub = hub.file("zz.lua", "return {}");
    policies.reload(hub.path(), &[]);
    assert_eq!(said(), "new");
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn changes_name_the_files_modules_and_bundled_policies_that_are_others_now() {
    let hub = Hub::with("local names = require('lib.names') return {}")
        .file("lib/names.lua", "return 1")
        .file("other.lua", "return {}");
    let policies = hub.load();
    let changed = |policies: &Policies, bundled: &[&str]| {
        policies.reload(
            hub.path(),
            &bundled
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        );
        policies.changes()
    };
    let none = Vec::<String>::new();
    assert_eq!(changed(&policies, &[]), (none.clone(), none.clone()));
    std::fs::write(hub.path().join("lib/names.lua"), "return 2").unwrap();
    std::fs::remove_file(hub.path().join("other.lua")).unwrap();
    // Read by somebody who does not ask what has changed.
    policies.reload(hub.path(), &[]);
    let names = ["bundled/lru_swap.lua", "lib/names.lua", "other.lua"].map(str::to_owned);
    assert_eq!(
        changed(&policies, &["lru_swap"]),
        (names.to_vec(), none.clone())
    );
    assert_eq!(changed(&policies, &["lru_swap"]), (none.clone(), none));
}

#[test]
fn an_unknown_bundled_name_is_a_warning_with_the_known_ones() {
    let hub = Hub::new();
    let wanted = ["create_hub".to_owned(), "nosuch".to_owned()];
    let world = Arc::clone(&hub.world) as Arc<dyn mlx_openai_server_hub::policy::World>;
    let policies = Policies::load(hub.path(), &wanted, world);
    insta::assert_snapshot!("unknown_bundled", policies.warnings().join("\n"));
    let (_, verdict) = policies.on_request(request("gamma"));
    assert_eq!(rejected(&verdict).0, 400, "the default still decides");
}

#[test]
fn modules_are_found_in_the_folder_and_run_once() {
    let hub = Hub::new()
        .file("lib/count.lua", "print('loaded') return { n = 0 }")
        .file("_near.lua", "return require('lib.count')")
        .file(
            "a.lua",
            "local count = require('_near')
             assert(count == require('lib.count'))
             return { on_request = function() count.n = count.n + 1 end }",
        )
        .file(
            "b.lua",
            "local count = require('lib.count')
             return { on_request = function(_, hub)
               return hub.reject{status = 400, message = tostring(require('lib.count').n)}
             end }",
        );
    let (verdict, policies) = hub.ask();
    assert_eq!(policies.warnings(), [""; 0]);
    assert_eq!(rejected(&verdict).1, "1");
}

#[test]
fn settings_can_be_read_while_a_file_loads() {
    let hub = Hub::with(
        "local limit = hub.settings.limit
         return { on_request = function(_, hub)
           return hub.reject{status = 400, message = 'limit ' .. limit}
         end }",
    );
    let settings = json!({"limit": 7});
    *hub.world.settings.write() = Arc::new(settings.as_object().unwrap().clone());
    assert_eq!(rejected(&hub.ask().0).1, "limit 7");
}

#[test]
fn a_verdict_may_be_made_once_and_returned_often() {
    let hub = Hub::with(
        "local elsewhere = hub.route{model = 'beta'}
         return { on_request = function() return elsewhere end }",
    );
    let policies = hub.load();
    for _ in 0..3 {
        let (_, verdict) = policies.on_request(request("alpha"));
        assert!(matches!(verdict, RequestVerdict::Route(_)));
    }
}

#[test]
fn a_verdict_that_says_the_same_again_is_counted_and_one_that_differs_is_kept() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local model, why = req.headers['x-to'], req.headers['x-why']
           return hub.route{ model = model, reason = why }
         end }",
    );
    let alpha = hub.world.models.read()[0].facts.name.clone();
    let policies = hub.load();
    let ask = |id, to: &str, why, host, path| {
        let mut view = request("auto");
        view.id = http::HeaderValue::from_static(id);
        view.client = ([127, 0, 0, host], 1).into();
        view.parts.uri = http::Uri::from_static(path);
        view.parts.headers.insert("x-to", to.parse().unwrap());
        let why = http::HeaderValue::from_static(why);
        view.parts.headers.insert("x-why", why);
        policies.on_request(view);
        let mut decisions = policies.decisions(&WantedDecisions::default()).decisions;
        let last = decisions.pop().unwrap();
        let input = |name: &str| last.inputs[name].as_str().unwrap().to_owned();
        let told = [
            last.request.unwrap(),
            last.reason.unwrap(),
            input("client"),
            input("path"),
        ];
        (decisions.len(), last.times, told.join(" "))
    };
    let said = |times, told: &str| (0, times, told.to_owned());
    assert_eq!(ask("1", &alpha, "a", 1, "/x"), said(1, "1 a 127.0.0.1 /x"));
    assert_eq!(ask("2", &alpha, "a", 1, "/x"), said(2, "2 a 127.0.0.1 /x"));
    assert_eq!(ask("3", &alpha, "b", 1, "/x"), said(3, "3 b 127.0.0.1 /x"));
    assert_eq!(ask("4", &alpha, "b", 2, "/x"), said(4, "4 b 127.0.0.2 /x"));
    assert_eq!(ask("5", &alpha, "b", 2, "/y"), said(5, "5 b 127.0.0.2 /y"));
    assert_eq!(ask("6", &alpha, "b", 2, "/y"), said(6, "6 b 127.0.0.2 /y"));
    let (before, times, _) = ask("7", "nobody", "b", 2, "/y");
    assert_eq!((before, times), (1, 1));
    // The same verdict, but now there is no such model.
    assert_eq!(ask("8", &alpha, "b", 2, "/y").1, 1);
    hub.world.models.write().clear();
    assert_eq!(ask("9", &alpha, "b", 2, "/y").1, 1);
}
