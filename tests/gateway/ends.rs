//! Every way in which a worker fails, as `memory_last_error`, the clients and the log tell it.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Hub, SOON, processes, stub, wait_for, wait_until};

/// One model per way to fail; `env` sets the knobs of the simulated worker.
const MODELS: &str = r"
- {name: ends_early, model_path: org/m, env: {STUB_CRASH_ON_START: 'true', STUB_EXIT_CODE: '7'}}
- {name: cannot_load, model_path: org/m, env: {STUB_FAIL_LOAD: 'true'}}
- {name: refuses, model_path: org/m, jit_enabled: true, env: {STUB_FAIL_LOAD: 'true'}, worker_command: JIT}
- {name: silent, model_path: org/m, env: {STUB_LOAD_SECONDS: '600'}}
- {name: no_worker, model_path: org/m, worker_command: [/bin/echo, hello]}
- {name: no_help, model_path: org/m, worker_command: [/bin/sh, -c, 'echo broken >&2; exit 3']}
- {name: no_log, model_path: org/m, log_file: /dev/null/a.log}
- {name: no_interpreter, model_path: org/m, worker_command: [SPOILT]}
- {name: spoilt_later, model_path: org/m, worker_command: [LATER]}
- {name: killed, model_path: org/m, env: {STUB_LOAD_SECONDS: '600'}}
- {name: killed_up, model_path: org/m, jit_enabled: true, env: {STUB_LOAD_SECONDS: '600'}, worker_command: JIT}
- {name: stopped, model_path: org/m, env: {STUB_BOOT_SECONDS: '600'}}
- {name: stalls, model_path: org/m, env: {STUB_FIRST_TOKEN_SECONDS: '600'}}
- {name: parked, model_path: org/m, jit_enabled: true, queue_timeout: 1}
";

/// A load that is never given memory.
const POLICY: &str = r#"
return {
  on_load = function(load)
    if load.model.name == "parked" then
      return hub.wait{ seconds = 0.1 }
    end
  end,
}"#;

#[test]
fn every_way_a_worker_fails_is_told_with_its_cause() {
    // As a virtual environment is after an upgrade of its Python.
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    std::os::unix::fs::symlink("/bin/sh", &python).unwrap();
    let program = |name: &str, text: &str| {
        let program = folder.path().join(name);
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        program.display().to_string()
    };
    let spoilt = program("spoilt", "#!/nosuch/python\n");
    let help = format!("#!{}\necho --model-path --port\n", python.display());
    let spoilt_later = program("spoilt_later", &help);
    let yaml = format!(
        "worker_command: {}\nload_timeout: 5\nstop_timeout: 2\nstall_timeout: 2\nmodels:{}",
        stub(&[]),
        MODELS
            .replace("JIT", &stub(&["--dialect", "jit"]))
            .replace("SPOILT", &spoilt)
            .replace("LATER", &spoilt_later),
    );
    let hub = &Hub::start_with(&yaml, &[("a.lua", POLICY)]);
    let told = |name: &str| {
        let body = hub.act(name, "start").json();
        match name {
            "refuses" | "killed_up" | "parked" => hub.act(name, "load").json(),
            _ => body,
        }
    };
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let names = [
            "ends_early",
            "cannot_load",
            "refuses",
            "silent",
            "no_worker",
            "no_help",
            "no_log",
            "no_interpreter",
            "killed",
            "killed_up",
            "stopped",
            "stalls",
            "parked",
        ];
        let answers = names.map(|name| scope.spawn(move || (name, told(name))));
        for name in ["killed", "killed_up"] {
            wait_until("it to load", SOON, || {
                let log = std::fs::read_to_string(hub.logs().join(format!("{name}.log")));
                log.is_ok_and(|log| log.contains("Loading model"))
            });
            let pid = hub.model(name)["pid"].as_u64().unwrap();
            processes::send_to_group(u32::try_from(pid).unwrap(), Signal::SIGKILL);
        }
        wait_for("its process", SOON, || hub.model("stopped")["pid"].as_u64());
        assert_eq!(hub.act("stopped", "stop").status, 200);
        answers
            .map(|answer| {
                let (name, answer) = answer.join().unwrap();
                serde_json::json!([name, answer])
            })
            .into()
    });
    let mut book = String::new();
    for answer in answers {
        let name = answer[0].as_str().unwrap();
        let message = answer[1]["error"]["message"].as_str().unwrap_or("started");
        writeln!(book, "# {name}\n{message}\n").unwrap();
    }

    // Its options are known by then.
    hub.act("spoilt_later", "start");
    std::fs::remove_file(&python).unwrap();
    let error = hub.act("spoilt_later", "start").json()["error"]["message"].clone();
    writeln!(book, "# spoilt_later\n{}\n", error.as_str().unwrap()).unwrap();

    // It takes a request and does nothing about it.
    let answer = hub.http.chat("stalls", "hello");
    let message = answer.json()["error"]["message"].clone();
    writeln!(book, "# stalls, its client\n{} {message}\n", answer.status).unwrap();
    let error = wait_for("why", SOON, || {
        hub.model("stalls")["memory_last_error"]
            .as_str()
            .map(str::to_owned)
    });
    writeln!(book, "# stalls, its status\n{error}\n").unwrap();
    wait_until("it to be back", SOON, || {
        hub.model("stalls")["memory_state"] == "loaded"
    });

    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME");
    settings.add_filter(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT");
    let folder = folder.path().display().to_string();
    settings.add_filter(&folder.replace('.', r"\."), "FOLDER");
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(book));
}
