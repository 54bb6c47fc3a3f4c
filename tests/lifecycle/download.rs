//! A model whose files are downloaded while it loads: what is shown of it, and how long it may take.

use serde_json::Value;

use crate::support::downloads::{TOTAL, home};
use crate::support::home::Home;
use crate::support::http::chat;
use crate::support::{SOON, alpha::CHAT, model_folder, wait_for, wait_until};

#[test]
fn a_download_is_shown_and_waited_for_beyond_load_timeout() {
    let home = home("jit_enabled: true", 150, 8);
    let asked = std::thread::spawn({
        let http = home.http;
        move || {
            http.open(CHAT, &chat("far", "hi", true))
                .whole()
                .unwrap()
                .text()
        }
    });
    let download = wait_for("a download", SOON, || {
        let download = home.model("far")["download"].take();
        (!download.is_null()).then_some(download)
    });
    assert!(download["bytes"].as_u64().unwrap() > 0, "{download}");
    assert_eq!(download["total"], TOTAL);
    let said = home.said(&["status"]);
    assert!(said.contains("B of 20.0 MB"), "{said}");
    assert!(said.contains(" s, downloaded "), "{said}");
    let answer = asked.join().unwrap();
    assert!(answer.contains("s, downloaded "), "{answer}");
    assert!(answer.contains("B of 20.0 MB\n"), "{answer}");
    assert!(answer.contains("[DONE]"), "{answer}");
    home.assert_states("far", "running", "loaded");
    assert_eq!(home.model("far")["download"], Value::Null);
}

#[test]
fn a_download_that_stands_still_fails_after_load_timeout() {
    let home = home("jit_enabled: true", 5, 60);
    let answer = home.http.chat("far", "hi");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("load_timeout"), "{}", answer.text());
}

#[test]
fn a_model_on_the_disk_shows_no_download_whatever_an_earlier_one_has_left() {
    let home = Home::with_stub(
        "models:\n- {name: near, model_path: org/near, jit_enabled: true, default: true, \
         env: {STUB_LOAD_SECONDS: '3'}}\n",
    );
    let config = serde_json::json!({"model_type": "qwen3"});
    let snapshot = model_folder::write_cached(home.path(), "org/near", &config, 1000);
    let blobs = snapshot.join("../../blobs");
    std::fs::write(blobs.join("other.incomplete"), "the rest").unwrap();
    home.start();
    let asked = std::thread::spawn({
        let http = home.http;
        move || http.chat("near", "hi").status
    });
    wait_for("the load", SOON, || {
        (home.model("near")["memory_state"] == "loading").then_some(())
    });
    wait_until("the end of the load", SOON, || {
        let model = home.model("near");
        assert_eq!(model["download"], Value::Null, "{model}");
        model["memory_state"] == "loaded"
    });
    assert_eq!(asked.join().unwrap(), 200);
}
