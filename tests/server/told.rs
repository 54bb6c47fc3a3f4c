//! The requests that the log tells at `log_level: DEBUG`.

use crate::alpha;
use crate::support::{Hub, SOON, wait_for};

#[test]
fn a_request_is_told_with_its_time_and_one_that_only_watches_is_not() {
    let hub = Hub::start(&format!("log_level: DEBUG\n{}", alpha(&[])));
    for path in ["/health", "/hub/status", "/hub/policies"] {
        assert_eq!(hub.http.get(path).status, 200, "{path}");
    }
    let log = || std::fs::read_to_string(hub.logs().join("app.log")).unwrap_or_default();
    let line = wait_for("a line of the last one", SOON, || {
        let log = log();
        let line = log
            .lines()
            .find(|line| line.contains("path=\"/hub/policies\""));
        line.map(str::to_owned)
    });
    let (_, seconds) = line.split_once(" seconds=").unwrap();
    let seconds = seconds.split(' ').next().unwrap();
    let (whole, decimals) = seconds.split_once('.').unwrap();
    assert!(whole == "0" && decimals.len() == 6, "{line}");
    assert!(
        decimals.chars().all(|digit| digit.is_ascii_digit()),
        "{line}"
    );
    for path in ["/health", "/hub/status"] {
        assert!(!log().contains(&format!("path=\"{path}\"")), "{path}");
    }
}
