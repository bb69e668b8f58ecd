//! What a foreign API server needs to be spoken to as the hub is: an authority, a server's certificate, an administrator's.

use std::{fs, net::SocketAddr, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::connection::Failure;

/// Writes `ca.crt`, `server.crt`, `server.key` and `kubeconfig`. The server's pair serves for tokens as well.
pub(crate) fn write(dir: &Path, address: &str) -> Result<Value, Failure> {
    let host: SocketAddr = address.parse()?;
    fs::create_dir_all(dir)?;
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "load");
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::from_params(&params, &authority_key);

    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
    server.subject_alt_names.push(SanType::IpAddress(host.ip()));
    let server = server.signed_by(&server_key, &issuer)?;

    let admin_key = KeyPair::generate()?;
    let mut admin = CertificateParams::new(Vec::new())?;
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let admin = admin.signed_by(&admin_key, &issuer)?;

    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "load",
        "clusters": [{"name": "load", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(authority.pem()),
        }}],
        "users": [{"name": "load", "user": {
            "client-certificate-data": STANDARD.encode(admin.pem()),
            "client-key-data": STANDARD.encode(admin_key.serialize_pem()),
        }}],
        "contexts": [{"name": "load", "context": {"cluster": "load", "user": "load"}}],
    });
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("server.crt", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("kubeconfig", kubeconfig.to_string()),
    ] {
        fs::write(dir.join(name), text)?;
    }
    Ok(json!({}))
}
