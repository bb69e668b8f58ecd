//! The runner on the real registry and the real storage, with nodes played by the test.

use hub_apiserver::{ListOptions, RegistryConfig, WriteOptions};
use hub_storage::{SledStorage, Storage};
use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;

/// Timers that are due so soon are waited for.
const SOON: Duration = Duration::from_millis(500);

struct Fixture {
    registry: Registry,
    storage: Arc<SledStorage>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (storage, _) = SledStorage::open(dir.path(), hub_storage::Options::DEFAULT).unwrap();
        let config = RegistryConfig { service_cidr: "10.96.0.0/16".parse().unwrap() };
        let registry = Registry::new(storage.clone(), Arc::new(SystemClock), config);
        registry.bootstrap().await.unwrap();
        Self { registry, storage, _dir: dir }
    }

    fn task(&self) -> (RunnerTask, JoinSet<()>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (recorder, recording) = recorder::channel(self.registry.clone(), clock.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(recording.run());
        (RunnerTask::new(&self.registry, &config(), clock, recorder), tasks)
    }

    async fn create(&self, plural: &str, object: Value) {
        let resource = resource(plural);
        let namespace = resource.namespaced.then_some("default");
        let options = WriteOptions::default();
        self.registry.create(resource, namespace, object, &options).await.unwrap();
    }

    async fn patch(&self, plural: &str, name: &str, status: bool, patch: &Value) {
        let namespace = resource(plural).namespaced.then_some("default");
        self.patch_in(plural, namespace, name, status, patch).await;
    }

    async fn patch_in(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        status: bool,
        patch: &Value,
    ) {
        let resource = resource(plural);
        let change = |view: &Value, _: &Value| Ok(hub_api::patch::merge(view, patch));
        let subresource = status.then_some("status");
        let options = WriteOptions::default();
        self.registry
            .modify(resource, namespace, name, subresource, &options, change)
            .await
            .unwrap();
    }

    fn list(&self, plural: &str) -> Vec<Value> {
        let list = self.registry.list(resource(plural), None, &ListOptions::default()).unwrap();
        list.entries.iter().map(|entry| entry.decode()).collect()
    }

    async fn add_node(&self, name: &str) {
        self.create("nodes", json!({"metadata": {"name": name}})).await;
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": null});
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let status = json!({"conditions": [ready], "allocatable": allocatable});
        self.patch("nodes", name, true, &json!({"status": status})).await;
    }

    /// Every node does what is due. Tells whether anything was.
    async fn run_kubelets(&self) -> bool {
        let mut is_change = false;
        for pod in self.list("pods") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let namespace = pod["metadata"]["namespace"].as_str().unwrap();
            if pod["spec"]["nodeName"].is_null() {
                continue;
            }
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                let options =
                    hub_api::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
                let pods = resource("pods");
                self.registry.delete(pods, Some(namespace), name, &options).await.unwrap();
                is_change = true;
            } else if pod["status"]["podIP"].is_null() {
                let ready = json!({
                    "type": "Ready", "status": "True",
                    "lastTransitionTime": "2026-11-20T08:00:00Z",
                });
                let ip = format!("10.42.0.{}", 1 + self.registry.revision().get() % 250);
                let status = json!({
                    "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [ready],
                });
                let patch = json!({"status": status});
                self.patch_in("pods", Some(namespace), name, true, &patch).await;
                is_change = true;
            }
        }
        is_change
    }

    /// Runs controllers, scheduler and nodes until nothing moves any more.
    async fn settle(&self, task: &mut RunnerTask) {
        loop {
            task.take_news().unwrap();
            while let Some(done) = task.jobs.try_join_next() {
                task.take_outcome(done);
            }
            task.start_work();
            if let Some(done) = task.jobs.join_next().await {
                task.take_outcome(done);
                continue;
            }
            let before = self.registry.revision();
            task.take_news().unwrap();
            let is_idle = task.engine.is_idle();
            if !self.run_kubelets().await && is_idle && before == self.registry.revision() {
                // Who waits for news that is on its way looks again in a moment.
                let next = task.timeout();
                if next > SOON {
                    return;
                }
                tokio::time::sleep(next).await;
            }
            // A back-off of some milliseconds may be running.
            if !is_idle {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn config() -> RunnerConfig {
    RunnerConfig { cluster_cidr: "10.42.0.0/16".parse().unwrap(), ca_pem: "CA".to_owned() }
}

fn resource(plural: &str) -> &'static hub_api::Resource {
    hub_api::resources::builtin().iter().find(|it| it.plural == plural).unwrap()
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "main", "image": image,
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "resources": {"requests": {"cpu": "100m"}},
                }]},
            },
        },
    })
}

fn service() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

/// All that is stored but events, which come when they come.
fn state(fixture: &Fixture) -> Vec<Value> {
    let kinds = hub_api::resources::builtin().iter().filter(|it| it.plural != "events");
    kinds.flat_map(|it| fixture.list(&it.plural)).collect()
}

#[tokio::test]
async fn a_deployment_runs_rolls_over_and_goes() {
    let fixture = Fixture::new().await;
    let (mut task, mut recording) = fixture.task();
    fixture.add_node("a").await;
    fixture.add_node("b").await;
    fixture.create("deployments", deployment(4, "web:1")).await;
    fixture.create("services", service()).await;
    fixture.settle(&mut task).await;

    let pods = fixture.list("pods");
    let on = |node: &str| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count();
    assert_eq!((pods.len(), on("a"), on("b")), (4, 2, 2));
    let slices = fixture.list("endpointslices");
    let slice =
        slices.iter().find(|it| it["metadata"]["labels"]["kubernetes.io/service-name"] == "web");
    assert_eq!(slice.unwrap()["endpoints"].as_array().unwrap().len(), 4);
    assert_eq!(slice.unwrap()["ports"][0]["port"], 8080);
    let nodes = fixture.list("nodes");
    let networks = nodes.iter().map(|it| it["spec"]["podCIDR"].as_str().unwrap());
    assert_eq!(networks.collect::<Vec<_>>(), ["10.42.0.0/24", "10.42.1.0/24"]);

    fixture.patch("deployments", "web", false, &deployment(3, "web:2")).await;
    fixture.settle(&mut task).await;
    let deployment = &fixture.list("deployments")[0];
    assert_eq!(deployment["metadata"]["annotations"][hub_controllers::deployment::REVISION], "2");
    assert_eq!(deployment["status"]["updatedReplicas"], 3);
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    let pods = fixture.list("pods");
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));

    for plural in ["deployments", "services"] {
        let options = hub_api::DeleteOptions::default();
        let resource = resource(plural);
        fixture.registry.delete(resource, Some("default"), "web", &options).await.unwrap();
    }
    fixture.settle(&mut task).await;
    for plural in ["pods", "replicasets", "deployments", "services", "endpointslices", "endpoints"]
    {
        assert_eq!(fixture.list(plural), Vec::<Value>::new(), "{plural}");
    }

    drop(task);
    while recording.join_next().await.is_some() {}
    let events = fixture.list("events");
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "SuccessfulDelete"] {
        assert!(events.iter().any(|event| event["reason"] == reason), "{reason}");
    }
    fixture.storage.close();
}

/// A template of pods with these labels.
fn template(app: &str, restarts: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"restartPolicy": restarts, "containers": [{"name": "main", "image": "i"}]},
    })
}

/// What the rows of the server allow, the controllers of these kinds write.
#[tokio::test]
async fn jobs_daemon_sets_and_stateful_sets_run() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    fixture.add_node("b").await;
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    let (daemon, stateful) = (template("daemon", "Always"), template("stateful", "Always"));
    let spec = json!({"selector": selector("daemon"), "template": daemon});
    fixture.create("daemonsets", json!({"metadata": {"name": "daemon"}, "spec": spec})).await;
    let spec = json!({
        "selector": selector("stateful"), "template": stateful, "replicas": 3, "serviceName": "s",
    });
    fixture.create("statefulsets", json!({"metadata": {"name": "stateful"}, "spec": spec})).await;
    let spec = json!({"template": template("job", "Never"), "completions": 3, "parallelism": 2});
    fixture.create("jobs", json!({"metadata": {"name": "job"}, "spec": spec})).await;
    let (older, app) = (template("older", "Always"), json!({"app": "older"}));
    let spec = json!({"selector": app, "template": older, "replicas": 2});
    let older = json!({"metadata": {"name": "older"}, "spec": spec});
    fixture.create("replicationcontrollers", older).await;
    let budget = json!({"minAvailable": "50%", "selector": selector("stateful")});
    let budget = json!({"metadata": {"name": "budget"}, "spec": budget});
    fixture.create("poddisruptionbudgets", budget).await;
    fixture.settle(&mut task).await;

    let pods_of = |app: &str| -> Vec<Value> {
        let pods = fixture.list("pods").into_iter();
        pods.filter(|it| it["metadata"]["labels"]["app"] == app).collect()
    };
    let mut nodes: Vec<Value> =
        pods_of("daemon").iter().map(|it| it["spec"]["nodeName"].clone()).collect();
    nodes.sort_by_key(Value::to_string);
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(fixture.list("daemonsets")[0]["status"]["numberAvailable"], 2);
    let names: Vec<Value> =
        pods_of("stateful").iter().map(|it| it["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["stateful-0", "stateful-1", "stateful-2"]);
    let status = fixture.list("statefulsets")[0]["status"].clone();
    assert_eq!((&status["readyReplicas"], &status["updatedReplicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(fixture.list("replicationcontrollers")[0]["status"]["availableReplicas"], 2);
    let status = fixture.list("poddisruptionbudgets")[0]["status"].clone();
    assert_eq!((&status["expectedPods"], &status["disruptionsAllowed"]), (&json!(3), &json!(1)));
    assert_eq!(fixture.list("jobs")[0]["status"]["active"], 2);

    for _ in 0..2 {
        for pod in pods_of("job").iter().filter(|it| it["status"]["phase"] == "Running") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let done = json!({"status": {"phase": "Succeeded"}});
            fixture.patch("pods", name, true, &done).await;
        }
        fixture.settle(&mut task).await;
    }
    let job = fixture.list("jobs")[0].clone();
    assert_eq!(job["status"]["succeeded"], 3, "{}", job["status"]);
    let conditions = job["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.last().unwrap()["type"], "Complete");

    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "j"}]}}}});
    for plural in ["daemonsets", "statefulsets"] {
        fixture.patch(plural, plural.trim_end_matches("sets"), false, &image).await;
    }
    fixture.settle(&mut task).await;
    for app in ["daemon", "stateful"] {
        for pod in pods_of(app) {
            assert_eq!(pod["spec"]["containers"][0]["image"], "j", "{app}");
        }
    }
    assert_eq!(fixture.list("controllerrevisions").len(), 4);
    for plural in ["daemonsets", "statefulsets", "jobs", "replicationcontrollers"] {
        let options = hub_api::DeleteOptions {
            propagation_policy: Some(hub_api::Propagation::Background),
            ..Default::default()
        };
        let name = fixture.list(plural)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        fixture.registry.delete(resource(plural), Some("default"), &name, &options).await.unwrap();
    }
    fixture.settle(&mut task).await;
    for plural in ["pods", "daemonsets", "statefulsets", "jobs", "controllerrevisions"] {
        assert_eq!(fixture.list(plural), Vec::<Value>::new(), "{plural}");
    }
}

#[tokio::test]
async fn pods_of_a_job_that_is_deleted_without_them_are_free() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    let spec = json!({"template": template("job", "Never")});
    fixture.create("jobs", json!({"metadata": {"name": "job"}, "spec": spec})).await;
    fixture.settle(&mut task).await;
    let options = hub_api::DeleteOptions::default();
    let jobs = resource("jobs");
    fixture.registry.delete(jobs, Some("default"), "job", &options).await.unwrap();
    fixture.settle(&mut task).await;
    assert_eq!(fixture.list("jobs"), Vec::<Value>::new());
    let metadata = fixture.list("pods")[0]["metadata"].clone();
    assert_eq!(
        (&metadata["ownerReferences"], &metadata["finalizers"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn a_stateful_set_that_is_made_again_finds_its_pods() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    let spec = json!({
        "selector": {"matchLabels": {"app": "s"}}, "template": template("s", "Always"),
        "replicas": 2, "serviceName": "s",
    });
    let set = json!({"metadata": {"name": "s"}, "spec": spec});
    fixture.create("statefulsets", set.clone()).await;
    fixture.settle(&mut task).await;
    let uids = |plural: &str| -> Vec<Value> {
        fixture.list(plural).iter().map(|it| it["metadata"]["uid"].clone()).collect()
    };
    let before = (uids("pods"), uids("controllerrevisions"));
    assert_eq!((before.0.len(), before.1.len()), (2, 1));

    let options = hub_api::DeleteOptions {
        propagation_policy: Some(hub_api::Propagation::Orphan),
        ..Default::default()
    };
    let sets = resource("statefulsets");
    fixture.registry.delete(sets, Some("default"), "s", &options).await.unwrap();
    fixture.settle(&mut task).await;
    assert_eq!(uids("statefulsets").len(), 0);
    fixture.create("statefulsets", set).await;
    fixture.settle(&mut task).await;
    assert_eq!((uids("pods"), uids("controllerrevisions")), before);
    let status = &fixture.list("statefulsets")[0]["status"];
    assert_eq!((&status["updatedReplicas"], &status["readyReplicas"]), (&json!(2), &json!(2)));
    assert_eq!(status["currentRevision"], status["updateRevision"]);
}

#[tokio::test]
async fn a_restarted_runner_writes_nothing_without_need() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    fixture.create("deployments", deployment(2, "web:1")).await;
    fixture.create("services", service()).await;
    fixture.settle(&mut task).await;
    let before = state(&fixture);

    let (mut task, _recording) = fixture.task();
    fixture.settle(&mut task).await;
    assert_eq!(state(&fixture), before);
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_that_is_in_it() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    fixture.create("namespaces", json!({"metadata": {"name": "shop"}})).await;
    fixture.settle(&mut task).await;
    let in_shop = |plural: &str| {
        let objects = fixture.list(plural).into_iter();
        objects.filter(|it| it["metadata"]["namespace"] == "shop").count()
    };
    assert_eq!((in_shop("serviceaccounts"), in_shop("configmaps")), (1, 1));
    for (plural, object) in [("deployments", deployment(2, "web:1")), ("services", service())] {
        let options = WriteOptions::default();
        let resource = resource(plural);
        fixture.registry.create(resource, Some("shop"), object, &options).await.unwrap();
    }
    fixture.settle(&mut task).await;
    assert_eq!(in_shop("pods"), 2);

    let namespaces = resource("namespaces");
    let options = hub_api::DeleteOptions::default();
    fixture.registry.delete(namespaces, None, "shop", &options).await.unwrap();
    fixture.settle(&mut task).await;
    let names: Vec<Value> =
        fixture.list("namespaces").iter().map(|it| it["metadata"]["name"].clone()).collect();
    assert!(!names.contains(&json!("shop")), "{names:?}");
    assert_eq!((in_shop("pods"), in_shop("replicasets"), in_shop("configmaps")), (0, 0, 0));
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_goes_last() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    fixture.add_node("a").await;
    fixture.create("deployments", deployment(2, "web:1")).await;
    fixture.settle(&mut task).await;
    let options = hub_api::DeleteOptions {
        propagation_policy: Some(hub_api::Propagation::Foreground),
        ..Default::default()
    };
    let deployments = resource("deployments");
    fixture.registry.delete(deployments, Some("default"), "web", &options).await.unwrap();
    assert_eq!(fixture.list("deployments").len(), 1);
    fixture.settle(&mut task).await;
    for plural in ["deployments", "replicasets", "pods"] {
        assert_eq!(fixture.list(plural), Vec::<Value>::new(), "{plural}");
    }
}

/// Owners are followed as they were seen; what changed since is looked at again.
#[tokio::test]
async fn an_object_that_lets_its_owner_go_in_time_stays() {
    let fixture = Fixture::new().await;
    let (mut task, _recording) = fixture.task();
    let named = |name: &str| {
        fixture.list("configmaps").into_iter().find(|it| it["metadata"]["name"] == name)
    };
    fixture.create("configmaps", json!({"metadata": {"name": "owner"}})).await;
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": named("owner").unwrap()["metadata"]["uid"],
    });
    for name in ["kept", "dropped"] {
        let metadata = json!({"name": name, "ownerReferences": [owner]});
        fixture.create("configmaps", json!({"metadata": metadata})).await;
    }
    fixture.settle(&mut task).await;

    let options = hub_api::DeleteOptions::default();
    let configmaps = resource("configmaps");
    fixture.registry.delete(configmaps, Some("default"), "owner", &options).await.unwrap();
    task.take_news().unwrap();
    let free = json!({"metadata": {"ownerReferences": null}});
    fixture.patch("configmaps", "kept", false, &free).await;
    task.start_work();
    fixture.settle(&mut task).await;
    assert!(named("kept").is_some());
    assert!(named("dropped").is_none());
}

#[tokio::test]
async fn what_does_not_fit_says_why() {
    let fixture = Fixture::new().await;
    let (mut task, mut recording) = fixture.task();
    fixture.add_node("a").await;
    let mut big = deployment(1, "web:1");
    big["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("99");
    fixture.create("deployments", big).await;
    fixture.settle(&mut task).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
               1 Preemption is not helpful for scheduling.";
    let condition = &fixture.list("pods")[0]["status"]["conditions"][0];
    assert_eq!(condition["type"], "PodScheduled");
    assert_eq!(condition["reason"], "Unschedulable");
    assert_eq!(condition["message"], why);
    drop(task);
    while recording.join_next().await.is_some() {}
    let events = fixture.list("events");
    let event = events.iter().find(|event| event["reason"] == "FailedScheduling").unwrap();
    assert_eq!((&event["message"], &event["type"]), (&json!(why), &json!("Warning")));
}

#[tokio::test]
async fn the_running_runner_acts_on_news_and_stops_when_told() {
    let fixture = Fixture::new().await;
    let shutdown = CancellationToken::new();
    let clock = Arc::new(SystemClock);
    // Before anything happens: all may be done before this task has its next turn.
    let mut progress = fixture.storage.progress();
    let runner = spawn(fixture.registry.clone(), config(), clock, shutdown.clone());
    fixture.add_node("a").await;
    fixture.create("deployments", deployment(1, "web:1")).await;
    let is_done =
        |fixture: &Fixture| fixture.list("deployments")[0]["status"]["availableReplicas"] == 1;
    while !is_done(&fixture) {
        progress.changed().await.unwrap();
        fixture.run_kubelets().await;
    }
    shutdown.cancel();
    runner.join().await;
    fixture.storage.close();
}
