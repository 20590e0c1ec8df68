//! The names and labels of what is made for a Gateway (GEP-1762).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use portcullis_model::ObjectName;

/// The longest name of a Service, and the longest value of a label.
const LONGEST: usize = 63;
/// Hexadecimal digits of a hash in a name.
const HASH_DIGITS: usize = 10;

/// The label with the Gateway's name, shortened where it does not fit (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
pub(crate) const CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The annotation with the Gateway's whole name.
pub const FULL_GATEWAY_NAME: &str = "portcullis.dev/gateway-name";
pub(crate) const FULL_CLASS_NAME: &str = "portcullis.dev/gateway-class-name";
/// Tells installations apart that share a cluster.
pub(crate) const CONTROLLER_NAME: &str = "portcullis.dev/controller-name";
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "portcullis");
const NAME: (&str, &str) = ("app.kubernetes.io/name", "portcullis-data-plane");
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "data-plane");
const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label by which the Service of the guide, section 7, selects pods.
const GUIDE: (&str, &str) = ("app", "gateway-controller");

/// The names and labels of what is made for a Gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    /// Of every object but further Services: a DNS label of at most 63 characters (RFC 1035).
    pub base: String,
    gateway: ObjectName,
    class: String,
    gateway_label: String,
    class_label: String,
}

/// The names and labels of what is made for a Gateway of a class: `<gateway>-<class>` where that is a DNS label of at most 63
/// characters, else as much of it as fits and a hash.
///
/// Two Gateways of a namespace may have the same name here (`a-b` of class `c`, and `a` of class `b-c`). Who comes second finds objects
/// that are not its own, and touches none.
pub fn names(gateway: &ObjectName, class: &str) -> Names {
    let whole = format!("{}-{class}", gateway.name);
    let hash = || hash(&[&gateway.name, class]);
    let base = if is_label_1035(&whole) { whole } else { shortened(&as_label_1035(&whole), &hash()) };
    Names {
        base,
        gateway: gateway.clone(),
        class: class.to_owned(),
        gateway_label: label_value(&gateway.name),
        class_label: label_value(class),
    }
}

impl Names {
    /// The name of a further Service, from what it is for: a DNS label of at most 63 characters.
    pub(crate) fn further(&self, purpose: &str) -> String {
        shortened(&self.base, &hash(&[&self.gateway.name, &self.class, purpose]))
    }

    /// The labels of every object.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let ours = [
            (GATEWAY_NAME, self.gateway_label.as_str()),
            (CLASS_NAME, &self.class_label),
            (INSTANCE, &self.base),
            MANAGED_BY,
            NAME,
            COMPONENT,
        ];
        owned(&ours)
    }

    /// The labels of pods.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.extend(owned(&[GUIDE]));
        labels
    }

    /// By what pods are selected. It never changes for a name, as a Deployment's selector cannot.
    pub fn selector(&self) -> BTreeMap<String, String> {
        owned(&[(GATEWAY_NAME, self.gateway_label.as_str()), (INSTANCE, &self.base)])
    }

    /// The annotations of every object: names that a label may be too short for.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        owned(&[(FULL_GATEWAY_NAME, &*self.gateway.name), (FULL_CLASS_NAME, &self.class)])
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn label_value(name: &str) -> String {
    if name.len() <= LONGEST { name.to_owned() } else { shortened(name, &hash(&[name])) }
}

/// As much of a text as leaves room for `-` and the hash.
fn shortened(text: &str, hash: &str) -> String {
    let end = text.floor_char_boundary(LONGEST - HASH_DIGITS - 1);
    format!("{}-{hash}", text[..end].trim_end_matches(['-', '.', '_']))
}

fn hash(parts: &[&str]) -> String {
    // No part holds a NUL, so that no two lists of parts have the same text.
    let digest = digest(&SHA256, parts.join("\0").as_bytes());
    digest.as_ref().iter().take(HASH_DIGITS / 2).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn is_label_1035(text: &str) -> bool {
    text.len() <= LONGEST
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What a name may not have becomes `-`, and it begins with a letter.
fn as_label_1035(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let label: String = text.chars().map(safe).collect();
    if label.starts_with(|first: char| first.is_ascii_lowercase()) { label } else { format!("gateway-{label}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn base(gateway: &str, class: &str) -> String {
        names(&ObjectName::new("infra", gateway), class).base
    }

    #[test]
    fn names_are_those_of_gep_1762_where_they_fit() {
        let long = "a".repeat(253);
        for (gateway, class, expected) in [
            ("edge", "portcullis", "edge-portcullis"),
            ("edge", "my-class", "edge-my-class"),
            ("a.b", "portcullis", "a-b-portcullis-b34ed9cf19"),
            ("1st", "portcullis", "gateway-1st-portcullis-258d271c41"),
            (&long, "portcullis", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-936b7bee73"),
        ] {
            assert_eq!(base(gateway, class), expected);
        }
        assert_eq!(base(&"a".repeat(52), "portcullis").len(), 63, "fits");
        assert_ne!(base(&"a".repeat(53), "portcullis"), base(&"a".repeat(54), "portcullis"));
        // What differs only where it is cut, or only in what a label may not have.
        assert_ne!(base(&long, "one"), base(&long, "two"));
        assert_ne!(base("a.b", "c"), base("a-b", "c"));
    }

    #[test]
    fn labels_hold_what_fits_and_annotations_everything() {
        let long = "a".repeat(253);
        let names = names(&ObjectName::new("infra", long.as_str()), "portcullis");
        let labels = names.pod_labels();
        assert_eq!(labels[GATEWAY_NAME].len(), 63);
        assert_eq!(labels[CLASS_NAME], "portcullis");
        assert_eq!(labels["app"], "gateway-controller");
        assert!(names.selector().iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_eq!(names.annotations()[FULL_GATEWAY_NAME], long);
    }

    /// Names as an API server has them: DNS subdomains.
    fn subdomain() -> impl Strategy<Value = String> {
        "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
    }

    fn is_label_value(text: &str) -> bool {
        let ends = |c: char| c.is_ascii_alphanumeric();
        text.len() <= 63
            && text.starts_with(ends)
            && text.ends_with(ends)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    }

    proptest! {
        #[test]
        fn every_name_is_a_label(gateway in subdomain(), class in subdomain(), purpose in ".*") {
            let names = names(&ObjectName::new("infra", gateway.as_str()), &class);
            prop_assert!(is_label_1035(&names.base), "{}", names.base);
            prop_assert!(is_label_1035(&names.further(&purpose)));
            for (key, value) in names.pod_labels() {
                prop_assert!(is_label_value(&value), "{key}: {value}");
            }
        }

        #[test]
        fn gateways_of_a_class_have_names_of_their_own(gateways in prop::collection::btree_set(subdomain(), 2..8), class in "[a-z0-9]{1,40}") {
            let names: Vec<Names> = gateways.iter().map(|gateway| names(&ObjectName::new("infra", gateway.as_str()), &class)).collect();
            let all: BTreeSet<&str> = names.iter().map(|names| names.base.as_str()).collect();
            prop_assert_eq!(all.len(), gateways.len());
            let labels: BTreeSet<&str> = names.iter().map(|names| names.gateway_label.as_str()).collect();
            prop_assert_eq!(labels.len(), gateways.len());
            let further: BTreeSet<String> = names.iter().flat_map(|names| ["one", "two"].map(|purpose| names.further(purpose))).collect();
            prop_assert_eq!(further.len(), 2 * gateways.len());
            prop_assert!(further.iter().all(|name| !all.contains(name.as_str())));
        }
    }
}
