//! The status page in a real browser: what it shows, what it sends, and screenshots of it under
//! `target/screenshots/`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

#[path = "../support/browser.rs"]
mod browser;
mod captured;
mod chat;
mod downloads;
mod editor;
mod everybody;
mod fixtures;
mod flights;
mod login;
mod logs;
mod policies;
mod polls;
mod real_hub;
mod scripted_hub;
mod sends;
mod shows;
mod stays;
#[path = "../support/mod.rs"]
mod support;

use browser::Browser;
use scripted_hub::{Script, ScriptedHub, Server};

/// The views of the page.
const VIEWS: [&str; 8] = [
    "models", "requests", "charts", "logs", "chat", "policies", "clients", "config",
];

/// Opens the page of a hub that follows `script`.
async fn open(browser: &Browser, script: Script) -> (ScriptedHub, Server) {
    let hub = ScriptedHub::new(script);
    let server = Server::start_anywhere(&hub).await;
    browser.open(&server.page()).await;
    (hub, server)
}
