//! Fills Secrets of type `kubernetes.io/service-account-token`: their token does not expire, and is
//! good while the Secret holds it. A Secret whose account is gone goes as well.
//! <https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets>

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_api::{
    DeleteOptions, Resource, Status, object, selector::FieldSelector, write::Preconditions,
};
use hub_apiserver::{
    Registry, Selection, WatchEvent, WatchOptions, WriteOptions,
    auth::{ServiceAccountTokens, User},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// Before all is looked at again after storage refused.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// What fills Secrets.
pub(crate) struct LegacyTokens {
    pub(crate) registry: Registry,
    pub(crate) tokens: Arc<ServiceAccountTokens>,
    pub(crate) ca_pem: String,
}

impl LegacyTokens {
    /// Works until `shutdown` fires.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let row = |plural| hub_api::resources::find("", "v1", plural);
        let (Some(secrets), Some(accounts)) = (row("secrets"), row("serviceaccounts")) else {
            return;
        };
        let work = async {
            loop {
                let err = self.follow(secrets, accounts).await;
                tracing::debug!(error = %err, "Looking at all token secrets again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        // Stopping between two writes leaves nothing behind: the next start looks at all again.
        let _stopped: Option<()> = shutdown.run_until_cancelled(work).await;
    }

    async fn follow(&self, secrets: &'static Resource, accounts: &'static Resource) -> Status {
        let watches = FieldSelector::parse(&format!("type={TYPE}"), secrets).and_then(|fields| {
            let selection = Selection { fields, ..Selection::default() };
            let options =
                WatchOptions { selection, initial_events: Some(true), ..WatchOptions::default() };
            let of_secrets = self.registry.watch(secrets, None, &options)?;
            Ok((of_secrets, self.registry.watch(accounts, None, &WatchOptions::default())?))
        });
        let (mut of_secrets, mut of_accounts) = match watches {
            Ok(watches) => watches,
            Err(err) => return err,
        };
        loop {
            // Both arms are cancel-safe: an event is returned or still to come.
            let result = tokio::select! {
                event = of_secrets.next() => match event {
                    Ok(WatchEvent::Added(entry) | WatchEvent::Modified(entry)) => {
                        self.look_at(secrets, accounts, &entry.value()).await
                    }
                    Ok(WatchEvent::Deleted { .. } | WatchEvent::InitialEventsEnd(_)) => Ok(()),
                    Err(err) => return err,
                },
                event = of_accounts.next() => match event {
                    Ok(WatchEvent::Deleted { last, .. }) => {
                        self.drop_secrets_of(secrets, &last.value()).await
                    }
                    Ok(_) => Ok(()),
                    Err(err) => return err,
                },
            };
            match result {
                Ok(()) => {}
                // Gone or changed meanwhile: its next event says so.
                Err(status) if status.code < 500 => {
                    tracing::debug!(error = %status, "Could not fill a token secret");
                }
                Err(status) => return status,
            }
        }
    }

    async fn look_at(
        &self,
        secrets: &Resource,
        accounts: &Resource,
        secret: &Value,
    ) -> Result<(), Status> {
        let account_name = object::annotation(secret, NAME).unwrap_or_default();
        let namespace = object::namespace(secret);
        if account_name.is_empty() || object::is_terminating(secret) {
            return Ok(());
        }
        let account = self.registry.get(accounts, Some(namespace), account_name).ok();
        let account = account.map(|it| it.value());
        let wanted_uid = object::annotation(secret, UID);
        let fits = |it: &Value| wanted_uid.is_none_or(|uid| uid == object::uid(it));
        let Some(account) = account.filter(|it| fits(it)) else {
            return self.delete(secrets, secret).await;
        };
        let has = |key: &str| secret["data"][key].as_str().is_some_and(|it| !it.is_empty());
        let ca = STANDARD.encode(&self.ca_pem);
        if has("token")
            && has("namespace")
            && secret["data"]["ca.crt"] == ca
            && wanted_uid.is_some()
        {
            return Ok(());
        }
        let token = self.tokens.legacy(namespace, object::name(secret), &account)?;
        let change = |current: &Value, _: &Value| {
            let mut next = current.clone();
            let data = object::ensure(&mut next, "data");
            data.insert("ca.crt".to_owned(), json!(ca));
            data.insert("namespace".to_owned(), json!(STANDARD.encode(namespace)));
            data.entry("token").or_insert_with(|| json!(STANDARD.encode(&token)));
            next["metadata"]["annotations"][UID] = json!(object::uid(&account));
            Ok(next)
        };
        let options = WriteOptions {
            user: Arc::new(User::named("system:serviceaccount:kube-system:tokens-controller")),
            field_manager: "tokens-controller".to_owned(),
            ..WriteOptions::default()
        };
        self.registry
            .modify(secrets, Some(namespace), object::name(secret), None, &options, change)
            .await
            .map(drop)
    }

    async fn drop_secrets_of(&self, secrets: &Resource, account: &Value) -> Result<(), Status> {
        let namespace = object::namespace(account);
        let list = self.registry.list(secrets, Some(namespace), &Default::default())?;
        for entry in list.entries {
            let secret = &*entry.value();
            let is_its = object::text(secret, "type") == TYPE
                && object::annotation(secret, NAME) == Some(object::name(account))
                && object::annotation(secret, UID).is_none_or(|uid| uid == object::uid(account));
            if is_its {
                self.delete(secrets, secret).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, secrets: &Resource, secret: &Value) -> Result<(), Status> {
        let uid = object::uid(secret).to_owned();
        let options = DeleteOptions {
            preconditions: Preconditions { uid: Some(uid), ..Preconditions::default() },
            ..DeleteOptions::default()
        };
        let namespace = Some(object::namespace(secret));
        self.registry.delete(secrets, namespace, object::name(secret), &options).await.map(drop)
    }
}
