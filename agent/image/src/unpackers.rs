//! The few threads that unpack layers. They come out of the threads for blocking work that the whole
//! node shares, so there are never more than so many: a pod that is to start or to be taken down must
//! not wait behind a large image.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinError};

#[derive(Debug)]
pub(crate) struct Unpackers {
    free: Arc<Semaphore>,
}

impl Unpackers {
    pub(crate) fn new(n: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(n.max(1))) }
    }

    /// Runs `work` on a thread of its own as soon as one is free. The thread counts as taken until
    /// `work` has ended, also when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Nobody closes it; if somebody did, there would be no bound any more, and still the work.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn other_work_goes_on_beside_all_unpacking() {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_time()
            .build()
            .unwrap();
        threads.block_on(async {
            let unpackers = Arc::new(Unpackers::new(1));
            let mut blockers = Vec::new();
            let mut layers = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let (release, released) = mpsc::channel::<()>();
                let unpackers = Arc::clone(&unpackers);
                layers.spawn(async move { unpackers.run(move || released.recv().is_ok()).await });
                blockers.push(release);
            }
            let pod = tokio::task::spawn_blocking(|| "taken down");
            let pod = tokio::time::timeout(Duration::from_secs(20), pod).await;
            assert_eq!(pod.expect("a pod waited behind layers").unwrap(), "taken down");
            for release in blockers {
                release.send(()).unwrap();
            }
            while let Some(done) = layers.join_next().await {
                assert!(done.unwrap().unwrap());
            }
        });
    }
}
