//! LiteLLM and HAProxy in front of the hubs, with the configurations that `fleet config` prints, and HAProxy in front of
//! SMG, with the one in docs/fleet.md.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use mlx_openai_server_hub::config::KeyDigest;
use tempfile::TempDir;

use crate::ask::{ask, ask_by, chat, client, with_key};
use crate::door::DOOR;
use crate::member::assert_load_nothing;
use crate::streams::Stream;
use crate::support::network::{Line, Place, tool};
use crate::support::{SOON, show, wait_until};
use crate::world::World;

/// For so long a gateway's checks are watched.
const CHECKS: Duration = Duration::from_secs(8);

/// LiteLLM does not start without a key, nor with a weak one.
fn litellm_key() -> String {
    format!("sk-{}", KeyDigest::of(b"a key of LiteLLM's").to_hex())
}

/// A gateway that is read from a file.
struct Gateway {
    place: Place,
    process: Child,
    /// Its configuration and its log.
    _folder: TempDir,
    log: PathBuf,
}

impl Gateway {
    /// Runs it at the place; `path` answers 200 once it is there.
    fn open(
        place: Place,
        program: &Path,
        text: &str,
        name: &str,
        arguments: &[&str],
        path: &str,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let log = folder.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        let process = place
            .command(program)
            .args(arguments)
            .arg(name)
            .current_dir(folder.path())
            .env("HUB_KEY", "any-word")
            .env("LITELLM_MASTER_KEY", litellm_key())
            // Else it asks the internet for prices.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let gateway = Self {
            place,
            process,
            _folder: folder,
            log,
        };
        wait_until("the gateway to answer", Duration::from_secs(300), || {
            gateway.status(path) == 200
        });
        gateway
    }

    fn url(&self) -> String {
        format!("http://{}:{DOOR}", self.place.address)
    }

    /// The status of its answer there; 0 if there is none.
    fn status(&self, path: &str) -> u16 {
        let answer = client().get(format!("{}{path}", self.url())).call();
        answer.map_or(0, |answer| answer.status().as_u16())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            show(
                "the gateway",
                &std::fs::read_to_string(&self.log).unwrap_or_default(),
            );
        }
    }
}

/// Where a gateway's program is; `None` if it is not there, which with CI=true is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn program(name: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        println!("not run: fleet: there is no {name}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no {name}");
    }
    path
}

#[test]
fn litellm_runs_with_the_printed_configuration_and_its_checks_load_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/litellm/bin/litellm");
    let (Some(mut world), Some(program)) = (World::met(), program("litellm", Some(path))) else {
        return;
    };
    let place = world.network.place(Line::Short);
    let studio = world.lone_hub("studio", &["alpha", "beta", "delta"]);
    let mini = world.lone_hub("mini", &["gamma", "delta"]);
    let text = studio.said(&["fleet", "config", "litellm", &studio.url(), &mini.url()]);
    let port = DOOR.to_string();
    let arguments = ["--host", "0.0.0.0", "--port", &port, "--config"];
    let gateway = Gateway::open(
        place,
        &program,
        &text,
        "config.yaml",
        &arguments,
        "/health/readiness",
    );
    // It is even asked for the health of all models.
    for path in ["/health/liveliness", "/health", "/v1/models"] {
        let request = client().get(format!("{}{path}", gateway.url()));
        let answer = with_key(request, Some(&litellm_key())).call().unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
    assert_load_nothing(&[&studio, &mini], CHECKS);

    let ask = |model| ask_by(&client(), &gateway.url(), model, Some(&litellm_key()));
    for (model, hub) in [("alpha", "studio"), ("beta", "studio"), ("gamma", "mini")] {
        assert_eq!(ask(model), (200, hub.to_owned()), "{model}");
    }
    assert!(Stream::begin_with_key(&gateway.url(), "gamma", Some(&litellm_key())).read_whole());
    assert_ne!(ask("nosuch").0, 200);
    // Both have this one: what one of them does not answer is answered by the other.
    studio.said(&["stop"]);
    for _ in 0..4 {
        assert_eq!(ask("delta"), (200, "mini".to_owned()));
    }
}

#[test]
fn haproxy_runs_with_the_printed_configuration_and_its_checks_load_nothing() {
    let (Some(mut world), Some(program)) = (World::met(), program("haproxy", tool("haproxy")))
    else {
        return;
    };
    let place = world.network.place(Line::Short);
    let studio = world.lone_hub("studio", &["alpha"]);
    let mini = world.lone_hub("mini", &["alpha"]);
    let text = studio.said(&["fleet", "config", "haproxy", &studio.url(), &mini.url()]);
    let gateway = Gateway::open(place, &program, &text, "haproxy.cfg", &["-f"], "/health");
    assert_load_nothing(&[&studio, &mini], CHECKS);

    let asked = (0..8).map(|_| ask(&gateway.url(), "alpha"));
    let mut hubs: Vec<_> = asked.collect();
    hubs.sort();
    hubs.dedup();
    let both = ["mini", "studio"].map(|name| (200, name.to_owned()));
    assert_eq!(hubs, both);
    assert!(Stream::begin(&gateway.url(), "alpha").read_whole());

    // A drained hub gets no more; its clients do not notice.
    studio.said(&["fleet", "drain"]);
    wait_until("the gateway to send nothing to a drained hub", SOON, || {
        let answers: Vec<_> = (0..4).map(|_| ask(&gateway.url(), "alpha")).collect();
        assert!(
            answers.iter().all(|(status, _)| *status == 200),
            "{answers:?}"
        );
        answers.iter().all(|(_, hub)| hub == "mini")
    });
    studio.said(&["fleet", "undrain"]);
    mini.said(&["stop"]);
    wait_until("the gateway to be back at the other", SOON, || {
        ask(&gateway.url(), "alpha") == (200, "studio".to_owned())
    });
}

/// Tells the client what the policies see.
const TELL: &str = r#"return {
  on_request = function(req, hub)
    return hub.reject{ status = 418, message = req.client .. " via " .. tostring(req.via) }
  end,
}
"#;

/// The first block of code in docs/fleet.md that begins with this line.
fn documented(first: &str) -> String {
    let page = include_str!("../../docs/fleet.md");
    let block = page.split("```").find_map(|block| {
        let (_, code) = block.split_once('\n')?;
        let is_it = code.trim_start().starts_with(first);
        is_it.then(|| format!("{}\n", code.trim_end()))
    });
    block.unwrap_or_else(|| panic!("no `{first}` in docs/fleet.md"))
}

#[test]
fn people_behind_the_door_are_told_apart() {
    let (Some(mut world), Some(program)) = (World::met(), program("haproxy", tool("haproxy")))
    else {
        return;
    };
    let door = world.open_door();
    let place = world.network.place(Line::Short);
    let studio = world.idle_hub(Line::Short, "studio", Some(&door));
    std::fs::write(studio.home.base().join("tell.lua"), TELL).unwrap();
    let believes = |proxies: &str, header: &str| {
        format!(
            "policies: [./tell.lua]\ntrusted_proxies: ['{proxies}']\nclient_address_header: {header}\n"
        )
    };
    let at_door = door.place.address.to_string();
    studio.configure_with(&["alpha"], "", &believes(&at_door, "X-Correlation-ID"));
    studio.start();
    door.wait_for(&[(&studio, &["alpha"])]);
    let said = |base: &str| {
        let (status, answer) = ask(base, "alpha");
        assert_eq!(status, 418, "{answer}");
        answer
    };

    // SMG names nobody, and the client's own word never counts.
    let text = documented("# people.cfg").replace("127.0.0.1:30000", &format!("{at_door}:{DOOR}"));
    let text = text.replace("bind :8080", &format!("bind :{DOOR}"));
    let front = Gateway::open(place, &program, &text, "people.cfg", &["-f"], "/health");
    let person = format!("{} via {at_door}", world.network.here());
    assert!(
        said(&front.url()).contains(&person),
        "{}",
        said(&front.url())
    );
    let request = client().post(format!("{}/v1/chat/completions", front.url()));
    let claimed = request
        .header("x-correlation-id", "6.6.6.6")
        .header("x-forwarded-for", "6.6.6.6")
        .content_type("application/json")
        .send(chat("alpha", false));
    let mut answer = String::new();
    claimed
        .unwrap()
        .into_body()
        .into_reader()
        .read_to_string(&mut answer)
        .unwrap();
    assert!(answer.contains(&person), "{answer}");
}
