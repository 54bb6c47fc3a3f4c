//! What the page shows of a status.

use http::StatusCode;
use mlx_openai_server_hub::api::{
    Activity, ApiError, EndedRequest, GroupFacts, MemoryState, ProcessState,
};

use crate::browser::{Device, in_browser};
use crate::fixtures::{busy_hub, hub, idle, model, three_models, wordy_hub};
use crate::scripted_hub::Script;
use crate::{VIEWS, open};

/// What reaches beyond the window.
const BEYOND: &str = "[...document.querySelectorAll('body *')].filter((node) => { \
    const { left, right, width } = node.getBoundingClientRect(); \
    return width > 0 && (right > innerWidth + 1 || left < -1) && !node.closest('.log, .hidden, thead'); \
    }).map((node) => node.outerHTML.slice(0, 90))";

/// Opens every row, and every list within one.
const OPEN_ALL: &str = "for (const name of document.querySelectorAll('.name[aria-expanded=false]')) name.click(); \
    for (const details of document.querySelectorAll('details')) details.open = true;";

/// Texts that do not fit into their boxes, which cut them or lie over what is beside them.
const CUT: &str = "[...document.querySelectorAll('button, summary, dd, dt, td, th, p, li, .state, .pill')].filter((node) => \
    node.checkVisibility() && node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1 && !node.closest('.log, .hidden, thead') \
    ).map((node) => node.outerHTML.slice(0, 90))";

/// Waits until a view has what it asks the hub for.
async fn wait_for_rows(browser: &crate::browser::Browser, view: &str) {
    if view == "policies" {
        browser
            .wait_until("document.querySelectorAll('#decisions li').length === 3")
            .await;
    }
}

#[tokio::test]
async fn every_state_has_its_words_and_its_buttons() {
    use {MemoryState as Memory, ProcessState as Process};
    let cases = [
        (
            Process::Inactive,
            Memory::Unloaded,
            "INACTIVE",
            "—",
            "Start",
            None,
        ),
        (
            Process::Starting,
            Memory::Loading,
            "STARTING • PID 7 • PORT 9",
            "—",
            "Starting…",
            None,
        ),
        (
            Process::Running,
            Memory::Unloaded,
            "RUNNING • PID 7 • PORT 9",
            "UNLOADED",
            "Stop",
            Some("Load"),
        ),
        (
            Process::Running,
            Memory::Loading,
            "RUNNING • PID 7 • PORT 9",
            "LOADING",
            "Stop",
            Some("Loading…"),
        ),
        (
            Process::Running,
            Memory::Loaded,
            "RUNNING • PID 7 • PORT 9",
            "LOADED",
            "Stop",
            Some("Unload"),
        ),
        (
            Process::Running,
            Memory::Unloading,
            "RUNNING • PID 7 • PORT 9",
            "UNLOADING",
            "Stop",
            Some("Unloading…"),
        ),
        (
            Process::Running,
            Memory::Failed,
            "RUNNING • PID 7 • PORT 9",
            "FAILED",
            "Stop",
            Some("Load"),
        ),
        (
            Process::Stopping,
            Memory::Unloading,
            "STOPPING • PID 7 • PORT 9",
            "—",
            "Stopping…",
            None,
        ),
        (
            Process::Stopped,
            Memory::Unloaded,
            "STOPPED",
            "—",
            "Start",
            None,
        ),
        (
            Process::Failed,
            Memory::Failed,
            "FAILED • exit -9",
            "—",
            "Start",
            None,
        ),
    ];
    let mut script = Script {
        hub: hub(),
        ..Script::default()
    };
    for (index, (process, memory, ..)) in cases.iter().enumerate() {
        let mut facts = model(&format!("m{index}"), *process, *memory);
        facts.port = Some(9);
        facts.pid = matches!(
            process,
            Process::Starting | Process::Running | Process::Stopping
        )
        .then_some(7);
        facts.exit_code = (*process == Process::Failed).then_some(-9);
        script.models.push(idle(facts));
    }
    in_browser(Device::Desktop, async |browser| {
        let (_hub, _server) = open(&browser, script).await;
        for (index, (_, _, process, memory, process_button, memory_button)) in
            cases.iter().enumerate()
        {
            let name = format!("m{index}");
            let cell =
                |label: &str| format!(".model[data-model=\"{name}\"] [data-label=\"{label}\"]");
            browser.wait_for(&cell("Process"), &[process]).await;
            browser.wait_for(&cell("Memory"), &[memory]).await;
            let mut buttons = vec![*process_button];
            buttons.extend(memory_button);
            let shown = format!(".model[data-model=\"{name}\"] [data-cluster]");
            browser.wait_for(&shown, &buttons).await;
            buttons.retain(|text| !text.ends_with('…'));
            let enabled = format!("{shown}:enabled");
            browser.wait_for(&enabled, &buttons).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_busy_hub_shows_everything_the_status_says() {
    in_browser(Device::Desktop, async |browser| {
        let (_hub, _server) = open(&browser, busy_hub()).await;
        browser.wait_for("#status", &["DEGRADED"]).await;
        browser.wait_for("#failed", &["1 FAILED"]).await;
        browser
            .wait_for("#active, #queued", &["2 in flight", "4 waiting"])
            .await;
        browser
            .wait_for("#started, #loaded", &["3 / 5 started", "1 / 5 loaded"])
            .await;
        browser
            .wait_for("#openai-url", &["http://localhost:8000/v1"])
            .await;
        browser.wait_for("#warnings", &["2 WARNINGS"]).await;
        browser.click("#warnings").await;
        assert_eq!(browser.texts("#warnings-list li").await.len(), 2);
        browser.screenshot("warnings").await;
        browser.click("#warnings-list button").await;
        browser.wait_for("#warnings-list li", &[]).await;
        // The failed ones are named, and a click leads to each.
        browser.click("#failed").await;
        browser.wait_for("#failed-list li", &["flux-schnell"]).await;
        browser.click("#failed-list li button").await;
        browser.wait_for("#failed-list li", &[]).await;
        let focused = browser.evaluate("document.activeElement.textContent").await;
        assert_eq!(focused, "flux-schnell");
        let chips = [
            "high_load\n2 of 2 loaded\nidle limit 30 min",
            "images\n0 of 1 loaded",
            "small\n0 loaded, no cap",
        ];
        browser.wait_for("#groups li", &chips).await;
        browser.click("#groups summary").await;
        let members = "Members: qwen3_30b (loaded), gemma3-27b (loaded)";
        browser.wait_for("#groups p", &[members]).await;
        let row = browser.texts(".model[data-model=\"qwen3_30b\"] > *").await;
        assert_eq!(row[0], "qwen3_30b");
        assert_eq!(row[1], "RUNNING • PID 4321 • PORT 47850\n2 in flight");
        assert!(row[2].starts_with("LOADED • "), "{row:?}");
        assert!(row[2].ends_with(" • 31.0 GB"), "{row:?}");
        assert_eq!(
            row[3..8],
            [
                "120 min",
                "lm",
                "high_load",
                "✅",
                "mlx-community/qwen3_30b"
            ]
        );
        let error = browser
            .text("tbody[data-model=\"flux-schnell\"] .error")
            .await;
        assert!(
            error.starts_with("Error: the process ended by signal 9"),
            "{error}"
        );
        browser.screenshot("busy").await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_cut_or_hidden_at_any_width() {
    in_browser(Device::Desktop, async |browser| {
        let (_hub, _server) = open(&browser, wordy_hub()).await;
        browser.wait_for("#status", &["DEGRADED"]).await;
        browser.run(OPEN_ALL).await;
        for width in [500, 640, 800, 1024, 1180, 1280, 1440, 1600] {
            browser.resize(width, 1000).await;
            for view in VIEWS {
                browser.click(&format!("#tab-{view}")).await;
                wait_for_rows(&browser, view).await;
                let found = browser.evaluate(BEYOND).await;
                assert_eq!(found, serde_json::json!([]), "{view} at {width}");
                browser.run(OPEN_ALL).await;
                let cut = browser.evaluate(CUT).await;
                assert_eq!(cut, serde_json::json!([]), "{view} at {width}");
                let wide = browser
                    .evaluate("document.documentElement.scrollWidth")
                    .await;
                assert!(
                    wide.as_i64() <= Some(i64::from(width)),
                    "{view}: {wide} at {width}"
                );
            }
            for view in ["policies", "requests", "models"] {
                browser.click(&format!("#tab-{view}")).await;
                browser.screenshot(&format!("width-{width}-{view}")).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_details_of_a_model_say_what_is_known_of_it() {
    in_browser(Device::Desktop, async |browser| {
        let (_hub, _server) = open(&browser, busy_hub()).await;
        browser
            .click(".model[data-model=\"qwen3_30b\"] .name")
            .await;
        let details = "tbody[data-model=\"qwen3_30b\"] .more";
        browser
            .wait_for(
                &format!("{details} [data-field=\"no-decisions\"]"),
                &["Nothing has been decided about it yet."],
            )
            .await;
        let pairs = browser.text(&format!("{details} dl")).await;
        assert!(pairs.contains("Loaded by"), "{pairs}");
        browser
            .click(&format!("{details} [data-goto=\"requests\"]"))
            .await;
        browser
            .wait_for("#view-requests .bar h2", &["The last requests"])
            .await;
        assert_eq!(
            browser
                .evaluate("document.getElementById('requests-model').value")
                .await,
            "qwen3_30b"
        );
    })
    .await;
}

#[tokio::test]
async fn a_row_says_when_its_model_is_unloaded_and_how_long_its_load_takes() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = busy_hub();
        script.hub.groups[0].idle_unload_trigger_min = Some(60);
        let (loaded, activity) = &mut script.models[0];
        loaded.auto_unload_minutes = Some(120);
        loaded.last_load_at = Some(1_764_000_000.0 - 40.0 * 60.0);
        *activity = Activity::default();
        let loading = &mut script.models[2].0;
        loading.memory_last_transition_at = Some(1_764_000_000.0 - 600.0);
        loading.load_seconds = Some(1200.0);
        let (hub, _server) = open(&browser, script).await;
        let note = |name: &str| format!("[data-model=\"{name}\"] [data-field=\"memory-note\"]");
        let loaded = note("qwen3_30b");
        // Of two limits the smaller counts, whichever it is.
        browser
            .wait_for(&loaded, &["idle 40 min, unloads in 20 min"])
            .await;
        browser
            .wait_for(&note("gemma3-27b"), &["10 min of about 20 min"])
            .await;
        browser.screenshot("notes").await;
        hub.edit(|script| script.models[0].0.auto_unload_minutes = Some(50));
        browser
            .wait_for(&loaded, &["idle 40 min, unloads in 10 min"])
            .await;
        hub.edit(|script| {
            script.models[0].0.auto_unload_minutes = None;
            script.hub.groups[0].idle_unload_trigger_min = Some(90);
        });
        browser
            .wait_for(&loaded, &["idle 40 min, unloads in 50 min"])
            .await;
    })
    .await;
}

#[tokio::test]
async fn the_last_requests_are_listed_the_newest_first() {
    let request = |number, status, model: Option<&str>| EndedRequest {
        number,
        time: 1_764_000_000.0,
        client: "127.0.0.1".to_owned(),
        protocol: "openai".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: model.map(str::to_owned),
        status,
        seconds: 2.5,
        first_token_seconds: Some(0.25),
        prompt_tokens: Some(12),
        completion_tokens: Some(34),
        tokens_per_second: Some(14.66),
        ..EndedRequest::default()
    };
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.ended = vec![request(1, 200, Some("gamma")), request(2, 404, None)];
        let (hub, _server) = open(&browser, script).await;
        browser.click("#tab-requests").await;
        let row = ".request:nth-child(2) td";
        browser
            .wait_for(".request [data-field=\"status\"]", &["404", "200"])
            .await;
        let cells = browser.texts(row).await;
        assert_eq!(
            cells[1..],
            [
                "200",
                "gamma",
                "127.0.0.1",
                "chat/completions",
                "—",
                "0.3 s",
                "2.5 s",
                "12 → 34",
                "14.7"
            ]
        );
        let third = EndedRequest {
            id: "three".to_owned(),
            ..request(3, 499, Some("alpha"))
        };
        hub.edit(|script| script.ended.push(third));
        browser
            .wait_for(
                ".request [data-field=\"status\"]",
                &["499 client left", "404", "200"],
            )
            .await;
        browser.screenshot("requests").await;
        browser
            .click("#requests .request:first-child summary")
            .await;
        let whole = "POST /v1/chat/completions, id three";
        browser
            .wait_for("#requests [data-field=\"whole\"]", &[whole])
            .await;
        browser.click("#requests-failed").await;
        browser
            .wait_for(".request [data-field=\"model\"]", &["alpha", "—"])
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_phone_shows_all_of_it_without_scrolling_sideways() {
    in_browser(Device::Phone, async |browser| {
        let (_hub, _server) = open(&browser, wordy_hub()).await;
        browser.wait_for("#status", &["DEGRADED"]).await;
        assert_eq!(browser.evaluate("innerWidth").await, 390);
        for view in VIEWS {
            browser.click(&format!("#tab-{view}")).await;
            wait_for_rows(&browser, view).await;
            browser.run(OPEN_ALL).await;
            let cut = browser.evaluate(CUT).await;
            assert_eq!(cut, serde_json::json!([]), "{view}");
            assert_eq!(
                browser.evaluate(BEYOND).await,
                serde_json::json!([]),
                "{view}"
            );
            let wide = "document.documentElement.scrollWidth";
            assert_eq!(browser.evaluate(wide).await, 390, "{view}");
            browser.screenshot(&format!("phone-{view}")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_light_system_gets_a_light_page() {
    in_browser(Device::LightDesktop, async |browser| {
        let (_hub, _server) = open(&browser, busy_hub()).await;
        browser.wait_for("#status", &["DEGRADED"]).await;
        let background = "getComputedStyle(document.body).backgroundColor";
        assert_eq!(browser.evaluate(background).await, "rgb(244, 245, 248)");
        browser.screenshot("light").await;
    })
    .await;
}

#[tokio::test]
async fn an_empty_hub_says_so() {
    in_browser(Device::Desktop, async |browser| {
        let script = Script {
            hub: hub(),
            ..Script::default()
        };
        let (_hub, _server) = open(&browser, script).await;
        browser
            .wait_for("#models tr", &["No models registered."])
            .await;
        browser.wait_for("#status", &["OK"]).await;
        assert_eq!(browser.texts("#warnings, #groups, .banner").await, [""; 0]);
        browser.screenshot("empty").await;
    })
    .await;
}

#[tokio::test]
async fn text_from_the_configuration_never_becomes_markup() {
    const HOSTILE: &str = "</script><img src=x onerror=\"window.pwned=1\">{{7*7}}&amp;";
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        let facts = &mut script.models[0].0;
        facts.name = HOSTILE.to_owned();
        facts.model_path = HOSTILE.to_owned();
        facts.group = Some(HOSTILE.to_owned());
        facts.memory_last_error = Some(HOSTILE.to_owned());
        script.hub.warnings = vec![HOSTILE.to_owned()];
        script.hub.groups = vec![GroupFacts {
            name: HOSTILE.to_owned(),
            ..GroupFacts::default()
        }];
        script.refusal = Some(ApiError::new(StatusCode::BAD_REQUEST, HOSTILE));
        let (hub, _server) = open(&browser, script).await;
        browser
            .wait_for(".model > th", &[HOSTILE, "beta", "gamma"])
            .await;
        browser.click("#warnings").await;
        browser.wait_for("#warnings-list li", &[HOSTILE]).await;
        browser.click("#warnings-list button").await;
        browser.click(".model [data-cluster=\"process\"]").await;
        let flash = format!("Could not start {HOSTILE}: {HOSTILE}");
        browser.wait_for("#flash", &[&flash]).await;
        assert_eq!(hub.posts().len(), 1);
        assert_eq!(browser.evaluate("document.images.length").await, 0);
        assert_eq!(browser.evaluate("window.pwned === undefined").await, true);
    })
    .await;
}
