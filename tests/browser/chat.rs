//! The chat of the page: what it sends, and what becomes of its answers.

use mlx_openai_server_hub::api::{MemoryState, ProcessState};
use serde_json::{Value, json};

use crate::browser::{Browser, Device, button, in_browser};
use crate::fixtures::{hub, idle, model, three_models};
use crate::scripted_hub::{Script, ScriptedHub};
use crate::{Server, open};

/// One event of an answer.
fn piece(text: &str) -> String {
    let event = json!({"choices": [{"delta": {"content": text}}]});
    format!("data: {event}\n\n")
}

/// A loaded model that talks, one that sees, and what either answers.
fn talkers() -> Script {
    let mut sees = model("sees", ProcessState::Running, MemoryState::Loaded);
    sees.model_type = "multimodal".into();
    let usage = json!({"choices": [], "usage": {"completion_tokens": 2}});
    Script {
        hub: hub(),
        models: vec![
            idle(model("talks", ProcessState::Running, MemoryState::Loaded)),
            idle(sees),
        ],
        chat: vec![
            piece("Good "),
            piece("day"),
            format!("data: {usage}\n\ndata: [DONE]\n\n"),
        ],
        ..Script::default()
    }
}

async fn open_chat(browser: &Browser, script: Script) -> (ScriptedHub, Server) {
    let opened = open(browser, script).await;
    browser.click("#tab-chat").await;
    opened
}

async fn say(browser: &Browser, text: &str) {
    let field = browser.find("#chat-text").await;
    field.send_keys(text).await.unwrap();
    browser.click("#chat-send").await;
}

async fn choose(browser: &Browser, name: &str) {
    let select = browser.find("#chat-model").await;
    select.select_by_value(name).await.unwrap();
}

/// The bodies of all chats so far.
fn sent(hub: &ScriptedHub) -> Vec<Value> {
    let posts = hub.posts();
    let chats = posts
        .iter()
        .filter_map(|post| post.strip_prefix("/v1/chat/completions "));
    chats
        .map(|body| serde_json::from_str(body).unwrap())
        .collect()
}

#[tokio::test]
async fn an_answer_comes_as_it_is_written_and_with_its_figures() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open_chat(&browser, talkers()).await;
        hub.hold(true);
        say(&browser, "Hello").await;
        browser.wait_for(".message", &["Hello", "Good "]).await;
        browser
            .wait_for("#chat-send, #chat-stop", &["Stop answer"])
            .await;
        hub.hold(false);
        browser.wait_for(".message", &["Hello", "Good day"]).await;
        browser.wait_for("#chat-send, #chat-stop", &["Send"]).await;
        let figures = browser.text("#chat-figures").await;
        assert!(
            figures.starts_with("first token after ") && figures.contains(" • 2 tokens"),
            "{figures}"
        );
        browser.screenshot("chat").await;
        say(&browser, "Again").await;
        browser
            .wait_for(".message", &["Hello", "Good day", "Again", "Good day"])
            .await;
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let messages = [
            turn("user", "Hello"),
            turn("assistant", "Good day"),
            turn("user", "Again"),
        ];
        let bodies = sent(&hub);
        assert_eq!(bodies[1]["messages"], json!(messages));
        assert_eq!(bodies[1]["model"], "talks");
    })
    .await;
}

#[tokio::test]
async fn a_stopped_answer_stays_and_one_of_an_old_chat_is_nowhere_in_the_new_one() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open_chat(&browser, talkers()).await;
        hub.hold(true);
        say(&browser, "Hello").await;
        browser.wait_for(".message", &["Hello", "Good "]).await;
        browser.click("#chat-stop").await;
        browser.wait_for("#chat-figures", &["stopped"]).await;
        browser.wait_for(".message", &["Hello", "Good "]).await;

        say(&browser, "Old").await;
        browser
            .wait_for(".message", &["Hello", "Good ", "Old", "Good "])
            .await;
        browser.click("#chat-clear").await;
        browser.wait_for(".message", &[]).await;
        hub.hold(false);
        say(&browser, "New").await;
        browser.wait_for(".message", &["New", "Good day"]).await;
        let bodies = sent(&hub);
        let only = json!([{"role": "user", "content": "New"}]);
        assert_eq!(bodies.last().unwrap()["messages"], only);
    })
    .await;
}

#[tokio::test]
async fn a_model_that_sees_takes_an_image_as_soon_as_it_is_chosen() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open_chat(&browser, talkers()).await;
        browser.wait_for("#chat-image-label", &[]).await;
        choose(&browser, "sees").await;
        // At once, with no event of the hub.
        assert_eq!(browser.texts("#chat-image-label").await.len(), 1);
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("dot.png");
        std::fs::write(&image, b"no image, but its bytes").unwrap();
        let field = browser.find("#chat-image").await;
        field.send_keys(image.to_str().unwrap()).await.unwrap();
        say(&browser, "What is it?").await;
        browser
            .wait_for(".message", &["What is it?\n[dot.png]", "Good day"])
            .await;
        let content = &sent(&hub)[0]["messages"][0]["content"];
        let url = content[1]["image_url"]["url"].as_str().unwrap();
        assert!(url.starts_with("data:image/png;base64,"), "{url}");
        choose(&browser, "talks").await;
        assert_eq!(browser.texts("#chat-image-label").await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_would_take_another_model_out_of_memory_asks_first() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.chat = talkers().chat;
        script.unloads = vec!["gamma".to_owned()];
        let (hub, _server) = open(&browser, script).await;
        browser.wait_for(&button("beta", "memory"), &["Load"]).await;
        browser.click("#tab-chat").await;
        choose(&browser, "beta").await;
        say(&browser, "Hello").await;
        browser.wait_for("#ask-title", &["Load beta?"]).await;
        browser.click("#ask-no").await;
        browser.wait_for("#chat-send, #chat-stop", &["Send"]).await;
        assert_eq!(sent(&hub).len(), 0);
        // What was written is still there.
        browser.click("#chat-send").await;
        browser.wait_for("#ask-title", &["Load beta?"]).await;
        browser.click("#ask-yes").await;
        browser.wait_for(".message", &["Hello", "Good day"]).await;
        // One that is loaded takes nobody's place.
        choose(&browser, "gamma").await;
        say(&browser, "And you?").await;
        browser
            .wait_for(".message", &["Hello", "Good day", "And you?", "Good day"])
            .await;
        assert_eq!(sent(&hub).len(), 2);
    })
    .await;
}
