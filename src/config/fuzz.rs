//! The promises that hold for a hub.yaml of any bytes: `fuzz/` looks for counterexamples, the test below
//! replays its corpus.

use std::path::Path;

use super::Config;

#[cfg(test)]
use crate::corpus;

/// Panics when the loader breaks a promise on a hub.yaml of these bytes.
pub fn hub_yaml(bytes: &[u8]) {
    let path = Path::new("/nowhere/hub.yaml");
    match Config::read(path, bytes, 0) {
        Ok((config, _)) => is_valid(&config),
        Err(error) => is_an_error(&error.text, bytes),
    }
}

fn is_valid(config: &Config) {
    assert!(!config.models.is_empty());
    assert!(config.model_starting_port >= 1024);
    for (i, model) in config.models.iter().enumerate() {
        let name = &model.name;
        let of_slug = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(!name.is_empty() && name.chars().all(of_slug), "{name:?}");
        assert!(!name.starts_with('.') && !name.contains(".."), "{name:?}");
        assert!(
            config.models[..i]
                .iter()
                .all(|other| !other.name.eq_ignore_ascii_case(name)),
            "{name} twice"
        );
        assert!(!model.worker_command.is_empty());
        assert!(model.launch_settings().is_object(), "{name}");
        assert!(model.same_launch(model));
    }
    for warning in &config.warnings {
        is_for_a_terminal(warning);
    }
}

/// The text names the file and a place in it, and cannot play tricks on a terminal.
fn is_an_error(text: &str, bytes: &[u8]) {
    is_for_a_terminal(text);
    let key_path = text.strip_prefix("/nowhere/hub.yaml:").expect("the file");
    let mut numbers = key_path.split(':').map(|number| number.parse::<usize>());
    let line = numbers.next().and_then(Result::ok).expect("a line");
    let column = numbers.next().and_then(Result::ok).expect("a column");
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!((1..=lines).contains(&line), "{text}");
    assert!((1..=bytes.len() + 1).contains(&column), "{text}");
}

fn is_for_a_terminal(text: &str) {
    let forbidden = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(forbidden), "{text:?}");
}

#[cfg(test)]
#[test]
fn the_corpus_of_the_fuzzer_keeps_every_promise() {
    corpus::replay("hub_yaml", hub_yaml);
}
