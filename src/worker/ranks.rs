//! The processes of one model on other machines: its ranks there, which another program starts over ssh.
//!
//! They carry a mark in their environment ([`VARIABLE`]) that no other model of any hub has. By it they are found
//! over ssh: to be ended, which is verified, and to be watched while the model is loaded. `ssh` is the user's own
//! program with the user's own settings; it asks for no password.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, join_all, select_all};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::runtime_file::RuntimeWorker;

/// The variable that holds the mark; `scripts/engines/mlx_lm.lua` sets it.
const VARIABLE: &str = "MLX_HUB_RANK_OF";
/// Longest wait for the answer of a machine.
const ANSWER: Duration = Duration::from_secs(20);
/// Pause between two looks at the ranks of a machine, in seconds.
const LOOK_EVERY: u32 = 3;
/// Longest wait until a machine answers where it computes with the others.
const REACHED: Duration = Duration::from_secs(3);
/// Longest time without word from a machine, before its ranks are lost.
const SILENT: Duration = Duration::from_secs(18);
/// Pause before a machine is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// Pauses before processes that could not be ended are tried again: the first, which is doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_secs(60);

/// The shell function that lists ranks, each with its process id and its state. macOS shows environments with `-E`,
/// Linux with `e`. The mark stands in no command line, so that nothing takes itself for a rank.
const LIST: &str = r#"
ranks() {
  { ps -axEww -o pid=,stat=,command= 2>/dev/null || ps axeww -o pid=,stat=,args=; } </dev/null |
  while read -r pid stat rest; do
    case " $rest " in *" $mark "*) echo "$pid $stat" ;; esac
  done
}
"#;

/// Ends them; says `none` once nothing is left.
const END: &str = r#"
n=0
while [ $n -lt 50 ]; do
  left=$(ranks)
  if [ -z "$left" ]; then echo none; exit 0; fi
  echo "$left" | while read -r pid stat; do kill -KILL "$pid" 2>/dev/null; done
  n=$((n + 1)); sleep 0.2
done
echo "$left"; exit 1
"#;

/// What is known of ranks that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// Each machine has some.
    There,
    /// They are being started: none are lost before they were seen.
    ToCome,
}

/// Where a model has ranks, and by what they are known.
#[derive(Debug, Clone, Default)]
pub struct Ranks {
    /// The machines, as `ssh` knows them; none for a model of this machine alone.
    pub hosts: Vec<String>,
    /// Where these machines compute together, each with a port that is closed.
    pub addresses: Vec<String>,
    /// Those of the addresses that have answered, for all that watch them one after the other.
    pub answered: Arc<Mutex<HashSet<String>>>,
    /// The value of their variable.
    pub mark: String,
}

impl From<&RuntimeWorker> for Ranks {
    fn from(worker: &RuntimeWorker) -> Self {
        Self {
            hosts: worker.hosts.clone(),
            addresses: worker.addresses.clone(),
            mark: worker.mark.clone(),
            ..Self::default()
        }
    }
}

impl Ranks {
    /// Ends them on every machine, and returns when each has said that nothing is left.
    ///
    /// # Errors
    /// One sentence about the machines that have not.
    pub async fn end(&self) -> Result<(), String> {
        told(self.end_on_each().await)
    }

    /// Every machine with what is wrong there.
    async fn end_on_each(&self) -> Vec<(String, Option<String>)> {
        let mut hosts = self.hosts.clone();
        hosts.sort();
        hosts.dedup();
        let ends = hosts.into_iter().map(|host| async {
            let problem = self.end_on(&host).await;
            (host, problem)
        });
        join_all(ends).await
    }

    /// What is wrong, if a machine does not say that nothing is left.
    async fn end_on(&self, host: &str) -> Option<String> {
        let script = self.script(END);
        let output = match answer(host, &script).await {
            Ok(output) => output,
            Err(problem) => return Some(problem),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        if said.lines().any(|line| line == "none") {
            return None;
        }
        Some(match said.trim() {
            "" => cannot_be_asked(host, &output),
            left => format!("`{host}` still has processes of the model: {left}"),
        })
    }

    /// What of these paths a machine lacks. Changes nothing there.
    ///
    /// # Errors
    /// One sentence, when it cannot be asked.
    pub async fn lacks(host: &str, paths: &[String]) -> Result<Vec<String>, String> {
        let mut script = String::new();
        for (index, path) in paths.iter().enumerate() {
            let quoted = path.replace('\'', r"'\''");
            script += &format!("[ -e '{quoted}' ] || echo {index}\n");
        }
        let output = answer(host, &(script + "echo asked\n")).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !said.lines().any(|line| line == "asked") {
            return Err(cannot_be_asked(host, &output));
        }
        let lacking = said.lines().filter_map(|line| line.parse::<usize>().ok());
        let lacking = lacking.filter_map(|index| paths.get(index).cloned());
        Ok(lacking.collect())
    }

    /// Completes when the ranks of a machine are gone, stopped or out of reach, with a sentence about it.
    pub(super) async fn lost(&self, watched: Watched) -> String {
        let on_hosts = self
            .hosts
            .iter()
            .map(|host| self.lost_on(host, watched).boxed());
        let at_addresses = self
            .addresses
            .iter()
            .map(|address| self.out_of_reach(address).boxed());
        let watches: Vec<_> = on_hosts.chain(at_addresses).collect();
        if watches.is_empty() {
            return std::future::pending().await;
        }
        select_all(watches).await.0
    }

    async fn lost_on(&self, host: &str, mut watched: Watched) -> String {
        let watch = format!("while ranks && echo .; do sleep {LOOK_EVERY}; done");
        let script = self.script(&watch);
        let mut heard = Instant::now();
        loop {
            if let Ok(child) = ssh(host, &script).await
                && let Some(lost) = hear(child, host, &mut heard, &mut watched).await
            {
                return lost;
            }
            if heard.elapsed() >= SILENT {
                let limit = SILENT.as_secs();
                return format!("`{host}` cannot be reached over ssh for {limit} s");
            }
            sleep(AGAIN).await;
        }
    }

    /// Completes when a machine that has answered at that address does not any more, with a sentence about it. Machines
    /// may compute over other lines than those of `ssh`. One that never answers may have a firewall that is silent.
    async fn out_of_reach(&self, address: &str) -> String {
        let mut heard = Instant::now();
        loop {
            if answers(address).await {
                heard = Instant::now();
                self.answered.lock().insert(address.to_owned());
            } else if heard.elapsed() >= SILENT && self.answered.lock().contains(address) {
                let (limit, address) = (SILENT.as_secs(), address.rsplit_once(':'));
                let address = address.map_or("", |(address, _)| address);
                return format!("`{address}` cannot be reached for {limit} s");
            }
            sleep(Duration::from_secs(LOOK_EVERY.into())).await;
        }
    }

    fn script(&self, what: &str) -> String {
        format!("mark='{VARIABLE}={}'\n{LIST}{what}\n", self.mark)
    }
}

/// True if a machine answers at an address, even if only that its port is closed.
async fn answers(address: &str) -> bool {
    match timeout(REACHED, TcpStream::connect(address)).await {
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

/// The ranks of a hub that could not be ended, by mark and machine: it tries again until they are, or their model is
/// loaded anew.
#[derive(Debug, Clone, Default)]
pub struct Unended(Arc<Mutex<Retries>>);

/// They end with the hub.
#[derive(Debug, Default)]
struct Retries {
    tasks: JoinSet<()>,
    of: HashMap<(String, String), AbortHandle>,
}

impl Unended {
    /// Ends ranks as [`Ranks::end`] does, and goes on trying in the background where that fails.
    ///
    /// # Errors
    /// As [`Ranks::end`].
    pub(super) async fn end(&self, ranks: &Ranks, model: &str) -> Result<(), String> {
        let ends = ranks.end_on_each().await;
        for (host, problem) in &ends {
            let key = (ranks.mark.clone(), host.clone());
            let mut retries = self.0.lock();
            if let Some(earlier) = retries.of.remove(&key) {
                earlier.abort();
            }
            while retries.tasks.try_join_next().is_some() {}
            if problem.is_some() {
                let retry = end_later(ranks.clone(), host.clone(), model.to_owned());
                let retry = retries.tasks.spawn(retry);
                retries.of.insert(key, retry);
            }
        }
        told(ends)
    }
}

async fn end_later(ranks: Ranks, host: String, model: String) {
    let mut pause = FIRST_RETRY;
    loop {
        sleep(pause).await;
        if ranks.end_on(&host).await.is_none() {
            tracing::info!(hub_model = %model, "its processes on `{host}` have ended");
            return;
        }
        pause = RETRY_EVERY.min(pause * 2);
    }
}

/// Listens to a watch until it ends or is silent; tells what is wrong with the ranks.
async fn hear(
    mut child: Child,
    host: &str,
    heard: &mut Instant,
    watched: &mut Watched,
) -> Option<String> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let (mut seen, mut is_stopped) = (0, false);
    loop {
        let left = SILENT.saturating_sub(heard.elapsed());
        let Ok(Ok(Some(line))) = timeout(left, lines.next_line()).await else {
            return None;
        };
        *heard = Instant::now();
        if line != "." {
            seen += 1;
            let state = line.split_whitespace().nth(1).unwrap_or_default();
            is_stopped |= state.starts_with('T');
            continue;
        }
        if seen > 0 {
            *watched = Watched::There;
        } else if *watched == Watched::There {
            return Some(format!("its process on `{host}` has ended"));
        }
        if is_stopped {
            return Some(format!("its process on `{host}` is stopped"));
        }
        seen = 0;
    }
}

fn told(ends: Vec<(String, Option<String>)>) -> Result<(), String> {
    let problems: Vec<_> = ends
        .into_iter()
        .filter_map(|(_, problem)| problem)
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

/// A shell on that machine, which is given a script.
async fn ssh(host: &str, script: &str) -> std::io::Result<Child> {
    let mut child = Command::new("ssh")
        .args(["-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
        .args(["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5"])
        .args([host, "exec /bin/sh -s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it has ended, its answer tells why.
        let _ = stdin.write_all(script.as_bytes()).await;
    }
    Ok(child)
}

/// The output of a script that has ended.
async fn answer(host: &str, script: &str) -> Result<Output, String> {
    let asking = async { ssh(host, script).await?.wait_with_output().await };
    match timeout(ANSWER, asking).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("`ssh` could not be run: {error}")),
        Err(_) => {
            let limit = ANSWER.as_secs();
            Err(format!("`{host}` gave no answer over ssh within {limit} s"))
        }
    }
}

/// With what `ssh` says last.
fn cannot_be_asked(host: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rev().find(|line| !line.trim().is_empty());
    let why = last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned());
    format!("`{host}` cannot be asked over ssh: {why}")
}
