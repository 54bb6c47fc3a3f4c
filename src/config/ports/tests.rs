//! Assignments with a scripted probe, and the real probe on sockets of this machine.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::problem::Findings;
use crate::config::{Config, hub, yaml};

/// Models in flow style, without a file.
fn models(entries: &str) -> Vec<ModelConfig> {
    let root = yaml::parse(&format!("models: [{entries}]")).unwrap();
    let mut findings = Findings::default();
    let config: Config = hub::read(&root, Path::new("/hub.yaml"), 0, &mut findings);
    assert_eq!(findings.problems, []);
    config.models
}

/// A book whose probe finds the ports in the list taken, on every host.
fn book(taken: &[u16]) -> (PortBook, Arc<Mutex<Vec<u16>>>) {
    let taken = Arc::new(Mutex::new(taken.to_vec()));
    let seen = Arc::clone(&taken);
    let probe = move |_: &str, port: u16| !seen.lock().unwrap().contains(&port);
    (PortBook::with_probe(47_851, 47_850, Box::new(probe)), taken)
}

const A_B: &str = "{name: a, model_path: x}, {name: b, model_path: x}";
const DOWN: &dyn Fn(&str) -> bool = &|_| false;
const UP: &dyn Fn(&str) -> bool = &|_| true;

fn ports(book: &PortBook) -> Vec<(&str, u16)> {
    let ports = book.ports().iter();
    ports.map(|(name, port)| (name.as_str(), *port)).collect()
}

#[test]
fn allotted_ports_leave_out_the_hub_explicit_ports_and_other_programs() {
    let (mut book, _) = book(&[47_853]);
    let models = models(&format!("{A_B}, {{name: c, model_path: x, port: 47852}}"));
    book.assign(&models, DOWN).unwrap();
    assert_eq!(ports(&book), [("a", 47_850), ("b", 47_854), ("c", 47_852)]);
}

#[test]
fn a_reload_keeps_ports_even_while_the_workers_hold_them() {
    let (mut book, taken) = book(&[]);
    book.assign(&models(A_B), DOWN).unwrap();
    taken.lock().unwrap().extend([47_850, 47_852]);
    let reordered =
        "{name: new, model_path: x}, {name: b, model_path: x}, {name: a, model_path: x}";
    book.assign(&models(reordered), UP).unwrap();
    assert_eq!(
        ports(&book),
        [("a", 47_850), ("b", 47_852), ("new", 47_853)]
    );
}

#[test]
fn a_restart_keeps_the_ports_of_the_runtime_file() {
    let (mut book, _) = book(&[50_000]);
    book.restore([("b".to_owned(), 50_000), ("gone".to_owned(), 47_850)]);
    book.assign(&models(A_B), DOWN).unwrap();
    assert_eq!(ports(&book), [("a", 47_850), ("b", 50_000)]);
}

#[test]
fn a_model_that_is_gone_keeps_its_port_until_its_worker_is_released() {
    let (mut book, _) = book(&[]);
    book.assign(&models(A_B), DOWN).unwrap();
    let only_c = models("{name: c, model_path: x}");
    book.assign(&only_c, &|name| name == "a").unwrap();
    assert_eq!(ports(&book), [("a", 47_850), ("c", 47_852)]);
    book.release("a");
    assert_eq!(book.port_of("a"), None);
}

#[test]
fn an_explicit_port_another_program_holds_is_an_error_and_changes_nothing() {
    let (mut book, _) = book(&[48_991]);
    book.assign(&models(A_B), DOWN).unwrap();
    let explicit = models("{name: a, model_path: x, port: 48991}");
    let error = book.assign(&explicit, DOWN).unwrap_err();
    insta::assert_snapshot!(error, @r"
    model `a`: port 48991 is in use by another program
    hint: free it, or set another `port` for this model, or none and the hub finds one
    ");
    assert_eq!(ports(&book), [("a", 47_850), ("b", 47_852)]);
}

#[test]
fn an_explicit_port_the_models_own_worker_holds_is_no_error() {
    let (mut book, taken) = book(&[]);
    let explicit = models("{name: a, model_path: x, port: 48991}");
    book.assign(&explicit, DOWN).unwrap();
    taken.lock().unwrap().push(48_991);
    book.assign(&explicit, UP).unwrap();
    assert_eq!(ports(&book), [("a", 48_991)]);
}

#[test]
fn an_explicit_port_of_another_models_worker_names_that_model() {
    let (mut book, _) = book(&[]);
    book.assign(&models(A_B), DOWN).unwrap();
    let explicit = models("{name: a, model_path: x, port: 47852}, {name: b, model_path: x}");
    let error = book.assign(&explicit, UP).unwrap_err();
    insta::assert_snapshot!(error, @r"
    model `a`: port 47852 is in use by model `b`
    hint: stop `b` first, or set another `port` for this model
    ");
    // Without a worker there the other one moves.
    book.assign(&explicit, DOWN).unwrap();
    assert_eq!(ports(&book), [("a", 47_852), ("b", 47_850)]);
}

#[test]
fn an_explicit_port_the_running_hub_has_is_an_error() {
    let (mut book, _) = book(&[]);
    let explicit = models("{name: a, model_path: x, port: 47851}");
    let error = book.assign(&explicit, DOWN).unwrap_err();
    assert!(error.to_string().contains("port 47851 is the hub's own"));
}

#[test]
fn a_port_taken_at_launch_moves_on_to_the_next_free_one() {
    let (mut book, _) = book(&[47_853]);
    let models = models(A_B);
    book.assign(&models, DOWN).unwrap();
    assert_eq!(book.next(&models[0]), Ok(47_854));
    assert_eq!(book.port_of("a"), Some(47_854));
    let explicit = self::models("{name: c, model_path: x, port: 5000}");
    assert!(matches!(
        book.next(&explicit[0]),
        Err(PortError::InUse { port: 5000, .. })
    ));
}

#[test]
fn the_search_ends_at_65535() {
    let mut book = PortBook::with_probe(8000, 65_534, Box::new(|_, _| true));
    let models = models(&format!("{A_B}, {{name: c, model_path: x}}"));
    let error = book.assign(&models, DOWN).unwrap_err();
    insta::assert_snapshot!(error, @r"
    model `c`: no port from 65534 to 65535 is free
    hint: set a lower `model_starting_port`
    ");
    book.assign(&models[..2], DOWN).unwrap();
    assert!(book.next(&models[1]).is_err());
}

#[test]
fn the_probe_sees_listeners_on_ipv4_ipv6_and_localhost() {
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = four.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        assert!(!is_free(host, port), "{host}");
    }
    drop(four);
    assert!(is_free("127.0.0.1", port));
    // A machine without IPv6 has nothing to see there.
    let Ok(six) = TcpListener::bind("[::1]:0") else {
        return;
    };
    assert!(!is_free("::1", six.local_addr().unwrap().port()));
}

#[test]
fn assignments_are_kept_from_one_hub_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ports.json");
    let (mut first, _) = book(&[]);
    first.assign(&models(A_B), DOWN).unwrap();
    first.save(&path).unwrap();
    // The models have changed places since.
    let turned = models("{name: b, model_path: x}, {name: a, model_path: x}");
    let (mut second, _) = book(&[]);
    second.recall(&path);
    second.assign(&turned, DOWN).unwrap();
    assert_eq!(second.ports(), first.ports());

    let (mut taken, _) = book(&[first.port_of("b").unwrap()]);
    taken.recall(&path);
    taken.assign(&turned, DOWN).unwrap();
    assert_eq!(taken.port_of("a"), first.port_of("a"));
    assert_ne!(taken.port_of("b"), first.port_of("b"));

    let mut elsewhere = PortBook::with_probe(8000, 31_000, Box::new(|_, _| true));
    elsewhere.recall(&path);
    elsewhere.assign(&turned, DOWN).unwrap();
    assert_eq!(elsewhere.port_of("b"), Some(31_000));
    elsewhere.recall(&folder.path().join("nosuch"));
}

#[test]
fn the_file_is_for_its_owner_and_replaces_a_link_instead_of_what_it_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let (precious, path) = (
        folder.path().join("precious"),
        folder.path().join("ports.json"),
    );
    std::fs::write(&precious, "mine").unwrap();
    std::os::unix::fs::symlink(&precious, &path).unwrap();
    let (mut book, _) = book(&[]);
    book.assign(&models(A_B), DOWN).unwrap();
    book.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    let metadata = std::fs::symlink_metadata(&path).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_kept_port_that_no_worker_may_have_is_given_to_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ports.json");
    std::fs::write(
        &path,
        r#"{"starting_port": 47850, "ports": {"a": 22, "b": 0}}"#,
    )
    .unwrap();
    let (mut book, _) = book(&[]);
    book.recall(&path);
    book.assign(&models(A_B), DOWN).unwrap();
    assert_eq!(ports(&book), [("a", 47_850), ("b", 47_852)]);
}
