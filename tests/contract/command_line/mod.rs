//! Section 3: the command line, against a real hub.

mod show;
mod start;
mod verbs;

use crate::home::{JIT, Ran};

/// A JIT model that can stay up unloaded, a default one, a plain one, and one that cannot load.
fn four() -> String {
    format!(
        "groups: [{{name: small}}]\n\
         models:\n\
         - {{name: a, model_path: org/a, jit_enabled: true, auto_unload_minutes: 5, group: small, \
            worker_command: {JIT}}}\n\
         - {{name: b, model_path: org/b, default: true}}\n\
         - {{name: c, model_path: org/c}}\n\
         - {{name: d, model_path: org/d, env: {{STUB_FAIL_LOAD: 'true'}}}}\n"
    )
}

fn table(ran: &Ran) -> Vec<Vec<String>> {
    let lines = ran.lines();
    let header = lines
        .iter()
        .position(|line| line.trim_start().starts_with("NAME "));
    let rows = lines[header.expect("a table")..].iter();
    // Sentences may follow it.
    let rows = rows.take_while(|line| line.contains('|') || line.contains("-+-"));
    rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn row(ran: &Ran, name: &str) -> Vec<String> {
    let rows = table(ran);
    let row = rows.into_iter().find(|row| row[0] == name);
    row.unwrap_or_else(|| panic!("no row `{name}` in {ran:?}"))
}
