//! Talks to one registry host about one image. Knows the failures of HTTP, and which of them pass.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::{DigestError, OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};

use crate::{Auth, Digest, ImageConfig, ImageRef, MalformedImage, PullError};

const USER_AGENT: &str = concat!("outbye-agent/", env!("CARGO_PKG_VERSION"));

const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

pub(crate) struct Registry {
    /// Signs in, and moves blobs.
    client: Client,
    /// Fetches manifests: the other client would keep whatever a registry sends in memory.
    http: reqwest::Client,
    image: ImageRef,
    reference: Reference,
    credentials: Auth,
    config: ImageConfig,
}

/// A blob's bytes from some offset on.
pub(crate) struct BlobStream {
    /// False if the registry began at the start instead of at the offset.
    pub(crate) at_offset: bool,
    pub(crate) bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

impl Registry {
    /// Introduces us to the image's registry, or to a mirror of it.
    pub(crate) async fn connect(
        config: &ImageConfig,
        image: &ImageRef,
        auth: &Auth,
        mirror: Option<&str>,
    ) -> Result<Self, PullError> {
        let reference = reference(image, mirror);
        let auth = match auth {
            // What is meant for the registry is not shown to its mirrors.
            _ if mirror.is_some() => RegistryAuth::Anonymous,
            Auth::Anonymous => RegistryAuth::Anonymous,
            Auth::Basic { username, password } => {
                RegistryAuth::Basic(username.clone(), password.clone())
            }
            Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        let client = Client::try_from(client_config(config)).map_err(|err| explain(image, err))?;
        let http = http_client(config).map_err(|err| explain(image, err.into()))?;
        let mut it = Self {
            client,
            http,
            image: image.clone(),
            reference,
            credentials: Auth::Anonymous,
            config: config.clone(),
        };
        it.sign_in(&auth).await?;
        Ok(it)
    }

    /// Learns how to answer the registry's challenge, or that there is none.
    async fn sign_in(&mut self, auth: &RegistryAuth) -> Result<(), PullError> {
        let mut n_failed = 0;
        let token = loop {
            match self.client.auth(&self.reference, auth, RegistryOperation::Pull).await {
                Ok(token) => break token,
                Err(err) => self.bear(explain(&self.image, err), &mut n_failed).await?,
            }
        };
        self.credentials = match (token, auth) {
            (Some(token), _) => Auth::Bearer(token),
            (None, RegistryAuth::Basic(username, password)) => {
                Auth::Basic { username: username.clone(), password: password.clone() }
            }
            (None, RegistryAuth::Anonymous | RegistryAuth::Bearer(_)) => Auth::Anonymous,
        };
        Ok(())
    }

    pub(crate) fn image(&self) -> &ImageRef {
        &self.image
    }

    pub(crate) fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The manifest or index that the name stands for, or the one of that digest.
    pub(crate) async fn manifest(
        &self,
        digest: Option<&Digest>,
    ) -> Result<(Vec<u8>, Digest), PullError> {
        let name = match digest {
            Some(digest) => digest.as_str(),
            None => self.reference.tag().unwrap_or("latest"),
        };
        let host = self.reference.resolve_registry();
        let scheme =
            if self.config.plain_http.iter().any(|it| it == host) { "http" } else { "https" };
        let repository = self.image.repository();
        let url = format!("{scheme}://{host}/v2/{repository}/manifests/{name}");
        let mut n_failed = 0;
        let bytes = loop {
            match self.document(&url).await {
                Ok(bytes) => break bytes,
                Err(err) => self.bear(err, &mut n_failed).await?,
            }
        };
        let found = Digest::of(&bytes);
        match digest {
            Some(expected) if *expected != found => Err(PullError::DigestMismatch {
                image: self.image.clone(),
                expected: expected.clone(),
                found,
            }),
            _ => Ok((bytes, found)),
        }
    }

    /// One request for a document of bounded size.
    async fn document(&self, url: &str) -> Result<Vec<u8>, PullError> {
        let failed = |err: reqwest::Error| explain(&self.image, err.without_url().into());
        let request = self.http.get(url).header("accept", MANIFEST_TYPES.join(", "));
        let request = match &self.credentials {
            Auth::Anonymous => request,
            Auth::Basic { username, password } => request.basic_auth(username, Some(password)),
            Auth::Bearer(token) => request.bearer_auth(token),
        };
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let limit = self.config.limits.manifest_bytes;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
                let why = MalformedImage::TooBig { what: "bytes in a manifest", limit };
                return Err(PullError::Malformed { image: self.image.clone(), why });
            }
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let said = tidy(&String::from_utf8_lossy(&bytes));
        Err(by_status(self.image.clone(), status.as_u16(), format!("{status}: {said}")))
    }

    /// Begins one transfer. Verifying the whole is the caller's, and so is trying again.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobStream, PullError> {
        let explain = |err| explain(&self.image, err);
        let digest = digest.as_str();
        if offset == 0 {
            let stream =
                self.client.pull_blob_stream(&self.reference, digest).await.map_err(explain)?;
            return Ok(BlobStream { at_offset: true, bytes: stream.stream });
        }
        let response = self
            .client
            .pull_blob_stream_partial(&self.reference, digest, offset, None)
            .await
            .map_err(explain)?;
        Ok(match response {
            BlobResponse::Partial(stream) => BlobStream { at_offset: true, bytes: stream.stream },
            BlobResponse::Full(stream) => BlobStream { at_offset: false, bytes: stream.stream },
        })
    }

    /// Waits until a failed request may be tried again, or says that it may not.
    async fn bear(&self, err: PullError, n_failed: &mut u32) -> Result<(), PullError> {
        *n_failed += 1;
        if !matches!(err, PullError::Network { .. }) || *n_failed >= self.config.attempts {
            return Err(err);
        }
        tracing::debug!(image = %self.image, n_failed, error = chain(&err), "Retrying request");
        pause(&self.config, *n_failed).await;
        Ok(())
    }
}

/// Waits after the `n`th failure in a row.
pub(crate) async fn pause(config: &ImageConfig, n: u32) {
    tokio::time::sleep(config.retry_pause * (1 << n.saturating_sub(1).min(5))).await;
}

fn reference(image: &ImageRef, mirror: Option<&str>) -> Reference {
    let (registry, repository) = (image.registry().to_owned(), image.repository().to_owned());
    let mut reference = match (image.digest(), image.tag()) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
        }
    };
    if let Some(mirror) = mirror {
        reference.set_mirror_registry(mirror.to_owned());
    }
    reference
}

/// The same as the other client in all that concerns trust.
fn http_client(config: &ImageConfig) -> reqwest::Result<reqwest::Client> {
    let authorities = config.registry_ca_pem.iter().map(|pem| reqwest::Certificate::from_pem(pem));
    reqwest::Client::builder()
        .tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?)
        .read_timeout(config.read_timeout)
        .connect_timeout(config.read_timeout)
        .user_agent(USER_AGENT)
        .build()
}

fn client_config(config: &ImageConfig) -> ClientConfig {
    let certificate =
        |pem: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() };
    ClientConfig {
        protocol: ClientProtocol::HttpsExcept(config.plain_http.clone()),
        extra_root_certificates: config.registry_ca_pem.iter().map(certificate).collect(),
        read_timeout: Some(config.read_timeout),
        connect_timeout: Some(config.read_timeout),
        user_agent: USER_AGENT,
        ..ClientConfig::default()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest are words for a registry's nonsense")]
fn explain(image: &ImageRef, err: OciDistributionError) -> PullError {
    use OciDistributionError as E;

    let image = image.clone();
    let message = chain(&err);
    match err {
        E::RequestError(err) if err.is_builder() || err.is_redirect() => {
            PullError::Rejected { image, message }
        }
        E::RequestError(_) | E::IoError(_) => PullError::Network { image, message },
        E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => {
            PullError::Unauthorized { image, message }
        }
        E::ServerError { code, .. } => by_status(image, code, message),
        E::RegistryError { envelope, .. } => {
            match envelope.errors.into_iter().next().map(|it| it.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown,
                ) => PullError::NotFound { image },
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => {
                    PullError::Unauthorized { image, message }
                }
                Some(OciErrorCode::Toomanyrequests) => PullError::Network { image, message },
                _ => PullError::Rejected { image, message },
            }
        }
        E::DigestError(DigestError::VerificationError { expected, actual }) => {
            match (expected.parse(), actual.parse()) {
                (Ok(expected), Ok(found)) => PullError::DigestMismatch { image, expected, found },
                _ => PullError::Rejected { image, message },
            }
        }
        _ => PullError::Rejected { image, message },
    }
}

fn by_status(image: ImageRef, code: u16, message: String) -> PullError {
    match code {
        404 => PullError::NotFound { image },
        401 | 403 => PullError::Unauthorized { image, message },
        408 | 429 | 500.. => PullError::Network { image, message },
        _ => PullError::Rejected { image, message },
    }
}

/// An error and its causes in one line of bounded length: some of it is the registry's own text.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        let more = err.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = err.source();
    }
    tidy(&text)
}

fn tidy(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
