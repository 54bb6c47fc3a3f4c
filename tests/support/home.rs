//! A home folder for one test, as a user has it: hub.yaml at its default place, what is on PATH, and the
//! daemon that `start` puts into the background.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Http};
use super::record::Record;
use super::{BINARY, SOON, processes, spares, wait_for, wait_until, within};

/// `worker_command` of a worker that can stay up unloaded; the default one cannot.
pub const JIT: &str = "jit-openai-server";

/// Dropped, it ends its daemon; no process of it or of its workers may be left.
pub struct Home {
    folder: TempDir,
    /// PATH.
    search: String,
    /// The virtual environment of the real worker, if it is on PATH.
    real_worker: Option<PathBuf>,
    /// The process id of the daemon that was started last, or 0.
    daemon: AtomicU32,
    /// The hub's port; those after it are for workers.
    pub port: u16,
    pub http: Http,
    /// What the workers wrote down.
    pub record: Record,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The lines of stdout.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub fn assert_failed(&self) -> &Self {
        assert_eq!(self.code, 1, "{self:?}");
        self
    }

    /// stdout has this line.
    #[track_caller]
    pub fn assert_line(&self, line: &str) -> &Self {
        assert!(self.lines().contains(&line), "no `{line}` in {self:?}");
        self
    }
}

impl Home {
    /// Without a hub.yaml, and with nothing but the empty [`Home::bin`] on PATH.
    pub fn empty() -> Self {
        // On macOS the folder for temporary files is reached by a link; what programs say is the real path.
        let folder = TempDir::new_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        let port = processes::ports();
        let mut home = Self {
            daemon: AtomicU32::new(0),
            search: String::new(),
            real_worker: None,
            port,
            http: Http { port },
            record: Record::at(&folder.path().join("record.jsonl")),
            folder,
        };
        home.search = home.bin().display().to_string();
        std::fs::create_dir(home.base()).unwrap();
        std::fs::create_dir(home.bin()).unwrap();
        home
    }

    /// With simulated workers on PATH, and a hub.yaml of `yaml` below `host`, `port` and `model_starting_port`;
    /// nothing runs.
    pub fn with_stub(yaml: &str) -> Self {
        let mut home = Self::empty();
        home.search += ":/usr/bin:/bin";
        home.write_program("mlx-openai-server", &["stub-worker"]);
        home.write_program(JIT, &["stub-worker", "--dialect", "jit"]);
        if spares::are_used() {
            let programs = ["mlx-openai-server", JIT].map(|name| home.bin().join(name));
            spares::teach(&home.logs(), &programs);
        }
        home.configure(yaml);
        home
    }

    /// With the real worker of that virtual environment on PATH, beside all that the test itself has there.
    pub fn with_real_worker(environment: PathBuf) -> Self {
        let mut home = Self::empty();
        let others = std::env::var("PATH").unwrap_or_default();
        let (own, bin) = (home.bin(), environment.join("bin"));
        home.search = format!("{}:{}:{others}", own.display(), bin.display());
        home.real_worker = Some(environment);
        home
    }

    /// [`Home::with_stub`] with a daemon that `start` has started.
    pub fn started(yaml: &str) -> Self {
        let home = Self::with_stub(yaml);
        home.start();
        home
    }

    /// The virtual environment of the real worker.
    pub fn real_worker(&self) -> &Path {
        self.real_worker
            .as_deref()
            .expect("a home with the real worker")
    }

    /// Puts this program with these arguments on PATH.
    fn write_program(&self, name: &str, arguments: &[&str]) {
        if spares::are_used() {
            let words = [&[BINARY], arguments].concat();
            return spares::write_program(&self.bin().join(name), &words);
        }
        let arguments = arguments.join(" ");
        self.write_script(name, &format!("exec '{BINARY}' {arguments} \"$@\""));
    }

    /// Puts a shell script on PATH.
    pub fn write_script(&self, name: &str, script: &str) {
        let path = self.bin().join(name);
        let script = format!("#!/bin/sh\n{script}\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Replaces hub.yaml, below `host`, `port` and `model_starting_port`.
    pub fn configure(&self, yaml: &str) {
        let (port, first) = (self.port, self.port + 1);
        self.write(&format!(
            "host: 127.0.0.1\nport: {port}\nmodel_starting_port: {first}\n{}",
            spares::configured(yaml)
        ));
    }

    /// Replaces hub.yaml.
    pub fn write(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// HOME.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The base folder.
    pub fn base(&self) -> PathBuf {
        self.path().join("mlx-openai-server-hub")
    }

    /// hub.yaml at its default place.
    pub fn config(&self) -> PathBuf {
        self.base().join("hub.yaml")
    }

    /// The default `log_path`.
    pub fn logs(&self) -> PathBuf {
        self.base().join("logs")
    }

    /// The folder on PATH that has the workers.
    pub fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    /// hub_runtime.json at its default place.
    pub fn runtime_file(&self) -> PathBuf {
        self.logs().join("hub_runtime.json")
    }

    /// The text of the hub's own log.
    pub fn app_log(&self) -> String {
        std::fs::read_to_string(self.logs().join("app.log")).unwrap()
    }

    /// The program with these arguments, as this home's user would run it.
    pub fn command<'a>(&self, arguments: impl AsRef<[&'a str]>) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments.as_ref())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", &self.search)
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        match &self.real_worker {
            Some(_) => command.env("HF_HUB_OFFLINE", "1"),
            None => command.env("STUB_RECORD", self.record.path()),
        };
        command
    }

    /// Runs it to its end, which must be success, and gives what it said.
    #[track_caller]
    pub fn said(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        ran.assert_ok();
        ran.out + &ran.err
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) -> Ran {
        self.start_with(&[], |_| {})
    }

    /// `start` with options before it and with a changed environment; it must succeed.
    #[track_caller]
    pub fn start_with(&self, options: &[&str], change: impl Fn(&mut Command)) -> Ran {
        let mut command = self.command([options, &["start"]].concat());
        change(&mut command);
        let ran = ran(&mut command);
        ran.assert_ok();
        self.note_daemon(&ran.out);
        ran
    }

    /// Notes the process id of the daemon that a command says it has started.
    pub fn note_daemon(&self, said: &str) {
        let pid = said.split_once("(PID: ").unwrap().1;
        let pid = pid.split(')').next().unwrap().parse().unwrap();
        self.daemon.store(pid, Ordering::Relaxed);
    }

    /// `serve`, the daemon in the foreground; returns when `/health` answers.
    pub fn serve(&self) -> Child {
        let daemon = self
            .command(["serve"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon.store(daemon.id(), Ordering::Relaxed);
        let healthy = || self.http.try_get("/health").is_ok();
        wait_until("the daemon to answer", SOON, healthy);
        daemon
    }

    /// The process id of the daemon that was started last.
    pub fn pid(&self) -> u32 {
        self.daemon.load(Ordering::Relaxed)
    }

    pub fn is_running(&self) -> bool {
        // A daemon that nobody has reaped is gone all the same.
        self.pid() != 0 && processes::is_alive(self.pid())
    }

    #[track_caller]
    pub fn wait_for_end(&self) {
        wait_until("the daemon to end", SOON, || !self.is_running());
    }

    pub fn status(&self) -> Value {
        self.http.hub_status()
    }

    pub fn model(&self, name: &str) -> Value {
        self.http.model(name)
    }

    /// `process_state` and `memory_state`.
    pub fn states(&self, name: &str) -> (String, String) {
        let model = self.model(name);
        let word = |key: &str| model[key].as_str().unwrap().to_owned();
        (word("process_state"), word("memory_state"))
    }

    #[track_caller]
    pub fn assert_states(&self, name: &str, process: &str, memory: &str) {
        let expected = (process.to_owned(), memory.to_owned());
        assert_eq!(self.states(name), expected, "{name}");
    }

    /// Waits until the model is in these states, and gives its `metadata`.
    pub fn wait_for_state(&self, name: &str, process: &str, memory: &str) -> Value {
        self.http.wait_for_state(name, process, memory)
    }

    /// `POST /hub/models/{name}/{action}`.
    pub fn act(&self, name: &str, action: &str) -> Answer {
        let loads = ["start", "load"].contains(&action);
        if loads && spares::are_used() && !self.record.events("start").is_empty() {
            spares::settle(self.http);
        }
        self.http.act(name, action)
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn done(&self, name: &str, action: &str) {
        let answer = self.act(name, action);
        assert_eq!(answer.status, 200, "{action} {name}: {}", answer.text());
    }

    /// `POST /hub/reload`, which must succeed.
    #[track_caller]
    pub fn reload(&self) -> Value {
        let answer = self.http.post("/hub/reload", &Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The warnings of the status, in one text.
    pub fn warnings(&self) -> String {
        let status = self.status();
        let warnings = status["warnings"].as_array().unwrap().iter();
        warnings
            .map(|warning| warning.as_str().unwrap().to_owned() + "\n")
            .collect()
    }

    /// Waits until the warnings of the status contain `text`.
    #[track_caller]
    pub fn wait_for_warning(&self, text: &str) {
        let warned = || self.warnings().contains(text);
        wait_until(&format!("a warning: {text}"), SOON, warned);
    }

    /// The command line of the model's latest worker.
    pub fn worker_arguments(&self, model: &str) -> Vec<String> {
        let start = self.worker_start(model);
        let words = start["args"].as_array().unwrap().iter();
        let words: Vec<String> = words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect();
        let launch = words.iter().position(|word| word == "launch").unwrap();
        words[launch..].to_vec()
    }

    /// What the model's latest worker wrote down at its start.
    pub fn worker_start(&self, model: &str) -> Value {
        let path = format!("org/{model}");
        wait_for(&format!("a worker of {model}"), SOON, || {
            let mut starts = self.record.events("start");
            starts.retain(|line| line["model"] == model || line["model"] == path.as_str());
            starts.pop()
        })
    }

    /// No process of a worker is left, nor a child of one.
    #[track_caller]
    pub fn assert_no_workers(&self) {
        let left = self.worker_processes();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Processes that name this home: the daemon and every worker do.
    pub fn processes(&self) -> Vec<String> {
        processes::with_argument(self.path().to_str().unwrap())
    }

    /// Processes of workers that are still there.
    pub fn worker_processes(&self) -> Vec<u32> {
        let workers = self.record.workers().into_iter();
        workers.flat_map(processes::members).collect()
    }

    /// Snapshots without what differs from run to run; to be kept while they are compared.
    pub fn filters(&self, port: u16) -> impl Drop + use<> {
        let mut settings = insta::Settings::clone_current();
        let home = self.path().display().to_string().replace('.', r"\.");
        settings.add_filter(&home, "HOME");
        settings.add_filter(&format!(r"\b{port}\b"), "PORT");
        settings.add_filter(&format!(r"\(PID: {}\)", std::process::id()), "(PID: OURS)");
        settings.add_filter(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]", "[TIME]");
        settings.set_omit_expression(true);
        settings.bind_to_scope()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.is_running() {
            // The second signal skips the drain.
            processes::send(self.pid(), Signal::SIGTERM);
            processes::send(self.pid(), Signal::SIGTERM);
        }
        let hung = within(SOON, || (!self.is_running()).then_some(())).is_none();
        let left = self.worker_processes();
        for group in self.record.workers().into_iter().chain([self.pid()]) {
            if group != 0 && !processes::members(group).is_empty() {
                processes::send_to_group(group, Signal::SIGKILL);
            }
        }
        if std::thread::panicking() && self.real_worker.is_some() {
            let pids = self.processes().into_iter().filter_map(|process| {
                let pid = process.split_whitespace().next()?;
                pid.parse().ok()
            });
            pids.for_each(|pid| processes::send(pid, Signal::SIGKILL));
            // A worker that began as a spare process has no path of this home in its arguments.
            let _ = self.command(["stop"]).output();
        }
        if !std::thread::panicking() {
            assert!(!hung, "the daemon did not end:\n{}", self.app_log());
            assert!(left.is_empty(), "workers outlived the hub: {left:?}");
        }
    }
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
