//! A fair order: clients in turn, and each client's requests first come, first served.
//!
//! The queue of a model keeps its requests in it, the machine those that wait for a load. Pure: it knows neither
//! time nor requests, only keys and names of clients.

use std::collections::VecDeque;
use std::sync::Arc;

/// Keys in a fair order. `K` is unique; every operation is linear in the number of keys, which
/// `queue_size` bounds.
#[derive(Debug, Clone)]
pub(crate) struct Fair<K> {
    /// The client at the front is the next one. None is without a key.
    turns: VecDeque<ClientTurns<K>>,
}

#[derive(Debug, Clone)]
struct ClientTurns<K> {
    name: Arc<str>,
    /// In the order they came.
    keys: VecDeque<K>,
}

impl<K> Default for Fair<K> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
        }
    }
}

impl<K: Copy + PartialEq> Fair<K> {
    /// Puts a key behind the others of its client. A client that had none comes last.
    pub(crate) fn push(&mut self, client: &Arc<str>, key: K) {
        if let Some(known) = self.turns.iter_mut().find(|known| known.name == *client) {
            return known.keys.push_back(key);
        }
        self.turns.push_back(ClientTurns {
            name: Arc::clone(client),
            keys: VecDeque::from([key]),
        });
    }

    /// The first key of each client, in the order of the turns.
    pub(crate) fn heads(&self) -> impl Iterator<Item = K> {
        self.turns
            .iter()
            .filter_map(|client| client.keys.front().copied())
    }

    /// Takes out a key that has been served: its client's next turn comes after those of all others.
    /// False when it is not there.
    pub(crate) fn serve(&mut self, key: K) -> bool {
        let Some(turn) = self.take(key) else {
            return false;
        };
        if let Some(client) = turn.and_then(|turn| self.turns.remove(turn)) {
            self.turns.push_back(client);
        }
        true
    }

    /// Takes out a key that does not want to be served any more; its client keeps its turn.
    pub(crate) fn cancel(&mut self, key: K) -> bool {
        self.take(key).is_some()
    }

    /// Takes out a key; `Some(Some(turn))` is the place of its client, if that still has others.
    fn take(&mut self, key: K) -> Option<Option<usize>> {
        let (turn, place) = self.turns.iter().enumerate().find_map(|(turn, client)| {
            let place = client.keys.iter().position(|other| *other == key)?;
            Some((turn, place))
        })?;
        let keys = &mut self.turns[turn].keys;
        keys.remove(place);
        if !keys.is_empty() {
            return Some(Some(turn));
        }
        self.turns.remove(turn);
        Some(None)
    }

    /// Serves the next one.
    pub(crate) fn next(&mut self) -> Option<K> {
        let key = self.heads().next()?;
        self.serve(key);
        Some(key)
    }

    /// Serves all.
    pub(crate) fn in_turn(mut self) -> impl Iterator<Item = K> {
        std::iter::from_fn(move || self.next())
    }

    /// All keys, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.turns.iter().flat_map(|client| &client.keys)
    }

    pub(crate) fn len(&self) -> usize {
        self.turns.iter().map(|client| client.keys.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    type Key = usize;

    #[derive(Debug, Clone)]
    enum Move {
        /// A request of that client comes.
        Come(u8),
        /// The next one is served.
        Serve,
        /// One of those that wait leaves.
        Leave(usize),
        /// One that is not the next is served, as when its time is up.
        ServeOther(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let a_move = prop_oneof![
            5 => (0u8..5).prop_map(Move::Come),
            4 => Just(Move::Serve),
            1 => any::<usize>().prop_map(Move::Leave),
            1 => any::<usize>().prop_map(Move::ServeOther),
        ];
        proptest::collection::vec(a_move, 0..200)
    }

    /// The expected state, kept in the simplest way: all waiting requests, in the order they came.
    #[derive(Default)]
    struct Books {
        waiting: Vec<(u8, Key)>,
        /// By client: who has been served since this client last was, or began to wait.
        passed_by: HashMap<u8, Vec<u8>>,
    }

    impl Books {
        fn come(&mut self, client: u8, key: Key) {
            if self.waiting.iter().all(|(other, _)| *other != client) {
                self.passed_by.insert(client, Vec::new());
            }
            self.waiting.push((client, key));
        }

        fn leave(&mut self, key: Key) -> u8 {
            let place = self.waiting.iter().position(|(_, other)| *other == key);
            self.waiting.remove(place.unwrap()).0
        }

        fn served(&mut self, key: Key) {
            let client = self.leave(key);
            self.passed_by.insert(client, Vec::new());
            for (waits, passed) in &mut self.passed_by {
                if *waits != client {
                    passed.push(client);
                }
            }
        }

        fn first_of(&self, client: u8) -> Key {
            let mut of_client = self.waiting.iter().filter(|(other, _)| *other == client);
            of_client.next().unwrap().1
        }
    }

    proptest! {
        #[test]
        fn each_is_served_once_in_the_order_of_its_client_and_no_client_is_passed_over_twice(
            moves in moves(),
        ) {
            let names: Vec<Arc<str>> = (0..5).map(|i| Arc::from(i.to_string())).collect();
            let (mut fair, mut books) = (Fair::default(), Books::default());
            let mut keys = 0;
            for a_move in moves {
                match a_move {
                    Move::Come(client) => {
                        keys += 1;
                        fair.push(&names[usize::from(client)], keys);
                        books.come(client, keys);
                    }
                    Move::Serve => {
                        let Some(key) = fair.next() else {
                            prop_assert!(books.waiting.is_empty());
                            continue;
                        };
                        let (client, _) = *books.waiting.iter().find(|(_, k)| *k == key).unwrap();
                        prop_assert_eq!(books.first_of(client), key, "out of its client's order");
                        books.served(key);
                        for (client, passed) in &books.passed_by {
                            let waits = books.waiting.iter().any(|(other, _)| other == client);
                            let twice = passed.iter().any(|one| {
                                passed.iter().filter(|other| *other == one).count() > 1
                            });
                            // Those served out of turn are counted too: no client gains by that.
                            prop_assert!(!waits || !twice, "{client} passed over: {passed:?}");
                        }
                    }
                    Move::Leave(which) if !books.waiting.is_empty() => {
                        let (_, key) = books.waiting[which % books.waiting.len()];
                        books.leave(key);
                        prop_assert!(fair.cancel(key));
                        prop_assert!(!fair.cancel(key), "gone");
                    }
                    Move::ServeOther(which) if !books.waiting.is_empty() => {
                        let (client, key) = books.waiting[which % books.waiting.len()];
                        books.leave(key);
                        // Its client's next turn comes later: it has no claim before that.
                        books.passed_by.insert(client, Vec::new());
                        prop_assert!(fair.serve(key));
                    }
                    Move::Leave(_) | Move::ServeOther(_) => {}
                }
                let mut kept: Vec<Key> = fair.iter().copied().collect();
                let mut expected: Vec<Key> = books.waiting.iter().map(|(_, key)| *key).collect();
                kept.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&kept, &expected);
                prop_assert_eq!(fair.len(), expected.len());
                prop_assert_eq!(fair.is_empty(), expected.is_empty());
            }
        }
    }

    #[test]
    fn a_client_with_forty_does_not_starve_one_with_one() {
        let (many, one): (Arc<str>, Arc<str>) = ("many".into(), "one".into());
        let mut fair = Fair::default();
        for key in 0..40 {
            fair.push(&many, key);
        }
        fair.push(&one, 100);
        fair.push(&many, 40);
        let order: Vec<_> = fair.in_turn().collect();
        assert_eq!(order[..4], [0, 100, 1, 2]);
        assert_eq!(order.len(), 42);
    }
}
