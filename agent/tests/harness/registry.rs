//! A registry with one image, on loopback.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::image::{Image, digest_of};

/// Serves the image as `box:1` for as long as the test runs; the answer is the address.
pub(crate) fn serve(image: Image) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let image = Arc::new(image);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let image = Arc::clone(&image);
            thread::spawn(move || {
                // A client that hangs up early has what it wanted.
                let _ = answer(&stream, &image);
            });
        }
    });
    address
}

fn answer(stream: &TcpStream, image: &Image) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let manifest = ("application/vnd.oci.image.manifest.v1+json", image.manifest.as_slice());
    let blob = || {
        let digest = path.strip_prefix("/v2/box/blobs/")?;
        let found = image.blobs.iter().find(|(it, _)| it == digest)?;
        Some(("application/octet-stream", found.1.as_slice()))
    };
    let found = match path {
        "/v2/" => Some(("application/json", &b"{}"[..])),
        "/v2/box/manifests/1" => Some(manifest),
        _ if path == format!("/v2/box/manifests/{}", digest_of(&image.manifest)) => Some(manifest),
        _ => blob(),
    };
    let (status, kind, body) = match found {
        Some((kind, body)) => ("200 OK", kind, body),
        None => ("404 Not Found", "application/json", &b"{\"errors\":[]}"[..]),
    };
    let mut out = stream;
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        digest_of(body)
    )?;
    if method != "HEAD" {
        out.write_all(body)?;
    }
    out.flush()
}
