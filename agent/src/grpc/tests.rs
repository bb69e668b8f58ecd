//! Servers that are well, that are not, and that are none.

use h2::server::SendResponse;
use http::Response;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;

/// What a server does with the call.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// Answers with this message and `grpc-status: 0`.
    Says(&'static [u8]),
    /// Fails with this code, in the headers.
    Fails(&'static str),
    /// Takes the call and is silent.
    Silent,
    /// Speaks something else.
    Http1,
}

async fn respond(server: Server, mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("content-type", "application/grpc");
    match server {
        Server::Says(message) => {
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            frame.extend_from_slice(message);
            body.send_data(frame.into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            body.send_trailers(trailers).unwrap();
        }
        Server::Fails(code) => {
            let head = head.header("grpc-status", code).header("grpc-message", "unknown service");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
        Server::Silent | Server::Http1 => std::future::pending().await,
    }
}

async fn serve(listener: TcpListener, server: Server) {
    let (mut stream, _) = listener.accept().await.unwrap();
    if let Server::Http1 = server {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        return;
    }
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (request, answer) = connection.accept().await.unwrap().unwrap();
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let mut body = request.into_body();
    let moving = async { while connection.accept().await.is_some() {} };
    let answering = async {
        let asked = body.data().await.unwrap().unwrap();
        assert_eq!(&asked[..], b"\0\0\0\0\x06\x0a\x04live");
        respond(server, answer).await;
    };
    tokio::join!(moving, answering);
}

#[tokio::test]
async fn only_a_serving_service_is_well() {
    let short = Duration::from_millis(200);
    let long = Duration::from_secs(20);
    for (server, timeout, want) in [
        (Server::Says(b"\x08\x01"), long, None),
        (
            Server::Says(b"\x08\x02"),
            long,
            Some("service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        (Server::Says(b""), long, Some("service unhealthy (responded with \"UNKNOWN\")")),
        (Server::Says(b"\x08\x81\x81"), long, Some("health rpc probe failed: malformed answer")),
        (Server::Fails("12"), long, Some("does not implement the grpc health protocol")),
        (Server::Fails("5"), long, Some("rpc error: code = 5 desc = unknown service")),
        (Server::Http1, long, Some("error: health rpc probe failed: ")),
        (Server::Silent, short, Some("timeout: health rpc did not complete within 200ms")),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let outcome = tokio::select! {
            outcome = check(address, "live", timeout) => outcome,
            () = async { serve(listener, server).await; std::future::pending().await } => continue,
        };
        match (&outcome, want) {
            (ActionOutcome::Success, None) => {}
            (ActionOutcome::Failure(message), Some(part)) if message.contains(part) => {}
            _ => panic!("{server:?}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_closed_port_is_said_to_be_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = check(address, "", Duration::from_secs(20)).await;
    let ActionOutcome::Failure(message) = outcome else { panic!("{outcome:?}") };
    assert!(message.starts_with("error: failed to connect service at"), "{message}");
}

#[test]
fn names_of_any_length_fit() {
    assert_eq!(&message("")[..], b"\0\0\0\0\0");
    let long = message(&"x".repeat(300));
    assert_eq!(&long[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
}
