//! Removes what must not leave the machine: keys, and texts of requests.
//!
//! The report of `doctor` goes through here, line by line. A log is kept where nothing that a client has sent can
//! be in it, and cut down to places and kinds elsewhere.

use serde_yaml::{Mapping, Value};

/// Stands for what is left out.
const REMOVED: &str = "REMOVED";

/// Keys of hub.yaml with nothing but secrets, or what may be.
const SECRET_KEYS: [&str; 2] = ["env", "api_keys"];
/// Parts of the names of secrets.
const SECRET_NAMES: [&str; 6] = [
    "secret",
    "password",
    "passwd",
    "api_key",
    "apikey",
    "credential",
];
/// The beginnings of the keys of well-known services.
const KEY_BEGINS: [&str; 8] = [
    "hf_",
    "sk-",
    "sk_",
    "ghp_",
    "gho_",
    "github_pat_",
    "xoxb-",
    "AKIA",
];
/// Shorter values are in too many words.
const SHORT: usize = 6;

/// The secrets of a hub.yaml and of this process's environment.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// The longest first.
    values: Vec<String>,
    home: Option<String>,
}

impl Secrets {
    pub(super) fn of(hub_yaml: &str, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut values = Vec::new();
        if let Ok(root) = serde_yaml::from_str::<Value>(hub_yaml) {
            collect(&root, false, &mut values);
        }
        let secret = environment.filter(|(name, _)| is_secret(name));
        values.extend(secret.map(|(_, value)| value));
        values.retain(|value| value.len() >= SHORT);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let home = std::env::home_dir().map(|home| home.display().to_string());
        Self {
            values,
            home: home.filter(|home| home.len() > 1),
        }
    }

    /// A text without them, with `~` for the home folder.
    pub(super) fn remove(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            text = text.replace(value.as_str(), REMOVED);
        }
        if let Some(home) = &self.home {
            text = text.replace(home.as_str(), "~");
        }
        let lines = text.split('\n').map(without_keys);
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// True for the name of a variable, key or option whose value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name == "key"
        || name.ends_with("_key")
        // `prompt_tokens` is a number.
        || name.ends_with("token")
        || SECRET_NAMES.iter().any(|part| name.contains(part))
}

fn collect(value: &Value, is_in_secret: bool, values: &mut Vec<String>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = key.as_str().unwrap_or_default();
                let is_secret = is_in_secret || SECRET_KEYS.contains(&key) || is_secret(key);
                collect(value, is_secret, values);
            }
        }
        Value::Sequence(items) => {
            let mut is_after = false;
            for item in items {
                collect(item, is_in_secret || is_after, values);
                is_after = is_secret_option(item);
            }
        }
        Value::String(text) if is_in_secret => values.push(text.clone()),
        _ => {}
    }
}

/// True for `--api-key`, after which the key follows.
fn is_secret_option(item: &Value) -> bool {
    let option = item.as_str().and_then(|word| word.strip_prefix("--"));
    option.is_some_and(|name| !name.contains('=') && is_secret(name))
}

/// hub.yaml without secrets and comments; `None` if it is no YAML.
pub(super) fn hub_yaml(text: &str) -> Option<String> {
    let mut root = serde_yaml::from_str::<Value>(text).ok()?;
    redact(&mut root, false);
    serde_yaml::to_string(&root).ok()
}

fn redact(value: &mut Value, is_in_secret: bool) {
    match value {
        Value::Mapping(map) => {
            let entries = std::mem::take(map).into_iter().map(|(key, mut value)| {
                let name = key.as_str().unwrap_or_default();
                redact(
                    &mut value,
                    is_in_secret || SECRET_KEYS.contains(&name) || is_secret(name),
                );
                (key, value)
            });
            *map = entries.collect::<Mapping>();
        }
        Value::Sequence(items) => {
            let mut is_after = false;
            for item in items {
                let is_option = is_secret_option(item);
                redact(item, is_in_secret || is_after);
                is_after = is_option;
            }
        }
        Value::Null => {}
        value if is_in_secret => *value = Value::String(REMOVED.to_owned()),
        Value::String(text) => *text = without_keys(text),
        _ => {}
    }
}

/// A line without words that are keys by their looks, or by the word before them.
fn without_keys(line: &str) -> String {
    let mut is_after = false;
    let is_between = |letter: char| letter.is_whitespace() || "\"'`,;(){}[]<>".contains(letter);
    let words = line.split_inclusive(is_between).map(|word| {
        let bare = word.trim_end_matches(is_between);
        let rest = &word[bare.len()..];
        let was_after = std::mem::take(&mut is_after);
        if bare.is_empty() {
            // `"token": "…"` has some between.
            is_after = was_after;
            return word.to_owned();
        }
        if let Some((name, value)) = bare.split_once(['=', ':'])
            && is_secret(name.trim_start_matches('-'))
        {
            is_after = value.is_empty();
            let sign = &bare[name.len()..=name.len()];
            let value = if value.is_empty() { "" } else { REMOVED };
            return format!("{name}{sign}{value}{rest}");
        }
        let is_name = bare.eq_ignore_ascii_case("bearer")
            || bare.strip_prefix("--").is_some_and(is_secret)
            || (rest.starts_with(['"', '\'']) && is_secret(bare));
        if is_name {
            is_after = true;
            return word.to_owned();
        }
        // A sign between a name and its value.
        if was_after && matches!(bare, ":" | "=" | "is") {
            is_after = true;
            return word.to_owned();
        }
        let is_key = KEY_BEGINS.iter().any(|begin| bare.starts_with(begin)) && bare.len() > 8;
        match was_after || is_key {
            true => format!("{REMOVED}{rest}"),
            false => word.to_owned(),
        }
    });
    words.collect()
}

/// A sentence without what a policy says, which may be of a request: `night.lua:3: REMOVED`.
pub(super) fn without_policy_text(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let Some(at) = line.find(".lua:") else {
            return line.to_owned();
        };
        let rest = &line[at + ".lua:".len()..];
        let place = rest.find(|letter: char| !letter.is_ascii_digit() && letter != ':');
        let end = at + ".lua:".len() + place.unwrap_or(rest.len());
        format!("{} {REMOVED}", line[..end].trim_end_matches(':'))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A line of the hub's own log; `None` for one to leave out.
pub(super) fn of_hub_log(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let time = words
        .next()
        .filter(|time| time.parse::<jiff::Timestamp>().is_ok());
    let (Some(time), Some(level)) = (time, words.next()) else {
        // The rest of a message of several lines.
        return None;
    };
    if matches!(level, "DEBUG" | "TRACE") {
        return None;
    }
    if let Some(at) = line.rfind(" policy=") {
        return Some(format!("{time} {level:>5} {REMOVED}{}", &line[at..]));
    }
    let line = line.split("; its log ends:").next().unwrap_or_default();
    Some(without_policy_text(line))
}

/// The lines of a worker's log that may leave the machine, with the number of those left out in their place.
/// `is_begun` tells that the log begins within a launch: its first lines have been moved away.
pub(super) fn of_worker_log<'l>(
    lines: impl Iterator<Item = &'l str>,
    is_begun: bool,
) -> Vec<String> {
    // Until it serves, no text of a request can be in it.
    let mut serves = is_begun;
    let mut kept = Vec::new();
    let mut left_out = 0;
    for line in lines {
        if line.contains("MLX Server v") && line.contains("Starting") {
            serves = false;
        }
        let shown = match serves {
            true => skeleton(line),
            false => Some(line.to_owned()),
        };
        serves |=
            line.contains("Application startup complete") || line.contains("Uvicorn running on");
        match shown {
            Some(shown) => {
                note_left_out(&mut kept, &mut left_out);
                kept.push(shown);
            }
            None => left_out += 1,
        }
    }
    note_left_out(&mut kept, &mut left_out);
    kept
}

fn note_left_out(kept: &mut Vec<String>, left_out: &mut usize) {
    match std::mem::take(left_out) {
        0 => {}
        1 => kept.push("(1 line left out)".to_owned()),
        many => kept.push(format!("({many} lines left out)")),
    }
}

/// Time, level and place of a line, a place in a traceback, the kind of an error, or a request without its query.
fn skeleton(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    if trimmed.starts_with("Traceback (most recent call last)") {
        return Some(line.to_owned());
    }
    if trimmed.starts_with("File \"") && trimmed.contains("\", line ") {
        return Some(line.to_owned());
    }
    if let Some((before, after)) = line.split_once(" \"")
        && let Some((request, status)) = after.split_once(" HTTP/1.1\"")
        && before.starts_with("INFO:")
    {
        let request = request.split('?').next().unwrap_or_default();
        return Some(format!("{before} \"{request} HTTP/1.1\"{status}"));
    }
    let parts: Vec<&str> = line.splitn(4, " | ").collect();
    let has_time = parts[0].starts_with(|letter: char| letter.is_ascii_digit());
    if parts.len() >= 3 && has_time {
        // `TIME | LEVEL | MODULE:FUNCTION:LINE | MESSAGE`, or without the third.
        let place = parts.get(2).filter(|_| parts.len() == 4).copied();
        let shown = [Some(parts[0]), Some(parts[1]), place, Some("…")];
        return Some(shown.into_iter().flatten().collect::<Vec<_>>().join(" | "));
    }
    let (kind, _) = line.split_once(": ")?;
    let is_kind = (kind.ends_with("Error") || kind.ends_with("Exception"))
        && kind
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "._".contains(letter));
    is_kind.then(|| format!("{kind}: …"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB_YAML: &str = "# token: in-a-comment\nport: 8000\napi_keys:\n- {name: me, key: letmein-please}\nmodels:\n\
        - name: a\n  model_path: org/a\n  env: {HF_TOKEN: not-a-usual-one, MODE: fast}\n\
        \x20 extra_args: [--api-key, very-secret-word, --seed, '7', --token=hush-hush]\n\
        policy: {webhook_secret: hook-hook-hook, hour: 7}\n";

    #[test]
    fn hub_yaml_keeps_its_settings_and_loses_its_secrets_and_comments() {
        let shown = hub_yaml(HUB_YAML).unwrap();
        insta::assert_snapshot!(shown, @"
        port: 8000
        api_keys:
        - name: REMOVED
          key: REMOVED
        models:
        - name: a
          model_path: org/a
          env:
            HF_TOKEN: REMOVED
            MODE: REMOVED
          extra_args:
          - --api-key
          - REMOVED
          - --seed
          - '7'
          - --token=REMOVED
        policy:
          webhook_secret: REMOVED
          hour: 7
        ");
        assert_eq!(hub_yaml("models: ["), None);
    }

    #[test]
    fn what_is_secret_anywhere_is_removed_everywhere() {
        let environment = [
            ("OPENAI_API_KEY", "from-the-environment"),
            ("SHELL", "/bin/zsh-of-me"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let secrets = Secrets::of(HUB_YAML, environment.into_iter());
        let removed = secrets.remove(
            "not-a-usual-one and from-the-environment in /bin/zsh-of-me, fast, letmein-please\n\
             Authorization: Bearer abcdef123456\nhf_abcdefghijkl, sk-proj-0123456789\n\
             {\"token\": \"abc123\", \"tokens\": 7} --api-key xyz --seed 7 password=hunter22",
        );
        insta::assert_snapshot!(removed, @r#"
        REMOVED and REMOVED in /bin/zsh-of-me, fast, REMOVED
        Authorization: Bearer REMOVED
        REMOVED, REMOVED
        {"token": "REMOVED", "tokens": 7} --api-key REMOVED --seed 7 password=REMOVED
        "#);
    }

    #[test]
    fn the_home_folder_is_not_named() {
        let home = std::env::home_dir().unwrap();
        let secrets = Secrets::of("", std::iter::empty());
        assert_eq!(
            secrets.remove(&format!("in {}/x", home.display())),
            "in ~/x"
        );
    }

    #[test]
    fn the_hubs_log_loses_what_policies_say_and_details() {
        let log = "2026-11-22T03:00:28.785Z  INFO memory loaded hub_model=qwen pid=24346\n\
             2026-11-22T03:00:29.785Z  WARN he asked for a poem policy=\"night.lua:3\"\n\
             2026-11-22T03:00:30.785Z DEBUG request path=\"/v1/x\"\n\
             the rest of a message\n\
             2026-11-22T03:00:31.785Z ERROR policy failed: night.lua:7: a poem\n\
             2026-11-22T03:00:32.785Z ERROR it ended; its log ends: a poem";
        let shown: Vec<_> = log.lines().filter_map(of_hub_log).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        2026-11-22T03:00:28.785Z  INFO memory loaded hub_model=qwen pid=24346
        2026-11-22T03:00:29.785Z  WARN REMOVED policy="night.lua:3"
        2026-11-22T03:00:31.785Z ERROR policy failed: night.lua:7 REMOVED
        2026-11-22T03:00:32.785Z ERROR it ended
        "#);
    }

    #[test]
    fn a_workers_log_is_whole_until_it_serves_and_has_no_texts_after() {
        let log = "2026-11-22 03:00:28 | INFO | app.main:start:77 | ✨ MLX Server v1.8.1 Starting ✨\n\
             Loading weights: 100%\n\
             INFO:     Application startup complete.\n\
             INFO:     127.0.0.1:5 - \"POST /v1/chat?q=poem HTTP/1.1\" 200 OK\n\
             2026-11-22 03:00:29 | DEBUG | app.handler:run:12 | prompt: write a poem\n\
             about the sea: and more\n\
             Traceback (most recent call last):\n\
             \x20 File \"/x/app.py\", line 7, in run\n\
             \x20   raise ValueError(poem)\n\
             ValueError: write a poem\n\
             2026-11-22 03:00:30 | INFO | a poem\n\
             2026-11-22 03:01:28 | INFO | app.main:start:77 | ✨ MLX Server v1.8.1 Starting ✨\n\
             no such folder";
        insta::assert_snapshot!(of_worker_log(log.lines(), false).join("\n"), @r#"
        2026-11-22 03:00:28 | INFO | app.main:start:77 | ✨ MLX Server v1.8.1 Starting ✨
        Loading weights: 100%
        INFO:     Application startup complete.
        INFO:     127.0.0.1:5 - "POST /v1/chat HTTP/1.1" 200 OK
        2026-11-22 03:00:29 | DEBUG | app.handler:run:12 | …
        (1 line left out)
        Traceback (most recent call last):
          File "/x/app.py", line 7, in run
        (1 line left out)
        ValueError: …
        2026-11-22 03:00:30 | INFO | …
        2026-11-22 03:01:28 | INFO | app.main:start:77 | ✨ MLX Server v1.8.1 Starting ✨
        no such folder
        "#);
        let begun = of_worker_log("a poem\nanother".lines(), true);
        assert_eq!(begun, ["(2 lines left out)"]);
    }
}
