//! Which spares there are and which end, with processes that import nothing.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::Config;
use crate::worker::identity::start_time;

const MODELS: &str = "
- {name: alpha, model_path: org/alpha, env: {HOME_OF: alpha}}
- {name: beta, model_path: org/beta, env: {HOME_OF: beta}}
- {name: gamma, model_path: org/gamma, env: {HOME_OF: gamma}}
";

/// Models whose program is a Python script in that folder.
pub(crate) fn config(folder: &Path, models: &str) -> Config {
    let program = folder.join("worker");
    std::fs::write(&program, "#!/nowhere/python3\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let yaml = format!("worker_command: {}\nmodels:{models}", program.display());
    crate::config::from_yaml(&yaml)
}

/// Has a spare for that model be held, which was loaded last.
pub(crate) fn hold(spares: &Spares, model: &ModelConfig) -> u32 {
    spares.load_ended(model);
    let spare = process(model);
    let pid = spare.pid;
    keep(spares, model, pid, Some(spare));
    pid
}

fn kind(model: &ModelConfig) -> SpareKind {
    SpareKind::of(model, &model.env).unwrap()
}

/// A process that waits as a spare does.
fn process(model: &ModelConfig) -> Spare {
    let interpreter = Interpreter {
        path: "/bin/sh".into(),
        options: ["-c", "cat"].map(str::to_owned).into(),
    };
    let folder = Path::new("/");
    let owner = Owner::new(folder, folder);
    Spare::start(&kind(model), &interpreter, &owner, spare_id(), folder).unwrap()
}

fn keep(spares: &Spares, model: &ModelConfig, pid: u32, ready: Option<Spare>) {
    spares.0.state.lock().held.push(Held {
        pid,
        kind: kind(model),
        began: Instant::now(),
        ready,
        bytes: None,
    });
}

fn held(spares: &Spares) -> Vec<u32> {
    spares.seen().iter().map(|seen| seen.pid).collect()
}

/// The model whose spare is to be made next.
fn missing<'a>(spares: &Spares, config: &'a Config) -> Option<&'a str> {
    let (missing, _) = spares.missing()?;
    let model = config.models.iter().find(|model| kind(model) == missing);
    model.map(|model| model.name.as_str())
}

/// Completes when that process has ended.
pub(crate) async fn ended(pid: u32) {
    let ending = async {
        while start_time(pid).is_some() {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ending).await;
    ended.expect("it ends");
}

#[tokio::test]
async fn no_more_are_kept_than_are_wanted_and_those_that_are_too_many_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), MODELS);
    let spares = Spares::default();
    spares.want(2);
    let [first, second] = [0, 1].map(|at| hold(&spares, &config.models[at]));
    spares.want(1);
    assert_eq!(held(&spares), [first]);
    ended(second).await;
    spares.close();
    assert_eq!(held(&spares), [0; 0]);
    ended(first).await;
}

#[tokio::test]
async fn a_load_ends_spares_that_import_and_where_it_is_short_of_memory_all_but_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), MODELS);
    let [alpha, beta, _] = &config.models[..] else {
        panic!("three models")
    };
    let spares = Spares::default();
    let [own, second, other] = [alpha, alpha, beta].map(|model| hold(&spares, model));
    let mut imports = process(beta);
    keep(&spares, beta, imports.pid, None);

    spares.load_begins(alpha, Some(10), Some(10));
    assert_eq!(held(&spares), [own, second, other], "there is room");
    imports.child.wait().await.unwrap();
    // What it needs is not known, or what there is.
    spares.load_begins(alpha, None, Some(1));
    spares.load_begins(alpha, Some(1), None);
    assert_eq!(held(&spares), [own, second, other]);

    spares.load_begins(alpha, Some(11), Some(10));
    assert_eq!(held(&spares), [own]);
    ended(second).await;
    ended(other).await;
    spares.load_begins(beta, Some(11), Some(10));
    assert_eq!(held(&spares), [0; 0]);
    ended(own).await;
    assert_eq!(spares.loads().0, 5);
}

#[tokio::test]
async fn the_kinds_that_were_loaded_last_have_one_each_and_what_is_left_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), MODELS);
    let spares = Spares::default();
    spares.want(2);
    assert_eq!(missing(&spares, &config), None, "nothing was loaded");
    spares.load_ended(&config.models[0]);
    spares.load_ended(&config.models[1]);
    assert_eq!(missing(&spares, &config), Some("beta"));
    let beta = hold(&spares, &config.models[1]);
    assert_eq!(missing(&spares, &config), Some("alpha"));
    let alpha = hold(&spares, &config.models[0]);
    assert_eq!(missing(&spares, &config), None);
    spares.want(3);
    assert_eq!(missing(&spares, &config), Some("alpha"), "loaded last");

    // The third pushes the one that was loaded first out.
    spares.want(2);
    spares.load_ended(&config.models[2]);
    assert_eq!(missing(&spares, &config), Some("gamma"));
    assert_eq!(held(&spares), [alpha]);
    ended(beta).await;

    // A program that can have none any more.
    std::fs::write(folder.path().join("worker"), "#!/bin/sh\n").unwrap();
    for model in &config.models {
        spares.load_ended(model);
    }
    spares.0.state.lock().recent.drain(3..);
    assert_eq!(missing(&spares, &config), None);
    assert_eq!(held(&spares), [0; 0]);
    ended(alpha).await;
}

#[tokio::test]
async fn all_of_them_end_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), MODELS);
    let spares = Spares::default();
    let pids = [0, 1].map(|at| hold(&spares, &config.models[at]));
    spares.end("a test");
    assert_eq!(held(&spares), [0; 0]);
    for pid in pids {
        ended(pid).await;
    }
}

#[tokio::test]
async fn a_load_waits_for_a_spare_of_its_kind_that_has_imported_for_long_and_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), MODELS);
    let [alpha, beta, _] = &config.models[..] else {
        panic!("three models")
    };
    let spares = Spares::default();
    spares.want(1);
    let mut imports = process(alpha);
    keep(&spares, alpha, imports.pid, None);
    let has_imported_for = |so_long: Duration| {
        let mut state = spares.0.state.lock();
        state.held[0].began = Instant::now().checked_sub(so_long).unwrap();
    };
    let took = Duration::from_secs(60);
    has_imported_for(took / 2);
    assert!(
        spares.awaited(alpha).is_none(),
        "nobody knows how long that takes"
    );
    spares
        .0
        .state
        .lock()
        .took
        .insert(kind(alpha).program.key(), took);
    let (pid, limit) = spares.awaited(alpha).unwrap();
    assert_eq!(pid, imports.pid);
    assert!(limit <= took * TIMES - took / 2, "{limit:?}");
    assert!(spares.awaited(beta).is_none());
    for not_worth in [took / 4, took * TIMES + POLL] {
        has_imported_for(not_worth);
        assert!(spares.awaited(alpha).is_none(), "{not_worth:?}");
    }

    has_imported_for(took / 2);
    spares.load_begins(alpha, Some(11), Some(10));
    assert_eq!(held(&spares), [imports.pid]);
    // One that is there in time.
    let is_ready = async {
        sleep(2 * POLL).await;
        spares.0.state.lock().held[0].ready = Some(process(alpha));
    };
    tokio::join!(spares.soon(alpha), is_ready);
    assert!(spares.awaited(alpha).is_none(), "it is there");

    // One that hangs.
    spares.0.state.lock().held[0].ready = None;
    has_imported_for(took * TIMES - 2 * POLL);
    spares.soon(alpha).await;
    assert_eq!(held(&spares), [0; 0]);
    imports.child.wait().await.unwrap();
}
