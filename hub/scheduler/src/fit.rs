//! Filters: why a pod cannot go to a node, and the words in which the user is told.

use std::collections::BTreeMap;

use crate::needs::{Choice, Needs};
use crate::node::Node;
use crate::toleration::{Toleration, untolerated};

/// Why a node does not take a pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Misfit {
    Affinity,
    /// A name, and whether an empty node would have enough.
    Insufficient {
        resource: String,
        would_fit: bool,
    },
    Ports,
    Taint {
        key: String,
        value: String,
    },
    TooManyPods,
    Unschedulable,
}

impl Misfit {
    fn text(&self) -> String {
        match self {
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Insufficient { resource, .. } => format!("Insufficient {resource}"),
            Self::Ports => "node(s) didn't have free ports for the requested pod ports".to_owned(),
            Self::Taint { key, value } => {
                format!("node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::TooManyPods => "Too many pods".to_owned(),
            Self::Unschedulable => "node(s) were unschedulable".to_owned(),
        }
    }

    /// Whether it would help if other pods left the node.
    fn is_resolvable(&self) -> bool {
        match self {
            Self::Insufficient { would_fit, .. } => *would_fit,
            Self::Ports | Self::TooManyPods => true,
            Self::Affinity | Self::Taint { .. } | Self::Unschedulable => false,
        }
    }
}

/// Whether the node takes pods of this choice at all, whatever is on it.
pub(crate) fn admits(choice: &Choice, node: &Node) -> bool {
    !is_closed(choice, node)
        && untolerated(&choice.tolerations, &node.taints).is_none()
        && choice.affinity.admits(node)
}

/// Whether there is space for the pod beside what is on the node.
pub(crate) fn has_space(needs: &Needs, node: &Node) -> bool {
    has_room(needs, node) && has_ports(needs, node)
}

/// Everything that speaks against the node, from the first filter that says no.
pub(crate) fn misfits(needs: &Needs, node: &Node) -> Vec<Misfit> {
    let choice = &needs.choice;
    if is_closed(choice, node) {
        return vec![Misfit::Unschedulable];
    }
    if let Some(taint) = untolerated(&choice.tolerations, &node.taints) {
        return vec![Misfit::Taint { key: taint.key.clone(), value: taint.value.clone() }];
    }
    if !choice.affinity.admits(node) {
        return vec![Misfit::Affinity];
    }
    if !has_ports(needs, node) {
        return vec![Misfit::Ports];
    }
    lacking(needs, node)
}

/// Cordoned, and the pod does not mind only if it tolerates the taint that stands for it.
fn is_closed(choice: &Choice, node: &Node) -> bool {
    let taint = || crate::toleration::Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    };
    let tolerates = |it: &Toleration| it.covers(&taint());
    node.is_unschedulable && !choice.tolerations.iter().any(tolerates)
}

fn has_ports(needs: &Needs, node: &Node) -> bool {
    needs
        .host_ports
        .iter()
        .all(|port| !node.used.host_ports.iter().any(|taken| taken.conflicts_with(port)))
}

fn has_room(needs: &Needs, node: &Node) -> bool {
    let (wanted, used, offered) = (&needs.request.amounts, &node.used.amounts, &node.allocatable);
    let is_enough = |wanted: i64, used: i64, offered: i64| wanted == 0 || wanted <= offered - used;
    node.used.n_pods < node.max_pods
        && is_enough(wanted.milli_cpu, used.milli_cpu, offered.milli_cpu)
        && is_enough(wanted.memory, used.memory, offered.memory)
        && is_enough(wanted.ephemeral, used.ephemeral, offered.ephemeral)
        && wanted.extended.iter().all(|(name, wanted)| {
            let amount = |of: &BTreeMap<String, i64>| of.get(name).copied().unwrap_or_default();
            is_enough(*wanted, amount(&used.extended), amount(&offered.extended))
        })
}

fn lacking(needs: &Needs, node: &Node) -> Vec<Misfit> {
    let (wanted, used, offered) = (&needs.request.amounts, &node.used.amounts, &node.allocatable);
    let mut misfits = Vec::new();
    if node.used.n_pods >= node.max_pods {
        misfits.push(Misfit::TooManyPods);
    }
    let amount = |of: &BTreeMap<String, i64>, name: &String| of.get(name).copied().unwrap_or(0);
    let plain = [
        ("cpu", wanted.milli_cpu, used.milli_cpu, offered.milli_cpu),
        ("memory", wanted.memory, used.memory, offered.memory),
        ("ephemeral-storage", wanted.ephemeral, used.ephemeral, offered.ephemeral),
    ];
    let extended = wanted.extended.iter().map(|(name, wanted)| {
        let (used, offered) = (amount(&used.extended, name), amount(&offered.extended, name));
        (name.as_str(), *wanted, used, offered)
    });
    for (resource, wanted, used, offered) in plain.into_iter().chain(extended) {
        if wanted != 0 && wanted > offered - used {
            let would_fit = wanted <= offered;
            misfits.push(Misfit::Insufficient { resource: resource.to_owned(), would_fit });
        }
    }
    misfits
}

/// Kubernetes' words for a pod that fits on none of these nodes.
pub(crate) fn explain<'a>(needs: &Needs, nodes: impl Iterator<Item = &'a Node>) -> String {
    let mut n_nodes = 0_usize;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut n_hopeless, mut n_resolvable) = (0_usize, 0_usize);
    for node in nodes {
        n_nodes += 1;
        let misfits = misfits(needs, node);
        match misfits.iter().all(Misfit::is_resolvable) {
            true => n_resolvable += 1,
            false => n_hopeless += 1,
        }
        for misfit in misfits {
            *counts.entry(misfit.text()).or_default() += 1;
        }
    }
    if n_nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let reasons = sentence(counts.into_iter().map(|(text, count)| (count, text)).collect());
    let preemption = sentence(vec![
        (n_resolvable, "No preemption victims found for incoming pod".to_owned()),
        (n_hopeless, "Preemption is not helpful for scheduling".to_owned()),
    ]);
    format!(
        "0/{n_nodes} nodes are available: {reasons}. \
         preemption: 0/{n_nodes} nodes are available: {preemption}."
    )
}

fn sentence(counts: Vec<(usize, String)>) -> String {
    let counted = counts.into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = counted.map(|(count, text)| format!("{count} {text}")).collect();
    parts.sort();
    parts.join(", ")
}
