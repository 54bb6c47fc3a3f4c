//! Clients of `/v1` and of the control API: each answer must be whole, an error in the OpenAI form, or
//! visibly cut.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::support::http::{Answer, Reply, chat};
use crate::tally::Tally;
use crate::world::{CONFIGURATIONS, MODELS, World, answer_of, configuration};

const CHAT: &str = "/v1/chat/completions";

/// What a request to a model may be told, besides 200.
const REQUEST_ERRORS: [u16; 5] = [400, 404, 429, 502, 503];
/// What a verb may be told.
const VERB_ERRORS: [u16; 4] = [400, 404, 429, 503];

/// Sends requests, and hangs up on some.
pub(crate) fn ask(world: &World, tally: &Tally, mut dice: Dice) {
    while world.goes_on() {
        let model = *dice.pick(&MODELS);
        match dice.below(10) {
            0..3 => plain(world, tally, model),
            3..6 => stream(world, tally, model, None),
            6..8 => stream(world, tally, model, Some(dice.below(25))),
            8 => hang_up(world, tally, model, dice.below(300)),
            _ => look(
                world,
                tally,
                dice.pick::<&str>(&["/v1/models", "/hub/status", "/health", "/hub"]),
            ),
        }
        pause(world, &mut dice, 30);
    }
}

/// Asks for starts, stops, loads, unloads and reloads.
pub(crate) fn command(world: &World, tally: &Tally, mut dice: Dice) {
    while world.goes_on() {
        if dice.percent(10) {
            reload(world, tally, dice.below(CONFIGURATIONS));
        } else {
            let verb = *dice.pick(&["start", "start", "stop", "load", "unload"]);
            let path = format!("/hub/models/{}/{verb}", dice.pick(&MODELS));
            act(world, tally, verb, &path, &VERB_ERRORS);
        }
        pause(world, &mut dice, 250);
    }
}

/// Makes room for others, for a time that the dice say: chaos has no condition to wait for. While there is no hub, few try all the same.
fn pause(world: &World, dice: &mut Dice, at_most_ms: usize) {
    std::thread::sleep(Duration::from_millis(dice.below(at_most_ms) as u64));
    while world.goes_on() && !world.watch().was_calm() && !dice.percent(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reload(world: &World, tally: &Tally, which: usize) {
    // hub.yaml must not change while a daemon starts or is read by another.
    let hub = world.hub.read().expect("no thread has panicked");
    hub.configure(&configuration(which));
    act(world, tally, "reload", "/hub/reload", &[]);
}

fn act(world: &World, tally: &Tally, verb: &'static str, path: &str, errors: &[u16]) {
    let watch = world.watch();
    let what = format!("{verb} {path}");
    let how = match world.http.try_post(path, &json!({})) {
        Ok(answer) => status(tally, &what, &answer, errors),
        Err(_) if !watch.was_calm() => "hub gone".to_owned(),
        Err(error) => {
            tally.broken(format!("{what}: {error} although the hub was there"));
            "broken".to_owned()
        }
    };
    tally.count("verb", format!("{verb} {how}"));
}

fn look(world: &World, tally: &Tally, path: &str) {
    let watch = world.watch();
    match world.http.try_get(path) {
        Ok(answer) if answer.status == 200 => tally.count("look", "200"),
        Err(_) if !watch.was_calm() => tally.count("look", "hub gone"),
        other => tally.broken(format!("GET {path}: {other:?}")),
    }
}

fn plain(world: &World, tally: &Tally, model: &str) {
    let watch = world.watch();
    let how = match world.http.try_post(CHAT, &chat(model, "hello", false)) {
        Ok(answer) if answer.status == 200 => {
            let text = answer.json()["choices"][0]["message"]["content"].clone();
            if !text
                .as_str()
                .is_some_and(|text| text.contains(answer_of(model)))
            {
                tally.broken(format!("{model}: a 200 that says {text}"));
            }
            "200".to_owned()
        }
        Ok(answer) => status(tally, model, &answer, &REQUEST_ERRORS),
        Err(_) if !watch.was_calm() => "hub gone".to_owned(),
        Err(error) => {
            tally.broken(format!("{model}: {error} although the hub was there"));
            "broken".to_owned()
        }
    };
    tally.count("plain", how);
}

/// A stream, to its end or to so many events.
fn stream(world: &World, tally: &Tally, model: &str, leave_after: Option<usize>) {
    let watch = world.watch();
    let body = chat(model, "hello", true).to_string();
    let head = [("content-type", "application/json")];
    let what = if leave_after.is_some() {
        "left stream"
    } else {
        "stream"
    };
    let how = match world.http.send("POST", CHAT, &head, body.as_bytes()) {
        Ok(reply) if reply.status == 200 => match end_of(reply, leave_after) {
            End::Done => "200".to_owned(),
            End::Left => "hung up".to_owned(),
            End::Error => "error event".to_owned(),
            End::Cut if !watch.was_calm() => "hub gone".to_owned(),
            End::Cut => "cut".to_owned(),
            End::Clean(last) => {
                tally.broken(format!("{model}: a stream ended cleanly after {last:?}"));
                "broken".to_owned()
            }
        },
        Ok(reply) => match reply.whole() {
            Ok(answer) => status(tally, model, &answer, &REQUEST_ERRORS),
            Err(_) if !watch.was_calm() => "hub gone".to_owned(),
            Err(error) => {
                tally.broken(format!("{model}: an error that breaks off: {error}"));
                "broken".to_owned()
            }
        },
        Err(_) if !watch.was_calm() => "hub gone".to_owned(),
        Err(error) => {
            tally.broken(format!("{model}: {error} although the hub was there"));
            "broken".to_owned()
        }
    };
    tally.count(what, how);
}

/// How a stream ended.
enum End {
    Done,
    Left,
    /// With an error event.
    Error,
    /// The connection broke.
    Cut,
    /// As if all was well, and without `[DONE]`.
    Clean(String),
}

fn end_of(reply: Reply, leave_after: Option<usize>) -> End {
    let mut last = String::new();
    for (i, event) in reply.events().enumerate() {
        if leave_after.is_some_and(|most| i >= most) {
            return End::Left;
        }
        match event {
            Ok(data) => last = data,
            Err(_) if is_error(&last) => return End::Error,
            Err(_) => return End::Cut,
        }
    }
    match last.as_str() {
        "[DONE]" => End::Done,
        last if is_error(last) => End::Error,
        _ => End::Clean(last),
    }
}

fn is_error(data: &str) -> bool {
    serde_json::from_str::<Value>(data).is_ok_and(|data| data["error"]["message"].is_string())
}

/// Sends a request and goes away after a while without reading.
fn hang_up(world: &World, tally: &Tally, model: &str, ms: usize) {
    let body = chat(model, "hello", ms.is_multiple_of(2)).to_string();
    let Ok(mut connection) = TcpStream::connect(("127.0.0.1", world.http.port)) else {
        return tally.count("hang-up", "hub gone");
    };
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = connection.write_all(request.as_bytes());
    // The client gives up at any moment: the time is the input.
    std::thread::sleep(Duration::from_millis(ms as u64));
    tally.count("hang-up", if sent.is_ok() { "sent" } else { "hub gone" });
}

/// The status of an answer, which must be 200 or one of these with an error in the OpenAI form.
fn status(tally: &Tally, what: &str, answer: &Answer, errors: &[u16]) -> String {
    let is_whole = || is_error(&answer.text());
    if answer.status != 200 && !(errors.contains(&answer.status) && is_whole()) {
        let (status, text) = (answer.status, answer.text());
        tally.broken(format!("{what}: {status} {text}"));
    }
    answer.status.to_string()
}
