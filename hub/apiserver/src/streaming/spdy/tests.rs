//! The codec against itself, in pieces, and against what hostile peers send.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, FrameDecoder, FrameEncoder};
use super::headers::Headers;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn frames() -> Vec<Frame> {
    vec![
        Frame::SynStream { id: 1, headers: headers(&[("streamtype", "error")]), fin: false },
        Frame::SynStream {
            id: 3,
            headers: headers(&[("streamtype", "stdout"), ("port", "8080"), ("empty", "")]),
            fin: true,
        },
        Frame::SynReply { id: 1, headers: headers(&[]), fin: false },
        Frame::Data { id: 3, payload: Bytes::from_static(b"hello"), fin: false },
        Frame::Data { id: 3, payload: Bytes::new(), fin: true },
        Frame::Headers { id: 3, headers: headers(&[("a", &"long ".repeat(400))]), fin: false },
        Frame::RstStream { id: 3, status: 5 },
        Frame::Settings,
        Frame::Ping { id: 7 },
        Frame::WindowUpdate { id: 1, delta: 65536 },
        Frame::GoAway { last: 3 },
    ]
}

#[test]
fn frames_come_back_whatever_the_pieces() {
    for piece in [1, 7, 4096] {
        let (mut encoder, mut decoder) = (FrameEncoder::new(), FrameDecoder::new());
        let mut bytes = BytesMut::new();
        for frame in frames() {
            encoder.encode(&frame, &mut bytes).unwrap();
        }
        let mut out = Vec::new();
        for part in bytes.chunks(piece) {
            decoder.buffer().extend_from_slice(part);
            while let Some(frame) = decoder.next().unwrap() {
                out.push(frame);
            }
        }
        assert_eq!(out, frames(), "in pieces of {piece}");
    }
}

#[test]
fn hostile_frames_are_refused() {
    let cases: [(&str, &[u8]); 5] = [
        ("SPDY/2", &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
        ("a short SYN_STREAM", &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]),
        ("a frame of 16 MiB", &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("headers that are not zlib", &[0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 9, 9, 9, 9]),
        ("a short ping", &[0x80, 3, 0, 6, 0, 0, 0, 1, 0]),
    ];
    for (what, bytes) in cases {
        let mut decoder = FrameDecoder::new();
        decoder.buffer().extend_from_slice(bytes);
        assert!(decoder.next().is_err(), "{what}");
    }
}

#[test]
fn a_header_bomb_is_refused() {
    let bomb = Headers(vec![("a".to_owned(), "a".repeat(1 << 20))]);
    let mut bytes = BytesMut::new();
    FrameEncoder::new()
        .encode(&Frame::SynReply { id: 1, headers: bomb, fin: false }, &mut bytes)
        .unwrap();
    let mut decoder = FrameDecoder::new();
    decoder.buffer().extend_from_slice(&bytes);
    assert!(decoder.next().is_err());
}

#[test]
fn unknown_control_frames_are_skipped() {
    let mut decoder = FrameDecoder::new();
    decoder.buffer().extend_from_slice(&[0x80, 3, 0, 99, 0, 0, 0, 1, 5]);
    decoder.buffer().extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(decoder.next().unwrap(), Some(Frame::Ping { id: 1 }));
}
