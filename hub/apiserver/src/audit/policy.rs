//! `audit.k8s.io/v1` `Policy`: the first rule that matches a request says how much is told of it.

use serde::Deserialize;

use crate::auth::Attributes;

/// How much is told.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when, how it ended.
    Metadata,
    /// And the body of the request.
    Request,
    /// And the body of the answer.
    RequestResponse,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A point in a request's life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// Says how much is told of which request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "files have it, and it means nothing")]
    metadata: Option<serde_json::Value>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    #[expect(dead_code, reason = "managed fields are small here")]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    #[expect(dead_code, reason = "managed fields are small here")]
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML of a policy.
    #[error("could not read the audit policy")]
    Malformed(#[source] Box<serde_saphyr::Error>),
    /// Of another kind.
    #[error("could not use the audit policy: it must be a Policy of audit.k8s.io/v1")]
    Kind,
    /// A rule is about resources and about paths.
    #[error("could not use rule {rule} of the audit policy: it names resources and paths")]
    Mixed { rule: usize },
    /// A policy without rules says nothing.
    #[error("could not use the audit policy: it has no rules")]
    Empty,
}

impl Policy {
    /// Reads a policy file: YAML or JSON.
    ///
    /// # Errors
    /// It is no policy.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|err| PolicyError::Malformed(Box::new(err)))?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(PolicyError::Kind);
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let is_mixed = |it: &Rule| {
            !it.non_resource_urls.is_empty()
                && (!it.resources.is_empty() || !it.namespaces.is_empty())
        };
        match policy.rules.iter().position(is_mixed) {
            Some(rule) => Err(PolicyError::Mixed { rule }),
            None => Ok(policy),
        }
    }

    /// What is told where nothing else is said: every change, and every reading of Secrets.
    pub fn standard() -> Self {
        let words = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let secrets = Resources { resources: words(&["secrets"]), ..Resources::default() };
        let changes = ["create", "update", "patch", "delete", "deletecollection"];
        // Before anything is known of a request, its verb is the method.
        let methods = ["post", "put"];
        Self {
            api_version: "audit.k8s.io/v1".to_owned(),
            kind: "Policy".to_owned(),
            metadata: None,
            rules: vec![
                Rule { level: Level::Metadata, resources: vec![secrets], ..Rule::default() },
                Rule {
                    level: Level::Metadata,
                    verbs: words(&changes).into_iter().chain(words(&methods)).collect(),
                    ..Rule::default()
                },
            ],
            omit_stages: vec![Stage::RequestReceived],
            omit_managed_fields: true,
        }
    }

    /// How much is told of a request, and which stages are not.
    pub(super) fn level(&self, attributes: &Attributes<'_>) -> (Level, Vec<Stage>) {
        let Some(rule) = self.rules.iter().find(|it| it.matches(attributes)) else {
            return (Level::None, Vec::new());
        };
        (rule.level, self.omit_stages.iter().chain(&rule.omit_stages).copied().collect())
    }
}

impl Rule {
    fn matches(&self, it: &Attributes<'_>) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|it| it == text);
        if !self.users.is_empty() && !has(&self.users, &it.user.name) {
            return false;
        }
        let in_group = |group: &String| it.user.is_in(group);
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, it.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return it.is_resource()
                && (self.namespaces.is_empty() || has(&self.namespaces, it.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|own| own.has(it)));
        }
        self.non_resource_urls.is_empty()
            || (!it.is_resource() && self.non_resource_urls.iter().any(|own| path(own, it.path)))
    }
}

impl Resources {
    fn has(&self, it: &Attributes<'_>) -> bool {
        if self.group != it.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let whole = if it.subresource.is_empty() {
            it.resource.to_owned()
        } else {
            format!("{}/{}", it.resource, it.subresource)
        };
        let is_meant = |own: &String| match own.split_once('/') {
            _ if own == "*" || *own == whole => true,
            Some(("*", sub)) => !sub.is_empty() && sub == it.subresource,
            Some((resource, "*")) => resource == it.resource && !it.subresource.is_empty(),
            Some(_) | None => false,
        };
        let named = self.resource_names.is_empty()
            || self.resource_names.iter().any(|name| name == it.name);
        named && self.resources.iter().any(is_meant)
    }
}

fn path(own: &str, path: &str) -> bool {
    own == path || own.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: ["RequestReceived"]
rules:
- level: None
  users: ["system:kube-proxy"]
- level: RequestResponse
  resources: [{group: "", resources: ["pods"]}]
- level: Request
  namespaces: ["kube-system"]
  resources: [{group: "", resources: ["configmaps", "pods/*"]}]
- level: None
  userGroups: ["quiet"]
  nonResourceURLs: ["/api*", "/version"]
- level: Metadata
  omitStages: ["ResponseStarted"]
"#;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = Policy::parse(POLICY).unwrap();
        let jane = User { groups: vec!["quiet".to_owned()], ..User::named("jane") };
        let proxy = User::named("system:kube-proxy");
        let of = |user, namespace, what: &'static str| {
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            Attributes { namespace, resource, subresource, ..Attributes::of_user(user, "get") }
        };
        for (attributes, level) in [
            (of(&proxy, "", "pods"), Level::None),
            (of(&jane, "a", "pods"), Level::RequestResponse),
            (of(&jane, "a", "pods/log"), Level::Metadata),
            (of(&jane, "kube-system", "pods/log"), Level::Request),
            (of(&jane, "kube-system", "configmaps"), Level::Request),
            (of(&jane, "a", "configmaps"), Level::Metadata),
            (Attributes::of_path(&jane, "get", "/apis"), Level::None),
            (Attributes::of_path(&jane, "get", "/healthz"), Level::Metadata),
        ] {
            assert_eq!(policy.level(&attributes).0, level, "{attributes:?}");
        }
    }

    #[test]
    fn bad_policies_are_refused() {
        for text in [
            "kind: Policy",
            "apiVersion: v1\nkind: Policy\nrules: [{level: None}]",
            "apiVersion: audit.k8s.io/v1\nkind: Policy",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Some}]",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, verb: [get]}]",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/a]}]",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_standard_tells_changes_and_readings_of_secrets() {
        let user = User::default();
        let of = |verb, resource| Attributes { resource, ..Attributes::of_user(&user, verb) };
        for (attributes, level) in [
            (of("get", "secrets"), Level::Metadata),
            (of("get", "pods"), Level::None),
            (of("patch", "pods"), Level::Metadata),
            (Attributes::of_path(&user, "get", "/api"), Level::None),
        ] {
            assert_eq!(Policy::standard().level(&attributes).0, level, "{attributes:?}");
        }
    }
}
