//! The dashboard of a real daemon with simulated workers.

use serde_json::Value;

use crate::browser::{Browser, Device, button, in_browser};
use crate::support::{Hub, SOON, stub, wait_until};

/// One plain model, and one that its first request loads, on a worker that stays up unloaded.
fn config() -> String {
    format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: mlx-community/alpha}}\n\
         - {{name: beta, model_path: mlx-community/beta, jit_enabled: true, auto_unload_minutes: 60}}\n",
        stub(&[])
    )
}

fn cell(model: &str, label: &str) -> String {
    format!("[data-model=\"{model}\"] [data-label=\"{label}\"]")
}

/// `RUNNING • PID n • PORT n`, as the status says.
fn running(model: &Value) -> String {
    let pid = model["pid"].as_u64();
    let pid = pid.map_or_else(String::new, |pid| format!(" • PID {pid}"));
    let port = match pid.is_empty() {
        true => String::new(),
        false => format!(" • PORT {}", model["port"]),
    };
    format!("RUNNING{pid}{port}")
}

async fn press_until(browser: &Browser, model: &str, cluster: &str, after: &str) {
    browser.press(model, cluster).await;
    let enabled = format!("{}:enabled", button(model, cluster));
    browser.wait_for(&enabled, &[after]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_click_does_what_it_says_and_page_status_and_command_line_agree() {
    in_browser(Device::Desktop, async |browser| {
        let mut hub = Hub::start(&config());
        browser
            .open(&format!("http://127.0.0.1:{}/hub", hub.http.port))
            .await;
        browser.wait_for("#status", &["OK"]).await;
        for model in ["alpha", "beta"] {
            browser
                .wait_for(&cell(model, "Process"), &["INACTIVE"])
                .await;
        }

        press_until(&browser, "alpha", "process", "Stop").await;
        browser
            .wait_for(&button("alpha", "memory"), &["Unload"])
            .await;
        press_until(&browser, "beta", "process", "Stop").await;
        browser.wait_for(&button("beta", "memory"), &["Load"]).await;
        press_until(&browser, "beta", "memory", "Unload").await;
        let facts = hub.model("beta");
        browser
            .wait_for(&cell("beta", "Process"), &[&running(&facts)])
            .await;
        let table = String::from_utf8(hub.run(&["status", "beta"]).stdout).unwrap();
        let said = format!("running (pid={}, port={})", facts["pid"], facts["port"]);
        assert!(table.contains(&said), "{table}");
        browser.screenshot("real-hub").await;

        press_until(&browser, "beta", "memory", "Load").await;
        assert_eq!(hub.model("beta")["memory_state"], "unloaded");
        let facts = running(&hub.model("beta"));
        browser.wait_for(&cell("beta", "Process"), &[&facts]).await;
        press_until(&browser, "alpha", "process", "Start").await;
        assert_eq!(hub.model("alpha")["process_state"], "stopped");
        browser
            .wait_for(&cell("alpha", "Process"), &["STOPPED"])
            .await;

        hub.configure(&format!(
            "{}- {{name: gamma, model_path: mlx-community/gamma}}\n",
            config()
        ));
        browser.click("#reload").await;
        let report = "Hub reloaded: started=none | stopped=none | unchanged=alpha, beta, gamma";
        browser.wait_for("#flash", &[report]).await;
        browser
            .wait_for(&cell("gamma", "Process"), &["INACTIVE"])
            .await;

        browser.click("#stop").await;
        browser.click("#ask-yes").await;
        browser.wait_for("#status", &["ERROR"]).await;
        assert!(hub.wait_for_end().success());
        wait_until("all workers to be gone", SOON, || {
            hub.worker_processes().is_empty()
        });
    })
    .await;
}
