//! A page that gets no events shows all that events tell by asking.

use mlx_openai_server_hub::api::{EndedRequest, MemoryState, RequestInFlight, Stage};

use crate::browser::{Device, in_browser};
use crate::fixtures::three_models;
use crate::open;
use crate::scripted_hub::Events;

fn in_flight(number: u64, model: &str) -> RequestInFlight {
    RequestInFlight {
        number,
        id: number.to_string(),
        time: 1_763_999_990.0,
        model: Some(model.to_owned()),
        stage: Stage::Sent,
        ..RequestInFlight::default()
    }
}

fn ended(number: u64, model: &str) -> EndedRequest {
    EndedRequest {
        number,
        time: 1_763_999_990.0,
        model: Some(model.to_owned()),
        status: 200,
        ..EndedRequest::default()
    }
}

#[tokio::test]
async fn without_events_models_and_requests_are_shown_and_followed_by_asking() {
    for events in [Events::Refused, Events::HeldBack] {
        in_browser(Device::Desktop, async |browser| {
            let mut script = three_models();
            script.events = events;
            script.in_flight = vec![in_flight(1, "beta"), in_flight(2, "gamma")];
            script.ended = vec![ended(1, "alpha")];
            let (hub, _server) = open(&browser, script).await;
            browser.click("#tab-requests").await;
            let flying = ".flight [data-field=\"model\"]";
            let listed = "#requests [data-field=\"model\"]";
            browser.wait_for(flying, &["beta", "gamma"]).await;
            browser.wait_for(listed, &["alpha"]).await;

            hub.edit(|script| {
                script.in_flight.remove(0);
                script.in_flight.push(in_flight(3, "alpha"));
                script.ended.push(ended(2, "beta"));
                script.models[0].0.memory_state = MemoryState::Loaded;
            });
            browser.wait_for(flying, &["gamma", "alpha"]).await;
            // The newest first, and each once.
            browser.wait_for(listed, &["beta", "alpha"]).await;
            browser.wait_for("#loaded", &["2 / 3 loaded"]).await;

            // By its button too, where the page does not ask by itself.
            browser.click(".switch:has(#auto)").await;
            hub.edit(|script| {
                script.in_flight.clear();
                script.ended.push(ended(3, "gamma"));
            });
            browser.click("#refresh").await;
            browser.wait_for(listed, &["gamma", "beta", "alpha"]).await;
            browser
                .wait_for("#no-flights", &["No request is in flight."])
                .await;

            // Once events come, they are what the page goes by.
            hub.edit(|script| script.events = Events::Sent);
            browser.click(".switch:has(#auto)").await;
            if events == Events::HeldBack {
                browser.run("location.reload()").await;
            }
            hub.edit(|script| script.in_flight = vec![in_flight(4, "beta")]);
            browser.wait_for(flying, &["beta"]).await;
        })
        .await;
    }
}
