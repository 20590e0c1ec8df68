//! Whose token it is: asked of the API server, which knows whether the token's pod still lives.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};

use super::issue::{Refusal, Unavailable};
use super::name::is_name;

/// The audience of the tokens that data planes show: such a token is of no use anywhere else, and no other token is here.
pub const AUDIENCE: &str = "portcullis.dev/controller";
/// Longest token that is asked about; a bound one has some 1,200 bytes.
pub(super) const TOKEN_LIMIT: usize = 8192;

const USERNAME: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What a token proves: that its bearer is this pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodToken {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
}

/// Asks the API server about a token.
pub(super) async fn review(client: &kube::Client, token: &str) -> Result<Result<PodToken, Refusal>, Unavailable> {
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
        ..TokenReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.map_err(Unavailable::from)?;
    Ok(read(answer.status.unwrap_or_default()))
}

fn read(status: TokenReviewStatus) -> Result<PodToken, Refusal> {
    if status.authenticated != Some(true) || status.error.is_some_and(|error| !error.is_empty()) {
        return Err(Refusal::Token);
    }
    // An API server that does not look at audiences leaves them out (TokenReview v1): then it was not checked.
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Audience);
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let (namespace, service_account) =
        username.strip_prefix(USERNAME).and_then(|rest| rest.split_once(':')).ok_or(Refusal::Token)?;
    let extra = user.extra.unwrap_or_default();
    let single = |name: &str| match extra.get(name).map(Vec::as_slice) {
        Some([value]) => Ok(value.clone()),
        _ => Err(Refusal::NotOfPod),
    };
    let token = PodToken {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: single(POD_NAME)?,
        pod_uid: single(POD_UID)?,
    };
    let named = is_name(&token.namespace) && is_name(&token.service_account) && is_name(&token.pod);
    if named && !token.pod_uid.is_empty() { Ok(token) } else { Err(Refusal::Token) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["portcullis.dev/controller"],
            "user": {
                "username": "system:serviceaccount:shop:edge-portcullis",
                "uid": "1",
                "groups": ["system:serviceaccounts"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["edge-portcullis-5d-x"],
                    "authentication.kubernetes.io/pod-uid": ["p-1"],
                    "authentication.kubernetes.io/node-name": ["n"]
                }
            }
        })
    }

    fn reading(pointer: &str, value: Value) -> Result<PodToken, Refusal> {
        let mut status = good();
        match pointer {
            "" => {}
            pointer => *status.pointer_mut(pointer).unwrap() = value,
        }
        read(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_token_proves_one_pod() {
        let token = reading("", Value::Null).unwrap();
        assert_eq!((&*token.namespace, &*token.service_account), ("shop", "edge-portcullis"));
        assert_eq!((&*token.pod, &*token.pod_uid), ("edge-portcullis-5d-x", "p-1"));
    }

    #[test]
    fn what_proves_less_is_refused() {
        let pod = "/user/extra/authentication.kubernetes.io~1pod-name";
        let uid = "/user/extra/authentication.kubernetes.io~1pod-uid";
        for (pointer, value, refusal) in [
            ("/authenticated", json!(false), Refusal::Token),
            ("/authenticated", json!(null), Refusal::Token),
            ("/audiences", json!(null), Refusal::Audience),
            ("/audiences", json!([]), Refusal::Audience),
            ("/audiences", json!(["https://kubernetes.default.svc"]), Refusal::Audience),
            ("/user/username", json!("system:node:n"), Refusal::Token),
            ("/user/username", json!("system:serviceaccount:shop"), Refusal::Token),
            ("/user/username", json!("system:serviceaccount::a"), Refusal::Token),
            ("/user/username", json!("system:serviceaccount:shop:a:b"), Refusal::Token),
            ("/user/extra", json!({}), Refusal::NotOfPod),
            (pod, json!([]), Refusal::NotOfPod),
            (pod, json!(["a", "b"]), Refusal::NotOfPod),
            (pod, json!(["../a"]), Refusal::Token),
            (uid, json!([]), Refusal::NotOfPod),
            (uid, json!([""]), Refusal::Token),
        ] {
            assert_eq!(reading(pointer, value.clone()), Err(refusal), "{pointer} {value}");
        }
    }
}
