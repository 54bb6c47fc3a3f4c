//! The machine: memory beside what hub.yaml asks, the GPU's share of it, open files, and the clock.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::finding::Finding;
use crate::api::Status;
use crate::cli::render::duration;
use crate::cli::room::{self, Room};
use crate::config::{Config, GroupConfig};
use crate::memory::{self, Probe as _, ThisMachine};
use crate::model_files::ModelFiles;

const GIB: u64 = 1 << 30;
/// Bytes that a Mac needs besides those that the GPU may wire.
const SYSTEM: u64 = 4 * GIB;
/// Fewer open files are too few for some clients at once,
const FEW_FILES: u64 = 1024;
/// and so few for a hub.
const TOO_FEW_FILES: u64 = 64;
/// Clocks of disks and machines differ by less.
const TOLERANCE: Duration = Duration::from_mins(1);

/// The demands of a model on this machine, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demand {
    name: String,
    group: Option<String>,
    /// Its weights alone.
    weights: u64,
    /// All that it takes, about.
    need: u64,
    /// True if it is loaded when the hub starts.
    at_start: bool,
}

impl Demand {
    /// The demands of those models of hub.yaml whose files are on the disk.
    pub(super) fn of(config: &Config, files: &[Option<ModelFiles>]) -> Vec<Self> {
        let models = config.models.iter().zip(files);
        let asked = models.filter_map(|(model, files)| {
            let files = files.as_ref()?;
            // Of a model of several machines, this one, the first, has a part.
            let share = model.hosts().first().map_or(1.0, |host| host.share);
            let here = |bytes: u64| (bytes as f64 * share) as u64;
            Some(Self {
                name: model.name.clone(),
                group: model.group.clone(),
                weights: here(files.weights),
                need: here(room::need(files)),
                at_start: model.default && !model.jit_enabled,
            })
        });
        asked.collect()
    }
}

/// The memory of the machine as models see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) room: Room,
    /// The most bytes that models could have if the GPU's limit were raised.
    pub(super) most_if_raised: Option<u64>,
    /// True if a policy unloads models where memory is short.
    pub(super) makes_room: bool,
}

impl Memory {
    pub(super) fn of(config: &Config, status: Option<&Status>) -> Self {
        let total = status.and_then(|status| status.memory.total);
        let total = total.or_else(|| ThisMachine.system().total);
        let raised = total.map(|total| total.saturating_sub(SYSTEM));
        Self {
            room: Room::of(status),
            most_if_raised: raised.filter(|_| memory::wired_limit().is_some()),
            makes_room: config.policies.iter().any(|policy| policy == "memory_fit"),
        }
    }
}

/// Compares what models ask with what there is.
pub(super) fn memory(asked: &[Demand], groups: &[GroupConfig], memory: Memory) -> Vec<Finding> {
    let Memory {
        room,
        most_if_raised,
        makes_room,
    } = memory;
    let Some(most) = room.most else {
        return vec![Finding::warning(
            "The memory of this machine cannot be measured: whether models fit is not known",
        )];
    };
    let has = gib(most);
    let mut findings = Vec::new();
    for model in asked.iter().filter(|model| model.need > most) {
        let (name, need) = (&model.name, gib(model.need));
        let what = format!("Model `{name}` needs about {need}, and models can have {has} here");
        let finding = match model.weights > most {
            true => Finding::broken(what),
            false => Finding::warning(what),
        };
        let smaller = "take a smaller one, or one with fewer bits";
        findings.push(match most_if_raised {
            Some(raised) if model.need <= raised => finding.with_hint(format!(
                "{smaller}, or let the GPU have more until the next start of the Mac: \
                 `sudo sysctl iogpu.wired_limit_mb={}`",
                model.need.div_ceil(1 << 20)
            )),
            _ => finding.with_hint(smaller),
        });
    }
    let at_start: Vec<&Demand> = asked.iter().filter(|model| model.at_start).collect();
    let all: Vec<&Demand> = asked.iter().collect();
    let (at_start, together) = (together(&at_start, groups), together(&all, groups));
    let fits_alone = findings.is_empty();
    if fits_alone && at_start > most {
        findings.push(
            Finding::warning(format!(
                "The models that are loaded with the hub need about {}, and models can have {has} here",
                gib(at_start)
            ))
            .with_hint("set `jit_enabled: true` for some of them, or put them into a group with `max_loaded`"),
        );
    } else if fits_alone && together > most && !makes_room {
        findings.push(
            Finding::warning(format!(
                "All models that may be loaded at once need about {}, and models can have {has} here",
                gib(together)
            ))
            .with_hint(
                "add `memory_fit` to `policies`, which unloads idle ones, or put them into a group with `max_loaded`",
            ),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("Memory: models can have {has}")));
    }
    findings
}

/// The most bytes that these models hold at once: all of them, but of a group only as many as may be loaded.
fn together(models: &[&Demand], groups: &[GroupConfig]) -> u64 {
    let cap_of = |model: &Demand| {
        let group = groups
            .iter()
            .find(|group| Some(&group.name) == model.group.as_ref());
        group.and_then(|group| Some((&group.name, group.max_loaded?)))
    };
    let free = models.iter().filter(|model| cap_of(model).is_none());
    let free: u64 = free.map(|model| model.need).sum();
    let capped = groups.iter().map(|group| {
        let mut needs: Vec<u64> = models
            .iter()
            .filter(|model| cap_of(model).is_some_and(|(name, _)| *name == group.name))
            .map(|model| model.need)
            .collect();
        needs.sort_by_key(|need| std::cmp::Reverse(*need));
        let most = group.max_loaded.map_or(usize::MAX, |most| most as usize);
        needs.into_iter().take(most).sum::<u64>()
    });
    free + capped.sum::<u64>()
}

/// The limit of what the GPU may wire, in MiB, on a machine with `total` bytes; `None` where there is none.
pub(super) fn wired_limit(limit_mib: Option<u64>, total: Option<u64>) -> Option<Finding> {
    let (limit, total) = (limit_mib.filter(|limit| *limit > 0)?, total?);
    let (may, own) = (memory::wirable(total, limit), memory::wirable(total, 0));
    let own_limit = "`sudo sysctl iogpu.wired_limit_mb=0` brings the system's own limit back";
    if total.saturating_sub(may) < SYSTEM {
        return Some(
            Finding::warning(format!(
                "`iogpu.wired_limit_mb` is {limit}, which leaves less than {} to everything else: the Mac may freeze",
                gib(SYSTEM)
            ))
            .with_hint(own_limit),
        );
    }
    (may < own).then(|| {
        Finding::warning(format!(
            "`iogpu.wired_limit_mb` is {limit}: models can have {}, and could have {}",
            gib(may),
            gib(own)
        ))
        .with_hint(own_limit)
    })
}

/// The most files that a hub started here may have open.
pub(super) fn open_files(most: Option<u64>) -> Option<Finding> {
    let most = most?;
    let finding = match most {
        ..TOO_FEW_FILES => Finding::broken(format!(
            "A hub may have {most} files open here: too few to serve"
        )),
        TOO_FEW_FILES..FEW_FILES => Finding::warning(format!(
            "A hub may have {most} files open here, and each request takes two: more than {} at once are refused",
            most.saturating_sub(TOO_FEW_FILES) / 2
        )),
        _ => return Some(Finding::ok(format!("Open files: {most} at most"))),
    };
    Some(finding.with_hint(
        "raise the hard limit (`ulimit -Hn`) of the shell that starts it; `service install` sets one of its own",
    ))
}

/// Files that were changed later than now: the clock was set back, or is wrong.
pub(super) fn clock(now: SystemTime, files: &[(PathBuf, SystemTime)]) -> Finding {
    let ahead = files.iter().filter_map(|(path, changed)| {
        let ahead = changed.duration_since(now).ok()?;
        (ahead > TOLERANCE).then_some((path, ahead))
    });
    match ahead.max_by_key(|(_, ahead)| *ahead) {
        None => Finding::ok("The clock is not behind"),
        Some((path, ahead)) => Finding::warning(format!(
            "The clock is behind: `{}` was changed {} later than now",
            path.display(),
            duration(ahead)
        ))
        .with_hint(
            "set the clock: with a wrong one downloads fail, and idle times are shown wrongly",
        ),
    }
}

/// The files with the times of their last change.
pub(super) fn changed(paths: &[&Path]) -> Vec<(PathBuf, SystemTime)> {
    let changed = paths.iter().filter_map(|path| {
        let changed = path.metadata().and_then(|metadata| metadata.modified());
        Some((path.to_path_buf(), changed.ok()?))
    });
    changed.collect()
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

#[cfg(test)]
mod tests {
    use super::super::finding::told;
    use super::*;
    use crate::model_files::{Facts, Origin};

    fn asked(name: &str, gib: u64, group: Option<&str>, at_start: bool) -> Demand {
        Demand {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            weights: (gib - 1) * GIB,
            need: gib * GIB,
            at_start,
        }
    }

    fn in_memory(asked: &[Demand], makes_room: bool) -> String {
        in_memory_of(asked, makes_room, None)
    }

    fn in_memory_of(asked: &[Demand], makes_room: bool, most_if_raised: Option<u64>) -> String {
        let group = GroupConfig {
            name: "large".to_owned(),
            max_loaded: Some(1),
            idle_unload_trigger_min: None,
        };
        let room = Room {
            available: None,
            most: Some(20 * GIB),
        };
        let of = Memory {
            room,
            most_if_raised,
            makes_room,
        };
        told(&memory(asked, &[group], of))
    }

    #[test]
    fn a_model_that_is_too_large_for_the_machine_is_broken_and_one_that_may_be_a_warning() {
        let models = [
            asked("huge", 22, None, false),
            asked("large", 21, None, true),
        ];
        insta::assert_snapshot!(in_memory(&models, true), @"
        broken: Model `huge` needs about 22.0 GiB, and models can have 20.0 GiB here
          hint: take a smaller one, or one with fewer bits
        warning: Model `large` needs about 21.0 GiB, and models can have 20.0 GiB here
          hint: take a smaller one, or one with fewer bits
        ");
        let on_a_mac = in_memory_of(&models, true, Some(21 * GIB));
        assert!(
            on_a_mac.contains("iogpu.wired_limit_mb=21504"),
            "{on_a_mac}"
        );
        assert!(
            !on_a_mac.contains("iogpu.wired_limit_mb=22528"),
            "{on_a_mac}"
        );
    }

    #[test]
    fn models_that_do_not_fit_together_are_told_unless_a_group_or_a_policy_makes_room() {
        let at_start = [asked("a", 12, None, true), asked("b", 12, None, true)];
        insta::assert_snapshot!(in_memory(&at_start, true), @"
        warning: The models that are loaded with the hub need about 24.0 GiB, and models can have 20.0 GiB here
          hint: set `jit_enabled: true` for some of them, or put them into a group with `max_loaded`
        ");
        let later = [asked("a", 12, None, true), asked("b", 12, None, false)];
        insta::assert_snapshot!(in_memory(&later, false), @"
        warning: All models that may be loaded at once need about 24.0 GiB, and models can have 20.0 GiB here
          hint: add `memory_fit` to `policies`, which unloads idle ones, or put them into a group with `max_loaded`
        ");
        let fits = "ok: Memory: models can have 20.0 GiB";
        assert_eq!(in_memory(&later, true), fits);
        let grouped = [
            asked("a", 12, Some("large"), true),
            asked("b", 12, Some("large"), true),
            asked("c", 8, None, true),
        ];
        assert_eq!(in_memory(&grouped, false), fits);
        let grouped = [&grouped[..], &[asked("d", 1, None, true)]].concat();
        assert!(in_memory(&grouped, false).contains("need about 21.0 GiB"));
    }

    #[test]
    fn a_model_of_several_machines_asks_its_part_of_this_one() {
        let entry = "models:\n- name: a\n  model_path: org/a\n  engine: mlx_lm\n";
        let config = crate::config::from_yaml(&format!("{entry}  hosts: [a, b, c, d]\n"));
        let files = ModelFiles {
            folder: PathBuf::new(),
            model_path: "org/a".to_owned(),
            origin: Origin::Folder,
            bytes: 400 * GIB,
            weights: 400 * GIB,
            facts: Facts {
                model_type: config.models[0].model_type,
                architecture: None,
                quantisation: None,
                context_length: None,
            },
        };
        let whole = Demand::of(&crate::config::from_yaml(entry), &[Some(files.clone())]).remove(0);
        let part = Demand::of(&config, &[Some(files)]).remove(0);
        assert_eq!(part.weights, 100 * GIB);
        assert_eq!(part.need, whole.need / 4);
    }

    #[test]
    fn memory_that_cannot_be_measured_is_a_warning() {
        let room = Room {
            available: None,
            most: None,
        };
        let of = Memory {
            room,
            most_if_raised: None,
            makes_room: false,
        };
        assert!(told(&memory(&[], &[], of)).starts_with("warning: "));
    }

    #[test]
    fn a_limit_of_the_gpu_that_is_too_high_or_too_low_is_told() {
        let of = |limit, total: u64| {
            let finding = wired_limit(limit, Some(total * GIB));
            finding.map_or_else(|| "-".to_owned(), |finding| told(&[finding]))
        };
        let told = [
            of(None, 64),
            of(Some(0), 64),
            of(Some(56 * 1024), 64),
            of(Some(61 * 1024), 64),
            of(Some(16 * 1024), 64),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        -
        -
        -
        warning: `iogpu.wired_limit_mb` is 62464, which leaves less than 4.0 GiB to everything else: the Mac may freeze
          hint: `sudo sysctl iogpu.wired_limit_mb=0` brings the system's own limit back
        warning: `iogpu.wired_limit_mb` is 16384: models can have 16.0 GiB, and could have 48.0 GiB
          hint: `sudo sysctl iogpu.wired_limit_mb=0` brings the system's own limit back
        ");
    }

    #[test]
    fn few_open_files_are_a_warning_and_very_few_break_a_hub() {
        let of = |most| open_files(Some(most)).map_or_else(String::new, |one| told(&[one]));
        insta::assert_snapshot!([of(10_240), of(256), of(20)].join("\n"), @"
        ok: Open files: 10240 at most
        warning: A hub may have 256 files open here, and each request takes two: more than 96 at once are refused
          hint: raise the hard limit (`ulimit -Hn`) of the shell that starts it; `service install` sets one of its own
        broken: A hub may have 20 files open here: too few to serve
          hint: raise the hard limit (`ulimit -Hn`) of the shell that starts it; `service install` sets one of its own
        ");
        assert_eq!(open_files(None), None);
    }

    #[test]
    fn a_clock_is_behind_if_a_file_was_changed_later_than_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1000);
        let changed = |seconds: u64| {
            let at = now + Duration::from_secs(seconds);
            (PathBuf::from(format!("/{seconds}")), at)
        };
        let well = told(&[clock(now, &[changed(0), changed(50)])]);
        assert_eq!(well, "ok: The clock is not behind");
        let behind = told(&[clock(now, &[changed(70), changed(7200), changed(90)])]);
        insta::assert_snapshot!(behind, @"
        warning: The clock is behind: `/7200` was changed 2h00m later than now
          hint: set the clock: with a wrong one downloads fail, and idle times are shown wrongly
        ");
    }
}
