//! A network in one machine: namespaces on a bridge, each with an address of its own.
//!
//! The bridge has an address too, so that the test itself speaks to all of them. It needs Linux, root, `ip` and
//! `iptables`.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The programs that make it.
#[derive(Debug, Clone)]
pub struct Tools {
    ip: PathBuf,
    iptables: PathBuf,
}

/// The line of a machine to all others.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// As good as a machine has it to itself.
    Short,
    /// One that tests/support/line.py makes: not every kernel has `tc netem`.
    Bad {
        /// The time that a frame takes, in each direction.
        milliseconds: u32,
        /// Frames of a hundred that are lost, in each direction.
        lost: u32,
        /// The most that passes in a second, in each direction.
        kilobytes: u32,
    },
}

/// A machine of the network: a namespace, and its address.
#[derive(Debug, Clone)]
pub struct Place {
    tools: Tools,
    namespace: String,
    pub address: Ipv4Addr,
}

/// The network. Dropped, nothing of it is left.
pub struct Network {
    tools: Tools,
    /// Names and addresses begin with it.
    number: u8,
    namespaces: Vec<String>,
    /// The processes of lines that are not short.
    lines: Vec<Child>,
}

impl Tools {
    /// Those of this machine.
    ///
    /// # Errors
    /// What is missing, in one sentence.
    pub fn find() -> Result<Self, String> {
        let found = Self {
            ip: tool("ip").ok_or("there is no `ip`")?,
            iptables: tool("iptables").ok_or("there is no `iptables`")?,
        };
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root".to_owned());
        }
        match makes_namespaces(&found.ip) {
            true => Ok(found),
            false => Err("no namespace can be made".to_owned()),
        }
    }
}

/// A program of the system, whatever PATH says.
pub fn tool(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let mut paths = folders
        .map(|folder| Path::new(folder).join(name))
        .into_iter();
    paths.find(|path| path.exists())
}

/// True if namespaces can be made. It is tried once: tests run side by side.
fn makes_namespaces(ip: &Path) -> bool {
    static MAKES: OnceLock<bool> = OnceLock::new();
    *MAKES.get_or_init(|| {
        let name = format!("mlxhub-try-{}", std::process::id());
        let run = |verb: &str| {
            let output = Command::new(ip).args(["netns", verb, &name]).output();
            output.is_ok_and(|output| output.status.success())
        };
        run("add") && run("delete")
    })
}

static NUMBER: AtomicU8 = AtomicU8::new(1);

impl Network {
    pub fn new(tools: Tools) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let network = Self {
            tools,
            number,
            namespaces: Vec::new(),
            lines: Vec::new(),
        };
        let bridge = network.bridge();
        network.ip(&["link", "add", &bridge, "type", "bridge"]);
        let address = format!("{}/24", network.here());
        network.ip(&["address", "add", &address, "dev", &bridge]);
        network.ip(&["link", "set", &bridge, "up"]);
        network
    }

    /// Networks of other runs are not in the way: a process has few tests.
    fn bridge(&self) -> String {
        format!("mlxb{}x{}", std::process::id() % 10_000, self.number)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let process = u8::try_from(std::process::id() % 250).unwrap();
        Ipv4Addr::new(10, process, self.number, host)
    }

    /// The address of the test itself.
    pub fn here(&self) -> Ipv4Addr {
        self.address(1)
    }

    fn ip(&self, arguments: &[&str]) {
        succeed(Command::new(&self.tools.ip).args(arguments));
    }

    /// Makes a machine.
    pub fn place(&mut self, line: Line) -> Place {
        let host = u8::try_from(self.namespaces.len()).unwrap() + 10;
        let namespace = format!("{}-{host}", self.bridge());
        let (outer, inner) = (format!("{namespace}o"), format!("{namespace}i"));
        let address = self.address(host);
        self.ip(&["netns", "add", &namespace]);
        self.namespaces.push(namespace.clone());
        match line {
            Line::Short => self.ip(&[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner,
            ]),
            Line::Bad {
                milliseconds,
                lost,
                kilobytes,
            } => {
                let numbers = [milliseconds, lost, kilobytes].map(|number| number.to_string());
                self.relay(&outer, &inner, &numbers);
            }
        }
        self.ip(&["link", "set", &inner, "netns", &namespace]);
        self.ip(&["link", "set", &outer, "master", &self.bridge(), "up"]);
        let within = |arguments: &[&str]| self.ip(&[&["-n", &namespace], arguments].concat());
        within(&["link", "set", "lo", "up"]);
        within(&["link", "set", &inner, "up"]);
        within(&["address", "add", &format!("{address}/24"), "dev", &inner]);
        Place {
            tools: self.tools.clone(),
            namespace,
            address,
        }
    }

    /// Makes two devices with a bad line between them.
    fn relay(&mut self, outer: &str, inner: &str, numbers: &[String]) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/line.py");
        let mut relay = Command::new("python3")
            .arg(program)
            .args([outer, inner])
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(relay.stdout.take().unwrap());
        self.lines.push(relay);
        lines.read_line(&mut said).unwrap();
        assert_eq!(said, "up\n");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let run = |arguments: &[&str]| {
            // What was never made cannot be removed.
            let _ = Command::new(&self.tools.ip).args(arguments).output();
        };
        for name in &self.namespaces {
            run(&["netns", "delete", name]);
        }
        run(&["link", "delete", &self.bridge()]);
        for line in &mut self.lines {
            let _ = line.kill();
            let _ = line.wait();
        }
    }
}

impl Place {
    /// A command there.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(&self.tools.ip);
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program.as_ref())
            .stdin(Stdio::null());
        command
    }

    /// The processes there.
    pub fn pids(&self) -> Vec<u32> {
        let mut command = Command::new(&self.tools.ip);
        let pids = command.args(["netns", "pids", &self.namespace]).output();
        let pids = String::from_utf8(pids.unwrap().stdout).unwrap();
        pids.lines()
            .map(|pid| pid.trim().parse().unwrap())
            .collect()
    }

    /// Cuts it off from all others without a word: what is on its way is lost.
    pub fn cut(&self) {
        self.filter("-A");
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self) {
        self.filter("-D");
    }

    /// Cuts off the connections of TCP to and from these ports alone.
    pub fn cut_ports(&self, ports: &str) {
        self.filter_ports("-A", ports);
    }

    /// Undoes [`Self::cut_ports`].
    pub fn mend_ports(&self, ports: &str) {
        self.filter_ports("-D", ports);
    }

    fn filter(&self, verb: &str) {
        for (chain, device) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            self.drops(verb, chain, &["!", device, "lo"]);
        }
    }

    fn filter_ports(&self, verb: &str, ports: &str) {
        for chain in ["INPUT", "OUTPUT"] {
            for end in ["--sport", "--dport"] {
                self.drops(verb, chain, &["-p", "tcp", end, ports]);
            }
        }
    }

    fn drops(&self, verb: &str, chain: &str, which: &[&str]) {
        let mut command = self.command(&self.tools.iptables);
        succeed(
            command
                .args(["-w", verb, chain])
                .args(which)
                .args(["-j", "DROP"]),
        );
    }
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
