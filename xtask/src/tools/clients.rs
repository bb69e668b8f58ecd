//! Clients of today that the tests use, built from their modules and kept in `target/tools`.

use std::path::PathBuf;

use anyhow::Context;

use crate::sh;

/// The kubectl of today.
pub(crate) fn current_kubectl() -> anyhow::Result<PathBuf> {
    const VERSION: &str = "v0.36.4";
    const MAIN: &str = r#"package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

func main() { os.Exit(cli.Run(cmd.NewDefaultKubectlCommand())) }
"#;
    let set = "-X k8s.io/component-base/version.";
    let flags = format!(
        "-s -w {set}gitVersion={} {set}gitMajor=1 {set}gitMinor=36",
        VERSION.replacen("v0", "v1", 1)
    );
    build("kubectl", MAIN, &[&format!("k8s.io/kubectl@{VERSION}")], &flags)
}

/// A program with client-go's shared informers: `tests/clients/informers/main.go`.
pub(crate) fn informers() -> anyhow::Result<PathBuf> {
    const VERSION: &str = "v0.37.1";
    let main = std::fs::read_to_string(sh::root().join("tests/clients/informers/main.go"))?;
    let modules = ["api", "apimachinery", "client-go"].map(|it| format!("k8s.io/{it}@{VERSION}"));
    build("informers", &main, &modules.each_ref().map(String::as_str), "-s -w")
}

/// helm of this major version.
pub(crate) fn helm(major: u8) -> anyhow::Result<PathBuf> {
    let version = if major == 3 { "v3.22.0" } else { "v4.3.1" };
    let dir = sh::root().join(format!("target/tools/helm{major}"));
    let path = dir.join("helm");
    if !path.exists() {
        let module = format!("helm.sh/helm/v{major}/cmd/helm@{version}");
        sh::step(&format!("Building helm {version} from its module (some minutes)"), || {
            std::fs::create_dir_all(&dir)?;
            let mut go = sh::command(go()?);
            go.env("GOBIN", &dir).args(["install", "-ldflags", "-s -w", &module]);
            sh::read(&mut go).map(drop)
        })?;
    }
    Ok(path)
}

/// A Python with the official client library.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    const CLIENT: &str = "kubernetes==37.0.2";
    let dir = sh::root().join("target/tools/python");
    let path = dir.join("bin/python");
    let done = dir.join(CLIENT);
    if !done.exists() {
        sh::step(&format!("Installing {CLIENT} from PyPI"), || {
            // Debian splits Python: without the package there is python3 and no venv.
            if sh::read(sh::command("python3").args(["-c", "import ensurepip"])).is_err() {
                super::install(&["python3-venv"])?;
            }
            sh::read(sh::command("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
            let mut pip = sh::command(&path);
            sh::read(pip.args(["-m", "pip", "install", "--quiet", CLIENT]))?;
            crate::cluster::write(&done, "")
        })?;
    }
    Ok(path)
}

/// kube-apiserver, to be compared with. What it is made of is published as modules of their own, which its module
/// only names.
pub(crate) fn apiserver() -> anyhow::Result<PathBuf> {
    const VERSION: &str = "v1.36.3";
    const MAIN: &str = r#"package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
"#;
    let dir = sh::root().join("target/tools/kube-apiserver");
    let path = dir.join("kube-apiserver");
    if path.exists() {
        return Ok(path);
    }
    sh::step(
        &format!("Building kube-apiserver {VERSION} from its module (some ten minutes)"),
        || {
            let program = go()?;
            crate::cluster::write(&dir.join("main.go"), MAIN)?;
            let own = sh::command(&program)
                .args(["mod", "download", "-json", &format!("k8s.io/kubernetes@{VERSION}")])
                .output()?;
            let own: serde_json::Value =
                serde_json::from_slice(&own.stdout).context("its module cannot be had")?;
            let own = own["GoMod"].as_str().context("its module cannot be had")?;
            let published = VERSION.replacen("v1", "v0", 1);
            let replaced = std::fs::read_to_string(own)?
                .lines()
                .filter_map(|line| line.trim().strip_suffix(" v0.0.0"))
                .map(|module| format!("replace {module} => {module} {published}\n"))
                .collect::<String>();
            let require = format!("require k8s.io/kubernetes {VERSION}\n");
            let text = format!("module kube-apiserver\n\ngo 1.26.0\n\n{require}{replaced}");
            crate::cluster::write(&dir.join("go.mod"), &text)?;
            let set = "-X k8s.io/component-base/version.";
            let minor = VERSION.split('.').nth(1).unwrap_or_default();
            let flags =
                format!("-s -w {set}gitVersion={VERSION} {set}gitMajor=1 {set}gitMinor={minor}");
            let nice = |args: &[&str]| {
                let mut command = sh::command("nice");
                command.args(["-n", "19"]).arg(&program).args(args);
                sh::read(command.current_dir(&dir)).map(drop)
            };
            nice(&["mod", "tidy"])?;
            nice(&["build", "-ldflags", &flags, "-o", "kube-apiserver", "."])
        },
    )?;
    Ok(path)
}

/// Builds a Go program from its main file and the modules it needs; again when either changed.
fn build(name: &str, main: &str, modules: &[&str], flags: &str) -> anyhow::Result<PathBuf> {
    let dir = sh::root().join("target/tools").join(name);
    let path = dir.join(name);
    let recipe = dir.join("recipe");
    let wanted = format!("{}\n{main}", modules.join(" "));
    if path.exists() && std::fs::read_to_string(&recipe).is_ok_and(|it| it == wanted) {
        return Ok(path);
    }
    let title = format!("Building {name} from {} (some minutes)", modules.join(", "));
    sh::step(&title, || {
        crate::cluster::write(&dir.join("main.go"), main)?;
        let program = go()?;
        let go =
            |args: &[&str]| sh::read(sh::command(&program).args(args).current_dir(&dir)).map(drop);
        if !dir.join("go.mod").exists() {
            go(&["mod", "init", name])?;
        }
        go(&[&["get"], modules].concat())?;
        go(&["mod", "tidy"])?;
        go(&["build", "-ldflags", flags, "-o", name, "."])?;
        crate::cluster::write(&recipe, &wanted)
    })?;
    Ok(path)
}

fn go() -> anyhow::Result<PathBuf> {
    sh::which("go").or_else(|| sh::which("/usr/local/go/bin/go")).context(
        "the tests build real clients from their Go modules: install Go 1.24 or later (https://go.dev/dl)",
    )
}
