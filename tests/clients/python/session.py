"""What people do with the official Python client: pods, deployments, watch, exec, the dynamic client, leader election.

Fails loudly: every step checks what the server answered.
"""

import os
import sys
import threading
import time
import uuid

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.stream import stream

IMAGE = sys.argv[1]
PATIENCE_SECONDS = 90


def step(name):
    print(f"--- {name}", flush=True)


def pod_manifest(name):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "sleep", "image": IMAGE, "args": ["/bin/sh", "-c", "echo started; while sleep 1; do :; done"]}
            ],
        },
    }


def wait_running(core, name):
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_pod, "default", field_selector=f"metadata.name={name}", timeout_seconds=PATIENCE_SECONDS
    ):
        if event["object"].status.phase == "Running":
            watcher.stop()
            return
    raise AssertionError(f"{name} did not run")


def pods_and_exec(core):
    step("pods and exec")
    try:
        core.read_namespaced_pod("nobody", "default")
        raise AssertionError("a pod that does not exist was read")
    except ApiException as refusal:
        assert refusal.status == 404 and refusal.reason == "Not Found", refusal
    core.create_namespaced_pod("default", pod_manifest("busy"))
    wait_running(core, "busy")
    answer = stream(
        core.connect_get_namespaced_pod_exec,
        "busy",
        "default",
        command=["/bin/sh", "-c", "echo out; echo err >&2"],
        stderr=True, stdin=False, stdout=True, tty=False,
    )
    assert sorted(answer.split()) == ["err", "out"], answer
    shell = stream(
        core.connect_get_namespaced_pod_exec,
        "busy",
        "default",
        command=["/bin/sh"],
        stderr=True, stdin=True, stdout=True, tty=False,
        _preload_content=False,
    )
    shell.write_stdin("echo from stdin\n")
    line = shell.readline_stdout(timeout=10)
    assert line == "from stdin", line
    shell.write_stdin("exit 3\n")
    shell.run_forever(timeout=10)
    assert shell.returncode == 3, shell.returncode
    assert "started" in core.read_namespaced_pod_log("busy", "default")
    body = {"metadata": {"labels": {"extra": "yes"}}}
    assert core.patch_namespaced_pod("busy", "default", body).metadata.labels["extra"] == "yes"
    core.delete_namespaced_pod("busy", "default", body=client.V1DeleteOptions(grace_period_seconds=0))


def deployments(api, core):
    step("deployments")
    apps = client.AppsV1Api(api)
    container = client.V1Container(name="c", image=IMAGE, command=["sleep", "1000"])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "py"}),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
    )
    spec = client.V1DeploymentSpec(
        replicas=2, template=template, selector=client.V1LabelSelector(match_labels={"app": "py"})
    )
    deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="py"), spec=spec)
    apps.create_namespaced_deployment("default", deployment)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while apps.read_namespaced_deployment_status("py", "default").status.ready_replicas != 2:
        assert time.monotonic() < deadline, "the deployment did not become ready"
        time.sleep(0.2)
    deployment.spec.replicas = 1
    changed = apps.patch_namespaced_deployment("py", "default", deployment)
    assert changed.spec.replicas == 1
    patch = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    assert apps.patch_namespaced_deployment("py", "default", patch).spec.replicas == 3
    scale = apps.read_namespaced_deployment_scale("py", "default")
    assert scale.spec.replicas == 3 and scale.status.selector == "app=py", scale
    options = client.V1DeleteOptions(propagation_policy="Foreground", grace_period_seconds=0)
    apps.delete_namespaced_deployment("py", "default", body=options)
    selected = core.list_namespaced_pod("default", label_selector="app in (py)", limit=1)
    assert selected.metadata.resource_version


def watches(core):
    step("watch")
    first = core.list_namespaced_config_map("default").metadata.resource_version
    for number in range(3):
        core.create_namespaced_config_map("default", {"metadata": {"name": f"seen-{number}"}})
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_config_map, "default", resource_version=first, timeout_seconds=PATIENCE_SECONDS
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            watcher.stop()
    assert seen == [("ADDED", f"seen-{number}") for number in range(3)], seen


def dynamic_client(api):
    step("dynamic client with a custom resource")
    group = "stable.example.com"
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}}},
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"pythons.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Python", "plural": "pythons"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    dynamic_api = dynamic.DynamicClient(api)
    crds = dynamic_api.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    crds.create(body=crd)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            pythons = dynamic_api.resources.get(api_version=f"{group}/v1", kind="Python")
            break
        except dynamic.exceptions.ResourceNotFoundError:
            assert time.monotonic() < deadline, "the custom resource was not published"
            dynamic_api.resources.invalidate_cache()
    manifest = {"apiVersion": f"{group}/v1", "kind": "Python", "metadata": {"name": "monty"}, "spec": {"size": 3}}
    assert pythons.create(body=manifest, namespace="default").spec.size == 3
    try:
        manifest["spec"]["size"] = 0
        pythons.replace(body={**manifest, "metadata": {"name": "monty"}}, namespace="default")
        raise AssertionError("an invalid object was stored")
    except dynamic.exceptions.DynamicApiError as refusal:
        assert refusal.status in (409, 422), refusal
    merged = pythons.patch(
        body={"spec": {"size": 5}},
        name="monty",
        namespace="default",
        content_type="application/merge-patch+json",
    )
    assert merged.spec.size == 5
    applied = pythons.server_side_apply(
        body={"apiVersion": f"{group}/v1", "kind": "Python", "metadata": {"name": "monty", "labels": {"a": "b"}}},
        namespace="default",
        field_manager="python",
    )
    assert applied.metadata.labels["a"] == "b" and applied.spec.size == 5
    assert [it.metadata.name for it in pythons.get(namespace="default").items] == ["monty"]
    crds.delete(name=f"pythons.{group}")


def manifests(api):
    step("create from YAML")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "from-dict"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "web"}]},
    }
    utils.create_from_dict(api, service)
    core = client.CoreV1Api(api)
    assert core.read_namespaced_service("from-dict", "default").spec.cluster_ip
    core.delete_namespaced_service("from-dict", "default")


def leader_election():
    step("leader election")
    led = threading.Event()
    lock = ConfigMapLock("elected", "default", uuid.uuid4())
    settings = electionconfig.Config(
        lock,
        lease_duration=5,
        renew_deadline=4,
        retry_period=1,
        onstarted_leading=led.set,
        onstopped_leading=None,
    )
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
    assert led.wait(PATIENCE_SECONDS), "nobody was elected"


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core = client.CoreV1Api(api)
    assert client.VersionApi(api).get_code().git_version.startswith("v1.")
    pods_and_exec(core)
    deployments(api, core)
    watches(core)
    dynamic_client(api)
    manifests(api)
    leader_election()
    print("all steps passed", flush=True)
    # The thread that leads goes on for ever.
    os._exit(0)


main()
