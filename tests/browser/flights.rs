//! The requests in flight on the page: their clocks, and their cancellation.

use mlx_openai_server_hub::api::{RequestInFlight, Stage};

use crate::browser::{Device, in_browser};
use crate::fixtures::three_models;
use crate::open;

fn in_flight(number: u64, id: &str, model: &str, stage: Stage) -> RequestInFlight {
    RequestInFlight {
        number,
        id: id.to_owned(),
        // The clock of the scripted hub stands still.
        time: 1_764_000_000.0 - 41.0,
        client: "127.0.0.1".to_owned(),
        protocol: "openai".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some(model.to_owned()),
        stage,
    }
}

#[tokio::test]
async fn a_request_in_flight_is_shown_and_cancelled_on_every_page() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.in_flight = vec![
            in_flight(1, "of/one?", "gamma", Stage::Answering),
            in_flight(2, "two", "beta", Stage::Waiting),
        ];
        let (hub, server) = open(&browser, script).await;
        browser.click("#tab-requests").await;
        browser
            .wait_for(".flight [data-field=\"model\"]", &["gamma", "beta"])
            .await;
        browser
            .wait_for(".flight [data-field=\"stage\"]", &["answering", "waiting"])
            .await;
        let clock = browser.text(".flight [data-field=\"for\"]").await;
        assert!(clock.starts_with('4') && clock.ends_with(" s"), "{clock}");
        browser.screenshot("in-flight").await;

        let second = browser.new_tab().await;
        browser.open(&format!("{}#requests", server.page())).await;
        browser
            .wait_for(".flight [data-field=\"model\"]", &["gamma", "beta"])
            .await;
        browser.click(".flight .danger").await;
        browser
            .wait_for("#ask-title", &["Cancel this request?"])
            .await;
        browser.click("#ask-no").await;
        assert!(hub.posts().is_empty());
        browser.click(".flight .danger").await;
        browser.click("#ask-yes").await;
        browser
            .wait_for(".flight [data-field=\"model\"]", &["beta"])
            .await;
        let posts = ["/hub/requests/of%2Fone%3F/cancel {\"reason\":\"dashboard\"}"];
        assert_eq!(hub.posts(), posts);
        hub.edit(|script| script.in_flight[0].stage = Stage::Sent);
        for tab in [second, 0] {
            browser.show_tab(tab).await;
            browser
                .wait_for(".flight [data-field=\"stage\"]", &["sent"])
                .await;
        }

        hub.edit(|script| script.in_flight.clear());
        browser
            .wait_for("#no-flights", &["No request is in flight."])
            .await;
        // It ended before it was clicked.
        hub.edit(|script| script.in_flight = vec![in_flight(3, "three", "beta", Stage::Sent)]);
        browser.click(".flight .danger").await;
        hub.edit(|script| script.in_flight[0].id = "another".to_owned());
        browser.click("#ask-yes").await;
        let gone = "Cancel failed: No request `three` is in flight: it has ended, or never was";
        browser
            .wait_for("#flash[data-kind=\"error\"]", &[gone])
            .await;
    })
    .await;
}
