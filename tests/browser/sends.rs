//! What the page sends when it is clicked, and how it keeps up with the hub.

use http::StatusCode;
use mlx_openai_server_hub::api::{ApiError, MemoryState, ProcessState};

use crate::browser::{Device, button, in_browser};
use crate::fixtures::{idle, model, three_models};
use crate::open;
use crate::scripted_hub::{Events, Server};

#[tokio::test]
async fn every_button_posts_to_its_route_and_nothing_else_is_called() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        for (model, cluster, before, after) in [
            ("alpha", "process", "Start", "Stop"),
            ("beta", "memory", "Load", "Unload"),
            ("gamma", "memory", "Unload", "Load"),
            ("gamma", "process", "Stop", "Start"),
        ] {
            let button = button(model, cluster);
            browser.wait_for(&button, &[before]).await;
            browser.press(model, cluster).await;
            browser.wait_for(&button, &[after]).await;
        }
        for control in ["#refresh", "#reload", "#unload-all", "#stop-all", "#stop"] {
            browser.click(control).await;
            if control.starts_with("#stop") {
                browser.click("#ask-yes").await;
            }
            browser
                .wait_for(
                    &format!("{control}:enabled"),
                    &[&browser.text(control).await],
                )
                .await;
        }
        let posts = [
            "/hub/models/alpha/start",
            "/hub/models/beta/load",
            "/hub/models/gamma/unload",
            "/hub/models/gamma/stop",
            "/hub/reload",
            "/hub/models/unload-all",
            "/hub/models/stop-all",
            "/hub/shutdown",
        ]
        .map(|path| format!("{path} {{\"reason\":\"dashboard\"}}"));
        assert_eq!(hub.posts(), posts);
        let reads = [
            "/hub",
            "/hub/assets/capture.js",
            "/hub/assets/chat.js",
            "/hub/assets/clients.js",
            "/hub/assets/flights.js",
            "/hub/assets/hub.css",
            "/hub/assets/hub.js",
            "/hub/assets/logs.js",
            "/hub/assets/models.js",
            "/hub/assets/page.js",
            "/hub/assets/policies.js",
            "/hub/assets/requests.js",
            "/hub/events",
            "/hub/models/alpha/plan",
            "/hub/models/beta/plan",
            "/hub/models/gamma/plan",
            "/hub/status",
        ];
        assert_eq!(hub.paths_read(), reads);
    })
    .await;
}

#[tokio::test]
async fn a_button_waits_for_its_own_request() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        hub.hold(true);
        for (model, cluster, doing, after) in [
            ("alpha", "process", "Starting…", "Stop"),
            ("beta", "memory", "Loading…", "Unload"),
            ("gamma", "memory", "Unloading…", "Load"),
        ] {
            browser.press(model, cluster).await;
            assert_eq!(
                browser.button(model, cluster).await,
                (doing.to_owned(), false)
            );
            hub.hold(false);
            browser.wait_for(&button(model, cluster), &[after]).await;
            hub.hold(true);
        }
        browser.press("alpha", "process").await;
        let stopping = ("Stopping…".to_owned(), false);
        assert_eq!(browser.button("alpha", "process").await, stopping);
    })
    .await;
}

#[tokio::test]
async fn the_page_follows_the_hub_by_itself() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        browser
            .wait_for(".model > th", &["alpha", "beta", "gamma"])
            .await;
        hub.edit(|script| {
            script.models.remove(1);
            script.models[0].0.process_state = ProcessState::Failed;
            let new = model("delta", ProcessState::Inactive, MemoryState::Unloaded);
            script.models.insert(0, idle(new));
        });
        browser
            .wait_for(".model > th", &["delta", "alpha", "gamma"])
            .await;
        browser
            .wait_for(
                ".model[data-model=\"alpha\"] [data-label=\"Process\"]",
                &["FAILED"],
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn models_answer_in_a_toast_and_the_hub_in_a_flash_banner() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        let kind = async || {
            browser
                .find("#flash")
                .await
                .attr("data-kind")
                .await
                .unwrap()
        };

        browser.click("#reload").await;
        let report = "Hub reloaded: started=alpha, beta | stopped=none | unchanged=gamma\nChanged policies: night.lua";
        browser.wait_for("#flash", &[report]).await;
        assert_eq!(kind().await.as_deref(), Some("ok"));

        browser.press("alpha", "process").await;
        browser
            .wait_for(".toast", &["Start process request sent for alpha"])
            .await;
        browser.screenshot("flash-and-toast").await;
        browser.wait_for(".toast", &[]).await;
        browser.press("beta", "memory").await;
        browser
            .wait_for(".toast", &["Load memory request sent for beta"])
            .await;

        browser.click("#stop").await;
        browser.click("#ask-yes").await;
        browser.wait_for("#flash[data-kind=\"stop\"]", &[
            "Shutdown requested: the hub finishes its requests, stops every model and exits.",
        ]).await;

        let refusal = "hub.yaml:3:1: `models` is missing";
        hub.edit(|script| script.refusal = Some(ApiError::new(StatusCode::BAD_REQUEST, refusal)));
        browser.click("#reload").await;
        let flash = format!("Reload failed: {refusal}");
        browser
            .wait_for("#flash[data-kind=\"error\"]", &[&flash])
            .await;
        browser.screenshot("refused").await;
    })
    .await;
}

#[tokio::test]
async fn a_load_that_evicts_says_whom_and_asks_first() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.unloads = vec!["gamma".to_owned()];
        script.models[2].1.active_requests = 2;
        let (hub, _server) = open(&browser, script).await;
        browser.press("beta", "memory").await;
        browser.wait_for("#ask-title", &["Load beta?"]).await;
        let text = "There is no room for both: gamma will be unloaded. 2 requests in flight will be answered first.";
        browser.wait_for("#ask-text", &[text]).await;
        browser.wait_for("#ask-yes", &["Load (unloads gamma)"]).await;
        browser.screenshot("evicts").await;
        browser.click("#ask-no").await;
        browser.wait_for(&format!("{}:enabled", button("beta", "memory")), &["Load"]).await;
        assert!(hub.posts().is_empty());

        browser.press("beta", "memory").await;
        browser.click("#ask-yes").await;
        browser.wait_for(&button("beta", "memory"), &["Unload"]).await;
        // A start loads too, unless it waits for a request.
        browser.press("alpha", "process").await;
        browser.wait_for("#ask-title", &["Load alpha?"]).await;
        browser.click("#ask-no").await;
        browser.click(".model[data-model=\"alpha\"] .name").await;
        hub.edit(|script| script.models[0].0.jit_enabled = true);
        let loaded_by = "tbody[data-model=\"alpha\"] .more dl dd:nth-of-type(3)";
        browser.wait_for(loaded_by, &["its first request"]).await;
        browser.press("alpha", "process").await;
        browser.wait_for(&button("alpha", "process"), &["Stop"]).await;
        let posts = ["/hub/models/beta/load", "/hub/models/alpha/start"]
            .map(|path| format!("{path} {{\"reason\":\"dashboard\"}}"));
        assert_eq!(hub.posts(), posts);
    })
    .await;
}

#[tokio::test]
async fn a_model_in_use_is_neither_stopped_nor_unloaded_by_one_click() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.events = Events::Refused;
        let (hub, _server) = open(&browser, script).await;
        browser
            .wait_for(&button("gamma", "process"), &["Stop"])
            .await;
        // The page may not know of them yet; the hub does.
        hub.edit(|script| {
            script.models[2].1.active_requests = 1;
            script.models[2].1.parked_requests = 2;
        });
        let text =
            "1 request in flight will be answered first. 2 requests waiting will be refused.";
        for (cluster, verb) in [("process", "Stop"), ("memory", "Unload")] {
            browser.press("gamma", cluster).await;
            browser
                .wait_for("#ask-title", &[&format!("{verb} gamma?")])
                .await;
            browser.wait_for("#ask-text", &[text]).await;
            browser
                .wait_for("#ask-yes", &[&format!("{verb} gamma")])
                .await;
            browser.screenshot("stops-in-use").await;
            browser.click("#ask-no").await;
            browser
                .wait_for(&format!("{}:enabled", button("gamma", cluster)), &[verb])
                .await;
        }
        assert!(hub.posts().is_empty());

        browser.press("gamma", "process").await;
        browser.click("#ask-yes").await;
        browser
            .wait_for(&button("gamma", "process"), &["Start"])
            .await;
        assert_eq!(
            hub.posts(),
            ["/hub/models/gamma/stop {\"reason\":\"dashboard\"}"]
        );
    })
    .await;
}

#[tokio::test]
async fn nothing_stops_by_one_click() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        for (control, question) in [
            ("#stop", "Stop the hub?"),
            ("#stop-all", "Stop all models?"),
        ] {
            browser.click(control).await;
            browser.wait_for("#ask-title", &[question]).await;
            browser.screenshot("asks").await;
            browser.click("#ask [value=\"no\"]").await;
            browser.wait_for("#ask", &[]).await;
        }
        assert!(hub.posts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_change_anywhere_is_drawn_at_once() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        browser.wait_for(".model > th", &["alpha", "beta", "gamma"]).await;
        // The page notes when each change of a row was drawn.
        let note = "(window.drawn = [], new MutationObserver(() => drawn.push(Date.now())) \
            .observe(document.querySelector('tbody[data-model=alpha]'), { childList: true, subtree: true, characterData: true }), null)";
        browser.evaluate(note).await;
        let changed = browser.evaluate("Date.now()").await.as_f64().unwrap();
        hub.edit(|script| script.models[0].0.process_state = ProcessState::Failed);
        browser
            .wait_for(".model[data-model=\"alpha\"] [data-label=\"Process\"]", &["FAILED"])
            .await;
        let drawn = browser.evaluate("drawn[0]").await.as_f64().unwrap();
        // 100 ms at most until it is told; the rest is this test's and the machine's.
        assert!(drawn - changed < 1500.0, "{} ms", drawn - changed);
    })
    .await;
}

#[tokio::test]
async fn a_hub_that_goes_away_is_missed_and_found_again() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, server) = open(&browser, three_models()).await;
        browser.wait_for("#status", &["OK"]).await;
        browser.click("#stop").await;
        browser.click("#ask-yes").await;
        let stops = "#flash[data-kind=\"stop\"]";
        browser.find(stops).await;
        let address = server.address;
        server.stop().await;
        let gone = "The hub cannot be reached. This page keeps trying.";
        browser.wait_for("#error", &[gone]).await;
        browser.wait_for("#status", &["ERROR"]).await;
        browser
            .wait_for(".model > th", &["alpha", "beta", "gamma"])
            .await;
        // One banner, and nothing to click that needs a hub.
        browser.wait_for("#flash", &[]).await;
        for id in ["reload", "unload-all", "stop-all", "stop"] {
            browser.find(&format!("#{id}:disabled")).await;
        }
        browser.find("#refresh:enabled").await;
        browser.click("#refresh").await;
        browser.find("#refresh:enabled").await;
        browser.wait_for("#flash", &[]).await;
        browser.screenshot("unreachable").await;
        let _server = Server::start(&hub, address).await;
        browser.wait_for("#status", &["OK"]).await;
        browser.wait_for("#error", &[]).await;
        // What was said of the hub that went is not said of this one.
        browser.wait_for("#flash", &[]).await;
        browser.find("#reload:enabled").await;
        browser.find("#stop:enabled").await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_goes_when_its_cause_is_gone_and_can_be_closed() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        let refuse = |status, text: &str| {
            let refusal = Some(ApiError::new(status, text.to_owned()));
            hub.edit(|script| script.refusal = refusal);
        };
        let failures = "#flash[data-kind=\"error\"]";
        let long = "no room for it\nits log ends with:\n  Killed";
        let said = "Could not load beta: no room for it";

        // The next try does it.
        refuse(StatusCode::SERVICE_UNAVAILABLE, long);
        browser.press("beta", "memory").await;
        browser.wait_for(failures, &[said]).await;
        hub.edit(|script| script.refusal = None);
        browser.press("beta", "memory").await;
        browser
            .wait_for(&button("beta", "memory"), &["Unload"])
            .await;
        browser.wait_for("#flash, #flash-close", &[]).await;

        // So does somebody else, but not what becomes of another model.
        hub.edit(|script| script.models[1].0.memory_state = MemoryState::Unloaded);
        browser.wait_for(&button("beta", "memory"), &["Load"]).await;
        refuse(StatusCode::SERVICE_UNAVAILABLE, long);
        browser.press("beta", "memory").await;
        browser.wait_for(failures, &[said]).await;
        hub.edit(|script| script.models[2].0.memory_state = MemoryState::Unloaded);
        browser
            .wait_for(&button("gamma", "memory"), &["Load"])
            .await;
        assert_eq!(browser.texts(failures).await, [said]);
        hub.edit(|script| script.models[1].0.memory_state = MemoryState::Loaded);
        browser.wait_for("#flash", &[]).await;

        // A hub.yaml that is mended.
        let mistake = "hub.yaml:3:1: `models` is missing";
        refuse(StatusCode::BAD_REQUEST, mistake);
        browser.click("#reload").await;
        let said = format!("Reload failed: {mistake}");
        browser.wait_for(failures, &[&said]).await;
        hub.edit(|script| script.hub.degraded = true);
        browser.wait_for("#status", &["DEGRADED"]).await;
        assert_eq!(browser.texts(failures).await, [&*said]);
        // It hides nothing of the hub's state.
        let lowest = "document.getElementById('messages').getBoundingClientRect().bottom";
        let highest = "document.getElementById('status').getBoundingClientRect().top";
        let is_clear = browser.evaluate(&format!("{lowest} <= {highest}")).await;
        assert_eq!(is_clear, true);
        hub.edit(|script| script.hub.degraded = false);
        browser.wait_for("#flash", &[]).await;

        browser.click("#reload").await;
        browser.wait_for(failures, &[&said]).await;
        browser.click("#flash-close").await;
        browser.wait_for("#flash, #flash-close", &[]).await;
        assert_ne!(browser.evaluate("document.activeElement.id").await, "");
    })
    .await;
}
