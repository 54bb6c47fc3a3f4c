//! The dashboard at `/hub`: one minijinja page, its style and its script.
//!
//! The control API serves them. The page contains the current snapshot, so that its first
//! paint shows the models; from then on the script listens to `GET /hub/events` and calls the same
//! routes as any client. Everything here renders [`Status`] and decides nothing.

use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, context};
use serde::Serialize;

use crate::api::{ModelStatus, Status, local_authority};
use crate::clients::{self, Target};

/// Scripts and styles come from the hub alone, and no other page may frame this one.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The style sheets in the order they apply.
const STYLE: &str = concat!(
    include_str!("../../../templates/hub/theme.css"),
    include_str!("../../../templates/hub/page.css"),
    include_str!("../../../templates/hub/state.css"),
    include_str!("../../../templates/hub/controls.css"),
    include_str!("../../../templates/hub/models.css"),
    include_str!("../../../templates/hub/messages.css"),
    include_str!("../../../templates/hub/views.css"),
    include_str!("../../../templates/hub/charts.css"),
    include_str!("../../../templates/hub/capture.css"),
    include_str!("../../../templates/hub/login.css"),
    include_str!("../../../templates/hub/phone.css"),
);

/// An asset of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The page's asset of that name.
pub fn asset(name: &str) -> Option<Asset> {
    let (content_type, text) = match name {
        "hub.css" => (STYLE_TYPE, STYLE),
        "config.css" => (
            STYLE_TYPE,
            include_str!("../../../templates/hub/config.css"),
        ),
        _ => (SCRIPT_TYPE, script(name)?),
    };
    Some(Asset { content_type, text })
}

const STYLE_TYPE: &str = "text/css; charset=utf-8";

const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";

/// The script of that name; `hub.js` imports the others.
fn script(name: &str) -> Option<&'static str> {
    Some(match name {
        "login.js" => include_str!("../../../templates/hub/login.js"),
        "hub.js" => include_str!("../../../templates/hub/hub.js"),
        "page.js" => include_str!("../../../templates/hub/page.js"),
        "models.js" => include_str!("../../../templates/hub/models.js"),
        "requests.js" => include_str!("../../../templates/hub/requests.js"),
        "capture.js" => include_str!("../../../templates/hub/capture.js"),
        "flights.js" => include_str!("../../../templates/hub/flights.js"),
        "charts.js" => include_str!("../../../templates/hub/charts.js"),
        "clients.js" => include_str!("../../../templates/hub/clients.js"),
        "lines.js" => include_str!("../../../templates/hub/lines.js"),
        "logs.js" => include_str!("../../../templates/hub/logs.js"),
        "chat.js" => include_str!("../../../templates/hub/chat.js"),
        "policies.js" => include_str!("../../../templates/hub/policies.js"),
        "config.js" => include_str!("../../../templates/hub/config.js"),
        "editor.js" => include_str!("../../../templates/hub/editor.js"),
        "complete.js" => include_str!("../../../templates/hub/complete.js"),
        _ => return None,
    })
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    for (name, text) in [
        ("hub", include_str!("../../../templates/hub.html.j2")),
        (
            "login",
            include_str!("../../../templates/hub/login.html.j2"),
        ),
        (
            "config_view",
            include_str!("../../../templates/hub/config_view.html.j2"),
        ),
        (
            "model_row",
            include_str!("../../../templates/hub/model_row.html.j2"),
        ),
        (
            "group_chip",
            include_str!("../../../templates/hub/group_chip.html.j2"),
        ),
        (
            "request_row",
            include_str!("../../../templates/hub/request_row.html.j2"),
        ),
        (
            "flight_row",
            include_str!("../../../templates/hub/flight_row.html.j2"),
        ),
        (
            "capture",
            include_str!("../../../templates/hub/capture.html.j2"),
        ),
        (
            "policy_row",
            include_str!("../../../templates/hub/policy_row.html.j2"),
        ),
    ] {
        templates
            .add_template(name, text)
            .expect("the tests render these very templates");
    }
    templates
});

/// The page, which shows `status` until it has fetched a newer one.
///
/// # Errors
/// When the template uses an undefined value.
pub fn page(status: &Status) -> Result<String, Error> {
    let authority = local_authority(&status.host, status.port);
    let context = context! {
        status => Serde(status),
        clients => Serde(clients(status, None)),
        authority,
        version => env!("CARGO_PKG_VERSION"),
    };
    TEMPLATES.get_template("hub")?.render(context)
}

/// The page on which a key is shown to a hub that has keys.
///
/// # Errors
/// When the template uses an undefined value.
pub fn login_page() -> Result<String, Error> {
    TEMPLATES.get_template("login")?.render(())
}

/// A client with what leads it to this hub.
#[derive(Debug, Clone, Serialize)]
pub struct ShownClient {
    name: &'static str,
    title: &'static str,
    snippets: Vec<ShownSnippet>,
}

/// A text to copy, and the file that it belongs into, if it does into one.
#[derive(Debug, Clone, Serialize)]
pub struct ShownSnippet {
    file: Option<&'static str>,
    text: String,
}

/// Each client with what leads it to this hub and to that `model` of it, or else to one that chats.
pub fn clients(status: &Status, model: Option<&str>) -> Vec<ShownClient> {
    let any = || status.models.first();
    let one = status.chat_model().or_else(any);
    let one = one.map_or("MODEL", |model: &ModelStatus| &model.id);
    let target = Target {
        url: &format!("http://{}", local_authority(&status.host, status.port)),
        model: model.unwrap_or(one),
        context: None,
        key: status.has_keys.then_some("KEY"),
    };
    let of = |client: &clients::Client| ShownClient {
        name: client.name,
        title: client.title,
        snippets: (client.snippets(&target).into_iter())
            .map(|snippet| ShownSnippet {
                file: snippet.file,
                text: snippet.text,
            })
            .collect(),
    };
    clients::all().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Activity, HubFacts, ModelFacts};

    fn page_with(warning: &str) -> String {
        let hub = HubFacts {
            host: "0.0.0.0".to_owned(),
            port: 8000,
            warnings: vec![warning.to_owned()],
            ..HubFacts::default()
        };
        page(&Status::build(&hub, &[], 1)).unwrap()
    }

    #[test]
    fn the_page_has_the_words_of_the_contract() {
        let page = page_with("none");
        for words in [
            "<title>MLX Hub Status · MLX OpenAI Server</title>",
            "MLX Hub Status • MLX OpenAI Server",
            "http://localhost:8000/v1",
            "Fetching hub snapshot…",
            "No models registered.",
            "Registered Models",
            ">Name<",
            ">Process<",
            ">Memory<",
            ">Auto-Unload<",
            ">Type<",
            ">Group<",
            ">Default<",
            ">Model<",
            ">Actions<",
        ] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn every_client_is_shown_with_the_hubs_address_and_a_model() {
        let hub = HubFacts {
            host: "0.0.0.0".to_owned(),
            port: 8000,
            ..HubFacts::default()
        };
        let facts = ModelFacts {
            name: "qwen3-4b".to_owned(),
            model_type: "lm".into(),
            ..ModelFacts::default()
        };
        let models = [(facts.into(), Activity::default())];
        let page = page(&Status::build(&hub, &models, 1)).unwrap();
        let target = Target {
            url: "http://localhost:8000",
            model: "qwen3-4b",
            context: None,
            key: None,
        };
        for client in clients::all() {
            for snippet in client.snippets(&target) {
                let text = minijinja::HtmlEscape(&snippet.text).to_string();
                assert!(page.contains(&text), "{text} is not in {page}");
            }
        }
    }

    #[test]
    fn the_page_of_a_hub_with_keys_says_so_and_can_be_left() {
        let hub = HubFacts {
            has_keys: true,
            ..HubFacts::default()
        };
        let page = page(&Status::build(&hub, &[], 1)).unwrap();
        assert!(page.contains("Log out") && page.contains("OPENAI_API_KEY=KEY"));
        let open = page_with("none");
        assert!(!open.contains("Log out") && open.contains("OPENAI_API_KEY=none"));
        let login = login_page().unwrap();
        assert!(login.contains("type=\"password\"") && !login.contains(" onclick"));
    }

    #[test]
    fn nothing_of_the_snapshot_can_end_its_script_element() {
        let page = page_with("</script><script>alert('&')</script>");
        assert!(!page.contains("<script>"), "{page}");
        let start = page.find("id=\"snapshot\">").unwrap() + "id=\"snapshot\">".len();
        let snapshot = page[start..].split("</script>").next().unwrap();
        let status: Status = serde_json::from_str(snapshot).unwrap();
        assert_eq!(status.warnings, ["</script><script>alert('&')</script>"]);
    }

    #[test]
    fn the_policy_leaves_no_room_for_inline_script_and_the_page_has_none() {
        let page = page_with("none");
        assert!(!page.contains(" style=\"") && !page.contains("<style"));
        assert!(!page.contains(" onclick") && !page.contains("javascript:"));
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, 2, "the snapshot and the script file");
    }
}
