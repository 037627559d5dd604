//! Which node ports a Service takes and gives back, as pure functions of the object and of something that hands out ports.
//!
//! Kubernetes documentation, "Service", type NodePort and "External traffic policy".

use apimachinery::ApiError;
use apimachinery::field::{Error, Path};
use apiserver_registry::services::needs_health_check;
use serde_json::Value;

/// Why a port cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The one that was asked for.
    Given(String),
    /// Any: none is left.
    Any(String),
}

/// Hands out ports.
pub trait Source {
    /// Takes the port that is asked for.
    fn take(&mut self, port: i64) -> Result<(), Refused>;
    /// Takes any port.
    fn take_any(&mut self) -> Result<i64, Refused>;
}

fn port_numbers(service: &Value) -> Vec<i64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["nodePort"].as_i64()).filter(|port| *port > 0).collect()
}

fn health_check(service: &Value) -> Option<i64> {
    service["spec"]["healthCheckNodePort"].as_i64().filter(|port| *port > 0)
}

/// The node ports that a Service has.
pub fn of(service: &Value) -> Vec<u16> {
    let all = port_numbers(service).into_iter().chain(health_check(service));
    all.filter_map(|port| u16::try_from(port).ok()).collect()
}

/// The node ports that a change of a Service leaves to others.
pub fn freed(service: &Value, old: &Value) -> Vec<u16> {
    let now = of(service);
    let mut freed: Vec<u16> = of(old).into_iter().filter(|port| !now.contains(port)).collect();
    freed.sort_unstable();
    freed.dedup();
    freed
}

/// Whether a Service has node ports at all.
pub fn concerns(service: &Value) -> bool {
    matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"))
}

/// Whether ports that have none get one. A load balancer may do without.
fn allocates(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false
}

fn invalid(service: &Value, index: usize, port: i64, refused: Refused) -> ApiError {
    let path = Path::new("spec").child("ports").index(index).child("nodePort");
    match refused {
        Refused::Given(detail) => {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            ApiError::invalid("", "Service", name, &[Error::invalid(&path, port, detail)])
        }
        Refused::Any(detail) => ApiError::internal(format!("failed to allocate a nodePort: {detail}")),
    }
}

/// Takes what a Service needs beyond what it had as `old`, and writes it into the Service.
///
/// # Errors
/// `Invalid` for a port that cannot be had; `InternalError` when none is left.
pub fn allocate(service: &mut Value, old: Option<&Value>, source: &mut dyn Source) -> Result<(), ApiError> {
    if concerns(service) {
        match old {
            None => allocate_new(service, source)?,
            Some(old) => allocate_changed(service, &port_numbers(old), source)?,
        }
    }
    let had = old.is_some_and(|old| needs_health_check(&old["spec"]));
    if needs_health_check(&service["spec"]) && !had {
        let taken = match health_check(service) {
            Some(port) => source.take(port).map(|()| port),
            None => source.take_any(),
        };
        let port = taken.map_err(|refused| {
            let (Refused::Given(detail) | Refused::Any(detail)) = refused;
            ApiError::internal(format!("failed to allocate a HealthCheck NodePort: {detail}"))
        })?;
        service["spec"]["healthCheckNodePort"] = port.into();
    }
    Ok(())
}

/// A new Service: ports of the same number, for several protocols, share one node port, unless they name others.
fn allocate_new(service: &mut Value, source: &mut dyn Source) -> Result<(), ApiError> {
    let allocates = allocates(service);
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let mut shared: Vec<(i64, i64)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let (number, given) = (port["port"].as_i64().unwrap_or(0), port["nodePort"].as_i64().unwrap_or(0));
        if given == 0 && !allocates {
            continue;
        }
        let node_port = match shared.iter().find(|(known, _)| *known == number) {
            Some((_, known)) if given == 0 || given == *known => *known,
            Some(_) => source.take(given).map(|()| given).map_err(|why| invalid(service, index, given, why))?,
            None => {
                let named = ports.iter().filter(|other| other["port"].as_i64().unwrap_or(0) == number);
                let named = named.filter_map(|other| other["nodePort"].as_i64()).find(|port| *port != 0);
                let taken = match named {
                    Some(port) => source.take(port).map(|()| port),
                    None => source.take_any(),
                };
                let taken = taken.map_err(|why| invalid(service, index, named.unwrap_or(0), why))?;
                shared.push((number, taken));
                taken
            }
        };
        service["spec"]["ports"][index]["nodePort"] = node_port.into();
    }
    Ok(())
}

/// A Service that had ports: those are its own still.
fn allocate_changed(service: &mut Value, had: &[i64], source: &mut dyn Source) -> Result<(), ApiError> {
    let allocates = allocates(service);
    let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    let mut taken: Vec<i64> = had.to_vec();
    for index in 0..count {
        let given = service["spec"]["ports"][index]["nodePort"].as_i64().unwrap_or(0);
        if given != 0 {
            if !taken.contains(&given) {
                source.take(given).map_err(|why| invalid(service, index, given, why))?;
                taken.push(given);
            }
        } else if allocates {
            let port = source.take_any().map_err(|why| invalid(service, index, 0, why))?;
            service["spec"]["ports"][index]["nodePort"] = port.into();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Gives 30000 and up, and refuses what it gave.
    #[derive(Default)]
    struct Fake(Vec<i64>);

    impl Source for Fake {
        fn take(&mut self, port: i64) -> Result<(), Refused> {
            if self.0.contains(&port) {
                return Err(Refused::Given("provided port is already allocated".into()));
            }
            self.0.push(port);
            Ok(())
        }

        fn take_any(&mut self) -> Result<i64, Refused> {
            let port = (30_000..).find(|port| !self.0.contains(port)).expect("endless");
            self.0.push(port);
            Ok(port)
        }
    }

    fn service(kind: &str, ports: Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}})
    }

    fn allocated(mut service: Value, old: Option<&Value>) -> Result<Vec<i64>, u16> {
        allocate(&mut service, old, &mut Fake::default()).map_err(|error| error.code())?;
        Ok(port_numbers(&service))
    }

    #[test]
    fn protocols_of_one_port_share_a_node_port() {
        let ports = json!([{"port": 53, "protocol": "TCP"}, {"port": 80}, {"port": 53, "protocol": "UDP"}]);
        assert_eq!(allocated(service("NodePort", ports), None), Ok(vec![30_000, 30_001, 30_000]));
        let ports = json!([{"port": 53}, {"port": 53, "nodePort": 30_053}]);
        assert_eq!(allocated(service("NodePort", ports), None), Ok(vec![30_053, 30_053]));
        let ports = json!([{"port": 1, "nodePort": 30_001}, {"port": 2, "nodePort": 30_001}]);
        assert_eq!(allocated(service("NodePort", ports), None), Err(422));
    }

    #[test]
    fn a_load_balancer_may_do_without() {
        let mut balancer = service("LoadBalancer", json!([{"port": 1}, {"port": 2, "nodePort": 30_002}]));
        balancer["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        assert_eq!(allocated(balancer, None), Ok(vec![30_002]));
        assert_eq!(allocated(service("ClusterIP", json!([{"port": 1}])), None), Ok(vec![]));
    }

    #[test]
    fn health_checks_have_a_port_of_their_own() {
        let mut balancer = service("LoadBalancer", json!([{"port": 1}]));
        balancer["spec"]["externalTrafficPolicy"] = json!("Local");
        let old = balancer.clone();
        allocate(&mut balancer, None, &mut Fake::default()).expect("allocated");
        assert_eq!(of(&balancer), [30_000, 30_001]);
        let before = balancer.clone();
        allocate(&mut balancer, Some(&before), &mut Fake::default()).expect("nothing to allocate");
        assert_eq!(of(&balancer), [30_000, 30_001]);
        assert_eq!(freed(&old, &before), [30_000, 30_001]);
    }

    #[test]
    fn a_change_keeps_what_it_had_and_frees_what_it_leaves() {
        let old = service("NodePort", json!([{"port": 1, "nodePort": 30_001}, {"port": 2, "nodePort": 30_002}]));
        let new = service("NodePort", json!([{"port": 2, "nodePort": 30_002}, {"port": 3}]));
        assert_eq!(allocated(new.clone(), Some(&old)), Ok(vec![30_002, 30_000]));
        assert_eq!(freed(&new, &old), [30_001]);
    }
}
