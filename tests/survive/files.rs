//! hub.yaml gone, and a low limit of open files.

use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Hub, SOON, wait_until};
use crate::{models, state, warnings, worker};

#[test]
fn a_hub_without_its_hub_yaml_is_degraded_and_serves_on() {
    let yaml = format!(
        "{}\n{}",
        worker(&[]),
        models(&[
            ("alpha", "default: true"),
            ("beta", "jit_enabled: true, default: true")
        ])
    );
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    std::fs::remove_file(hub.config()).unwrap();
    let status = hub.status();
    assert_eq!(status["status"], "degraded");
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("hub.yaml on disk is not valid"),
        "{warning}"
    );
    assert!(warning.contains("not found"), "{warning}");
    let before = state(&hub, "alpha");
    assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 400);
    assert_eq!(state(&hub, "alpha"), before);
    for model in ["alpha", "beta"] {
        assert_eq!(hub.http.chat(model, "hello").status, 200);
    }
    hub.configure(&yaml);
    assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 200);
    assert_eq!(hub.status()["status"], "ok");
}

/// Opening a pipe waits for a writer, and there is none.
#[test]
fn a_pipe_in_the_place_of_a_lua_file_holds_up_nothing() {
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let folder = hub.config().parent().unwrap().to_owned();
    std::fs::create_dir(folder.join("engines")).unwrap();
    for pipe in ["module.lua", "engines/mine.lua"] {
        nix::unistd::mkfifo(&folder.join(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    std::fs::write(folder.join("mine.lua"), "require(\"module\")\nreturn {}\n").unwrap();
    assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 200);
    wait_until("the warning", SOON, || {
        warnings(&hub).contains("no regular file")
    });
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.run(&["restart"]).status.code(), Some(0));
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
}

/// 256 is what macOS gives a shell: two descriptors a stream, that would be some hundred streams.
#[test]
fn a_low_soft_limit_of_open_files_is_raised() {
    let script = "ulimit -S -n 64 && exec \"$0\" \"$@\"";
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let hub = Hub::start_under(&yaml, script);
    hub.wait_for_state("alpha", "running", "loaded");
    let clients: Vec<_> = (0..150)
        .map(|_| TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap())
        .collect();
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    drop(clients);
}

/// A dashboard that has its connection sees why others cannot connect.
#[test]
fn a_hub_at_its_limit_of_open_files_says_so_until_clients_have_left() {
    use std::io::{Read as _, Write as _};
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let hub = Hub::start_with_descriptors(&yaml, 64);
    hub.wait_for_state("alpha", "running", "loaded");
    let mut dashboard = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let mut ask = || {
        write!(
            dashboard,
            "GET /hub/status HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        )
        .unwrap();
        let mut answer = [0; 16 * 1024];
        let length = dashboard.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert!(ask().contains("\"warnings\":[]"));
    let clients: Vec<_> = (0..150)
        .map(|_| TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap())
        .collect();
    wait_until("a warning", SOON, || {
        ask().contains("no more connections can be accepted")
    });
    drop(clients);
    wait_until("the warning to go", SOON, || warnings(&hub) == "[]");
}
