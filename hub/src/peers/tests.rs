//! Hubs over one store: to which of them pods are sent.

use hub_apiserver::RegistryConfig;
use hub_storage::{Options, SledStorage};

use super::*;
use crate::clock::SystemClock;

struct Store {
    registry: Registry,
    authority: Arc<Authority>,
    begin: Duration,
    _dir: tempfile::TempDir,
}

impl Store {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (storage, _) = SledStorage::open(&dir.path().join("store"), Options::DEFAULT).unwrap();
        let config = RegistryConfig { service_cidr: "10.96.0.0/16".parse().unwrap() };
        let registry = Registry::new(storage, Arc::new(SystemClock), config);
        registry.bootstrap().await.unwrap();
        let pki = dir.path().join("pki");
        let authority = Arc::new(Authority::load_or_create(&pki, SystemClock.now()).unwrap());
        Self { registry, authority, begin: monotonic(), _dir: dir }
    }

    /// A hub that was just started.
    fn hub(&self, ip: &str) -> Hub<'_> {
        let own = Whereabouts {
            id: format!("id-{ip}"),
            api: format!("{ip}:6443").parse().unwrap(),
            peer: format!("{ip}:6445").parse().unwrap(),
        };
        let clock = Arc::new(SystemClock);
        Hub(self, Peers::new(self.registry.clone(), clock, self.authority.clone(), own))
    }

    /// The endpoints that pods see: the same in both kinds.
    fn shown(&self) -> String {
        let get = |group, plural| {
            let resource = hub_api::resources::find(group, "v1", plural).unwrap();
            self.registry.get(resource, Some("default"), "kubernetes").unwrap().decode()
        };
        let join = |list: Vec<&str>| list.join(" ");
        let slice = get("discovery.k8s.io", "endpointslices");
        let slice = object::list(&slice, "endpoints").iter();
        let slice = join(slice.map(|it| it["addresses"][0].as_str().unwrap()).collect());
        let endpoints = get("", "endpoints");
        assert_eq!(endpoints["subsets"].as_array().unwrap().len(), 1, "{endpoints}");
        let addresses = object::list(&endpoints["subsets"][0], "addresses").iter();
        assert_eq!(join(addresses.map(|it| it["ip"].as_str().unwrap()).collect()), slice);
        slice
    }
}

struct Hub<'a>(&'a Store, Arc<Peers>);

impl Hub<'_> {
    /// Renews its Lease so many seconds after the begin, looks at the others, and says what is published then.
    async fn at(&self, seconds: u64) -> String {
        let now = self.0.begin + Duration::from_secs(seconds);
        self.1.look_around(now).await.unwrap();
        self.0.shown()
    }
}

#[tokio::test]
async fn every_hub_adds_itself_and_nobody_takes_another_out() {
    let store = Store::new().await;
    let (a, b) = (store.hub("10.0.0.1"), store.hub("10.0.0.2"));
    assert_eq!(a.at(0).await, "10.0.0.1");
    assert_eq!(b.at(1).await, "10.0.0.1 10.0.0.2");
    assert_eq!(a.at(5).await, "10.0.0.1 10.0.0.2");
    // It has seen no Lease change yet.
    assert_eq!(store.hub("10.0.0.3").at(6).await, "10.0.0.1 10.0.0.2 10.0.0.3");
    let revision = store.registry.revision();
    assert_eq!(a.at(7).await, "10.0.0.1 10.0.0.2 10.0.0.3");
    let renewed = store.registry.revision().get() - revision.get();
    assert_eq!(renewed, 1, "what is right is not written again");
}

#[tokio::test]
async fn a_hub_that_is_gone_is_taken_out_and_stays_out() {
    let store = Store::new().await;
    let (a, b) = (store.hub("10.0.0.1"), store.hub("10.0.0.2"));
    a.at(0).await;
    b.at(0).await;
    assert_eq!(a.at(5).await, "10.0.0.1 10.0.0.2");
    for seconds in [10, 15, 20] {
        assert_eq!(a.at(seconds).await, "10.0.0.1 10.0.0.2", "{seconds}");
    }
    assert_eq!(a.at(26).await, "10.0.0.1");
    // Its Lease is there for an hour more; who finds it does not take it for a sign of life.
    let c = store.hub("10.0.0.3");
    assert_eq!(c.at(27).await, "10.0.0.1 10.0.0.3");
    assert_eq!(a.at(30).await, "10.0.0.1 10.0.0.3");
    assert_eq!(b.at(31).await, "10.0.0.1 10.0.0.2 10.0.0.3");
    assert_eq!(c.at(32).await, "10.0.0.1 10.0.0.2 10.0.0.3");
    // One that stops says so.
    let stopped = CancellationToken::new();
    stopped.cancel();
    c.1.clone().keep(stopped).await;
    assert_eq!(store.shown(), "10.0.0.1 10.0.0.2");
    assert_eq!(b.at(33).await, "10.0.0.1 10.0.0.2");
}

#[tokio::test]
async fn an_address_without_a_lease_goes() {
    let store = Store::new().await;
    let read = || Published::read(&store.registry).unwrap();
    let [alone, late] = ["10.0.0.9:6443", "10.0.0.8:6443"].map(|it| it.parse().unwrap());
    // Of a hub that had the store for itself.
    read().replace(&store.registry, &[alone]).await.unwrap();
    assert_eq!(store.shown(), "10.0.0.9");
    let before = read();
    assert_eq!(store.hub("10.0.0.1").at(0).await, "10.0.0.1");
    // Who read before another hub wrote does not write over it.
    let refused = before.replace(&store.registry, &[late]).await.unwrap_err();
    assert_eq!((refused.code, store.shown().as_str()), (409, "10.0.0.1"));
}

fn lease(id: &str, renewed: u64) -> Value {
    json!({
        "metadata": {
            "name": lease_name(id),
            "labels": {IDENTITY_LABEL: IDENTITY},
            "annotations": {API_ADDRESS: "10.0.0.1:6443", PEER_ADDRESS: "10.0.0.1:6445"},
        },
        "spec": {"renewTime": renewed},
    })
}

#[test]
fn a_hub_is_gone_when_its_lease_was_watched_and_did_not_change() {
    let mut view = View::default();
    let mut look = |now: u64, leases: &[Value]| {
        let now = Duration::from_secs(now);
        view.observe("a", leases.iter(), now);
        let live = view.hubs.iter().filter(|(_, it)| it.lives(now));
        live.map(|(id, _)| id.clone()).collect::<Vec<_>>().join(" ")
    };
    let mut foreign = lease("c", 1);
    foreign["metadata"]["labels"] = json!({});
    assert_eq!(look(0, &[lease("a", 1), lease("b", 1), foreign]), "a b");
    for now in [5, 10, 15, 20] {
        assert_eq!(look(now, &[lease("a", now), lease("b", 1)]), "a b", "{now}");
    }
    assert_eq!(look(25, &[lease("a", 25), lease("b", 1)]), "a");
    // Nobody could look for a while: who was silent is not known, and not taken for gone.
    assert_eq!(look(60, &[lease("a", 25), lease("b", 1)]), "a b");
    assert_eq!(look(65, &[lease("a", 65), lease("b", 1)]), "a b");
    for now in [70, 75, 80] {
        look(now, &[lease("a", now), lease("b", 1)]);
    }
    assert_eq!(look(85, &[lease("a", 85), lease("b", 1)]), "a");
}
