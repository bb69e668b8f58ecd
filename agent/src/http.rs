//! Just enough HTTP/1.1 to ask a container whether it is well: one GET, one status.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest status line that is read, in bytes.
const MAX_LINE: usize = 4096;
const USER_AGENT: &str = "kube-probe/1.37";

/// The request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error("dial tcp {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("could not exchange with {address}")]
    Exchange {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("malformed HTTP response")]
    Malformed,
}

/// Asks, and returns the status code.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub async fn get(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<u16, GetError> {
    let mut stream =
        TcpStream::connect(address).await.map_err(|err| GetError::Connect { address, err })?;
    let failed = |err| GetError::Exchange { address, err };
    stream.write_all(request(address, path, headers).as_bytes()).await.map_err(failed)?;
    let mut line = Vec::new();
    let mut buffer = [0_u8; 512];
    while !line.contains(&b'\n') {
        let n = stream.read(&mut buffer).await.map_err(failed)?;
        line.extend_from_slice(&buffer[..n]);
        if n == 0 || line.len() > MAX_LINE {
            break;
        }
    }
    status(&line).ok_or(GetError::Malformed)
}

fn request(address: SocketAddr, path: &str, headers: &[(String, String)]) -> String {
    // What comes from outside must not begin a line of its own.
    let clean = |text: &str| text.replace(['\r', '\n'], "");
    let given = |name: &str| headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", clean(path).replace(' ', "%20"));
    let fixed = [
        ("Host", address.to_string()),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    for (name, value) in fixed.iter().filter(|(name, _)| !given(name)) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{}: {}\r\n", clean(name), clean(value)));
    }
    text.push_str("\r\n");
    text
}

fn status(line: &[u8]) -> Option<u16> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|it| it.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_has_a_status() {
        for (line, want) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"SSH-2.0-x\r\n", None),
            (b"HTTP/1.1 abc\r\n", None),
            (b"", None),
        ] {
            assert_eq!(status(line), want);
        }
    }

    #[test]
    fn headers_cannot_smuggle_lines() {
        let headers =
            [("X\r\nY".to_owned(), "a\r\nb".to_owned()), ("host".to_owned(), "h".to_owned())];
        let text = request(([127, 0, 0, 1], 80).into(), "/a b\r\n", &headers);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "GET /a%20b HTTP/1.1");
        assert!(lines.contains(&"XY: ab") && lines.contains(&"host: h"));
        assert!(!text.contains("Host: 127"));
    }
}
