//! The features that a GatewayClass declares (`pkg/features` of the Gateway API): what is implemented, in one table, sorted.

use portcullis_api::Extra;
use portcullis_api::shared::SupportedFeature;

/// Names of the official list, in ascending order, at most 64.
const SUPPORTED: &[&str] = &[
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetryCodes",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// The table as a GatewayClass's status has it.
pub(crate) fn supported() -> Vec<SupportedFeature> {
    SUPPORTED.iter().map(|name| SupportedFeature { name: (*name).to_owned(), extra: Extra::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::SUPPORTED;

    #[test]
    fn is_sorted_unique_and_not_too_long() {
        assert!(SUPPORTED.is_sorted_by(|a, b| a < b));
        assert!(SUPPORTED.len() <= 64);
    }
}
