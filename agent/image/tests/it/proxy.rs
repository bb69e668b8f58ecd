//! A link to the registry that counts what is asked for, and breaks off blobs where told.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How the link treats transfers of blobs.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    Fair,
    /// Every transfer ends after so many bytes.
    CutAfter(usize),
    /// Bytes stop coming, and the connection stays.
    StallAfter(usize),
    /// Manifests never end.
    Endless,
}

#[derive(Default)]
pub(crate) struct Log {
    /// First lines of the requests, with their `Range`.
    pub(crate) requests: Vec<(String, Option<String>)>,
    pub(crate) blob_bytes: usize,
    pub(crate) endless_bytes: usize,
}

pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) log: Arc<Mutex<Log>>,
    mood: Arc<Mutex<Mood>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: &str, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (log, mood) = (Arc::<Mutex<Log>>::default(), Arc::new(Mutex::new(mood)));
        let mut tasks = JoinSet::new();
        let (upstream, shared) = (upstream.to_owned(), (Arc::clone(&log), Arc::clone(&mood)));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (upstream, (log, mood)) = (upstream.clone(), shared.clone());
                connections.spawn(async move {
                    // Either side may go away at any moment; that is the point.
                    let _ = serve(client, &upstream, &log, &mood).await;
                });
            }
        });
        Self { host, log, mood, _tasks: tasks }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn n_requests(&self, path: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.requests.iter().filter(|(line, _)| line.contains(path)).count()
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: &str,
    log: &Mutex<Log>,
    mood: &Mutex<Mood>,
) -> std::io::Result<()> {
    let head = read_head(&mut client).await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    let range = text.lines().find_map(|it| it.strip_prefix("range: ")).map(str::to_owned);
    let is_blob = line.contains("/blobs/");
    let is_endless = matches!(*mood.lock().unwrap(), Mood::Endless);
    if is_endless && line.contains("/manifests/") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            client.write_all(&[b' '; 16 << 10]).await?;
            log.lock().unwrap().endless_bytes += 16 << 10;
        }
    }
    log.lock().unwrap().requests.push((line, range));
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(text.trim_end().as_bytes()).await?;
    server.write_all(b"\r\nconnection: close\r\n\r\n").await?;
    let answer = read_head(&mut server).await?;
    client.write_all(&answer).await?;
    let mood = *mood.lock().unwrap();
    let room = match mood {
        Mood::CutAfter(n) | Mood::StallAfter(n) if is_blob => n,
        Mood::Fair | Mood::Endless | Mood::CutAfter(_) | Mood::StallAfter(_) => usize::MAX,
    };
    let mut sent = 0;
    let mut buffer = vec![0; 16 << 10];
    while sent < room {
        let n = server.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let n = n.min(room - sent);
        client.write_all(&buffer[..n]).await?;
        sent += n;
        if is_blob {
            log.lock().unwrap().blob_bytes += n;
        }
    }
    if matches!(mood, Mood::StallAfter(_)) {
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}
