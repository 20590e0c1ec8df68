//! Tables of cases in YAML, and properties for any of them.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;

const US: &str = "portcullis.dev/gateway-controller";
const NOW: &str = "2026-03-01T00:00:00Z";

fn around() -> Around<'static> {
    Around { controller_name: US, namespace: "shop", generation: Some(3), now: NOW }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    current: Option<Value>,
    #[serde(default)]
    desired: Option<Value>,
    expected: Value,
    #[serde(default)]
    foreign: bool,
}

#[test]
fn statuses_are_merged_as_the_table_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases.yaml")).unwrap();
    for Case { name, current, desired, expected, foreign } in cases {
        let expected = match expected.as_str() {
            Some("unchanged") => Merge::Unchanged,
            Some("newer") => Merge::Newer,
            _ => Merge::Changed { status: expected, foreign },
        };
        let merged = merge(current.as_ref(), desired.as_ref(), around());
        assert_eq!(merged, expected, "{name}");
        if let Merge::Changed { status, .. } = merged {
            assert_eq!(merge(Some(&status), desired.as_ref(), around()), Merge::Unchanged, "{name}, once written");
        }
    }
}

#[test]
fn lists_stay_within_the_bounds_of_the_schema_at_our_cost() {
    let condition = |kind: String| json!({"type": kind, "status": "True"});
    let foreign: Vec<_> = (0..6).map(|index| condition(format!("other.example/{index}"))).collect();
    let ours: Vec<_> =
        ["portcullis.dev/A", "Accepted", "portcullis.dev/B", "Programmed"].map(|kind| condition(kind.into())).into();
    let types = |foreign: usize| {
        let Merge::Changed { status, .. } = merge(
            Some(&json!({"conditions": foreign_list(&condition, foreign)})),
            Some(&json!({"conditions": ours})),
            around(),
        ) else {
            panic!("changed")
        };
        let types: Vec<_> =
            status["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap().to_owned()).collect();
        types
    };
    assert_eq!(types(foreign.len())[6..], ["Accepted", "Programmed"]);
    assert_eq!(types(7)[7..], ["Accepted"]);

    let entry = |controller: &str, name: usize| json!({"controllerName": controller, "parentRef": {"name": name.to_string()}, "conditions": []});
    let others: Vec<_> = (0..31).map(|index| entry("other.example/controller", index)).collect();
    let ours: Vec<_> = (0..3).map(|index| entry(US, index)).collect();
    let merged = merge(Some(&json!({"parents": others})), Some(&json!({"parents": ours})), around());
    let Merge::Changed { status, .. } = merged else { panic!("changed") };
    assert_eq!(status["parents"].as_array().unwrap().len(), 32);
    assert_eq!(status["parents"][31]["parentRef"]["name"], "0");
}

fn foreign_list(condition: &impl Fn(String) -> Value, count: usize) -> Vec<Value> {
    (0..count).map(|index| condition(format!("other.example/{index}"))).collect()
}

fn condition() -> impl Strategy<Value = Value> {
    let kinds = prop_oneof![
        prop::sample::select(OURS).prop_map(str::to_owned),
        "portcullis\\.dev/[A-C]",
        "other\\.example/[A-C]",
        Just("Odd".to_owned()),
    ];
    let status = prop::sample::select(&["True", "False", "Unknown"][..]);
    (kinds, status, 0..5_i64, "[A-C]", any::<bool>()).prop_map(|(kind, status, generation, reason, more)| {
        let mut condition = json!({
            "type": kind, "status": status, "observedGeneration": generation, "reason": reason, "message": "",
            "lastTransitionTime": format!("2020-01-01T00:00:0{generation}Z"),
        });
        if more {
            condition["unknown"] = json!({"kept": [1, 2]});
        }
        condition
    })
}

fn conditions() -> impl Strategy<Value = Value> {
    prop::collection::vec(condition(), 0..6).prop_map(|mut conditions| {
        conditions.sort_by_key(|condition| condition["type"].to_string());
        conditions.dedup_by_key(|condition| condition["type"].to_string());
        Value::Array(conditions)
    })
}

fn parents(controllers: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let entry = (prop::sample::select(controllers), "[a-c]", prop::option::of("[x-y]"), conditions()).prop_map(
        |(controller, name, section, conditions)| {
            let mut entry =
                json!({"controllerName": controller, "parentRef": {"name": name}, "conditions": conditions});
            if let Some(section) = section {
                entry["parentRef"]["sectionName"] = json!(section);
            }
            entry
        },
    );
    prop::collection::vec(entry, 0..5).prop_map(|mut entries| {
        let key = |entry: &Value| format!("{}{}", entry["controllerName"], entry["parentRef"]);
        entries.sort_by_key(key);
        entries.dedup_by_key(|entry| key(entry));
        json!({"parents": entries})
    })
}

fn gateway() -> impl Strategy<Value = Value> {
    let listener = ("[a-c]", conditions(), 0..3).prop_map(
        |(name, conditions, routes)| json!({"name": name, "conditions": conditions, "attachedRoutes": routes}),
    );
    let listeners = prop::collection::vec(listener, 0..4).prop_map(|mut listeners| {
        listeners.sort_by_key(|listener| listener["name"].to_string());
        listeners.dedup_by_key(|listener| listener["name"].to_string());
        Value::Array(listeners)
    });
    (conditions(), listeners, any::<bool>()).prop_map(|(conditions, listeners, more)| {
        let mut status =
            json!({"conditions": conditions, "listeners": listeners, "addresses": [{"value": "10.0.0.1"}]});
        if more {
            status["unknown"] = json!("kept");
        }
        status
    })
}

/// Takes out what is ours: what is left must be the same before and after.
fn foreign_parts(status: &Value) -> Value {
    let mut status = status.clone();
    let only_foreign = |conditions: &mut Value| {
        if let Some(conditions) = conditions.as_array_mut() {
            conditions.retain(|condition| !is_ours(condition["type"].as_str().unwrap()));
        }
    };
    if let Some(parents) = status["parents"].as_array_mut() {
        parents.retain(|parent| parent["controllerName"] != US);
    } else {
        only_foreign(&mut status["conditions"]);
        for field in ["addresses", "listeners", "parents"] {
            status.as_object_mut().unwrap().shift_remove(field);
        }
    }
    status
}

proptest! {
    #[test]
    fn entries_of_others_are_never_touched(
        current in parents(&[US, "other.example/controller", "third.example/controller"]),
        desired in prop::option::of(parents(&[US])),
    ) {
        if let Merge::Changed { status, foreign } = merge(Some(&current), desired.as_ref(), around()) {
            prop_assert_eq!(foreign_parts(&status), foreign_parts(&current));
            prop_assert!(foreign || foreign_parts(&status)["parents"].as_array().unwrap().is_empty());
            prop_assert_eq!(merge(Some(&status), desired.as_ref(), around()), Merge::Unchanged);
            let ours = |status: &Value| {
                status["parents"].as_array().unwrap().iter().filter(|parent| parent["controllerName"] == US).count()
            };
            prop_assert_eq!(ours(&status), desired.as_ref().map_or(0, ours));
        }
    }

    #[test]
    fn conditions_of_others_are_never_touched(current in gateway(), desired in gateway()) {
        if let Merge::Changed { status, .. } = merge(Some(&current), Some(&desired), around()) {
            let others = |conditions: &Value| -> Vec<Value> {
                let conditions = conditions.as_array().cloned().unwrap_or_default();
                let known: Vec<_> = items_of(&desired, "conditions").iter().map(|c| c["type"].clone()).collect();
                conditions.into_iter()
                    .filter(|c| !is_ours(c["type"].as_str().unwrap()) && !known.contains(&c["type"])).collect()
            };
            prop_assert_eq!(others(&status["conditions"]), others(&current["conditions"]));
            prop_assert_eq!(&status["unknown"], &current["unknown"]);
        }
    }

    #[test]
    fn order_means_nothing(status in gateway(), parents in parents(&[US, "other.example/controller"])) {
        for status in [status, parents] {
            let mut turned = status.clone();
            for list in ["conditions", "listeners", "parents"] {
                if let Some(list) = turned[list].as_array_mut() {
                    list.reverse();
                } else if let Some(fields) = turned.as_object_mut() {
                    fields.shift_remove(list);
                }
            }
            prop_assert!(same(&status, &turned));
        }
    }

    #[test]
    fn any_json_is_merged_without_a_panic(current in any_json(), desired in any_json()) {
        let _ = merge(Some(&current), Some(&desired), around());
        let _ = merge(Some(&current), None, around());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
        Just(Value::from(US)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let field = prop::sample::select(
            &["parents", "conditions", "listeners", "type", "parentRef", "controllerName", "name", "addresses"][..],
        );
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}
