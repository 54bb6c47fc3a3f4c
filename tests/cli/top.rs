//! `top` in a terminal: what its screen shows, what its keys do, and that it leaves the terminal as it was.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::fake_hub::{FakeHub, status};
use crate::home_of_four;
use crate::support::home::Home;
use crate::support::{SOON, processes, wait_until};

const ALPHA: &str = "models: [{name: alpha, model_path: alpha, default: true}]\n";

/// The program in a terminal of 80 columns and 24 rows.
struct Top {
    child: Child,
    keys: File,
    /// The side that the program has; kept open, so that its settings can be read when it has ended.
    terminal: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Top {
    fn of(home: &Home) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = home
            .command(["top"])
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let mut output = File::from(pty.master.try_clone().unwrap());
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..read]);
            }
        });
        Self {
            child,
            keys: File::from(pty.master),
            terminal: pty.slave,
            screen,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let contents = || self.screen.lock().unwrap().screen().contents();
        let shown = crate::support::within(SOON, || contents().contains(text).then_some(()));
        assert!(shown.is_some(), "no `{text}` in\n{}", contents());
    }

    /// Waits for its end, with success; the terminal is as it was.
    #[track_caller]
    fn assert_ends(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        let settings = tcgetattr(&self.terminal).unwrap();
        let usual = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        assert!(settings.local_flags.contains(usual), "{settings:?}");
        wait_until("the screen from before", SOON, || {
            let screen = self.screen.lock().unwrap();
            !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
        });
    }
}

#[test]
fn a_key_unloads_the_chosen_model_and_the_screen_follows_the_hub() {
    let home = Home::started(ALPHA);
    home.wait_for_state("alpha", "running", "loaded");
    let mut top = Top::of(&home);
    top.wait_for("> alpha loaded");
    top.press("u");
    home.wait_for_state("alpha", "running", "unloaded");
    top.wait_for("> alpha unloaded");
    top.wait_for("Model 'alpha' unloaded");

    home.run(&["stop"]).assert_ok();
    top.wait_for("no hub");
    home.start();
    top.wait_for("> alpha ");
    top.press("?");
    top.wait_for("requests in flight");
    top.press("q");
    top.wait_for("Last requests");
    top.press("q");
    top.assert_ends();
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, status(1))));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    for end in ["q", "\x1b", "\x03"] {
        let mut top = Top::of(&home);
        top.wait_for("quit");
        top.press(end);
        top.assert_ends();
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let top = Top::of(&home);
        top.wait_for("quit");
        processes::send(top.child.id(), signal);
        top.assert_ends();
    }
}

#[test]
fn a_hub_that_sends_no_events_is_asked_again_and_again() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, status(1))));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let mut top = Top::of(&home);
    top.wait_for("> c");
    top.wait_for("out of memory");
    let looks = || {
        let requests = hub.requests().into_iter();
        requests
            .filter(|request| request == "GET /hub/requests")
            .count()
    };
    wait_until("a second look", SOON, || looks() >= 2);
    top.press("q");
    top.assert_ends();
}

#[test]
fn the_log_of_the_chosen_model_is_shown_and_a_new_size_is_taken() {
    let home = Home::started(ALPHA);
    home.wait_for_state("alpha", "running", "loaded");
    let log = home.logs().join("alpha.log");
    let mut log = File::options().append(true).open(log).unwrap();
    writeln!(log, "a line of this test").unwrap();
    let mut top = Top::of(&home);
    top.wait_for("> alpha");
    top.press("g");
    top.wait_for("a line of this test");
    top.press("q");
    let size = rustix::termios::Winsize {
        ws_row: 12,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    top.screen.lock().unwrap().screen_mut().set_size(12, 60);
    rustix::termios::tcsetwinsize(&top.terminal, size).unwrap();
    // The terminal is not the one that controls the program: it is told by hand.
    processes::send(top.child.id(), Signal::SIGWINCH);
    top.wait_for("Last requests");
    wait_until("the keys in the last row of the new size", SOON, || {
        let screen = top.screen.lock().unwrap();
        let row = screen.screen().rows(0, 60).nth(11).unwrap_or_default();
        row.starts_with("s start")
    });
    top.press("q");
    top.assert_ends();
}

#[test]
fn a_key_that_comes_with_a_new_size_is_taken() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, status(1))));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let mut top = Top::of(&home);
    top.wait_for("> c");
    for _ in 0..50 {
        for shown in ["requests in flight", "Last requests"] {
            processes::send(top.child.id(), Signal::SIGWINCH);
            top.press("?");
            top.wait_for(shown);
        }
    }
    top.press("q");
    top.assert_ends();
}

#[test]
fn without_a_terminal_it_says_so() {
    let ran = home_of_four(1).run(&["top"]);
    ran.assert_failed();
    assert_eq!(
        ran.err,
        "Error: `top` needs a terminal\nhint: `status` shows the models once, `watch` again and again\n"
    );
}
