//! A hub.yaml of models that are on the disk, sized to this machine's memory.

use super::aliases;
use super::entry::{Entry, known_parsers};
use super::models::Offer;
use super::render::{Out, with_tilde};
use super::room::{self, Fits, Room};
use crate::config::edit::NewEntry;
use crate::config::slug_of;
use crate::model_files::Parsers;
use crate::worker::dialect::Dialect;

/// The group of models of which one fits at a time.
const LARGE: &str = "large";
/// Minutes without a request after which a large model is unloaded.
const IDLE: u32 = 30;

/// The lines before `models`.
const HEAD: &str = "\
# yaml-language-server: $schema=hub.schema.json
# Written by `mlx-openai-server-hub init` for the models on this disk. `check` tells what it means.

# The one port of clients, dashboard (/hub) and commands. 0.0.0.0 lets other machines in.
host: 127.0.0.1
port: 8000
";

const SWAP: &str = "
# A request for a model whose group is full unloads the member that has been idle longest.
policies: [lru_swap]
";

const GROUP: &str = "
groups:
  # Together they would not fit into this machine's memory.
  - name: large
    max_loaded: 1
";

/// The models that fit on this machine at all, without those that hub.yaml could not tell apart.
pub(super) fn fitting(offers: Vec<Offer>) -> Vec<Offer> {
    let fits = |offer: &Offer| !matches!(offer.fits, Fits::No);
    offers.into_iter().filter(fits).collect()
}

/// hub.yaml for these models. All are started with the hub and loaded by their first request. Those that
/// fit together stay; of the others one at a time is loaded.
pub(super) fn text(
    chosen: &[Offer],
    room: Room,
    dialect: Option<&Dialect>,
    out: &mut Out,
) -> String {
    let large = large(chosen, room);
    let mut names: Vec<String> = Vec::new();
    let entries: Vec<NewEntry> = chosen
        .iter()
        .zip(&large)
        .map(|(offer, is_large)| {
            let name = unused(offer.files.short_name(), &names);
            out.info(format_args!(
                "{name}: {}",
                offer.files.facts.model_type.as_str()
            ));
            let parsers = known_parsers(Parsers::guess(&offer.files.folder), dialect, out);
            let entry = Entry {
                name: &name,
                model_path: &with_tilde(&offer.files.model_path),
                model_type: offer.files.model_type(),
                group: is_large.then_some(LARGE),
                default: true,
                jit: true,
                auto_unload: is_large.then_some(IDLE),
                parsers: &parsers,
                ..Entry::default()
            };
            let entry = entry.written();
            names.push(name);
            entry
        })
        .collect();
    let blocks: Vec<String> = entries.iter().map(|entry| entry.block(2, "\n")).collect();
    let has_group = large.contains(&true);
    let (swap, group) = if has_group { (SWAP, GROUP) } else { ("", "") };
    let aliases = aliases::block(&chats(chosen, &names), has_group);
    format!(
        "{HEAD}{swap}{aliases}{group}\nmodels:\n{}\n",
        blocks.join("\n\n")
    )
}

/// The names of those that answer chats, the largest first.
fn chats<'n>(chosen: &[Offer], names: &'n [String]) -> Vec<&'n str> {
    let all = chosen.iter().zip(names);
    let mut chats: Vec<_> = all
        .filter(|(offer, _)| offer.files.model_type().chats())
        .collect();
    chats.sort_by_key(|(offer, _)| std::cmp::Reverse(room::need(&offer.files)));
    chats.into_iter().map(|(_, name)| name.as_str()).collect()
}

/// Marks the models that do not fit beside the others. The small ones stay.
fn large(chosen: &[Offer], room: Room) -> Vec<bool> {
    let needs: Vec<u64> = chosen
        .iter()
        .map(|offer| room::need(&offer.files))
        .collect();
    large_of(&needs, room.most.unwrap_or(u64::MAX))
}

/// Of models that need so many bytes each, those of which one at a time is loaded: the largest, as few as are
/// needed for the rest and any one of them to fit into `most` bytes.
fn large_of(needs: &[u64], most: u64) -> Vec<bool> {
    let mut by_size: Vec<usize> = (0..needs.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(needs[*at]));
    let mut is_large = vec![false; needs.len()];
    let held = |is_large: &[bool]| {
        let sizes = || needs.iter().zip(is_large);
        let small: u64 = sizes()
            .filter(|(_, large)| !**large)
            .map(|(need, _)| *need)
            .sum();
        let one = sizes()
            .filter(|(_, large)| **large)
            .map(|(need, _)| *need)
            .max();
        small + one.unwrap_or_default()
    };
    for (count, at) in by_size.into_iter().enumerate() {
        // One model alone in a group changes nothing.
        if held(&is_large) <= most && count != 1 {
            break;
        }
        is_large[at] = true;
    }
    is_large
}

/// A name that no entry has yet.
fn unused(short_name: &str, taken: &[String]) -> String {
    let name = slug_of(short_name).unwrap_or_else(|| "model".to_owned());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    let free = names.find(|name| !taken.contains(name));
    free.unwrap_or_default()
}

/// The models that a text of numbers names: `1 3`, `2,4`, `all`; nothing for none. They count from 1.
pub(super) fn picked(answer: &str, count: usize) -> Result<Vec<usize>, String> {
    if answer.eq_ignore_ascii_case("all") {
        return Ok((0..count).collect());
    }
    let words = answer.split([',', ' ']).filter(|word| !word.is_empty());
    let picked = words.map(|word| match word.parse::<usize>() {
        Ok(number) if (1..=count).contains(&number) => Ok(number - 1),
        _ => Err(format!("`{word}` is no number from 1 to {count}")),
    });
    picked.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::model_files::{ModelFiles, Origin};

    #[test]
    fn the_largest_share_the_memory_that_the_others_leave() {
        for (needs, most, large) in [
            (&[10, 20, 30][..], 60, &[false, false, false][..]),
            (&[10, 20, 30], 59, &[false, true, true]),
            (&[10, 20, 30], 39, &[true, true, true]),
            (&[30, 2, 30], 32, &[true, false, true]),
            (&[50], 60, &[false]),
            (&[], 60, &[]),
        ] {
            assert_eq!(large_of(needs, most), large, "{needs:?} in {most}");
        }
    }

    #[test]
    fn models_that_do_not_fit_together_become_a_group_that_swaps() {
        let folder = tempfile::tempdir().unwrap();
        let models = ["One", "Two"].map(|name| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
            // The length of the header, the header, and four bytes of weights.
            let header = r#"{"w": {"dtype": "U32", "shape": [1], "data_offsets": [0, 4]}}"#;
            let length = (header.len() as u64).to_le_bytes();
            let weights = [&length[..], header.as_bytes(), &[0; 4]].concat();
            std::fs::write(folder.join("model.safetensors"), weights).unwrap();
            let files = ModelFiles::read(&folder, format!("org/{name}"), Origin::Folder).unwrap();
            Offer {
                files,
                fits: Fits::Yes,
                names: Vec::new(),
            }
        });
        let needs: u64 = models.iter().map(|model| room::need(&model.files)).sum();
        let of = |most: u64| {
            let room = Room {
                available: None,
                most: Some(most),
            };
            let text = text(&models, room, None, &mut Out::stderr());
            Config::parse(Path::new("/hub.yaml"), &text).unwrap()
        };
        let apart = of(needs - 1);
        assert_eq!(apart.policies, ["lru_swap"]);
        assert_eq!(apart.groups[0].max_loaded, Some(1));
        for (model, name) in apart.models.iter().zip(["one", "two"]) {
            assert_eq!(
                (model.name.as_str(), model.group.as_deref()),
                (name, Some(LARGE))
            );
            assert_eq!(model.auto_unload_minutes, Some(IDLE));
        }
        let together = of(needs);
        assert!(together.groups.is_empty() && together.policies.is_empty());
        assert!(together.models.iter().all(|model| model.group.is_none()));
    }

    #[test]
    fn models_are_picked_by_number() {
        assert_eq!(picked("1, 3 2", 3), Ok(vec![0, 2, 1]));
        assert_eq!(picked("All", 2), Ok(vec![0, 1]));
        assert_eq!(picked("", 2), Ok(vec![]));
        for wrong in ["0", "3", "x", "-1", "1-2"] {
            assert_eq!(
                picked(wrong, 2),
                Err(format!("`{wrong}` is no number from 1 to 2"))
            );
        }
    }

    #[test]
    fn names_are_unique() {
        let taken = ["a".to_owned(), "a-2".to_owned()];
        assert_eq!(unused("A", &taken), "a-3");
        assert_eq!(unused("Qwen3 4B", &taken), "qwen3-4b");
        assert_eq!(unused("!", &taken), "model");
    }
}
