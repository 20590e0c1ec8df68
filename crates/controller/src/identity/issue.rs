//! Issuing: the checks that stand between a request and a certificate, in their order.
//!
//! 1. The request is well formed, its token is by its own words one of its pod for us, and its CSR is signed by the key that it names.
//! 2. The API server says that the token is authentic, meant for us ([`AUDIENCE`]), and bound to a pod.
//! 3. The Gateway that the request claims is in the token's namespace, and this controller serves it now, under the claimed UID.
//! 4. The pod lives, runs under the token's ServiceAccount, and its owners lead to that Gateway.
//!
//! Nobody is asked before the first is certain: see `Claim::read`. What is not certain is refused. When the API server cannot be asked, nobody is refused: the pod waits and asks again.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use portcullis_model::ObjectName;
use serde::{Deserialize, Serialize};

use super::authority::{Authority, NotReady};
use super::csr::RequestedKey;
use super::name::DataPlaneIdentity;
use super::owner::{self, Owner};
use super::token::{self, TOKEN_LIMIT};

pub use super::token::AUDIENCE;

/// What a data plane sends, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRequest {
    /// A certificate signing request in PEM, for an ECDSA P-256 key. Only its public key counts.
    pub csr: String,
    /// The Gateway, as `namespace/name`.
    pub gateway: ObjectName,
    /// The Gateway's UID.
    pub gateway_uid: String,
    /// The data plane's pod.
    pub pod: String,
}

/// What it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityResponse {
    /// The certificate in PEM.
    pub certificate: String,
    /// What the controller's own certificates are verified with, in PEM: one or more certificates.
    pub ca: String,
    /// End of the certificate's validity, seconds since 1970-01-01T00:00:00Z.
    pub not_after: i64,
}

/// Why nothing is issued: the request is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not as [`IdentityRequest`] says.
    Malformed,
    /// Its CSR is none.
    Csr,
    /// The token is not a valid one of a ServiceAccount.
    Token,
    /// The token is meant for somebody else.
    Audience,
    /// The token is not bound to a pod, or to another one than the request says.
    NotOfPod,
    /// The Gateway is in another namespace than the token's ServiceAccount.
    Namespace,
    /// The controller does not serve such a Gateway.
    Gateway,
    /// The Gateway has another UID.
    GatewayUid,
    /// The pod is gone, finished, terminating, another one, or under another ServiceAccount.
    Pod,
    /// The pod's owners do not lead to the Gateway's data plane.
    Owner,
}

impl Refusal {
    /// Its name in responses and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Csr => "csr",
            Self::Token => "token",
            Self::Audience => "audience",
            Self::NotOfPod => "not_of_pod",
            Self::Namespace => "namespace",
            Self::Gateway => "gateway",
            Self::GatewayUid => "gateway_uid",
            Self::Pod => "pod",
            Self::Owner => "owner",
        }
    }

    /// The status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Csr => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

/// Why nothing can be issued now: the request may be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("the API server cannot be asked: {0}")]
    ApiServer(#[from] kube::Error),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("the Gateways are not known yet")]
    Starting,
}

/// A Gateway as this controller knows it at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The controller does not know its Gateways yet.
    NotYet,
    /// It serves no such Gateway.
    No,
    /// It serves it.
    Gateway {
        /// The Gateway's UID.
        uid: Arc<str>,
        /// The name of its Deployment.
        deployment: Arc<str>,
    },
}

/// Issues certificates for data planes.
pub(super) struct Issuer {
    pub(super) client: kube::Client,
    pub(super) authority: Arc<Authority>,
    pub(super) known: Box<dyn Fn(&ObjectName) -> Known + Send + Sync>,
}

impl Issuer {
    /// Makes every check that takes asking, and then the certificate.
    pub(super) async fn issue(
        &self,
        token: &str,
        claim: &Claim,
    ) -> Result<Result<IdentityResponse, Refusal>, Unavailable> {
        let token = match token::review(&self.client, token).await? {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let identity = &claim.identity;
        if *token.pod != *identity.pod {
            return Ok(Err(Refusal::NotOfPod));
        }
        if *token.namespace != *identity.gateway.namespace {
            return Ok(Err(Refusal::Namespace));
        }
        let deployment = match (self.known)(&identity.gateway) {
            Known::NotYet => return Err(Unavailable::Starting),
            Known::No => return Ok(Err(Refusal::Gateway)),
            Known::Gateway { uid, .. } if uid != identity.uid => return Ok(Err(Refusal::GatewayUid)),
            Known::Gateway { deployment, .. } => deployment,
        };
        let owner = Owner { gateway: &identity.gateway, uid: &identity.uid, deployment: &deployment };
        if let Err(refusal) = owner::check(&self.client, &token, &owner).await? {
            return Ok(Err(refusal));
        }
        // Asked again: the answers above took their time, and the Gateway may have gone meanwhile.
        if !matches!((self.known)(&identity.gateway), Known::Gateway { uid, .. } if uid == identity.uid) {
            return Ok(Err(Refusal::Gateway));
        }
        let issued = self.authority.issue(identity, &claim.key)?;
        Ok(Ok(IdentityResponse { certificate: issued.certificate, ca: issued.bundle, not_after: issued.not_after }))
    }
}

/// A request whose form is right; nothing in it is believed yet.
pub(super) struct Claim {
    identity: DataPlaneIdentity,
    key: RequestedKey,
}

impl Claim {
    /// Makes every check that takes no asking.
    pub(super) fn read(token: &str, request: &IdentityRequest) -> Result<Self, Refusal> {
        if token.is_empty() || token.len() > TOKEN_LIMIT || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::Token);
        }
        let identity = DataPlaneIdentity::new(request.gateway.clone(), &request.gateway_uid, &request.pod);
        let identity = identity.ok_or(Refusal::Malformed)?;
        let claimed = token::claimed(token)?;
        if *claimed.pod != *identity.pod {
            return Err(Refusal::NotOfPod);
        }
        if *claimed.namespace != *identity.gateway.namespace {
            return Err(Refusal::Namespace);
        }
        let key = RequestedKey::from_pem(&request.csr).map_err(|_| Refusal::Csr)?;
        Ok(Self { identity, key })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}
