//! A demo of the hub, started and ended.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::http::Http;
use crate::support::{BINARY, SOON, processes, show, wait_until, within};

/// A demo whose temporary folder and home lie in `home`.
pub(crate) struct Demo {
    pub(crate) home: TempDir,
    pub(crate) process: Child,
}

impl Demo {
    /// Starts one and waits until its hub is up.
    pub(crate) fn start() -> Self {
        Self::start_with(Stdio::null())
    }

    /// The same with that input.
    pub(crate) fn start_with(input: Stdio) -> Self {
        // Two that start at the same moment would both find port 8000 free.
        static STARTING: Mutex<()> = Mutex::new(());
        let _alone = STARTING.lock();
        let home = TempDir::new().unwrap();
        let output = File::create(home.path().join("output")).unwrap();
        std::fs::create_dir(home.path().join("tmp")).unwrap();
        let process = Command::new(BINARY)
            .arg("demo")
            .env("HOME", home.path())
            .env("TMPDIR", home.path().join("tmp"))
            .stdin(input)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let demo = Self { home, process };
        demo.wait_for_line("The hub is up");
        demo
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.home.path().join("output")).unwrap()
    }

    pub(crate) fn wait_for_line(&self, part: &str) {
        wait_until(part, SOON, || self.output().contains(part));
    }

    pub(crate) fn http(&self) -> Http {
        let output = self.output();
        let (_, rest) = output.split_once("http://127.0.0.1:").unwrap();
        let (port, _) = rest.split_once('/').unwrap();
        Http {
            port: port.parse().unwrap(),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Killed, it would leave its workers behind.
        processes::send(self.process.id(), Signal::SIGINT);
        within(SOON, || self.process.try_wait().ok()?);
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            show("the demo", &self.output());
        }
    }
}
