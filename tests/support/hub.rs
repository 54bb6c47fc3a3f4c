//! A real daemon for one test: its own home, its own ports, simulated workers.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Http};
use super::record::Record;
use super::{BINARY, SOON, processes, show, spares, wait_for, wait_until, within};

/// `worker_command` of a simulated worker, as a YAML list: the knobs stand before `launch`.
///
/// Every worker of a test writes to the record of its hub.
pub fn stub(knobs: &[&str]) -> String {
    let program = match spares::are_used() {
        true => vec![spares::stub().to_str().expect("UTF-8")],
        false => vec![BINARY, "stub-worker"],
    };
    let words = program.into_iter().chain(knobs.iter().copied());
    let quoted: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A daemon in the foreground, `serve --config`. Dropped, it is shut down, and no process of it or
/// of its workers may be left.
pub struct Hub {
    home: TempDir,
    first_port: u16,
    daemon: Daemon,
    /// Ended by the test itself, rudely: workers may be left, and are cleaned up.
    killed: bool,
    /// Its one port.
    pub http: Http,
    /// What its workers wrote down.
    pub record: Record,
}

impl Hub {
    /// Starts a daemon on a hub.yaml of `yaml` below `host`, `port`, `log_path` and
    /// `model_starting_port`, and returns when `/health` answers.
    pub fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[])
    }

    /// The same with more files in the folder of hub.yaml: policies.
    pub fn start_with(yaml: &str, files: &[(&str, &str)]) -> Self {
        Self::launch(yaml, files, |home, _| serve(home))
    }

    /// The same in the background, by `start`.
    pub fn start_in_background(yaml: &str) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let first_port = processes::ports();
        write_config(home.path(), first_port, yaml);
        let hub = Self {
            record: Record::at(&record_path(home.path())),
            http: Http { port: first_port },
            home,
            first_port,
            daemon: Daemon::Background(AtomicU32::new(0)),
            killed: false,
        };
        hub.start_again();
        hub
    }

    /// The same with so many file descriptors and no more.
    pub fn start_with_descriptors(yaml: &str, descriptors: u32) -> Self {
        Self::start_under(
            yaml,
            &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""),
        )
    }

    /// The same under a shell script, which runs in the folder of hub.yaml and must end by
    /// executing the daemon, `"$0" "$@"`.
    pub fn start_under(yaml: &str, script: &str) -> Self {
        Self::launch(yaml, &[], |home, _| {
            let mut command = in_home(Command::new("sh"), home);
            command.args(["-c", script, BINARY]);
            spawn_serve(command, home)
        })
    }

    /// The same in a terminal, whose other side is returned with it.
    pub fn start_in_terminal(yaml: &str) -> (Self, OwnedFd) {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let hub = Self::launch(yaml, &[], |home, _| {
            let mut command = command(home);
            command.stdin(pty.slave);
            spawn_serve(command, home)
        });
        (hub, pty.master)
    }

    /// The same on a listener of the test, as a service manager has one.
    pub fn start_activated(yaml: &str) -> (Self, TcpListener) {
        let mut held = None;
        let hub = Self::launch(yaml, &[], |home, port| {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port of the test");
            serve_on(home, held.insert(listener))
        });
        (hub, held.expect("a listener"))
    }

    /// Starts a daemon on that listener again where one was killed.
    pub fn activate_again(&mut self, listener: &TcpListener) {
        self.daemon = Daemon::Child(serve_on(self.home.path(), listener));
        self.killed = false;
        self.wait_for_health();
    }

    fn launch(yaml: &str, files: &[(&str, &str)], serve: impl FnOnce(&Path, u16) -> Child) -> Self {
        // On macOS it is reached by a link; what programs say is the real path.
        let temporary = std::env::temp_dir().canonicalize();
        let home = temporary
            .and_then(TempDir::new_in)
            .expect("a temporary folder");
        for (name, text) in files {
            let path = home.path().join(name);
            let folder = path.parent().expect("a file in the home");
            std::fs::create_dir_all(folder).expect("its folder");
            std::fs::write(path, text).expect("a file of the test");
        }
        let first_port = processes::ports();
        write_config(home.path(), first_port, yaml);
        let daemon = Daemon::Child(serve(home.path(), first_port));
        let mut hub = Self {
            record: Record::at(&record_path(home.path())),
            http: Http { port: first_port },
            home,
            first_port,
            daemon,
            killed: false,
        };
        hub.wait_for_health();
        hub
    }

    /// Starts a daemon again where one was killed, in the background if that one was.
    pub fn serve_again(&mut self) {
        if self.is_in_background() {
            self.start_again();
        } else {
            self.daemon = Daemon::Child(serve(self.home.path()));
        }
        self.killed = false;
        self.wait_for_health();
    }

    /// `start`, of which a hub must come.
    fn start_again(&self) {
        let started = self.run(&["start"]);
        assert_eq!(started.status.code(), Some(0), "{started:?}");
        self.follow();
    }

    /// Whether commands start the daemon, and not the test.
    pub fn is_in_background(&self) -> bool {
        matches!(self.daemon, Daemon::Background(_))
    }

    fn wait_for_health(&mut self) {
        let http = self.http;
        let healthy = wait_for("the daemon to answer or to end", SOON, || {
            if !self.daemon.is_running() {
                return Some(false);
            }
            http.try_get("/health").is_ok().then_some(true)
        });
        assert!(healthy, "the daemon ended at once:\n{}", self.output());
    }

    /// `restart`: a process that the test has started in the foreground stays, and another one is the hub.
    pub fn restart(&self) -> Output {
        let output = self.run(&["restart"]);
        self.follow();
        output
    }

    /// Looks which process is the hub now, where one has taken the place of another in the background.
    pub fn follow(&self) {
        if let Daemon::Background(pid) = &self.daemon {
            pid.store(self.serving_pid(), Ordering::Relaxed);
        }
    }

    /// The process that is the hub now, which a restart makes another one.
    pub fn serving_pid(&self) -> u32 {
        let file = std::fs::read(self.logs().join("hub_runtime.json")).expect("a runtime file");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        u32::try_from(file["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    /// Replaces hub.yaml; says nothing to the daemon.
    pub fn configure(&self, yaml: &str) {
        write_config(self.home.path(), self.first_port, yaml);
    }

    /// The folder of hub.yaml, which is HOME too.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// The folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.home.path().join("logs")
    }

    /// hub.yaml.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("hub.yaml")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// What the daemon wrote to stdout and stderr.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.home.path().join("daemon.out")).unwrap_or_default()
    }

    /// A command line on the same hub.yaml.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(self.home.path());
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    /// The same, run to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command runs")
    }

    /// The same, begun.
    pub fn begin(&self, args: &[&str]) -> Begun {
        let mut command = self.command(args);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Begun(child.expect("the command runs"))
    }

    /// `GET /hub/status`.
    pub fn status(&self) -> Value {
        self.http.hub_status()
    }

    /// The status of one model: its `metadata`.
    pub fn model(&self, name: &str) -> Value {
        self.http.model(name)
    }

    /// Waits until `process_state` and `memory_state` of a model are these.
    pub fn wait_for_state(&self, name: &str, process: &str, memory: &str) -> Value {
        self.http.wait_for_state(name, process, memory)
    }

    /// `POST /hub/models/{name}/{action}`.
    pub fn act(&self, name: &str, action: &str) -> Answer {
        self.http.act(name, action)
    }

    /// SIGKILL to the daemon alone; its workers stay.
    pub fn kill(&mut self) {
        self.killed = true;
        self.daemon.kill();
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, what: Signal) {
        processes::send(self.daemon.id(), what);
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let Daemon::Child(child) = &mut self.daemon else {
            panic!("nobody knows how a process that is no child has ended");
        };
        wait_for("the daemon to end", SOON, || child.try_wait().ok()?)
    }

    /// Processes of all workers that are still there.
    pub fn worker_processes(&self) -> Vec<u32> {
        let workers = self.record.workers().into_iter();
        workers.flat_map(processes::members).collect()
    }
}

/// A command that runs.
pub struct Begun(Child);

impl Begun {
    /// Waits for its end; it fails the test, and ends, when it takes longer. It says little.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Output {
        let ended = within(limit, || self.0.try_wait().ok()?);
        if ended.is_none() {
            let _ = self.0.kill();
        }
        let output = self.0.wait_with_output().expect("the command ends");
        assert!(ended.is_some(), "still running after {limit:?}: {output:?}");
        output
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The second signal skips the drain: a test that cares for it has ended the hub itself.
        self.signal_if_running(Signal::SIGTERM);
        self.signal_if_running(Signal::SIGTERM);
        let hung = within(SOON, || (!self.is_running()).then_some(())).is_none();
        if hung {
            self.daemon.kill();
        }
        let left = self.worker_processes();
        for worker in self.record.workers() {
            if !processes::members(worker).is_empty() {
                processes::send_to_group(worker, Signal::SIGKILL);
            }
        }
        if std::thread::panicking() {
            show("the daemon", &self.output());
        } else if !self.killed {
            assert!(!hung, "the daemon did not end:\n{}", self.output());
            assert!(
                left.is_empty(),
                "processes {left:?} outlived the hub:\n{}",
                self.output()
            );
        }
    }
}

impl Hub {
    fn is_running(&mut self) -> bool {
        self.daemon.is_running()
    }

    fn signal_if_running(&mut self, what: Signal) {
        if self.is_running() {
            self.signal(what);
        }
    }
}

/// The daemon of the moment.
enum Daemon {
    /// Started by the test.
    Child(Child),
    /// Started by a command of the test, `start` or `restart`.
    Background(AtomicU32),
}

impl Daemon {
    fn id(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Background(pid) => pid.load(Ordering::Relaxed),
        }
    }

    fn is_running(&mut self) -> bool {
        match self {
            Self::Child(child) => matches!(child.try_wait(), Ok(None)),
            Self::Background(pid) => processes::is_alive(pid.load(Ordering::Relaxed)),
        }
    }

    fn kill(&mut self) {
        processes::send(self.id(), Signal::SIGKILL);
        self.wait();
    }

    /// Waits until it has ended.
    fn wait(&mut self) {
        if let Self::Child(child) = self {
            let _ = child.wait();
        }
        wait_until("the daemon to be gone", SOON, || !self.is_running());
    }
}

fn record_path(home: &Path) -> PathBuf {
    home.join("record.jsonl")
}

fn write_config(home: &Path, first_port: u16, yaml: &str) {
    let workers = first_port + 1;
    // What `yaml` sets itself is left out.
    let keys = [
        "host: 127.0.0.1".to_owned(),
        format!("port: {first_port}"),
        format!("model_starting_port: {workers}"),
        "log_path: logs".to_owned(),
    ];
    let is_set = |key: &str| {
        let (name, _) = key.split_once(' ').expect("a key and a value");
        yaml.lines().any(|line| line.starts_with(name))
    };
    let keys: String = keys
        .iter()
        .filter(|key| !is_set(key))
        .map(|key| format!("{key}\n"))
        .collect();
    let text = keys + &spares::configured(yaml);
    // In one step, as several threads may do it.
    let new = tempfile::NamedTempFile::new_in(home).expect("a file beside hub.yaml");
    std::fs::write(new.path(), text).expect("hub.yaml");
    new.persist(home.join("hub.yaml")).expect("hub.yaml");
}

/// This program with `home` as home and nothing of the caller's settings.
pub fn command(home: &Path) -> Command {
    in_home(Command::new(BINARY), home)
}

pub fn in_home(mut command: Command, home: &Path) -> Command {
    command
        .env("HOME", home)
        .env("STUB_RECORD", record_path(home))
        .env_remove("MLX_HUB_CONFIG_PATH")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

fn serve(home: &Path) -> Child {
    spawn_serve(command(home), home)
}

/// The listener is its file 3, as of a program that systemd starts.
fn serve_on(home: &Path, listener: &TcpListener) -> Child {
    let listener = listener.try_clone().expect("a second handle");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut command = in_home(Command::new("sh"), home);
    command
        .args(["-c", script, BINARY])
        .stdin(OwnedFd::from(listener));
    spawn_serve(command, home)
}

fn spawn_serve(mut command: Command, home: &Path) -> Child {
    let open = File::options()
        .create(true)
        .append(true)
        .open(home.join("daemon.out"));
    let output = open.expect("a file for the daemon's output");
    let errors = output.try_clone().expect("a second handle");
    command
        .arg("--config")
        .arg(home.join("hub.yaml"))
        .arg("serve")
        .stdout(output)
        .stderr(errors)
        .spawn()
        .expect("the daemon starts")
}
