//! Every error body that a client of `/v1` and `/hub` can meet, in snapshots to be read as a whole:
//! the hub's own, and those of policies and dying workers.

use std::fmt::Write as _;

use crate::support::http::{Answer, Reply};
use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, stub, wait_for, wait_until};
use crate::{CHAT, ENDLESS, alpha, begin_stream, error_of};

/// What is sent: method, path, headers, body.
type Request<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

const FORM: &[(&str, &str)] = &[("content-type", "multipart/form-data; boundary=B")];
/// The length is declared; the answer comes before the body would.
const HUGE: &[(&str, &str)] = &[("content-length", "268435457"), ("expect", "100-continue")];

const CHUNKED: &[(&str, &str)] = &[("transfer-encoding", "chunked")];

/// Read with `alpha` ready, `beta` in memory and with it group `small` full, `broken` failing its load
/// and `idle` not started.
const REQUESTS: &[(&str, Request)] = &[
    ("no model", ("POST", CHAT, &[], "{}")),
    ("a blank model", ("POST", CHAT, &[], r#"{"model":" "}"#)),
    (
        "no model in a form",
        (
            "POST",
            "/v1/audio/transcriptions",
            FORM,
            "--B\r\n\r\n\r\n--B--\r\n",
        ),
    ),
    ("no model in a query", ("GET", "/v1/queue/stats", &[], "")),
    (
        "an unknown model",
        ("POST", CHAT, &[], r#"{"model":"nosuch"}"#),
    ),
    (
        "an unknown model in a path",
        ("GET", "/v1/models/nosuch", &[], ""),
    ),
    (
        "a response that nobody made",
        ("GET", "/v1/responses/resp_1", &[], ""),
    ),
    (
        "a model that is not started",
        ("POST", CHAT, &[], r#"{"model":"idle"}"#),
    ),
    ("a full group", ("POST", CHAT, &[], r#"{"model":"gamma"}"#)),
    (
        "a load that fails",
        ("POST", CHAT, &[], r#"{"model":"broken"}"#),
    ),
    (
        "malformed JSON",
        ("POST", CHAT, &[], "{\"messages\": [\n  {\"role\": }]"),
    ),
    ("JSON that is no object", ("POST", CHAT, &[], "[]")),
    (
        "a body that is no form",
        ("POST", "/v1/images/edits", FORM, "{}"),
    ),
    ("a body over the limit", ("PUT", "/v1/nosuch", HUGE, "")),
    ("a wrong method", ("GET", CHAT, &[], "")),
    ("an unknown route below /v1", ("GET", "/v1/nosuch", &[], "")),
    ("an unknown route", ("GET", "/nosuch", &[], "")),
    (
        "an unknown route below /hub",
        ("POST", "/hub/models/alpha/nosuch", &[], ""),
    ),
    ("a wrong method below /hub", ("GET", "/hub/reload", &[], "")),
    (
        "a verb on an unknown model",
        ("POST", "/hub/models/nosuch/load", &[], ""),
    ),
    (
        "a verb on a blank model",
        ("POST", "/hub/models/%20/start", &[], ""),
    ),
    ("a verb on no model", ("POST", "/hub/models//stop", &[], "")),
    (
        "a name that is no text",
        ("POST", "/hub/models/%FF/load", &[], ""),
    ),
    (
        "load of a model that is not started",
        ("POST", "/hub/models/idle/load", &[], ""),
    ),
    (
        "load into a full group",
        ("POST", "/hub/models/gamma/load", &[], ""),
    ),
    (
        "a load that fails",
        ("POST", "/hub/models/broken/load", &[], ""),
    ),
    (
        "a page of another origin",
        (
            "POST",
            "/hub/reload",
            &[("origin", "http://evil.example")],
            "",
        ),
    ),
    (
        "a strange host name",
        ("GET", "/hub/status", &[("host", "evil.example")], ""),
    ),
];

#[test]
fn every_error_says_what_failed_and_what_to_do() {
    let hub = Hub::start(&models());
    assert_eq!(hub.act("beta", "load").status, 200);
    let mut book = String::new();
    for (case, request) in REQUESTS {
        enter(&mut book, case, request, &ask(&hub, request));
    }

    let request = ("POST", CHAT, CHUNKED, "no chunk\r\n");
    enter(
        &mut book,
        "a body that is framed wrongly",
        &request,
        &ask(&hub, &request),
    );

    let long = "x".repeat(64 * 1024 + 1);
    let request = ("POST", "/hub/reload", &[][..], long.as_str());
    let answer = ask(&hub, &request);
    enter(
        &mut book,
        "a control body over the limit",
        &("POST", "/hub/reload", &[], "(long)"),
        &answer,
    );

    let events = begin_stream(&hub);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| hub.act("alpha", "stop").status);
        hub.wait_for_state("alpha", "stopping", "unloading");
        let request = ("POST", CHAT, &[][..], r#"{"model":"alpha"}"#);
        enter(
            &mut book,
            "a model that is being stopped",
            &request,
            &ask(&hub, &request),
        );
        let request = ("POST", "/hub/models/alpha/load", &[][..], "");
        enter(
            &mut book,
            "load of a model that is being stopped",
            &request,
            &ask(&hub, &request),
        );
        drop(events);
        assert_eq!(stop.join().unwrap(), 200);
    });

    hub.configure("modles: []\nmodels:\n- {name: alpha}\n");
    let request = ("POST", "/hub/reload", &[][..], "");
    enter(
        &mut book,
        "a reload of a broken hub.yaml",
        &request,
        &ask(&hub, &request),
    );

    // Requests in flight are waited for: until then the hub answers.
    let request = ("POST", "/hub/models/beta/load", &[][..], "");
    let events = hub.http.stream("beta", "hello").events();
    hub.signal(Signal::SIGTERM);
    let answer = wait_for("the shutdown", SOON, || {
        let answer = ask(&hub, &request);
        (answer.status != 200).then_some(answer)
    });
    enter(&mut book, "a verb during the shutdown", &request, &answer);
    drop(events);

    let _filters = filters(&hub);
    insta::assert_snapshot!(book);
}

/// Chooses by the model's name which error to make.
const POLICY: &str = r#"
return {
  on_error = "deny",
  on_request = function(req)
    if req.model == "reject" then
      return hub.reject{ status = 429, message = "Ten a day.", type = "quota", code = "daily" }
    elseif req.model == "lost" then
      return hub.route{ model = "nosuch" }
    elseif req.model == "no-json" then
      return hub.route{ model = "alpha", set = { seed = 7 } }
    elseif req.model == "bug" then
      error("a mistake")
    end
  end,
}"#;

#[test]
fn every_error_of_policies_and_of_workers_that_die_says_whose_it_is() {
    let yaml = alpha(&["--crash-after-events", "3"]);
    let more = "- {name: silent, model_path: org/silent, jit_enabled: true, default: true, \
                env: {STUB_FIRST_TOKEN_SECONDS: '600'}}\n";
    let hub = Hub::start_with(&format!("{yaml}{more}"), &[("a.lua", POLICY)]);
    let form = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nno-json\r\n--B--\r\n";
    let requests: &[(&str, Request)] = &[
        ("a refusal", ("POST", CHAT, &[], r#"{"model":"reject"}"#)),
        ("a lost route", ("POST", CHAT, &[], r#"{"model":"lost"}"#)),
        ("fields in a form", ("POST", "/v1/images/edits", FORM, form)),
        ("a bug", ("POST", CHAT, &[], r#"{"model":"bug"}"#)),
    ];
    let mut book = String::new();
    for (case, request) in requests {
        enter(&mut book, case, request, &ask(&hub, request));
    }
    // With nothing sent before its death there is an answer to give.
    std::thread::scope(|scope| {
        let hub = &hub;
        let body = r#"{"model":"silent","messages":[]}"#;
        let request = ("POST", CHAT, &[][..], body);
        let client = scope.spawn(move || ask(hub, &request));
        wait_until("the request to arrive", SOON, || {
            !hub.record.requests(CHAT).is_empty()
        });
        let worker = hub.model("silent")["pid"].as_u64().unwrap();
        processes::send_to_group(u32::try_from(worker).unwrap(), Signal::SIGKILL);
        let answer = client.join().unwrap();
        enter(
            &mut book,
            "a worker that dies before it answers",
            &request,
            &answer,
        );
    });
    let events = hub.http.stream("alpha", "hello").events();
    let last = events.map_while(Result::ok).last().unwrap();
    writeln!(book, "# a worker that dies in its stream\n{last}").unwrap();
    let _filters = filters(&hub);
    insta::assert_snapshot!(book);
}

/// Snapshots without what differs from run to run; to be kept while they are compared.
fn filters(hub: &Hub) -> impl Drop + use<> {
    let home = hub.folder().display().to_string().replace('.', r"\.");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(&home, "HOME");
    settings.add_filter(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*Z?", "TIME");
    settings.set_omit_expression(true);
    settings.bind_to_scope()
}

fn models() -> String {
    format!(
        "worker_command: {}\n\
         groups:\n- {{name: small, max_loaded: 1}}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, default: true, group: small}}\n\
         - {{name: gamma, model_path: org/gamma, jit_enabled: true, default: true, group: small}}\n\
         - {{name: broken, model_path: org/broken, jit_enabled: true, default: true, env: {{STUB_FAIL_LOAD: 'true'}}}}\n\
         - {{name: idle, model_path: org/idle}}\n",
        stub(&ENDLESS)
    )
}

fn ask(hub: &Hub, (method, path, headers, body): &Request) -> Answer {
    let reply = hub.http.send(method, path, headers, body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

/// One entry: what was asked, and what a client sees.
fn enter(book: &mut String, case: &str, (method, path, _, body): &Request, answer: &Answer) {
    let error = error_of(answer);
    let word = |field: &str| error[field].as_str().unwrap_or("null").to_owned();
    let body = body.replace('\r', "\\r").replace('\n', "\\n");
    let request = format!("{method} {path} {body}");
    let (kind, code, param) = (word("type"), word("code"), word("param"));
    writeln!(
        book,
        "# {case}\n{}\n{} type={kind} code={code} param={param}\n{}\n",
        request.trim_end(),
        answer.status,
        word("message"),
    )
    .unwrap();
}
