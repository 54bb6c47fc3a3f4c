//! The texts of requests on the page, of a hub that keeps them.

use mlx_openai_server_hub::api::{CapturedBody, CapturedRequest, EndedRequest};

use crate::browser::{Device, in_browser};
use crate::fixtures::three_models;
use crate::open;

#[tokio::test]
async fn a_hub_that_keeps_texts_shows_those_of_a_request_and_any_other_offers_none() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = three_models();
        script.hub.capture = true;
        let ended = |number, id: &str, method: &str| EndedRequest {
            number,
            id: id.to_owned(),
            time: 1_764_000_000.0,
            client: "127.0.0.1".to_owned(),
            protocol: "openai".to_owned(),
            method: method.to_owned(),
            path: "/v1/chat/completions".to_owned(),
            model: Some("beta".to_owned()),
            status: 200,
            ..EndedRequest::default()
        };
        script.ended = vec![ended(1, "none", "GET"), ended(2, "of/one?", "POST")];
        script.captured = Some(CapturedRequest {
            id: "of/one?".to_owned(),
            time: 1_764_000_000.0,
            request: CapturedBody {
                content_type: Some("application/json".to_owned()),
                bytes: 999_999,
                text: "{\"model\":\"beta\",\"text\":\"<b>hello</b>\"}".to_owned(),
                cut: Some("Only the beginning of 999999 bytes is kept.".to_owned()),
            },
            status: Some(200),
            answer: CapturedBody {
                content_type: Some("text/event-stream".to_owned()),
                bytes: 20,
                text: "data: {\"a\":1}\n\ndata: [DONE]\n\n".to_owned(),
                cut: None,
            },
        });
        let (hub, server) = open(&browser, script).await;
        browser.click("#tab-requests").await;
        let offered = "#requests .request:not(.note) [data-field=\"bodies\"]:not([hidden])";
        browser.wait_for(offered, &["Texts"]).await;
        browser.click(offered).await;
        browser
            .wait_for("#capture-title", &["Request of/one?"])
            .await;
        browser
            .wait_for(
                "#capture-request",
                &["{\n  \"model\": \"beta\",\n  \"text\": \"<b>hello</b>\"\n}"],
            )
            .await;
        let cut = browser.text("#capture-request-cut").await;
        assert_eq!(cut, "Only the beginning of 999999 bytes is kept.");
        let kind = browser.text("#capture-answer-kind").await;
        assert_eq!(kind, "200, text/event-stream, 20 bytes");
        assert!(browser.text("#capture-answer").await.contains("[DONE]"));
        browser.screenshot("captured").await;
        let paths = hub.paths_read();
        let path = "/hub/requests/of%2Fone%3F/capture";
        assert!(paths.iter().any(|other| other == path), "{paths:?}");
        browser.click("#capture button").await;

        // It is gone by the time of the click.
        hub.edit(|script| script.captured = None);
        browser.click(offered).await;
        browser
            .wait_for("#flash", &["Nothing is kept of `of/one?`."])
            .await;
        hub.edit(|script| script.hub.capture = false);
        browser.wait_for(offered, &[]).await;
        server.stop().await;
    })
    .await;
}
