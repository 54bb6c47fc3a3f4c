//! Draws `top`: from what there is to see and the size of the screen to its cells, and nothing else.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

use super::view::{Page, View};
use crate::api::{EndedRequest, MemoryState, ModelStatus, ProcessState, Status, local_authority};
use crate::cli::notes;

const KEYS: &str = "s start  x stop  l load  u unload  g log  ? help  q quit";
const HELP: &str = "\
↑ ↓         choose a model (also k, j, Home, End)
s           start it
x           stop it; the second press does
l           load it into memory
u           unload it; it stays started
g, Enter    its log
?, h        this page
q, Esc      end; back from this page and from a log

STATE       what its process and its weights do
MEMORY      what its processes hold
TOK/S       tokens per second of its last answer that told them
BUSY        requests in flight
WAIT        requests that wait for it

The hub goes on when this ends.";
/// Narrower screens show less of a request.
const WIDE: u16 = 100;
/// Most cells of the bar of memory.
const BAR: usize = 20;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    match (&view.page, &view.status) {
        (Page::Help, _) => draw_text(frame, body, "Help", HELP, 0),
        (Page::Log(name, text), Some(_)) => {
            // The end of it.
            let lines = text.lines().count();
            let room = usize::from(body.height.saturating_sub(2));
            let skipped = lines.saturating_sub(room);
            let shown: Vec<&str> = text.lines().skip(skipped).collect();
            draw_text(frame, body, &format!("Log of {name}"), &shown.join("\n"), 0);
        }
        (_, None) => draw_text(
            frame,
            body,
            "No hub",
            &format!("{}\n\nIt shows up here when it is there.", view.lost),
            1,
        ),
        (_, Some(status)) => draw_models_and_requests(frame, body, view, status),
    }
    let foot_text = match (&view.page, view.notice.is_empty()) {
        (Page::Models, true) => KEYS,
        (Page::Models, false) => &view.notice,
        _ => "q back",
    };
    frame.render_widget(Paragraph::new(foot_text).style(Modifier::REVERSED), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some(status) = &view.status else {
        let title = Line::styled("mlx-openai-server-hub: no hub", Modifier::BOLD);
        return frame.render_widget(Paragraph::new(title), area);
    };
    let address = local_authority(&status.host, status.port);
    let counts = status.counts;
    let models = match counts.registered {
        1 => "1 model".to_owned(),
        many => format!("{many} models"),
    };
    let name = match area.width >= WIDE {
        true => "mlx-openai-server-hub",
        false => "Hub",
    };
    let mut title = vec![
        Span::styled(name, Modifier::BOLD),
        Span::raw(format!(
            " at {address}: {models}, {} started, {} loaded",
            counts.started, counts.loaded
        )),
    ];
    match status.warnings.len() {
        0 => {}
        1 => title.push(Span::styled("  1 warning, see status", Color::Yellow)),
        many => title.push(Span::styled(
            format!("  {many} warnings, see status"),
            Color::Yellow,
        )),
    }
    let lines = vec![
        Line::from(title),
        Line::raw(memory(status, area.width.into())),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

/// `Memory [#####-----] models hold 2.5 GiB of 64.0 GiB, 30.0 GiB are available`, with a bar as there is room.
fn memory(status: &Status, width: usize) -> String {
    let Some(told) = notes::memory(status) else {
        return "Memory: not measured".to_owned();
    };
    let room = width.saturating_sub(told.chars().count() + 3).min(BAR);
    let memory = &status.memory;
    let (Some(total), Some(available), true) = (memory.total, memory.available, room >= 5) else {
        return told;
    };
    let share = total.saturating_sub(available) as f64 / total.max(1) as f64;
    let used = ((share * room as f64).round() as usize).min(room);
    let bar = format!("[{}{}]", "#".repeat(used), "-".repeat(room - used));
    told.replacen("Memory:", &format!("Memory {bar}"), 1)
}

fn draw_models_and_requests(frame: &mut Frame<'_>, area: Rect, view: &View, status: &Status) {
    // A border, the header and the rows; the requests get a third at least.
    let wanted = u16::try_from(status.models.len())
        .unwrap_or(u16::MAX)
        .saturating_add(3);
    let models_height = wanted.min(area.height - area.height / 3);
    let [models, requests] =
        Layout::vertical([Constraint::Length(models_height), Constraint::Min(0)]).areas(area);
    draw_models(frame, models, view, status);
    draw_requests(frame, requests, view);
}

fn draw_models(frame: &mut Frame<'_>, area: Rect, view: &View, status: &Status) {
    let rows = status
        .models
        .iter()
        .map(|model| model_row(status, model, view.now));
    let names = status.models.iter().map(|model| model.id.chars().count());
    let longest = u16::try_from(names.max().unwrap_or_default()).unwrap_or(u16::MAX);
    let widths = [
        Constraint::Length(longest.max(5).min(area.width / 3)),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Min(8),
    ];
    let header =
        Row::new(["MODEL", "STATE", "MEMORY", "TOK/S", "BUSY", "WAIT", ""]).style(Modifier::BOLD);
    let table = Table::new(rows, widths)
        .header(header)
        .highlight_symbol("> ")
        .row_highlight_style(Modifier::REVERSED)
        .block(Block::new().borders(Borders::TOP).title(" Models "));
    let mut state = TableState::new().with_selected(view.selection());
    frame.render_stateful_widget(table, area, &mut state);
}

fn model_row<'m>(status: &Status, model: &'m ModelStatus, now: f64) -> Row<'m> {
    let (facts, activity) = (&model.metadata.facts, &model.metadata.activity);
    let (state, color) = state(facts.process_state, facts.memory_state);
    let rate = activity.usage.last_tokens_per_second;
    let waiting = activity.waiting_requests + activity.parked_requests;
    Row::new([
        Cell::from(model.id.as_str()),
        Cell::from(Span::styled(state, color)),
        Cell::from(activity.memory_bytes.map_or_else(String::new, notes::gib)),
        Cell::from(rate.map_or_else(String::new, |rate| format!("{rate:>5.1}"))),
        Cell::from(count(activity.active_requests)),
        Cell::from(count(waiting)),
        Cell::from(notes::detail(status, model, now).unwrap_or_default()),
    ])
}

/// Zero is nothing to look at.
fn count(count: usize) -> String {
    match count {
        0 => String::new(),
        count => count.to_string(),
    }
}

/// One word for a model, and its colour.
fn state(process: ProcessState, memory: MemoryState) -> (&'static str, Style) {
    match (process, memory) {
        (ProcessState::Failed, _) | (_, MemoryState::Failed) => ("failed", Color::Red.into()),
        (_, MemoryState::Loading) => ("loading", Color::Yellow.into()),
        (ProcessState::Running, MemoryState::Loaded) => ("loaded", Color::Green.into()),
        (ProcessState::Running, memory) => (memory.as_str(), Style::new()),
        (process, _) => (process.as_str(), Style::new()),
    }
}

fn draw_requests(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let is_wide = area.width >= WIDE;
    let rows = view
        .requests
        .iter()
        .map(|request| request_row(request, view, is_wide));
    let mut widths = vec![
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(area.width / 4),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Min(10),
    ];
    let mut names = vec![
        "TIME", "STATUS", "MODEL", "SECONDS", "TOKENS", "TOK/S", "PATH",
    ];
    if is_wide {
        widths.push(Constraint::Length(16));
        names.push("CLIENT");
    }
    let header = Row::new(names).style(Modifier::BOLD);
    let table = Table::new(rows, widths)
        .header(header)
        .block(Block::new().borders(Borders::TOP).title(" Last requests "));
    frame.render_widget(table, area);
}

fn request_row<'r>(request: &'r EndedRequest, view: &View, is_wide: bool) -> Row<'r> {
    let style = match request.status {
        500.. => Style::from(Color::Red),
        400..500 => Style::from(Color::Yellow),
        _ => Style::new(),
    };
    let mut cells = vec![
        clock(request.time, view),
        request.status.to_string(),
        request.model.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{:>7.2}", request.seconds),
        request
            .completion_tokens
            .map_or_else(String::new, |tokens| format!("{tokens:>6}")),
        request
            .tokens_per_second
            .map_or_else(String::new, |rate| format!("{rate:>5.1}")),
        request.path.clone(),
    ];
    if is_wide {
        cells.push(request.client.clone());
    }
    Row::new(cells).style(style)
}

/// The time of day.
fn clock(time: f64, view: &View) -> String {
    let time = jiff::Timestamp::from_millisecond((time * 1000.0) as i64);
    time.map_or_else(
        |_| "-".to_owned(),
        |time| {
            time.to_zoned(view.zone.clone())
                .strftime("%H:%M:%S")
                .to_string()
        },
    )
}

fn draw_text(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, above: u16) {
    let block = Block::bordered()
        .title(format!(" {title} "))
        .padding(ratatui::widgets::Padding::new(1, 1, above, 0));
    let text = Paragraph::new(text).block(block).wrap(Wrap { trim: false });
    frame.render_widget(text, area);
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::Fed;
    use super::super::view::tests::status;
    use super::*;

    const NOW: f64 = 1_764_000_000.0;

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    fn view() -> View {
        let mut view = View::new(TimeZone::UTC);
        view.now = NOW;
        let mut status = status(&[
            (
                "qwen3-coder-30b",
                json!({"memory_state": "loaded", "last_load_at": NOW - 900.0,
                "memory_bytes": 17_u64 << 30, "active_requests": 2, "waiting_requests": 1,
                "usage": {"requests": 9, "prompt_tokens": 100, "completion_tokens": 50,
                    "last_tokens_per_second": 42.123}}),
            ),
            (
                "gemma3-27b",
                json!({"memory_state": "loading", "memory_last_transition_at": NOW - 12.0,
                "load_seconds": 40.0, "parked_requests": 1}),
            ),
            (
                "embed",
                json!({"memory_state": "loaded", "last_load_at": NOW - 780.0,
                "memory_bytes": 1_u64 << 30, "auto_unload_minutes": 30}),
            ),
            (
                "whisper",
                json!({"process_state": "failed", "memory_state": "failed",
                "memory_last_error": "the folder is gone; its log ends:\n  x"}),
            ),
            ("rest", json!({"process_state": "stopped"})),
        ]);
        status.warnings = vec!["the disk is full".to_owned()];
        view.hear(Fed::Status(Box::new(status)));
        let request = |number: u64, status: u16, model: Option<&str>| EndedRequest {
            number,
            time: NOW + number as f64,
            client: "192.168.0.17".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            model: model.map(str::to_owned),
            status,
            seconds: 3.456,
            completion_tokens: Some(128).filter(|_| status == 200),
            tokens_per_second: Some(41.5).filter(|_| status == 200),
            ..EndedRequest::default()
        };
        view.hear(Fed::Requests(vec![
            request(1, 200, Some("qwen3-coder-30b")),
            request(2, 404, None),
            request(3, 503, Some("whisper")),
        ]));
        view.chosen = Some("embed".to_owned());
        view
    }

    #[test]
    fn models_and_requests_fit_a_small_screen() {
        insta::assert_snapshot!(drawn(&view(), 80, 24));
    }

    #[test]
    fn a_larger_screen_shows_more_of_them() {
        insta::assert_snapshot!(drawn(&view(), 120, 40));
    }

    #[test]
    fn that_there_is_no_hub_is_said_and_so_is_what_is_waited_for() {
        let mut view = view();
        view.hear(Fed::Lost(crate::cli::NOT_RUNNING.to_owned()));
        insta::assert_snapshot!(drawn(&view, 80, 24));
    }

    #[test]
    fn the_help_explains_keys_and_columns() {
        let mut view = view();
        view.page = Page::Help;
        insta::assert_snapshot!(drawn(&view, 80, 24));
    }

    #[test]
    fn a_log_shows_its_end_and_a_notice_takes_the_place_of_the_keys() {
        let mut view = view();
        view.notice = "embed: unloading".to_owned();
        assert!(drawn(&view, 80, 24).contains("embed: unloading"));
        let lines = (1..=100).map(|line| format!("line {line}\n"));
        view.page = Page::Log("embed".to_owned(), lines.collect());
        let shown = drawn(&view, 80, 24);
        assert!(
            shown.contains("line 100") && !shown.contains("line 70"),
            "{shown}"
        );
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (10, 3), (300, 100)] {
            drawn(&view(), width, height);
        }
    }
}
