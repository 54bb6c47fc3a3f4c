//! Bodies, answers and disconnects through a real hyper server, against a scripted worker. The
//! lifecycle's part is played by a gate that is open.

use std::sync::Arc;

use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::protocol::Protocol;
use super::*;
use crate::config::Limits;
use crate::core::refusals::model_required;
use crate::hub::lifecycle::{Gate, Grant};
use crate::upstream::scripted::{Scripted, Wire, eventually};
use crate::upstream::{Accepts, Upstream};

mod answers;
mod bodies;
mod disconnects;
mod limits;
mod peek;
mod smuggling;
mod websocket;

/// A server that does what the gateway does once a model is granted.
struct Hub {
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Hub {
    async fn in_front_of(upstream: Upstream) -> Self {
        Self::with_limits(upstream, Limits::default()).await
    }

    async fn with_limits(upstream: Upstream, limits: Limits) -> Self {
        let budget = Budget::default();
        let gate = Arc::new(Gate::default());
        gate.open();
        let upstream = Arc::new(upstream);
        let grants = (Arc::clone(&gate), upstream);
        let address = serve(move |request| {
            let (gate, upstream) = grants.clone();
            let budget = budget.clone();
            async move {
                let lease = gate.try_enter().expect("the gate is open");
                let grant = Grant { lease, upstream };
                let (parts, body) = request.into_parts();
                let read_pause = ReadPause::default();
                let mut intake =
                    Intake::new(&parts.headers, body, limits, &budget, read_pause, None);
                match through(parts, &mut intake, grant).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        intake.discard().await;
                        (Protocol::DEFAULT.error)(&error)
                    }
                }
            }
        })
        .await;
        Self { address, gate }
    }

    async fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    async fn all_is_free(&self) {
        eventually("the lease comes back", || self.gate.active() == 0).await;
    }
}

/// A worker and a hub before it, and both ends of a request that has arrived at the worker: the
/// client's and the worker's.
async fn asked(request: &str) -> (Scripted, Hub, Wire, Wire) {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client.write(request).await;
    let mut wire = worker.accept().await;
    wire.read_to("}").await;
    (worker, hub, client, wire)
}

async fn through(
    mut parts: Parts,
    intake: &mut Intake,
    grant: Grant,
) -> Result<Response<Body>, ApiError> {
    let (written, site) = named_model(&mut parts, intake).await?;
    // As admission answers where no policy knows better.
    let written = written.ok_or_else(model_required)?;
    let tunnels = upgrade::is_wanted(&parts.headers).then(TaskTracker::new);
    let (id, client) = (
        HeaderValue::from_static("r1"),
        SocketAddr::from(([127, 0, 0, 1], 1)),
    );
    let mut view = RequestView::of_head(parts, id, client);
    view.model = Some(written);
    let request = Addressed {
        view: Box::new(view),
        site,
        fields: None,
        tunnels,
        loads_what_is_named: false,
        translated: None,
    };
    let mut account = Account::default();
    request
        .forward(grant, Arc::new(Model::new("alpha")), intake, &mut account)
        .await
}

/// Serves connections for as long as the test's runtime lives.
async fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tracker = TaskTracker::new();
    tracker.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tracker.spawn(connection.with_upgrades());
        }
    });
    address
}

fn post(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: hub\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn only_alpha() -> Accepts {
    Accepts::Only("alpha".into())
}

/// A body that names the model.
const ALPHA: &str = r#"{"model":"alpha"}"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn adapters_and_policies_have_one_name_for_openais_protocol() {
    assert_eq!(Protocol::DEFAULT.name, RequestView::OPENAI);
}
