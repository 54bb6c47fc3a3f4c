//! `status` on terminals of 80 and 120 columns, and in a pipe, which has all of it.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, model, status};
use crate::home_of_four;
use crate::support::home::Home;

/// Models with names as long as people's.
fn answer() -> Value {
    let path = |name: &str| format!("mlx-community/{name}");
    let coder = path("Qwen3-Coder-30B-A3B-Instruct-4bit");
    let gemma = path("gemma-3-27b-it-qat-4bit");
    let reason = "the folder of its weights is not there any more: a disk may not be mounted, or somebody has moved it";
    let mut answer = status(8124);
    answer["warnings"] = json!([]);
    answer["models"] = json!([
        model(
            "qwen3-coder-30b-a3b",
            &json!({"process_state": "running", "memory_state": "loaded",
            "pid": 43210, "port": 47850, "group": "large", "default": true, "auto_unload_minutes": 30,
            "model_path": coder, "memory_bytes": 17_u64 << 30, "active_requests": 2})
        ),
        model(
            "gemma3-27b",
            &json!({"process_state": "failed", "memory_state": "failed",
            "memory_last_error": reason, "group": "large", "model_type": "multimodal",
            "model_path": gemma})
        ),
        model(
            "bge-m3",
            &json!({"process_state": "running", "pid": 43212, "jit_enabled": true,
            "model_type": "embeddings", "default": true})
        ),
    ]);
    answer["memory"] = json!({"total": 64_u64 << 30, "available": 30_u64 << 30, "returning": 0,
        "pressure": "normal"});
    answer
}

/// What a terminal of that width is sent.
fn on_a_terminal(home: &Home, arguments: &[&str], width: u16) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command = home.command(arguments);
    command.env("NO_COLOR", "1").stdout(Stdio::from(pty.slave));
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut screen, mut shown) = (File::from(pty.master), Vec::new());
    // Linux ends it with an error once the last writer has gone.
    let _ = screen.read_to_end(&mut shown);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn status_fits_80_and_120_columns_and_is_whole_in_a_pipe() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, answer())));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let _filters = home.filters(hub.port());
    for width in [80, 120] {
        let shown = on_a_terminal(&home, &["status"], width);
        let is_wide = |line: &&str| line.chars().count() > usize::from(width);
        assert_eq!(shown.lines().find(is_wide), None);
        insta::assert_snapshot!(format!("status_at_{width}"), shown);
    }
    insta::assert_snapshot!("status_in_a_pipe", home.run(&["status"]).out);
}
