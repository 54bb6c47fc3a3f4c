//! hub.yaml on disk: its validity, and the changes that a reload would make.
//!
//! The hub serves its last good configuration; the status says when the file would not load, and when it
//! says something else by now. It is read again only when its size or modification time changed.

use std::time::SystemTime;

use jiff::Zoned;
use parking_lot::Mutex;

use crate::api::EDITED;
use crate::config::{Config, ModelConfig};
use crate::core::reload::keep_fixed;

/// Size and modification time; `None` when there is no such file.
type Stamp = Option<(u64, SystemTime)>;

#[derive(Debug)]
pub(in crate::hub) struct OnDisk {
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    stamp: Stamp,
    /// The result of the last read; `None` before the stamp has changed.
    read: Option<Result<Box<Config>, String>>,
    /// The time at which the current configuration was read.
    in_force_since: Zoned,
}

impl OnDisk {
    pub(in crate::hub) fn new(config: &Config) -> Self {
        Self {
            last: Mutex::new(Last {
                stamp: stamp(config),
                read: None,
                in_force_since: Zoned::now(),
            }),
        }
    }

    /// Notes that hub.yaml was read again and is in force.
    pub(in crate::hub) fn note_read(&self) {
        self.last.lock().in_force_since = Zoned::now();
    }

    /// The reason why the file on disk is not valid.
    pub(in crate::hub) fn error(&self, config: &Config) -> Option<String> {
        let now = stamp(config);
        let mut last = self.last.lock();
        if last.stamp != now {
            let read = Config::load(&config.path).map(Box::new);
            last.stamp = now;
            last.read = Some(read.map_err(|error| {
                format!("hub.yaml on disk is not valid, the last good one stays in force: {error}")
            }));
        }
        last.read.as_ref()?.as_ref().err().cloned()
    }

    /// That the file, as it was found by [`OnDisk::error`], says something else than the configuration in
    /// force. With `fixed_is_told` that is not said of what only a restart can change.
    pub(in crate::hub) fn edits(&self, config: &Config, fixed_is_told: bool) -> Option<String> {
        let last = self.last.lock();
        let read = last.read.as_ref()?.as_ref().ok()?;
        let (changes, verb) = changes(read, config, fixed_is_told)?;
        let since = clock(&last.in_force_since, &Zoned::now());
        Some(format!("{EDITED}{since}; run {verb} ({changes})"))
    }
}

/// The settings of the file that are not in force, and the command that applies them.
fn changes(read: &Config, config: &Config, fixed_is_told: bool) -> Option<(String, &'static str)> {
    let mut read = read.clone();
    let is_fixed_changed = !keep_fixed(&mut read, config).is_empty() && !fixed_is_told;
    let names = |models: Vec<&ModelConfig>| {
        let names = models.into_iter().map(|model| model.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let is_other = |one: &Config, other: &Config, same: bool| {
        let models = one.models.iter();
        let models = models.filter(|model| {
            other
                .model(&model.name)
                .map_or(!same, |twin| same && twin != *model)
        });
        names(models.collect())
    };
    let parts = [
        ("adds", is_other(&read, config, false)),
        ("removes", is_other(config, &read, false)),
        ("changes", is_other(&read, config, true)),
    ];
    let mut told: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{verb} {names}"))
        .collect();
    // All but the models.
    let rest = |config: &Config| Config {
        modified_at: 0,
        models: Vec::new(),
        warnings: Vec::new(),
        ..config.clone()
    };
    if rest(&read) != rest(config) {
        told.push("changes settings of the hub".to_owned());
    }
    if is_fixed_changed {
        told.push("sets another host, port or log_path".to_owned());
    }
    let order = |config: &Config| -> Vec<String> {
        let models = config.models.iter();
        models.map(|model| model.name.clone()).collect()
    };
    if told.is_empty() && order(&read) != order(config) {
        told.push("changes the order".to_owned());
    }
    let verb = if is_fixed_changed {
        "restart"
    } else {
        "reload"
    };
    (!told.is_empty()).then(|| (told.join("; "), verb))
}

/// The time of day; the date too when it was another.
fn clock(then: &Zoned, now: &Zoned) -> String {
    let form = match then.date() == now.date() {
        true => "%H:%M",
        false => "%Y-%m-%d %H:%M",
    };
    then.strftime(form).to_string()
}

fn stamp(config: &Config) -> Stamp {
    let metadata = std::fs::metadata(&config.path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn between(file: &str, in_force: &str) -> Option<String> {
        let parse = |yaml| Config::parse(Path::new("/nowhere/hub.yaml"), yaml).unwrap();
        let (file, config) = (parse(file), parse(in_force));
        let changes = changes(&file, &config, false);
        changes.map(|(changes, verb)| format!("run {verb} ({changes})"))
    }

    #[test]
    fn what_a_reload_would_change_is_told_and_a_comment_is_not() {
        let models = "models:\n- {name: a, model_path: org/a}\n- {name: b, model_path: org/b}\n";
        assert_eq!(between(&format!("# new\n{models}"), models), None);
        let told = [
            between(
                &format!("{models}- {{name: c, model_path: org/c}}\n"),
                models,
            ),
            between(
                "models:\n- {name: a, model_path: org/x}\n- {name: d, model_path: org/d}\n",
                models,
            ),
            between(&format!("drain_timeout: 3\n{models}"), models),
            between(&format!("port: 8123\n{models}"), models),
            between(
                "models:\n- {name: b, model_path: org/b}\n- {name: a, model_path: org/a}\n",
                models,
            ),
        ];
        insta::assert_snapshot!(told.map(Option::unwrap_or_default).join("\n"), @"
        run reload (adds c)
        run reload (adds d; removes b; changes a)
        run reload (changes settings of the hub)
        run restart (sets another host, port or log_path)
        run reload (changes the order)
        ");
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let now: jiff::Timestamp = "2026-11-28T20:03:00Z".parse().unwrap();
        let now = now.to_zoned(jiff::tz::TimeZone::UTC);
        assert_eq!(clock(&now, &now), "20:03");
        let then = now.yesterday().unwrap();
        assert_eq!(clock(&then, &now), "2026-11-27 20:03");
    }
}
