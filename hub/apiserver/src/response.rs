//! Answers: bodies, headers, compression.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hub_api::Status;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde_json::Value;

use crate::limits::GZIP_THRESHOLD;

/// A body of any kind. Its error cuts off what it is sent on: nobody takes what came for all of it.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub(crate) type Answer = Response<Body>;

/// The media type of nearly everything.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of what people read.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Small pieces of a body are joined to frames of at most this many bytes.
const FRAME: usize = 32 << 10;

/// A body whose pieces lie ready.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.left += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.pieces.push_back(piece);
    }

    /// The next large piece as it is, or many small ones together.
    fn next_frame(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let mut size = first.len();
        let mut n_small = 0;
        while let Some(piece) = self.pieces.get(n_small)
            && size + piece.len() <= FRAME
        {
            size += piece.len();
            n_small += 1;
        }
        if n_small == 0 {
            return Some(first);
        }
        let mut frame = BytesMut::with_capacity(size);
        frame.extend_from_slice(&first);
        for piece in self.pieces.drain(..n_small) {
            frame.extend_from_slice(&piece);
        }
        Some(frame.freeze())
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        let mut pieces = Self::default();
        pieces.push(bytes.into());
        pieces
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push(bytes);
        pieces
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.next_frame();
        if let Some(piece) = &piece {
            self.left -= u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        Poll::Ready(piece.map(|it| Ok(Frame::data(it))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn boxed(body: impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// An answer with a body that lies ready.
pub(crate) fn ready(code: StatusCode, media: HeaderValue, body: impl Into<Pieces>) -> Answer {
    let mut answer = Response::new(boxed(body.into()));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, media);
    answer
}

/// An answer with a body that is made while it is sent.
pub(crate) fn streamed<B>(media: HeaderValue, body: B) -> Answer
where
    B: HttpBody<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut answer = Response::new(boxed(body));
    answer.headers_mut().insert(CONTENT_TYPE, media);
    answer
}

/// A JSON answer.
pub(crate) fn json(code: StatusCode, value: &Value) -> Answer {
    ready(code, JSON, encode(value))
}

/// A plain text answer.
pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = ready(code, TEXT, text.into().into_bytes());
    no_sniff(answer.headers_mut());
    answer
}

/// A `Status` as an answer.
pub(crate) fn status(status: &Status) -> Answer {
    status_as(status, false)
}

/// A `Status` as an answer, indented for people.
pub(crate) fn status_as(status: &Status, pretty: bool) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = status.to_value();
    let mut answer = if pretty {
        ready(code, JSON, serde_json::to_vec_pretty(&value).unwrap_or_default())
    } else {
        json(code, &value)
    };
    let retry_after = status.details.as_ref().and_then(|it| it.retry_after_seconds);
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// JSON text with the line feed that Go's encoder ends with.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = serde_json::to_vec(value).unwrap_or_default();
    out.push(b'\n');
    out
}

/// A copy of a body that lies ready, is plain JSON and not too large.
pub(crate) async fn copy_body(answer: &mut Answer) -> Option<Bytes> {
    const MAX: u64 = 1 << 20;
    let headers = answer.headers();
    let is_json = headers.get(CONTENT_TYPE) == Some(&JSON);
    let fits = answer.body().size_hint().exact().is_some_and(|it| it <= MAX);
    if !is_json || !fits || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let body = std::mem::take(answer.body_mut());
    let bytes = body.collect().await.ok()?.to_bytes();
    *answer.body_mut() = boxed(Pieces::from(bytes.clone()));
    Some(bytes)
}

/// Makes an answer one to HEAD: HTTP/2 would send a body that lies ready.
pub(crate) fn without_body(answer: &mut Answer) {
    let Some(length @ 1..) = answer.body().size_hint().exact() else { return };
    answer.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    *answer.body_mut() = Body::default();
}

/// Adds what every answer carries.
pub(crate) fn finish(headers: &mut HeaderMap, audit_id: &HeaderValue) {
    headers.insert(HeaderName::from_static("audit-id"), audit_id.clone());
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
}

/// Adds `Warning` headers, which kubectl prints.
pub(crate) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        let quoted: String = warning
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c if c.is_control() => vec![' '],
                c => vec![c],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(http::header::WARNING, value);
        }
    }
}

/// Forbids browsers to guess the media type.
pub(crate) fn no_sniff(headers: &mut HeaderMap) {
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// An answer that is compressed if it is large and the client takes that.
pub(crate) async fn compressed(
    code: StatusCode,
    media: HeaderValue,
    body: Pieces,
    gzip: bool,
) -> Answer {
    if !gzip || body.len() < GZIP_THRESHOLD {
        return ready(code, media, body);
    }
    let packed = tokio::task::spawn_blocking(move || {
        let packed = pack(body.pieces.iter());
        (packed, body)
    })
    .await;
    match packed {
        Ok((Some(packed), _)) => {
            let mut answer = ready(code, media, packed);
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
            answer
        }
        Ok((None, body)) => ready(code, media, body),
        Err(_) => status(&Status::internal("could not compress the answer")),
    }
}

/// Compresses the pieces as one gzip file.
pub(crate) fn pack<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    for piece in pieces {
        encoder.write_all(piece).ok()?;
    }
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_one_body_of_known_length() {
        let mut pieces = Pieces::default();
        pieces.push(Bytes::from_static(b"ab"));
        pieces.push(Bytes::from_static(b"c"));
        assert_eq!(pieces.size_hint().exact(), Some(3));
        assert_eq!(pieces.collect().await.unwrap().to_bytes(), "abc");
    }

    #[test]
    fn an_answer_to_head_keeps_its_length_and_nothing_else() {
        let mut answer = text(StatusCode::OK, "four");
        without_body(&mut answer);
        assert_eq!(answer.headers()[CONTENT_LENGTH], "4");
        assert!(answer.body().is_end_stream());
    }

    #[test]
    fn warnings_are_quoted() {
        let mut headers = HeaderMap::new();
        warn(&mut headers, &["unknown field \"spec.x\"\n".to_owned()]);
        assert_eq!(headers["warning"], "299 - \"unknown field \\\"spec.x\\\" \"");
    }
}
