//! The command line as its users see it: the real program, in a home folder of its own, without a
//! daemon or with one that answers from a table.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod fake_hub;
#[path = "../support/mod.rs"]
mod support;

mod add_and_remove;
mod colour;
mod completions;
mod config_verbs;
mod doctor;
mod engine;
mod help;
mod keys;
mod launch;
mod logs;
mod messages;
mod models;
mod open;
mod policy;
mod prepare;
mod progress;
mod pull;
mod run;
mod top;
mod widths;
mod with_hub;
mod without_hub;

use support::home::Home;

/// A home whose hub.yaml has four models, for a hub on `port`.
fn home_of_four(port: u16) -> Home {
    let home = Home::empty();
    home.write(&format!(
        "host: 127.0.0.1\n\
         port: {port}\n\
         models:\n\
         - {{name: c, model_path: org/c, default: true}}\n\
         - {{name: b, model_path: org/b, default: true}}\n\
         - {{name: a, model_path: org/a, jit_enabled: true, auto_unload_minutes: 60}}\n\
         - {{name: d, model_path: org/d}}\n"
    ));
    home
}
