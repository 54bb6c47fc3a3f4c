//! systemd: a unit, with one for the socket where that is wanted, and `systemctl`.
//!
//! The keys are those of systemd.service(5), systemd.socket(5) and systemd.exec(5).

use std::path::{Path, PathBuf};
use std::process::Output;

use super::plan::ServicePlan;
use super::{Act, MARK, Manager, NewFile, Scope, State, Step, Told};

/// Open files that a hub with many clients needs; systemd allows 1,024.
const OPEN_FILES: u32 = 10_240;

/// A unit of the user or of the machine.
pub(super) struct Systemd {
    pub(super) name: String,
    pub(super) scope: Scope,
    /// `~/.config`, or what the user has in its place.
    pub(super) config_home: PathBuf,
}

impl Systemd {
    fn unit(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    fn file(&self, kind: &str) -> PathBuf {
        let folder = match self.scope {
            Scope::User => self.config_home.join("systemd/user"),
            Scope::System => PathBuf::from("/etc/systemd/system"),
        };
        folder.join(self.unit(kind))
    }

    /// The units that are installed; the socket comes first, so that it is listening for the other.
    fn units(&self) -> Vec<String> {
        let socket = self.file("socket").exists();
        let mut units: Vec<String> = socket.then(|| self.unit("socket")).into_iter().collect();
        units.push(self.unit("service"));
        units
    }

    fn systemctl(&self, words: &[&str], units: &[String]) -> Step {
        self.step("systemctl", words, units)
    }

    fn step(&self, program: &str, words: &[&str], units: &[String]) -> Step {
        let scope = (self.scope == Scope::User).then_some("--user");
        let words = scope.into_iter().chain(words.iter().copied());
        let words: Vec<&str> = words.chain(units.iter().map(String::as_str)).collect();
        Step::new(program, &words)
    }
}

impl Manager for Systemd {
    fn name(&self) -> &str {
        &self.name
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.file("service"), self.file("socket")]
    }

    fn new_files(&self, plan: &ServicePlan) -> anyhow::Result<Vec<NewFile>> {
        let socket = self.unit("socket");
        let mut files = vec![NewFile {
            path: self.file("service"),
            text: service_unit(plan, self.scope, &socket),
        }];
        if !plan.listeners.is_empty() {
            files.push(NewFile {
                path: self.file("socket"),
                text: socket_unit(plan),
            });
        }
        Ok(files)
    }

    fn read(&self, text: &str) -> Option<Told> {
        let values = |key: &'static str| {
            let lines = text.lines().map(str::trim);
            lines.filter_map(move |line| line.strip_prefix(key)?.trim_start().strip_prefix('='))
        };
        let command = values("ExecStart").next().map(unquoted)?;
        let command = command.iter().map(|word| word.replace("$$", "$"));
        let settings = values("Environment").flat_map(unquoted);
        let settings = settings.filter_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Some(Told {
            command: command.collect(),
            environment: settings.collect(),
        })
    }

    fn steps(&self, act: Act) -> Vec<Step> {
        let units = self.units();
        match act {
            Act::Install => vec![
                self.systemctl(&["daemon-reload"], &[]),
                self.systemctl(&["enable", "--quiet"], &units),
                self.systemctl(&["restart"], &units),
            ],
            Act::Start => vec![self.systemctl(&["start"], &units)],
            // A socket of its own would start it again.
            Act::Stop => vec![self.systemctl(&["stop"], &units)],
            Act::Uninstall => vec![self.systemctl(&["disable", "--quiet", "--now"], &units)],
            Act::Forget => vec![self.systemctl(&["daemon-reload"], &[])],
        }
    }

    fn question(&self) -> Step {
        let properties = ["show", "--property=LoadState,ActiveState,MainPID"];
        self.systemctl(&properties, &[self.unit("service")])
    }

    fn state(&self, answer: &Output) -> State {
        let text = String::from_utf8_lossy(&answer.stdout);
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let pid = of("MainPID=").and_then(|pid| pid.parse().ok());
        match (of("LoadState="), of("ActiveState="), pid) {
            (Some("loaded"), Some("active" | "activating" | "deactivating"), Some(pid))
                if pid != 0 =>
            {
                State::Running(pid)
            }
            (Some("loaded"), _, _) => State::Loaded,
            _ => State::Unknown,
        }
    }

    fn logs(&self, _stderr_log: &Path, lines: usize, follow: bool) -> Step {
        let unit = self.unit("service");
        let lines = lines.to_string();
        let mut words = vec!["--no-pager", "--output=cat", "-n", &lines];
        words.extend(follow.then_some("-f"));
        words.push("-u");
        self.step("journalctl", &words, &[unit])
    }

    fn ends_at_logout(&self) -> bool {
        true
    }
}

fn service_unit(plan: &ServicePlan, scope: Scope, socket: &str) -> String {
    let is_activated = !plan.listeners.is_empty();
    let mut unit = format!("# {MARK}\n[Unit]\nDescription=mlx-openai-server-hub\n");
    if scope == Scope::System {
        unit += "Wants=network-online.target\nAfter=network-online.target\n";
    }
    if is_activated {
        // At the start limit systemd would close the socket too.
        unit += &format!("Requires={socket}\nAfter={socket}\nStartLimitIntervalSec=0\n");
    }
    let program = quoted(&plan.program.display().to_string()).replace('$', "$$");
    let config = quoted(&plan.config_path.display().to_string()).replace('$', "$$");
    unit += &format!("\n[Service]\nExecStart={program} --config {config} serve\n");
    if let Some(user) = &plan.user {
        unit += &format!("User={user}\n");
    }
    for (name, value) in &plan.environment {
        let setting = quoted(&format!("{name}={value}"));
        unit += &format!("Environment={setting}\n");
    }
    // The hub ends its workers itself, and the next one takes over those of a hub that crashed.
    unit += &format!(
        "KillMode=process\nTimeoutStopSec={}\nRestart=on-failure\nRestartSec=1\nLimitNOFILE={OPEN_FILES}\n",
        plan.stop_limit.as_secs()
    );
    let target = match scope {
        Scope::User => "default.target",
        Scope::System => "multi-user.target",
    };
    unit + &format!("\n[Install]\nWantedBy={target}\n")
}

fn socket_unit(plan: &ServicePlan) -> String {
    let mut unit =
        format!("# {MARK}\n[Unit]\nDescription=The port of mlx-openai-server-hub\n\n[Socket]\n");
    for address in &plan.listeners {
        unit += &format!("ListenStream={address}\n");
    }
    // Otherwise one for ::1 would be in the way of another for all of IPv4.
    unit += "BindIPv6Only=ipv6-only\n";
    unit + "\n[Install]\nWantedBy=sockets.target\n"
}

/// A word of a unit, without what systemd would put in place of a `%`.
fn quoted(word: &str) -> String {
    let word = word
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{word}\"")
}

/// The words of a line, as [`quoted`] or a user has written them.
fn unquoted(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => word.get_or_insert_default().extend(letters.next()),
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words.iter().map(|word| word.replace("%%", "%")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_again() {
        for word in ["a", "", "a b", r#"50 % of "x" \ 'y'"#, "PATH=/a b:/c"] {
            assert_eq!(unquoted(&quoted(word)), [word]);
        }
        assert_eq!(unquoted("  a  'b c'd \"e\"  "), ["a", "b cd", "e"]);
    }
}
