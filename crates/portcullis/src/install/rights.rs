//! The roles of the manifests, held against what the parts of the controller say that they need.

use super::manifests::{self, NAMESPACE, Settings};
use portcullis_api::{EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP};
use portcullis_cluster::Right;
use portcullis_controller::{control_plane, events, identity, infrastructure};
use serde_json::Value;
use std::collections::BTreeSet;

/// Group, resource, object, and verb.
type Granted = BTreeSet<(String, String, String, String)>;

/// What the role of a kind grants.
fn granted(kind: &str) -> Granted {
    let settings = Settings::new(NAMESPACE, None, None).unwrap();
    let objects = manifests::objects(&settings);
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut granted = Granted::new();
    for role in objects.iter().filter(|object| object["kind"] == kind) {
        for rule in role["rules"].as_array().unwrap() {
            let mut names = texts(rule, "resourceNames");
            if names.is_empty() {
                names.push(String::new());
            }
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for name in &names {
                        for verb in texts(rule, "verbs") {
                            assert!(![&group, &resource, &verb].iter().any(|text| text.contains('*')));
                            let one = (group.clone(), resource.clone(), name.clone(), verb);
                            assert!(granted.insert(one.clone()), "granted twice: {one:?}");
                        }
                    }
                }
            }
        }
    }
    granted
}

fn add(needed: &mut Granted, group: &str, resource: &str, name: &str, verbs: &[&str]) {
    for verb in verbs {
        needed.insert((group.to_owned(), resource.to_owned(), name.to_owned(), (*verb).to_owned()));
    }
}

#[test]
fn the_cluster_role_grants_what_is_needed_and_nothing_else() {
    let mut needed = Granted::new();
    let tables: [&[Right]; 4] = [portcullis_cluster::RIGHTS, identity::RIGHTS, infrastructure::RIGHTS, events::RIGHTS];
    for right in tables.into_iter().flatten() {
        add(&mut needed, right.group, right.resource, "", right.verbs);
    }
    // A status is read with its object when it has changed, and written alone.
    for right in portcullis_cluster::RIGHTS {
        if [GATEWAY_GROUP, EXPERIMENTAL_GATEWAY_GROUP].contains(&right.group) && right.resource != "referencegrants" {
            add(&mut needed, right.group, right.resource, "", &["get"]);
            add(&mut needed, right.group, &format!("{}/status", right.resource), "", &["update"]);
        }
    }
    let granted = granted("ClusterRole");
    let difference = |one: &Granted, other: &Granted| one.difference(other).cloned().collect::<Vec<_>>();
    assert!(difference(&needed, &granted).is_empty(), "missing: {:#?}", difference(&needed, &granted));
    assert!(difference(&granted, &needed).is_empty(), "not needed: {:#?}", difference(&granted, &needed));
}

/// Where only some namespaces are watched. The manifests have no such Roles: it is what the chart's template has.
#[test]
fn fewer_namespaces_take_these_rights_to_what_controls_the_cluster() {
    const RIGHTS: &str = include_str!("../../../../charts/portcullis/templates/_rights.tpl");
    for (name, object, needed) in [
        ("apiServer", "kubernetes", control_plane::API_SERVER_RIGHTS),
        ("ownService", "portcullis-controller", control_plane::OWN_RIGHTS),
    ] {
        let (_, text) = RIGHTS.split_once(&format!("define \"portcullis.rights.{name}\" -}}}}")).unwrap();
        let (text, _) = text.split_once("{{- end }}").unwrap();
        let rules: Vec<Value> = serde_saphyr::from_str(text).unwrap();
        let one = |rule: &Value, field: &str| match rule[field].as_array().unwrap().as_slice() {
            [text] => text.as_str().unwrap().to_owned(),
            more => panic!("{field}: {more:?}"),
        };
        let mut granted = Granted::new();
        for rule in &rules {
            let object = rule.get("resourceNames").map(|_| one(rule, "resourceNames")).unwrap_or_default();
            add(&mut granted, &one(rule, "apiGroups"), &one(rule, "resources"), &object, &[&one(rule, "verbs")]);
        }
        let mut expected = Granted::new();
        for (group, resource, verb) in needed {
            // A list by labels cannot be confined to names.
            add(&mut expected, group, resource, if *verb == "list" { "" } else { object }, &[verb]);
        }
        assert_eq!(granted, expected, "{name}");
    }
}

#[test]
fn the_role_of_the_own_namespace_is_about_the_lease_and_the_authority() {
    let mut needed = Granted::new();
    let secret = identity::authority::SECRET_NAME;
    add(&mut needed, "", "secrets", secret, identity::SECRET_VERBS);
    add(&mut needed, "coordination.k8s.io", "leases", "portcullis-controller", &["get", "update"]);
    // Kubernetes cannot confine these to a name.
    add(&mut needed, "", "secrets", "", &["create"]);
    add(&mut needed, "coordination.k8s.io", "leases", "", &["create"]);
    assert_eq!(granted("Role"), needed);
}
