//! Who is let into the API and what they may do: flags, keys and the chain of authorizers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use hub_apiserver::{
    Registry,
    audit::{Audit, AuditFile, AuditWriter, Policy, Rotation},
    auth::{
        Authentication, Authorizer, Chain, Guard, Masters, NodeAuthorizer, OidcConfig, OidcIssuer,
        Rbac, ServiceAccountTokens, TokenFile, TokenKey, rbac::policy,
    },
};
use hub_storage::Storage;
use jiff::Timestamp;

/// A key that is older signs no longer; tokens that it signed stay good.
const KEY_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Where most systems have the authorities that they trust.
pub(crate) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Keys that are kept: more than any token can outlive.
pub(crate) const MAX_KEYS: usize = 16;

/// Flags about identity and rights.
#[derive(Clone, Debug, clap::Args)]
pub struct AccessConfig {
    /// Bearer tokens: lines of token,user,uid,"group1,group2"
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Let those who show nothing in as system:anonymous everywhere, not only for health and version
    #[arg(long)]
    pub anonymous_auth: bool,
    /// Issuer in the tokens of service accounts
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuer: String,
    /// Audiences for which tokens must be; the issuer if absent
    #[arg(long = "api-audience")]
    pub api_audiences: Vec<String>,
    /// Longest life of a requested token, in seconds
    #[arg(long, default_value_t = 365 * 86_400)]
    pub service_account_max_token_life: u64,
    /// Whether tokens that are mounted into pods live for a year, whatever their life was to be: what was out of reach
    /// for long finds them still good
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,
    /// OpenID Connect issuer whose tokens name users (https)
    #[arg(long, requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// Audience for which the issuer's tokens must be
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    /// Claim that names the user
    #[arg(long, default_value = "sub")]
    pub oidc_username_claim: String,
    /// Stands before users' names; "-" for nothing; the issuer and # if absent (nothing for email)
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
    /// Claim that names the groups
    #[arg(long, default_value = "")]
    pub oidc_groups_claim: String,
    /// Stands before groups
    #[arg(long, default_value = "")]
    pub oidc_groups_prefix: String,
    /// Claims that the issuer's tokens must have, as claim=value
    #[arg(long = "oidc-required-claim", value_parser = claim)]
    pub oidc_required_claims: Vec<(String, String)>,
    /// Authorities of the issuer's certificate (PEM); the system's if absent
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    /// What the audit log tells (a Policy of audit.k8s.io/v1); every change and every reading of
    /// Secrets if absent
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// Where the audit log goes; audit.log in the data directory if absent
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// Size at which a file of the audit log moves aside, in MiB; 0 for no audit log
    #[arg(long, default_value_t = 32)]
    pub audit_log_max_size: u64,
    /// Files of the audit log that are kept beside the one that is written
    #[arg(long, default_value_t = 4)]
    pub audit_log_max_files: usize,
}

/// What the API server needs of all that.
#[derive(Clone)]
pub struct Access {
    pub authorizer: Arc<dyn Authorizer>,
    pub guard: Arc<Guard>,
    pub tokens: Arc<ServiceAccountTokens>,
    /// Where it is told who did what, if it is.
    pub audit: Option<Arc<Audit>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Access {
    /// Opens the audit log, and reads rights from the storage. What writes the log must run until the
    /// server is gone. The first of the keys signs tokens.
    ///
    /// # Errors
    /// There is no key, or the audit log or its policy cannot be used.
    pub fn open(
        config: &AccessConfig,
        storage: &Arc<dyn Storage>,
        data_dir: &Path,
        keys: Vec<TokenKey>,
    ) -> anyhow::Result<(Self, Option<AuditWriter>)> {
        let (audit, writer) = audit(config, data_dir)?.unzip();
        let rbac = Arc::new(Rbac::new(storage.clone()));
        let links: Vec<Arc<dyn Authorizer>> =
            vec![Arc::new(Masters), Arc::new(NodeAuthorizer::new(storage.clone())), rbac.clone()];
        let authorizer: Arc<dyn Authorizer> = Arc::new(Chain::new(links));
        let guard = Arc::new(Guard::new(rbac, authorizer.clone()));
        let tokens = ServiceAccountTokens::new(
            config.service_account_issuer.clone(),
            config.api_audiences.clone(),
            keys,
            Duration::from_secs(config.service_account_max_token_life),
        )?
        .extending(config.service_account_extend_token_expiration);
        Ok((Self { authorizer, guard, tokens: Arc::new(tokens), audit }, writer))
    }

    /// How bearer tokens name users.
    ///
    /// # Errors
    /// The token file cannot be used.
    pub fn authentication(&self, config: &AccessConfig) -> anyhow::Result<Authentication> {
        Ok(Authentication {
            tokens: read_tokens(config.token_auth_file.as_deref())?,
            service_accounts: Some(self.tokens.clone()),
            bootstrap_tokens: true,
            oidc: oidc(config)?.into_iter().collect(),
            anonymous: config.anonymous_auth,
        })
    }

    /// Makes the roles and bindings that every cluster has.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn ensure_policy(registry: &Registry) -> anyhow::Result<()> {
        Ok(registry.ensure_unordered(&policy::seeds()).await?)
    }
}

/// The audit log and who writes it, if there is to be one.
fn audit(
    config: &AccessConfig,
    data_dir: &Path,
) -> anyhow::Result<Option<(Arc<Audit>, AuditWriter)>> {
    if config.audit_log_max_size == 0 {
        return Ok(None);
    }
    let policy = match &config.audit_policy_file {
        None => Policy::standard(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("could not read {}", path.display()))?;
            Policy::parse(&text).with_context(|| format!("could not use {}", path.display()))?
        }
    };
    let path = config.audit_log_path.clone().unwrap_or_else(|| data_dir.join("audit.log"));
    let rotation = Rotation {
        max_size: config.audit_log_max_size.saturating_mul(1 << 20),
        max_files: config.audit_log_max_files,
    };
    let (file, writer) = AuditFile::open(&path, rotation)?;
    Ok(Some((Arc::new(Audit::new(policy, file)), writer)))
}

/// `claim=value`
fn claim(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or("must be claim=value")?;
    Ok((claim.to_owned(), value.to_owned()))
}

fn oidc(config: &AccessConfig) -> anyhow::Result<Option<OidcIssuer>> {
    let Some(issuer) = config.oidc_issuer_url.clone() else { return Ok(None) };
    let username_prefix = match config.oidc_username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) => prefix.to_owned(),
        None if config.oidc_username_claim == "email" => String::new(),
        None => format!("{issuer}#"),
    };
    let authorities =
        config.oidc_ca_file.as_deref().unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES));
    let ca_pem = std::fs::read(authorities)
        .with_context(|| format!("could not read {}", authorities.display()))?;
    let issuer = OidcIssuer::new(OidcConfig {
        issuer,
        audiences: config.oidc_client_id.iter().cloned().collect(),
        username_claim: config.oidc_username_claim.clone(),
        username_prefix,
        groups_claim: config.oidc_groups_claim.clone(),
        groups_prefix: config.oidc_groups_prefix.clone(),
        required_claims: config.oidc_required_claims.clone(),
        ca_pem,
    });
    issuer.map(Some).context("could not use the OpenID Connect issuer")
}

fn read_tokens(path: Option<&Path>) -> anyhow::Result<TokenFile> {
    let Some(path) = path else { return Ok(TokenFile::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the token file {}", path.display()))?;
    TokenFile::parse(&text)
        .with_context(|| format!("could not use the token file {}", path.display()))
}

/// The keys that sign and have signed tokens, the newest first. A new one is made when the newest
/// is too old. Files are named `service-account-<seconds>.key` after the time of their making.
pub(crate) fn token_keys(dir: &Path, now: Timestamp) -> anyhow::Result<Vec<TokenKey>> {
    let mut times: Vec<i64> = std::fs::read_dir(dir)
        .with_context(|| format!("could not list {}", dir.display()))?
        .filter_map(|it| it.ok()?.file_name().to_str().and_then(time_of))
        .collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    if !times.first().is_some_and(|time| is_young(*time, now)) {
        let time = now.as_second().max(0);
        let key = TokenKey::generate()?;
        crate::pki::write_private(&path_of(dir, time), &key)?;
        times.insert(0, time);
        tracing::info!("Made a key for tokens of service accounts");
    }
    times.truncate(MAX_KEYS);
    let read = |time: i64| {
        let path = path_of(dir, time);
        let bytes = std::fs::read(&path)
            .with_context(|| format!("could not read the key {}", path.display()))?;
        TokenKey::from_pkcs8(&bytes)
            .with_context(|| format!("could not use the key {}", path.display()))
    };
    times.into_iter().map(read).collect()
}

/// Whether a key that was made at `time` still signs.
pub(crate) fn is_young(time: i64, now: Timestamp) -> bool {
    let life = i64::try_from(KEY_LIFE.as_secs()).unwrap_or(i64::MAX);
    now.as_second().saturating_sub(time) < life
}

fn path_of(dir: &Path, time: i64) -> PathBuf {
    dir.join(key_name(time))
}

/// The name of a key that was made at this time.
pub(crate) fn key_name(time: i64) -> String {
    format!("service-account-{time}.key")
}

/// When a key of this name was made.
pub(crate) fn time_of(file_name: &str) -> Option<i64> {
    file_name.strip_prefix("service-account-")?.strip_suffix(".key")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_rotated_when_old_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let ids = |seconds| {
            let keys = token_keys(dir.path(), at(seconds)).unwrap();
            keys.iter().map(|it| it.id().to_owned()).collect::<Vec<_>>()
        };
        let first = ids(1_000_000_000);
        assert_eq!(first.len(), 1);
        assert_eq!(ids(1_000_000_100), first);
        let second = ids(1_040_000_000);
        assert_eq!(second.len(), 2);
        assert_eq!(second[1], first[0]);
    }
}
