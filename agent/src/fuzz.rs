//! Fuzz targets: what containers answer to probes.

use tests_fuzz::Target;

use crate::{grpc, http};

#[test]
fn answers() {
    let seeds: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nlocation: https://[::1]:99/x?y\r\n\r\n",
        b"HTTP/1.1 301 x\nLocation: //host/a\n\n",
        b"\0\0\0\0\x02\x08\x01",
    ];
    let words = &[
        "HTTP/1.",
        " 302 ",
        "Location: ",
        "http://",
        "https://",
        "//",
        "[::1]",
        ":99999",
        "\r\n",
        "\r\n\r\n",
        "/",
        "?",
    ];
    Target::new("answers", seeds).words(words).runs(5000).check(|input| {
        let _ = grpc::serving_status(input);
        http::fuzz(input)
    });
}
