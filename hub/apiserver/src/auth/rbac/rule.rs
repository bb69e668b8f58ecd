//! Rules: what they allow, and whether some cover another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::auth::Attributes;

/// One rule of a role.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
    /// Paths that are no resources, possibly with `*` at the end.
    pub urls: Vec<String>,
}

/// One verb on one thing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Right<'a> {
    Resource { verb: &'a str, group: &'a str, resource: &'a str, name: Option<&'a str> },
    Url { verb: &'a str, url: &'a str },
}

/// Rights that are compared for one request at most: the product of a rule's lists can be huge.
pub(super) const MAX_RIGHTS: usize = 100_000;

impl PolicyRule {
    /// Reads one `PolicyRule`.
    pub fn from_value(rule: &Value) -> Self {
        let list = |field: &str| {
            let list = rule.get(field).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// Reads the `rules` of a role.
    pub fn all_of(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
        rules.map(Self::from_value).collect()
    }

    /// The rule as it stands in a role.
    pub fn to_value(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (field, list) in [
            ("apiGroups", &self.groups),
            ("nonResourceURLs", &self.urls),
            ("resourceNames", &self.names),
            ("resources", &self.resources),
            ("verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                out.insert(field.to_owned(), json!(list));
            }
        }
        out.into()
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, it: &Attributes<'_>) -> bool {
        if !has(&self.verbs, it.verb) {
            return false;
        }
        if !it.is_resource() {
            return self.urls.iter().any(|url| url_covers(url, it.path));
        }
        has(&self.groups, it.group)
            && self.resources.iter().any(|own| resource_matches(own, it.resource, it.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == it.name))
    }

    /// How many rights the rule is.
    pub(super) fn n_rights(&self) -> usize {
        let named = self.names.len().max(1);
        let resources = [self.verbs.len(), self.groups.len(), self.resources.len(), named]
            .into_iter()
            .fold(1_usize, usize::saturating_mul);
        resources.saturating_add(self.verbs.len().saturating_mul(self.urls.len()))
    }

    /// The rights that the rule is.
    pub(super) fn rights(&self) -> impl Iterator<Item = Right<'_>> {
        let names: Vec<Option<&str>> = if self.names.is_empty() {
            vec![None]
        } else {
            self.names.iter().map(|it| Some(it.as_str())).collect()
        };
        let resources = self.groups.iter().flat_map(move |group| {
            let names = names.clone();
            self.resources.iter().flat_map(move |resource| {
                let names = names.clone();
                self.verbs.iter().flat_map(move |verb| {
                    let names = names.clone();
                    names.into_iter().map(move |name| Right::Resource {
                        verb,
                        group,
                        resource,
                        name,
                    })
                })
            })
        });
        let urls = self
            .urls
            .iter()
            .flat_map(|url| self.verbs.iter().map(move |verb| Right::Url { verb, url }));
        resources.chain(urls)
    }

    /// Whether who has this rule has that right.
    pub(super) fn covers(&self, right: &Right<'_>) -> bool {
        match right {
            Right::Resource { verb, group, resource, name } => {
                has(&self.verbs, verb)
                    && has(&self.groups, group)
                    && self.resources.iter().any(|own| resource_covers(own, resource))
                    && (self.names.is_empty()
                        || name.is_some_and(|name| self.names.iter().any(|it| it == name)))
            }
            Right::Url { verb, url } => {
                has(&self.verbs, verb) && self.urls.iter().any(|own| url_covers(own, url))
            }
        }
    }

    /// The rule in the words of Kubernetes' refusals.
    fn describe(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", go_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// Rights as lines: verbs on one thing stand together.
pub(super) fn describe(rights: &[Right<'_>]) -> Vec<String> {
    let mut rules: BTreeMap<Right<'_>, PolicyRule> = BTreeMap::new();
    let mut lines = Vec::new();
    for right in rights {
        let owned = |text: &str| vec![text.to_owned()];
        match *right {
            Right::Resource { verb, group, resource, name } => {
                let key = Right::Resource { verb: "", group, resource, name };
                let rule = rules.entry(key).or_insert_with(|| PolicyRule {
                    groups: owned(group),
                    resources: owned(resource),
                    names: name.map(str::to_owned).into_iter().collect(),
                    ..PolicyRule::default()
                });
                if !rule.verbs.iter().any(|it| it == verb) {
                    rule.verbs.push(verb.to_owned());
                }
            }
            Right::Url { verb, url } => lines.push(
                PolicyRule { verbs: owned(verb), urls: owned(url), ..PolicyRule::default() }
                    .describe(),
            ),
        }
    }
    lines.extend(rules.values().map(PolicyRule::describe));
    lines.sort();
    lines.dedup();
    lines
}

/// A list of texts as Go's `%q` shows it.
pub(super) fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|it| format!("{it:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|it| it == "*" || it == wanted)
}

fn resource_matches(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    if subresource.is_empty() {
        return own == resource;
    }
    match own.split_once('/') {
        Some((first, second)) => second == subresource && (first == "*" || first == resource),
        None => false,
    }
}

fn resource_covers(own: &str, wanted: &str) -> bool {
    if own == "*" || own == wanted {
        return true;
    }
    let (Some(own), Some((_, wanted))) = (own.strip_prefix("*/"), wanted.split_once('/')) else {
        return false;
    };
    own == wanted
}

/// Whether a path, or a pattern of paths, lies within a pattern.
fn url_covers(own: &str, wanted: &str) -> bool {
    own == "*"
        || own == wanted
        || own.strip_suffix('*').is_some_and(|_| wanted.starts_with(own.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> PolicyRule {
        let words = |text: &str| {
            text.split(' ')
                .filter(|it| !it.is_empty())
                .map(|it| if it == "core" { String::new() } else { it.to_owned() })
                .collect()
        };
        PolicyRule {
            verbs: words(verbs),
            groups: words(groups),
            resources: words(resources),
            names: words(names),
            urls: words(urls),
        }
    }

    #[test]
    fn rules_allow_what_they_name() {
        let user = User::default();
        for (rule, verb, group, what, name, allowed) in [
            (rule("get list", "core", "pods", "", ""), "get", "", "pods", "", true),
            (rule("get", "core", "pods", "", ""), "list", "", "pods", "", false),
            (rule("get", "core", "pods", "", ""), "get", "apps", "pods", "", false),
            (rule("get", "core", "pods", "", ""), "get", "", "pods/log", "", false),
            (rule("get", "core", "pods/log", "", ""), "get", "", "pods/log", "", true),
            (rule("get", "core", "pods/log", "", ""), "get", "", "pods", "", false),
            (rule("*", "*", "*/scale", "", ""), "get", "apps", "deployments/scale", "", true),
            (rule("*", "*", "*/scale", "", ""), "get", "apps", "deployments", "", false),
            (rule("*", "*", "*", "", ""), "delete", "x", "y/z", "n", true),
            (rule("get", "core", "pods", "a b", ""), "get", "", "pods", "b", true),
            (rule("get", "core", "pods", "a", ""), "get", "", "pods", "", false),
        ] {
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            let attributes = Attributes {
                group,
                resource,
                subresource,
                name,
                ..Attributes::of_user(&user, verb)
            };
            assert_eq!(rule.allows(&attributes), allowed, "{rule:?} {verb} {group} {what}");
        }
        for (urls, path, allowed) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/x", false),
            ("/healthz/*", "/healthz/x", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/x", true),
        ] {
            let attributes = Attributes::of_path(&user, "get", path);
            assert_eq!(rule("get", "", "", "", urls).allows(&attributes), allowed, "{urls} {path}");
        }
    }

    #[test]
    fn rights_that_are_missing_are_told_together() {
        let own = [rule("get", "core", "pods", "", ""), rule("*", "apps", "*/scale", "", "")];
        let wanted = [
            rule("get list watch", "core", "pods secrets", "", ""),
            rule("update", "apps", "deployments/scale", "", "/x/*"),
        ];
        let missing: Vec<Right<'_>> = wanted
            .iter()
            .flat_map(PolicyRule::rights)
            .filter(|it| !own.iter().any(|own| own.covers(it)))
            .collect();
        assert_eq!(
            describe(&missing),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}"#,
                r#"{NonResourceURLs:["/x/*"], Verbs:["update"]}"#,
            ]
        );
    }

    #[test]
    fn wide_rights_are_not_covered_by_narrow_ones() {
        let one = |rule: &PolicyRule, other: &PolicyRule| other.rights().all(|it| rule.covers(&it));
        for (own, wanted, covered) in [
            (rule("*", "*", "*", "", ""), rule("get", "core", "pods", "a", ""), true),
            (rule("get", "core", "pods", "a", ""), rule("get", "core", "pods", "", ""), false),
            (rule("get", "core", "pods", "", ""), rule("*", "core", "pods", "", ""), false),
            (rule("get", "core", "pods", "", ""), rule("get", "core", "*", "", ""), false),
            (rule("get", "", "", "", "/a*"), rule("get", "", "", "", "/ab*"), true),
            (rule("get", "", "", "", "/a"), rule("get", "", "", "", "/a*"), false),
        ] {
            assert_eq!(one(&own, &wanted), covered, "{own:?} {wanted:?}");
        }
    }
}
