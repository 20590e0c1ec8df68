//! Whose token it is: asked of the API server, which knows whether the token's pod still lives.
//!
//! In flow texts of anybody who reaches the port. Out flow, first, refusals of those that by their own words are no tokens for us, before
//! anybody is asked; then what the API server says. A token's words are never believed, and its times are for the API server alone, whose
//! clock set them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::issue::{Refusal, Unavailable};
use super::name::is_name;

/// The audience of the tokens that data planes show: such a token is of no use anywhere else, and no other token is here.
pub const AUDIENCE: &str = "portcullis.dev/controller";
/// Longest token that is asked about; a bound one has some 1,200 bytes.
pub(super) const TOKEN_LIMIT: usize = 8192;

const USERNAME: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimedToken {
    pub(super) namespace: String,
    pub(super) pod: String,
}

/// The head of a JSON Web Token (RFC 7515, section 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// What the API server writes into the token of a ServiceAccount, as far as it is looked at.
#[derive(Deserialize)]
struct Payload {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audiences,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Kubernetes,
}

/// RFC 7519, section 4.1.3: one or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Default, Deserialize)]
struct Kubernetes {
    #[serde(default)]
    namespace: String,
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Reads what a token says of itself, without knowing whether it is authentic: what says too little need not be asked about.
pub(super) fn claimed(token: &str) -> Result<ClaimedToken, Refusal> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Token);
    };
    let header: Header = decoded(header).ok_or(Refusal::Token)?;
    let is_signed = URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| !signature.is_empty());
    if !is_signed || header.alg.eq_ignore_ascii_case("none") {
        return Err(Refusal::Token);
    }
    let payload: Payload = decoded(payload).ok_or(Refusal::Token)?;
    let is_for_us = match &payload.aud {
        Audiences::One(audience) => audience == AUDIENCE,
        Audiences::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    if !is_for_us {
        return Err(Refusal::Audience);
    }
    let (namespace, account) =
        payload.sub.strip_prefix(USERNAME).and_then(|rest| rest.split_once(':')).ok_or(Refusal::Token)?;
    if payload.iss.is_empty() || !is_name(namespace) || !is_name(account) {
        return Err(Refusal::Token);
    }
    let pod = payload.kubernetes.pod.ok_or(Refusal::NotOfPod)?;
    if payload.kubernetes.namespace != namespace || !is_name(&pod.name) || pod.uid.is_empty() {
        return Err(Refusal::Token);
    }
    Ok(ClaimedToken { namespace: namespace.to_owned(), pod: pod.name })
}

fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

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

    /// As the API server of Kubernetes 1.34 writes it.
    fn payload() -> Value {
        json!({
            "aud": ["portcullis.dev/controller"],
            "exp": 1_795_003_607, "iat": 1_795_000_000, "nbf": 1_795_000_000, "jti": "c2f5",
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": {
                "namespace": "shop",
                "node": {"name": "n", "uid": "n-1"},
                "pod": {"name": "edge-portcullis-5d-x", "uid": "p-1"},
                "serviceaccount": {"name": "edge-portcullis", "uid": "sa"}
            },
            "sub": "system:serviceaccount:shop:edge-portcullis"
        })
    }

    fn jwt(header: &Value, payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(&header.to_string()), part(payload), part("signature"))
    }

    #[test]
    fn a_token_says_whose_it_is() {
        let header = json!({"alg": "RS256", "kid": "k"});
        let expected = ClaimedToken { namespace: "shop".to_owned(), pod: "edge-portcullis-5d-x".to_owned() };
        assert_eq!(claimed(&jwt(&header, &payload().to_string())), Ok(expected.clone()));
        for audiences in [json!("portcullis.dev/controller"), json!(["a", "portcullis.dev/controller"])] {
            let mut payload = payload();
            payload["aud"] = audiences;
            assert_eq!(claimed(&jwt(&header, &payload.to_string())), Ok(expected.clone()));
        }
        // Whose clock is right is not decided here.
        for skew in [-60, 60, 365 * 86_400] {
            let mut payload = payload();
            for name in ["exp", "iat", "nbf"] {
                payload[name] = json!(payload[name].as_i64().unwrap() + skew);
            }
            assert_eq!(claimed(&jwt(&header, &payload.to_string())), Ok(expected.clone()));
        }
    }

    #[test]
    fn what_says_too_little_is_not_asked_about() {
        let header = json!({"alg": "ES256"});
        for (pointer, value, refusal) in [
            ("/aud", json!("https://kubernetes.default.svc"), Refusal::Audience),
            ("/aud", json!([]), Refusal::Audience),
            ("/aud", json!(["portcullis.dev/controller/x"]), Refusal::Audience),
            ("/aud", json!(1), Refusal::Token),
            ("/aud", json!(null), Refusal::Token),
            ("/iss", json!(""), Refusal::Token),
            ("/iss", json!(7), Refusal::Token),
            ("/sub", json!("alice"), Refusal::Token),
            ("/sub", json!("system:node:n"), Refusal::Token),
            ("/sub", json!("system:serviceaccount:shop"), Refusal::Token),
            ("/sub", json!("system:serviceaccount:shop:a:b"), Refusal::Token),
            ("/sub", json!("system:serviceaccount:shop:../a"), Refusal::Token),
            ("/sub", json!("system:serviceaccount:bank:edge-portcullis"), Refusal::Token),
            ("/kubernetes.io", json!({}), Refusal::NotOfPod),
            ("/kubernetes.io", json!("shop"), Refusal::Token),
            ("/kubernetes.io/pod", json!(null), Refusal::NotOfPod),
            ("/kubernetes.io/pod/name", json!("../a"), Refusal::Token),
            ("/kubernetes.io/pod/uid", json!(""), Refusal::Token),
            ("/kubernetes.io/namespace", json!("bank"), Refusal::Token),
        ] {
            let mut payload = payload();
            *payload.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(claimed(&jwt(&header, &payload.to_string())), Err(refusal), "{pointer} {value}");
        }
        for missing in ["iss", "sub"] {
            let mut payload = payload();
            payload.as_object_mut().unwrap().remove(missing);
            assert_eq!(claimed(&jwt(&header, &payload.to_string())), Err(Refusal::Token), "{missing}");
        }
        let twice = payload().to_string().replacen('{', r#"{"sub":"system:serviceaccount:bank:x","#, 1);
        let good = jwt(&header, &payload().to_string());
        let parts: Vec<_> = good.split('.').collect();
        for token in [
            jwt(&json!({"alg": "none"}), &payload().to_string()),
            jwt(&json!({"alg": "None"}), &payload().to_string()),
            jwt(&json!({}), &payload().to_string()),
            jwt(&header, "[]"),
            jwt(&header, &"[".repeat(4000)),
            jwt(&header, &twice),
            "edge-token".to_owned(),
            String::new(),
            "..".to_owned(),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.?", parts[0], parts[1]),
            format!("{good}.{}", parts[2]),
            good.replace(parts[1], &format!("{}=", parts[1])),
        ] {
            assert_eq!(claimed(&token), Err(Refusal::Token), "{token}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(header in "\\PC{0,40}", payload in "\\PC{0,80}", rest in "[A-Za-z0-9._=-]{0,60}") {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let token = format!("{}.{}.{rest}", part(&header), part(&payload));
            proptest::prop_assert!(claimed(&token).is_err() && claimed(&rest).is_err());
        }
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
