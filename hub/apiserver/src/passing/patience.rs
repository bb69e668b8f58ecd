//! How long an answer is waited for: as long as the request itself still moves, and some time more.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// The body of a request that tells of each piece of it that is taken.
pub(super) struct Told<B> {
    body: B,
    moved: Arc<Notify>,
}

impl<B> Told<B> {
    pub(super) fn new(body: B, moved: Arc<Notify>) -> Self {
        Self { body, moved }
    }
}

impl<B: Body + Unpin> Body for Told<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.moved.notify_one();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits for an answer; `None` once nothing of the request has moved for so long. Without patience to
/// lose, it waits for ever.
pub(super) async fn wait<T>(
    patience: Option<Duration>,
    moved: &Notify,
    answering: impl Future<Output = T>,
) -> Option<T> {
    let Some(patience) = patience else { return Some(answering.await) };
    let mut answering = pin!(answering);
    loop {
        // The first goes on where it was, the others only wait.
        tokio::select! {
            answer = &mut answering => return Some(answer),
            () = moved.notified() => {}
            () = tokio::time::sleep(patience) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const NEARLY: Duration = Duration::from_secs(50);

    /// Sends a body of so many pieces, each a good while after the last, and answers so long after.
    async fn exchange(n_pieces: u32, pause: Duration, patience: Option<Duration>) -> bool {
        let moved = Arc::new(Notify::new());
        let pieces = futures_util::stream::unfold(n_pieces, |left| async move {
            let left = left.checked_sub(1)?;
            tokio::time::sleep(NEARLY).await;
            Some((Ok::<_, std::io::Error>(Frame::data(bytes::Bytes::from_static(b"x"))), left))
        });
        let body = Told::new(Box::pin(StreamBody::new(pieces)), moved.clone());
        let answering = async {
            body.collect().await.unwrap();
            tokio::time::sleep(pause).await;
        };
        wait(patience, &moved, answering).await.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_with_the_end_of_the_request() {
        for (n_pieces, pause, patience, is_answered) in [
            (10, NEARLY, Some(PATIENCE), true),
            (0, NEARLY, Some(PATIENCE), true),
            (0, 2 * PATIENCE, Some(PATIENCE), false),
            (10, 2 * PATIENCE, Some(PATIENCE), false),
            (10, 100 * PATIENCE, None, true),
        ] {
            let answered = exchange(n_pieces, pause, patience).await;
            assert_eq!(answered, is_answered, "{n_pieces} {pause:?} {patience:?}");
        }
    }
}
