//! Which Gateway API a cluster has, and what install does about it: it installs what is absent, and changes nothing.

use super::api_server::{ApiServer, Failure};
use super::manifests;
use super::resources::{self, DEFINITIONS};
use crate::cli::GatewayApiChannel;
use portcullis_api::Foreign;
use portcullis_api::schema::VERSION;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";
const CHANNEL: &str = "gateway.networking.k8s.io/channel";

/// A release channel of the Gateway API. <https://gateway-api.sigs.k8s.io/concepts/versioning/#release-channels>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Standard,
    Experimental,
}

impl Channel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The definitions that a cluster has, by name, with version and channel as they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found(BTreeMap<String, (String, String)>);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There are none: all of a channel.
    Install(Channel),
    /// There are some of this very release and channel: those that are missing.
    Complete { channel: Channel, missing: BTreeSet<String> },
    /// Nothing.
    Keep,
}

impl Found {
    /// What the cluster has.
    pub(crate) async fn read(server: &ApiServer) -> Result<Self, Failure> {
        let definitions = server.list_metadata(&DEFINITIONS, None).await?.unwrap_or_default();
        Ok(Self::from_definitions(&definitions))
    }

    fn from_definitions(definitions: &[Value]) -> Self {
        let found = definitions.iter().filter_map(|definition| {
            let name = resources::name(definition);
            if !name.ends_with(".gateway.networking.k8s.io") {
                return None;
            }
            let annotations = &definition["metadata"]["annotations"];
            let says = |name: &str| annotations[name].as_str().unwrap_or("unknown").to_owned();
            Some((name.to_owned(), (says(BUNDLE_VERSION), says(CHANNEL))))
        });
        Self(found.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be done, or why what was asked for cannot be.
    pub(crate) fn plan(&self, asked: Option<GatewayApiChannel>) -> Result<Plan, String> {
        let asked = match asked {
            Some(GatewayApiChannel::None) => return Ok(Plan::Keep),
            Some(GatewayApiChannel::Standard) => Some(Channel::Standard),
            Some(GatewayApiChannel::Experimental) => Some(Channel::Experimental),
            None => None,
        };
        if self.is_empty() {
            return Ok(Plan::Install(asked.unwrap_or(Channel::Standard)));
        }
        if let Some(asked) = asked
            && let Some((name, (_, channel))) = self.0.iter().find(|(_, (_, channel))| channel != asked.as_str())
        {
            return Err(format!(
                "the cluster has the Gateway API from channel {}, as {name} says, and --channel asks for {asked}: the \
                 channel is the cluster's to change; leave --channel away to take what is there",
                Foreign(channel),
            ));
        }
        let Some(channel) = self.channel_of_this_release() else { return Ok(Plan::Keep) };
        let missing: BTreeSet<String> = manifests::gateway_api(channel)
            .iter()
            .filter(|object| resources::is_definition(object))
            .map(|definition| resources::name(definition).to_owned())
            .filter(|name| name.ends_with(".gateway.networking.k8s.io") && !self.0.contains_key(name))
            .collect();
        Ok(if missing.is_empty() { Plan::Keep } else { Plan::Complete { channel, missing } })
    }

    /// The channel, if all that is there is of the release that is built in and of one channel.
    fn channel_of_this_release(&self) -> Option<Channel> {
        [Channel::Standard, Channel::Experimental]
            .into_iter()
            .find(|asked| self.0.values().all(|(version, channel)| version == VERSION && channel == asked.as_str()))
    }

    /// What was found, and what is done.
    pub(crate) fn lines(&self, plan: &Plan) -> Vec<String> {
        let mut releases: BTreeMap<&(String, String), usize> = BTreeMap::new();
        for release in self.0.values() {
            *releases.entry(release).or_default() += 1;
        }
        let mut lines: Vec<String> = releases
            .into_iter()
            .map(|((version, channel), count)| {
                format!("Gateway API: found {}, channel {}, {count} definitions", Foreign(version), Foreign(channel))
            })
            .collect();
        if lines.is_empty() {
            lines.push("Gateway API: not found".to_owned());
        }
        lines.push(match plan {
            Plan::Install(channel) => format!("Gateway API: installing {VERSION}, channel {channel}"),
            Plan::Complete { channel, missing } => {
                let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
                format!("Gateway API: adding what is missing of {VERSION}, channel {channel}: {}", missing.join(", "))
            }
            Plan::Keep if self.is_empty() => "Gateway API: not installed".to_owned(),
            Plan::Keep => "Gateway API: left as it is".to_owned(),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(definitions: &[(&str, &str, &str)]) -> Found {
        let definitions: Vec<Value> = definitions
            .iter()
            .map(|(name, version, channel)| {
                let annotations = json!({ BUNDLE_VERSION: version, CHANNEL: channel });
                json!({ "metadata": { "name": name, "annotations": annotations } })
            })
            .collect();
        Found::from_definitions(&definitions)
    }

    /// All definitions of a channel, as this release has them.
    fn all(channel: Channel) -> Found {
        let mut definitions = manifests::gateway_api(channel);
        definitions.retain(resources::is_definition);
        Found::from_definitions(&definitions)
    }

    const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";

    #[test]
    fn what_is_absent_is_installed_and_what_is_there_stays() {
        use Channel::{Experimental, Standard};
        use GatewayApiChannel as Asked;
        let nothing = || found(&[("certificates.cert-manager.io", "v1.0.0", "standard")]);
        let older = || found(&[(GATEWAYS, "v1.4.1", "standard")]);
        for (found, asked, plan) in [
            (nothing(), None, Plan::Install(Standard)),
            (nothing(), Some(Asked::Experimental), Plan::Install(Experimental)),
            (nothing(), Some(Asked::None), Plan::Keep),
            (older(), None, Plan::Keep),
            (older(), Some(Asked::Standard), Plan::Keep),
            (older(), Some(Asked::None), Plan::Keep),
            (found(&[(GATEWAYS, "v1.8.0", "experimental")]), None, Plan::Keep),
            (found(&[(GATEWAYS, "v1.8.0", "experimental")]), Some(Asked::Experimental), Plan::Keep),
            (found(&[(GATEWAYS, "", "")]), None, Plan::Keep),
            (all(Standard), None, Plan::Keep),
            (all(Experimental), Some(Asked::Experimental), Plan::Keep),
        ] {
            assert_eq!(found.plan(asked), Ok(plan), "{found:?} {asked:?}");
        }
    }

    #[test]
    fn another_channel_is_refused() {
        for (found, asked) in [
            (all(Channel::Standard), GatewayApiChannel::Experimental),
            (all(Channel::Experimental), GatewayApiChannel::Standard),
            (found(&[(GATEWAYS, "v1.4.1", "experimental")]), GatewayApiChannel::Standard),
            (Found::from_definitions(&[json!({ "metadata": { "name": GATEWAYS } })]), GatewayApiChannel::Standard),
        ] {
            assert!(found.plan(Some(asked)).is_err(), "{found:?} {asked:?}");
        }
    }

    #[test]
    fn what_is_missing_of_the_same_release_is_added() {
        let mut there = all(Channel::Standard);
        there.0.remove(GATEWAYS);
        let missing = BTreeSet::from([GATEWAYS.to_owned()]);
        assert_eq!(there.plan(None), Ok(Plan::Complete { channel: Channel::Standard, missing }));
        // Of another release, nothing is added.
        for (version, _) in there.0.values_mut() {
            *version = "v1.6.3".to_owned();
        }
        assert_eq!(there.plan(None), Ok(Plan::Keep));
    }

    #[test]
    fn what_was_found_is_told() {
        let mixed = found(&[
            (GATEWAYS, "v1.4.1", "standard"),
            ("tcproutes.gateway.networking.k8s.io", "v1.3.0", "experimental"),
        ]);
        assert_eq!(
            mixed.lines(&mixed.plan(None).unwrap()),
            [
                "Gateway API: found v1.3.0, channel experimental, 1 definitions",
                "Gateway API: found v1.4.1, channel standard, 1 definitions",
                "Gateway API: left as it is",
            ],
        );
        let nothing = Found::default();
        assert_eq!(
            nothing.lines(&nothing.plan(None).unwrap()),
            ["Gateway API: not found", "Gateway API: installing v1.7.0, channel standard"],
        );
    }
}
