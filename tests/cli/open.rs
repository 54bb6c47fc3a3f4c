//! `open`: the address of the status page, and the program that it is given to.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::fake_hub::{FakeHub, status};
use crate::home_of_four;
use crate::support::home::Home;
use crate::support::{SOON, wait_until};

/// Puts the system's program on PATH, which writes down what it is to open.
fn stand_in(home: &Home) {
    let name = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let (path, opened) = (home.bin().join(name), home.path().join("opened"));
    std::fs::write(
        &path,
        format!("#!/bin/sh\necho \"$*\" >'{}'\n", opened.display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_status_page_is_opened_and_its_address_printed() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, status(8124))));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let url = "http://127.0.0.1:8124/hub\n";
    let without = home.run(&["open"]);
    assert_eq!(without.assert_ok().out, url);
    assert!(without.err.contains("cannot be run"), "{without:?}");
    stand_in(&home);
    let ran = home.run(&["open"]);
    assert_eq!((ran.assert_ok().out.as_str(), ran.err.as_str()), (url, ""));
    let opened = || std::fs::read_to_string(home.path().join("opened")).unwrap_or_default();
    wait_until("the page", SOON, || opened() == url);
}

#[test]
fn a_page_that_is_not_there_is_not_opened() {
    let hub = FakeHub::start(|request| {
        let mut answer = status(8124);
        answer["enable_status_page"] = json!(false);
        (request == "GET /hub/status").then_some((200, answer))
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    stand_in(&home);
    let ran = home.run(&["open"]);
    assert!(
        ran.assert_failed().err.contains("has no status page"),
        "{ran:?}"
    );
    drop(hub);
    let ran = home.run(&["open"]);
    assert!(
        ran.assert_failed().err.contains("is not running"),
        "{ran:?}"
    );
    assert!(!home.path().join("opened").exists());
}
