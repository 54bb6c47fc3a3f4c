use proptest::prelude::*;

use super::*;

const HUB: &str = "http://mac.local:8000";

fn member(model: &str) -> Member {
    Member {
        model: model.to_owned(),
        url: format!("{HUB}{BELOW}{model}"),
        abilities: vec!["chat", "tools"],
        context_length: 4096,
        labels: [("memory".to_owned(), "loaded".to_owned())].into(),
    }
}

fn own(models: &[&str]) -> Own {
    Own {
        advertise: HUB.to_owned(),
        members: models.iter().map(|model| member(model)).collect(),
    }
}

/// A gateway that does as it is told.
#[derive(Debug, Clone, Default)]
struct Gateway {
    entries: Vec<Heard>,
    made: u32,
}

impl Gateway {
    fn entry(id: String, member: &Member) -> Heard {
        Heard {
            id,
            url: member.url.clone(),
            status: "ready".to_owned(),
            models: vec![HeardModel {
                id: member.model.clone(),
                abilities: member.abilities.iter().map(ToString::to_string).collect(),
                context_length: Some(member.context_length),
            }],
            labels: member.labels.clone(),
        }
    }

    fn with(members: &[Member]) -> Self {
        let mut gateway = Self::default();
        for member in members {
            gateway.hear(&Call::Register(member.clone()));
        }
        gateway
    }

    fn hear(&mut self, call: &Call) {
        match call {
            Call::Register(member) => {
                let is_there = self.entries.iter().any(|entry| entry.url == member.url);
                assert!(!is_there, "{member:?} is registered twice");
                self.made += 1;
                self.entries
                    .push(Self::entry(format!("new{}", self.made), member));
            }
            Call::Replace { id, member } => {
                let entry = self.entries.iter_mut().find(|entry| entry.id == *id);
                let entry = entry.expect("an entry to replace");
                assert_eq!(entry.url, member.url);
                *entry = Self::entry(id.clone(), member);
            }
            Call::Label { id, labels } => {
                let entry = self.entries.iter_mut().find(|entry| entry.id == *id);
                entry.unwrap().labels.extend(labels.clone());
            }
            Call::Remove { id } => {
                let before = self.entries.len();
                self.entries.retain(|entry| entry.id != *id);
                assert_eq!(self.entries.len() + 1, before, "nothing to remove");
            }
        }
    }
}

fn calls(own: &Own, heard: &[Heard]) -> Vec<Call> {
    plan(own, heard, &BTreeMap::new()).calls
}

#[test]
fn a_gateway_that_knows_nothing_is_told_all_and_one_that_knows_all_nothing() {
    let own = own(&["a", "b"]);
    let plan = plan(&own, &[], &BTreeMap::new());
    let [a, b] = ["a", "b"].map(member);
    assert_eq!(
        plan.calls,
        [Call::Register(a.clone()), Call::Register(b.clone())]
    );
    assert!(!plan.is_settled());
    let knowing = Gateway::with(&[b, a]);
    let settled = super::plan(&own, &knowing.entries, &BTreeMap::new());
    assert_eq!(settled.calls, []);
    assert!(settled.is_settled());
}

#[test]
fn a_registration_under_way_is_waited_for_and_one_that_failed_is_made_again() {
    let own = own(&["a"]);
    let url = member("a").url;
    let jobs = [(url.clone(), Job::UnderWay)].into();
    let waits = plan(&own, &[], &jobs);
    assert_eq!(waits.calls, []);
    assert!(!waits.is_settled());
    let jobs = [(url, Job::Failed("connection refused".to_owned()))].into();
    let again = plan(&own, &[], &jobs);
    assert_eq!(again.calls, [Call::Register(member("a"))]);
    assert!(again.entries[0].differs[0].contains("connection refused"));
}

#[test]
fn a_lie_about_a_model_is_corrected() {
    let own = own(&["a"]);
    let truth = Gateway::with(&[member("a")]).entries.remove(0);
    let lies: [fn(&mut Heard); 6] = [
        |entry| entry.models[0].id = "b".to_owned(),
        |entry| entry.models[0].context_length = Some(1),
        |entry| entry.models[0].context_length = None,
        |entry| entry.models[0].abilities.clear(),
        |entry| entry.models.clear(),
        |entry| entry.status = "failed".to_owned(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut heard = truth.clone();
        lie(&mut heard);
        let plan = plan(&own, &[heard], &BTreeMap::new());
        let replace = Call::Replace {
            id: "new1".to_owned(),
            member: member("a"),
        };
        assert_eq!(plan.calls, [replace], "lie {number}");
        assert_eq!(plan.entries[0].differs.len(), 1, "lie {number}");
    }
}

#[test]
fn labels_are_set_alone_and_the_gateways_own_stay() {
    let own = own(&["a"]);
    let mut gateway = Gateway::with(&[member("a")]);
    let labels = &mut gateway.entries[0].labels;
    labels.insert("served_model_name".to_owned(), "a".to_owned());
    assert_eq!(calls(&own, &gateway.entries), []);
    gateway.entries[0]
        .labels
        .insert("memory".to_owned(), "unloaded".to_owned());
    let made = calls(&own, &gateway.entries);
    assert!(matches!(&made[..], [Call::Label { .. }]), "{made:?}");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut other = Gateway::with(&[member("a")]).entries.remove(0);
    for url in [
        "http://mini.local:8000/fleet/a",
        "http://mac.local:80001/fleet/a",
        "http://mac.local:8000",
        "http://mac.local:8000/other/a",
    ] {
        other.url = url.to_owned();
        let plan = plan(&own(&[]), &[other.clone()], &BTreeMap::new());
        assert_eq!(plan, Plan::default(), "{url}");
    }
}

#[test]
fn an_entry_on_its_way_out_is_waited_for() {
    let mut leaving = Gateway::with(&[member("a")]);
    leaving.entries[0].status = "draining".to_owned();
    for own in [own(&["a"]), own(&[])] {
        let plan = plan(&own, &leaving.entries, &BTreeMap::new());
        assert_eq!(plan.calls, []);
        assert!(!plan.is_settled());
    }
}

/// What a gateway may say: anything about any of a few addresses, some of them ours.
fn heard() -> impl Strategy<Value = Vec<Heard>> {
    let hosts = prop::sample::select(vec![HUB, "http://mini.local:8000"]);
    let names = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let statuses = prop::sample::select(vec!["ready", "pending", "not_ready", "failed"]);
    let length = prop::option::of(prop::sample::select(vec![1_u32, 4096]));
    let abilities = prop::collection::btree_set(
        prop::sample::select(vec!["chat", "tools", "vision"]).prop_map(str::to_owned),
        0..3,
    );
    let models = prop::collection::vec((names(), abilities, length), 0..3);
    let label = prop::option::of(prop::sample::select(vec!["loaded", "unloaded"]));
    let entry = (hosts, names(), statuses, models, label);
    prop::collection::vec(entry, 0..8).prop_map(|entries| {
        let entries = entries.into_iter().enumerate();
        let entries = entries.map(|(number, (host, model, status, models, label))| Heard {
            id: number.to_string(),
            url: format!("{host}{BELOW}{model}"),
            status: status.to_owned(),
            models: models
                .into_iter()
                .map(|(id, abilities, context_length)| HeardModel {
                    id: id.to_owned(),
                    abilities,
                    context_length,
                })
                .collect(),
            labels: label
                .into_iter()
                .map(|label| ("memory".to_owned(), label.to_owned()))
                .collect(),
        });
        entries.collect()
    })
}

proptest! {
    /// Whatever a gateway says, one round of calls makes it say what is true, and touches nothing of others.
    #[test]
    fn one_round_settles_everything(entries in heard(), models in prop::sample::subsequence(vec!["a", "b", "c"], 0..=3)) {
        let own = own(&models);
        let others = |entries: &[Heard]| -> Vec<Heard> {
            entries.iter().filter(|entry| !entry.url.starts_with(HUB)).cloned().collect()
        };
        let before = others(&entries);
        let mut gateway = Gateway { entries, made: 0 };
        let first = plan(&own, &gateway.entries, &BTreeMap::new());
        prop_assert_eq!(first.is_settled(), first.calls.is_empty());
        for call in &first.calls {
            gateway.hear(call);
        }
        let second = plan(&own, &gateway.entries, &BTreeMap::new());
        prop_assert_eq!(&second.calls, &vec![]);
        prop_assert!(second.is_settled());
        prop_assert_eq!(second.entries.len(), models.len());
        prop_assert_eq!(others(&gateway.entries), before);
    }
}
