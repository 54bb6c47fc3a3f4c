//! Lists what clients can ask for: the models that take requests, and the names that policies answer for. The list
//! of each API is written from it. Looking loads nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::api::{ApiError, MemoryState, ModelFacts, ProcessState, unix_now};
use crate::config::{ApiKey, ModelConfig};
use crate::core::refusals::{not_for_key, unknown_model};
use crate::hub::lifecycle::{Lifecycle, Model};
use crate::model_files;
use crate::policy::{DeclaredModel, LoadReason, LoadVerdict, Policies};

/// The files of a model are looked at again after so long.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The longest wait for them: they may lie on a disk that is gone.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// The key of hub.yaml that several engines have for it.
const REASONING_PARSER: &str = "reasoning_parser";

/// The lists' source. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Catalogue {
    lifecycle: Lifecycle,
    policies: Policies,
    lengths: Arc<Mutex<HashMap<String, Length>>>,
}

/// The context length that a model's own files tell.
#[derive(Debug, Clone)]
struct Length {
    read: Instant,
    model: ModelConfig,
    tokens: Option<u64>,
}

/// One line of a list.
#[derive(Debug, Clone)]
pub(super) struct CatalogueEntry {
    /// The name to ask for.
    pub(super) id: String,
    /// The model, or the one that usually answers for a name; `None` for a name of which no more is known.
    model: Option<Arc<Model>>,
    /// Its facts at the moment of the look.
    pub(super) facts: Option<Arc<ModelFacts>>,
    /// True for a name that a policy answers for.
    pub(super) is_declared: bool,
    /// A sentence of the policy about its name.
    pub(super) description: Option<String>,
    /// Unix seconds: of the model's start, or of hub.yaml.
    pub(super) created: u64,
    /// True if hub.yaml names what tells its model's reasoning apart from the answer.
    pub(super) thinks: bool,
    /// The context length that its own files tell, in tokens.
    own_context: Option<u64>,
    status: Option<Status>,
}

/// The outcome of a request for it at the moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Status {
    Loaded,
    /// So many seconds are left, if the load takes as long as the last one.
    Loading(Option<u64>),
    /// It loads the model, or waits until it can be loaded.
    Loadable,
    /// It is refused, with this text.
    Blocked(String),
}

impl Catalogue {
    pub(super) fn new(lifecycle: &Lifecycle, policies: &Policies) -> Self {
        Self {
            lifecycle: lifecycle.clone(),
            policies: policies.clone(),
            lengths: Arc::default(),
        }
    }

    /// The models that are started or starting in hub.yaml's order, then the names; of them what `key` may use.
    pub(super) async fn all(&self, key: Option<&ApiKey>) -> Vec<CatalogueEntry> {
        let models = self.lifecycle.models().into_iter();
        let models = models.map(|model| self.entry(&model));
        let mut all: Vec<CatalogueEntry> = models.filter(CatalogueEntry::takes_requests).collect();
        let declared = self.policies.declared().into_iter();
        // A model keeps its name, whatever a policy makes of it.
        let declared = declared.filter(|name| self.lifecycle.find(&name.name).is_none());
        all.extend(declared.map(|name| self.named(name)));
        all.retain(|entry| key.is_none_or(|key| entry.is_for(key)));
        self.read_lengths(&mut all).await;
        all
    }

    /// One of them by its name, a model also by its path and while it is not started.
    ///
    /// # Errors
    /// 404 when there is none, 403 when it is not for `key`.
    pub(super) async fn one(
        &self,
        id: &str,
        key: Option<&ApiKey>,
    ) -> Result<CatalogueEntry, ApiError> {
        let mut found = match self.lifecycle.find(id) {
            Some(model) => self.entry(&model),
            None => {
                let Some(declared) = self.policies.declared_for(id) else {
                    let names = self.policies.declared_names();
                    return Err(unknown_model(id, &self.lifecycle.config(), &names));
                };
                let name = id.to_owned();
                self.named(DeclaredModel { name, ..declared })
            }
        };
        if let Some(key) = key.filter(|key| !found.is_for(key)) {
            return Err(not_for_key(key, &found.id));
        }
        self.read_lengths(std::slice::from_mut(&mut found)).await;
        Ok(found)
    }

    fn entry(&self, model: &Arc<Model>) -> CatalogueEntry {
        let facts = model.facts.load_full();
        let started_at = facts.started_at.map(|time| time as u64);
        CatalogueEntry {
            id: facts.name.clone(),
            created: started_at.unwrap_or(self.lifecycle.config().modified_at),
            thinks: self.thinks(&facts.name),
            model: Some(Arc::clone(model)),
            facts: Some(facts),
            is_declared: false,
            description: None,
            own_context: None,
            status: None,
        }
    }

    fn named(&self, declared: DeclaredModel) -> CatalogueEntry {
        let model = declared.model.as_deref();
        let model = model.and_then(|model| self.lifecycle.find(model));
        CatalogueEntry {
            id: declared.name,
            created: self.lifecycle.config().modified_at,
            facts: model.as_ref().map(|model| model.facts.load_full()),
            thinks: (model.as_ref()).is_some_and(|model| self.thinks(&model.name)),
            model,
            is_declared: true,
            description: declared.description,
            own_context: None,
            status: None,
        }
    }

    fn thinks(&self, model: &str) -> bool {
        let config = self.lifecycle.config();
        let model = config.model(model);
        let mut options = model.into_iter().flat_map(|model| &model.options);
        options.any(|option| option.key == REASONING_PARSER)
    }

    /// Finds out the status of each. Policies are asked about the models that a request would load; nobody
    /// hears of it.
    pub(super) async fn look_at_status(&self, entries: &mut [CatalogueEntry]) {
        for entry in entries {
            let Some(facts) = entry.facts.clone() else {
                continue;
            };
            entry.status = Some(match at_once(&facts) {
                Some(status) => status,
                None => self.of_load(facts.name.clone()).await,
            });
        }
    }

    /// The status of a model that has to be loaded first.
    async fn of_load(&self, model: String) -> Status {
        let verdict = self.lifecycle.would_load(&model, LoadReason::Request, 1);
        match verdict.await {
            Ok(LoadVerdict::Allow | LoadVerdict::Evict(_) | LoadVerdict::Wait(_)) => {
                Status::Loadable
            }
            Ok(LoadVerdict::Reject(error)) | Err(error) => Status::Blocked(error.message),
        }
    }

    /// Fills in the context lengths that the models' own files tell. They are read once a minute at most.
    async fn read_lengths(&self, entries: &mut [CatalogueEntry]) {
        let config = self.lifecycle.config();
        let wanted = |entry: &CatalogueEntry| {
            let facts = entry.facts.as_ref()?;
            config.model(&facts.name).filter(|_| has_context(facts))
        };
        let stale: Vec<ModelConfig> = {
            let lengths = self.lengths.lock();
            let is_known = |model: &ModelConfig| {
                let known = lengths.get(&model.name);
                known
                    .is_some_and(|known| known.read.elapsed() < READ_AGAIN && known.model == *model)
            };
            let wanted = entries.iter().filter_map(&wanted);
            wanted.filter(|model| !is_known(model)).cloned().collect()
        };
        if !stale.is_empty() {
            let read = spawn_blocking(move || {
                let read = stale.into_iter().map(|model| Length {
                    tokens: model_files::context_length_of(&model),
                    read: Instant::now(),
                    model,
                });
                read.collect::<Vec<_>>()
            });
            if let Ok(Ok(read)) = timeout(READ_WITHIN, read).await {
                let mut lengths = self.lengths.lock();
                lengths.retain(|name, _| config.model(name).is_some());
                let read = read.into_iter();
                lengths.extend(read.map(|length| (length.model.name.clone(), length)));
            }
        }
        let lengths = self.lengths.lock();
        for entry in entries {
            let known = wanted(entry).and_then(|model| lengths.get(&model.name));
            entry.own_context = known.and_then(|known| known.tokens);
        }
    }
}

impl CatalogueEntry {
    /// True if it belongs into lists: a name, or a model that is started or starting.
    pub(super) fn takes_requests(&self) -> bool {
        self.is_declared || self.facts.as_ref().is_some_and(|facts| facts.is_started())
    }

    /// True if a key may use it, by its name or by that of the model that usually answers.
    fn is_for(&self, key: &ApiKey) -> bool {
        let model = self.model.as_ref();
        key.lets_use(&self.id) || model.is_some_and(|model| key.lets_use(&model.name))
    }

    /// True if its model is in memory.
    pub(super) fn is_loaded(&self) -> bool {
        let facts = self.facts.as_ref();
        facts.is_some_and(|facts| facts.memory_state == MemoryState::Loaded)
    }

    /// Its model's requests in flight.
    pub(super) fn active_requests(&self) -> usize {
        let model = self.model.as_ref();
        model.map_or(0, |model| model.gate.active())
    }

    /// Unix seconds of its model's last request.
    pub(super) fn last_used_at(&self) -> Option<f64> {
        self.model.as_ref()?.gate.last_used_at()
    }

    /// Seconds that the last client wished its model to stay in memory; negative for ever.
    pub(super) fn keep_alive(&self) -> Option<f64> {
        let (model, facts) = self.model.as_ref().zip(self.facts.as_ref())?;
        model.keep_alive(facts)
    }

    /// Bytes of memory that its model holds, or else the most that it has held.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let activity = self.model.as_ref()?.activity();
        activity.memory_bytes.or(activity.peak_bytes)
    }

    /// The status, after [`Catalogue::look_at_status`]; `None` for a name of which no more is known.
    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// The type in LM Studio's words; those that it lacks are hub.yaml's. A name of which no more is known is
    /// taken for a language model's.
    pub(super) fn kind(&self) -> &str {
        match self.facts.as_ref().map_or("lm", |facts| &*facts.model_type) {
            "lm" => "llm",
            "multimodal" => "vlm",
            other => other,
        }
    }

    /// True if it answers chats.
    pub(super) fn chats(&self) -> bool {
        matches!(self.kind(), "llm" | "vlm")
    }

    /// Tokens of a request and its answer together: hub.yaml's `context_length`, but no more than the model was
    /// made for. `None` for models that read no text, and where nothing is known.
    pub(super) fn context_length(&self) -> Option<u64> {
        let facts = self.facts.as_ref().filter(|facts| has_context(facts))?;
        let configured = u64::from(facts.context_length);
        Some(
            self.own_context
                .map_or(configured, |own| own.min(configured)),
        )
    }

    /// The context length that the model was made for, in tokens; hub.yaml's where its files do not tell.
    pub(super) fn max_context_length(&self) -> Option<u64> {
        self.own_context.or_else(|| self.context_length())
    }
}

/// The status of a model that no request has to load.
fn at_once(facts: &ModelFacts) -> Option<Status> {
    if !facts.is_started() {
        return Some(Status::Blocked(ApiError::not_started(&facts.name).message));
    }
    match facts.memory_state {
        MemoryState::Loaded => Some(Status::Loaded),
        MemoryState::Loading => {
            let passed = facts
                .memory_last_transition_at
                .map_or(0.0, |since| unix_now() - since);
            let left = facts
                .load_seconds
                .map(|last| (last - passed).ceil().max(1.0) as u64);
            Some(Status::Loading(left))
        }
        _ if facts.process_state == ProcessState::Starting => {
            let ahead = facts.load_seconds;
            Some(Status::Loading(
                ahead.map(|last| last.ceil().max(1.0) as u64),
            ))
        }
        MemoryState::Unloaded | MemoryState::Unloading | MemoryState::Failed => None,
    }
}

/// True for models that read text.
fn has_context(facts: &ModelFacts) -> bool {
    matches!(&*facts.model_type, "lm" | "multimodal" | "embeddings")
}

#[cfg(test)]
impl CatalogueEntry {
    /// The entry of a model with these facts.
    pub(super) fn of_facts(facts: ModelFacts, status: Status) -> Self {
        Self {
            id: facts.name.clone(),
            model: None,
            created: facts.started_at.map_or(7, |time| time as u64),
            facts: Some(Arc::new(facts)),
            is_declared: false,
            description: None,
            thinks: false,
            own_context: None,
            status: Some(status),
        }
    }

    /// The entry of a name of which no more is known.
    pub(super) fn of_name(name: &str, description: &str) -> Self {
        Self {
            id: name.to_owned(),
            model: None,
            facts: None,
            is_declared: true,
            description: Some(description.to_owned()),
            created: 7,
            thinks: false,
            own_context: None,
            status: None,
        }
    }

    /// With what the model's files would tell.
    pub(super) fn made_for(mut self, tokens: u64) -> Self {
        self.own_context = Some(tokens);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(process_state: ProcessState, memory_state: MemoryState) -> ModelFacts {
        ModelFacts {
            name: "alpha".to_owned(),
            model_type: "lm".into(),
            context_length: 32_768,
            process_state,
            memory_state,
            load_seconds: Some(40.0),
            memory_last_transition_at: Some(unix_now() - 10.0),
            ..ModelFacts::default()
        }
    }

    #[test]
    fn a_model_on_its_way_says_how_long_that_takes_and_one_that_is_not_started_why_it_is_blocked() {
        use {MemoryState as Memory, ProcessState as Process};
        for (process, memory, status) in [
            (Process::Running, Memory::Loaded, Some(Status::Loaded)),
            (
                Process::Running,
                Memory::Loading,
                Some(Status::Loading(Some(30))),
            ),
            // A JIT model whose worker comes up, and one that waits for memory.
            (
                Process::Starting,
                Memory::Unloaded,
                Some(Status::Loading(Some(40))),
            ),
            (
                Process::Starting,
                Memory::Loading,
                Some(Status::Loading(Some(30))),
            ),
            (Process::Running, Memory::Unloaded, None),
            (Process::Running, Memory::Unloading, None),
            (Process::Running, Memory::Failed, None),
        ] {
            assert_eq!(
                at_once(&facts(process, memory)),
                status,
                "{process:?} {memory:?}"
            );
        }
        let mut late = facts(Process::Running, Memory::Loading);
        late.memory_last_transition_at = Some(unix_now() - 100.0);
        assert_eq!(at_once(&late), Some(Status::Loading(Some(1))));
        late.load_seconds = None;
        assert_eq!(at_once(&late), Some(Status::Loading(None)));
        let stopped = at_once(&facts(Process::Stopped, Memory::Unloaded));
        let Some(Status::Blocked(why)) = stopped else {
            panic!("{stopped:?}");
        };
        assert!(why.contains("`alpha` is not started"), "{why}");
    }

    #[test]
    fn a_context_is_what_both_hub_yaml_and_the_model_allow() {
        let of = |model_type: &'static str, own: Option<u64>| {
            let mut facts = facts(ProcessState::Running, MemoryState::Loaded);
            facts.model_type = model_type.into();
            let mut entry = CatalogueEntry::of_facts(facts, Status::Loaded);
            entry.own_context = own;
            (entry.context_length(), entry.max_context_length())
        };
        assert_eq!(of("lm", None), (Some(32_768), Some(32_768)));
        assert_eq!(of("lm", Some(262_144)), (Some(32_768), Some(262_144)));
        assert_eq!(of("embeddings", Some(512)), (Some(512), Some(512)));
        assert_eq!(of("whisper", None), (None, None));
        let name = CatalogueEntry::of_name("auto", "");
        assert_eq!((name.context_length(), name.kind()), (None, "llm"));
    }
}
