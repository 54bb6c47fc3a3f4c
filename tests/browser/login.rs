//! The login of a hub that has keys, with a real browser.

use mlx_openai_server_hub::config::KeyDigest;

use crate::browser::{Browser, Device, in_browser};
use crate::everybody::{axe, faults_now};
use crate::support::{Hub, stub};

const KEY: &str = "a-key-that-may-control-the-hub";

fn config() -> String {
    let hash = KeyDigest::of(KEY.as_bytes()).to_hex();
    format!(
        "worker_command: {}\n\
         api_keys: [{{name: owner, sha256: {hash}, may: [use, control]}}]\n\
         models:\n- {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n",
        stub(&[])
    )
}

async fn log_in(browser: &Browser, key: &str) {
    let field = browser.find("#key").await;
    field.clear().await.unwrap();
    field.send_keys(key).await.unwrap();
    browser.click("#login button").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_page_a_wrong_one_does_not_and_a_logout_closes_it() {
    in_browser(Device::Desktop, async |browser| {
        let hub = Hub::start(&config());
        let page = format!("http://127.0.0.1:{}/hub", hub.http.port);
        browser.open(&page).await;
        browser.wait_for("h1", &["MLX Hub Status"]).await;
        browser.screenshot("login").await;
        log_in(&browser, "wrong").await;
        let refused = "The API key is none of this hub's. `mlx-openai-server-hub key list` shows their names.";
        browser.wait_for("#refused", &[refused]).await;
        browser.screenshot("login-refused").await;
        if let Some(axe) = axe("a_key_opens_the_page") {
            browser.run(&axe).await;
            assert_eq!(faults_now(&browser).await, [""; 0]);
        }

        log_in(&browser, KEY).await;
        browser.wait_for("#status", &["OK"]).await;
        // What the page asks for goes on: the events, and what its buttons do.
        let memory = "[data-model=\"alpha\"] [data-field=\"memory\"]";
        browser.wait_for(memory, &["UNLOADED"]).await;
        browser.press("alpha", "memory").await;
        browser.wait_for(memory, &["LOADED"]).await;
        // No script can read what stands for the key.
        assert_eq!(browser.evaluate("document.cookie").await, "");

        browser.click("#logout").await;
        browser.wait_for("#login label", &["Key"]).await;
        for wrong in ["1", "2", "3", "4", "5"] {
            log_in(&browser, wrong).await;
            browser.wait_for("#refused", &[refused]).await;
        }
        log_in(&browser, KEY).await;
        // It says how many seconds that lasts.
        let is_told = |told: &str| told.starts_with("Too many wrong keys").then_some(());
        browser.read("#refused", is_told).await;
        browser.open(&page).await;
        browser.wait_for("#login label", &["Key"]).await;
    })
    .await;
}
