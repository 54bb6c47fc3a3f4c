//! Logs on the page: as they grow, and what becomes of their escapes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::browser::{Browser, Device, in_browser};
use crate::fixtures::three_models;
use crate::open;
use crate::scripted_hub::{ScriptedHub, Server};

/// Opens the view of the logs of a hub whose model `gamma` has this one; its own is beside it.
async fn open_log(browser: &Browser, folder: &Path, text: &str) -> (ScriptedHub, Server, File) {
    let log = folder.join("gamma.log");
    std::fs::write(&log, text).unwrap();
    std::fs::write(folder.join("app.log"), "the hub says\n").unwrap();
    let mut script = three_models();
    script.hub.log_path = folder.display().to_string();
    script.models[2].0.log_path = Some(log.display().to_string());
    let (hub, server) = open(browser, script).await;
    browser.click(".model[data-model=\"gamma\"] .name").await;
    let to_log = "tbody[data-model=\"gamma\"] [data-goto=\"logs\"]";
    browser.click(to_log).await;
    let file = OpenOptions::new().append(true).open(&log).unwrap();
    (hub, server, file)
}

#[tokio::test]
async fn a_log_grows_on_the_page_with_its_colours() {
    in_browser(Device::Desktop, async |browser| {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("gamma.log");
        std::fs::write(&log, "\u{1b}[31mred\u{1b}[0m <b>plain</b>\n").unwrap();
        let mut script = three_models();
        script.models[2].0.log_path = Some(log.display().to_string());
        let (_hub, _server) = open(&browser, script).await;
        browser.click(".model[data-model=\"gamma\"] .name").await;
        browser
            .click("tbody[data-model=\"gamma\"] [data-goto=\"logs\"]")
            .await;
        browser.wait_for("#log div", &["red <b>plain</b>"]).await;
        browser.wait_for("#log .ansi-red", &["red"]).await;
        let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        writeln!(file, "second line").unwrap();
        browser
            .wait_for("#log div", &["red <b>plain</b>", "second line"])
            .await;
        browser.screenshot("log").await;
        let find = browser.find("#log-find").await;
        find.send_keys("SECOND").await.unwrap();
        browser.wait_for("#log div", &["second line"]).await;
    })
    .await;
}

/// What a line is in the log, and on the page.
const LINES: [(&str, &str); 13] = [
    (
        "\x1b[31mred\x1b[0m plain",
        "<span class=\"ansi-red\">red</span> plain",
    ),
    (
        "\x1b[1;92mboth\x1b[m",
        "<span class=\"bold ansi-green\">both</span>",
    ),
    // The numbers of colours are no codes of their own.
    (
        "\x1b[38;5;1mone of 256\x1b[0m",
        "<span class=\"ansi-red\">one of 256</span>",
    ),
    ("\x1b[38;5;208mnone of ours\x1b[0m", "none of ours"),
    ("\x1b[38;2;31;1;32mexact\x1b[0m", "exact"),
    (
        "\x1b[48;5;31;33mon a ground\x1b[0m",
        "<span class=\"ansi-yellow\">on a ground</span>",
    ),
    (
        "\x1b[48;2;1;2;31;34m too\x1b[0m",
        "<span class=\"ansi-blue\"> too</span>",
    ),
    (
        "\x1b[38:5:2mcolons\x1b[0m",
        "<span class=\"ansi-green\">colons</span>",
    ),
    // Links, titles, the cursor, character sets.
    (
        "\x1b]8;;https://a.example\x1b\\a link\x1b]8;;\x1b\\",
        "a link",
    ),
    ("\x1b]0;title\x07text\x1b[2K\x1b[?25l\x1b(B", "text"),
    // Each drawing of a bar takes the place of the one before.
    ("load:  10%\rload:  50%\rload: 100%", "load: 100%"),
    ("an end of Windows\r", "an end of Windows"),
    ("<b>&", "&lt;b&gt;&amp;"),
];

#[tokio::test]
async fn escapes_become_colours_or_nothing() {
    in_browser(Device::Desktop, async |browser| {
        let folder = tempfile::tempdir().unwrap();
        let text: String = LINES.iter().map(|(line, _)| format!("{line}\n")).collect();
        let _hub = open_log(&browser, folder.path(), &text).await;
        let all = format!(
            "document.querySelectorAll('#log div').length === {}",
            LINES.len()
        );
        browser.wait_until(&all).await;
        let shown = browser
            .evaluate("[...document.querySelectorAll('#log div')].map((line) => line.innerHTML)")
            .await;
        for (index, (line, expected)) in LINES.iter().enumerate() {
            assert_eq!(shown[index], *expected, "{line:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_line_is_shown_before_its_end() {
    in_browser(Device::Desktop, async |browser| {
        let folder = tempfile::tempdir().unwrap();
        let (_hub, _server, mut log) = open_log(&browser, folder.path(), "first\n").await;
        browser.wait_for("#log div", &["first"]).await;
        write!(log, "\x1b[31m10%|#").unwrap();
        browser.wait_for("#log div", &["first", "10%|#"]).await;
        write!(log, "\r20%|##").unwrap();
        browser.wait_for("#log div", &["first", "20%|##"]).await;
        write!(log, "#\x1b[0m\nlast").unwrap();
        browser
            .wait_for("#log div", &["first", "20%|###", "last"])
            .await;
    })
    .await;
}

/// Counts the pieces that the page reads from now on.
const COUNT_READS: &str = "window.reads = 0; const { read } = ReadableStreamDefaultReader.prototype; \
    ReadableStreamDefaultReader.prototype.read = function () { window.reads += 1; return read.call(this); }";

#[tokio::test]
async fn a_log_can_be_paused_and_copied_and_the_hub_has_one_too() {
    in_browser(Device::Desktop, async |browser| {
        let folder = tempfile::tempdir().unwrap();
        let (_hub, _server, mut log) = open_log(&browser, folder.path(), "first\n").await;
        browser.wait_for("#log div", &["first"]).await;
        browser.click("#log-pause").await;
        browser
            .wait_for("#log-pause[aria-pressed=\"true\"]", &["Go on"])
            .await;
        // The page hears of what comes meanwhile, and does not show it.
        browser.run(COUNT_READS).await;
        writeln!(log, "second").unwrap();
        browser.wait_until("window.reads > 0").await;
        assert_eq!(browser.texts("#log div").await, ["first"]);
        browser.click("#log-pause").await;
        browser.wait_for("#log div", &["first", "second"]).await;
        browser
            .wait_for("#log-pause[aria-pressed=\"false\"]", &["Pause"])
            .await;

        // What the page hands to the clipboard.
        browser
            .run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
            .await;
        browser.click("#log-copy").await;
        browser.wait_for(".toast", &["2 lines copied"]).await;
        assert_eq!(browser.evaluate("copied").await, "first\nsecond");
        browser
            .run("navigator.clipboard.writeText = async () => { throw new Error('not allowed'); }")
            .await;
        browser.click("#log-copy").await;
        browser
            .wait_until("getSelection().toString().trim() === 'first\\nsecond'")
            .await;

        let select = browser.find("#log-of").await;
        select.select_by_value("").await.unwrap();
        browser.wait_for("#log div", &["the hub says"]).await;
    })
    .await;
}
