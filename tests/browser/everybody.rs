//! The page for everybody: by keyboard, for screen readers, with a hundred models, on a slow line.

use fantoccini::key::Key;
use http::StatusCode;
use mlx_openai_server_hub::api::{ApiError, GroupFacts, MemoryState, ProcessState};
use serde_json::{Value, json};

use crate::browser::{Browser, Device, button, in_browser, report_not_run};
use crate::fixtures::{full_hub, history, hub, idle, model};
use crate::scripted_hub::Script;
use crate::{VIEWS, open};

const HOSTILE: &str = "</script><img src=x onerror=\"window.pwned=1\">{{7*7}}&amp;";

/// Most bytes of the first load.
const BUDGET: u64 = 120_000;

async fn open_view(browser: &Browser, view: &str) {
    browser.click(&format!("#tab-{view}")).await;
    if view == "charts" {
        browser
            .wait_for("#chart-memory figcaption", &["Memory"])
            .await;
    }
}

/// The script of axe; without it `test` is reported as not run.
pub(crate) fn axe(test: &str) -> Option<String> {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap();
    let axe = target.join("axe/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(axe).ok();
    if axe.is_none() {
        report_not_run(test, "axe-core");
    }
    axe
}

/// What axe finds on the page as it is, unless it is minor. Its script has been run.
pub(crate) async fn faults_now(browser: &Browser) -> Vec<String> {
    // A colour that is about to change is none to judge.
    let found = browser
        .run_async(
            "Promise.allSettled(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished)) \
             .then(() => axe.run(document, { resultTypes: ['violations'] })) \
             .then(({ violations }) => done(violations))",
        )
        .await;
    let found = found.as_array().unwrap().iter();
    let is_serious = |fault: &&Value| {
        ["serious", "critical"].contains(&fault["impact"].as_str().unwrap_or_default())
    };
    found
        .filter(is_serious)
        .map(|fault| format!("{} {}", fault["id"], fault["nodes"][0]["html"]))
        .collect()
}

/// What axe finds in each view.
async fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    browser.run(axe).await;
    let mut faults = Vec::new();
    for view in VIEWS {
        open_view(browser, view).await;
        let found = faults_now(browser).await.into_iter();
        faults.extend(found.map(|fault| format!("{view}: {fault}")));
    }
    faults
}

#[tokio::test]
async fn no_view_keeps_anybody_out_in_either_theme() {
    let Some(axe) = axe("no_view_keeps_anybody_out_in_either_theme") else {
        return;
    };
    for device in [Device::Desktop, Device::LightDesktop, Device::Phone] {
        in_browser(device, async |browser| {
            let (_hub, _server) = open(&browser, full_hub()).await;
            browser
                .click(".model[data-model=\"qwen3_30b\"] .name")
                .await;
            assert_eq!(faults(&browser, &axe).await, [""; 0], "{device:?}");
            // axe finds faults where there are any.
            browser
                .run("document.getElementById('refresh').textContent = ''")
                .await;
            assert!(!faults(&browser, &axe).await.is_empty());
        })
        .await;
    }
}

#[tokio::test]
async fn no_dialog_and_no_list_keeps_anybody_out() {
    let Some(axe) = axe("no_dialog_and_no_list_keeps_anybody_out") else {
        return;
    };
    for device in [Device::Desktop, Device::LightDesktop, Device::Phone] {
        in_browser(device, async |browser| {
            let (_hub, _server) = open(&browser, full_hub()).await;
            browser.run(&axe).await;
            let texts = "#requests [data-field=\"bodies\"]";
            for (view, button, dialog, close) in [
                ("models", "#stop", "#ask", "#ask-no"),
                (
                    "models",
                    "#warnings",
                    "#warnings-list",
                    "#warnings-list button",
                ),
                ("models", "#failed", "#failed-list", "#failed-list > button"),
                ("requests", texts, "#capture", "#capture button"),
            ] {
                open_view(&browser, view).await;
                browser.click(button).await;
                browser
                    .wait_until(&format!(
                        "document.querySelector({dialog:?}).checkVisibility()"
                    ))
                    .await;
                assert_eq!(
                    faults_now(&browser).await,
                    [""; 0],
                    "{dialog} on {device:?}"
                );
                browser
                    .screenshot(&format!("{}-{device:?}", &dialog[1..]).to_lowercase())
                    .await;
                browser.click(close).await;
                browser
                    .wait_until(&format!(
                        "!document.querySelector({dialog:?}).checkVisibility()"
                    ))
                    .await;
            }
        })
        .await;
    }
}

/// Where the focus is: an element's id or text, and whether its outline can be seen.
async fn focus(browser: &Browser) -> (String, bool) {
    let found = browser
        .evaluate(
            "(() => { const node = document.activeElement; const { outlineStyle, outlineWidth } = getComputedStyle(node); \
             return [node.id || node.textContent.trim(), outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1]; })()",
        )
        .await;
    (found[0].as_str().unwrap().to_owned(), found[1] == true)
}

#[tokio::test]
async fn all_of_it_works_by_keyboard() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = full_hub();
        script.models.truncate(3);
        let (hub, _server) = open(&browser, script).await;
        browser.wait_for(".model > th", &["qwen3_30b", "qwen3_4b", "gemma3-27b"]).await;
        for view in VIEWS {
            open_view(&browser, view).await;
            browser.run("document.activeElement.blur(); getSelection().removeAllRanges()").await;
            let wanted = "[...document.querySelectorAll('button, select, input, textarea, summary')] \
                .filter((node) => node.checkVisibility() && !node.disabled && node.tabIndex >= 0).length";
            let wanted = browser.evaluate(wanted).await.as_u64().unwrap();
            browser.run("window.reached = new Set()").await;
            for _ in 0..wanted + 12 {
                browser.key(Key::Tab).await;
                let (name, is_seen) = focus(&browser).await;
                let is_page = browser.evaluate("document.activeElement === document.body").await;
                assert!(is_page == true || is_seen, "{view}: no outline at {name}");
                browser.run("reached.add(document.activeElement)").await;
            }
            // What a request can be asked is among them.
            if view == "requests" {
                browser.wait_for(".flight button", &["Texts", "Cancel"]).await;
                browser.wait_for("#requests button", &["Texts"]).await;
            }
            let missed = "[...document.querySelectorAll('button, select, input, textarea, summary')] \
                .filter((node) => node.checkVisibility() && !node.disabled && node.tabIndex >= 0 && !reached.has(node)) \
                .map((node) => node.outerHTML.slice(0, 90))";
            assert_eq!(browser.evaluate(missed).await, json!([]), "{view}");
        }
        // From tab to tab by arrows.
        browser.run("document.getElementById('tab-config').focus()").await;
        browser.key(Key::Right).await;
        browser.wait_for("[aria-selected=\"true\"]", &["Models"]).await;
        // A question has the focus until it is answered, and gives it back.
        browser.run("document.getElementById('stop').focus()").await;
        browser.key(Key::Enter).await;
        browser.wait_for("#ask-title", &["Stop the hub?"]).await;
        for _ in 0..5 {
            let is_inside = "Boolean(document.activeElement.closest('#ask')) || document.activeElement === document.body";
            assert_eq!(browser.evaluate(is_inside).await, true);
            browser.key(Key::Tab).await;
        }
        browser.key(Key::Escape).await;
        browser.wait_for("#ask", &[]).await;
        browser.wait_until("document.activeElement.id === 'stop'").await;
        // The editor has its text checked.
        let posts = hub.posts();
        assert!(posts.iter().all(|post| post.starts_with("/hub/config/check ")), "{posts:?}");
        // So does a button that has done its work.
        let load = button("qwen3_4b", "memory");
        browser.run(&format!("document.querySelector('{load}').focus()")).await;
        browser.key(Key::Enter).await;
        browser.wait_for(&load, &["Unload"]).await;
        browser.wait_until("document.activeElement.textContent.trim() === 'Unload'").await;
    })
    .await;
}

#[tokio::test]
async fn a_hundred_models_are_shown_and_followed() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = Script {
            hub: hub(),
            ..Script::default()
        };
        for index in 0..100 {
            let name = format!("model-{index:02}");
            script.models.push(idle(model(
                &name,
                ProcessState::Running,
                MemoryState::Loaded,
            )));
        }
        let (hub, _server) = open(&browser, script).await;
        browser.wait_for("#loaded", &["100 / 100 loaded"]).await;
        assert_eq!(
            browser
                .evaluate("document.querySelectorAll('tr.model').length")
                .await,
            100
        );
        hub.edit(|script| script.models[99].0.memory_state = MemoryState::Unloaded);
        browser
            .wait_for(&button("model-99", "memory"), &["Load"])
            .await;
        browser.screenshot("hundred").await;
        // Whoever has scrolled down to the last one is told where it can be seen.
        let refusal = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "The group is full");
        hub.edit(|script| script.refusal = Some(refusal));
        browser.press("model-99", "memory").await;
        let said = "Could not load model-99: The group is full";
        browser.wait_for("#flash", &[said]).await;
        browser
            .wait_until("document.getElementById('flash').getBoundingClientRect().top >= 0")
            .await;
        browser.screenshot("refused-below").await;
    })
    .await;
}

#[tokio::test]
async fn hostile_names_are_text_in_every_view() {
    in_browser(Device::Desktop, async |browser| {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, format!("{HOSTILE}\n")).unwrap();
        let mut script = full_hub();
        let facts = &mut script.models[0].0;
        facts.name = HOSTILE.to_owned();
        facts.model_path = HOSTILE.to_owned();
        facts.group = Some(HOSTILE.to_owned());
        facts.memory_last_error = Some(HOSTILE.to_owned());
        facts.log_path = Some(log.display().to_string());
        script.hub.groups.push(GroupFacts {
            name: HOSTILE.to_owned(),
            ..GroupFacts::default()
        });
        script.hub.warnings = vec![HOSTILE.to_owned()];
        for request in &mut script.ended {
            request.model = Some(HOSTILE.to_owned());
            request.path = HOSTILE.to_owned();
            request.client = HOSTILE.to_owned();
            request.id = HOSTILE.to_owned();
        }
        for request in &mut script.in_flight {
            request.model = Some(HOSTILE.to_owned());
            request.path = HOSTILE.to_owned();
            request.client = HOSTILE.to_owned();
            request.id = HOSTILE.to_owned();
        }
        script.history = history(&[HOSTILE]);
        script.unloads = vec![HOSTILE.to_owned()];
        script.config = HOSTILE.to_owned();
        let (hub, _server) = open(&browser, script).await;
        browser.click(".model .name").await;
        for view in VIEWS {
            open_view(&browser, view).await;
            let choices = format!("#view-{view} select option[value=\"{}\"]", HOSTILE.replace('"', "\\\""));
            if !["models", "logs", "config"].contains(&view) {
                assert_ne!(browser.evaluate(&format!("document.querySelectorAll({choices:?}).length")).await, 0, "{view}");
            }
        }
        browser.wait_for("#chart-tokens .legend li", &[]).await;
        open_view(&browser, "charts").await;
        browser.wait_for("#chart-tokens .legend li", &[HOSTILE]).await;
        open_view(&browser, "clients").await;
        let chosen = format!(
            "(() => {{ const select = document.getElementById('clients-model'); select.value = {HOSTILE:?}; \
             select.dispatchEvent(new Event('change')); }})()"
        );
        browser.evaluate(&chosen).await;
        browser.click("#view-clients summary").await;
        let follows = "document.querySelector('#view-clients code').textContent.includes('<img src=x')";
        browser.wait_until(follows).await;
        open_view(&browser, "requests").await;
        browser.wait_for(".flight [data-field=\"model\"]", &[HOSTILE]).await;
        browser.click(".flight .danger").await;
        browser.wait_for("#ask-title", &["Cancel this request?"]).await;
        browser.click("#ask-yes").await;
        browser.wait_for("#no-flights", &["No request is in flight."]).await;
        // The editor has its text checked.
        let cancelled = hub.posts().into_iter().filter(|post| post.starts_with("/hub/requests/"));
        assert_eq!(cancelled.count(), 1);
        assert_eq!(browser.evaluate("document.images.length").await, 0);
        assert_eq!(browser.evaluate("window.pwned === undefined").await, true);
    })
    .await;
}

#[tokio::test]
async fn the_first_load_is_small_and_drawn_soon() {
    in_browser(Device::Desktop, async |browser| {
        let (_hub, server) = open(&browser, full_hub()).await;
        // The second time, as the browser itself is warm then.
        browser.open("about:blank").await;
        browser.open(&server.page()).await;
        browser.wait_for("#status", &["DEGRADED"]).await;
        let loaded = browser
            .evaluate(
                "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] \
                 .map(({ name, decodedBodySize }) => [name, decodedBodySize])",
            )
            .await;
        let sizes = loaded.as_array().unwrap().iter();
        let bytes: u64 = sizes.map(|entry| entry[1].as_u64().unwrap()).sum();
        assert!(bytes > 20_000 && bytes < BUDGET, "{bytes} bytes: {loaded}");
        let has_charts = |entry: &Value| entry[0].as_str().unwrap().ends_with("/charts.js");
        assert!(!loaded.as_array().unwrap().iter().any(has_charts));
        let painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime";
        let painted = browser.evaluate(painted).await.as_f64().unwrap();
        // 200 ms on a machine that does nothing else.
        assert!(painted < 3000.0, "{painted} ms");
    })
    .await;
}

#[tokio::test]
async fn the_last_hour_is_drawn_with_its_figures() {
    in_browser(Device::Desktop, async |browser| {
        let (_hub, _server) = open(&browser, full_hub()).await;
        open_view(&browser, "charts").await;
        let legend = ["qwen3_30b", "qwen3_4b"];
        browser.wait_for("#chart-tokens .legend li", &legend).await;
        let all = ["the machine, in use", "qwen3_30b", "qwen3_4b"];
        browser.wait_for("#chart-memory .legend li", &all).await;
        // A gap where nothing is known.
        let path = browser.evaluate("document.querySelector('#chart-tokens path').getAttribute('d')").await;
        assert_eq!(path.as_str().unwrap().matches('M').count(), 2, "{path}");
        assert_eq!(browser.evaluate("document.querySelectorAll('#chart-loads circle').length").await, 2);
        let told = browser.evaluate("document.querySelector('#chart-tokens desc').textContent").await;
        assert!(told.as_str().unwrap().contains("qwen3_30b: last 20, mean 20, most 40"), "{told}");
        browser.click("#chart-tokens summary").await;
        browser
            .wait_for("#chart-tokens tbody tr:first-child > *", &["qwen3_30b", "20", "20", "40"])
            .await;
        browser.screenshot("charts").await;
        browser
            .evaluate("(() => { const select = document.getElementById('charts-model'); select.value = 'qwen3_4b'; select.dispatchEvent(new Event('change')); })()")
            .await;
        browser.wait_for("#chart-memory .legend li", &["qwen3_4b"]).await;
    })
    .await;
}
