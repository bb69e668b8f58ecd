//! Talks to one registry host about one image. Knows the failures of HTTP, and which of them pass.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use reqwest::{RequestBuilder, Response, StatusCode, Url, header, redirect};
use serde::Deserialize;

use crate::{
    Auth, Digest, ImageConfig, ImageRef, MalformedImage, PullError,
    challenge::{self, Challenge},
};

const USER_AGENT: &str = concat!("outbye-agent/", env!("CARGO_PKG_VERSION"));
/// Longest answer that is a token or an error, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// How many times in a row a request may be sent on to another place.
const MAX_REDIRECTS: usize = 10;

const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

pub(crate) struct Registry {
    http: reqwest::Client,
    image: ImageRef,
    host: String,
    credentials: Auth,
    config: ImageConfig,
    /// There is no certificate authority on this machine.
    trusts_nobody: bool,
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
        let host = host(image, mirror);
        // What is meant for the registry is not shown to its mirrors.
        let auth = if mirror.is_some() { &Auth::Anonymous } else { auth };
        let (built, trusts_nobody) = match http_client(config, Trust::Machine) {
            // The client finds out by itself whether the machine has any authority.
            Err(err) if err.is_builder() && config.registry_ca_pem.is_empty() => {
                (http_client(config, Trust::Nobody), true)
            }
            built => (built, false),
        };
        let mut it = Self {
            http: built.map_err(|err| explain(image, &err))?,
            image: image.clone(),
            host: host.to_owned(),
            credentials: Auth::Anonymous,
            config: config.clone(),
            trusts_nobody,
        };
        if trusts_nobody && !it.is_plain() {
            return Err(PullError::NoAuthorities { image: image.clone() });
        }
        it.sign_in(auth).await?;
        Ok(it)
    }

    fn is_plain(&self) -> bool {
        self.config.plain_http.contains(&self.host)
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.is_plain() { "http" } else { "https" };
        format!("{scheme}://{}/v2/{path}", self.host)
    }

    /// Learns how to answer the registry's challenge, or that there is none.
    async fn sign_in(&mut self, auth: &Auth) -> Result<(), PullError> {
        let mut n_failed = 0;
        self.credentials = loop {
            match self.greet(auth).await {
                Ok(credentials) => break credentials,
                Err(err) => self.bear(err, &mut n_failed).await?,
            }
        };
        Ok(())
    }

    async fn greet(&self, auth: &Auth) -> Result<Auth, PullError> {
        if let Auth::Bearer(_) = auth {
            return Ok(auth.clone());
        }
        let answer = self.send(self.http.get(self.url(""))).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            // Whatever else is wrong will be wrong with the image too, and be told then.
            return Ok(auth.clone());
        }
        let headers = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges = headers.iter().filter_map(|it| Challenge::parse(it.to_str().ok()?));
        let refused = |message: &str| {
            Err(PullError::Unauthorized { image: self.image.clone(), message: message.to_owned() })
        };
        match challenges.max_by_key(|it| matches!(it, Challenge::Bearer { .. })) {
            Some(Challenge::Bearer { realm, service }) => {
                self.token(&realm, service.as_deref(), auth).await.map(Auth::Bearer)
            }
            Some(Challenge::Basic) if *auth == Auth::Anonymous => {
                refused("it wants a user name and a password")
            }
            Some(Challenge::Basic) => Ok(auth.clone()),
            None => refused("it wants credentials of a kind that is not known here"),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        auth: &Auth,
    ) -> Result<String, PullError> {
        let rejected = |message: String| PullError::Rejected { image: self.image.clone(), message };
        let repository = self.image.repository();
        let url = challenge::token_url(realm, service, repository, self.is_plain())
            .ok_or_else(|| rejected(tidy(&format!("it sends us to {realm:?} for a token"))))?;
        let answer = self.send(authorized(self.http.get(url), auth)).await?;
        let is_own = self.is_own(answer.url());
        let (status, bytes) = self.read(answer, MAX_ANSWER, "bytes in a token").await?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes, is_own));
        }
        challenge::token(&bytes).ok_or_else(|| rejected("its token does not parse".to_owned()))
    }

    /// Name, and port if there is one, of who is asked.
    pub(crate) fn host(&self) -> &str {
        &self.host
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
            None => self.image.tag().unwrap_or("latest"),
        };
        let url = self.url(&format!("{}/manifests/{name}", self.image.repository()));
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
        let request = self.http.get(url).header(header::ACCEPT, MANIFEST_TYPES.join(", "));
        let answer = self.send(authorized(request, &self.credentials)).await?;
        let limit = self.config.limits.manifest_bytes;
        let is_own = self.is_own(answer.url());
        let (status, bytes) = self.read(answer, limit, "bytes in a manifest").await?;
        if status.is_success() { Ok(bytes) } else { Err(self.refused(status, &bytes, is_own)) }
    }

    /// Begins one transfer. Verifying the whole is the caller's, and so is trying again.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobStream, PullError> {
        let url = self.url(&format!("{}/blobs/{digest}", self.image.repository()));
        let mut request = authorized(self.http.get(url), &self.credentials);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let answer = self.send(request).await?;
        let status = answer.status();
        if !status.is_success() {
            let is_own = self.is_own(answer.url());
            let (status, bytes) = self.read(answer, MAX_ANSWER, "bytes in an error").await?;
            return Err(self.refused(status, &bytes, is_own));
        }
        let at_offset = match status {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.headers().get(header::CONTENT_RANGE);
                let begin = range.and_then(|it| it.to_str().ok()).and_then(range_begin);
                if begin.is_some_and(|it| it != offset) {
                    let message = "it sent another part than was asked for".to_owned();
                    return Err(PullError::Rejected { image: self.image.clone(), message });
                }
                true
            }
            _ => offset == 0,
        };
        let bytes = answer.bytes_stream().map_err(|err| std::io::Error::other(err.without_url()));
        Ok(BlobStream { at_offset, bytes: bytes.boxed() })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, PullError> {
        request.send().await.map_err(|err| self.explain(err))
    }

    async fn read(
        &self,
        mut answer: Response,
        limit: u64,
        what: &'static str,
    ) -> Result<(StatusCode, Vec<u8>), PullError> {
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|err| self.explain(err))? {
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
                let why = MalformedImage::TooBig { what, limit };
                return Err(PullError::Malformed { image: self.image.clone(), why });
            }
        }
        Ok((status, bytes))
    }

    fn explain(&self, err: reqwest::Error) -> PullError {
        let err = err.without_url();
        // A registry without TLS may send us on to a place with it.
        if self.trusts_nobody && chain(&err).contains("certificate") {
            return PullError::NoAuthorities { image: self.image.clone() };
        }
        explain(&self.image, &err)
    }

    /// Whether an answer is the registry's own, and not that of a place that it sent us to.
    fn is_own(&self, answered: &Url) -> bool {
        let place = |it: &Url| (it.host_str().map(str::to_owned), it.port_or_known_default());
        self.url("").parse().is_ok_and(|own: Url| place(&own) == place(answered))
    }

    /// What an answer means that is no success: by the registry's own code, else by the status.
    ///
    /// Another host's words are not repeated: who may choose an image chooses where its registry sends this
    /// machine, and must not read what a service that only this machine can reach says.
    fn refused(&self, status: StatusCode, body: &[u8], is_own: bool) -> PullError {
        let image = self.image.clone();
        if !is_own {
            let message = format!("{status} from where it sends us");
            return by_status(image, status.as_u16(), message);
        }
        let message = tidy(&format!("{status}: {}", String::from_utf8_lossy(body)));
        match error_code(body).as_deref() {
            Some(
                "MANIFEST_UNKNOWN"
                | "NAME_UNKNOWN"
                | "NOT_FOUND"
                | "BLOB_UNKNOWN"
                | "MANIFEST_BLOB_UNKNOWN",
            ) => PullError::NotFound { image },
            Some("UNAUTHORIZED" | "DENIED") => PullError::Unauthorized { image, message },
            Some("TOOMANYREQUESTS") => PullError::Network { image, message },
            _ => by_status(image, status.as_u16(), message),
        }
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

/// Who is asked about an image: a mirror, or its own registry.
pub(crate) fn host<'a>(image: &'a ImageRef, mirror: Option<&'a str>) -> &'a str {
    match (mirror, image.registry()) {
        (Some(mirror), _) => mirror,
        (None, "docker.io") => "index.docker.io",
        (None, registry) => registry,
    }
}

/// Waits after the `n`th failure in a row.
pub(crate) async fn pause(config: &ImageConfig, n: u32) {
    tokio::time::sleep(config.retry_pause * (1 << n.saturating_sub(1).min(5))).await;
}

fn authorized(request: RequestBuilder, credentials: &Auth) -> RequestBuilder {
    match credentials {
        Auth::Anonymous => request,
        Auth::Basic { username, password } => request.basic_auth(username, Some(password)),
        Auth::Bearer(token) => request.bearer_auth(token),
    }
}

/// Who vouches for registries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trust {
    /// The machine's authorities and those of the configuration.
    Machine,
    /// Nobody, for there are none: what needs TLS fails, what does not goes on.
    Nobody,
}

fn http_client(config: &ImageConfig, trust: Trust) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder();
    let authorities = config.registry_ca_pem.iter().map(|pem| reqwest::Certificate::from_pem(pem));
    let builder = match trust {
        Trust::Machine => builder.tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?),
        Trust::Nobody => builder.tls_certs_only([]),
    };
    builder
        .read_timeout(config.read_timeout)
        .connect_timeout(config.read_timeout)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::custom(follow))
        .build()
}

/// A registry may send us on, but from a place with TLS only to places with TLS: what comes from there would be
/// anybody's, and whoever listens would see the links that a registry signs for us.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it sends us on without end");
    }
    let is_safe = |it: &Url| it.scheme() == "https";
    if attempt.previous().iter().any(is_safe) && !is_safe(attempt.url()) {
        return attempt.error("it sends us to a place without TLS");
    }
    attempt.follow()
}

fn explain(image: &ImageRef, err: &reqwest::Error) -> PullError {
    let (image, message) = (image.clone(), chain(err));
    match err.is_builder() || err.is_redirect() {
        true => PullError::Rejected { image, message },
        false => PullError::Network { image, message },
    }
}

/// The first code of a registry's error document.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    document.errors.into_iter().next().map(|it| it.code)
}

/// First byte of `bytes 5-9/10`.
fn range_begin(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
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
