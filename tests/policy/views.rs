//! What `req` and models are to Lua: equal, comparable, over with their call, and read no sooner than
//! somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlx_openai_server_hub::api::{HostFacts, ModelFacts, SystemMemory};
use mlx_openai_server_hub::config::{Config, Settings};
use mlx_openai_server_hub::policy::{Credential, GroupView, ModelView, Policies, World};

use crate::world::{FakeWorld, Hub, model, rejected, request};

/// What `body`, the body of an `on_request`, returns as text.
fn told(body: &str) -> String {
    let source = format!(
        "local function tell(req, hub) {body} end
         return {{ on_request = function(req, hub)
           return hub.reject{{ status = 400, message = tostring(tell(req, hub)) }}
         end }}"
    );
    let (verdict, policies) = Hub::with(&source).ask();
    assert_eq!(policies.warnings(), [""; 0], "{body}");
    rejected(&verdict).1.to_owned()
}

#[test]
fn a_request_has_the_name_of_its_clients_key_or_none() {
    let hub = Hub::with(
        "return { on_request = function(req)
           return hub.reject{ status = 400, message = tostring(req.key) }
         end }",
    );
    let policies = hub.load();
    for (key, told) in [(Some("laptop"), "laptop"), (None, "nil")] {
        let mut view = request("alpha");
        view.credential = key.map(Credential::named);
        let (_, verdict) = policies.on_request(view);
        assert_eq!(rejected(&verdict).1, told);
    }
}

#[test]
fn a_model_that_spans_machines_has_each_with_its_share() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local texts = {}
           for i, host in ipairs(hub.models.alpha.hosts or {}) do
             texts[i] = host.name .. ' ' .. host.share
           end
           return hub.reject{ status = 400, message = table.concat(texts, ', ') .. tostring(hub.models.beta.hosts) }
         end }",
    );
    let hosts = ["mac-studio.local", "ada@mini"].map(|name| HostFacts {
        name: name.to_owned(),
        share: 0.5,
    });
    let facts = ModelFacts {
        hosts: hosts.to_vec(),
        ..ModelFacts::clone(&hub.world.models.read()[0].facts)
    };
    hub.world.models.write()[0].facts = Arc::new(facts);
    let (verdict, _) = hub.ask();
    let told = "mac-studio.local 0.5, ada@mini 0.5nil";
    assert_eq!(rejected(&verdict).1, told);
}

#[test]
fn two_views_of_one_model_are_equal_and_those_of_two_are_not() {
    for (is_so, expected) in [
        ("hub.models.alpha == hub.models.alpha", "true"),
        ("hub.models.alpha == hub.models['org/alpha']", "true"),
        ("hub.models.alpha == hub.models[req.model]", "true"),
        ("hub.models.alpha == hub.models.beta", "false"),
        ("hub.models.alpha == req", "false"),
        ("({ [hub.models.alpha] = 'a' })[hub.models.alpha]", "a"),
        ("({ [hub.models.alpha] = 'a' })[hub.models.beta]", "nil"),
        ("req == req", "true"),
    ] {
        assert_eq!(told(&format!("return {is_so}")), expected, "{is_so}");
    }
}

#[test]
fn a_name_that_both_kinds_have_is_that_of_the_view_and_any_other_is_an_error() {
    assert_eq!(
        told("return req.path .. ' ' .. hub.models.alpha.path"),
        "/v1/chat/completions org/alpha"
    );
    for (read, error) in [
        ("req.idle_seconds", "request has no field `idle_seconds`"),
        ("req.process_state", "request has no field `process_state`"),
        (
            "req.paht",
            "request has no field `paht`, did you mean `path`?",
        ),
        ("hub.models.alpha.method", "model has no field `method`"),
        ("hub.models.alpha.headers", "model has no field `headers`"),
        (
            "hub.models.alpha.nmae",
            "model has no field `nmae`, did you mean `name`?",
        ),
        ("hub.models.alpha[1]", "model has no field `1`"),
        ("req[req]", "request has no field of type userdata"),
        ("req[{}]", "request has no field of type table"),
        (
            "pairs(req)",
            "bad argument #1 to 'for iterator' (table expected, got request)",
        ),
    ] {
        let body = format!("return select(2, pcall(function() return {read} end))");
        let told = told(&body);
        assert!(told.contains(error), "{read}: {told}");
    }
    for (write, error) in [
        ("req.model = 1", "request is read-only: cannot set `model`"),
        (
            "hub.models.alpha.name = 1",
            "model is read-only: cannot set `name`",
        ),
        (
            "hub.models.alpha = 1",
            "hub.models is read-only: cannot set `alpha`",
        ),
    ] {
        let body = format!("return select(2, pcall(function() {write} end))");
        let told = told(&body);
        assert!(told.contains(error), "{write}: {told}");
    }
    assert!(told("return tostring(hub.models.alpha)").starts_with("model: 0x"));
    assert!(told("return tostring(req)").starts_with("request: 0x"));
}

#[test]
fn models_are_listed_in_their_order_and_only_a_text_is_a_name() {
    let order = "local names = {}
         for name, model in pairs(hub.models) do
           assert(name == model.name and model == hub.models[name])
           names[#names + 1] = name
         end
         return table.concat(names, ' ')";
    assert_eq!(told(order), "alpha beta gamma");
    // `req.model` and what was read of models have numbers by now; a policy's number is none of those.
    let by_number =
        "local seen = req.model .. hub.models.alpha.process_state .. hub.models.beta.name
         for number = -1, 100 do
           if hub.models[number] ~= nil then return number end
         end
         return hub.models[true] == nil and hub.models.running == nil";
    assert_eq!(told(by_number), "true");
}

#[test]
fn a_model_that_a_policy_kept_is_over_and_never_shows_another() {
    let hub = Hub::with(
        "local kept
         return { on_request = function(req, hub)
           local model = hub.models[req.model]
           kept = kept or model
           local ok, told = pcall(function() return kept.name .. kept.idle_seconds end)
           local is_same = kept == model
           return hub.reject{ status = 400, message = tostring(ok) .. ' ' .. tostring(is_same) .. ' ' .. told }
         end }",
    );
    let policies = hub.load();
    let told = |name| {
        let (_, verdict) = policies.on_request(request(name));
        rejected(&verdict).1.to_owned()
    };
    assert_eq!(told("alpha"), "true true alpha30.0");
    for name in ["beta", "alpha"] {
        let told = told(name);
        assert!(
            told.starts_with("false false policy.lua:5: model is over"),
            "{told}"
        );
    }
}

#[test]
fn more_texts_than_are_kept_are_still_the_right_ones() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local model = hub.models[req.model]
           local text = req.model .. ' ' .. req.path .. ' ' .. tostring(model and model.name)
           return hub.reject{ status = 400, message = text }
         end }",
    );
    let policies = hub.load();
    for number in 0..10_000 {
        let (name, found) = match number % 3 {
            0 => ("alpha".to_owned(), "alpha"),
            _ => (format!("nobody_{number}"), "nil"),
        };
        let (_, verdict) = policies.on_request(request(&name));
        let expected = format!("{name} /v1/chat/completions {found}");
        assert_eq!(rejected(&verdict).1, expected);
    }
}

/// A hub that counts how often a whole model is read, and has none while it is told so.
#[derive(Default)]
struct Counting {
    hub: FakeWorld,
    whole: AtomicUsize,
    are_gone: bool,
}

impl World for Counting {
    fn config(&self) -> Arc<Config> {
        self.hub.config()
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        self.whole.fetch_add(1, Ordering::Relaxed);
        let found = self.hub.model(name_or_path);
        found.filter(|_| !self.are_gone)
    }

    fn facts(&self, name_or_path: &str) -> Option<Arc<ModelFacts>> {
        self.hub.model(name_or_path).map(|model| model.facts)
    }

    fn model_names(&self) -> Vec<String> {
        self.hub.model_names()
    }

    fn group(&self, name: &str) -> Option<GroupView> {
        self.hub.group(name)
    }

    fn group_names(&self) -> Vec<String> {
        self.hub.group_names()
    }

    fn memory(&self) -> SystemMemory {
        self.hub.memory()
    }

    fn settings(&self) -> Arc<Settings> {
        self.hub.settings()
    }

    fn clock(&self) -> f64 {
        self.hub.clock()
    }
}

#[test]
fn what_changes_by_the_moment_is_read_once_in_a_call_and_not_before_it_is_asked_for() {
    let world = Arc::new(Counting::default());
    *world.hub.models.write() = vec![model("alpha"), model("beta")];
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local model = hub.models[req.model]
           local _ = model.process_state .. model.path .. tostring(model.load_seconds)
           if req.model == 'beta' then
             _ = model.active + model.idle_seconds + hub.models.beta.waiting
             return hub.settings.pinned or model.settings.pinned
           end
         end }",
    );
    let policies = Policies::load(hub.path(), &[], Arc::clone(&world) as Arc<dyn World>);
    for (name, reads) in [("alpha", 0), ("beta", 1), ("alpha", 1), ("beta", 2)] {
        policies.on_request(request(name));
        assert_eq!(policies.warnings(), [""; 0]);
        assert_eq!(world.whole.load(Ordering::Relaxed), reads, "{name}");
    }
}

#[test]
fn a_model_that_goes_while_a_policy_looks_has_nothing_going_on() {
    let world = Counting {
        are_gone: true,
        ..Counting::default()
    };
    let mut alpha = model("alpha");
    alpha.activity.active_requests = 3;
    *world.hub.models.write() = vec![alpha];
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local model = hub.models.alpha
           local text = model.name .. ' ' .. model.active .. ' ' .. tostring(model.memory_bytes)
           return hub.reject{ status = 400, message = text }
         end }",
    );
    let policies = Policies::load(hub.path(), &[], Arc::new(world));
    let (_, verdict) = policies.on_request(request("alpha"));
    assert_eq!(rejected(&verdict).1, "alpha 0 nil");
}

#[test]
fn a_header_may_be_called_like_a_field_and_is_asked_for_as_often_as_one_likes() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           local headers, read = req.headers, {}
           for _ = 1, 2 do
             for _, name in ipairs{ 'path', 'model', 'settings', 'X-Tier', 'x-none', 'alpha' } do
               read[#read + 1] = tostring(headers[name])
             end
           end
           for name, value in pairs(headers) do
             assert(headers[name] == value)
             read[#read + 1] = name
           end
           local _, told = pcall(function() return headers[1] end)
           assert(told:find('request.headers has names, not `1`', 1, true), told)
           _, told = pcall(function() headers.a = 1 end)
           assert(told:find('request.headers is read-only: cannot set `a`', 1, true), told)
           _, told = pcall(function() for _ in pairs(req) do end end)
           assert(told:find('table expected, got request', 1, true), told)
           assert(headers == req.headers and headers ~= req)
           return hub.reject{ status = 400, message = table.concat(read, ' ') }
         end }",
    );
    let policies = hub.load();
    for _ in 0..2 {
        let mut view = request("alpha");
        for (name, value) in [("path", "p"), ("model", "m"), ("settings", "s")] {
            let value = http::HeaderValue::from_static(value);
            view.parts.headers.insert(name, value);
        }
        let (_, verdict) = policies.on_request(view);
        let read = "p m s gold nil nil ".repeat(2);
        let expected = format!("{read}content-type x-tier path model settings");
        let (mut told, mut expected): (Vec<_>, Vec<_>) = (
            rejected(&verdict).1.split(' ').collect(),
            expected.split(' ').collect(),
        );
        // A table has no order of its own.
        told[12..].sort_unstable();
        expected[12..].sort_unstable();
        assert_eq!(told, expected);
        assert_eq!(policies.warnings(), [""; 0]);
    }
}
