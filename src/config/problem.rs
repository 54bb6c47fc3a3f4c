//! What is wrong with a hub.yaml, and where: filled while the tree is read, printed by
//! [`super::diagnose`].
//!
//! A place is a path of keys and positions, not a line: lines are looked up only when there is
//! something to report. Also here: the nearest valid word for a hint.

/// More are counted and not shown: each takes an excerpt, and a file can hold a hundred thousand.
const MOST_PROBLEMS: usize = 50;

/// One step from the root of hub.yaml towards a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    /// Position in a list, from 0.
    Item(usize),
}

/// The path of a value in hub.yaml; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place(pub(super) Vec<Step>);

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.then(Step::Item(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// What of a place the caret marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The value, or the start of a list or mapping.
    Value,
    /// The key before the value.
    Key,
    /// The last of several keys that are written alike.
    LastKey,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// All that was found so far: problems that refuse the file, and warnings that do not.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    /// How many problems more there are than anyone would read.
    pub(super) unnamed: usize,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    /// Refuses the value at `place`.
    pub(super) fn value(&mut self, place: Place, message: String, hint: Option<String>) {
        self.add(place, Mark::Value, message, hint);
    }

    /// Refuses the key at `place`.
    pub(super) fn key(&mut self, place: Place, message: String, hint: Option<String>) {
        self.add(place, Mark::Key, message, hint);
    }

    /// Refuses the key at `place` for standing there a second time.
    pub(super) fn repeated(&mut self, place: Place, message: String) {
        let hint = Some("keep one of them".to_owned());
        self.add(place, Mark::LastKey, message, hint);
    }

    fn add(&mut self, place: Place, mark: Mark, message: String, hint: Option<String>) {
        if self.problems.len() >= MOST_PROBLEMS {
            self.unnamed += 1;
            return;
        }
        self.problems.push(Problem {
            place,
            mark,
            message,
            hint,
        });
    }
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    /// Below this two words have little in common; found by trying (`prt`/`port` is 0.93).
    const ALIKE: f64 = 0.8;
    /// Bounds for names from a hostile file; no key is that long.
    const LONGEST: usize = 64;
    const MOST: usize = 200;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| {
            let alike = strsim::jaro_winkler(&word, &candidate.to_lowercase());
            (alike, candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?`` for the nearest candidate.
pub(super) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}
