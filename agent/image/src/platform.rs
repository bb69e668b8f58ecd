//! What a node can run, and which manifest of an index is meant for it.

use std::fmt;

/// Operating system and processor, in the words of the OCI image spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `riscv64` and so on.
    pub architecture: String,
    /// `v7` and the like, where the architecture has variants.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well something made for `os/architecture/variant` fits: lower is better, `None` not at all.
    pub(crate) fn fit(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u8> {
        if os != self.os || architecture != self.architecture {
            return None;
        }
        let number = |v: &str| v.strip_prefix('v').and_then(|n| n.parse::<u8>().ok());
        let default = match architecture {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let ours = self.variant.as_deref().and_then(number).unwrap_or(default);
        let theirs = match variant {
            None | Some("") => default,
            Some(v) => number(v)?,
        };
        // Older variants run on newer processors.
        ours.checked_sub(theirs)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_processors_run_older_variants_and_prefer_their_own() {
        let pi =
            Platform { os: "linux".into(), architecture: "arm".into(), variant: Some("v7".into()) };
        assert_eq!(pi.fit("linux", "arm", Some("v7")), Some(0));
        assert_eq!(pi.fit("linux", "arm", Some("v6")), Some(1));
        assert_eq!(pi.fit("linux", "arm", None), Some(0));
        assert_eq!(pi.fit("linux", "arm", Some("v8")), None);
        assert_eq!(pi.fit("linux", "arm64", None), None);
        assert_eq!(pi.fit("unknown", "unknown", None), None);
    }

    #[test]
    fn plain_amd64_does_not_get_a_newer_microarchitecture() {
        let pc = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        assert_eq!(pc.fit("linux", "amd64", None), Some(0));
        assert_eq!(pc.fit("linux", "amd64", Some("v3")), None);
    }
}
