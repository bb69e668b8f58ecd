//! Fuzz targets: frames of streaming clients.

use bytes::{Bytes, BytesMut};
use tests_fuzz::Target;

use super::frame::{Frame, FrameDecoder, FrameEncoder};
use super::headers::Headers;
use crate::streaming::portforward_channels::parse_ports;

#[test]
fn spdy_frames() {
    let headers = Headers(vec![
        ("streamtype".to_owned(), "stdin".to_owned()),
        ("port".to_owned(), "80".to_owned()),
    ]);
    let mut encoder = FrameEncoder::new();
    let mut seed = BytesMut::new();
    for frame in [
        Frame::SynStream { id: 1, headers: headers.clone(), fin: false },
        Frame::Data { id: 1, payload: Bytes::from_static(b"text"), fin: true },
        Frame::SynReply { id: 1, headers, fin: false },
        Frame::Ping { id: 2 },
        Frame::WindowUpdate { id: 1, delta: 7 },
        Frame::RstStream { id: 1, status: 5 },
        Frame::GoAway { last: 1 },
    ] {
        encoder.encode(&frame, &mut seed).unwrap();
    }
    Target::new("spdy-frames", &[&seed]).runs(3000).check(|input| {
        let mut decoder = FrameDecoder::new();
        let mut frames = 0;
        for piece in input.chunks(97) {
            decoder.buffer().extend_from_slice(piece);
            while let Ok(Some(_)) = decoder.next() {
                frames += 1;
            }
        }
        frames > 3
    });
}

#[test]
fn port_lists() {
    Target::new("port-lists", &[b"80,443&8080", b"1"]).words(&[",", "&", "65535", "0"]).check(
        |input| {
            let text = String::from_utf8_lossy(input);
            let ports = parse_ports(text.split('&'));
            ports.is_ok_and(|it| !it.is_empty() && it.len() < 128 && !it.contains(&0))
        },
    );
}
