//! Section 2: what a key of hub.yaml does, once the hub runs. What a file may hold is tested in
//! tests/config.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};

use serde_json::{Value, json};

use crate::Home;
use crate::home::JIT;
use crate::support::{SOON, processes, wait_until};

/// Whether `flag` is followed by `value`.
fn has(arguments: &[String], flag: &str, value: &str) -> bool {
    arguments
        .windows(2)
        .any(|pair| pair[0] == flag && pair[1] == value)
}

fn ports(home: &Home) -> Vec<u64> {
    let status = home.status();
    let models = status["models"].as_array().unwrap().iter();
    models
        .map(|model| model["metadata"]["port"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_worker_gets_the_options_that_are_set_and_that_it_has() {
    let home = Home::with_stub(&format!(
        "log_level: warning\n\
         models:\n\
         - name: plain\n  \
           model_path: org/plain\n  \
           default: true\n\
         - name: full\n  \
           model_path: weights\n  \
           model_type: embeddings\n  \
           default: true\n  \
           context_length: 4096\n  \
           queue_timeout: 30\n  \
           queue_size: '5'\n  \
           trust_remote_code: yes\n  \
           enable_auto_tool_choice: false\n  \
           tool_call_parser: qwen3\n  \
           kv_bits: 4\n  \
           log_level: debug\n  \
           extra_args: [--seed, 7]\n\
         - name: resident\n  \
           model_path: org/resident\n  \
           default: true\n  \
           jit_enabled: true\n  \
           auto_unload_minutes: 60\n  \
           max_concurrency: 4\n  \
           worker_command: {JIT}\n\
         - name: picture\n  \
           model_path: org/picture\n  \
           model_type: image-generation\n  \
           default: true\n  \
           lora_paths_str: 'org/one, org/two'\n  \
           lora_scales: [0.5, 1]\n"
    ));
    std::fs::create_dir(home.base().join("weights")).unwrap();
    home.start();
    for (name, memory) in [
        ("plain", "loaded"),
        ("full", "loaded"),
        ("resident", "unloaded"),
        ("picture", "loaded"),
    ] {
        home.wait_for_state(name, "running", memory);
    }
    let port = home.model("plain")["port"].to_string();
    assert_eq!(
        home.worker_arguments("plain")[1..].join(" "),
        format!(
            "--model-path org/plain --model-type lm --host 127.0.0.1 --port {port} --no-log-file \
             --log-level WARNING --served-model-name plain"
        ),
        "nothing that nobody set"
    );

    let full = home.worker_arguments("full");
    let weights = home.base().join("weights").canonicalize().unwrap();
    let weights = weights.display().to_string();
    for (flag, value) in [
        ("--model-path", weights.as_str()),
        ("--model-type", "embeddings"),
        ("--context-length", "4096"),
        ("--queue-timeout", "30"),
        ("--queue-size", "5"),
        ("--tool-call-parser", "qwen3"),
        ("--kv-bits", "4"),
        ("--log-level", "DEBUG"),
        ("--served-model-name", "full"),
    ] {
        assert!(has(&full, flag, value), "{flag} {value}: {full:?}");
    }
    assert!(full.contains(&"--trust-remote-code".to_owned()));
    assert!(!full.contains(&"--enable-auto-tool-choice".to_owned()));
    assert_eq!(
        full[full.len() - 2..],
        ["--seed", "7"],
        "at the end, as they are"
    );

    let resident = home.worker_arguments("resident");
    assert!(has(&resident, "--max-concurrency", "4"));
    assert!(resident.contains(&"--jit".to_owned()));
    for absent in ["--auto-unload-minutes", "--served-model-name"] {
        assert!(
            !resident.contains(&absent.to_owned()),
            "{absent}: {resident:?}"
        );
    }

    let picture = home.worker_arguments("picture");
    assert!(has(&picture, "--config-name", "flux-schnell"));
    assert!(
        has(&picture, "--lora-paths", "org/one,org/two"),
        "{picture:?}"
    );
    assert!(has(&picture, "--lora-scales", "0.5,1"), "{picture:?}");
    assert!(
        home.warnings().contains("flux-schnell"),
        "{}",
        home.warnings()
    );
}

#[test]
fn a_name_with_dots_works_wherever_a_name_does_and_is_no_file_of_the_hubs() {
    let home = Home::started("models:\n- {name: app.3.10, model_path: org/it, default: true}\n");
    home.wait_for_state("app.3.10", "running", "loaded");
    let body = json!({"model": "app.3.10", "messages": [{"role": "user", "content": "hi"}]});
    let answer = home.http.post("/v1/chat/completions", &body).json();
    assert_eq!(answer["model"], "app.3.10");
    let health = home.http.get("/upstream/app.3.10/health");
    assert_eq!(health.status, 200, "{}", health.text());
    home.run(&["unload-model", "app.3.10"])
        .assert_ok()
        .assert_line("[ok] app.3.10: unloaded");
    let log = home.logs().join("_app.3.10.log");
    assert_eq!(
        home.model("app.3.10")["log_path"],
        log.display().to_string()
    );
    assert!(log.exists());
    assert!(home.app_log().contains("the hub is up"));
}

#[test]
fn a_folder_that_comes_later_is_a_path_from_the_beginning() {
    let home =
        Home::started("models:\n- {name: alpha, model_path: ~/late/alpha, jit_enabled: true}\n");
    let folder = home.path().join("late/alpha");
    let warning = format!(
        "model `alpha`: `model_path` is `{}`, and nothing is there",
        folder.display()
    );
    for command in ["check", "status"] {
        let said = home.run(&[command]);
        said.assert_ok().assert_line(&format!("[warn] {warning}"));
    }
    std::fs::create_dir_all(&folder).unwrap();
    wait_until("the folder to be seen", SOON, || {
        !home.warnings().contains(&warning)
    });
    home.run(&["start-model", "alpha"]).assert_ok();
    home.run(&["load-model", "alpha"]).assert_ok();
    let arguments = home.worker_arguments("alpha");
    let path = folder.display().to_string();
    assert!(has(&arguments, "--model-path", &path), "{arguments:?}");
}

#[test]
fn a_hub_on_a_name_answers_at_every_address_of_it() {
    let home = Home::with_stub("models: [{name: alpha, model_path: org/alpha}]\n");
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write(&text.replace("host: 127.0.0.1", "host: localhost"));
    home.start();
    let addresses = ("localhost", home.port).to_socket_addrs().unwrap();
    // Where IPv6 is switched off nobody can listen at `::1`.
    for address in addresses.filter(|address| TcpListener::bind((address.ip(), 0)).is_ok()) {
        let mut connection = TcpStream::connect(address).unwrap();
        let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("controller"), "{address}: {answer}");
    }
}

#[test]
fn an_option_the_worker_lacks_is_a_warning_that_names_model_and_option() {
    let home = Home::started(&format!(
        "models:\n\
         - {{name: alpha, model_path: org/alpha, max_concurrency: 4}}\n\
         - {{name: beta, model_path: org/beta, kv_bits: 4, worker_command: {JIT}}}\n"
    ));
    for (model, option) in [("alpha", "max_concurrency"), ("beta", "kv_bits")] {
        home.wait_for_warning(&format!("`{option}`"));
        let warnings = home.warnings();
        let named = |line: &str| line.contains(model) && line.contains(option);
        assert!(warnings.lines().any(named), "{warnings}");
    }
    assert_eq!(home.status()["status"], "ok");
}

#[test]
fn a_worker_has_its_env_and_a_folder_of_its_own() {
    let home = Home::started(
        "models:\n\
         - {name: alpha, model_path: org/alpha, default: true, env: {STUB_TOKENS: '3', OWN: 'yes'}}\n\
         - {name: beta, model_path: org/beta, default: true}\n",
    );
    let folders: Vec<Value> = ["alpha", "beta"]
        .map(|name| {
            home.wait_for_state(name, "running", "loaded");
            let start = home.worker_start(name);
            assert_eq!(start["tmpdir"], start["folder"]);
            start["folder"].clone()
        })
        .into();
    assert_ne!(folders[0], folders[1]);
    let folder = std::path::Path::new(folders[0].as_str().unwrap());
    let inside = |base: std::path::PathBuf| folder.starts_with(base.canonicalize().unwrap());
    assert!(inside(home.logs()), "not where the user works: {folder:?}");
    let body = json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}]});
    let answer = home.http.post("/v1/chat/completions", &body).json();
    assert_eq!(
        answer["usage"]["completion_tokens"], 3,
        "STUB_TOKENS: {answer}"
    );
    home.run(&["stop"]).assert_ok();
    assert!(!folder.exists(), "what it left behind goes with it");
}

#[test]
fn a_worker_writes_unbuffered() {
    let home = Home::with_stub(
        "models: [{name: alpha, model_path: org/alpha, default: true, worker_command: ./shows-env}]\n",
    );
    let script = format!(
        "#!/bin/sh\nenv > '{}'\nexec mlx-openai-server \"$@\"\n",
        home.path().join("env").display()
    );
    let program = home.base().join("shows-env");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    home.start();
    home.wait_for_state("alpha", "running", "loaded");
    let env = std::fs::read_to_string(home.path().join("env")).unwrap();
    assert!(
        env.lines().any(|line| line == "PYTHONUNBUFFERED=1"),
        "{env}"
    );
}

#[test]
fn a_worker_command_has_arguments_of_its_own_or_is_a_path_in_the_home_folder() {
    let home = Home::started(
        "worker_command: mlx-openai-server --dialect jit\n\
         models:\n\
         - {name: inherits, model_path: org/inherits, jit_enabled: true}\n\
         - {name: listed, model_path: org/listed, jit_enabled: true, \
            worker_command: [mlx-openai-server, --dialect, jit]}\n\
         - {name: lies, model_path: org/lies, jit_enabled: true, \
            worker_command: ~/bin/mlx-openai-server}\n",
    );
    for (name, resident) in [("inherits", true), ("listed", true), ("lies", false)] {
        home.done(name, "start");
        assert_eq!(home.model(name)["pid"].is_u64(), resident, "{name}");
        home.done(name, "load");
    }
}

#[test]
fn a_worker_command_that_is_not_there_fails_before_anything_starts() {
    let home = Home::with_stub(
        "models:\n\
         - {name: alpha, model_path: org/alpha, default: true}\n\
         - {name: beta, model_path: org/beta, worker_command: no-such-program}\n",
    );
    let failed = home.run(&["start"]);
    let error = &failed.assert_failed().err;
    assert!(
        error.contains("beta") && error.contains("no-such-program"),
        "{error}"
    );
    assert!(!home.runtime_file().exists());
}

#[test]
fn ports_are_given_in_file_order_from_the_starting_port_on() {
    let home = Home::with_stub("");
    let first = home.port;
    // The hub's own port, one of another model, and one that another program holds are left out.
    let _holder = TcpListener::bind(("127.0.0.1", first + 2)).unwrap();
    let explicit = first + 3;
    home.write(&format!(
        "host: 127.0.0.1\nport: {first}\nmodel_starting_port: {first}\n\
         models:\n\
         - {{name: one, model_path: org/m}}\n\
         - {{name: two, model_path: org/m}}\n\
         - {{name: three, model_path: org/m, port: {explicit}}}\n\
         - {{name: four, model_path: org/m}}\n"
    ));
    let started = home.start();
    let expected = [1, 4, 3, 5].map(|step| u64::from(first + step));
    assert_eq!(ports(&home), expected, "{started:?}");

    // Only the daemon probes: the command line takes no part in it.
    home.run(&["stop"]).assert_ok();
    let status = home.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status.assert_ok().out).unwrap();
    assert_eq!(status["models"][0]["metadata"]["port"], Value::Null);
}

#[test]
fn ports_stay_across_reload_and_restart() {
    let alpha = "- {name: alpha, model_path: org/alpha, default: true}\n";
    let beta = "- {name: beta, model_path: org/beta, default: true}\n";
    let home = Home::started(&format!("models:\n{alpha}{beta}"));
    let pid = home.wait_for_state("alpha", "running", "loaded")["pid"].clone();
    home.wait_for_state("beta", "running", "loaded");
    let before = ports(&home);
    home.configure(&format!(
        "models:\n{beta}{alpha}- {{name: new, model_path: org/new}}\n"
    ));
    home.reload();
    let first = u64::from(home.port) + 1;
    assert_eq!(ports(&home), [before[1], before[0], first + 2]);
    assert_eq!(home.model("alpha")["pid"], pid);
    // Changed, so it is restarted; its own worker held the port until then.
    home.configure(&format!(
        "models:\n- {{name: alpha, model_path: org/other, default: true}}\n{beta}"
    ));
    home.reload();
    home.wait_for_state("alpha", "running", "loaded");
    assert_eq!(ports(&home), before);
    home.done("beta", "stop");
    home.done("beta", "start");
    assert_eq!(ports(&home), before);
}

#[test]
fn an_explicit_port_that_the_models_own_worker_holds_is_no_error_at_a_reload() {
    let yaml = |more: &str, port: u16| {
        format!(
            "models: [{{name: alpha, model_path: org/alpha, default: true, port: {port}}}{more}]\n"
        )
    };
    let explicit = processes::ports();
    let home = Home::started(&yaml("", explicit));
    let pid = home.wait_for_state("alpha", "running", "loaded")["pid"].clone();
    assert_eq!(ports(&home), [u64::from(explicit)]);
    home.configure(&yaml(", {name: beta, model_path: org/beta}", explicit));
    home.reload();
    assert_eq!(home.model("alpha")["pid"], pid);
    home.configure(&yaml("", explicit + 1));
    home.reload();
    home.wait_for_state("alpha", "running", "loaded");
    assert_eq!(ports(&home), [u64::from(explicit) + 1]);
}

#[test]
fn an_allocated_port_that_is_taken_at_launch_moves_on_and_an_explicit_one_fails() {
    let explicit = processes::ports();
    let home = Home::started(&format!(
        "models:\n\
         - {{name: alpha, model_path: org/alpha}}\n\
         - {{name: beta, model_path: org/beta, port: {explicit}}}\n"
    ));
    let first = home.port + 1;
    let _holders = [first, explicit].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    home.done("alpha", "start");
    let moved = home.model("alpha")["port"].as_u64().unwrap();
    assert!(moved > u64::from(first), "{moved}");
    assert_eq!(home.http.chat("alpha", "hello").status, 200);

    let refused = home.act("beta", "start");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(
        refused.text().contains(&explicit.to_string()),
        "{}",
        refused.text()
    );
    assert_eq!(home.states("beta").0, "failed");

    home.configure(&format!(
        "models: [{{name: alpha, model_path: org/alpha}}, {{name: gamma, model_path: org/g, port: {explicit}}}]\n"
    ));
    let refused = home.http.post("/hub/reload", &Value::Null);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(home.status()["models"][1]["id"], "beta", "nothing changed");
}

#[test]
fn the_hub_and_its_workers_may_live_on_ipv6() {
    let home = Home::with_stub("");
    let (port, first) = (home.port, home.port + 1);
    home.write(&format!(
        "host: '::1'\nport: {port}\nmodel_starting_port: {first}\n\
         models: [{{name: alpha, model_path: org/alpha, host: '::1', default: true}}]\n"
    ));
    let started = home.start();
    started.assert_line(&format!(
        "Browse to http://[::1]:{port}/hub for the status dashboard"
    ));
    home.run(&["start-model", "alpha"]).assert_ok();
    home.run(&["load-model", "alpha"])
        .assert_ok()
        .assert_line("[ok] alpha: already loaded");
    let arguments = home.worker_arguments("alpha");
    assert!(has(&arguments, "--host", "::1"), "{arguments:?}");
    home.run(&["stop"]).assert_ok();
    home.wait_for_end();
}

#[test]
fn a_load_without_a_sign_of_life_fails_after_load_timeout() {
    let home = Home::started(
        "load_timeout: 1\n\
         models:\n\
         - {name: silent, model_path: org/silent, env: {STUB_LOAD_SECONDS: '60'}}\n\
         - {name: chatty, model_path: org/chatty, \
            env: {STUB_LOAD_SECONDS: '3', STUB_CHATTY_LOAD: 'true'}}\n\
         - {name: growing, model_path: org/growing, \
            env: {STUB_LOAD_SECONDS: '3', STUB_MEMORY_MB: '100'}}\n",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let failed = home.act("silent", "start");
            assert_eq!(failed.status, 503, "{}", failed.text());
            assert!(failed.text().contains("load_timeout"), "{}", failed.text());
            assert_eq!(home.states("silent"), ("failed".into(), "failed".into()));
        });
        scope.spawn(|| home.done("chatty", "start"));
        scope.spawn(|| home.done("growing", "start"));
    });
}

#[test]
fn the_status_page_can_be_switched_off_and_the_api_stays() {
    let home = Home::with_stub("enable_status_page: off\nmodels: [{name: a, model_path: org/a}]\n");
    let started = home.start();
    started.assert_line("Status page enabled: no");
    assert!(!started.out.contains("Browse to"), "{started:?}");
    for path in ["/hub", "/hub/"] {
        let answer = home.http.get(path);
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["error"]["code"], "404");
    }
    assert_eq!(home.status()["status"], "ok");
}

#[test]
fn a_typo_is_an_error_in_a_model_and_a_warning_elsewhere() {
    let home = Home::with_stub("modles: []\nmodels: [{name: a, model_path: org/a}]\n");
    home.start();
    assert!(home.warnings().contains("`models`"), "{}", home.warnings());
    home.configure("models: [{name: a, modle_path: org/a}]\n");
    let failed = home.run(&["reload"]);
    let error = &failed.assert_failed().err;
    let begin = format!("Error: {}:4:", home.config().display());
    assert!(error.starts_with(&begin), "{error}");
    assert!(error.contains("model_path"), "{error}");
}
