//! The editor of hub.yaml, with a real hub that saves it.

use fantoccini::key::Key;
use serde_json::json;

use crate::browser::{Browser, Device, in_browser};
use crate::everybody::{axe, faults_now};
use crate::support::{Hub, stub};

fn config() -> String {
    format!(
        "edit_config: true\nworker_command: {}\n\
         models:\n  - name: alpha\n    model_path: org/alpha\n    jit_enabled: true\n",
        stub(&[])
    )
}

const TEXT: &str = "document.getElementById('config-text')";

async fn open(browser: &Browser, hub: &Hub) {
    let page = format!("http://127.0.0.1:{}/hub#config", hub.http.port);
    browser.open(&page).await;
    browser.wait_for("#config-count", &["no mistakes"]).await;
}

/// Puts the caret at the end of the text.
async fn go_to_end(browser: &Browser) {
    let end = format!(
        "{TEXT}.focus(); {TEXT}.setSelectionRange({TEXT}.value.length, {TEXT}.value.length)"
    );
    browser.run(&end).await;
}

async fn write(browser: &Browser, words: &str) {
    let text = browser.find("#config-text").await;
    text.send_keys(words).await.unwrap();
}

fn on_disk(hub: &Hub) -> String {
    std::fs::read_to_string(hub.config()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_completed_a_mistake_found_a_change_shown_saved_and_in_force() {
    in_browser(Device::Desktop, async |browser| {
        let hub = Hub::start(&config());
        open(&browser, &hub).await;
        let before = on_disk(&hub);
        assert_eq!(
            browser.evaluate(&format!("{TEXT}.value")).await,
            before.as_str()
        );
        let numbers = browser
            .evaluate("document.getElementById('config-gutter').childElementCount")
            .await;
        assert_eq!(numbers, before.lines().count() + 1);

        // A key of the entry above, chosen by arrows.
        go_to_end(&browser).await;
        write(&browser, "    au").await;
        browser
            .wait_for("#config-choices [role=option]", &["auto_unload_minutes"])
            .await;
        browser.key(Key::Escape).await;
        browser.wait_for("#config-choices [role=option]", &[]).await;
        browser
            .run(&format!(
                "{TEXT}.setRangeText('', {TEXT}.value.length - 6, {TEXT}.value.length, 'end')"
            ))
            .await;
        write(&browser, "spa").await;
        browser
            .wait_for("#config-choices [role=option]", &["spares"])
            .await;
        let about = browser.text("#config-about").await;
        assert!(about.contains("spare processes"), "{about}");
        browser.screenshot("config-completion").await;
        browser.key(Key::Enter).await;
        write(&browser, "9").await;
        let line = before.lines().count() + 1;
        let wrong = format!("Line {line}, column 9 `spares` must be between 0 and 4, not `9`");
        browser.wait_for("#config-count", &["1 mistake"]).await;
        browser.wait_for("#config-findings li", &[&wrong]).await;
        browser
            .wait_for("#config-gutter [data-bad=true]", &[&format!("● {line}")])
            .await;

        // It is not saved, and the finding leads to its place.
        browser.click("#config-review").await;
        browser
            .wait_for(
                "#config-error",
                &["This hub.yaml has mistakes, and is not saved."],
            )
            .await;
        browser.screenshot("config-mistake").await;
        browser.key(Key::Enter).await;
        let selected = format!("{TEXT}.value.slice({TEXT}.selectionStart, {TEXT}.selectionEnd)");
        assert_eq!(browser.evaluate(&selected).await, "9");
        write(&browser, "2").await;
        browser.wait_for("#config-count", &["no mistakes"]).await;
        browser.wait_for("#config-state", &["not saved"]).await;
        assert_eq!(on_disk(&hub), before);

        browser.click("#config-review").await;
        browser
            .wait_for("#review-title", &["Save this hub.yaml?"])
            .await;
        let added = browser.text("#review-difference [data-kind=added]").await;
        assert!(added.trim().ends_with("+ spares: 2"), "{added}");
        browser.screenshot("config-review").await;
        browser.key(Key::Escape).await;
        browser.wait_for("#review-title", &[]).await;
        assert_eq!(on_disk(&hub), before);
        browser.click("#config-review").await;
        browser.click("#review-save").await;
        browser.wait_for("#config-state", &[]).await;
        let flash = browser
            .read("#flash", |text| (!text.is_empty()).then(|| text.to_owned()))
            .await;
        assert!(
            flash.contains("hub.yaml saved and reloaded") && flash.contains("hub.yaml.bak.1"),
            "{flash}"
        );
        assert_eq!(on_disk(&hub).trim_end(), format!("{before}spares: 2"));
        let kept = hub.folder().join("hub.yaml.bak.1");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), before);
        // What is on the disk is what the hub goes by.
        assert_eq!(hub.status()["warnings"], json!([]));
        browser.click("#config-review").await;
        browser
            .wait_for("#config-state", &["Nothing is changed."])
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_meanwhile_is_told_and_compared_before_it_is_replaced() {
    in_browser(Device::Desktop, async |browser| {
        let hub = Hub::start(&config());
        open(&browser, &hub).await;
        go_to_end(&browser).await;
        write(&browser, "spares: 0\n").await;
        let theirs = format!("{}load_timeout: 77\n", on_disk(&hub));
        std::fs::write(hub.config(), &theirs).unwrap();
        browser.click("#config-review").await;
        browser.click("#review-save").await;
        let end = "how your text differs from it.";
        let whole = |told: &str| told.ends_with(end).then(|| told.to_owned());
        let told = browser.read("#config-error", whole).await;
        assert!(
            told.contains("has changed on the disk since it was read"),
            "{told}"
        );
        assert_eq!(on_disk(&hub), theirs);
        browser.click("#config-review").await;
        let gone = browser.text("#review-difference [data-kind=removed]").await;
        assert!(gone.ends_with("- load_timeout: 77"), "{gone}");
        browser.screenshot("config-conflict").await;
        browser.key(Key::Escape).await;

        // Or theirs is taken, after a question.
        browser.click("#config-again").await;
        browser
            .wait_for("#ask-title", &["Read hub.yaml again?"])
            .await;
        browser.click("#ask-yes").await;
        browser.wait_for("#config-state", &[]).await;
        assert_eq!(
            browser.evaluate(&format!("{TEXT}.value")).await,
            theirs.as_str()
        );
    })
    .await;
}

/// Of hub.yaml until `|`: what is suggested there.
async fn suggested(browser: &Browser, text: &str) -> Vec<String> {
    let at = text.find('|').unwrap();
    let script = format!(
        "Promise.all([import('/hub/assets/complete.js'), fetch('/hub/config/schema').then((answer) => answer.json())]) \
         .then(([{{ suggestions }}, schema]) => done(suggestions(schema, {}, {at}).words.map(({{ name }}) => name)))",
        json!(text.replace('|', ""))
    );
    let words = browser.run_async(&script).await;
    let words = words.as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suggested_is_what_may_stand_there() {
    in_browser(Device::Desktop, async |browser| {
        let hub = Hub::start(&config());
        open(&browser, &hub).await;
        for (text, words) in [
            ("edit|", &["edit_config"][..]),
            ("edit_config: |", &["true", "false"]),
            ("log_level: D|", &["DEBUG"]),
            // Once is enough.
            ("spares: 1\nspa|", &[]),
            ("models:\n  - na|", &["name"]),
            ("models:\n- name: a\n  model_pa|", &["model_path"]),
            ("models:\n- name: a\n  na|\n- name: b\n", &[]),
            ("models:\n- na|\n- name: b\n", &["name"]),
            (
                "models:\n  - name: a\n    model_type: mul|",
                &["multimodal"],
            ),
            (
                "groups:\n  - name: g1\n  - name: g2\nmodels:\n  - name: a\n    group: |",
                &["g1", "g2"],
            ),
            ("api_keys:\n  - name: a\n    ma|", &["may"]),
            // Deeper is what the file's author knows.
            ("models:\n  - name: a\n    env:\n      na|", &[]),
            ("# spa|", &[]),
            ("mo|dels:\n", &[]),
        ] {
            assert_eq!(suggested(&browser, text).await, words, "{text}");
        }
        let all = suggested(&browser, "models:\n  - |").await;
        assert!(
            all.len() > 20 && all.contains(&"model_path".to_owned()),
            "{all:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editor_is_for_everybody_on_a_phone_and_a_light_desk() {
    let Some(axe) = axe("the_editor_is_for_everybody_on_a_phone_and_a_light_desk") else {
        return;
    };
    for (device, name) in [
        (Device::Phone, "config-phone"),
        (Device::LightDesktop, "config-light"),
    ] {
        in_browser(device, async |browser| {
            let hub = Hub::start(&config());
            open(&browser, &hub).await;
            go_to_end(&browser).await;
            write(&browser, "\nspa").await;
            browser.wait_for("#config-choices [role=option]", &["spares"]).await;
            let is_inside = "(() => { const box = document.getElementById('config-popup').getBoundingClientRect(); \
                return box.left >= 0 && box.right <= innerWidth && document.documentElement.scrollWidth <= innerWidth; })()";
            assert_eq!(browser.evaluate(is_inside).await, true, "{name}");
            browser.screenshot(name).await;
            browser.run(&axe).await;
            assert_eq!(faults_now(&browser).await, [""; 0], "{name}, suggestions");
            browser.key(Key::Enter).await;
            write(&browser, "9").await;
            browser.wait_for("#config-count", &["1 mistake"]).await;
            assert_eq!(faults_now(&browser).await, [""; 0], "{name}, a mistake");
            browser.key(Key::Backspace).await;
            write(&browser, "2").await;
            browser.click("#config-review").await;
            browser.wait_for("#review-title", &["Save this hub.yaml?"]).await;
            assert_eq!(faults_now(&browser).await, [""; 0], "{name}, the review");
        })
        .await;
    }
}
