//! Tables of models, as `status`, `start` and `watch` print them, and that of `policy list`.

use std::path::Path;
use std::time::Duration;

use super::render::{Out, duration, yes_no};
use crate::api::{MemoryState, ModelStatus, PolicyFacts, ProcessState};

/// The table of `status`: all models, or those that are named.
pub(super) fn print_models(out: &mut Out, models: &[ModelStatus], names: &[String]) {
    let rows: Vec<_> = models
        .iter()
        .filter(|model| names.is_empty() || names.iter().any(|name| name.trim() == model.id))
        .map(status_row)
        .collect();
    if rows.is_empty() {
        out.line("No matching models in hub config");
        return;
    }
    out.line("Models:");
    let header = [
        "NAME",
        "STATE",
        "LOADED",
        "AUTO-UNLOAD",
        "TYPE",
        "GROUP",
        "DEFAULT",
        "MODEL",
    ];
    print(out, header, &rows);
}

fn status_row(model: &ModelStatus) -> [String; 8] {
    let facts = &model.metadata;
    [
        model.id.clone(),
        state(model),
        yes_no(facts.memory_state == MemoryState::Loaded).to_owned(),
        or_dash(facts.auto_unload_minutes.map(|limit| format!("{limit}min"))),
        facts.model_type.clone(),
        or_dash(facts.group.clone()),
        if facts.default { "✓" } else { "-" }.to_owned(),
        facts.model_path.clone(),
    ]
}

/// A model that runs without being in memory may have no process to name.
fn state(model: &ModelStatus) -> String {
    let facts = &model.metadata;
    match (facts.process_state, facts.pid, facts.port) {
        (ProcessState::Running, Some(pid), Some(port)) => {
            format!("running (pid={pid}, port={port})")
        }
        (ProcessState::Running, Some(pid), None) => format!("running (pid={pid})"),
        (state, ..) => state.as_str().to_owned(),
    }
}

/// The table of `watch`, sorted by name. `now` is Unix seconds.
pub(super) fn print_processes(out: &mut Out, models: &[ModelStatus], now: f64) {
    if models.is_empty() {
        out.line("  (no managed processes)");
        return;
    }
    let mut rows: Vec<_> = models.iter().map(|model| process_row(model, now)).collect();
    rows.sort();
    let header = ["NAME", "STATE", "PID", "GROUP", "UPTIME", "EXIT", "LOG"];
    print(out, header, &rows);
}

fn process_row(model: &ModelStatus, now: f64) -> [String; 7] {
    let facts = &model.metadata;
    let log = facts.log_path.as_deref().map(Path::new);
    [
        model.id.clone(),
        facts.process_state.as_str().to_uppercase(),
        or_dash(facts.pid),
        or_dash(facts.group.clone()),
        or_dash(uptime(model, now)),
        or_dash(facts.exit_code.filter(|&code| code != 0)),
        or_dash(
            log.and_then(Path::file_name)
                .map(|name| name.to_string_lossy()),
        ),
    ]
}

fn uptime(model: &ModelStatus, now: f64) -> Option<String> {
    let facts = &model.metadata;
    let is_up = matches!(
        facts.process_state,
        ProcessState::Starting | ProcessState::Running | ProcessState::Stopping
    );
    let started_at = facts.started_at.filter(|_| is_up)?;
    // A clock that was set back must not show a negative time.
    let up = Duration::try_from_secs_f64(now - started_at).unwrap_or_default();
    Some(duration(up))
}

/// The table of `policy list`. What is counted is shown only for a hub that runs.
pub(super) fn print_policies(out: &mut Out, policies: &[PolicyFacts], is_live: bool) {
    if policies.is_empty() {
        out.line("No policies: nothing is capped, unloaded or refused");
        return;
    }
    out.line("Policies, in the order in which they are asked:");
    let rows = policies.iter().enumerate();
    if is_live {
        let rows: Vec<_> = rows
            .map(|(place, policy)| counted_row(place, policy))
            .collect();
        let header = [
            "#", "POLICY", "ORIGIN", "HOOKS", "STATE", "CALLS", "VERDICTS", "FAILURES", "AVERAGE",
        ];
        print(out, header, &rows);
    } else {
        let rows: Vec<_> = rows
            .map(|(place, policy)| policy_row(place, policy))
            .collect();
        print(out, ["#", "POLICY", "ORIGIN", "HOOKS"], &rows);
    }
    for policy in policies {
        if let Some(error) = &policy.last_error {
            out.line(format_args!("Last error of {}: {error}", policy.name));
        }
    }
}

fn policy_row(place: usize, policy: &PolicyFacts) -> [String; 4] {
    [
        (place + 1).to_string(),
        policy.name.clone(),
        policy.origin.as_str().to_owned(),
        [policy.hooks.as_slice(), &policy.observes]
            .concat()
            .join(" "),
    ]
}

fn counted_row(place: usize, policy: &PolicyFacts) -> [String; 9] {
    let [place, name, origin, hooks] = policy_row(place, policy);
    let state = if policy.switched_off { "off" } else { "on" };
    [
        place,
        name,
        origin,
        hooks,
        state.to_owned(),
        policy.calls.to_string(),
        policy.verdicts.to_string(),
        policy.failures.to_string(),
        or_dash(policy.average_seconds.map(|seconds| match seconds < 1e-3 {
            true => format!("{:.1} µs", seconds * 1e6),
            false => format!("{:.1} ms", seconds * 1e3),
        })),
    ]
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn print<const N: usize>(out: &mut Out, header: [&str; N], rows: &[[String; N]]) {
    for line in layout(header, rows) {
        out.line(format_args!("  {line}"));
    }
}

/// Header, rule and rows, each cell padded to its column; nothing trails.
fn layout<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let header = header.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .chain([&header])
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    });
    let rule = widths.map(|width| "-".repeat(width)).join("-+-");
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join(" | ").trim_end().to_owned()
    };
    let mut lines = vec![line(&header), rule];
    lines.extend(rows.iter().map(line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "✓".to_owned()],
            ["long-name".to_owned(), "-".to_owned()],
        ];
        insta::assert_snapshot!(layout(["NAME", "DEFAULT"], &rows).join("\n"), @r"
        NAME      | DEFAULT
        ----------+--------
        a         | ✓
        long-name | -
        ");
    }
}
