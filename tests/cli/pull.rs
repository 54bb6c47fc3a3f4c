//! `pull`: what is downloaded, resumed, refused and locked, from a stand-in for the Hugging Face hub.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::progress::shown_by;
use crate::support::home::{Home, Ran, ran};
use crate::support::hugging_face::{Asked, COMMIT, HuggingFace, Manners, REPOSITORY};
use crate::support::{SOON, wait_until};

/// Bytes of weights.
const WEIGHTS: usize = 400_000;
/// The pause of a hub that takes a second or so for the weights.
const SLOW: Duration = Duration::from_millis(50);

/// A hub that sends the weights slowly.
fn slow() -> HuggingFace {
    let manners = Manners {
        pause: SLOW,
        ..Manners::default()
    };
    HuggingFace::start(WEIGHTS, manners)
}

fn pull(home: &Home, hub: &HuggingFace, arguments: &[&str]) -> Command {
    let mut command = home.command([&["pull"], arguments].concat());
    command.env("HF_ENDPOINT", hub.endpoint());
    command
}

fn pulled(home: &Home, hub: &HuggingFace, arguments: &[&str]) -> Ran {
    ran(&mut pull(home, hub, arguments))
}

fn repository(home: &Home) -> PathBuf {
    home.path().join(".cache/huggingface/hub/models--org--tiny")
}

/// The names in a folder of the repository.
fn names(home: &Home, folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(repository(home).join(folder)) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What `models` lists.
fn models(home: &Home) -> Vec<Value> {
    serde_json::from_str(&home.said(&["models", "--json"])).unwrap()
}

/// Bytes of large files that were sent.
fn sent(asked: &[Asked]) -> u64 {
    let large = asked.iter().filter(|asked| asked.path.starts_with("/cdn/"));
    large.map(|asked| asked.sent).sum()
}

fn weights_of(hub: &HuggingFace) -> u64 {
    hub.file("model.safetensors").bytes.len() as u64
}

#[test]
fn a_model_comes_whole_into_the_cache_and_is_there_then() {
    let hub = HuggingFace::start(WEIGHTS, Manners::default());
    let home = Home::with_stub("models: [{name: a, model_path: org/a}]\n");
    let first = pulled(&home, &hub, &[REPOSITORY]);
    first.assert_ok();
    let _filters = home.filters(home.port);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r" in \d+s", " in TIME");
    settings.bind(|| {
        insta::assert_snapshot!(first.out, @"
    [info] org/tiny: 400 kB
    [ok] Downloaded org/tiny: 400 kB in TIME
    Add it: mlx-openai-server-hub add org/tiny
    ")
    });
    // As huggingface_hub lays it out.
    let snapshot = repository(&home).join("snapshots").join(COMMIT);
    for path in ["config.json", "nested/notes.json", "model.safetensors"] {
        let file = hub.file(path);
        assert_eq!(
            std::fs::read(snapshot.join(path)).unwrap(),
            file.bytes,
            "{path}"
        );
        let link = std::fs::read_link(snapshot.join(path)).unwrap();
        let above = "../".repeat(path.split('/').count() + 1);
        assert_eq!(link, PathBuf::from(format!("{above}blobs/{}", file.blob())));
    }
    assert!(!snapshot.join("README.md").exists());
    let main = std::fs::read_to_string(repository(&home).join("refs/main")).unwrap();
    assert_eq!(main, COMMIT);
    let listed = models(&home);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["model_path"], REPOSITORY);
    assert_eq!(sent(&hub.asked()), weights_of(&hub));

    let again = pulled(&home, &hub, &[REPOSITORY]);
    again.assert_ok();
    assert!(
        again
            .out
            .starts_with("[ok] All of org/tiny is here: 400 kB\n"),
        "{again:?}"
    );
    assert_eq!(hub.asked().len(), 1, "only the list is asked for");

    home.run(&["add", REPOSITORY, "--name", "tiny", "--yes"])
        .assert_ok();
    let added = pulled(&home, &hub, &[REPOSITORY]);
    added.assert_line("hub.yaml has it: tiny");

    pulled(&home, &hub, &[REPOSITORY, "--all"]).assert_ok();
    assert!(snapshot.join("README.md").exists());
}

#[test]
fn a_revision_is_a_folder_to_add_and_leaves_main_alone() {
    let hub = HuggingFace::start(1000, Manners::default());
    let home = Home::empty();
    let ran = pulled(&home, &hub, &["org/tiny@v1"]);
    ran.assert_ok();
    let folder = format!("~/.cache/huggingface/hub/models--org--tiny/snapshots/{COMMIT}");
    ran.assert_line(&format!("Add it: mlx-openai-server-hub add '{folder}'"));
    assert_eq!(names(&home, "refs"), ["v1"]);
    let commit = pulled(&home, &hub, &[&format!("org/tiny@{COMMIT}")]);
    assert!(commit.out.contains("All of org/tiny is here"), "{commit:?}");
}

#[test]
fn a_broken_connection_is_taken_up_again_where_it_broke() {
    let hub = HuggingFace::start(
        WEIGHTS,
        Manners {
            cuts: 2,
            ..Manners::default()
        },
    );
    let home = Home::empty();
    pulled(&home, &hub, &[REPOSITORY]).assert_ok();
    let asked = hub.asked();
    assert_eq!(sent(&asked), weights_of(&hub), "{asked:?}");
    let ranges = asked.iter().filter(|asked| asked.path.starts_with("/cdn/"));
    let ranges: Vec<_> = ranges.map(|asked| asked.range.is_some()).collect();
    assert_eq!(ranges, [false, true, true]);
    assert_eq!(models(&home).len(), 1);
}

#[test]
fn an_interrupt_keeps_what_has_come_and_the_next_one_gets_the_rest() {
    let hub = slow();
    let home = Home::empty();
    let mut command = pull(&home, &hub, &[REPOSITORY]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = format!("{}.incomplete", hub.file("model.safetensors").blob());
    let part = repository(&home).join("blobs").join(part);
    let length = || part.metadata().map_or(0, |found| found.len());
    wait_until("some of the weights", SOON, || length() > 50_000);
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("Error: stopped; "), "{told}");
    assert!(
        told.contains("\nhint: the same command goes on from there\n"),
        "{told}"
    );
    assert!(models(&home).is_empty());
    let kept = length();
    hub.asked();
    hub.set(Manners::default());
    let again = pulled(&home, &hub, &[REPOSITORY]);
    again.assert_ok();
    assert!(again.out.contains(" are here\n"), "{again:?}");
    let asked = hub.asked();
    assert_eq!(sent(&asked), weights_of(&hub) - kept, "{asked:?}");
    assert_eq!(models(&home).len(), 1);
}

#[test]
fn a_terminal_gets_a_bar() {
    let hub = slow();
    let home = Home::empty();
    let shown = shown_by(&mut pull(&home, &hub, &[REPOSITORY]));
    let is_bar = |line: &&String| line.starts_with("[#") && line.contains(" kB of 400 kB, ");
    let bar = shown
        .iter()
        .find(is_bar)
        .unwrap_or_else(|| panic!("{shown:?}"));
    assert!(bar.contains("kB/s, ") && bar.ends_with("s left"), "{bar}");
}

#[test]
fn two_at_once_share_the_work() {
    let hub = slow();
    let home = Home::empty();
    let both = [0, 1].map(|_| {
        let mut command = pull(&home, &hub, &[REPOSITORY]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for one in both {
        let ended = one.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
    assert_eq!(sent(&hub.asked()), weights_of(&hub));
    assert_eq!(models(&home).len(), 1);
    assert!(
        names(&home, "blobs")
            .iter()
            .all(|name| !name.ends_with(".incomplete"))
    );
}

#[test]
fn what_is_not_as_the_hub_says_is_refused_and_removed() {
    let forges = Manners {
        forges: true,
        ..Manners::default()
    };
    let shortens = Manners {
        shortens: true,
        ..Manners::default()
    };
    let hub = HuggingFace::start(WEIGHTS, forges);
    let home = Home::empty();
    let small = hub.file("config.json").blob();
    for (manners, reason) in [
        (None, "its SHA-256 is another"),
        (Some(shortens), "400070 bytes instead of 400071"),
    ] {
        if let Some(manners) = manners {
            hub.set(manners);
        }
        let ran = pulled(&home, &hub, &[REPOSITORY]);
        ran.assert_failed();
        assert!(
            ran.err.contains(&format!(
                "Error: `model.safetensors` is not what it should be ({reason}), so it was removed"
            )),
            "{ran:?}"
        );
        let blobs = names(&home, "blobs");
        assert!(blobs.contains(&small), "{blobs:?}");
        assert!(
            !blobs.iter().any(|name| name.contains("incomplete")),
            "{blobs:?}"
        );
        assert!(!blobs.contains(&hub.file("model.safetensors").blob()));
        assert_eq!(names(&home, "refs"), [""; 0]);
        assert!(models(&home).is_empty());
    }
    // A sum is over what an earlier download has left, too.
    hub.set(Manners::default());
    let part = format!("{}.incomplete", hub.file("model.safetensors").blob());
    std::fs::write(repository(&home).join("blobs").join(part), "wrong").unwrap();
    pulled(&home, &hub, &[REPOSITORY]).assert_failed();
    pulled(&home, &hub, &[REPOSITORY]).assert_ok();
    assert_eq!(models(&home).len(), 1);
}

#[test]
fn a_disk_without_room_is_told_before_anything_comes() {
    let pretends = Some(1 << 60);
    let hub = HuggingFace::start(
        1000,
        Manners {
            pretends,
            ..Manners::default()
        },
    );
    let home = Home::empty();
    let ran = pulled(&home, &hub, &[REPOSITORY]);
    ran.assert_failed();
    let needed = "Error: the disk has no room for org/tiny: 1152921505 GB are needed, and ";
    assert!(ran.err.starts_with(needed), "{ran:?}");
    assert!(ran.err.contains("B are free at `"), "{ran:?}");
    assert_eq!(hub.asked().len(), 1);
    assert!(!repository(&home).exists());
}

/// What is told about a hub that refuses; `HUB` is its address.
fn refusals(hub: &HuggingFace, home: &Home, token: Option<&str>) -> String {
    let mut command = pull(home, hub, &[REPOSITORY]);
    if let Some(token) = token {
        command.env("HF_TOKEN", token);
    }
    let ran = ran(&mut command);
    ran.assert_failed();
    let told = ran.err.lines().filter(|line| !line.starts_with("[info]"));
    let told: Vec<&str> = told.collect();
    let told = told.join("\n").replace(&hub.endpoint(), "HUB") + "\n";
    // Whichever of them is refused first.
    let files = ["config.json", "nested/notes.json", "model.safetensors"];
    files
        .iter()
        .fold(told, |told, file| told.replace(file, "FILE"))
}

#[test]
fn a_refusal_says_what_to_do() {
    let hub = HuggingFace::start(1000, Manners::default());
    let home = Home::empty();
    let mut told = String::new();
    for (status, code, token) in [
        (401, "GatedRepo", None),
        (403, "GatedRepo", Some("hf_mine")),
        (500, "", None),
    ] {
        let refuses_files = Some((status, code));
        hub.set(Manners {
            refuses_files,
            ..Manners::default()
        });
        told += &refusals(&hub, &home, token);
    }
    for (status, code, token) in [
        (404, "RepoNotFound", None),
        (401, "", None),
        (401, "", Some("hf_old")),
        (429, "", None),
    ] {
        let refuses_list = Some((status, code));
        hub.set(Manners {
            refuses_list,
            ..Manners::default()
        });
        told += &refusals(&hub, &home, token);
    }
    hub.set(Manners::default());
    let revision = pulled(&home, &hub, &["org/tiny@v9"]);
    let name = pulled(&home, &hub, &["org/../tiny"]);
    let mut offline = pull(&home, &hub, &[REPOSITORY]);
    let offline = ran(offline.env("HF_HUB_OFFLINE", "1"));
    for ran in [revision, name, offline] {
        ran.assert_failed();
        told += &ran.err.replace(&hub.endpoint(), "HUB");
    }
    insta::assert_snapshot!(told, @"
    Error: `org/tiny` is gated
    hint: accept its licence at HUB/org/tiny, then `hf auth login`, or set HF_TOKEN
    Error: `org/tiny` is gated, and the account of HF_TOKEN has no access to it
    hint: accept its licence at HUB/org/tiny with that account; some owners take days to answer
    Error: HUB/org/tiny/resolve/00000000000000000000000000000000000000aa/FILE was answered with 500: Access to this resource is refused.
    hint: try again later; what has come is kept
    Error: there is no model `org/tiny` on HUB, or it is private
    hint: look for it at HUB/models; for a private one `hf auth login`, or set HF_TOKEN
    Error: there is no model `org/tiny` on HUB, or it is private
    hint: look for it at HUB/models; for a private one `hf auth login`, or set HF_TOKEN
    Error: HUB refuses the token of HF_TOKEN
    hint: `hf auth login` again, or set another HF_TOKEN
    Error: HUB/api/models/org/tiny/revision/main?blobs=true was answered with 429: Access to this resource is refused.
    hint: try again later; what has come is kept
    Error: `org/tiny` has no revision `v9`
    hint: HUB/org/tiny/tree/main lists its branches and tags
    Error: `org/../tiny` names no repository
    hint: it is `org/name`, or `org/name@revision`
    Error: HF_HUB_OFFLINE is set, so nothing is downloaded
    hint: unset it for this command
    ");
}

#[test]
fn a_hub_that_cannot_be_reached_is_named() {
    let home = Home::empty();
    // Bound, and nobody listens.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    let mut command = home.command(["pull", REPOSITORY]);
    let ran = ran(command.env("HF_ENDPOINT", &endpoint));
    ran.assert_failed();
    let told = format!("Error: {endpoint} cannot be reached: ");
    assert!(ran.err.starts_with(&told), "{ran:?}");
    assert!(ran.err.contains("\nhint: look at the network"), "{ran:?}");
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let hub = HuggingFace::start(1000, Manners::default());
    let home = Home::empty();
    let folder = home.path().join(".cache/huggingface");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "hf_of_file\n").unwrap();
    pulled(&home, &hub, &[REPOSITORY]).assert_ok();
    for asked in hub.asked() {
        let expected = match asked.path.starts_with("/cdn/") {
            true => None,
            false => Some("Bearer hf_of_file".to_owned()),
        };
        assert_eq!(asked.token, expected, "{asked:?}");
    }
}

#[test]
fn a_repository_without_weights_is_no_model() {
    let hub = HuggingFace::start(1000, Manners::default());
    let home = Home::empty();
    hub.forget("model.safetensors");
    let ran = pulled(&home, &hub, &[REPOSITORY]);
    ran.assert_failed();
    assert!(
        ran.err.starts_with("Error: `org/tiny` has no weights"),
        "{ran:?}"
    );
    pulled(&home, &hub, &[REPOSITORY, "--all"]).assert_ok();
}

#[test]
fn add_names_pull_for_what_is_not_here() {
    let home = Home::with_stub("models: [{name: a, model_path: org/a}]\n");
    let ran = home.run(&["add", "org/far", "--yes"]);
    ran.assert_ok();
    ran.assert_line(
        "[info] org/far is not on this disk: its worker downloads it at its first load; \
         `mlx-openai-server-hub pull org/far` does it now",
    );
}
