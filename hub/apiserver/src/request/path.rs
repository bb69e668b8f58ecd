//! Paths: `/api/v1/...`, `/apis/<group>/<version>/...` and the handful beside them.

use super::query::decode;

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// `/`
    Root,
    /// `/healthz`, `/livez`, `/readyz`, with a check behind it or not.
    Health {
        endpoint: String,
        check: Option<String>,
    },
    Version,
    Metrics,
    /// `/api`
    ApiVersions,
    /// `/apis`
    ApiGroups,
    /// `/apis/<group>`
    ApiGroup {
        group: String,
    },
    /// `/api/v1`, `/apis/<group>/<version>`
    ApiResources {
        group: String,
        version: String,
    },
    /// `/.well-known/openid-configuration`
    OpenidConfiguration,
    /// `/openid/v1/jwks`
    OpenidKeys,
    OpenapiV2,
    OpenapiV3,
    /// `/openapi/v3/<api/v1 | apis/group/version>`
    OpenapiV3Document {
        group: String,
        version: String,
    },
    Resource(ResourcePath),
    Unknown,
}

/// The path of a resource.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// Whether it is below `/watch/`, as clients asked before there was a parameter for it.
    pub(crate) is_watch: bool,
    /// Whether more comes behind the subresource, which only other servers know.
    pub(crate) is_deep: bool,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Self {
        let segments: Vec<String> =
            path.split('/').filter(|it| !it.is_empty()).map(|it| decode(it, false)).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [] => Self::Root,
            [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
                let check = (!check.is_empty()).then(|| check.join("/"));
                Self::Health { endpoint: (*endpoint).to_owned(), check }
            }
            ["version"] => Self::Version,
            ["metrics"] => Self::Metrics,
            [".well-known", "openid-configuration"] => Self::OpenidConfiguration,
            ["openid", "v1", "jwks"] => Self::OpenidKeys,
            ["openapi", "v2"] => Self::OpenapiV2,
            ["openapi", "v3"] => Self::OpenapiV3,
            ["openapi", "v3", "api", version] => {
                Self::OpenapiV3Document { group: String::new(), version: (*version).to_owned() }
            }
            ["openapi", "v3", "apis", group, version] => Self::OpenapiV3Document {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
            },
            ["api"] => Self::ApiVersions,
            ["apis"] => Self::ApiGroups,
            ["apis", group] => Self::ApiGroup { group: (*group).to_owned() },
            ["api", version] => {
                Self::ApiResources { group: String::new(), version: (*version).to_owned() }
            }
            ["apis", group, version] => {
                Self::ApiResources { group: (*group).to_owned(), version: (*version).to_owned() }
            }
            ["api", version, rest @ ..] => ResourcePath::parse("", version, rest),
            ["apis", group, version, rest @ ..] => ResourcePath::parse(group, version, rest),
            _ => Self::Unknown,
        }
    }
}

impl Route {
    /// The group and version of a document that another server may have.
    pub(crate) fn served_by_others(&self) -> Option<(&str, &str)> {
        let (Self::ApiResources { group, version } | Self::OpenapiV3Document { group, version }) =
            self
        else {
            return None;
        };
        (!group.is_empty()).then_some((group, version))
    }
}

impl ResourcePath {
    fn parse(group: &str, version: &str, rest: &[&str]) -> Route {
        let (is_watch, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            _ => (false, rest),
        };
        // A namespace is an object as well as a place: `namespaces/x/status` is about itself.
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            // Behind `proxy` comes a path of whatever answers there.
            [plural, name, subresource, ..] => (*plural, Some(*name), Some(*subresource)),
            [] => return Route::Unknown,
        };
        let is_deep = rest.len() > 3 && subresource != Some("proxy");
        Route::Resource(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            plural: plural.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            is_watch,
            is_deep,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        for (path, group, namespace, plural, name, subresource) in [
            ("/api/v1/pods", "", None, "pods", None, None),
            ("/api/v1/namespaces", "", None, "namespaces", None, None),
            ("/api/v1/namespaces/a", "", None, "namespaces", Some("a"), None),
            ("/api/v1/namespaces/a/status", "", None, "namespaces", Some("a"), Some("status")),
            ("/api/v1/namespaces/a/pods/", "", Some("a"), "pods", None, None),
            ("/api/v1/nodes/n/proxy/logs/x", "", None, "nodes", Some("n"), Some("proxy")),
            ("/api/v1/namespaces/a/pods/p/log", "", Some("a"), "pods", Some("p"), Some("log")),
            (
                "/apis/apps/v1/namespaces/a/deployments/d%2De",
                "apps",
                Some("a"),
                "deployments",
                Some("d-e"),
                None,
            ),
        ] {
            let Route::Resource(it) = Route::parse(path) else { panic!("{path}") };
            let got = (
                it.group.as_str(),
                it.namespace.as_deref(),
                it.plural.as_str(),
                it.name.as_deref(),
                it.subresource.as_deref(),
            );
            assert_eq!(got, (group, namespace, plural, name, subresource), "{path}");
        }
    }

    #[test]
    fn other_paths_are_known() {
        for (path, route) in [
            ("/", Route::Root),
            ("/version/", Route::Version),
            (
                "/readyz/storage",
                Route::Health { endpoint: "readyz".into(), check: Some("storage".into()) },
            ),
            ("/apis/apps/v1", Route::ApiResources { group: "apps".into(), version: "v1".into() }),
            (
                "/openapi/v3/api/v1",
                Route::OpenapiV3Document { group: String::new(), version: "v1".into() },
            ),
            ("/nope", Route::Unknown),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
        for (path, is_watch) in [
            ("/api/v1/watch/pods", true),
            ("/apis/apps/v1/watch/namespaces/a/deployments/d", true),
            ("/api/v1/watch", false),
            ("/api/v1/pods", false),
        ] {
            let Route::Resource(it) = Route::parse(path) else { panic!("{path}: no resource") };
            assert_eq!((it.is_watch, it.plural == "watch"), (is_watch, path.ends_with("watch")));
        }
        // Another server may know what is there.
        let deep = Route::parse("/apis/g/v1/a/b/c/d/e");
        assert!(matches!(deep, Route::Resource(it) if it.is_deep));
    }
}
