//! kube-rs as people use it: a reflector and a controller with finalizers on a custom resource, server-side apply, exec
//! and port-forward.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{
        ApiResource, AttachParams, DeleteParams, DynamicObject, GroupVersionKind, Patch,
        PatchParams, PostParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        finalizer::{Event, finalizer},
        reflector, wait, watcher,
    },
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    manifests::{pod, shell, spec},
    world::{PATIENCE, with_world, within},
};

const FINALIZER: &str = "greetings.example.com/cleanup";

#[test]
fn kube_rs_works() {
    with_world(1, |world| {
        let page = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
        world.apply(&pod("shell", &spec(&[shell(page)])).to_string());
        world.wait_ready("shell");
        let kubeconfig = world.hub_dir().join("admin.kubeconfig");
        within(&world.hub_namespace(), move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&kubeconfig).await;
                tokio::time::timeout(PATIENCE, streams(&client)).await.unwrap();
                tokio::time::timeout(PATIENCE, server_side_apply(&client)).await.unwrap();
                tokio::time::timeout(PATIENCE, custom_resource(&client)).await.unwrap();
            });
        });
    });
}

/// A client of the hub. The caller has to be in its namespace.
pub(crate) async fn connect(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn streams(client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let attach = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec("shell", ["cat"], &attach).await.unwrap();
    let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
    stdin.write_all(b"through and back").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut said = String::new();
    stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "through and back");
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));

    let mut forwarder = pods.portforward("shell", &[80]).await.unwrap();
    let mut stream = forwarder.take_stream(80).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.ends_with("hello\n"), "{page}");
}

async fn server_side_apply(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let apply = |manager: &'static str, data: Value, force: bool| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data});
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let maps = maps.clone();
        async move { maps.patch("shared", &params, &Patch::Apply(map)).await }
    };
    apply("one", json!({"a": "1", "b": "1"}), false).await.unwrap();
    apply("two", json!({"c": "2"}), false).await.unwrap();
    let Err(kube::Error::Api(refusal)) = apply("two", json!({"b": "2", "c": "2"}), false).await
    else {
        panic!("a conflict was not seen");
    };
    assert_eq!(refusal.code, 409);
    assert!(refusal.message.contains("conflict with \"one\": .data.b"), "{}", refusal.message);
    apply("two", json!({"b": "2", "c": "2"}), true).await.unwrap();
    // What its only owner no longer applies goes; what another applies stays.
    let map = apply("one", json!({}), false).await.unwrap();
    assert_eq!(json!(map.data), json!({"b": "2", "c": "2"}));
}

async fn custom_resource(client: &Client) {
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let crd = serde_json::from_value(definition()).unwrap();
    crds.create(&PostParams::default(), &crd).await.unwrap();
    let established = wait::await_condition(
        crds.clone(),
        "greetings.example.com",
        |object: Option<&DynamicObject>| {
            let conditions = object.and_then(|it| it.data.pointer("/status/conditions"));
            conditions.and_then(Value::as_array).is_some_and(|it| {
                it.iter().any(|it| it["type"] == "Established" && it["status"] == "True")
            })
        },
    );
    established.await.unwrap();

    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Greeting"));
    let greetings: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let writer = reflector::store::Writer::new(kind.clone());
    let reader = writer.as_reader();
    let reflect = reflector(writer, watcher(greetings.clone(), watcher::Config::default()))
        .applied_objects()
        .try_for_each(|_| async { Ok(()) });
    let context = Arc::new((client.clone(), greetings.clone()));
    let control = Controller::new_with(greetings.clone(), watcher::Config::default(), kind.clone())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), context)
        .for_each(|_| async {});
    let drive = drive(client, &greetings, &reader);
    tokio::select! {
        () = drive => {}
        it = reflect => panic!("the reflector ended: {it:?}"),
        () = control => panic!("the controller ended"),
    }
    crds.delete("greetings.example.com", &DeleteParams::default()).await.unwrap();
}

/// Creates, changes and deletes a greeting, and waits for what the controller makes of it.
async fn drive(
    client: &Client,
    greetings: &Api<DynamicObject>,
    reader: &reflector::Store<DynamicObject>,
) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let greeting = json!({
        "apiVersion": "example.com/v1", "kind": "Greeting",
        "metadata": {"name": "world"}, "spec": {"text": "hello"},
    });
    let greeting = serde_json::from_value(greeting).unwrap();
    greetings.create(&PostParams::default(), &greeting).await.unwrap();
    until(|| async { text_of(&maps).await == Some("hello".to_owned()) }).await;
    let patch = Patch::Merge(json!({"spec": {"text": "goodbye"}}));
    greetings.patch("world", &PatchParams::default(), &patch).await.unwrap();
    until(|| async { text_of(&maps).await == Some("goodbye".to_owned()) }).await;
    until(|| async {
        reader
            .state()
            .iter()
            .any(|it| it.data["spec"]["text"] == "goodbye" && it.data["status"]["seen"] == true)
    })
    .await;
    greetings.delete("world", &DeleteParams::default()).await.unwrap();
    until(|| async { greetings.get_opt("world").await.unwrap().is_none() }).await;
    until(|| async { reader.state().is_empty() }).await;
    assert!(text_of(&maps).await.is_none(), "the finalizer did not run");
}

async fn text_of(maps: &Api<ConfigMap>) -> Option<String> {
    maps.get_opt("world").await.unwrap()?.data?.remove("text")
}

async fn reconcile(
    greeting: Arc<DynamicObject>,
    context: Arc<(Client, Api<DynamicObject>)>,
) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
    let (client, greetings) = &*context;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    finalizer(greetings, FINALIZER, greeting, |event| async {
        match event {
            Event::Apply(greeting) => {
                let name = greeting.name_any();
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                    "data": {"text": greeting.data["spec"]["text"]},
                });
                let params = PatchParams::apply("greeter").force();
                maps.patch(&name, &params, &Patch::Apply(map)).await?;
                let status = Patch::Merge(json!({"status": {"seen": true}}));
                greetings.patch_status(&name, &PatchParams::default(), &status).await?;
            }
            Event::Cleanup(greeting) => {
                let deleted = maps.delete(&greeting.name_any(), &DeleteParams::default()).await;
                match deleted {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => drop(other?),
                }
            }
        }
        Ok(Action::await_change())
    })
    .await
}

/// Waits until it holds; the caller bounds the time.
async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "greetings.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Greeting", "plural": "greetings", "singular": "greeting"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"text": {"type": "string"}}},
                    "status": {"type": "object", "properties": {"seen": {"type": "boolean"}}},
                }}},
            }],
        },
    })
}
