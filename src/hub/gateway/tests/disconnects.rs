//! Clients that leave: whatever they leave behind is freed at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_frees_lease_and_worker() {
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    wire.write(EVENTS).await;
    client.read_to("\r\n\r\n").await;
    drop(client);
    wire.read_to_close().await;
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_frees_lease_and_worker() {
    let (_worker, hub, client, mut wire) = asked(&post(ALPHA)).await;
    drop(client);
    wire.read_to_close().await;
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_upload_frees_lease_and_worker() {
    let head = post(ALPHA).replace("content-length: 17", "content-length: 99");
    let (_worker, hub, client, mut wire) = asked(&head).await;
    drop(client);
    wire.read_to_close().await;
    hub.all_is_free().await;
}

/// A client that has ended its side looks the same as one that has gone.
#[tokio::test]
async fn a_half_closed_client_counts_as_gone() {
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    client.half_close().await;
    wire.read_to_close().await;
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_request_waits_is_noticed_whatever_of_its_body_is_unread() {
    for missing in [0, 1 << 20] {
        let waiting = Arc::new(AtomicBool::new(false));
        let gone = Arc::new(AtomicBool::new(false));
        let flags = (Arc::clone(&waiting), Arc::clone(&gone));
        let address = serve(move |request: Request<Incoming>| {
            let (waiting, gone) = flags.clone();
            async move {
                let (mut parts, body) = request.into_parts();
                let (limits, budget) = (Limits::default(), Budget::default());
                let read_pause = ReadPause::default();
                let mut intake =
                    Intake::new(&parts.headers, body, limits, &budget, read_pause, None);
                named_model(&mut parts, &mut intake).await.unwrap();
                waiting.store(true, Ordering::Release);
                let _gone = scopeguard(gone);
                let never = std::future::pending::<Result<(), ApiError>>();
                drop(intake.while_waiting(never).await);
                unreachable!("it waits for ever")
            }
        })
        .await;
        let mut client = Wire::new(TcpStream::connect(address).await.unwrap());
        let body = r#"{"model":"alpha","x":"#;
        let length = body.len() + missing;
        client
            .write(&format!(
                "POST /v1/x HTTP/1.1\r\nhost: hub\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
        eventually("it waits", || waiting.load(Ordering::Acquire)).await;
        client.write(&" ".repeat(missing / 2)).await;
        drop(client);
        eventually("the client is missed", || gone.load(Ordering::Acquire)).await;
    }
}

/// Sets the flag when it is dropped.
fn scopeguard(flag: Arc<AtomicBool>) -> impl Drop {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    Flag(flag)
}
