//! Security contexts of pod and container as what the runtime must enforce.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// What confines a container's processes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Security {
    /// `user[:group]` as an image would say it: names or numbers; empty is root.
    pub user: String,
    pub groups: Vec<u32>,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub privileged: bool,
    pub read_only_rootfs: bool,
    pub no_new_privs: bool,
    pub seccomp_unconfined: bool,
}

/// The container may not run as it asks to. The text is what Kubernetes says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecurityError {
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsUser { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})"
    )]
    ImageRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is \
         non-root (pod: {pod:?}, container: {container})"
    )]
    ImageUser { user: String, pod: String, container: String },
}

/// The container's own words count before the pod's, and both before the image's.
///
/// # Errors
/// It must not be root, and is or may be.
pub fn security(
    pod_name: &str,
    spec: &PodSpec,
    container: &Container,
    image_user: &str,
) -> Result<Security, SecurityError> {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let run_as_user =
        own.and_then(|it| it.run_as_user).or_else(|| pod.and_then(|it| it.run_as_user));
    let run_as_group =
        own.and_then(|it| it.run_as_group).or_else(|| pod.and_then(|it| it.run_as_group));
    let non_root =
        own.and_then(|it| it.run_as_non_root).or_else(|| pod.and_then(|it| it.run_as_non_root));
    if non_root == Some(true) {
        must_not_be_root(pod_name, &container.name, run_as_user, image_user)?;
    }
    let image_name = image_user.split(':').next().unwrap_or_default();
    let user = match (run_as_user, run_as_group) {
        (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
        (Some(uid), None) => uid.to_string(),
        (None, Some(gid)) => {
            format!("{}:{gid}", if image_name.is_empty() { "0" } else { image_name })
        }
        (None, None) => image_user.to_owned(),
    };
    let groups = pod
        .into_iter()
        .flat_map(|it| it.supplemental_groups.iter().flatten().chain(&it.fs_group))
        .filter_map(|gid| u32::try_from(*gid).ok())
        .collect();
    let capabilities = own.and_then(|it| it.capabilities.as_ref());
    let privileged = own.and_then(|it| it.privileged).unwrap_or(false);
    let seccomp = own
        .and_then(|it| it.seccomp_profile.as_ref())
        .or_else(|| pod.and_then(|it| it.seccomp_profile.as_ref()));
    Ok(Security {
        user,
        groups,
        add_capabilities: capabilities.and_then(|it| it.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|it| it.drop.clone()).unwrap_or_default(),
        privileged,
        read_only_rootfs: own.and_then(|it| it.read_only_root_filesystem).unwrap_or(false),
        no_new_privs: own.and_then(|it| it.allow_privilege_escalation) == Some(false),
        // Confined unless asked otherwise.
        seccomp_unconfined: privileged || seccomp.is_some_and(|it| it.type_ == "Unconfined"),
    })
}

fn must_not_be_root(
    pod: &str,
    container: &str,
    run_as_user: Option<i64>,
    image_user: &str,
) -> Result<(), SecurityError> {
    let (pod, container) = (pod.to_owned(), container.to_owned());
    match run_as_user {
        Some(0) => return Err(SecurityError::RunAsUser { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or_default();
    match name.parse::<u32>() {
        Ok(0) => Err(SecurityError::ImageRoot { pod, container }),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() => Err(SecurityError::ImageRoot { pod, container }),
        Err(_) => Err(SecurityError::ImageUser { user: name.to_owned(), pod, container }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(
        pod: serde_json::Value,
        own: serde_json::Value,
        image: &str,
    ) -> Result<String, String> {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "c", "securityContext": own}], "securityContext": pod}))
        .unwrap();
        security("p", &spec, &spec.containers[0], image)
            .map(|it| it.user)
            .map_err(|err| err.to_string())
    }

    #[test]
    fn the_nearest_user_counts() {
        let ok = |it: &str| Ok(it.to_owned());
        assert_eq!(check(json!({}), json!({}), "www-data"), ok("www-data"));
        assert_eq!(check(json!({"runAsUser": 5}), json!({}), "www-data"), ok("5"));
        assert_eq!(
            check(json!({"runAsUser": 5, "runAsGroup": 6}), json!({"runAsUser": 7}), ""),
            ok("7:6")
        );
        assert_eq!(check(json!({"runAsGroup": 6}), json!({}), "www:www"), ok("www:6"));
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let non_root = json!({"runAsNonRoot": true});
        assert_eq!(check(non_root.clone(), json!({}), "101:101"), Ok("101:101".to_owned()));
        for (own, image, want) in [
            (json!({}), "", "image will run as root"),
            (json!({}), "0", "image will run as root"),
            (json!({}), "nginx", "non-numeric user (nginx)"),
            (json!({"runAsUser": 0}), "101", "breaks non-root policy"),
        ] {
            let error = check(non_root.clone(), own, image).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
