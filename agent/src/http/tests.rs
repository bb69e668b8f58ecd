//! Requests as a server sees them, and answers of all kinds.

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

fn place(path: &str) -> Place {
    Place { https: false, host: "10.0.0.1".to_owned(), port: 80, path: path.to_owned() }
}

#[test]
fn only_http_has_a_status() {
    let head = |status| Parsed::Head(Head { status, location: None });
    for (bytes, want) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], head(200)),
        (b"HTTP/1.0 503\r\n", head(503)),
        (b"HTTP/1.1 302 Found\r\nServer: x\r\n\r\n", head(302)),
        (b"HTTP/1.1 302 Found\r\nServer: x\r\n", Parsed::TooShort),
        (b"HTTP/1.1 20", Parsed::TooShort),
        (b"HT", Parsed::TooShort),
        (b"", Parsed::TooShort),
        (b"SSH-2.0-x\r\n", Parsed::Nonsense),
        (b"HTTP/1.1 abc\r\n", Parsed::Nonsense),
    ] {
        assert_eq!(parse(bytes), want, "{}", String::from_utf8_lossy(bytes));
    }
    let moved = parse(b"HTTP/1.1 301 x\r\nLOCATION:  /there \r\n\r\n");
    assert_eq!(moved, Parsed::Head(Head { status: 301, location: Some("/there".to_owned()) }));
}

#[test]
fn headers_cannot_smuggle_lines() {
    let headers = [("X\r\nY", "a\r\nb"), ("host", "h"), ("accept", "")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = request(&place("/a b\r\n"), &headers);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "GET /a%20b HTTP/1.1");
    assert!(lines.contains(&"XY: ab") && lines.contains(&"host: h"));
    assert!(!text.contains("Host: 10") && !text.to_lowercase().contains("accept"));
}

#[test]
fn redirects_stay_on_their_host() {
    for (location, want) in [
        ("/b", Some("http://10.0.0.1:80/b")),
        ("b?x", Some("http://10.0.0.1:80/dir/b?x")),
        ("https://10.0.0.1/b", Some("https://10.0.0.1:443/b")),
        ("http://10.0.0.1:8080", Some("http://10.0.0.1:8080/")),
        ("//10.0.0.1:81/b", Some("http://10.0.0.1:81/b")),
        ("http://elsewhere/b", None),
        ("http://10.0.0.2/b", None),
        ("http://10.0.0.1:x/", None),
    ] {
        let next = place("/dir/a?q=/").redirected(location).map(|it| it.to_string());
        assert_eq!(next.as_deref(), want, "{location}");
    }
    let six = Place { host: "fd00::1".to_owned(), ..place("/") };
    assert_eq!(
        six.redirected("http://[fd00::1]:81/b").unwrap().to_string(),
        "http://[fd00::1]:81/b"
    );
}

/// Answers one request after the other with these.
async fn serve(answers: &'static [&'static str], tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream: Box<dyn Stream> = match &tls {
                Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
                None => Box::new(stream),
            };
            let mut request = [0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET /"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

fn at(address: SocketAddr, https: bool) -> Place {
    let host = address.ip().to_string();
    Place { https, host, port: address.port(), path: "/healthz".to_owned() }
}

#[tokio::test]
async fn the_last_status_of_a_chain_counts() {
    for (answers, want) in [
        (&["HTTP/1.1 204 No Content\r\n\r\n"][..], Some(204)),
        (&["HTTP/1.1 302 x\r\nLocation: /b\r\n\r\n", "HTTP/1.1 500 x\r\n\r\n"], Some(500)),
        // Another host is not asked: being sent there counts as an answer.
        (&["HTTP/1.1 302 x\r\nLocation: http://192.0.2.1/\r\n\r\n"], Some(302)),
        (&["HTTP/1.1 302 x\r\nLocation: /healthz\r\n\r\n"; 11], None),
        (&["HTTP/1.1 200"], Some(200)),
        (&[""], None),
    ] {
        let address = serve(answers, None).await;
        let got = get(address.ip(), at(address, false), &[]).await;
        assert_eq!(got.as_ref().ok(), want.as_ref(), "{answers:?}: {got:?}");
    }
}

#[tokio::test]
async fn nobody_vouches_for_a_container_and_it_is_asked_all_the_same() {
    let made = rcgen::generate_simple_self_signed(vec!["someone.else".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve(&["HTTP/1.1 200 OK\r\n\r\n"], Some(acceptor)).await;
    assert_eq!(get(address.ip(), at(address, true), &[]).await.unwrap(), 200);
    // Without TLS on the other side it is an error, and no hang.
    let address = serve(&["HTTP/1.1 400 Bad Request\r\n\r\n"], None).await;
    let err = get(address.ip(), at(address, true), &[]).await.unwrap_err();
    assert!(matches!(err, GetError::Tls { .. }), "{err:?}");
}
