//! The images of the examples, made from Debian packages: nothing is fetched from other registries.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    oci_push::{ImageConfigInput, push_image},
    sh, tools,
};

const NGINX_CONF: &str = "\
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    keepalive_timeout 65;

    server {
        listen 80 default_server;
        root /usr/share/nginx/html;
        index index.html;
    }
}
";

const INDEX_HTML: &str = "\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is served by a pod that Outbye runs.</p>
</body>
</html>
";

/// For a Debian without the package nginx-common.
const MIME_TYPES: &str = "\
types {
    text/html html htm;
    text/css css;
    text/plain txt;
    application/javascript js;
    application/json json;
    image/png png;
    image/jpeg jpeg jpg;
    image/svg+xml svg;
}
";

/// Builds `outbye/busybox:1` and `outbye/nginx:1` below `work_dir` and pushes them to `registry`.
pub(crate) fn build_and_push(registry: &str, work_dir: &Path) -> anyhow::Result<()> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let root = busybox(&work_dir.join("busybox"))?;
    let config = ImageConfigInput {
        cmd: vec!["sh".to_owned()],
        env: vec![path.clone()],
        ..ImageConfigInput::default()
    };
    push_image(registry, "outbye/busybox", "1", &root.files()?, &config)?;
    let root = nginx(&work_dir.join("nginx"))?;
    let config = ImageConfigInput {
        cmd: ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
        env: vec![path],
        exposed: vec!["80/tcp".to_owned()],
        ..ImageConfigInput::default()
    };
    push_image(registry, "outbye/nginx", "1", &root.files()?, &config)?;
    Ok(())
}

fn busybox(dir: &Path) -> anyhow::Result<Root> {
    let busybox = program("busybox", "busybox-static", dir)?;
    let linked = sh::read(sh::command("ldd").arg(&busybox)).unwrap_or_default();
    ensure!(
        linked.is_empty() || linked.contains("not a dynamic"),
        "{} is not static: install the package busybox-static",
        busybox.display()
    );
    let root = Root::new(dir)?;
    root.copy(&busybox, "bin/busybox", 0o755)?;
    for applet in sh::read(sh::command(&busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            root.link("busybox", &format!("bin/{applet}"))?;
        }
    }
    root.base(&["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/:/bin/false"])?;
    root.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(root)
}

fn nginx(dir: &Path) -> anyhow::Result<Root> {
    let nginx = program("nginx", "nginx", dir)?;
    let root = Root::new(dir)?;
    root.copy(&nginx, "usr/sbin/nginx", 0o755)?;
    let linked = sh::read(sh::command("ldd").arg(&nginx))?;
    ensure!(!linked.contains("not found"), "libraries of nginx are missing here:\n{linked}");
    // `name => /path (address)`, or `/path (address)` for the loader.
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        root.copy(Path::new(library), library.trim_start_matches('/'), 0o755)?;
    }
    match ["/etc/nginx/mime.types".into(), dir.join("package/etc/nginx/mime.types")]
        .into_iter()
        .find(|it: &PathBuf| it.is_file())
    {
        Some(types) => root.copy(&types, "etc/nginx/mime.types", 0o644)?,
        None => root.write("etc/nginx/mime.types", MIME_TYPES)?,
    }
    root.write("etc/nginx/nginx.conf", NGINX_CONF)?;
    root.write("usr/share/nginx/html/index.html", INDEX_HTML)?;
    for empty in ["var/lib/nginx", "var/log/nginx", "var/lock", "run"] {
        root.dir(empty, 0o755)?;
    }
    root.base(&[
        "root:x:0:0:root:/root:/usr/sbin/nologin",
        "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin",
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin",
    ])?;
    root.write("etc/group", "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n")?;
    Ok(root)
}

/// The installed program, else the one in its package.
fn program(name: &str, package: &str, dir: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = sh::which(name) {
        return Ok(path);
    }
    let unpacked = dir.join("package");
    tools::unpack(package, &unpacked)?;
    ["usr/sbin", "usr/bin", "sbin", "bin"]
        .map(|it| unpacked.join(it).join(name))
        .into_iter()
        .find(|it| it.is_file())
        .with_context(|| format!("the package {package} holds no {name}"))
}

/// A root file system in the making.
struct Root(PathBuf);

impl Root {
    /// Starts from nothing.
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let root = dir.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        Ok(Self(root))
    }

    /// What every image has.
    fn base(&self, passwd: &[&str]) -> anyhow::Result<()> {
        self.write("etc/passwd", &format!("{}\n", passwd.join("\n")))?;
        self.dir("root", 0o700)?;
        self.dir("tmp", 0o1777)
    }

    fn dir(&self, path: &str, mode: u32) -> anyhow::Result<()> {
        let target = self.0.join(path);
        fs::create_dir_all(&target)?;
        Ok(fs::set_permissions(&target, fs::Permissions::from_mode(mode))?)
    }

    fn place(&self, path: &str) -> anyhow::Result<PathBuf> {
        let target = self.0.join(path);
        fs::create_dir_all(target.parent().unwrap_or(&self.0))?;
        Ok(target)
    }

    #[expect(clippy::disallowed_methods, reason = "nothing here has to survive a power cut")]
    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let target = self.place(path)?;
        fs::write(&target, text)?;
        Ok(fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?)
    }

    fn copy(&self, from: &Path, path: &str, mode: u32) -> anyhow::Result<()> {
        let target = self.place(path)?;
        fs::copy(from, &target).with_context(|| format!("could not copy {}", from.display()))?;
        Ok(fs::set_permissions(&target, fs::Permissions::from_mode(mode))?)
    }

    fn link(&self, to: &str, path: &str) -> anyhow::Result<()> {
        Ok(symlink(to, self.place(path)?)?)
    }

    /// Everything in it, with its path in the image.
    fn files(&self) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let mut files = Vec::new();
        let mut todo = vec![self.0.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                let inside = path.strip_prefix(&self.0)?.to_string_lossy().into_owned();
                if path.is_dir() && !path.is_symlink() {
                    // Modes of our own umask must not show.
                    if !inside.ends_with("tmp") && inside != "root" {
                        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                    }
                    todo.push(path.clone());
                }
                files.push((path, inside));
            }
        }
        Ok(files)
    }
}
