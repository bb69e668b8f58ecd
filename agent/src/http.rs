//! Just enough HTTP/1.1 to ask a container whether it is well: one GET, one status, with or without
//! TLS. Who answers does not matter, so no certificate is looked at, as the kubelet does it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Longest head of an answer that is read, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// As many redirects as the kubelet follows.
const MAX_REDIRECTS: usize = 10;
pub(crate) const USER_AGENT: &str = "kube-probe/1.37";

/// The request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error("dial tcp {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("could not begin TLS with {address}")]
    Tls {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("could not exchange with {address}")]
    Exchange {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("malformed HTTP response")]
    Malformed,
    #[error("stopped after {MAX_REDIRECTS} redirects")]
    Redirects,
}

/// What is asked for, as an address line shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub https: bool,
    /// Name or address.
    pub host: String,
    pub port: u16,
    /// With a slash in front, and with the query.
    pub path: String,
}

impl Place {
    fn authority(&self) -> String {
        match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Where an answer from here sends us; `None` if that is another host, where nobody is asked.
    fn redirected(&self, location: &str) -> Option<Self> {
        let (https, rest) = match location.split_once("://") {
            Some((scheme, rest)) => (scheme.eq_ignore_ascii_case("https"), rest),
            None if location.starts_with("//") => (self.https, location.get(2..)?),
            None => {
                let base = self.path.split('?').next().unwrap_or("/");
                let dir = base.rfind('/').and_then(|end| base.get(..=end)).unwrap_or("/");
                let path = match location.starts_with('/') {
                    true => location.to_owned(),
                    false => format!("{dir}{location}"),
                };
                return Some(Self { path, ..self.clone() });
            }
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, if https { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if !host.eq_ignore_ascii_case(self.host.trim_matches(['[', ']'])) {
            return None;
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Self { https, host: self.host.clone(), port, path })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Asks at `ip`, follows redirects on the same host, and returns the last status code.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub async fn get(
    ip: IpAddr,
    mut place: Place,
    headers: &[(String, String)],
) -> Result<u16, GetError> {
    for _ in 0..=MAX_REDIRECTS {
        let head = ask(SocketAddr::new(ip, place.port), &place, headers).await?;
        let location = head.location.filter(|_| matches!(head.status, 301..=303 | 307 | 308));
        match location.and_then(|it| place.redirected(&it)) {
            Some(next) => place = next,
            None => return Ok(head.status),
        }
    }
    Err(GetError::Redirects)
}

/// What of an answer is looked at.
#[derive(Debug, Eq, PartialEq)]
struct Head {
    status: u16,
    location: Option<String>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn ask(
    address: SocketAddr,
    place: &Place,
    headers: &[(String, String)],
) -> Result<Head, GetError> {
    let stream =
        TcpStream::connect(address).await.map_err(|err| GetError::Connect { address, err })?;
    let mut stream: Box<dyn Stream> = match place.https {
        true => Box::new(tls(stream, place).await.map_err(|err| GetError::Tls { address, err })?),
        false => Box::new(stream),
    };
    let failed = |err| GetError::Exchange { address, err };
    stream.write_all(request(place, headers).as_bytes()).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 512];
    loop {
        match parse(&bytes) {
            Parsed::Head(head) => return Ok(head),
            Parsed::Nonsense => return Err(GetError::Malformed),
            Parsed::TooShort if bytes.len() > MAX_HEAD => return Err(GetError::Malformed),
            Parsed::TooShort => {}
        }
        match stream.read(&mut buffer).await.map_err(failed)? {
            // Some end without the empty line.
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    bytes.extend_from_slice(b"\r\n\r\n");
    match parse(&bytes) {
        Parsed::Head(head) => Ok(head),
        Parsed::TooShort | Parsed::Nonsense => Err(GetError::Malformed),
    }
}

async fn tls(stream: TcpStream, place: &Place) -> io::Result<impl Stream> {
    let host = place.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = TLS.as_ref().map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

static TLS: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anybody = Arc::new(Anybody(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(anybody)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
});

/// Takes every certificate: a probe asks how the container is, not who.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn request(place: &Place, headers: &[(String, String)]) -> String {
    // What comes from outside must not begin a line of its own.
    let clean = |text: &str| text.replace(['\r', '\n'], "");
    let given = |name: &str| headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", clean(&place.path).replace(' ', "%20"));
    let fixed = [
        ("Host", clean(&place.authority())),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    for (name, value) in fixed.iter().filter(|(name, _)| !given(name)) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // These two are left out by giving them no value.
    let is_left_out = |name: &str, value: &str| {
        value.is_empty()
            && (name.eq_ignore_ascii_case("User-Agent") || name.eq_ignore_ascii_case("Accept"))
    };
    for (name, value) in headers.iter().filter(|(name, value)| !is_left_out(name, value)) {
        text.push_str(&format!("{}: {}\r\n", clean(name), clean(value)));
    }
    text.push_str("\r\n");
    text
}

/// What can be said of the beginning of an answer.
#[derive(Debug, Eq, PartialEq)]
enum Parsed {
    Head(Head),
    TooShort,
    Nonsense,
}

fn parse(bytes: &[u8]) -> Parsed {
    if !b"HTTP/1.".starts_with(bytes.get(..7).unwrap_or(bytes)) {
        return Parsed::Nonsense;
    }
    let text = String::from_utf8_lossy(bytes);
    let Some((line, rest)) = text.split_once('\n') else { return Parsed::TooShort };
    let Some(status) = status(line) else { return Parsed::Nonsense };
    if !(300..400).contains(&status) {
        return Parsed::Head(Head { status, location: None });
    }
    let mut location = None;
    for line in rest.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { return Parsed::TooShort };
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return Parsed::Head(Head { status, location });
        }
        let field = line.split_once(':').filter(|(it, _)| it.eq_ignore_ascii_case("location"));
        location = location.or_else(|| field.map(|(_, it)| it.trim().to_owned()));
    }
    Parsed::TooShort
}

fn status(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    words.next().filter(|it| it.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|code| (100..600).contains(code))
}

/// Reads an answer, and follows it one step.
#[cfg(test)]
pub(crate) fn fuzz(input: &[u8]) -> bool {
    let place = Place { https: false, host: "::1".to_owned(), port: 80, path: "/a/b?c".to_owned() };
    match parse(input) {
        Parsed::Head(Head { status, location }) => {
            assert!((100..600).contains(&status));
            let next = location.and_then(|it| place.redirected(&it));
            if let Some(next) = next {
                assert_eq!(next.host, place.host, "nobody else is asked");
                let text = request(&next, &[]);
                assert_eq!(text.matches("\r\n").count(), 6, "no line is smuggled in");
            }
            true
        }
        Parsed::TooShort | Parsed::Nonsense => false,
    }
}

#[cfg(test)]
mod tests;
