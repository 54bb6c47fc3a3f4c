//! The settings of clients on the pages are those that `launch` uses.

use mlx_openai_server_hub::clients::{Target, markdown};

use super::Page;

#[test]
fn the_settings_of_each_client_are_those_of_launch() {
    let settings = markdown(&Target {
        url: "http://localhost:8000",
        model: "qwen3-coder-30b",
        context: None,
    });
    for page in ["README.md", "docs/clients.md"] {
        let page = Page::read(page);
        let there = page.text.contains(&settings);
        assert!(there, "{} has not just this:\n\n{settings}", page.path);
        assert!(page.headings().any(|heading| heading == "Clients"));
    }
}
