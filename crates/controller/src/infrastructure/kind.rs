//! The kinds that are made for a Gateway.

/// A kind that is made for a Gateway, in the order in which the objects are made.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    ServiceAccount,
    ConfigMap,
    Service,
    NetworkPolicy,
    PodDisruptionBudget,
    Deployment,
    HorizontalPodAutoscaler,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }

    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::ConfigMap | Self::Service => "",
            Self::NetworkPolicy => "networking.k8s.io",
            Self::PodDisruptionBudget => "policy",
            Self::Deployment => "apps",
            Self::HorizontalPodAutoscaler => "autoscaling",
        }
    }

    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::ConfigMap | Self::Service => "v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::Deployment => "apps/v1",
            Self::HorizontalPodAutoscaler => "autoscaling/v2",
        }
    }

    pub(crate) const fn resource(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::ConfigMap => "configmaps",
            Self::Service => "services",
            Self::NetworkPolicy => "networkpolicies",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::Deployment => "deployments",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
        }
    }

    /// The path of all objects of a namespace, or of the cluster.
    pub(crate) fn path(self, namespace: Option<&str>) -> String {
        let root = if self.group().is_empty() { "/api" } else { "/apis" };
        let (version, resource) = (self.api_version(), self.resource());
        match namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{resource}"),
            None => format!("{root}/{version}/{resource}"),
        }
    }
}
