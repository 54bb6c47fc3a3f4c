//! The engine of a model, and what it says of the model's entry.

use std::path::Path;
use std::sync::Arc;

use super::raw::Table;
use super::yaml::Node;
use super::{LaunchOption, ModelConfig, ModelType, locate};
use crate::engine::{DEFAULT, Engine, Engines, NoEngine, default_engine};

/// The engine that `engine` names; `None` without the key, or if there is none.
pub(super) fn of(table: &mut Table<'_, '_>, engines: &Engines) -> Option<Arc<Engine>> {
    let key = "engine";
    let name = table.text(key)?;
    match engines.find(&name) {
        Ok(engine) => Some(engine),
        Err(NoEngine::Unknown(hint)) => {
            let shown = Node::Text(name).shown();
            table.refuse(key, &format!("there is no engine {shown}"), Some(hint));
            None
        }
        Err(NoEngine::Broken(problem)) => {
            let shown = Node::Text(name).shown();
            let hint =
                "`engine check` tells more; README, *Engines*, shows what a file has".to_owned();
            table.refuse(
                key,
                &format!("the engine {shown} does not load: {problem}"),
                Some(hint),
            );
            None
        }
    }
}

/// The engine of models that name none.
pub(super) fn of_hub(table: &mut Table<'_, '_>, engines: &Engines) -> Arc<Engine> {
    if let Some(engine) = of(table, engines) {
        return engine;
    }
    // A file of the user's may stand in its place.
    engines.find(DEFAULT).unwrap_or_else(|problem| {
        if let NoEngine::Broken(problem) = problem {
            let message = format!("the engine `{DEFAULT}` does not load: {problem}");
            table.refuse_whole(
                &message,
                "correct the file, or remove it: there is a bundled one",
            );
        }
        default_engine()
    })
}

/// Refuses a type of model that the engine cannot serve.
pub(super) fn must_serve(
    table: &mut Table<'_, '_>,
    engine: &Engine,
    model_type: ModelType,
    engines: &Engines,
) {
    if engine.types.contains(&model_type) {
        return;
    }
    let word = model_type.as_str();
    let message = format!(
        "engine `{}` cannot serve `model_type: {word}`, only {}",
        engine.name,
        engine.type_words()
    );
    let able = engines.all();
    let able = able
        .iter()
        .filter(|other| other.types.contains(&model_type));
    let able: Vec<_> = able
        .map(|other| format!("`engine: {}`", other.name))
        .collect();
    let hint = format!("these can: {}", able.join(", "));
    let key = match table.has("model_type") {
        true => "model_type",
        false => "engine",
    };
    table.refuse(key, &message, Some(hint));
}

/// What is told of an unknown key that another engine has: what follows its name, and a hint.
pub(super) fn owner_of(key: &str, engine: &Engine, engines: &Engines) -> Option<(String, String)> {
    let others = engines.all();
    let owners = others.iter().filter(|other| other.key(key).is_some());
    let owners: Vec<_> = owners.map(|other| format!("`{}`", other.name)).collect();
    let first = owners.first()?;
    let more = format!(
        "is a key of engine {}; this model's is `{}`",
        owners.join(" and "),
        engine.name
    );
    let hint = format!("remove it, or set `engine: {}`", first.trim_matches('`'));
    Some((more, hint))
}

/// Has the engine check an entry whose keys have been read, and set what it sets.
pub(super) fn check(table: &mut Table<'_, '_>, model: &mut ModelConfig) {
    if model.name.is_empty() {
        return;
    }
    let engine = Arc::clone(&model.engine);
    let checked = match engine.check(&model.for_engine(0)) {
        Ok(checked) => checked,
        Err(problem) => return broken(table, &problem),
    };
    for warning in &checked.warnings {
        // One that begins with a key of the entry is about it.
        match warning.split('`').nth(1).filter(|key| table.has(key)) {
            Some(key) => table.warn_of(key, warning),
            None => table.warn(warning),
        }
    }
    for problem in checked.problems {
        table.refuse(&problem.key, &problem.message, problem.hint);
    }
    for (key, value) in checked.set {
        let is_set = model.options.iter().any(|option| option.key == key);
        let Some(at) = engine.keys.iter().position(|own| own.name == key) else {
            return broken(
                table,
                &format!(
                    "{}:1: `check` sets `{key}`, which is no key of the engine",
                    engine.file
                ),
            );
        };
        if !is_set {
            let place =
                |option: &LaunchOption| engine.keys.iter().position(|own| own.name == option.key);
            let before = model
                .options
                .iter()
                .filter(|option| place(option) < Some(at))
                .count();
            let value = Some(value);
            model.options.insert(before, LaunchOption { key, value });
        }
    }
}

/// The program of a model whose entry sets no `worker_command`.
pub(super) fn program(
    table: &mut Table<'_, '_>,
    model: &ModelConfig,
    folder: &Path,
) -> Vec<String> {
    match model.engine.program_of(&model.for_engine(0)) {
        Ok(mut words) => {
            if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
                *program = locate::beside(program, folder).display().to_string();
            }
            words
        }
        Err(problem) => {
            broken(table, &problem);
            Vec::new()
        }
    }
}

fn broken(table: &mut Table<'_, '_>, problem: &str) {
    let hint = "correct the engine's file; `engine check` tells more".to_owned();
    let key = match table.has("engine") {
        true => "engine",
        false => "name",
    };
    table.refuse(key, &format!("its engine fails: {problem}"), Some(hint));
}
