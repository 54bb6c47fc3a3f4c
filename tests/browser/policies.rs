//! The policies and decisions on the page.

use mlx_openai_server_hub::api::Decision;

use crate::browser::{Device, in_browser};
use crate::fixtures::{decision, full_hub, policy};
use crate::open;

const HOSTILE: &str = "</script><img src=x onerror=\"window.pwned=1\">{{7*7}}&amp;";

#[tokio::test]
async fn a_row_says_why_and_leads_to_the_history() {
    in_browser(Device::Desktop, async |browser| {
        let (hub, _server) = open(&browser, full_hub()).await;
        let row = "tbody[data-model=\"qwen3_4b\"]";
        browser.click(&format!("{row} .name")).await;
        let lines = format!("{row} .decisions li");
        let why = "4:00:00 PM qwen3_4b: deny — the group is full alpha.lua:12 · on_load → loaded";
        browser.wait_for(&lines, &[why]).await;

        browser.click(&format!("{row} [data-goto=\"policies\"]")).await;
        browser.wait_for("#decisions li", &[why]).await;
        let select = browser.find("#decisions-model").await;
        select.select_by_value("").await.unwrap();
        let other = "4:00:00 PM qwen3_30b: admit — there is room for it alpha.lua:12 · on_load → loaded";
        browser.wait_for("#decisions li", &[why, other]).await;

        let cells = browser.texts("#policies tr:first-child > *").await;
        let hooks = "on_load, on_request, model.loaded";
        let error = "alpha.lua:7: attempt to index a nil value";
        assert_eq!(cells, ["alpha.lua", hooks, "1200", "40", "1", "12.3 µs", error]);
        browser.screenshot("policies").await;

        // What is there stays when more comes: so does what is selected of it.
        browser
            .run("document.querySelector('#decisions li').id = 'kept'; document.querySelector('#policies tr').id = 'row'")
            .await;
        hub.edit(|script| {
            let mut again = Decision {
                times: 3,
                ..decision(3, "gemma3-27b", "wait", "another load is under way")
            };
            again.outcome = None;
            script.decisions.decisions.push(again);
            script.policies.policies[0].switched_off = true;
        });
        let newest = "4:00:00 PM, 3 times gemma3-27b: wait — another load is under way alpha.lua:12 · on_load";
        browser.wait_for("#decisions li", &[newest, why, other]).await;
        browser.wait_for("#kept", &[why]).await;
        browser.wait_for("#row th", &["alpha.lua (switched off)"]).await;
    })
    .await;
}

#[tokio::test]
async fn hostile_reasons_errors_and_authors_are_text() {
    in_browser(Device::Desktop, async |browser| {
        let mut script = full_hub();
        let name = script.models[0].0.name.clone();
        script.policies.policies = vec![policy(HOSTILE, Some(HOSTILE))];
        let hostile = Decision {
            by: Some(HOSTILE.to_owned()),
            hook: Some(HOSTILE.to_owned()),
            outcome: Some(HOSTILE.to_owned()),
            ..decision(1, &name, HOSTILE, HOSTILE)
        };
        script.decisions.decisions = vec![hostile];
        let (_hub, _server) = open(&browser, script).await;
        let line =
            format!("4:00:00 PM {name}: {HOSTILE} — {HOSTILE} {HOSTILE} · {HOSTILE} → {HOSTILE}");
        browser.click(".model .name").await;
        browser
            .wait_for(".model + .failure + .more li", &[&line])
            .await;
        browser.click("#tab-policies").await;
        browser.wait_for("#decisions li", &[&line]).await;
        browser
            .wait_for(
                "#policies th, #policies [data-field=\"error\"]",
                &[HOSTILE, HOSTILE],
            )
            .await;
        assert_eq!(browser.evaluate("document.images.length").await, 0);
        assert_eq!(browser.evaluate("window.pwned === undefined").await, true);
    })
    .await;
}
