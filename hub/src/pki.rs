//! The hub's own certificate authority.
//!
//! The authority's key lies in the data directory (mode 0600) and is made once. Everything else
//! (the server's certificate, the administrator's, the nodes') is signed by it on demand. All
//! certificates begin in 1970, so that a machine without a clock can use them.

use std::{
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use ring::digest;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::FromDer;

const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Life of the certificates that the hub signs for itself and its administrator. It renews them at two thirds.
pub const SERVER_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// A hub's clock may be set back by so much without refusing the certificates it just signed.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Name that nodes expect in the hub's certificate, whatever its address.
pub const SERVER_NAME: &str = "outbye-hub";
/// Name of a hub before other hubs.
pub const PEER_NAME: &str = "system:outbye-hub";
/// Certificates for other hubs are signed for one connection; hubs' clocks may differ by so much.
const PEER_LIFE: Duration = Duration::from_hours(1);
/// Group whose members may do everything.
const ADMIN_GROUP: &str = "system:masters";
/// Prefix of a node's user name.
pub const NODE_USER_PREFIX: &str = "system:node:";
const NODE_GROUP: &str = "system:nodes";

/// The authority could not be opened or could not sign.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        err: std::io::Error,
    },
    #[error("could not write {path}")]
    Write {
        path: PathBuf,
        #[source]
        err: std::io::Error,
    },
    #[error(transparent)]
    Replace(#[from] agent_disk::ReplaceError),
    #[error("could not make or use a key")]
    Key(#[source] rcgen::Error),
    #[error(
        "could not use the authority in {path}; restore it from a backup, or every node must join again"
    )]
    Authority {
        path: PathBuf,
        #[source]
        err: rcgen::Error,
    },
    #[error("could not sign a certificate for {subject}")]
    Sign {
        subject: String,
        #[source]
        err: rcgen::Error,
    },
    #[error("could not use the certificate signing request")]
    Request(#[source] rcgen::Error),
    #[error("could not use the certificate: {what}")]
    Certificate { what: &'static str },
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Identity {
    /// The pair in the form that rustls takes.
    ///
    /// # Errors
    /// The PEM text is not a certificate and a key.
    pub fn to_der(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let certs = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| PkiError::Certificate { what: "not PEM" })?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| PkiError::Certificate { what: "its key is not PEM" })?;
        Ok((certs, key))
    }
}

/// Signs for this hub.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority below `dir`, or makes it.
    ///
    /// # Errors
    /// Its files cannot be read, written or understood.
    pub fn load_or_create(dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
            .map_err(|err| PkiError::Write { path: dir.to_owned(), err })?;
        // The key is written first: a certificate without key would be useless for ever.
        if !cert_path.exists() {
            let (cert, key) = Self::make(now)?;
            write_private(&key_path, key.as_bytes())?;
            write_private(&cert_path, cert.as_bytes())?;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|err| PkiError::Read { path: path.to_owned(), err })
        };
        match Self::from_pem(&read(&cert_path)?, &read(&key_path)?) {
            Err(PkiError::Key(err)) => Err(PkiError::Authority { path: dir.to_owned(), err }),
            other => other,
        }
    }

    /// A new authority's certificate and key, PEM.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn make(now: Timestamp) -> Result<(String, String), PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Key)?;
        let cert = authority_params(now)
            .self_signed(&key)
            .map_err(|err| PkiError::Sign { subject: "outbye".into(), err })?;
        Ok((cert.pem(), key.serialize_pem()))
    }

    /// The authority with this certificate and key.
    ///
    /// # Errors
    /// They are no certificate and its key.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::Key)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(PkiError::Key)?;
        let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| PkiError::Certificate { what: "the authority's is not PEM" })?;
        Ok(Self { cert_pem: cert_pem.to_owned(), cert, issuer })
    }

    /// Certificate and key, PEM.
    pub fn to_pem(&self) -> (String, String) {
        (self.cert_pem.clone(), self.issuer.key().serialize_pem())
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// SHA-256 of the authority's public key, hexadecimal: what a join token pins.
    ///
    /// # Errors
    /// The authority's certificate does not parse.
    pub fn key_hash(&self) -> Result<String, PkiError> {
        key_hash(&self.cert)
    }

    /// A secret of this hub that outlives its process: with it a restarted hub can tell nodes at
    /// once that their connections are gone (RFC 9000, section 10.3).
    pub fn reset_key(&self) -> ring::hmac::Key {
        let seed = digest::digest(&digest::SHA256, self.issuer.key().serialized_der());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, seed.as_ref());
        let derived = ring::hmac::sign(&key, b"outbye stateless reset");
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref())
    }

    /// Signs the hub's server certificate for these names and addresses.
    ///
    /// # Errors
    /// A name is not a DNS name or an address.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Identity, PkiError> {
        let mut params = leaf_params("outbye-hub", &[], ExtendedKeyUsagePurpose::ServerAuth);
        expire(&mut params, now, SERVER_LIFE);
        for name in names.iter().map(String::as_str).chain([SERVER_NAME]) {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.try_into()
                        .map_err(|err| PkiError::Sign { subject: name.to_owned(), err })?,
                ),
            });
        }
        let mut identity = self.sign(params, "outbye-hub")?;
        // Machines that join know only the authority's hash: they need to see its certificate.
        identity.cert_pem.push_str(&self.cert_pem);
        Ok(identity)
    }

    /// Signs a certificate by which this hub shows others who it is.
    ///
    /// # Errors
    /// Signing failed.
    pub fn issue_client(&self, name: &str, now: Timestamp) -> Result<Identity, PkiError> {
        let mut params = leaf_params(name, &[], ExtendedKeyUsagePurpose::ClientAuth);
        expire(&mut params, now, SERVER_LIFE);
        self.sign(params, name)
    }

    /// Signs a certificate that may do everything.
    ///
    /// # Errors
    /// Signing failed.
    pub fn issue_admin(&self, now: Timestamp) -> Result<Identity, PkiError> {
        let mut params =
            leaf_params("outbye-admin", &[ADMIN_GROUP], ExtendedKeyUsagePurpose::ClientAuth);
        expire(&mut params, now, SERVER_LIFE);
        self.sign(params, "outbye-admin")
    }

    /// Signs a certificate with which a hub shows itself to the other hubs on its store.
    ///
    /// # Errors
    /// Signing failed.
    pub fn issue_peer(&self, now: Timestamp) -> Result<Identity, PkiError> {
        let mut params = leaf_params(PEER_NAME, &[], ExtendedKeyUsagePurpose::ClientAuth);
        expire(&mut params, now, PEER_LIFE);
        self.sign(params, PEER_NAME)
    }

    /// Signs a node's request. Only the request's key counts; the name is ours to say.
    ///
    /// # Errors
    /// The request is malformed or not signed by its own key.
    pub fn issue_node(
        &self,
        node: &str,
        request_pem: &str,
        now: Timestamp,
        life: Duration,
    ) -> Result<NodeCertificate, PkiError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request_pem).map_err(PkiError::Request)?;
        let subject = format!("{NODE_USER_PREFIX}{node}");
        request.params = leaf_params(&subject, &[NODE_GROUP], ExtendedKeyUsagePurpose::ClientAuth);
        expire(&mut request.params, now, life);
        // Only the hub verifies this one, by its own clock; nodes renew at two thirds of the span.
        request.params.not_before = request.params.not_after - (life + CLOCK_SKEW);
        let cert =
            request.signed_by(&self.issuer).map_err(|err| PkiError::Sign { subject, err })?;
        Ok(NodeCertificate { pem: cert.pem(), key_hash: key_hash(cert.der())? })
    }

    /// Checks that this authority signed the certificate, whether or not it has expired.
    ///
    /// # Errors
    /// It did not, or the certificate does not parse.
    pub fn verify_expired(&self, cert: &CertificateDer<'_>) -> Result<(), PkiError> {
        let malformed = |_| PkiError::Certificate { what: "malformed" };
        let (_, leaf) =
            x509_parser::certificate::X509Certificate::from_der(cert).map_err(malformed)?;
        let (_, ca) =
            x509_parser::certificate::X509Certificate::from_der(&self.cert).map_err(malformed)?;
        leaf.verify_signature(Some(ca.public_key()))
            .map_err(|_| PkiError::Certificate { what: "not signed by this hub" })
    }

    /// Signs somebody's request as `order` says; only the request's key counts.
    ///
    /// # Errors
    /// The request is malformed or not signed by its own key, or a name is none.
    pub fn issue_request(&self, order: &Order<'_>, now: Timestamp) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(order.request_pem)
            .map_err(PkiError::Request)?;
        let groups: Vec<&str> = order.groups.iter().map(String::as_str).collect();
        let mut params = leaf_params(order.name, &groups, order.usage.clone());
        params.subject_alt_names =
            order.hosts.iter().map(|it| alt_name(it)).collect::<Result<_, _>>()?;
        request.params = params;
        expire(&mut request.params, now, Duration::ZERO);
        request.params.not_before = request.params.not_after - CLOCK_SKEW;
        expire(&mut request.params, now, order.life);
        let subject = order.name.to_owned();
        let cert =
            request.signed_by(&self.issuer).map_err(|err| PkiError::Sign { subject, err })?;
        Ok(cert.pem())
    }

    fn sign(&self, params: CertificateParams, subject: &str) -> Result<Identity, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Key)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(|err| PkiError::Sign { subject: subject.to_owned(), err })?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// What to sign for somebody.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    pub request_pem: &'a str,
    pub name: &'a str,
    pub groups: &'a [String],
    /// Names and addresses of servers.
    pub hosts: &'a [String],
    pub usage: ExtendedKeyUsagePurpose,
    pub life: Duration,
}

fn alt_name(name: &str) -> Result<SanType, PkiError> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(
            name.try_into().map_err(|err| PkiError::Sign { subject: name.to_owned(), err })?,
        ),
    })
}

/// What a node gets when it joins or renews.
#[derive(Clone, Debug)]
pub struct NodeCertificate {
    pub pem: String,
    /// SHA-256 of the node's public key, hexadecimal.
    pub key_hash: String,
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), hexadecimal.
///
/// # Errors
/// The certificate does not parse.
pub fn key_hash(cert: &CertificateDer<'_>) -> Result<String, PkiError> {
    hub_apiserver::auth::key_hash(cert).map_err(|_| PkiError::Certificate { what: "malformed" })
}

/// The node that a client certificate names.
pub fn node_name(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(cert).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix(NODE_USER_PREFIX).map(str::to_owned)
}

/// The common name that a certificate gives.
pub fn common_name(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(cert).ok()?;
    Some(cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned())
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "outbye");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    expire(&mut params, now, AUTHORITY_LIFE);
    params
}

fn leaf_params(name: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params
}

/// The end counts from the hub's time, which has a floor: a machine at 1970 does not sign what is expired elsewhere.
fn expire(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let start = u64::try_from(now.as_second()).unwrap_or(0);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (Duration::from_secs(start) + life);
}

/// Replaces a file that only root may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    agent_disk::replace(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|err| PkiError::Write { path: path.to_owned(), err })
}
