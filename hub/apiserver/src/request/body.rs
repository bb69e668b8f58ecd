//! The body of a request, of which nothing is left on the way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use crate::limits::{LEFTOVER_TIMEOUT, MAX_LEFTOVER};

/// What a client sends. Where it was not read to its end, the rest is read and dropped within bounds: a stream of HTTP/2
/// that is reset while the client still sends costs many clients the answer, although they should keep it (RFC 9113,
/// section 8.1).
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Incoming>);

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|it| !it.is_end_stream()) else { return };
        // Without a runtime there is no connection any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LEFTOVER_TIMEOUT, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut n_read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        n_read += frame.data_ref().map_or(0, Bytes::len);
        if n_read > MAX_LEFTOVER {
            return;
        }
    }
}
