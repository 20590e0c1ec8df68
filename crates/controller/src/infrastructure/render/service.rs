//! Services. Metrics are on none of them: their port is for those inside the cluster who select pods.

use std::collections::BTreeSet;

use portcullis_api::gateway_parameters::DataPlaneService;
use portcullis_api::service::ServiceType;
use portcullis_compile::TransportProtocol;
use portcullis_model::pod_port;
use serde_json::{Map, Value, json};

use super::super::address::{Place, Wish, WishedAddress};
use super::{Context, Kind, Rendered};

impl Context<'_> {
    pub(super) fn service(&self, place: &Place, ports: &BTreeSet<(u16, TransportProtocol)>) -> Rendered {
        let settings = self.parameters.service.as_deref().cloned().unwrap_or_default();
        let r#type = service_type(place.wish.as_ref(), &settings);
        let mut spec = Map::new();
        let mut set = |name: &str, value: Value| spec.insert(name.to_owned(), value);
        set("type", json!(r#type));
        set("selector", json!(self.names.selector()));
        set("ports", ports.iter().map(|(port, protocol)| service_port(*port, *protocol)).collect());
        if r#type != ServiceType::ClusterIp
            && let Some(policy) = &settings.external_traffic_policy
        {
            set("externalTrafficPolicy", json!(policy));
        }
        if r#type == ServiceType::LoadBalancer {
            if let Some(class) = &settings.load_balancer_class {
                set("loadBalancerClass", json!(class));
            }
            if !settings.load_balancer_source_ranges.is_empty() {
                set("loadBalancerSourceRanges", json!(settings.load_balancer_source_ranges));
            }
        }
        if let Some(Wish { address: WishedAddress::Ip(address), .. }) = &place.wish {
            match r#type {
                ServiceType::LoadBalancer => _ = set("loadBalancerIP", json!(address)),
                ServiceType::ClusterIp => _ = set("clusterIP", json!(address)),
                _ => {}
            }
            if address.is_ipv6() {
                set("ipFamilyPolicy", json!("SingleStack"));
                set("ipFamilies", json!(["IPv6"]));
            }
        }
        self.named(Kind::Service, &place.name, json!({"spec": spec}), &settings.labels, &settings.annotations)
    }
}

fn service_type(wish: Option<&Wish>, settings: &DataPlaneService) -> ServiceType {
    match wish {
        Some(wish) if !wish.cluster => settings.r#type.clone().unwrap_or(ServiceType::LoadBalancer),
        // In the cluster only; or the name alone, as other Services have the addresses.
        _ => ServiceType::ClusterIp,
    }
}

/// The name follows from port and protocol, so that it stays what it is.
fn service_port(port: u16, protocol: TransportProtocol) -> Value {
    let name = format!("{}-{port}", protocol.as_str().to_ascii_lowercase());
    json!({"name": name, "protocol": protocol, "port": port, "targetPort": pod_port(port)})
}
