//! Concurrent writers, readers and watchers, while the hub is killed: what they saw must be one history.
//!
//! Revisions order the writes. The watchers give that order; everything else is held against it: watches never go back
//! and have no gap that they were not told of, a change based on a revision follows it directly, and nobody sees less than
//! was acknowledged before. A hub that was started again says `410 Expired` to watches from before, as Kubernetes does.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::{
    kube_rs::connect,
    world::{start_within, with_world},
};

const NAMES: [&str; 3] = ["left", "middle", "right"];
const N_WRITERS: usize = 4;
const N_WATCHERS: usize = 2;
const N_KILLS: usize = 4;
/// How long the clients work between two kills.
const BETWEEN: Duration = Duration::from_millis(1200);

/// What an object is: nothing, or what was written.
type Content = Option<String>;

/// One thing that was answered, between two moments of a common counter.
#[derive(Debug)]
struct Answer {
    begin: u64,
    end: u64,
    name: &'static str,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A write of this content on top of a revision (none: nothing was there).
    Wrote { base: Option<u64>, revision: u64, content: Content },
    /// A read: the revision and the content. Nothing was there if it has none.
    Read { seen: Option<(u64, String)> },
}

#[derive(Default)]
struct Record {
    counter: Cell<u64>,
    answers: RefCell<Vec<Answer>>,
    /// Contents of writes that were never answered: they may be there or not.
    unanswered: RefCell<BTreeSet<Content>>,
}

impl Record {
    fn tick(&self) -> u64 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    fn note(&self, begin: u64, name: &'static str, what: What) {
        let end = self.tick();
        self.answers.borrow_mut().push(Answer { begin, end, name, what });
    }
}

/// What a watcher saw.
#[derive(Default)]
struct Seen {
    /// Revision, object, content.
    events: Vec<(u64, String, Content)>,
    /// Above the first and up to the second revision the server had told that events are missing.
    gaps: Vec<(u64, u64)>,
}

#[test]
fn writers_and_watchers_see_one_history_through_crashes() {
    with_world(0, |world| {
        let stop = Arc::new(AtomicBool::new(false));
        let kubeconfig = world.hub_dir().join("admin.kubeconfig");
        let told = stop.clone();
        let clients = start_within(&world.hub_namespace(), move || run(kubeconfig, &told));
        for _ in 0..N_KILLS {
            std::thread::sleep(BETWEEN);
            world.kill_hub();
            world.start_hub();
        }
        std::thread::sleep(BETWEEN);
        stop.store(true, Ordering::SeqCst);
        let n_writes = clients.join().unwrap();
        assert!(n_writes > 50, "only {n_writes} writes were answered");
    });
}

/// Runs the clients until told, and checks what they saw. The answer is how many writes were acknowledged.
fn run(kubeconfig: PathBuf, stop: &AtomicBool) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect(&kubeconfig).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let record = Rc::new(Record::default());
        let first = list_revision(&maps).await;
        let target = Cell::new(None);
        let watchers = join_all((0..N_WATCHERS).map(|_| watch(&maps, first, &target)));
        let writers = async {
            join_all((0..N_WRITERS).map(|writer| write(&maps, &record, writer, stop))).await;
            target.set(Some(list_revision(&maps).await));
        };
        let (seen, ()) = futures_util::future::join(watchers, writers).await;
        check(&record, &seen);
        let answers = record.answers.borrow();
        answers.iter().filter(|it| matches!(it.what, What::Wrote { .. })).count()
    })
}

async fn list_revision(maps: &Api<ConfigMap>) -> u64 {
    loop {
        if let Ok(list) = maps.list(&ListParams::default().limit(1)).await {
            return list.metadata.resource_version.unwrap().parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Watches from a revision on, again from where it was when the connection breaks, until the target is reached.
async fn watch(maps: &Api<ConfigMap>, first: u64, target: &Cell<Option<u64>>) -> Seen {
    let mut seen = Seen::default();
    let mut at = first;
    // The server ends a watch without bookmarks now and then, so that the target is looked at.
    let params = WatchParams::default().timeout(1).disable_bookmarks();
    while target.get().is_none_or(|it| at < it) {
        let Ok(stream) = maps.watch(&params, &at.to_string()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = stream.boxed();
        while let Some(Ok(event)) = stream.next().await {
            let (map, is_gone) = match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => (map, false),
                WatchEvent::Deleted(map) => (map, true),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) if status.code == 410 => {
                    let now = list_revision(maps).await;
                    seen.gaps.push((at, now));
                    at = now;
                    break;
                }
                WatchEvent::Error(status) => panic!("the watch at {at} failed: {status:?}"),
            };
            at = revision_of(&map);
            let content = if is_gone { None } else { content_of(&map) };
            seen.events.push((at, map.name_any(), content));
        }
        // The last revision may be another resource's.
        if let Some(target) = target.get()
            && maps.list_metadata(&ListParams::default()).await.is_ok_and(|list| {
                list.items.iter().all(|it| {
                    it.resource_version().is_some_and(|it| it.parse::<u64>().unwrap() <= at)
                })
            })
        {
            at = at.max(target);
        }
    }
    seen
}

async fn write(maps: &Api<ConfigMap>, record: &Record, writer: usize, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let name = NAMES[(writer + number) % NAMES.len()];
        let begin = record.tick();
        let Ok(current) = maps.get_opt(name).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let seen = current.as_ref().map(|it| (revision_of(it), content_of(it).unwrap()));
        record.note(begin, name, What::Read { seen: seen.clone() });
        let content = format!("{writer}-{number}");
        let begin = record.tick();
        let base = seen.map(|it| it.0);
        let (answer, content) = match current {
            None => {
                let map = map(name, &content, None);
                (maps.create(&PostParams::default(), &map).await.map(Some), Some(content))
            }
            Some(_) if number % 10 == 9 => {
                let preconditions =
                    Preconditions { resource_version: base.map(|it| it.to_string()), uid: None };
                let params = DeleteParams::default().preconditions(preconditions);
                (maps.delete(name, &params).await.map(|_| None), None)
            }
            Some(_) => {
                let map = map(name, &content, base);
                (maps.replace(name, &PostParams::default(), &map).await.map(Some), Some(content))
            }
        };
        match answer {
            // A deletion answers no revision: the watchers know it.
            Ok(None) => {}
            Ok(Some(map)) => {
                let revision = revision_of(&map);
                record.note(begin, name, What::Wrote { base, revision, content });
            }
            // Somebody was faster: nothing was written.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(_) => {
                record.unanswered.borrow_mut().insert(content);
            }
        }
    }
}

fn map(name: &str, content: &str, base: Option<u64>) -> ConfigMap {
    let version = base.map(|it| it.to_string());
    let map = json!({"metadata": {"name": name, "resourceVersion": version}, "data": {"content": content}});
    serde_json::from_value(map).unwrap()
}

fn revision_of(map: &ConfigMap) -> u64 {
    map.meta().resource_version.as_ref().unwrap().parse().unwrap()
}

fn content_of(map: &ConfigMap) -> Content {
    map.data.as_ref()?.get("content").cloned()
}

fn check(record: &Record, seen: &[Seen]) {
    // Everything between two events that no watcher was told to have missed is all there was.
    let mut history: BTreeMap<&str, BTreeMap<u64, &Content>> = BTreeMap::new();
    for watcher in seen {
        for pair in watcher.events.windows(2) {
            assert!(pair[0].0 < pair[1].0, "a watch went from {:?} to {:?}", pair[0], pair[1]);
        }
        for (revision, name, content) in &watcher.events {
            let other = history.entry(name).or_default().insert(*revision, content);
            assert!(other.is_none_or(|it| it == content), "two histories: {other:?}, {content:?}");
        }
    }
    for watcher in seen {
        let own: BTreeSet<u64> = watcher.events.iter().map(|it| it.0).collect();
        for revision in history.values().flat_map(BTreeMap::keys) {
            let told =
                own.contains(revision) || watcher.gaps.iter().any(|it| is_in(*it, *revision));
            assert!(told, "revision {revision} is missing in a watch, and it was not told");
        }
    }
    let is_seen = |from: u64, to: u64| {
        seen.iter().any(|it| it.gaps.iter().all(|(first, last)| *last <= from || to <= *first))
    };
    let answers = record.answers.borrow();
    let nothing = BTreeMap::new();
    for answer in answers.iter() {
        let history = history.get(answer.name).unwrap_or(&nothing);
        match &answer.what {
            What::Wrote { base, revision, content }
                if is_seen(base.unwrap_or(*revision) - 1, *revision) =>
            {
                assert_eq!(
                    history.get(revision),
                    Some(&content),
                    "not seen by the watches: {answer:?}"
                );
                let before = history.range(..revision).next_back();
                let before = before.and_then(|(at, content)| content.as_ref().map(|_| *at));
                assert!(base.is_none() || before == *base, "{before:?} came between: {answer:?}");
            }
            What::Read { seen: Some((revision, content)) } if is_seen(*revision - 1, *revision) => {
                let written = history.get(revision).and_then(|it| it.as_deref());
                assert_eq!(
                    written,
                    Some(content.as_str()),
                    "nobody wrote what was read: {answer:?}"
                );
            }
            What::Wrote { .. } | What::Read { .. } => {}
        }
    }
    check_order(&answers, &history, seen.iter().all(|it| !it.gaps.is_empty()));
    let acknowledged: BTreeSet<&Content> = answers
        .iter()
        .filter_map(|it| match &it.what {
            What::Wrote { content, .. } => Some(content),
            What::Read { .. } => None,
        })
        .collect();
    for (revision, _, content) in seen.iter().flat_map(|it| &it.events) {
        let known = content.is_none()
            || acknowledged.contains(content)
            || record.unanswered.borrow().contains(content);
        assert!(known, "nobody wrote {content:?} of revision {revision}");
    }
}

fn is_in((first, last): (u64, u64), revision: u64) -> bool {
    first < revision && revision <= last
}

/// Nobody sees less than was answered before he asked.
fn check_order(
    answers: &[Answer],
    history: &BTreeMap<&str, BTreeMap<u64, &Content>>,
    has_gaps: bool,
) {
    for name in NAMES {
        let nothing = BTreeMap::new();
        let history = history.get(name).unwrap_or(&nothing);
        let mut known: Vec<(u64, u64)> = Vec::new();
        let mut answers: Vec<&Answer> = answers.iter().filter(|it| it.name == name).collect();
        answers.sort_by_key(|it| it.begin);
        for answer in &answers {
            let floor = known.iter().filter(|it| it.0 < answer.begin).map(|it| it.1).max();
            let at = match &answer.what {
                What::Wrote { revision, .. } | What::Read { seen: Some((revision, _)) } => {
                    *revision
                }
                // Deleted at some time after what was known, or never there.
                What::Read { seen: None } => {
                    let mut gone = history.iter().filter(|it| it.1.is_none()).map(|it| *it.0);
                    let is_later = |it: u64| floor.is_none_or(|floor| it > floor);
                    assert!(floor.is_none() || gone.any(is_later) || has_gaps, "{answer:?}");
                    continue;
                }
            };
            assert!(floor.is_none_or(|it| it <= at), "{answer:?} is older than {floor:?}");
            known.push((answer.end, at));
        }
    }
}
