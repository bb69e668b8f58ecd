//! What was asked for, as an OCI runtime specification.
//!
//! `build` is pure: the specification that comes out is everything that the container's init executes,
//! but for three things the OCI has no words for, which `Bundle` adds: the image's layers, users by
//! name, and sub-paths of mounts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder,
    Spec, SpecBuilder,
};

use crate::capability::{self, UnknownCapability};
use crate::types::{ContainerSpec, MountKind, Propagation, Seccomp, User};

/// Everything that a container's init needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) spec: Spec,
    /// Lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// Looked up inside the root, where the specification wants numbers.
    pub(crate) user: User,
    /// By position in the specification's mounts.
    pub(crate) sub_paths: BTreeMap<usize, PathBuf>,
    /// Bits of the bounding, permitted and effective set.
    pub(crate) capabilities: u64,
    pub(crate) seccomp: Seccomp,
    pub(crate) privileged: bool,
}

/// Why no specification can be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("could not find a command to run")]
    NoCommand,
    #[error("could not use {path:?} as a mount target: not an absolute path")]
    RelativeTarget { path: PathBuf },
    #[error("could not find resource limit {name:?}")]
    UnknownLimit { name: String },
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    #[error(transparent)]
    Spec(#[from] OciSpecError),
}

/// The sandbox's namespaces as far as they matter to a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// Lives in a process namespace that is not its own.
    pub(crate) pid: bool,
}

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
const MASKED_SYS: [&str; 1] = ["/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Builds the specification of a container whose root is mounted at `rootfs`.
pub(crate) fn build(
    wanted: &ContainerSpec,
    rootfs: PathBuf,
    cgroup: &str,
    shares: Shares,
) -> Result<Bundle, BuildError> {
    if wanted.args.first().is_none_or(String::is_empty) {
        return Err(BuildError::NoCommand);
    }
    let capabilities = capability::wanted(&wanted.capabilities, wanted.privileged)?;
    let (mounts, sub_paths) = mounts(wanted)?;
    let root = RootBuilder::default().path(rootfs).readonly(wanted.read_only_rootfs).build()?;

    let names: oci_spec::runtime::Capabilities =
        capability::to_spec(capabilities).into_iter().collect();
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(names.clone())
        .permitted(names.clone())
        .effective(names)
        .build()?;
    let process = ProcessBuilder::default()
        .terminal(wanted.tty)
        .args(wanted.args.clone())
        .env(wanted.env.clone())
        .cwd(if wanted.cwd.as_os_str().is_empty() {
            PathBuf::from("/")
        } else {
            wanted.cwd.clone()
        })
        .capabilities(sets)
        .no_new_privileges(wanted.no_new_privs)
        .oom_score_adj(wanted.oom_score_adj)
        .rlimits(rlimits(&wanted.rlimits)?)
        .build()?;

    let masked = !wanted.privileged && !wanted.unmasked_proc;
    let paths = |on: bool, paths: &[&str]| -> Vec<String> {
        paths.iter().filter(|_| on).map(|it| (*it).to_owned()).collect()
    };
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(shares)?)
        .cgroups_path(cgroup)
        .masked_paths([paths(masked, &MASKED), paths(masked, &MASKED_SYS)].concat())
        .readonly_paths(paths(masked, &READ_ONLY))
        .rootfs_propagation("private")
        .build()?;
    let spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .mounts(mounts)
        .process(process)
        .linux(linux)
        .build()?;
    Ok(Bundle {
        spec,
        layers: wanted.layers.clone(),
        user: wanted.user.clone(),
        sub_paths,
        capabilities,
        seccomp: if wanted.privileged { Seccomp::Unconfined } else { wanted.seccomp },
        privileged: wanted.privileged,
    })
}

/// The namespaces that a container makes for itself; it joins the others of its sandbox.
fn namespaces(shares: Shares) -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
    let mut own = vec![LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup];
    if !shares.pid {
        own.push(LinuxNamespaceType::Pid);
    }
    own.into_iter().map(|typ| LinuxNamespaceBuilder::default().typ(typ).build()).collect()
}

fn kernel_mount(target: &str, kind: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    let options: Vec<_> = options.iter().map(|it| (*it).to_owned()).collect();
    MountBuilder::default().destination(target).typ(kind).source(kind).options(options).build()
}

type Mounts = (Vec<Mount>, BTreeMap<usize, PathBuf>);

fn mounts(wanted: &ContainerSpec) -> Result<Mounts, BuildError> {
    let sys_access = if wanted.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        kernel_mount("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        kernel_mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        kernel_mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        kernel_mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        kernel_mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys_access])?,
        kernel_mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"])?,
    ];
    if !wanted.mounts.iter().any(|it| it.target == *"/dev/shm") {
        let options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
        mounts.push(kernel_mount("/dev/shm", "tmpfs", &options)?);
    }
    let mut sub_paths = BTreeMap::new();
    for mount in &wanted.mounts {
        if !mount.target.is_absolute() {
            return Err(BuildError::RelativeTarget { path: mount.target.clone() });
        }
        if let Some(sub_path) = &mount.sub_path {
            sub_paths.insert(mounts.len(), sub_path.clone());
        }
        mounts.push(asked_mount(mount)?);
    }
    for device in &wanted.devices {
        mounts.push(
            MountBuilder::default()
                .destination(device.target.clone())
                .typ("bind")
                .source(device.source.clone())
                .options(["rw", "rbind", "rprivate"].map(str::to_owned))
                .build()?,
        );
    }
    Ok((mounts, sub_paths))
}

fn asked_mount(mount: &crate::types::Mount) -> Result<Mount, OciSpecError> {
    let access = if mount.read_only { "ro" } else { "rw" };
    let mut options = vec![access.to_owned()];
    let (kind, source) = match mount.kind {
        MountKind::Bind => {
            let propagation = match mount.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            };
            options.extend(["rbind".to_owned(), propagation.to_owned()]);
            ("bind", mount.source.clone())
        }
        MountKind::Tmpfs { size } => {
            options.extend(["nosuid", "nodev", "mode=1777"].map(str::to_owned));
            options.extend(size.map(|it| format!("size={it}")));
            ("tmpfs", PathBuf::from("tmpfs"))
        }
    };
    MountBuilder::default()
        .destination(mount.target.clone())
        .typ(kind)
        .source(source)
        .options(options)
        .build()
}

fn rlimits(wanted: &BTreeMap<String, (u64, u64)>) -> Result<Vec<PosixRlimit>, BuildError> {
    wanted
        .iter()
        .map(|(name, (soft, hard))| {
            let full = format!("RLIMIT_{}", name.to_ascii_uppercase());
            let typ: PosixRlimitType = serde_json::from_value(full.into())
                .map_err(|_| BuildError::UnknownLimit { name: name.clone() })?;
            Ok(PosixRlimitBuilder::default().typ(typ).soft(*soft).hard(*hard).build()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ContainerId, SandboxId};

    fn wanted(args: &[&str]) -> ContainerSpec {
        ContainerSpec::new(
            ContainerId::new("c").unwrap(),
            SandboxId::new("s").unwrap(),
            vec![PathBuf::from("/layers/1")],
            args.iter().map(|it| (*it).to_owned()).collect(),
            PathBuf::from("/log"),
        )
    }

    fn built(wanted: &ContainerSpec) -> Result<Bundle, BuildError> {
        build(wanted, PathBuf::from("/rootfs"), "/outbye/c", Shares::default())
    }

    #[test]
    fn the_default_container_is_masked_and_limited() {
        let bundle = built(&wanted(&["/bin/true"])).unwrap();
        let linux = bundle.spec.linux().clone().unwrap();
        assert!(linux.masked_paths().as_ref().unwrap().contains(&"/proc/kcore".to_owned()));
        assert!(linux.readonly_paths().as_ref().unwrap().contains(&"/proc/sys".to_owned()));
        assert_eq!(bundle.seccomp, Seccomp::Default);
        assert_eq!(capability::names(bundle.capabilities).len(), 14);
    }

    #[test]
    fn a_privileged_container_is_neither() {
        let bundle = built(&ContainerSpec { privileged: true, ..wanted(&["/bin/true"]) }).unwrap();
        let linux = bundle.spec.linux().clone().unwrap();
        assert_eq!(linux.masked_paths().as_ref().unwrap(), &Vec::<String>::new());
        assert_eq!(bundle.seccomp, Seccomp::Unconfined);
        assert_eq!(capability::names(bundle.capabilities).len(), 41);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(built(&wanted(&[])), Err(BuildError::NoCommand)));
        let mut relative = wanted(&["x"]);
        relative.mounts.push(crate::types::Mount {
            source: PathBuf::from("/a"),
            target: PathBuf::from("b"),
            read_only: false,
            kind: MountKind::Bind,
            sub_path: None,
            propagation: Propagation::Private,
        });
        assert!(matches!(built(&relative), Err(BuildError::RelativeTarget { .. })));
        let mut limits = wanted(&["x"]);
        limits.rlimits.insert("nofiles".to_owned(), (1, 1));
        assert!(matches!(built(&limits), Err(BuildError::UnknownLimit { .. })));
    }
}
