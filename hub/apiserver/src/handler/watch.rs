//! Watches over HTTP: one JSON object a line, until the client leaves, the time is up, or the
//! server stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::ACCEPT;
use http_body_util::StreamBody;
use hub_api::table::TableMeta;
use hub_api::{Resource, Status};
use hub_storage::{Entry, Revision};
use hyper::body::Frame;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::encodings::{Shape, Which};
use super::render::{View, meta_version, partial, with_version};
use super::{Call, Open, Shared, options};
use crate::limits::{BOOKMARK_INTERVAL, DEFAULT_WATCH_TIMEOUT, MAX_WATCH_TIMEOUT, WATCH_BATCH};
use crate::registry::{RegistryWatch, WatchEvent};
use crate::request::accept::{Answer as Wanted, Form, negotiate};
use crate::response::{self, Answer};

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Starts a watch and answers with its events.
pub(super) async fn serve(call: Call) -> Result<Answer, Status> {
    let view = View::new(&call, negotiate(call.header(ACCEPT), Wanted::Objects)?)?;
    let options = options::watch(&call)?;
    let timeout = match call.query.number::<i64>("timeoutSeconds")?.filter(|it| *it != 0) {
        None => DEFAULT_WATCH_TIMEOUT,
        // It is over before it begins.
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    };
    let timeout = timeout.min(MAX_WATCH_TIMEOUT);
    if options.initial_events == Some(true) {
        let wanted = options.revision.map(Revision::new).unwrap_or_default();
        let registry = &call.shared.registry;
        let wait = registry.wait_for(wanted);
        // What is still ahead then is refused by the registry.
        let _ = tokio::time::timeout(crate::limits::FRESHNESS_TIMEOUT, wait).await;
    }
    let registry = &call.shared.registry;
    let watch = match registry.watch_converted(&call.resource, call.namespace(), &options) {
        Ok(watch) => Some(watch),
        // Clients look for this one in the stream, not in the answer's code.
        Err(status) if status.code == 410 => return Ok(expired(&status)),
        Err(status) => return Err(status),
    };
    let mut bookmarks = tokio::time::interval(BOOKMARK_INTERVAL);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    bookmarks.reset();
    let stream = WatchStream {
        view,
        resource: call.resource,
        watch,
        deadline: Box::pin(tokio::time::sleep(timeout)),
        bookmarks: call.query.flag("allowWatchBookmarks").then_some(bookmarks),
        columns_sent: false,
        _open: Open::new(call.shared.clone()),
        shared: call.shared,
    };
    let frames = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), stream))
    });
    Ok(response::streamed(response::JSON, StreamBody::new(frames)))
}

fn expired(status: &Status) -> Answer {
    let mut out = BytesMut::new();
    put_event(&mut out, "ERROR", &serde_json::to_vec(&status.to_value()).unwrap_or_default());
    response::ready(http::StatusCode::OK, response::JSON, out.freeze())
}

struct WatchStream {
    view: View,
    resource: Arc<Resource>,
    /// `None` once the last event was sent.
    watch: Option<RegistryWatch>,
    deadline: std::pin::Pin<Box<Sleep>>,
    /// `None` if the client wants none.
    bookmarks: Option<Interval>,
    columns_sent: bool,
    shared: Arc<Shared>,
    _open: Open,
}

enum Wake {
    Event(Result<WatchEvent, Status>),
    Bookmark,
    End,
}

impl WatchStream {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let wake = self.wake().await?;
            let mut out = BytesMut::new();
            match wake {
                Wake::Event(Ok(event)) => {
                    self.put(&mut out, event);
                    self.drain(&mut out);
                }
                Wake::Event(Err(status)) => self.put_error(&mut out, &status),
                Wake::Bookmark => self.put_bookmark(&mut out),
                Wake::End => {
                    self.put_bookmark(&mut out);
                    self.watch = None;
                }
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
        }
    }

    async fn wake(&mut self) -> Option<Wake> {
        let watch = self.watch.as_mut()?;
        let bookmark = async {
            match &mut self.bookmarks {
                Some(interval) => {
                    interval.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        Some(tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => Wake::End,
            () = self.deadline.as_mut() => Wake::End,
            event = watch.next() => Wake::Event(event),
            () = bookmark => Wake::Bookmark,
        })
    }

    /// What is ready goes out in the same frame.
    fn drain(&mut self, out: &mut BytesMut) {
        while out.len() < WATCH_BATCH
            && let Some(watch) = &mut self.watch
        {
            match watch.try_next() {
                Ok(Some(event)) => self.put(out, event),
                Ok(None) => return,
                Err(status) => return self.put_error(out, &status),
            }
        }
    }

    fn put(&mut self, out: &mut BytesMut, event: WatchEvent) {
        match event {
            WatchEvent::Added(entry) => {
                let shown = self.show(&entry, entry.revision, None);
                put_event(out, "ADDED", &shown);
            }
            WatchEvent::Modified(entry) => {
                let shown = self.show(&entry, entry.revision, None);
                put_event(out, "MODIFIED", &shown);
            }
            WatchEvent::Deleted { last, bytes, revision } => {
                let shown = self.show(&last, revision, Some(&bytes));
                put_event(out, "DELETED", &shown);
            }
            WatchEvent::InitialEventsEnd(revision) => {
                if self.bookmarks.is_some() {
                    let annotations = json!({ (INITIAL_EVENTS_END): "true" });
                    self.put_bookmark_at(out, revision, Some(annotations));
                }
            }
        }
    }

    /// What an event shows, encoded once for all who watch it in this form. `gone` is an object that is shown for the
    /// last time.
    fn show(&mut self, entry: &Entry, revision: Revision, gone: Option<&Bytes>) -> Bytes {
        let now = self.shared.registry.now();
        let (form, include) = (self.view.form, self.view.include);
        let shape = match form {
            Form::Plain | Form::Aggregated { .. } if self.resource.version_of.is_none() => {
                return gone.unwrap_or(&entry.bytes).clone();
            }
            Form::Plain | Form::Aggregated { .. } => Shape::Object,
            Form::Metadata { beta } => Shape::Metadata { beta },
            Form::Table { beta } => {
                // Columns are told once, as kubectl expects of a watch.
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                Shape::Table { beta, include, columns, second: now.as_second() }
            }
        };
        let deleted = gone.is_some();
        let which = Which { resource: &self.resource, key: &entry.key, revision, deleted };
        self.shared.encodings.get(which, shape, || {
            let value = match gone {
                Some(bytes) => Arc::new(serde_json::from_slice(bytes).unwrap_or_default()),
                None => entry.value(),
            };
            encode(&make(&self.resource, value, shape, now))
        })
    }

    fn put_bookmark(&mut self, out: &mut BytesMut) {
        if self.bookmarks.is_none() {
            return;
        }
        let Some(watch) = &mut self.watch else { return };
        match watch.bookmark() {
            Ok(Some(revision)) => self.put_bookmark_at(out, revision, None),
            Ok(None) => {}
            Err(status) => self.put_error(out, &status),
        }
    }

    fn put_bookmark_at(
        &mut self,
        out: &mut BytesMut,
        revision: Revision,
        annotations: Option<Value>,
    ) {
        let mut metadata = json!({
            "resourceVersion": revision.to_string(),
            "creationTimestamp": null,
        });
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let object = match self.view.form {
            Form::Plain | Form::Aggregated { .. } => json!({
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version(),
                "metadata": metadata,
            }),
            Form::Metadata { beta } => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": meta_version(beta),
                "metadata": metadata,
            }),
            Form::Table { beta } => json!({
                "kind": "Table",
                "apiVersion": meta_version(beta),
                "metadata": metadata,
                "columnDefinitions": null,
                "rows": [],
            }),
        };
        put_event(out, "BOOKMARK", &encode(&object));
    }

    fn put_error(&mut self, out: &mut BytesMut, status: &Status) {
        put_event(out, "ERROR", &encode(&status.to_value()));
        self.watch = None;
    }
}

fn make(resource: &Resource, value: Arc<Value>, shape: Shape, now: Timestamp) -> Value {
    match shape {
        Shape::Object => resource.show(Arc::unwrap_or_clone(value)),
        Shape::Metadata { beta } if resource.version_of.is_none() => partial(&value, beta),
        Shape::Metadata { beta } => partial(&resource.show(Arc::unwrap_or_clone(value)), beta),
        Shape::Table { beta, include, columns, second: _ } => {
            let version = hub_api::object::resource_version(&value).to_owned();
            let meta = TableMeta { resource_version: version, ..TableMeta::default() };
            let mut table = hub_api::table::table(resource, [value], meta, include, now);
            if !columns {
                table["columnDefinitions"] = Value::Null;
            }
            with_version(table, beta)
        }
    }
}

fn encode(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn put_event(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}
