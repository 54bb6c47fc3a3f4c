//! What a shell completes, in the shells themselves, and the files that packages bring along for them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::home::{Home, ran};
use crate::support::{BINARY, SOON, wait_for, wait_until};

/// The name by which users call the program.
const PROGRAM: &str = "mlx-openai-server-hub";

/// A shell at a terminal of its own, in which somebody types.
struct Typing {
    shell: Child,
    keyboard: File,
}

impl Typing {
    fn into(home: &Home, shell: &[&str]) -> Self {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut command = Command::new(shell[0]);
        command
            .args(&shell[1..])
            .current_dir(home.path())
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", format!("{}:/usr/bin:/bin", home.bin().display()))
            .env("TERM", "vt100");
        let shell = command.stdin(end()).stdout(end()).stderr(end());
        let shell = shell.spawn().unwrap();
        let keyboard = File::from(terminal.master);
        // A terminal that nobody reads from is full some day.
        let mut screen = keyboard.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
        Self { shell, keyboard }
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// What becomes of a line in a shell when its last word is completed.
#[track_caller]
fn completed(home: &Home, shell: &[&str], set_up: &str, line: &str) -> String {
    let (ready, told) = (home.path().join("ready"), home.path().join("told"));
    for file in [&ready, &told] {
        let _ = std::fs::remove_file(file);
    }
    let mut typing = Typing::into(home, shell);
    typing.type_in(&format!("{set_up}; echo ready >ready\n"));
    wait_until("the shell", SOON, || ready.exists());
    // Tab completes, Ctrl+A leads to the beginning of the line, which is printed rather than run.
    typing.type_in(&format!("{line}\t\u{1}echo >told \n"));
    wait_for("the completed line", SOON, || {
        let told = std::fs::read_to_string(&told).ok()?;
        told.ends_with('\n').then(|| told.trim_end().to_owned())
    })
}

/// A home with models, and with the program on PATH.
fn home() -> Home {
    let home = Home::empty();
    home.write(
        "models:\n- {name: qwen3-4b, model_path: org/qwen}\n- {name: gemma3-27b, model_path: org/gemma}\n",
    );
    let other = home.path().join("other.yaml");
    std::fs::write(other, "models: [{name: phi-4, model_path: org/phi}]\n").unwrap();
    symlink(BINARY, home.bin().join(PROGRAM)).unwrap();
    home
}

/// Whether a shell can be tried here.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn is_installed(shell: &str) -> bool {
    let is_installed = Command::new(shell).arg("--version").output().is_ok();
    if !is_installed {
        println!("not run: completions in {shell}: it is not installed");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no {shell}");
    }
    is_installed
}

/// Lines as far as somebody types them, and as they stand there after a Tab.
#[track_caller]
fn completes_everything(home: &Home, shell: &[&str], set_up: &str) {
    for (typed, becomes) in [
        ("unload-mod", "unload-model"),
        ("load-model qw", "load-model qwen3-4b"),
        ("load-model qwen3-4b ge", "load-model qwen3-4b gemma3-27b"),
        ("logs ge", "logs gemma3-27b"),
        (
            "--config other.yaml status ph",
            "--config other.yaml status phi-4",
        ),
        ("policy sh", "policy show"),
        ("policy show lru", "policy show lru_swap"),
        ("completions f", "completions fish"),
    ] {
        let line = completed(home, shell, set_up, &format!("{PROGRAM} {typed}"));
        assert_eq!(line, format!("{PROGRAM} {becomes}"), "{shell:?}");
    }
}

#[test]
fn bash_completes_commands_and_names_of_models() {
    if is_installed("bash") {
        let set_up = format!("source <({PROGRAM} completions bash)");
        completes_everything(&home(), &["bash", "--norc", "--noprofile", "-i"], &set_up);
    }
}

#[test]
fn zsh_completes_commands_and_names_of_models() {
    if is_installed("zsh") {
        let set_up =
            format!("autoload -Uz compinit; compinit -u; source <({PROGRAM} completions zsh)");
        completes_everything(&home(), &["zsh", "-f", "-i"], &set_up);
    }
}

#[test]
fn fish_completes_commands_and_names_of_models() {
    if is_installed("fish") {
        let set_up = format!("{PROGRAM} completions fish | source");
        // It refuses a terminal that is not its own.
        let mut shell = match cfg!(target_os = "macos") {
            true => vec!["script", "-q", "/dev/null"],
            false => vec!["setsid", "--ctty"],
        };
        shell.extend(["fish", "--no-config", "-i"]);
        completes_everything(&home(), &shell, &set_up);
    }
}

#[test]
fn zsh_completes_at_the_first_tab_from_the_file_of_a_package() {
    if is_installed("zsh") {
        let home = home();
        home.run(&["share", "share"]).assert_ok();
        let set_up =
            "fpath=($PWD/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u";
        let line = completed(
            &home,
            &["zsh", "-f", "-i"],
            set_up,
            &format!("{PROGRAM} logs qw"),
        );
        assert_eq!(line, format!("{PROGRAM} logs qwen3-4b"));
    }
}

#[test]
fn a_hub_with_a_broken_hub_yaml_completes_the_models_it_has() {
    if is_installed("bash") {
        let home =
            Home::started("models: [{name: alpha, model_path: org/alpha, jit_enabled: true}]\n");
        symlink(BINARY, home.bin().join(PROGRAM)).unwrap();
        let text = std::fs::read_to_string(home.config()).unwrap();
        home.write(&text.replace("jit_enabled", "jit_enable"));
        let set_up = format!("source <({PROGRAM} completions bash)");
        let shell = ["bash", "--norc", "--noprofile", "-i"];
        let line = completed(&home, &shell, &set_up, &format!("{PROGRAM} load-model al"));
        assert_eq!(line, format!("{PROGRAM} load-model alpha"));
        home.run(&["stop"]).assert_ok();
    }
}

#[test]
fn an_unknown_shell_is_wrong_usage() {
    let home = Home::empty();
    assert_eq!(home.run(&["completions", "csh"]).code, 2);
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn every_command_has_a_man_page() {
    let home = Home::empty();
    home.run(&["share", "share"]).assert_ok();
    let pages = files(&home.path().join("share/man/man1"));
    let help = home.run(&["--help"]).out;
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let lines = list.lines().filter(|line| !line.starts_with("   "));
    let mut wanted = vec![
        format!("{PROGRAM}.1"),
        format!("{PROGRAM}-policy-record-on.1"),
    ];
    let commands = lines.filter_map(|line| line.split_whitespace().next());
    let commands = commands.filter(|command| *command != "help");
    wanted.extend(commands.map(|command| format!("{PROGRAM}-{command}.1")));
    assert!(wanted.len() > 15, "{wanted:?}");
    for page in wanted {
        assert!(pages.contains(&page), "no {page} in {pages:?}");
    }
    let hidden = ["stub-worker", "share"].map(|command| format!("{PROGRAM}-{command}.1"));
    assert!(!hidden.iter().any(|page| pages.contains(page)), "{pages:?}");
    let status = std::fs::read_to_string(home.path().join("share/man/man1").join(&pages[0]));
    assert!(status.unwrap().starts_with(".ie \\n(.g .ds Aq"));
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let home = Home::empty();
    std::fs::write(home.path().join("share"), "").unwrap();
    let refused = home.run(&["share", "share"]);
    refused.assert_failed();
    assert!(
        refused.err.contains("cannot write into `share`"),
        "{refused:?}"
    );
}

#[test]
fn a_worker_beside_the_program_needs_no_path() {
    let home = Home::empty();
    home.write("models: [{name: alpha, model_path: org/alpha}]\n");
    // As a Python environment has them, with a link in a folder of PATH.
    let environment = home.path().join("environment/bin");
    std::fs::create_dir_all(&environment).unwrap();
    std::fs::copy(BINARY, environment.join(PROGRAM)).unwrap();
    let linked = home.bin().join(PROGRAM);
    symlink(environment.join(PROGRAM), &linked).unwrap();
    let checked = || {
        let mut command = Command::new(&linked);
        let like = home.command(["check"]);
        let environment = like
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        ran(command
            .args(["check", "--verbose"])
            .env_clear()
            .envs(environment)
            .current_dir(home.path()))
    };
    let lacking = checked();
    assert!(
        lacking
            .out
            .contains("was not found on PATH, nor beside the hub"),
        "{lacking:?}"
    );

    let script = format!("#!/bin/sh\nexec '{BINARY}' stub-worker \"$@\"\n");
    let install = |folder: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        let worker = folder.join("mlx-openai-server");
        std::fs::write(&worker, &script).unwrap();
        std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
        worker
    };
    let beside = install(&environment);
    let found = checked();
    let line = format!(
        "    {} launch --model-path",
        beside.canonicalize().unwrap().display()
    );
    assert!(found.assert_ok().out.contains(&line), "{found:?}");
    assert!(found.out.ends_with("[ok] Nothing is wrong\n"), "{found:?}");

    // What PATH has is what the user has chosen.
    install(&home.bin());
    let found = checked();
    assert!(
        found
            .out
            .contains("    mlx-openai-server launch --model-path"),
        "{found:?}"
    );
}
