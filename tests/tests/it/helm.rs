//! helm 3 and helm 4: the chart that `helm create` makes, and one with a custom resource.

use std::path::Path;

use crate::world::{World, text, tool, with_world, write};

const IMAGE: &str =
    "image.repository=10.99.0.1:5000/outbye/nginx,image.tag=1,image.pullPolicy=IfNotPresent";

const CRONTABS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns:
        - {name: Spec, type: string, jsonPath: .spec.cronSpec}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [cronSpec]
              properties:
                cronSpec: {type: string, pattern: '^(\S+ ){4}\S+$'}
                replicas: {type: integer, minimum: 1, default: 1}
"#;

const INSTANCE: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: {{ .Release.Name }}}
spec: {cronSpec: {{ .Values.cronSpec | quote }}}
"#;

#[test]
fn helm_3_works() {
    with_world(1, |world| session(world, &tool("OUTBYE_HELM3"), "--atomic"));
}

#[test]
fn helm_4_works() {
    with_world(1, |world| session(world, &tool("OUTBYE_HELM4"), "--rollback-on-failure"));
}

fn session(world: &World, program: &Path, atomic: &str) {
    let run = |line: &str| {
        let mut command = world.kubectl_command(program);
        command.current_dir(world.dir.path()).args(line.split(' ')).output().unwrap()
    };
    let helm = |line: &str, expected: &str| {
        let output = run(line);
        let said = text(&output);
        assert!(output.status.success(), "helm {line}\n{said}");
        assert!(said.contains(expected), "helm {line}: no {expected:?} in\n{said}");
    };
    helm("create demo", "Creating demo");
    helm(&format!("install demo demo --wait --timeout 90s --set {IMAGE}"), "STATUS: deployed");
    helm("list", "demo-0.1.0");
    helm("status demo", "STATUS: deployed");
    helm("get manifest demo", "kind: Deployment");
    let ready = world.get(&["deployment", "demo"])["status"]["readyReplicas"].clone();
    assert_eq!(ready, 1);

    let upgrade = format!("upgrade demo demo --wait --timeout 90s --set {IMAGE}");
    helm(&format!("{upgrade},replicaCount=2 {atomic}"), "has been upgraded");
    let ready = world.get(&["deployment", "demo"])["status"]["readyReplicas"].clone();
    assert_eq!(ready, 2);

    // A release that never gets ready goes back to what it was.
    let broken = run(&format!(
        "upgrade demo demo --wait --timeout 5s --set image.repository=10.99.0.1:5000/outbye/nothing {atomic}"
    ));
    assert!(!broken.status.success(), "{}", text(&broken));
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(
        world.kubectl(&["get", "deployment", "demo", "-o", image]),
        "10.99.0.1:5000/outbye/nginx:1"
    );
    helm("rollback demo 1 --wait --timeout 90s", "Rollback was a success");
    helm("history demo", "Rollback to 1");
    helm("uninstall demo --wait --timeout 60s", "uninstalled");
    let left = world.kubectl(&["get", "all,secrets", "-l", "app.kubernetes.io/instance=demo"]);
    assert_eq!(left, "");

    chart_with_crd(world);
    helm("install nightly tabs --wait --timeout 60s", "STATUS: deployed");
    assert!(world.kubectl(&["get", "ct"]).contains("* * * * */5"));
    write(&world.dir.path().join("hourly.yaml"), "cronSpec: \"0 * * * *\"\n");
    helm("upgrade nightly tabs -f hourly.yaml", "has been upgraded");
    let refused = run("upgrade nightly tabs --set cronSpec=never");
    assert!(text(&refused).contains("spec.cronSpec in body should match"), "{}", text(&refused));
    helm("rollback nightly 1", "Rollback was a success");
    helm("uninstall nightly", "uninstalled");
    assert_eq!(world.kubectl(&["get", "ct", "-o", "name"]), "");
    world.kubectl(&["delete", "crd", "crontabs.stable.example.com"]);
}

fn chart_with_crd(world: &World) {
    let dir = world.dir.path().join("tabs");
    for part in ["crds", "templates"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    write(&dir.join("Chart.yaml"), "apiVersion: v2\nname: tabs\nversion: 1.0.0\n");
    write(&dir.join("values.yaml"), "cronSpec: \"* * * * */5\"\n");
    write(&dir.join("crds/crontabs.yaml"), CRONTABS);
    write(&dir.join("templates/tab.yaml"), INSTANCE);
}
