//! Debian's `docker-registry` on a loopback port of its own, ended with the value that holds it.

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};

use crate::builder::{Blob, Image};

pub(crate) struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) host: String,
    auth: RegistryAuth,
}

/// `user` and `secret`, as `htpasswd -B` writes them.
const HTPASSWD: &[u8] = b"user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with("", RegistryAuth::Anonymous)
    }

    /// Lets only `user` in, whose password is `secret`.
    pub(crate) fn start_locked() -> Self {
        let auth = RegistryAuth::Basic("user".to_owned(), "secret".to_owned());
        Self::start_with("auth: {htpasswd: {realm: test, path: 'DIR/htpasswd'}}\n", auth)
    }

    fn start_with(more: &str, auth: RegistryAuth) -> Self {
        // The provider is the program's to choose; whoever comes second finds it chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = free.local_addr().unwrap().to_string();
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{host}'}}\n\
             storage: {{filesystem: {{rootdirectory: 'DIR/data'}}}}\n{more}"
        );
        let config = config.replace("DIR", &dir.path().display().to_string());
        agent_disk::replace(&dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let path = dir.path().join("config.yml");
        agent_disk::replace(&path, config.as_bytes()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the registry under test is a program")]
        let mut command = Command::new("docker-registry");
        let command = command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is installed");
        let it = Self { child, dir, host, auth };
        it.wait();
        it
    }

    fn wait(&self) {
        for _ in 0..1000 {
            if TcpStream::connect(&self.host).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the registry does not answer on {}", self.host);
    }

    fn client(&self) -> Client {
        let protocol = ClientProtocol::HttpsExcept(vec![self.host.clone()]);
        Client::new(ClientConfig { protocol, ..ClientConfig::default() })
    }

    /// Pushes the blobs and the manifest of an image under a name such as `a/b:1`.
    pub(crate) async fn push(&self, name: &str, image: &Image) {
        let reference: Reference = format!("{}/{name}", self.host).parse().unwrap();
        let client = self.client();
        let push = RegistryOperation::Push;
        client.auth(&reference, &self.auth, push).await.unwrap();
        for Blob { bytes, digest, .. } in image.blobs() {
            client.push_blob(&reference, bytes.clone(), digest.as_str()).await.unwrap();
        }
        self.push_manifest(name, &image.manifest(), "application/vnd.oci.image.manifest.v1+json")
            .await;
    }

    pub(crate) async fn push_manifest(&self, name: &str, manifest: &[u8], media_type: &str) {
        let reference: Reference = format!("{}/{name}", self.host).parse().unwrap();
        let client = self.client();
        let push = RegistryOperation::Push;
        client.auth(&reference, &self.auth, push).await.unwrap();
        let media_type = media_type.parse().unwrap();
        client.push_manifest_raw(&reference, manifest.to_vec(), media_type).await.unwrap();
    }

    /// Where the registry keeps a blob's bytes.
    pub(crate) fn blob_path(&self, blob: &Blob) -> PathBuf {
        let hex = blob.digest.hex();
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
