//! Section 5: lifecycle.

mod failure;
mod load;
mod reload;
mod stop;

use serde_json::Value;

use crate::Home;
use crate::home::JIT;

fn states(process: &str, memory: &str) -> (String, String) {
    (process.to_owned(), memory.to_owned())
}

fn pid(home: &Home, name: &str) -> Value {
    home.model(name)["pid"].clone()
}

/// The same model on a worker of each dialect.
fn both(rest: &str) -> String {
    format!(
        "models:\n\
         - {{name: classic, model_path: org/classic, {rest}}}\n\
         - {{name: jit, model_path: org/jit, worker_command: {JIT}, {rest}}}\n"
    )
}
