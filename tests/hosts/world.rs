//! The machines, and the home of the hub that spans them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::home::Home;
use crate::support::http::Answer;
use crate::support::network::{Line, Network, Place, Tools};
use crate::support::{SOON, processes, wait_for, wait_until};

const SSHD: &str = "/usr/sbin/sshd";
/// The variable by which the hub knows its processes on other machines.
const MARK: &str = "MLX_HUB_RANK_OF=";
/// How often a model is loaded at most.
const TRIES: usize = 4;
/// Tokens of an answer that is compared.
const TOKENS: u32 = 24;

/// What the tests need.
struct Needs {
    tools: Tools,
    worker: PathBuf,
}

impl Needs {
    /// `None` where something is missing; with CI=true that is a failure.
    #[expect(clippy::print_stdout, reason = "what the test run did not check")]
    fn met() -> Option<Self> {
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-worker");
        let missing = match Tools::find() {
            Err(missing) => missing,
            Ok(_) if !Path::new(SSHD).exists() => format!("there is no {SSHD}"),
            Ok(_) if !worker.join("bin/mlx.launch").exists() => {
                format!("the real worker is not in {}", worker.display())
            }
            Ok(tools) => return Some(Self { tools, worker }),
        };
        println!("not run: several machines: {missing}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no machines");
        None
    }
}

/// A machine besides the hub's.
pub(crate) struct Host {
    pub(crate) place: Place,
    sshd: Child,
}

impl Host {
    /// The processes of models there.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let pids = self.place.pids().into_iter();
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut words = environment.split(|byte| *byte == 0);
            words.any(|word| word.starts_with(MARK.as_bytes())) && processes::is_alive(*pid)
        })
        .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // All processes there end with the one that has started them.
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// The hub's home and two machines besides its own. Dropped, nothing of them is left.
pub(crate) struct World {
    pub(crate) home: Home,
    hosts: Vec<Host>,
    // After them: it is dropped last.
    network: Network,
}

impl World {
    /// With a hub that does not run; `None` where something is missing.
    pub(crate) fn met() -> Option<Self> {
        Needs::met().map(Self::new)
    }

    /// The same with a hub that runs.
    pub(crate) fn started() -> Option<Self> {
        let world = Self::met()?;
        world.start();
        Some(world)
    }

    fn new(needs: Needs) -> Self {
        let mut network = Network::new(needs.tools);
        let home = Home::with_real_worker(needs.worker);
        // Debian's sshd wants it, wherever its own files are.
        std::fs::create_dir_all("/run/sshd").unwrap();
        for name in ["user_key", "host_key"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            assert!(made.arg(home.path().join(name)).status().unwrap().success());
        }
        let hosts = (0..2).map(|_| host(&mut network, &home)).collect();
        let world = Self {
            home,
            hosts,
            network,
        };
        world.set_up_ssh();
        world.configure();
        for host in &world.hosts {
            let address = host.place.address.to_string();
            wait_until("sshd to answer", SOON, || {
                let ssh = world.home.bin().join("ssh");
                let answer = Command::new(ssh).args([&address, "true"]).output();
                answer.unwrap().status.success()
            });
        }
        world
    }

    /// The user's `ssh`, which knows the key and asks nothing.
    fn set_up_ssh(&self) {
        let key = self.home.path().join("user_key");
        let config = self.home.path().join("ssh_config");
        let text = format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  \
             UserKnownHostsFile /dev/null\n",
            key.display()
        );
        std::fs::write(&config, text).unwrap();
        let script = format!("exec /usr/bin/ssh -F '{}' \"$@\"", config.display());
        self.home.write_script("ssh", &script);
    }

    /// The same model on one, on two and on three machines.
    fn configure(&self) {
        let path = self.home.path().join("tiny");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/make_tiny_model.py");
        let mut made = Command::new(self.home.real_worker().join("bin/python"));
        // Two and three divide its width and its heads.
        made.arg(script)
            .arg(&path)
            .args(["--hidden", "96", "--heads", "6"]);
        assert!(made.output().unwrap().status.success());
        let own = self.network.here();
        let [first, second] = [0, 1].map(|index| self.hosts[index].place.address);
        let entry = |name: &str, more: &str| {
            let path = path.display();
            format!(
                "  - {{name: {name}, model_path: {path}, default: true, jit_enabled: true{more}}}\n"
            )
        };
        self.home.configure(&format!(
            "engine: mlx_lm\nmodels:\n{}{}{}",
            entry("one", ""),
            entry("two", &format!(", hosts: ['{own}', '{first}']")),
            entry(
                "three",
                &format!(", hosts: ['{own}', {{ssh: root@{first}, ips: ['{first}']}}, '{second}']")
            )
        ));
    }

    pub(crate) fn start(&self) {
        self.home.start();
    }

    pub(crate) fn kill_hub(&self) {
        let daemon = self.home.pid();
        processes::send(daemon, Signal::SIGKILL);
        wait_until("the daemon to be gone", SOON, || {
            !processes::is_alive(daemon)
        });
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    pub(crate) fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// The processes of a model on the hub's machine, whose leader has started them beside an ssh for each other one.
    pub(crate) fn own_ranks(leader: u32) -> Vec<u32> {
        let mut children = processes::children(leader);
        children.retain(|pid| {
            let program = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            program.is_ok_and(|program| program.trim_end() != "ssh")
        });
        children
    }

    /// The processes of models on all machines but the hub's.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        self.hosts().flat_map(Host::ranks).collect()
    }

    #[track_caller]
    pub(crate) fn assert_no_ranks(&self) {
        assert_eq!(self.ranks(), [0; 0]);
        let left = processes::with_argument(&self.home.path().join("tiny").display().to_string());
        assert_eq!(left, Vec::<String>::new(), "on any machine");
    }

    /// Mends the line of a machine that was cut off.
    pub(crate) fn mend(&self, host: &Host) {
        host.place.mend();
        let address = host.place.address.to_string();
        wait_for("the machine to be back", Duration::from_secs(60), || {
            let ssh = self.home.bin().join("ssh");
            let answer = Command::new(ssh)
                .args(["-o", "ConnectTimeout=2", &address, "true"])
                .output();
            answer.unwrap().status.success().then_some(())
        });
    }

    pub(crate) fn pid_of(&self, model: &str) -> u32 {
        let pid = self.home.model(model)["pid"].as_u64();
        u32::try_from(pid.expect("a process")).unwrap()
    }

    pub(crate) fn chat(&self, model: &str) -> Answer {
        let message = json!({"role": "user", "content": "hello"});
        let body =
            json!({"model": model, "messages": [message], "max_tokens": TOKENS, "temperature": 0});
        self.home.http.post("/v1/chat/completions", &body)
    }

    /// What a model says. It is loaded by a command, which waits as long as that takes, and again if that fails: on a
    /// machine that does much else its processes may begin so far apart that MLX's ring gives up on some of them.
    #[track_caller]
    pub(crate) fn said(&self, model: &str) -> String {
        (0..TRIES).find(|_| self.home.run(&["load-model", model]).code == 0);
        let answer = self.chat(model);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json()["choices"][0]["message"]["content"].clone();
        said.as_str().expect("a text").to_owned()
    }
}

/// A machine with an sshd of its own, whose processes nobody else sees.
fn host(network: &mut Network, home: &Home) -> Host {
    let place = network.place(Line::Short);
    let address = place.address;
    let folder = home.path().display();
    let config = home.path().join(format!("sshd_{address}"));
    let text = format!(
        "ListenAddress {address}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\n\
         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
    );
    std::fs::write(&config, text).unwrap();
    let sshd = place
        .command("unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            SSHD,
            "-D",
            "-f",
        ])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Host { place, sshd }
}
