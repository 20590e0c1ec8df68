//! The messages of delta xDS that are needed, with the field numbers of Envoy's `discovery.proto`, `base.proto` and Google's
//! `status.proto`; fields that are not listed are passed over.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// The codes of gRPC that are used here (`google.rpc.Code`).
pub mod code {
    /// The message makes no sense, or a piece cannot be read.
    pub const INVALID_ARGUMENT: i32 = 3;
    /// Not this client's.
    pub const PERMISSION_DENIED: i32 = 7;
    /// A bound was reached.
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    /// The configuration is taken, and something outside of it prevents a part of it from being served.
    pub const FAILED_PRECONDITION: i32 = 9;
    /// What the client holds is not what the server thinks.
    pub const DATA_LOSS: i32 = 15;
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Who asks; only in the first request of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type that the request is about.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to subscribe to.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names that are no longer wanted. Not used here.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// The versions that the client holds from an earlier stream, by name.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    /// Which response is answered; empty for a subscription.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Why the response is refused; absent when it is acknowledged.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// For people who look at it: the version of the whole configuration.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// New and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// Their type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// What an answer has to name.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names of resources that are gone; they go before [`resources`](Self::resources) come.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// `envoy.service.discovery.v3.Resource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// A hash of the content.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The content.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// The name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `google.protobuf.Any`. Its value may hold a private key, and is not shown.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Any {
    /// The type of the value.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The value, as [`portcullis_model::wire`] has it.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Any({}, {} bytes)", self.type_url, self.value.len())
    }
}

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// The pod.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The Gateway, `NAMESPACE/NAME`.
    #[prost(string, tag = "2")]
    pub cluster: String,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// One of [`code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What is wrong.
    #[prost(string, tag = "2")]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// As go-control-plane 1.40.0 writes them.
    const REQUEST: &str = "0a120a05706f642d311209696e6672612f7765621203742f781a0b696e6672612f7765622f2a220b696e6672612f7765622f612a\
        170a11696e6672612f7765622f67617465776179120276313201373a0708031203626164";
    /// With a control plane identifier, which is passed over.
    const RESPONSE: &str = "0a017312220a02763212090a03742f7812027b7d1a11696e6672612f7765622f676174657761792203742f782a0138320b696e66\
        72612f7765622f623a040a026370";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn request() -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: Some(Node { id: "pod-1".into(), cluster: "infra/web".into() }),
            type_url: "t/x".into(),
            resource_names_subscribe: vec!["infra/web/*".into()],
            resource_names_unsubscribe: vec!["infra/web/a".into()],
            initial_resource_versions: BTreeMap::from([("infra/web/gateway".into(), "v1".into())]),
            response_nonce: "7".into(),
            error_detail: Some(Status { code: code::INVALID_ARGUMENT, message: "bad".into() }),
        }
    }

    fn response() -> DeltaDiscoveryResponse {
        let any = Any { type_url: "t/x".into(), value: Bytes::from_static(b"{}") };
        DeltaDiscoveryResponse {
            system_version_info: "s".into(),
            resources: vec![Resource { version: "v2".into(), resource: Some(any), name: "infra/web/gateway".into() }],
            type_url: "t/x".into(),
            nonce: "8".into(),
            removed_resources: vec!["infra/web/b".into()],
        }
    }

    #[test]
    fn messages_are_envoys() {
        assert_eq!(request().encode_to_vec(), bytes(REQUEST));
        assert_eq!(DeltaDiscoveryRequest::decode(&*bytes(REQUEST)), Ok(request()));
        assert_eq!(DeltaDiscoveryResponse::decode(&*bytes(RESPONSE)), Ok(response()));
        let known = bytes(RESPONSE);
        assert_eq!(response().encode_to_vec(), known[..known.len() - 6]);
    }

    #[test]
    fn values_are_not_shown() {
        assert!(!format!("{:?}", response()).contains("{}"));
    }
}
