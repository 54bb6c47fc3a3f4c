//! A headless Chromium behind chromedriver, ended with the test whatever becomes of it.

use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource as _, MouseActions, PointerAction};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How long a test waits for what it expects to see.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` gives a value; after [`PATIENCE`] panics with what it saw last.
async fn soon<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < limit, "{what}: {seen:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a user sees and clicks.
pub(crate) struct Browser {
    client: Client,
}

/// What the browser runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// A computer that prefers dark pages.
    Desktop,
    /// A computer that prefers light ones.
    LightDesktop,
    /// A phone that prefers dark ones.
    Phone,
}

/// Runs `test` in a browser on `device`.
///
/// Without chromedriver the test is reported as not run, which is a failure in CI.
pub(crate) async fn in_browser<F: Future<Output = ()>>(
    device: Device,
    test: impl FnOnce(Browser) -> F,
) {
    let Some(driver) = Driver::start() else {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        report_not_run(&name, "chromedriver");
        return;
    };
    let client = driver.connect(device).await;
    let browser = Browser {
        client: client.clone(),
    };
    let outcome = AssertUnwindSafe(test(browser)).catch_unwind().await;
    // Ending the session is what ends Chromium; killing the driver alone would leave it behind.
    let closed = client.close().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    closed.unwrap();
}

pub(crate) fn report_not_run(test: &str, lacks: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {lacks}, which is not installed"
    );
    // `eprintln!` would be swallowed with the output of all tests that pass.
    let line = format!("not run: {test} ({lacks} is not installed)\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

struct Driver {
    process: Child,
    port: u16,
    profile: tempfile::TempDir,
}

impl Driver {
    fn start() -> Option<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.split("successfully on port ").nth(1)?;
            Some(port.trim_end_matches('.').parse().unwrap())
        });
        Some(Self {
            process,
            port: port.expect("chromedriver names its port"),
            profile: tempfile::tempdir().unwrap(),
        })
    }

    async fn connect(&self, device: Device) -> Client {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let scheme = u8::from(device == Device::LightDesktop);
        let mut options = json!({"args": [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            // Names that a stranger let point to this machine.
            "--host-resolver-rules=MAP *.example 127.0.0.1,MAP *.local 127.0.0.1",
            "--window-size=1400,1300",
            format!("--blink-settings=preferredColorScheme={scheme}"),
            profile,
        ]});
        if device == Device::Phone {
            let metrics = json!({"width": 390, "height": 1600, "pixelRatio": 1.5});
            options["mobileEmulation"] = json!({"deviceMetrics": metrics});
        }
        let capabilities = json!({"goog:chromeOptions": options});
        ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Browser {
    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// The one element of that selector.
    pub(crate) async fn find(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE);
        found.for_element(Locator::Css(css)).await.unwrap()
    }

    /// What is done with the one element of that selector; done again if the page replaced it meanwhile.
    async fn with<T, F>(&self, css: &str, act: impl Fn(Element) -> F) -> T
    where
        F: Future<Output = Result<T, CmdError>>,
    {
        let limit = Instant::now() + PATIENCE;
        loop {
            match act(self.find(css).await).await {
                Err(error) if error.is_stale_element_reference() && Instant::now() < limit => {}
                done => return done.unwrap(),
            }
        }
    }

    /// Clicks the one element of that selector.
    pub(crate) async fn click(&self, css: &str) {
        self.with(css, |element| async move { element.click().await })
            .await;
    }

    /// Puts the pointer over the one element of that selector.
    pub(crate) async fn hover(&self, css: &str) {
        let element = self.find(css).await;
        let there = PointerAction::MoveToElement {
            element,
            duration: None,
            x: 0.0,
            y: 0.0,
        };
        let mouse = MouseActions::new("mouse".to_owned()).then(there);
        self.client.perform_actions(mouse).await.unwrap();
    }

    /// How far the one element of that selector is below the window's upper edge, in CSS pixels.
    pub(crate) async fn top(&self, css: &str) -> f64 {
        let top = format!("document.querySelector({css:?}).getBoundingClientRect().top");
        self.evaluate(&top).await.as_f64().unwrap()
    }

    /// Presses a button of a model's row.
    pub(crate) async fn press(&self, model: &str, cluster: &str) {
        self.click(&button(model, cluster)).await;
    }

    /// Text as it is rendered; empty for what is hidden.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.with(css, |element| async move { element.text().await })
            .await
    }

    /// The texts of all elements of that selector that can be seen.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.client.find_all(Locator::Css(css)).await.unwrap() {
            if element.is_displayed().await.unwrap() {
                texts.push(element.text().await.unwrap());
            }
        }
        texts
    }

    /// Waits until the visible texts of that selector are exactly these.
    #[track_caller]
    pub(crate) fn wait_for(&self, css: &str, expected: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{caller}: `{css}` shows {expected:?}");
            soon(&what, async || {
                // An element may be replaced between being found and being read.
                let texts = AssertUnwindSafe(self.texts(css)).catch_unwind().await;
                match texts.as_ref().is_ok_and(|texts| texts == expected) {
                    true => Ok(()),
                    false => Err(texts),
                }
            })
            .await;
        }
    }

    /// Waits until `read` finds something in the text of the one element of that selector.
    pub(crate) async fn read<T>(&self, css: &str, read: impl Fn(&str) -> Option<T>) -> T {
        soon(css, async || {
            let text = self.text(css).await;
            read(&text).ok_or(text)
        })
        .await
    }

    /// Waits until that JavaScript expression is true.
    pub(crate) async fn wait_until(&self, expression: &str) {
        soon(expression, async || {
            match self.evaluate(expression).await == true {
                true => Ok(()),
                false => Err("not true"),
            }
        })
        .await;
    }

    /// A button of a model's row: its text, and whether it can be pressed.
    pub(crate) async fn button(&self, model: &str, cluster: &str) -> (String, bool) {
        let button = self.find(&button(model, cluster)).await;
        (
            button.text().await.unwrap(),
            button.is_enabled().await.unwrap(),
        )
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn evaluate(&self, expression: &str) -> serde_json::Value {
        let script = format!("return {expression}");
        self.client.execute(&script, Vec::new()).await.unwrap()
    }

    /// Runs a script that calls the function `done` with its result.
    pub(crate) async fn run_async(&self, script: &str) -> serde_json::Value {
        let script = format!("const done = arguments[0]; {script}");
        self.client
            .execute_async(&script, Vec::new())
            .await
            .unwrap()
    }

    /// Runs a script.
    pub(crate) async fn run(&self, script: &str) {
        self.client.execute(script, Vec::new()).await.unwrap();
    }

    /// Presses a key where the focus is.
    pub(crate) async fn key(&self, key: Key) {
        let focused = self.client.active_element().await.unwrap();
        focused
            .send_keys(&String::from(char::from(key)))
            .await
            .unwrap();
    }

    /// Opens another tab and shows it; returns its number. The first one is 0.
    pub(crate) async fn new_tab(&self) -> usize {
        let tab = self.client.new_window(true).await.unwrap().handle;
        self.client.switch_to_window(tab).await.unwrap();
        self.client.windows().await.unwrap().len() - 1
    }

    /// Shows the tab of that number.
    pub(crate) async fn show_tab(&self, number: usize) {
        let tab = self.client.windows().await.unwrap().swap_remove(number);
        self.client.switch_to_window(tab).await.unwrap();
    }

    /// Makes the window that large, in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.unwrap();
    }

    /// Saves what the window shows as `target/screenshots/NAME.png`.
    pub(crate) async fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let image = self.client.screenshot().await.unwrap();
        std::fs::write(folder.join(name).with_extension("png"), image).unwrap();
    }
}

/// The selector of a button in a model's row.
pub(crate) fn button(model: &str, cluster: &str) -> String {
    format!("[data-model=\"{model}\"] [data-cluster=\"{cluster}\"]")
}
