//! The state of `top`: it changes by keys and by the hub's news, and is what the screen shows. It does no I/O.

use std::collections::VecDeque;
use std::path::PathBuf;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use jiff::tz::TimeZone;

use super::Fed;
use crate::api::{EndedRequest, ModelStatus, Status, Verb};
use crate::cli::client::Client;

/// Requests that are kept.
const REQUESTS: usize = 200;

/// The page that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Models,
    Help,
    /// The log of a model, with its text.
    Log(String, String),
}

/// The wish of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Quit,
    Verb(Verb, String),
    /// The log has to be read.
    Log,
}

/// All that is drawn.
#[derive(Debug)]
pub(super) struct View {
    /// Unix seconds.
    pub(super) now: f64,
    pub(super) zone: TimeZone,
    /// The hub that answers.
    pub(super) client: Option<Client>,
    /// Its snapshot; none while there is no hub.
    pub(super) status: Option<Status>,
    /// The reason why there is none.
    pub(super) lost: String,
    /// The last requests, the newest first.
    pub(super) requests: VecDeque<EndedRequest>,
    /// The name of the chosen model.
    pub(super) chosen: Option<String>,
    pub(super) page: Page,
    /// The outcome of the last key.
    pub(super) notice: String,
    /// A model whose stop was asked for once.
    asked: Option<String>,
}

impl View {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self {
            now: 0.0,
            zone,
            client: None,
            status: None,
            lost: "Looking for the hub".to_owned(),
            requests: VecDeque::new(),
            chosen: None,
            page: Page::Models,
            notice: String::new(),
            asked: None,
        }
    }

    pub(super) fn models(&self) -> &[ModelStatus] {
        self.status.as_ref().map_or(&[], |status| &status.models)
    }

    /// The place of the chosen model; the first one until another is chosen.
    pub(super) fn selection(&self) -> usize {
        let place = |name: &String| self.models().iter().position(|model| model.id == *name);
        self.chosen.as_ref().and_then(place).unwrap_or_default()
    }

    fn selected(&self) -> Option<&ModelStatus> {
        self.models().get(self.selection())
    }

    /// The file of the log that is shown.
    pub(super) fn log_path(&self) -> Option<PathBuf> {
        let Page::Log(name, _) = &self.page else {
            return None;
        };
        let model = self.models().iter().find(|model| model.id == *name)?;
        model.metadata.facts.log_path.as_deref().map(PathBuf::from)
    }

    pub(super) fn show_log(&mut self, new: String) {
        if let Page::Log(_, text) = &mut self.page {
            *text = new;
        }
    }

    /// Notes what the hub tells.
    pub(super) fn hear(&mut self, news: Fed) {
        match news {
            Fed::Hub(client) => self.client = Some(client),
            Fed::Status(status) => self.status = Some(*status),
            Fed::Change(change) => match &mut self.status {
                Some(status) => change.apply(status),
                None => self.status = Some(change.into_status()),
            },
            Fed::Requests(requests) => {
                for request in requests {
                    let newest = self.requests.front().map_or(0, |newest| newest.number);
                    if request.number > newest {
                        self.requests.push_front(request);
                    }
                }
                self.requests.truncate(REQUESTS);
            }
            Fed::Lost(why) => {
                // Another hub counts its requests from 1.
                self.requests.clear();
                self.client = None;
                self.status = None;
                self.lost = why;
                if matches!(self.page, Page::Log(..)) {
                    self.page = Page::Models;
                }
            }
        }
    }

    /// Notes what a verb has come to.
    pub(super) fn done(&mut self, model: &str, verb: Verb, answer: Result<String, String>) {
        self.notice = match answer {
            Ok(message) => message,
            Err(error) => {
                let error = error.lines().next().unwrap_or_default();
                format!("{model}: {} failed: {error}", verb.as_str())
            }
        };
    }

    /// Applies a key, and returns what it asks for.
    pub(super) fn take(&mut self, event: &Event) -> Option<Act> {
        let Event::Key(key) = event else { return None };
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let asked = self.asked.take();
        if is_control_c(key) {
            return Some(Act::Quit);
        }
        if self.page != Page::Models {
            return match key.code {
                KeyCode::Char('q' | 'g' | '?' | 'h') | KeyCode::Esc | KeyCode::Enter => {
                    self.page = Page::Models;
                    None
                }
                _ => None,
            };
        }
        self.notice.clear();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Act::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.page = Page::Help,
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Home => self.choose(isize::MIN),
            KeyCode::End => self.choose(isize::MAX),
            KeyCode::Char('s') => return self.act(Verb::Start),
            KeyCode::Char('l') => return self.act(Verb::Load),
            KeyCode::Char('u') => return self.act(Verb::Unload),
            KeyCode::Char('x') => return self.stop(asked.as_deref()),
            KeyCode::Char('g') | KeyCode::Enter => return self.open_log(),
            _ => {}
        }
        None
    }

    fn choose(&mut self, by: isize) {
        let last = self.models().len().saturating_sub(1);
        let place = self.selection().saturating_add_signed(by).min(last);
        self.chosen = self.models().get(place).map(|model| model.id.clone());
    }

    fn act(&mut self, verb: Verb) -> Option<Act> {
        let name = self.selected()?.id.clone();
        self.notice = format!("{name}: {}", verb.under_way());
        Some(Act::Verb(verb, name))
    }

    /// Nothing is stopped by one key.
    fn stop(&mut self, asked: Option<&str>) -> Option<Act> {
        let model = self.selected()?;
        if asked == Some(&model.id) {
            return self.act(Verb::Stop);
        }
        let name = model.id.clone();
        self.notice = match model.metadata.activity.active_requests {
            0 => format!("press x again to stop {name}"),
            1 => format!("press x again to stop {name}, which has 1 request in flight"),
            many => format!("press x again to stop {name}, which has {many} requests in flight"),
        };
        self.asked = Some(name);
        None
    }

    fn open_log(&mut self) -> Option<Act> {
        let model = self.selected()?;
        if model.metadata.facts.log_path.is_none() {
            self.notice = format!("{} has `no_log_file: true`", model.id);
            return None;
        }
        self.page = Page::Log(model.id.clone(), String::new());
        Some(Act::Log)
    }
}

fn is_control_c(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c')
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::top::feed::Change;

    /// A status of models, each with what it has besides the usual.
    pub(in crate::cli::top) fn status(models: &[(&str, Value)]) -> Status {
        let models: Vec<Value> = models
            .iter()
            .map(|(name, facts)| {
                let mut metadata = json!({
                    "status": "running", "process_state": "running", "memory_state": "unloaded", "group": null,
                    "model_type": "lm", "model_path": "org/a", "default": false, "jit_enabled": false,
                    "auto_unload_minutes": null, "log_path": format!("/logs/{name}.log"),
                    "memory_last_transition_at": null, "memory_last_error": null, "last_load_at": null,
                    "last_unload_at": null, "pid": null, "port": null, "started_at": null, "stopped_at": null,
                    "exit_code": null, "active_requests": 0, "waiting_requests": 0, "last_request_at": null,
                });
                for (key, value) in facts.as_object().unwrap() {
                    metadata[key] = value.clone();
                }
                json!({"id": name, "object": "model", "created": 0, "owned_by": "hub", "metadata": metadata})
            })
            .collect();
        serde_json::from_value(json!({
            "status": "ok", "timestamp": 0, "host": "127.0.0.1", "port": 8000, "warnings": [],
            "controller_available": true, "groups": [], "models": models,
            "counts": {"registered": models.len(), "started": 2, "loaded": 1},
            "memory": {"total": 64_u64 << 30, "available": 30_u64 << 30, "returning": 0, "pressure": "normal"},
        }))
        .unwrap()
    }

    fn view() -> View {
        let mut view = View::new(TimeZone::UTC);
        let models = [
            ("a", json!({})),
            ("b", json!({})),
            ("c", json!({"log_path": null})),
        ];
        view.hear(Fed::Status(Box::new(status(&models))));
        view
    }

    fn press(view: &mut View, code: KeyCode) -> Option<Act> {
        view.take(&Event::Key(code.into()))
    }

    #[test]
    fn keys_act_on_the_chosen_model() {
        let mut view = view();
        assert_eq!(
            press(&mut view, KeyCode::Char('u')),
            Some(Act::Verb(Verb::Unload, "a".to_owned()))
        );
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::Char('j'));
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::Up);
        assert_eq!(
            press(&mut view, KeyCode::Char('l')),
            Some(Act::Verb(Verb::Load, "b".to_owned()))
        );
        assert_eq!(view.notice, "b: loading");
        view.done("b", Verb::Load, Err("no room\nhint: none".to_owned()));
        assert_eq!(view.notice, "b: load failed: no room");
        press(&mut view, KeyCode::End);
        assert_eq!(
            press(&mut view, KeyCode::Char('s')),
            Some(Act::Verb(Verb::Start, "c".to_owned()))
        );
        press(&mut view, KeyCode::Home);
        assert_eq!(view.selection(), 0);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Some(Act::Quit));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.take(&Event::Key(control_c)), Some(Act::Quit));
    }

    #[test]
    fn a_model_is_stopped_by_the_second_press_only() {
        let mut view = view();
        assert_eq!(press(&mut view, KeyCode::Char('x')), None);
        assert_eq!(view.notice, "press x again to stop a");
        press(&mut view, KeyCode::Down);
        assert_eq!(press(&mut view, KeyCode::Char('x')), None);
        let stop = Act::Verb(Verb::Stop, "b".to_owned());
        assert_eq!(press(&mut view, KeyCode::Char('x')), Some(stop));
    }

    #[test]
    fn the_choice_follows_its_model_and_the_page_of_a_log_ends_with_the_hub() {
        let mut view = view();
        press(&mut view, KeyCode::Down);
        let moved = [("b", json!({})), ("a", json!({}))];
        view.hear(Fed::Status(Box::new(status(&moved))));
        assert_eq!(view.selection(), 0);
        assert_eq!(press(&mut view, KeyCode::Char('g')), Some(Act::Log));
        assert_eq!(view.log_path(), Some("/logs/b.log".into()));
        view.show_log("one line".to_owned());
        assert_eq!(view.page, Page::Log("b".to_owned(), "one line".to_owned()));
        view.hear(Fed::Lost("it has ended".to_owned()));
        assert_eq!(view.page, Page::Models);
        assert!(view.models().is_empty());
        assert_eq!(press(&mut view, KeyCode::Char('u')), None);
    }

    #[test]
    fn a_model_without_a_log_says_so() {
        let mut view = view();
        press(&mut view, KeyCode::End);
        assert_eq!(press(&mut view, KeyCode::Enter), None);
        assert_eq!(view.notice, "c has `no_log_file: true`");
    }

    #[test]
    fn a_change_replaces_the_models_that_it_has_and_requests_come_once() {
        let mut view = view();
        let changed = status(&[("b", json!({"memory_state": "loaded"}))]);
        let order = Some(["d", "b", "a"].map(str::to_owned).to_vec());
        let change = |status, order| Fed::Change(Box::new(Change { status, order }));
        view.hear(change(changed, None));
        let names = |view: &View| {
            let models = view.models().iter();
            models
                .map(|model| model.id.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(&view), "a b c");
        assert!(view.models()[1].metadata.facts.memory_state.holds_memory());
        view.hear(change(status(&[("d", json!({}))]), order));
        assert_eq!(names(&view), "d b a");

        let request = |number| EndedRequest {
            number,
            ..EndedRequest::default()
        };
        view.hear(Fed::Requests(vec![request(1), request(2)]));
        view.hear(Fed::Requests(vec![request(2), request(3)]));
        let numbers: Vec<u64> = view.requests.iter().map(|request| request.number).collect();
        assert_eq!(numbers, [3, 2, 1]);
    }
}
