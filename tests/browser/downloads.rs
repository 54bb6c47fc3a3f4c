//! A model that is downloaded at its start, on the page of a real hub.

use crate::browser::{Browser, Device, in_browser};
use crate::support::downloads::home;

const NOTE: &str = "[data-model=\"far\"] [data-field=\"memory-note\"]";

/// The megabytes of the note `3.4 s, downloaded 2 MB of 19 MB`, once it is there and they are more than so many.
async fn megabytes_beyond(browser: &Browser, least: f64) -> (f64, String) {
    let megabytes = |note: &str| {
        let here = note.split_once(", downloaded ")?.1;
        let here = here.strip_suffix(" MB of 19 MB")?.parse().ok();
        Some((here.filter(|here| *here > least)?, note.to_owned()))
    };
    browser.read(NOTE, megabytes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_downloaded_at_its_start_shows_bytes_of_bytes() {
    in_browser(Device::Desktop, async |browser| {
        let home = home("jit_enabled: false", 150, 12);
        browser
            .open(&format!("http://127.0.0.1:{}/hub", home.port))
            .await;
        let (first, _) = megabytes_beyond(&browser, 0.0).await;
        let (_, note) = megabytes_beyond(&browser, first).await;
        assert!(note.contains(" s, downloaded "), "{note}");
        // The bar is as full as the figures say.
        let bar = "document.querySelector('[data-model=\"far\"] progress').position";
        let position = browser.evaluate(bar).await.as_f64().unwrap();
        assert!(position > 0.0 && position < 1.0, "{position}");
        browser.screenshot("download").await;
        let memory = "[data-model=\"far\"] [data-field=\"memory\"]";
        browser.wait_for(memory, &["LOADED"]).await;
        assert!(!browser.text(NOTE).await.contains("downloaded"));
        assert_eq!(
            browser.evaluate(&bar.replace(".position", ".hidden")).await,
            true
        );
    })
    .await;
}
