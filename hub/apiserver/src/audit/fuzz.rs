//! Fuzz targets: the policy file.

use tests_fuzz::Target;

use super::Policy;

#[test]
fn audit_policies() {
    let seeds: &[&[u8]] = &[
        b"apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: [a]\n  verbs: [get]\n  resources:\n  - group: ''\n    resources: ['pods/log']\n- level: None\n  nonResourceURLs: ['/healthz*']\n",
        br#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"RequestResponse","namespaces":["a"],"userGroups":["g"],"omitManagedFields":true}]}"#,
    ];
    Target::new("audit-policies", seeds)
        .words(&["level", "None", "rules", "- ", ": ", "&a", "*a"])
        .runs(1000)
        .check(|input| Policy::parse(&String::from_utf8_lossy(input)).is_ok());
}
