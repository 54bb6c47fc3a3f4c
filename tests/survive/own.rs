//! A hub and its workers belong to one hub.yaml: commands act on no other's, and what a killed hub left is
//! found whatever was edited, moved or copied since.

use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::hub::command;
use crate::support::{Hub, SOON, processes, stub, wait_until};
use crate::{models, not_run, pid, worker};

const ALPHA: [(&str, &str); 1] = [("alpha", "default: true")];

fn hub_of(yaml: &str) -> Hub {
    let hub = Hub::start(yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    hub
}

fn hub() -> Hub {
    hub_of(&format!("{}\n{}", worker(&[]), models(&ALPHA)))
}

/// Replaces some of hub.yaml's text.
fn edit(config: &Path, was: &str, is: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(was), "{text}");
    std::fs::write(config, text.replace(was, is)).unwrap();
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    command(home).args(arguments).output().unwrap()
}

/// The folder of a hub with all that is in it.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-R")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn the_workers_of_a_killed_hub_are_taken_over_when_log_path_has_changed() {
    for is_trail_kept in [true, false] {
        let mut hub = hub();
        let worker = pid(&hub, "alpha");
        hub.kill();
        edit(&hub.config(), "log_path: logs", "log_path: newlogs");
        if !is_trail_kept {
            // As where the folder of hub.yaml cannot be written.
            std::fs::remove_file(hub.folder().join(".hub.yaml.running")).unwrap();
        }
        hub.serve_again();
        hub.wait_for_state("alpha", "running", "loaded");
        assert_eq!(pid(&hub, "alpha"), worker);
        assert_eq!(hub.record.workers().len(), 1, "no second one");
        // It goes on writing where it began, and its status says so.
        let log_of_alpha = |folder: &str| json!(hub.folder().join(folder).join("alpha.log"));
        assert_eq!(hub.model("alpha")["log_path"], log_of_alpha("logs"));
        assert_eq!(hub.act("alpha", "stop").status, 200);
        assert_eq!(hub.act("alpha", "start").status, 200);
        hub.wait_for_state("alpha", "running", "loaded");
        assert_eq!(hub.model("alpha")["log_path"], log_of_alpha("newlogs"));
        assert!(!hub.logs().join("hub_runtime.json").exists());
        assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
        assert_eq!(hub.worker_processes(), [0; 0]);
        assert!(!hub.folder().join(".hub.yaml.running").exists());
    }
}

#[test]
fn what_a_killed_hub_had_learned_is_known_when_log_path_has_changed() {
    let mut hub = hub();
    let read = |hub: &Hub, folder: &str, name: &str| -> Option<Value> {
        let text = std::fs::read(hub.folder().join(folder).join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let lesson = |hub: &Hub, folder: &str| {
        let learned = read(hub, folder, "learned.json")?;
        (!learned["alpha"]["settings"].is_null()).then(|| learned["alpha"]["settings"].clone())
    };
    wait_until("the lesson to be kept", SOON, || {
        lesson(&hub, "logs").is_some()
    });
    let learned = lesson(&hub, "logs");
    hub.kill();
    edit(&hub.config(), "log_path: logs", "log_path: newlogs");
    // There is no worker that could tell.
    std::fs::remove_file(hub.logs().join("hub_runtime.json")).unwrap();
    std::fs::write(hub.logs().join("routes.json"), "{}").unwrap();
    hub.serve_again();
    assert_eq!(lesson(&hub, "newlogs"), learned);
    assert_eq!(read(&hub, "newlogs", "routes.json"), Some(json!({})));
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
}

/// There is nothing to take over, and the worker that was never written down is in another folder.
#[test]
fn a_worker_that_was_never_written_down_is_ended_when_log_path_has_changed() {
    let mut hub = hub();
    hub.kill();
    std::fs::remove_dir_all(hub.logs()).unwrap();
    edit(&hub.config(), "log_path: logs", "log_path: newlogs");
    let old = hub.record.workers()[0];
    hub.serve_again();
    assert_eq!(processes::members(old), [0; 0]);
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
}

#[test]
fn stop_ends_what_a_killed_hub_left_whatever_was_edited() {
    for edited in [None, Some("log_path: newlogs"), Some("nonsense: [")] {
        let mut hub = hub();
        hub.kill();
        if let Some(line) = edited {
            edit(&hub.config(), "log_path: logs", line);
        }
        let stop = hub.run(&["stop"]);
        assert_eq!(
            said(&stop),
            "[info] Hub manager is not running; nothing to stop\n\
             [ok] alpha: stopped; a hub that was killed had left it\n",
            "{edited:?}"
        );
        assert_eq!(stop.status.code(), Some(0));
        assert_eq!(hub.worker_processes(), [0; 0], "{edited:?}");
        assert_eq!(
            hub.record.count("sigterm", "alpha"),
            1,
            "it was asked first"
        );
        assert!(!hub.logs().join("hub_runtime.json").exists());
        let again = said(&hub.run(&["stop"]));
        assert_eq!(
            again,
            "[info] Hub manager is not running; nothing to stop\n"
        );
    }
}

#[test]
fn a_killed_hubs_workers_are_told_by_status_without_a_hub() {
    let mut hub = hub();
    hub.kill();
    let told = "[warn] a hub that was killed has left workers, which hold their memory: alpha; \
                `start` takes them over, `stop` ends them\n";
    let status = said(&hub.run(&["status"]));
    assert!(status.contains(told), "{status}");
    hub.run(&["stop"]);
    let status = said(&hub.run(&["status"]));
    assert!(!status.contains("killed"), "{status}");
}

/// Both have the default log folder, and ports of their own.
#[test]
fn a_command_that_meets_the_hub_of_another_hub_yaml_in_its_log_folder_says_so() {
    let hub = hub();
    let other = hub.folder().join("other.yaml");
    std::fs::copy(hub.config(), &other).unwrap();
    edit(
        &other,
        &format!("\nport: {}", hub.http.port),
        &format!("\nport: {}", hub.http.port + 20),
    );
    let whose = format!("is that of another hub.yaml, `{}`", hub.config().display());
    for verb in ["start", "stop", "status", "restart"] {
        let refused = run(hub.folder(), &["--config", other.to_str().unwrap(), verb]);
        assert_eq!(refused.status.code(), Some(1), "{verb}: {}", said(&refused));
        assert!(
            said(&refused).contains(&whose),
            "{verb}: {}",
            said(&refused)
        );
        assert!(
            said(&refused).contains("set another `log_path`"),
            "{}",
            said(&refused)
        );
    }
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

/// As one that hangs, or has not come up yet.
#[test]
fn stop_leaves_the_workers_of_a_hub_that_does_not_answer_alone() {
    let hub = hub();
    hub.signal(Signal::SIGSTOP);
    let stop = hub.run(&["stop"]);
    hub.signal(Signal::SIGCONT);
    assert_eq!(stop.status.code(), Some(1));
    let whose = format!("a hub (process {}) uses the log folder", hub.pid());
    assert!(said(&stop).contains(&whose), "{}", said(&stop));
    assert!(!hub.worker_processes().is_empty());
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

#[test]
fn a_running_hub_is_found_when_both_log_path_and_port_were_edited() {
    let hub = hub();
    let port = format!("port: {}", hub.http.port);
    edit(&hub.config(), &format!("\n{port}"), "\nport: 1");
    edit(&hub.config(), "log_path: logs", "log_path: newlogs");
    let status = said(&hub.run(&["status"]));
    assert!(status.contains("alpha | running"), "{status}");
    assert!(
        status.contains("run restart (sets another host, port or log_path)"),
        "{status}"
    );
    let logs = format!("Hub log path: {}\n", hub.logs().display());
    assert!(status.contains(&logs), "{status}");
    // Nor does a second one come up, and end the workers of this one.
    edit(
        &hub.config(),
        "\nport: 1\n",
        &format!("\nport: {}\n", hub.http.port + 9),
    );
    let serve = hub.run(&["serve"]);
    assert_eq!(serve.status.code(), Some(1));
    assert!(
        said(&serve).contains("runs already, with the log folder"),
        "{}",
        said(&serve)
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let stop = hub.run(&["stop"]);
    assert_eq!(stop.status.code(), Some(0));
    assert!(!processes::is_alive(hub.pid()));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn a_command_that_meets_the_hub_of_another_hub_yaml_changes_nothing() {
    let hub = hub();
    let worker = pid(&hub, "alpha");
    let other = tempfile::tempdir().unwrap();
    let other = other.path().canonicalize().unwrap();
    let base = other.join("mlx-openai-server-hub");
    std::fs::create_dir(&base).unwrap();
    let yaml = format!(
        "host: 127.0.0.1\nport: {}\n{}\nmodels: [{{name: beta, model_path: org/beta}}]\n",
        hub.http.port,
        crate::worker(&[])
    );
    let whose = format!(
        "Error: the hub at 127.0.0.1:{} is that of another hub.yaml, `{}`, not of `{}`; nothing was changed\n\
         its logs are in `{}`\n\
         hint: add `--config {}` to speak to that one",
        hub.http.port,
        hub.config().display(),
        base.join("hub.yaml").display(),
        hub.logs().display(),
        hub.config().display(),
    );
    for verb in [
        &["start"][..],
        &["restart"],
        &["status"],
        &["status", "--json"],
        &["reload"],
        &["stop"],
        &["start-model", "alpha"],
        &["stop-model", "alpha"],
        &["load", "alpha"],
        &["unload", "alpha"],
        &["watch"],
        &["policy", "list"],
        &["policy", "explain"],
        &["policy", "record", "on"],
        &["unload", "--all"],
        &["run", "alpha", "hello"],
        &["logs"],
        &["fleet", "status"],
        &["fleet", "drain"],
        &["fleet", "undrain"],
    ] {
        std::fs::write(base.join("hub.yaml"), &yaml).unwrap();
        let refused = run(&other, verb);
        assert_eq!(
            refused.status.code(),
            Some(1),
            "{verb:?}: {}",
            said(&refused)
        );
        assert!(
            said(&refused).contains(&whose),
            "{verb:?}: {}",
            said(&refused)
        );
    }
    // Of a hub.yaml that is broken only what says where the hub is counts.
    std::fs::write(base.join("hub.yaml"), yaml + "models: [\n").unwrap();
    assert!(said(&run(&other, &["stop"])).contains(&whose));
    assert_eq!(pid(&hub, "alpha"), worker);
    assert_eq!(hub.record.count("sigterm", "alpha"), 0);
    assert!(processes::is_alive(hub.pid()));
}

#[test]
fn a_hub_is_found_by_another_spelling_of_its_hub_yaml_and_without_its_runtime_file() {
    let hub = hub();
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("home");
    std::os::unix::fs::symlink(hub.folder(), &link).unwrap();
    let config = link.join("hub.yaml");
    let status = || {
        run(
            links.path(),
            &["--config", config.to_str().unwrap(), "status"],
        )
    };
    assert!(
        said(&status()).contains("alpha | running"),
        "{}",
        said(&status())
    );
    for lost in ["logs/hub_runtime.json", ".hub.yaml.running"] {
        std::fs::remove_file(hub.folder().join(lost)).unwrap();
        assert!(
            said(&status()).contains("alpha | running"),
            "{lost}: {}",
            said(&status())
        );
    }
    let stop = run(
        links.path(),
        &["--config", config.to_str().unwrap(), "stop"],
    );
    assert_eq!(stop.status.code(), Some(0), "{}", said(&stop));
    assert!(!processes::is_alive(hub.pid()), "it waits for the process");
}

#[test]
fn a_copied_folder_has_nothing_to_do_with_the_hub_of_the_original() {
    for is_killed in [false, true] {
        let mut hub = hub();
        let worker = pid(&hub, "alpha").unwrap();
        let copies = tempfile::tempdir().unwrap();
        let folder = copies.path().join("copy");
        copy(hub.folder(), &folder);
        let config = folder.join("hub.yaml");
        let port = hub.http.port + 20;
        edit(
            &config,
            &format!("\nport: {}", hub.http.port),
            &format!("\nport: {port}"),
        );
        if is_killed {
            hub.kill();
        }
        let in_copy = |verb: &[&str]| {
            let mut command = command(&folder);
            command
                .args(["--config", config.to_str().unwrap()])
                .args(verb);
            command.output().unwrap()
        };
        let status = said(&in_copy(&["status"]));
        assert!(
            status.starts_with("[warn] Hub daemon is not running\n"),
            "{status}"
        );
        let stop = in_copy(&["stop"]);
        assert_eq!(
            said(&stop),
            "[info] Hub manager is not running; nothing to stop\n"
        );
        let start = in_copy(&["start"]);
        assert_eq!(start.status.code(), Some(0), "{}", said(&start));
        assert_eq!(in_copy(&["stop"]).status.code(), Some(0));
        assert!(
            !processes::members(worker).is_empty(),
            "killed: {is_killed}"
        );
        assert_eq!(hub.record.count("sigterm", "alpha"), 0);
        if is_killed {
            hub.serve_again();
            hub.wait_for_state("alpha", "running", "loaded");
        }
        assert_eq!(pid(&hub, "alpha"), Some(worker));
    }
}

/// `mv` of the folder, while the hub runs and after it was killed.
#[test]
fn a_moved_folder_takes_its_hub_along() {
    for is_killed in [false, true] {
        let mut hub = hub();
        let worker = pid(&hub, "alpha").unwrap();
        if is_killed {
            hub.kill();
        }
        let places = tempfile::tempdir_in(hub.folder().parent().unwrap()).unwrap();
        let folder = places.path().join("moved");
        std::fs::rename(hub.folder(), &folder).unwrap();
        let config = folder.join("hub.yaml");
        let there = |verb: &[&str]| {
            let mut command = command(&folder);
            command
                .args(["--config", config.to_str().unwrap()])
                .args(verb);
            command.output().unwrap()
        };
        let start = there(&["start"]);
        assert_eq!(start.status.code(), Some(0), "{}", said(&start));
        assert_eq!(pid(&hub, "alpha"), Some(worker), "killed: {is_killed}");
        let stop = there(&["stop"]);
        assert_eq!(stop.status.code(), Some(0), "{}", said(&stop));
        assert_eq!(processes::members(worker), [0; 0]);
        std::fs::rename(&folder, hub.folder()).unwrap();
    }
}

/// `worker_command`: a script that runs a stand-in with these knobs, and a child beside it.
fn with_child(child: &str, knobs: &[&str]) -> String {
    let stub = stub(knobs);
    let script = format!("case \"$*\" in *--help*) ;; *) {child} & esac; exec \"$@\"");
    format!("worker_command: [sh, -c, {script:?}, sh, {}", &stub[1..])
}

/// A child that made a session of its own, as daemons do.
#[test]
fn a_child_that_left_its_workers_group_ends_with_it() {
    let setsid = std::process::Command::new("setsid").arg("true").status();
    if let Err(error) = setsid {
        return not_run("children that left their group", &error.to_string());
    }
    let yaml = with_child("setsid sh -c 'echo $$ > child.pid; exec sleep 600'", &[]);
    let hub = hub_of(&format!(
        "{yaml}\n{}",
        models(&[("alpha", "default: true"), ("beta", "default: true")])
    ));
    hub.wait_for_state("beta", "running", "loaded");
    let child = |model: &str| {
        let file = hub.logs().join("workers").join(model).join("child.pid");
        let mut child = None;
        wait_until("the child", SOON, || {
            child = std::fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            child.is_some()
        });
        child.unwrap()
    };
    let (its, other): (u32, u32) = (child("alpha"), child("beta"));
    assert!(processes::is_alive(its));
    assert_eq!(hub.act("alpha", "stop").status, 200);
    assert!(!processes::is_alive(its));
    assert!(processes::is_alive(other), "that of another worker stays");
    // Nor does it outlive a worker that dies.
    processes::send_to_group(pid(&hub, "beta").unwrap(), Signal::SIGKILL);
    wait_until("its end", SOON, || !processes::is_alive(other));
}

/// What macOS does to the shells of the system: their environment is not shown.
#[test]
fn what_shows_no_environment_is_known_by_its_group() {
    let knobs = ["--grandchild", "stubborn", "--linger-seconds", "600"];
    let yaml = with_child("env -i sleep 600", &knobs);
    let mut hub = hub_of(&format!("{yaml}\n{}", models(&ALPHA)));
    let old = pid(&hub, "alpha").unwrap();
    assert_eq!(processes::members(old).len(), 5);
    hub.kill();
    processes::send(old, Signal::SIGKILL);
    wait_until("the leader to be gone", SOON, || !processes::is_alive(old));
    hub.serve_again();
    assert_eq!(processes::members(old), [0; 0]);
    hub.wait_for_state("alpha", "running", "loaded");
}

/// Such a hub marked its workers with the log folder, and wrote neither hub.yaml nor launches down.
#[test]
fn the_workers_of_a_hub_of_the_first_version_are_taken_over() {
    let stub = stub(&[]);
    let unset = "env, -u, MLX_HUB_WORKER_CONFIG, -u, MLX_HUB_WORKER_LAUNCH";
    let yaml = format!("worker_command: [{unset}, {}", &stub[1..]);
    let mut hub = hub_of(&format!("{yaml}\n{}", models(&ALPHA)));
    let old = pid(&hub, "alpha");
    hub.kill();
    std::fs::remove_file(hub.folder().join(".hub.yaml.running")).unwrap();
    let file = hub.logs().join("hub_runtime.json");
    let mut runtime: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    runtime.as_object_mut().unwrap().remove("config_path");
    for key in ["launch", "log_file"] {
        runtime["workers"][0].as_object_mut().unwrap().remove(key);
    }
    std::fs::write(&file, runtime.to_string()).unwrap();
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(pid(&hub, "alpha"), old);
    assert_eq!(hub.record.workers().len(), 1);
}

#[test]
fn the_status_and_the_runtime_file_say_whose_hub_it_is() {
    let hub = hub();
    let status = hub.status();
    assert_eq!(status["config_path"], json!(hub.config()));
    assert_eq!(status["log_path"], json!(hub.logs()));
    assert_eq!(status["pid"], json!(hub.pid()));
    let file = std::fs::read(hub.logs().join("hub_runtime.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(
        file["config_path"],
        json!(hub.config().canonicalize().unwrap())
    );
}

#[test]
fn an_edited_hub_yaml_is_told_with_what_a_reload_would_do() {
    let hub = hub();
    hub.configure(&format!(
        "{}\n{}",
        worker(&[]),
        models(&[("alpha", "default: true"), ("newone", "jit_enabled: true")])
    ));
    let told = "run reload (adds newone)";
    let status = hub.run(&["status", "newone"]);
    assert_eq!(status.status.code(), Some(0));
    let text = said(&status);
    assert!(
        text.contains("[warn] hub.yaml has changed since "),
        "{text}"
    );
    assert!(
        text.contains(told) && text.contains("No matching models"),
        "{text}"
    );
    for verb in [
        &["load", "newone"][..],
        &["unload", "newone"],
        &["policy", "explain", "newone"],
    ] {
        let refused = hub.run(verb);
        assert_eq!(
            refused.status.code(),
            Some(1),
            "{verb:?}: {}",
            said(&refused)
        );
        assert!(
            said(&refused).contains(told),
            "{verb:?}: {}",
            said(&refused)
        );
    }
    // It is no failure of the start.
    let start = hub.run(&["start", "newone"]);
    assert_eq!(start.status.code(), Some(0));
    assert!(said(&start).contains(told), "{}", said(&start));
    let typo = said(&hub.run(&["load", "alpah"]));
    assert!(typo.contains("Did you mean `alpha`?"), "{typo}");
    assert_eq!(hub.run(&["reload"]).status.code(), Some(0));
    assert_eq!(hub.status()["warnings"], json!([]));
    assert_eq!(
        hub.run(&["load", "newone"]).status.code(),
        Some(1),
        "it is not started"
    );
}
