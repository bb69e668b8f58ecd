//! The user that a verified client certificate names.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// Why a certificate names nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509.
    #[error("could not parse the client certificate")]
    Malformed,
    /// No common name.
    #[error("could not find a common name in the client certificate")]
    NoName,
}

/// Common name is the user, organisations are the groups.
///
/// The caller has verified the certificate: this only reads it.
///
/// # Errors
/// The certificate cannot be read, or names nobody.
pub fn user_of_certificate(der: &[u8]) -> Result<User, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .filter_map(|it| it.as_str().ok())
        .find(|it| !it.is_empty())
        .ok_or(CertificateError::NoName)?
        .to_owned();
    let groups =
        subject.iter_organization().filter_map(|it| it.as_str().ok()).map(str::to_owned).collect();
    Ok(User { name, groups, ..User::default() }.authenticated())
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), hexadecimal.
///
/// # Errors
/// The certificate cannot be read.
pub fn key_hash(der: &[u8]) -> Result<String, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    let hash = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[(rcgen::DnType, &str)]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn common_name_and_organisation_become_user_and_group() {
        let der = certificate(&[
            (rcgen::DnType::CommonName, "system:node:a"),
            (rcgen::DnType::OrganizationName, "system:nodes"),
        ]);
        let user = user_of_certificate(&der).unwrap();
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    }

    #[test]
    fn a_certificate_without_a_name_names_nobody() {
        let der = certificate(&[(rcgen::DnType::OrganizationName, "system:masters")]);
        assert_eq!(user_of_certificate(&der), Err(CertificateError::NoName));
        assert_eq!(user_of_certificate(b"junk"), Err(CertificateError::Malformed));
    }
}
