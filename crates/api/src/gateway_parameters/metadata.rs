//! Which labels and annotations the author of a Gateway may give to what is made for it (`spec.infrastructure`, GEP-1762).
//!
//! What is made bears these keys, and systems of the cluster act on some of them: load balancers, clouds, sidecar injectors, scrapers,
//! autoscalers, networks. Such keys need the class's word. All others are taken unless the class lists what is. Those that the controller
//! sets itself are nobody else's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{is_dns_subdomain, is_label_key};

/// What begins a label or annotation that only the controller, or the Gateway API, gives a meaning.
const RESERVED_PREFIXES: [&str; 3] = ["gateway.networking.k8s.io", "portcullis.dev", "app.kubernetes.io"];

/// The label by which the guide's Service for metrics selects pods.
const RESERVED_LABEL: &str = "app";

/// The domains of keys that systems of a cluster act on, each with all below it.
const POWERFUL_DOMAINS: [&str; 49] = [
    // Kubernetes and what belongs to it: Services of clouds, Pod Security, AppArmor, seccomp, scheduling, autoscaling, DNS.
    "k8s.io",
    "kubernetes.io",
    "x-k8s.io",
    "karpenter.sh",
    "keda.sh",
    "openshift.io",
    // Clouds, their load balancers and identities.
    "alibabacloud.com",
    "aliyun.com",
    "amazonaws.com",
    "azure.com",
    "azure.workload.identity",
    "digitalocean.com",
    "gke.io",
    "google.com",
    "hetzner.cloud",
    "ibm.com",
    "openstack.org",
    "oraclecloud.com",
    "scaleway.com",
    // Load balancers and networks.
    "cilium.io",
    "cni.cncf.io",
    "io.cilium",
    "kube-vip.io",
    "metallb.io",
    "metallb.universe.tf",
    "ovn.org",
    "projectcalico.org",
    "purelb.io",
    // Injectors of containers.
    "banzaicloud.io",
    "dapr.io",
    "hashicorp.com",
    "istio.io",
    "jaegertracing.io",
    "kuma.io",
    "linkerd.io",
    "openservicemesh.io",
    "opentelemetry.io",
    // Scrapers.
    "datadoghq.com",
    "dynatrace.com",
    "prometheus.io",
    // Deployers, which may delete what they take for theirs, and policies.
    "argoproj.io",
    "cert-manager.io",
    "crossplane.io",
    "fluxcd.io",
    "gatekeeper.sh",
    "helm.sh",
    "kyverno.io",
    "stakater.com",
    "velero.io",
];

/// Which labels and annotations a Gateway may set. A list that is absent means `["*"]`, an empty one means none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataAllowance {
    /// Labels, as [`MetadataKey`] reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Annotations, as [`MetadataKey`] reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<String>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Keys that are allowed, as an entry of [`MetadataAllowance`] says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MetadataKey<'a> {
    /// `*`: every key that no system of the cluster is known to act on.
    Harmless,
    /// `example.com/`: every key with this prefix.
    Prefix(&'a str),
    /// `example.com/team`, `team`: this key.
    Key(&'a str),
}

impl<'a> MetadataKey<'a> {
    /// Reads an entry; nothing for one that names no keys.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Harmless);
        }
        match text.strip_suffix('/') {
            Some(prefix) => is_dns_subdomain(prefix).then_some(Self::Prefix(prefix)),
            None => is_label_key(text).then_some(Self::Key(text)),
        }
    }

    /// Whether a key is among them.
    pub fn covers(&self, key: &str) -> bool {
        match self {
            Self::Harmless => !is_powerful(key),
            Self::Prefix(prefix) => key.split_once('/').is_some_and(|(of_key, _)| of_key == *prefix),
            Self::Key(allowed) => key == *allowed,
        }
    }
}

impl MetadataAllowance {
    /// The labels that a Gateway may set, and the keys of those that it sets and may not.
    pub fn labels(&self, asked: &BTreeMap<String, String>) -> (BTreeMap<String, String>, Vec<String>) {
        divided(asked, self.labels.as_deref(), is_reserved_label)
    }

    /// The annotations that a Gateway may set, and the keys of those that it sets and may not.
    pub fn annotations(&self, asked: &BTreeMap<String, String>) -> (BTreeMap<String, String>, Vec<String>) {
        divided(asked, self.annotations.as_deref(), is_reserved)
    }
}

fn divided(
    asked: &BTreeMap<String, String>,
    allowed: Option<&[String]>,
    is_reserved: impl Fn(&str) -> bool,
) -> (BTreeMap<String, String>, Vec<String>) {
    let is_allowed = |key: &str| match allowed {
        None => MetadataKey::Harmless.covers(key),
        Some(allowed) => allowed.iter().filter_map(|entry| MetadataKey::parse(entry)).any(|entry| entry.covers(key)),
    };
    let (taken, ignored): (BTreeMap<_, _>, BTreeMap<_, _>) =
        asked.clone().into_iter().partition(|(key, _)| !is_reserved(key) && is_allowed(key));
    (taken, ignored.into_keys().collect())
}

fn is_powerful(key: &str) -> bool {
    let is_below = |prefix: &str, domain: &str| {
        prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let prefix = key.split_once('/').map(|(prefix, _)| prefix.to_ascii_lowercase());
    prefix.is_some_and(|prefix| POWERFUL_DOMAINS.iter().any(|domain| is_below(&prefix, domain)))
}

/// Whether an entry of an allowance names what only the controller sets.
pub(super) fn is_reserved_entry(entry: &MetadataKey<'_>, is_label: bool) -> bool {
    match entry {
        MetadataKey::Harmless => false,
        MetadataKey::Prefix(prefix) => RESERVED_PREFIXES.contains(prefix),
        MetadataKey::Key(key) if is_label => is_reserved_label(key),
        MetadataKey::Key(key) => is_reserved(key),
    }
}

/// Whether a label or annotation is one that the controller or the Gateway API gives a meaning.
pub(super) fn is_reserved(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, _)| RESERVED_PREFIXES.contains(&prefix))
}

/// The same for a label.
pub(super) fn is_reserved_label(key: &str) -> bool {
    is_reserved(key) || key == RESERVED_LABEL
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, String> {
        keys.iter().map(|key| ((*key).to_owned(), "value".to_owned())).collect()
    }

    fn taken(allowance: Value, keys: &[&str]) -> [Vec<String>; 2] {
        let allowance: MetadataAllowance = crate::decode::decode(allowance).unwrap();
        let keys_of = |map: BTreeMap<String, String>| map.into_keys().collect();
        [keys_of(allowance.labels(&map(keys)).0), keys_of(allowance.annotations(&map(keys)).0)]
    }

    /// What systems of a cluster act on.
    const POWERFUL: [&str; 20] = [
        "service.beta.kubernetes.io/aws-load-balancer-scheme",
        "service.beta.kubernetes.io/aws-load-balancer-security-groups",
        "networking.gke.io/load-balancer-type",
        "metallb.io/loadBalancerIPs",
        "eks.amazonaws.com/role-arn",
        "iam.gke.io/gcp-service-account",
        "azure.workload.identity/use",
        "prometheus.io/scrape",
        "sidecar.istio.io/inject",
        "instrumentation.opentelemetry.io/inject-sdk",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        "karpenter.sh/do-not-disrupt",
        "k8s.v1.cni.cncf.io/networks",
        "pod-security.kubernetes.io/enforce",
        "container.apparmor.security.beta.kubernetes.io/data-plane",
        "seccomp.security.alpha.kubernetes.io/pod",
        "external-dns.alpha.kubernetes.io/hostname",
        "kubernetes.io/service-name",
        "argocd.argoproj.io/tracking-id",
        "lbipam.cilium.io/ips",
    ];

    /// What is the controller's and the Gateway API's.
    const RESERVED: [&str; 4] = [
        "gateway.networking.k8s.io/gateway-name",
        "portcullis.dev/controller-name",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/part-of",
    ];

    #[test]
    fn without_a_word_of_the_class_nothing_is_taken_that_systems_act_on() {
        let none: [Vec<String>; 2] = Default::default();
        assert_eq!(taken(json!({}), &POWERFUL), none);
        assert_eq!(taken(json!({}), &RESERVED), none);
        let harmless = ["example.com/team", "key1", "notk8s.io/key", "team"];
        assert_eq!(taken(json!({}), &harmless), [harmless, harmless]);
        assert_eq!(taken(json!({}), &["app"]), [vec![], vec!["app".to_owned()]]);
    }

    #[test]
    fn a_list_says_everything() {
        let keys =
            ["team", "tier", "example.com/team", "example.com/tier", "sub.example.com/team", "prometheus.io/scrape"];
        for (list, expected) in [
            (json!([]), vec![]),
            (json!(["team"]), vec!["team"]),
            (json!(["*"]), vec!["example.com/team", "example.com/tier", "sub.example.com/team", "team", "tier"]),
            (json!(["example.com/team"]), vec!["example.com/team"]),
            (json!(["example.com/"]), vec!["example.com/team", "example.com/tier"]),
            (json!(["team", "prometheus.io/"]), vec!["prometheus.io/scrape", "team"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(
                taken(json!({"labels": list.clone(), "annotations": list}), &keys),
                [(); 2].map(|()| expected.clone()),
                "{list}"
            );
        }
        let allowance = json!({"annotations": ["service.beta.kubernetes.io/"]});
        assert_eq!(taken(allowance, &POWERFUL).map(|keys| keys.len()), [0, 2], "labels have a list of their own");
    }

    #[test]
    fn no_list_gives_away_what_is_the_controllers() {
        let all: Vec<String> =
            RESERVED_PREFIXES.map(|prefix| format!("{prefix}/")).into_iter().chain(["app".to_owned()]).collect();
        let allowance = json!({"labels": all.clone(), "annotations": all});
        assert_eq!(taken(allowance.clone(), &RESERVED), [Vec::<String>::new(), Vec::new()]);
        assert_eq!(taken(allowance, &["app"])[0], Vec::<String>::new());
    }
}
