//! What clients may not write although they may use the verb: rules that need the object.

use std::sync::Arc;

use hub_api::{Resource, Status, object};
use serde_json::Value;
use x509_parser::prelude::FromDer as _;

use super::node;
use super::rbac::EscalationGuard;
use super::{Attributes, Authorizer, MASTERS, Rbac, User};
use crate::registry::Registry;

/// The signer of client certificates.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// A write of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientWrite<'a> {
    pub(crate) user: &'a User,
    pub(crate) resource: &'a Resource,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) old: Option<&'a Value>,
    /// Absent at deletions.
    pub(crate) new: Option<&'a Value>,
}

/// Looks at every write of clients before it is stored.
#[derive(Debug)]
pub struct Guard {
    escalation: EscalationGuard,
    authorizer: ArcAuthorizer,
}

struct ArcAuthorizer(Arc<dyn Authorizer>);

impl std::fmt::Debug for ArcAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorizer")
    }
}

impl Guard {
    /// `authorizer` is asked for the verbs of subsystems, such as `bind` and `approve`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        let escalation = EscalationGuard::new(rbac, authorizer.clone());
        Self { escalation, authorizer: ArcAuthorizer(authorizer) }
    }

    /// Who decides about verbs.
    pub(crate) fn authorizer(&self) -> Arc<dyn Authorizer> {
        self.authorizer.0.clone()
    }

    /// Checks one write.
    ///
    /// # Errors
    /// `Forbidden`, and what a malformed object deserves.
    pub(crate) fn check(&self, registry: &Registry, it: &ClientWrite<'_>) -> Result<(), Status> {
        match (&*it.resource.group, it.new, it.old) {
            ("rbac.authorization.k8s.io", Some(new), old) if it.subresource.is_none() => {
                self.escalation.check(it.resource, it.user, new, old)?;
            }
            ("certificates.k8s.io", Some(new), old)
                if it.resource.plural == "certificatesigningrequests" =>
            {
                self.certificate(it, new, old)?;
            }
            _ => {}
        }
        match node::name_of(it.user) {
            Some(node) => node::restrict(registry, &*self.authorizer.0, node, it),
            None => Ok(()),
        }
    }

    fn certificate(
        &self,
        it: &ClientWrite<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let forbidden = |why: &str| {
            Err(Status::forbidden(&it.resource.group, &it.resource.plural, it.name, why))
        };
        let signer = object::text(old.unwrap_or(new), "spec.signerName");
        let failed = |it: &Value| {
            let conditions = object::list(it, "status.conditions");
            conditions.iter().any(|it| object::text(it, "type") == "Failed")
        };
        let certificate = |it: &Value| object::text(it, "status.certificate").to_owned();
        match it.subresource {
            None if old.is_none() => {
                let request = read_request(new).map_err(|why| {
                    let wrong = hub_api::FieldError::invalid("spec.request", "", why);
                    Status::invalid(
                        &it.resource.group,
                        &it.resource.kind,
                        object::name(new),
                        vec![wrong],
                    )
                })?;
                if signer == CLIENT_SIGNER && request.groups.iter().any(|it| it == MASTERS) {
                    return forbidden(&format!(
                        "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
                    ));
                }
            }
            Some("approval") if !self.may(it.user, "approve", signer) => {
                return forbidden(&format!(
                    "user not permitted to approve requests with signerName \"{signer}\""
                ));
            }
            Some("status")
                if old.is_none_or(|old| {
                    certificate(old) != certificate(new) || failed(old) != failed(new)
                }) && !self.may(it.user, "sign", signer) =>
            {
                return forbidden(&format!(
                    "user not permitted to sign requests with signerName \"{signer}\""
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the user may do that with a signer, by its name or by its whole domain.
    fn may(&self, user: &User, verb: &str, signer: &str) -> bool {
        let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
        [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
            let attributes = Attributes {
                group: "certificates.k8s.io",
                version: "*",
                resource: "signers",
                name,
                ..Attributes::of_user(user, verb)
            };
            self.authorizer.0.authorize(&attributes).is_allowed()
        })
    }
}

/// What a certificate signing request asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestedIdentity {
    /// The common name.
    pub name: String,
    /// The organisations.
    pub groups: Vec<String>,
    /// Names and addresses of servers, as text.
    pub hosts: Vec<String>,
    /// Whether it asks for e-mail addresses or URIs.
    pub has_others: bool,
    /// The request: PEM.
    pub pem: String,
}

/// Reads the request inside of a `CertificateSigningRequest`.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn read_request(csr: &Value) -> Result<RequestedIdentity, String> {
    use base64::Engine as _;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    let bad_type = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let text = object::text(csr, "spec.request");
    let pem = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| bad_type())?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| bad_type())?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(bad_type());
    }
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents)
            .map_err(|_| "could not parse the certificate request".to_owned())?;
    let subject = &request.certification_request_info.subject;
    let texts = |it: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        it.as_str().map(str::to_owned).map_err(|_| "could not read the subject".to_owned())
    };
    let mut out = RequestedIdentity {
        name: subject.iter_common_name().next().map(texts).transpose()?.unwrap_or_default(),
        groups: subject.iter_organization().map(texts).collect::<Result<_, _>>()?,
        pem: String::from_utf8_lossy(&pem).into_owned(),
        ..RequestedIdentity::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => out.hosts.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
                    let address = v4.or(v6).map_err(|_| "could not read an address".to_owned())?;
                    out.hosts.push(address.to_string());
                }
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::URI(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => out.has_others = true,
            }
        }
    }
    Ok(out)
}
