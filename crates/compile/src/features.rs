//! The features that a GatewayClass declares (`pkg/features` of the Gateway API): what is implemented, in one table, and of that what the
//! served schema can express, under the names that its release has.

use portcullis_api::Extra;
use portcullis_api::shared::SupportedFeature;

use crate::served::{Definition, NEWEST, OLDEST, Release, Served};

/// A feature that is implemented.
struct Feature {
    name: &'static str,
    /// The kind whose schema must be able to express it.
    kind: &'static str,
    /// Since when on the experimental channel, which has everything that the standard one has.
    experimental: Release,
    /// Since when on the standard channel.
    standard: Option<Release>,
    /// The last release that has the name.
    until: Release,
}

/// On both channels, since a release.
const fn since(release: Release, kind: &'static str, name: &'static str) -> Feature {
    Feature { name, kind, experimental: release, standard: Some(release), until: NEWEST }
}

/// On both channels in all supported releases.
const fn always(kind: &'static str, name: &'static str) -> Feature {
    since(OLDEST, kind, name)
}

/// On the experimental channel alone, since a release.
const fn experimental(release: Release, kind: &'static str, name: &'static str) -> Feature {
    Feature { standard: None, ..since(release, kind, name) }
}

/// On the experimental channel first.
const fn graduated(experimental: Release, standard: Release, kind: &'static str, name: &'static str) -> Feature {
    Feature { experimental, ..since(standard, kind, name) }
}

/// Whose name went after a release.
const fn until(last: Release, feature: Feature) -> Feature {
    Feature { until: last, ..feature }
}

/// What is implemented, by name. At most 64 at a time.
const IMPLEMENTED: &[Feature] = &[
    always("Gateway", "Gateway"),
    always("Gateway", "GatewayAddressEmpty"),
    experimental((1, 7), "Gateway", "GatewayAddressRoutability"),
    experimental((1, 7), "Gateway", "GatewayAddressRoutabilityCluster"),
    always("Gateway", "GatewayHTTPListenerIsolation"),
    always("Gateway", "GatewayHTTPSListenerDetectMisdirectedRequests"),
    since((1, 6), "Gateway", "GatewayInfrastructure"),
    until((1, 5), always("Gateway", "GatewayInfrastructurePropagation")),
    always("Gateway", "GatewayPort8080"),
    since((1, 7), "Gateway", "GatewayRouteHostnameIntersectionPrecedence"),
    always("Gateway", "GatewayStaticAddresses"),
    always("HTTPRoute", "HTTPRoute"),
    since((1, 5), "HTTPRoute", "HTTPRoute303RedirectStatusCode"),
    since((1, 5), "HTTPRoute", "HTTPRoute307RedirectStatusCode"),
    since((1, 5), "HTTPRoute", "HTTPRoute308RedirectStatusCode"),
    always("HTTPRoute", "HTTPRouteBackendProtocolH2C"),
    always("HTTPRoute", "HTTPRouteBackendProtocolWebSocket"),
    always("HTTPRoute", "HTTPRouteBackendRequestHeaderModification"),
    always("HTTPRoute", "HTTPRouteBackendTimeout"),
    since((1, 7), "HTTPRoute", "HTTPRouteBackendURLRewrite"),
    graduated((1, 4), (1, 5), "HTTPRoute", "HTTPRouteCORS"),
    experimental((1, 4), "HTTPRoute", "HTTPRouteDestinationPortMatching"),
    always("HTTPRoute", "HTTPRouteHostRewrite"),
    always("HTTPRoute", "HTTPRouteMethodMatching"),
    always("HTTPRoute", "HTTPRouteNamedRouteRule"),
    always("HTTPRoute", "HTTPRouteParentRefPort"),
    always("HTTPRoute", "HTTPRoutePathRedirect"),
    always("HTTPRoute", "HTTPRoutePathRewrite"),
    always("HTTPRoute", "HTTPRoutePortRedirect"),
    always("HTTPRoute", "HTTPRouteQueryParamMatching"),
    always("HTTPRoute", "HTTPRouteRequestMirror"),
    always("HTTPRoute", "HTTPRouteRequestMultipleMirrors"),
    always("HTTPRoute", "HTTPRouteRequestPercentageMirror"),
    always("HTTPRoute", "HTTPRouteRequestTimeout"),
    always("HTTPRoute", "HTTPRouteResponseHeaderModification"),
    until((1, 6), experimental((1, 6), "HTTPRoute", "HTTPRouteRetry")),
    until((1, 6), experimental((1, 6), "HTTPRoute", "HTTPRouteRetryBackendTimeout")),
    since((1, 7), "HTTPRoute", "HTTPRouteRetryCodes"),
    graduated((1, 6), (1, 7), "HTTPRoute", "HTTPRouteRetryConnectionError"),
    always("HTTPRoute", "HTTPRouteSchemeRedirect"),
    always("ReferenceGrant", "ReferenceGrant"),
];

impl Feature {
    fn is_in(&self, release: Release, is_experimental: bool) -> bool {
        let since = if is_experimental { Some(self.experimental) } else { self.standard };
        since.is_some_and(|since| since <= release) && release <= self.until
    }

    /// Whether the schema of a kind can express it. What is newer than all that is known is taken as the newest known release, what says
    /// nothing of itself as the oldest one.
    fn is_expressed(&self, definition: &Definition) -> bool {
        self.is_in(definition.release().unwrap_or(OLDEST).min(NEWEST), definition.is_experimental())
    }
}

/// What a GatewayClass's status has, for what is served; nothing stands for everything. In the order of their names.
pub(crate) fn supported(served: Option<&Served>) -> Vec<SupportedFeature> {
    let supported = IMPLEMENTED.iter().filter(|feature| match served {
        None => feature.is_in(NEWEST, true),
        Some(served) => served.kind(feature.kind).is_some_and(|definition| feature.is_expressed(definition)),
    });
    supported.map(|feature| SupportedFeature { name: feature.name.to_owned(), extra: Extra::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(version: &str, channel: &str) -> Vec<String> {
        let mut served = Served::default();
        for kind in ["Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant"] {
            let definition = Definition { bundle_version: Some(version.into()), channel: Some(channel.into()) };
            served.insert("gateway.networking.k8s.io", kind, definition);
        }
        supported(Some(&served)).into_iter().map(|feature| feature.name).collect()
    }

    #[test]
    fn is_sorted_unique_and_not_too_long() {
        assert!(IMPLEMENTED.is_sorted_by(|a, b| a.name < b.name));
        assert!(supported(None).len() <= 64);
    }

    #[test]
    fn what_a_schema_cannot_express_is_not_declared() {
        for (version, channel, name, declared) in [
            ("v1.7.0", "experimental", "GatewayAddressRoutability", true),
            ("v1.7.0", "standard", "GatewayAddressRoutability", false),
            ("v1.7.0", "experimental", "HTTPRouteDestinationPortMatching", true),
            ("v1.7.0", "standard", "HTTPRouteDestinationPortMatching", false),
            ("v1.7.0", "standard", "HTTPRouteRetryCodes", true),
            ("v1.7.0", "standard", "GatewayInfrastructure", true),
            ("v1.7.0", "standard", "GatewayInfrastructurePropagation", false),
            ("v1.6.3", "standard", "HTTPRouteRetryConnectionError", false),
            ("v1.6.3", "experimental", "HTTPRouteRetryConnectionError", true),
            ("v1.4.1", "standard", "GatewayInfrastructurePropagation", true),
            ("v1.4.1", "standard", "GatewayInfrastructure", false),
            ("v1.4.1", "standard", "HTTPRouteCORS", false),
            ("v1.4.1", "experimental", "HTTPRouteCORS", true),
            ("v1.4.1", "experimental", "HTTPRoute308RedirectStatusCode", false),
            ("v1.4.1", "standard", "GatewayStaticAddresses", true),
            ("v1.5.1", "standard", "HTTPRouteCORS", true),
            // From the future: as the newest that is known. Without a word: as the oldest.
            ("v1.9.0", "experimental", "GatewayAddressRoutability", true),
            ("main", "experimental", "HTTPRouteRetryCodes", false),
            ("v1.3.0", "experimental", "HTTPRoute", false),
        ] {
            assert_eq!(
                names(version, channel).iter().any(|known| known == name),
                declared,
                "{version} {channel} {name}"
            );
        }
    }

    #[test]
    fn a_kind_that_is_not_served_has_no_features() {
        assert_eq!(supported(Some(&Served::default())), []);
    }
}
