//! Tables of models, as `status`, `start` and `watch` print them, and that of `policy list`.

use std::path::Path;
use std::time::Duration;

use super::notes;
use super::render::{Out, duration, yes_no};
use crate::api::{MemoryState, ModelStatus, PolicyFacts, ProcessState, Status, unix_now};

/// Narrower terminals show no pid and port.
const WIDE: usize = 140;

/// The table of `status`: all models, or those that are named.
pub(super) fn print_models(out: &mut Out, status: &Status, names: &[String]) {
    let is_shown = |name: &str| names.is_empty() || names.iter().any(|shown| shown.trim() == name);
    let models: Vec<_> = status
        .models
        .iter()
        .filter(|model| is_shown(&model.id))
        .collect();
    if models.is_empty() {
        out.line("No matching models in hub config");
        return;
    }
    let is_narrow = out.width().is_some_and(|width| width < WIDE);
    let rows: Vec<_> = models
        .iter()
        .map(|model| status_row(model, is_narrow))
        .collect();
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
    // Settings give way before changing values; the end of a path matters most.
    print(out, header, &rows, &[7], &[5, 4, 6, 3, 7]);
    notes::print(out, status, &models, unix_now());
}

fn status_row(model: &ModelStatus, is_narrow: bool) -> [String; 8] {
    let facts = &model.metadata.facts;
    [
        model.id.clone(),
        state(model, is_narrow),
        yes_no(facts.memory_state == MemoryState::Loaded).to_owned(),
        or_dash(facts.auto_unload_minutes.map(|limit| format!("{limit}min"))),
        facts.model_type.to_string(),
        or_dash(facts.group.clone()),
        if facts.default { "✓" } else { "-" }.to_owned(),
        facts.model_path.clone(),
    ]
}

/// A started model that is not in memory may have no process.
fn state(model: &ModelStatus, is_narrow: bool) -> String {
    let facts = &model.metadata.facts;
    if is_narrow {
        return facts.process_state.as_str().to_owned();
    }
    match (facts.process_state, facts.pid, facts.port) {
        (ProcessState::Running, Some(pid), Some(port)) => {
            format!("running (pid={pid}, port={port})")
        }
        (ProcessState::Running, Some(pid), None) => format!("running (pid={pid})"),
        (state, ..) => state.as_str().to_owned(),
    }
}

/// The table of `watch`, sorted by name. `now` is Unix seconds.
pub(super) fn print_processes(out: &mut Out, status: &Status, now: f64) {
    let models = &status.models;
    if models.is_empty() {
        out.line("  (no managed processes)");
        return;
    }
    let mut rows: Vec<_> = models.iter().map(|model| process_row(model, now)).collect();
    rows.sort();
    let header = ["NAME", "STATE", "PID", "GROUP", "UPTIME", "EXIT", "LOG"];
    print(out, header, &rows, &[6], &[3, 5, 6]);
    let mut models: Vec<_> = models.iter().collect();
    models.sort_by(|one, other| one.id.cmp(&other.id));
    // Programs that read this know the table alone.
    if out.width().is_some() {
        notes::print(out, status, &models, now);
    }
}

fn process_row(model: &ModelStatus, now: f64) -> [String; 7] {
    let facts = &model.metadata.facts;
    let log = facts.log_path.as_deref().map(Path::new);
    [
        model.id.clone(),
        started_state(model),
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

/// Its process in capitals; of a started model that does not serve yet, where its weights are.
fn started_state(model: &ModelStatus) -> String {
    let facts = &model.metadata.facts;
    let state = facts.process_state.as_str().to_uppercase();
    match (facts.process_state, facts.memory_state) {
        (ProcessState::Running, MemoryState::Unloaded) => format!("{state} (not loaded)"),
        (ProcessState::Running, memory @ (MemoryState::Loading | MemoryState::Unloading)) => {
            format!("{state} ({})", memory.as_str())
        }
        (ProcessState::Running, MemoryState::Failed) => format!("{state} (load failed)"),
        _ => state,
    }
}

fn uptime(model: &ModelStatus, now: f64) -> Option<String> {
    let facts = &model.metadata.facts;
    let is_up = matches!(
        facts.process_state,
        ProcessState::Starting | ProcessState::Running | ProcessState::Stopping
    );
    let started_at = facts.started_at.filter(|_| is_up)?;
    // A clock that was set back must not show a negative time.
    let up = Duration::try_from_secs_f64(now - started_at).unwrap_or_default();
    Some(duration(up))
}

/// The table of `policy list`. Counts are shown for a running hub only.
pub(super) fn print_policies(out: &mut Out, policies: &[PolicyFacts], is_live: bool) {
    if policies.is_empty() {
        out.line("No policies: nothing is capped, unloaded or refused");
        return;
    }
    out.line("Policies, in the order in which they are asked:");
    let rows = policies.iter().enumerate();
    if is_live {
        let rows: Vec<_> = rows
            .map(|(index, policy)| counted_row(index, policy))
            .collect();
        let header = [
            "#", "POLICY", "ORIGIN", "HOOKS", "STATE", "CALLS", "VERDICTS", "FAILURES", "AVERAGE",
        ];
        print(out, header, &rows, &[3], &[2, 8, 0, 3]);
    } else {
        let rows: Vec<_> = rows
            .map(|(index, policy)| policy_row(index, policy))
            .collect();
        let header = ["#", "POLICY", "ORIGIN", "HOOKS"];
        print(out, header, &rows, &[3], &[2, 0]);
    }
    for policy in policies.iter().filter(|policy| !policy.models.is_empty()) {
        let models = policy.models.join(", ");
        out.sentence(format_args!(
            "Names that {} answers for: {models}",
            policy.name
        ));
    }
    for policy in policies {
        if let Some(error) = &policy.last_error {
            out.sentence(format_args!("Last error of {}: {error}", policy.name));
        }
    }
}

fn policy_row(index: usize, policy: &PolicyFacts) -> [String; 4] {
    [
        (index + 1).to_string(),
        policy.name.clone(),
        policy.origin.as_str().to_owned(),
        [policy.hooks.as_slice(), &policy.observes]
            .concat()
            .join(" "),
    ]
}

fn counted_row(index: usize, policy: &PolicyFacts) -> [String; 9] {
    let [number, name, origin, hooks] = policy_row(index, policy);
    let state = if policy.switched_off { "off" } else { "on" };
    [
        number,
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

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Shortest rest of a shortened cell.
const MIN_WIDTH: usize = 12;

/// For a terminal that is too narrow, shortens the columns `shortened`, then drops the columns `left_out`, in
/// that order and empty ones first, and at last shortens the first column.
pub(super) fn print<const N: usize>(
    out: &mut Out,
    header: [&str; N],
    rows: &[[String; N]],
    shortened: &[usize],
    left_out: &[usize],
) {
    const INDENT: &str = "  ";
    let mut table = Table::new(header, rows);
    if let Some(width) = out.width() {
        table.fit(width.saturating_sub(INDENT.len()), shortened, left_out);
    }
    for line in table.lines() {
        out.line(format_args!("{INDENT}{line}"));
    }
}

/// A table by columns, each with its header.
struct Table(Vec<Vec<String>>);

impl Table {
    const BETWEEN: usize = " | ".len();

    fn new<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Self {
        let column = |(at, head): (usize, &&str)| {
            let cells = rows.iter().map(|row| row[at].clone());
            std::iter::once((*head).to_owned()).chain(cells).collect()
        };
        Self(header.iter().enumerate().map(column).collect())
    }

    fn width_of(column: &[String]) -> usize {
        let widths = column.iter().map(|cell| cell.chars().count());
        widths.max().unwrap_or_default()
    }

    /// Dropped columns are empty.
    fn shown(&self) -> impl Iterator<Item = &Vec<String>> {
        self.0.iter().filter(|column| !column.is_empty())
    }

    fn width(&self) -> usize {
        let all: usize = self.shown().map(|column| Self::width_of(column)).sum();
        all + Self::BETWEEN * self.shown().count().saturating_sub(1)
    }

    /// Fits it to a width, as far as possible.
    fn fit(&mut self, width: usize, shortened: &[usize], left_out: &[usize]) {
        let says_nothing = |column: &[String]| column[1..].iter().all(|cell| cell == "-");
        let (empty, told): (Vec<usize>, Vec<usize>) = left_out
            .iter()
            .copied()
            .partition(|column| says_nothing(&self.0[*column]));
        for column in empty.into_iter().chain(told).map(Some).chain([None]) {
            for column in shortened {
                let too_much = self.width().saturating_sub(width);
                shorten(&mut self.0[*column], too_much);
            }
            match column {
                Some(column) if self.width() > width => self.0[column].clear(),
                Some(_) => return,
                // What is left is told from each other by the first column.
                None => {
                    let too_much = self.width().saturating_sub(width);
                    shorten(&mut self.0[0], too_much);
                }
            }
        }
    }

    /// Header, rule and rows, each cell padded to its column; nothing trails.
    fn lines(&self) -> Vec<String> {
        let columns: Vec<_> = self.shown().collect();
        let widths: Vec<usize> = columns
            .iter()
            .map(|column| Self::width_of(column))
            .collect();
        let rule = widths.iter().map(|width| "-".repeat(*width));
        let rule = rule.collect::<Vec<_>>().join("-+-");
        let line = |row: usize| {
            let cells = columns.iter().zip(&widths);
            let cells = cells.map(|(column, width)| format!("{:width$}", column[row]));
            cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
        };
        let height = columns.first().map_or(0, |column| column.len());
        let mut lines: Vec<String> = (0..height).map(line).collect();
        lines.insert(1.min(lines.len()), rule);
        lines
    }
}

/// Shortens the cells of a column from the front, if enough of them is left.
fn shorten(column: &mut [String], too_much: usize) {
    let width = Table::width_of(column);
    if too_much == 0 || width <= MIN_WIDTH {
        return;
    }
    let width = width.saturating_sub(too_much).max(MIN_WIDTH);
    for cell in column {
        let length = cell.chars().count();
        if length > width {
            let end: String = cell.chars().skip(length - width + 1).collect();
            *cell = format!("…{end}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<const N: usize>(rows: &[[&str; N]]) -> Vec<[String; N]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = cells(&[["a", "✓"], ["long-name", "-"]]);
        let lines = Table::new(["NAME", "DEFAULT"], &rows).lines();
        insta::assert_snapshot!(lines.join("\n"), @r"
        NAME      | DEFAULT
        ----------+--------
        a         | ✓
        long-name | -
        ");
    }

    #[test]
    fn where_nothing_else_is_left_names_keep_their_ends() {
        let rows = cells(&[
            ["mlx-community-qwen3-coder-30b-a3b-instruct-4bit", "running"],
            ["embed", "stopped"],
        ]);
        let mut table = Table::new(["NAME", "STATE"], &rows);
        table.fit(40, &[], &[]);
        assert!(table.width() <= 40);
        insta::assert_snapshot!(table.lines().join("\n"), @"
        NAME                           | STATE
        -------------------------------+--------
        …3-coder-30b-a3b-instruct-4bit | running
        embed                          | stopped
        ");
    }

    #[test]
    fn a_table_fits_a_narrow_terminal() {
        let rows = cells(&[
            [
                "coder",
                "running",
                "-",
                "lm",
                "mlx-community/Qwen3-Coder-30B-4bit",
            ],
            [
                "embed",
                "stopped",
                "-",
                "embeddings",
                "mlx-community/bge-m3",
            ],
        ]);
        let at = |width| {
            let mut table = Table::new(["NAME", "STATE", "GROUP", "TYPE", "MODEL"], &rows);
            table.fit(width, &[4], &[3, 2, 4]);
            assert!(table.width() <= width, "{width}");
            table.lines().join("\n")
        };
        assert_eq!(
            at(73),
            Table::new(["NAME", "STATE", "GROUP", "TYPE", "MODEL"], &rows)
                .lines()
                .join("\n")
        );
        insta::assert_snapshot!(at(60), @r"
        NAME  | STATE   | GROUP | TYPE       | MODEL
        ------+---------+-------+------------+----------------------
        coder | running | -     | lm         | …Qwen3-Coder-30B-4bit
        embed | stopped | -     | embeddings | mlx-community/bge-m3
        ");
        insta::assert_snapshot!(at(45), @r"
        NAME  | STATE   | TYPE       | MODEL
        ------+---------+------------+-------------
        coder | running | lm         | …er-30B-4bit
        embed | stopped | embeddings | …nity/bge-m3
        ");
        insta::assert_snapshot!(at(30), @r"
        NAME  | STATE   | MODEL
        ------+---------+-------------
        coder | running | …er-30B-4bit
        embed | stopped | …nity/bge-m3
        ");
        insta::assert_snapshot!(at(20), @r"
        NAME  | STATE
        ------+--------
        coder | running
        embed | stopped
        ");
    }
}
