//! Decides: from what a gateway says of this hub, and what the hub is, to the calls that make the two agree.
//!
//! Pure, so that it is tested against gateways that forget, lie and lag behind. Entries of other hubs are none of
//! its business.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::FleetEntry;

/// The path below which the gateway has an address for each model: it keeps one model for an address.
pub(super) const BELOW: &str = "/fleet/";

/// A model of this hub, as the gateway should know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) model: String,
    pub(super) url: String,
    /// What it can do, in the gateway's words.
    pub(super) abilities: Vec<&'static str>,
    /// Tokens.
    pub(super) context_length: u32,
    pub(super) labels: BTreeMap<String, String>,
}

/// This hub, as the gateway should know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The address of the hub, without a slash at its end.
    pub(super) advertise: String,
    pub(super) members: Vec<Member>,
}

/// An entry of the gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) url: String,
    /// The gateway's word: `ready`, `pending`, `not_ready`, `failed` or `draining`.
    pub(super) status: String,
    pub(super) models: Vec<HeardModel>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A model of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HeardModel {
    pub(super) id: String,
    pub(super) abilities: BTreeSet<String>,
    pub(super) context_length: Option<u32>,
}

/// A registration that the gateway has accepted and does not list yet, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// It is being worked on.
    UnderWay,
    /// It came to nothing, for this reason.
    Failed(String),
}

/// A call to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Register(Member),
    /// Replaces an entry as a whole.
    Replace {
        id: String,
        member: Member,
    },
    /// Sets labels, and leaves all else.
    Label {
        id: String,
        labels: BTreeMap<String, String>,
    },
    Remove {
        id: String,
    },
}

/// The calls to make, and what there is to tell about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    pub(super) calls: Vec<Call>,
    pub(super) entries: Vec<FleetEntry>,
}

impl Plan {
    /// True if the gateway knows all as it is.
    pub(super) fn is_settled(&self) -> bool {
        self.entries.iter().all(|entry| entry.differs.is_empty())
    }
}

impl Own {
    /// The model of an address below this hub's.
    fn model_at<'u>(&self, url: &'u str) -> Option<&'u str> {
        let rest = url.strip_prefix(&*self.advertise)?;
        rest.strip_prefix(BELOW)
    }
}

/// Compares the two. `jobs` are those of registrations that `heard` does not have.
pub(super) fn plan(own: &Own, heard: &[Heard], jobs: &BTreeMap<String, Job>) -> Plan {
    let mut plan = Plan::default();
    let mut known = BTreeSet::new();
    for member in &own.members {
        let mut entries = heard.iter().filter(|entry| entry.url == member.url);
        let entry = match entries.next() {
            Some(entry) => {
                known.insert(&*entry.id);
                compare(member, entry, &mut plan.calls)
            }
            None => missing(member, jobs.get(&member.url), &mut plan.calls),
        };
        plan.entries.push(entry);
    }
    for entry in heard.iter().filter(|entry| !known.contains(&*entry.id)) {
        let Some(model) = own.model_at(&entry.url) else {
            continue;
        };
        // One that is draining is on its way out.
        if entry.status != "draining" {
            let id = entry.id.clone();
            plan.calls.push(Call::Remove { id });
        }
        let is_there = own.members.iter().any(|member| member.url == entry.url);
        let why = match is_there {
            true => "the gateway has a second entry of it",
            false => "the gateway should not have it",
        };
        plan.entries.push(FleetEntry {
            model: model.to_owned(),
            url: entry.url.clone(),
            status: Some(entry.status.clone()),
            differs: vec![why.to_owned()],
        });
    }
    plan
}

fn missing(member: &Member, job: Option<&Job>, calls: &mut Vec<Call>) -> FleetEntry {
    let why = match job {
        Some(Job::UnderWay) => "the gateway is still registering it".to_owned(),
        Some(Job::Failed(reason)) => format!("the gateway could not register it: {reason}"),
        None => "the gateway does not know it".to_owned(),
    };
    if job != Some(&Job::UnderWay) {
        calls.push(Call::Register(member.clone()));
    }
    FleetEntry {
        model: member.model.clone(),
        url: member.url.clone(),
        status: None,
        differs: vec![why],
    }
}

fn compare(member: &Member, entry: &Heard, calls: &mut Vec<Call>) -> FleetEntry {
    let mut differs = wrong(member, entry);
    let id = entry.id.clone();
    if entry.status == "draining" {
        // It can only be registered again once it is gone.
        differs.push("the gateway is about to remove it".to_owned());
    } else if !differs.is_empty() || entry.status == "failed" {
        if entry.status == "failed" {
            differs.push("the gateway has given it up".to_owned());
        }
        let member = member.clone();
        calls.push(Call::Replace { id, member });
    } else if let Some(different) = other_label(member, entry) {
        differs.push(different);
        let labels = member.labels.clone();
        calls.push(Call::Label { id, labels });
    }
    FleetEntry {
        model: member.model.clone(),
        url: member.url.clone(),
        status: Some(entry.status.clone()),
        differs,
    }
}

/// What an entry says wrongly about the model.
fn wrong(member: &Member, entry: &Heard) -> Vec<String> {
    let [model] = &entry.models[..] else {
        let names: Vec<_> = entry.models.iter().map(|model| &*model.id).collect();
        return vec![format!("the gateway takes it for [{}]", names.join(", "))];
    };
    let mut differs = Vec::new();
    if model.id != member.model {
        differs.push(format!("the gateway takes it for `{}`", model.id));
    }
    // A gateway may know of more: what an entry says besides is harmless.
    let lacks: Vec<_> = member
        .abilities
        .iter()
        .filter(|ability| !model.abilities.contains(**ability))
        .copied()
        .collect();
    if !lacks.is_empty() {
        differs.push(format!(
            "the gateway does not know that it can {}",
            lacks.join(", ")
        ));
    }
    if model.context_length != Some(member.context_length) {
        let heard = model.context_length;
        let heard = heard.map_or_else(|| "none".to_owned(), |length| length.to_string());
        differs.push(format!(
            "its context length is {heard} there, and {} here",
            member.context_length
        ));
    }
    differs
}

/// The first label that is another one there. Those that only the gateway has are its own.
fn other_label(member: &Member, entry: &Heard) -> Option<String> {
    let mut labels = member.labels.iter();
    let (name, here) = labels.find(|(name, value)| entry.labels.get(*name) != Some(value))?;
    let there = entry.labels.get(name).map_or("none", String::as_str);
    Some(format!(
        "label `{name}` is `{there}` there, and `{here}` here"
    ))
}

#[cfg(test)]
mod tests;
