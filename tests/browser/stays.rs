//! What one is about to click stays where it is, whatever the hub tells meanwhile.

use mlx_openai_server_hub::api::{EndedRequest, MemoryState, ProcessState, RequestInFlight, Stage};

use crate::browser::{Browser, Device, button, in_browser};
use crate::fixtures::{busy_hub, hub, idle, model, three_models};
use crate::open;
use crate::scripted_hub::Script;

const NOW: f64 = 1_764_000_000.0;

fn ended(number: u64) -> EndedRequest {
    EndedRequest {
        number,
        id: format!("id-{number}"),
        time: NOW,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some("beta".to_owned()),
        status: 200,
        ..EndedRequest::default()
    }
}

fn in_flight(number: u64) -> RequestInFlight {
    RequestInFlight {
        number,
        id: number.to_string(),
        time: NOW - 41.0,
        model: Some("beta".to_owned()),
        stage: Stage::Sent,
        ..RequestInFlight::default()
    }
}

/// Fails if that element is further up or down than it was, but for what is rounded when a page is scrolled.
async fn assert_at(browser: &Browser, css: &str, before: f64) {
    let now = browser.top(css).await;
    assert!((now - before).abs() <= 2.0, "{css}: {now} after {before}");
}

#[tokio::test]
async fn warnings_failures_and_notes_move_no_button() {
    for device in [Device::Desktop, Device::Phone] {
        in_browser(device, async |browser| {
            let mut script = three_models();
            script.models[1].0.last_load_at = Some(NOW);
            let (hub, _server) = open(&browser, script).await;
            let stop = button("gamma", "process");
            browser.wait_for(&stop, &["Stop"]).await;
            let [tab, row] = [browser.top("#tab-logs").await, browser.top(&stop).await];
            hub.edit(|script| {
                script.hub.warnings = vec!["the first of them".to_owned(), "another".to_owned()];
                script.models[0].0.memory_state = MemoryState::Failed;
                // Notes of all kinds, above and beside the button.
                script.models[1].0.memory_state = MemoryState::Loading;
                script.models[1].0.memory_last_transition_at = Some(NOW);
                script.models[1].1.active_requests = 2;
                script.models[2].1.parked_requests = 1;
                script.hub.spares.clear();
                // Figures of more digits.
                script.models[2].1.memory_bytes = Some(100 << 30);
                script.hub.memory.total = Some(128 << 30);
                script.hub.memory.available = Some(100 << 30);
            });
            browser.wait_for("#warnings", &["2 WARNINGS"]).await;
            browser.wait_for("#failed", &["1 FAILED"]).await;
            browser
                .wait_for("#memory-models", &["models 100.0 GB"])
                .await;
            let note = "[data-model=\"gamma\"] [data-field=\"requests\"]";
            browser.wait_for(note, &["1 parked"]).await;
            assert_at(&browser, "#tab-logs", tab).await;
            if device == Device::Desktop {
                assert_at(&browser, &stop, row).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_of_an_error_comes_and_goes_around_the_pointer() {
    for models in [3, 40] {
        in_browser(Device::Desktop, async |browser| {
            let mut script = Script {
                hub: hub(),
                ..Script::default()
            };
            for index in 0..models {
                let name = format!("m{index}");
                script.models.push(idle(model(
                    &name,
                    ProcessState::Running,
                    MemoryState::Loaded,
                )));
            }
            let (hub, _server) = open(&browser, script).await;
            let last = button(&format!("m{}", models - 1), "memory");
            browser.wait_for(&last, &["Unload"]).await;
            browser
                .run(&format!(
                    "document.querySelector({last:?}).scrollIntoView({{ block: 'center' }})"
                ))
                .await;
            browser.hover(&last).await;
            let top = browser.top(&last).await;
            let error = "[data-model=\"m0\"] .error";
            hub.edit(|script| {
                script.models[0].0.memory_last_error = Some("one\ntwo\nthree".into())
            });
            let said = "Error: one\ntwo\nthree";
            browser.wait_for(error, &[said]).await;
            assert_at(&browser, &last, top).await;
            hub.edit(|script| script.models[0].0.memory_last_error = None);
            browser.wait_for(error, &[]).await;
            assert_at(&browser, &last, top).await;
            // Its place goes when the pointer is elsewhere.
            browser.hover("footer").await;
            let is_gone = "[...document.querySelectorAll('.failure')].every((row) => row.hidden)";
            browser.wait_until(is_gone).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_tap_on_what_has_just_moved_under_the_finger_is_not_taken() {
    in_browser(Device::Phone, async |browser| {
        let (hub, _server) = open(&browser, three_models()).await;
        let unload = button("gamma", "memory");
        browser.wait_for(&unload, &["Unload"]).await;
        // Taps with a place, as a finger's; and a key's, which has none.
        let tap = format!(
            "window.tap = (detail) => document.querySelector({unload:?}) \
             .dispatchEvent(new PointerEvent('click', {{ detail, pointerType: 'touch', bubbles: true, cancelable: true }}))"
        );
        browser.run(&tap).await;
        // The error of another row comes above it, and at once the finger.
        browser
            .run(
                "const failure = document.querySelector('[data-model=alpha] .failure'); \
                 new MutationObserver(() => (window.taken = tap(1))).observe(failure, { attributes: true })",
            )
            .await;
        hub.edit(|script| script.models[0].0.memory_last_error = Some("one\ntwo".into()));
        browser.wait_until("window.taken === false").await;
        assert!(hub.posts().is_empty());
        // Whoever looks again is heard.
        browser.wait_until("tap(1)").await;
        browser.wait_for(&unload, &["Load"]).await;
        assert_eq!(hub.posts().len(), 1);
        // So is a key, at any time.
        hub.edit(|script| script.models[0].0.memory_last_error = None);
        browser.wait_for("[data-model=alpha] .error", &[]).await;
        browser.run("tap(0)").await;
        browser.wait_for(&unload, &["Unload"]).await;
    })
    .await;
}

#[tokio::test]
async fn requests_that_come_and_end_move_neither_their_buttons_nor_the_focus() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = busy_hub();
        script.hub.capture = true;
        script.ended = (1..=3).map(ended).collect();
        script.in_flight = (1..=3).map(in_flight).collect();
        let (hub, _server) = open(&browser, script).await;
        browser.click("#tab-requests").await;
        let rows = ".flight:not(.gone) [data-field=\"cancel\"]";
        browser.wait_for(rows, &["Cancel"; 3]).await;
        // The last one of each table.
        let cancel = ".flight:nth-child(3) [data-field=\"cancel\"]";
        browser.hover(cancel).await;
        let top = browser.top(cancel).await;
        hub.edit(|script| drop(script.in_flight.drain(..2)));
        browser.wait_for(rows, &["Cancel"]).await;
        assert_at(&browser, cancel, top).await;
        browser.hover("h1").await;
        browser.wait_until("document.querySelectorAll('.flight').length === 1").await;

        browser.run("document.querySelector('#requests tr:last-child [data-field=bodies]').id = 'texts'").await;
        browser.run("document.getElementById('texts').focus()").await;
        browser.hover("#texts").await;
        let top = browser.top("#texts").await;
        hub.edit(|script| {
            script.ended.extend((4..=9).map(ended));
            script.in_flight.extend((4..=5).map(in_flight));
        });
        browser.wait_for("#requests-count", &["9 requests"]).await;
        browser.wait_for(rows, &["Cancel"; 3]).await;
        assert_at(&browser, "#texts", top).await;
        assert_eq!(browser.evaluate("document.activeElement.id").await, "texts");
    })
    .await;
}

#[tokio::test]
async fn all_requests_that_the_hub_keeps_are_listed() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.ended = (1..=150).map(ended).collect();
        let (hub, _server) = open(&browser, script).await;
        browser.click("#tab-requests").await;
        browser.wait_for("#requests-count", &["150 requests"]).await;
        let rows = "document.querySelectorAll('#requests tr').length";
        assert_eq!(browser.evaluate(rows).await, 150);
        hub.edit(|script| script.ended.extend((151..=600).map(ended)));
        browser.run("location.reload()").await;
        browser.wait_for("#requests-count", &["500 requests"]).await;
        let first = "document.querySelector('#requests [data-field=whole]').textContent";
        let newest = "POST /v1/chat/completions, id id-600";
        assert_eq!(browser.evaluate(first).await, newest);
    })
    .await;
}

#[tokio::test]
async fn an_open_group_stays_open_while_its_models_change() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, busy_hub()).await;
        browser.click("#groups li:nth-child(2) summary").await;
        let members = "#groups [data-field=\"members\"]";
        browser
            .wait_for(members, &["Members: flux-schnell, whisper-large-v3"])
            .await;
        hub.edit(|script| script.models[4].0.memory_state = MemoryState::Loaded);
        browser
            .wait_for(
                members,
                &["Members: flux-schnell, whisper-large-v3 (loaded)"],
            )
            .await;
        assert_eq!(
            browser.evaluate("document.activeElement.tagName").await,
            "SUMMARY"
        );
    })
    .await;
}
