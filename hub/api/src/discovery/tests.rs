//! The documents as clients get them, for rows enough to see every form.

use expect_test::{Expect, expect};

use super::*;
use crate::resources;

fn check(value: &Value, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

/// Rows enough to see every form, whatever else is served.
fn rows() -> Vec<Resource> {
    let wanted = [("", "configmaps"), ("", "namespaces"), ("apps", "deployments")];
    wanted.map(|(group, plural)| resources::find(group, "v1", plural).unwrap().clone()).to_vec()
}

#[test]
fn groups_are_listed_with_their_versions() {
    check(
        &api_group_list(&rows()),
        &expect![[r#"
        {
          "apiVersion": "v1",
          "groups": [
            {
              "name": "apps",
              "preferredVersion": {
                "groupVersion": "apps/v1",
                "version": "v1"
              },
              "versions": [
                {
                  "groupVersion": "apps/v1",
                  "version": "v1"
                }
              ]
            }
          ],
          "kind": "APIGroupList"
        }"#]],
    );
}

#[test]
fn a_group_is_described_alone() {
    check(
        &api_group("apps", &rows()).unwrap(),
        &expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "APIGroup",
          "name": "apps",
          "preferredVersion": {
            "groupVersion": "apps/v1",
            "version": "v1"
          },
          "versions": [
            {
              "groupVersion": "apps/v1",
              "version": "v1"
            }
          ]
        }"#]],
    );
    assert_eq!(api_group("batch", &rows()), None);
    assert_eq!(api_group("", &rows()), None);
}

#[test]
fn resources_are_listed_with_what_is_below_them() {
    check(
        &api_resource_list("apps", "v1", &rows()).unwrap(),
        &expect![[r#"
        {
          "apiVersion": "v1",
          "groupVersion": "apps/v1",
          "kind": "APIResourceList",
          "resources": [
            {
              "categories": [
                "all"
              ],
              "kind": "Deployment",
              "name": "deployments",
              "namespaced": true,
              "shortNames": [
                "deploy"
              ],
              "singularName": "deployment",
              "verbs": [
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
              ]
            },
            {
              "group": "autoscaling",
              "kind": "Scale",
              "name": "deployments/scale",
              "namespaced": true,
              "singularName": "",
              "verbs": [
                "get",
                "patch",
                "update"
              ],
              "version": "v1"
            },
            {
              "kind": "Deployment",
              "name": "deployments/status",
              "namespaced": true,
              "singularName": "",
              "verbs": [
                "get",
                "patch",
                "update"
              ]
            }
          ]
        }"#]],
    );
    assert_eq!(api_resource_list("apps", "v2", &rows()), None);
}

#[test]
fn the_core_group_has_no_name() {
    let rows = &rows()[..1];
    check(
        &api_resource_list("", "v1", rows).unwrap(),
        &expect![[r#"
        {
          "groupVersion": "v1",
          "kind": "APIResourceList",
          "resources": [
            {
              "kind": "ConfigMap",
              "name": "configmaps",
              "namespaced": true,
              "shortNames": [
                "cm"
              ],
              "singularName": "configmap",
              "verbs": [
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch"
              ]
            }
          ]
        }"#]],
    );
    check(
        &aggregated(Scope::Core, AggregatedVersion::V2, rows),
        &expect![[r#"
        {
          "apiVersion": "apidiscovery.k8s.io/v2",
          "items": [
            {
              "metadata": {},
              "versions": [
                {
                  "freshness": "Current",
                  "resources": [
                    {
                      "resource": "configmaps",
                      "responseKind": {
                        "group": "",
                        "kind": "ConfigMap",
                        "version": "v1"
                      },
                      "scope": "Namespaced",
                      "shortNames": [
                        "cm"
                      ],
                      "singularResource": "configmap",
                      "verbs": [
                        "create",
                        "delete",
                        "deletecollection",
                        "get",
                        "list",
                        "patch",
                        "update",
                        "watch"
                      ]
                    }
                  ],
                  "version": "v1"
                }
              ]
            }
          ],
          "kind": "APIGroupDiscoveryList",
          "metadata": {}
        }"#]],
    );
}

#[test]
fn the_aggregated_document_holds_all_other_groups() {
    check(
        &aggregated(Scope::Groups, AggregatedVersion::V2Beta1, &rows()),
        &expect![[r#"
        {
          "apiVersion": "apidiscovery.k8s.io/v2beta1",
          "items": [
            {
              "metadata": {
                "name": "apps"
              },
              "versions": [
                {
                  "freshness": "Current",
                  "resources": [
                    {
                      "categories": [
                        "all"
                      ],
                      "resource": "deployments",
                      "responseKind": {
                        "group": "apps",
                        "kind": "Deployment",
                        "version": "v1"
                      },
                      "scope": "Namespaced",
                      "shortNames": [
                        "deploy"
                      ],
                      "singularResource": "deployment",
                      "subresources": [
                        {
                          "responseKind": {
                            "group": "autoscaling",
                            "kind": "Scale",
                            "version": "v1"
                          },
                          "subresource": "scale",
                          "verbs": [
                            "get",
                            "patch",
                            "update"
                          ]
                        },
                        {
                          "responseKind": {
                            "group": "apps",
                            "kind": "Deployment",
                            "version": "v1"
                          },
                          "subresource": "status",
                          "verbs": [
                            "get",
                            "patch",
                            "update"
                          ]
                        }
                      ],
                      "verbs": [
                        "create",
                        "delete",
                        "deletecollection",
                        "get",
                        "list",
                        "patch",
                        "update",
                        "watch"
                      ]
                    }
                  ],
                  "version": "v1"
                }
              ]
            }
          ],
          "kind": "APIGroupDiscoveryList",
          "metadata": {}
        }"#]],
    );
}

#[test]
fn newer_and_more_stable_versions_come_first() {
    let row = resources::find("apps", "v1", "deployments").unwrap();
    let rows: Vec<Resource> = ["v1beta1", "foo", "v1alpha1", "v1", "v2beta1", "v10", "v2"]
        .into_iter()
        .map(|it| Resource { version: it.into(), ..row.clone() })
        .collect();
    let sorted = ["v10", "v2", "v1", "v2beta1", "v1beta1", "v1alpha1", "foo"];
    assert_eq!(versions("apps", &rows), sorted);
}
