//! What a Service needs of addresses, as pure functions of the object: which families, and which addresses to take and to give
//! back.
//!
//! KEP-563, IPv4/IPv6 dual-stack.

use std::net::IpAddr;

use apimachinery::field::{Error, ErrorList, Path};
use apiserver_registry::services;
use ipnet::IpNet;
use rand::Rng;
use serde_json::{Value, json};

/// An IP family as Services name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn parse(name: &str) -> Self {
        if name == "IPv6" { Family::V6 } else { Family::V4 }
    }

    fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// The ranges of Service addresses (`--service-cluster-ip-range`), the primary family first.
#[derive(Clone, Debug)]
pub struct Families(pub Vec<IpNet>);

/// An address that a Service is still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Given { index: usize, address: String },
    Any { index: usize, family: Family },
}

impl Wanted {
    pub fn index(&self) -> usize {
        match self {
            Wanted::Given { index, .. } | Wanted::Any { index, .. } => *index,
        }
    }
}

fn size(net: &IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u128.checked_shl(bits.min(64)).unwrap_or(u128::MAX)
}

fn nth(net: &IpNet, offset: u128) -> IpAddr {
    match net.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + offset as u32).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + offset).into()),
    }
}

impl Families {
    pub fn first_address(&self) -> IpAddr {
        nth(&self.0[0], 1)
    }

    fn range(&self, family: Family) -> Option<&IpNet> {
        self.0.iter().find(|net| Family::of(net.network()) == family)
    }

    /// An address that a client asks for, when it is within a range.
    pub fn check(&self, text: &str) -> Result<IpAddr, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
        let inside = self.range(Family::of(address)).filter(|net| net.contains(&address));
        let usable =
            inside.is_some_and(|net| net.network() != address && (net.broadcast() != address || address.is_ipv6()));
        if usable {
            Ok(address)
        } else {
            Err(format!("failed to allocate IP {text}: the provided network does not match the current range"))
        }
    }

    /// Addresses to try: some at random from the upper band of the range, then all of them in order. The lower band is left to
    /// those who choose their address (KEP-3070).
    pub fn candidates(&self, family: Family, random: usize) -> impl Iterator<Item = IpAddr> + use<> {
        let net = self.range(family).copied();
        net.into_iter().flat_map(move |net| {
            let last = size(&net) - 1 - u128::from(net.network().is_ipv4());
            let band = (size(&net) / 16).clamp(16.min(size(&net) / 2), 256);
            let mut rng = rand::rng();
            let tries: Vec<u128> = (0..random).filter(|_| band < last).map(|_| rng.random_range(band..=last)).collect();
            let ordered = (band.max(1)..=last).chain(1..band.max(1));
            tries.into_iter().chain(ordered).map(move |offset| nth(&net, offset))
        })
    }

    /// Fills `ipFamilies` and `ipFamilyPolicy`, and finds that the cluster cannot give what is asked for.
    ///
    /// # Errors
    /// What is wrong with the fields that say which addresses the Service has. Nothing else of it is looked at then.
    pub fn complete(&self, service: &mut Value, old: Option<&Value>) -> Result<(), ErrorList> {
        if service["spec"]["type"] == "ExternalName" || old.is_some_and(|old| keeps_dual_stack(service, old)) {
            return Ok(());
        }
        let own = old.map(|old| &old["spec"]["ipFamilyPolicy"]).filter(|policy| !policy.is_null());
        let spec = &mut service["spec"];
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = match own {
                Some(policy) => policy.clone(),
                None if is_headless_alone(spec) => "RequireDualStack".into(),
                None => "SingleStack".into(),
            };
        }
        refuse(services::validate_cluster_ip_fields(service))?;
        let spec = &mut service["spec"];
        let mut errors = old.map(|old| release_second(spec, &old["spec"])).unwrap_or_default();
        errors.extend(self.infer_families(spec));
        refuse(errors)?;
        let alone = is_headless_alone(spec);
        if !alone {
            refuse(self.configured(spec))?;
        }
        self.add_families(spec, alone);
        Ok(())
    }

    /// The families of the addresses that are given.
    fn infer_families(&self, spec: &mut Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let (ips, mut families) = (texts(&spec["clusterIPs"]), texts(&spec["ipFamilies"]));
        if spec["ipFamilyPolicy"] == "SingleStack" {
            for (what, list) in [("cluster IPs", &ips), ("IP families", &families)] {
                if list.len() == 2 {
                    let detail =
                        format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                    errors.push(Error::invalid(&path.child("ipFamilyPolicy"), "SingleStack", detail));
                }
            }
        }
        for (index, address) in ips.iter().enumerate().skip(families.len()) {
            let Ok(address) = address.parse().map(Family::of) else { continue };
            if self.range(address).is_some() {
                families.push(address.name().to_owned());
            } else {
                let detail = format!("{} is not configured on this cluster", address.name());
                errors.push(Error::invalid(&path.child("clusterIPs").index(index), ips.clone(), detail));
            }
        }
        if !families.is_empty() {
            spec["ipFamilies"] = families.into();
        }
        errors
    }

    /// Whether the cluster has what the Service says it must have.
    fn configured(&self, spec: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        if spec["ipFamilyPolicy"] == "RequireDualStack" && self.0.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(Error::invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail));
        }
        for (index, family) in texts(&spec["ipFamilies"]).into_iter().enumerate() {
            if self.range(Family::parse(&family)).is_none() {
                let at = path.child("ipFamilies").index(index);
                errors.push(Error::invalid(&at, family, "not configured on this cluster"));
            }
        }
        errors
    }

    /// The primary family where none is named, and the other one where both are wanted and can be had. A Service without addresses
    /// of its own and without a selector can have those that the cluster has not.
    fn add_families(&self, spec: &mut Value, alone: bool) {
        let mut families = texts(&spec["ipFamilies"]);
        if families.is_empty() {
            families.push(Family::of(self.0[0].network()).name().to_owned());
        }
        if families.len() == 1 && spec["ipFamilyPolicy"] != "SingleStack" && (alone || self.0.len() == 2) {
            families.push(Family::parse(&families[0]).other().name().to_owned());
        }
        spec["ipFamilies"] = families.into();
    }
}

fn refuse(errors: ErrorList) -> Result<(), ErrorList> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A headless Service whose endpoints are written by someone else.
fn is_headless_alone(spec: &Value) -> bool {
    spec["clusterIP"] == "None" && spec["selector"].as_object().is_none_or(|selector| selector.is_empty())
}

fn is_headless(spec: &Value) -> bool {
    spec["clusterIPs"][0] == "None"
}

/// A Service that prefers two families keeps what it has until it says otherwise, whatever the cluster's ranges are now.
fn keeps_dual_stack(service: &Value, old: &Value) -> bool {
    let (spec, old) = (&service["spec"], &old["spec"]);
    let prefers = |spec: &Value| spec["ipFamilyPolicy"] == "PreferDualStack";
    let same = |field: &str| texts(&spec[field]) == texts(&old[field]);
    prefers(spec)
        && (prefers(old) || old["ipFamilyPolicy"].is_null())
        && spec["type"] == old["type"]
        && same("clusterIPs")
        && same("ipFamilies")
}

/// Who asks for one family gives the second one back. Who takes one away without saying so is asked to.
fn release_second(spec: &mut Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let single = spec["ipFamilyPolicy"] == "SingleStack";
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (texts(&spec[field]), texts(&old[field]));
        if single && now.len() > 1 && now == before {
            spec[field] = json!([now[0]]);
        } else if !single && !now.is_empty() && now.len() < before.len() {
            let path = Path::new("spec").child("ipFamilyPolicy");
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Error::invalid(&path, spec["ipFamilyPolicy"].clone(), detail));
        }
    }
    errors
}

/// The addresses that a Service has.
pub fn addresses(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut found = texts(&spec["clusterIPs"]);
    if found.is_empty() {
        found.extend(spec["clusterIP"].as_str().map(str::to_owned));
    }
    found.retain(|address| !address.is_empty() && address != "None");
    found
}

/// The addresses to take for a (completed) Service that was `old`.
pub fn wanted_addresses(service: &Value, old: Option<&Value>) -> Vec<Wanted> {
    let spec = &service["spec"];
    let families = texts(&spec["ipFamilies"]);
    let external = |spec: &Value| spec["type"] == "ExternalName";
    let first = match old.map(|old| &old["spec"]) {
        _ if external(spec) || is_headless(spec) => return Vec::new(),
        Some(old) if !external(old) => {
            let upgraded = !is_headless(old) && texts(&old["ipFamilies"]).len() == 1 && families.len() == 2;
            if !upgraded {
                return Vec::new();
            }
            1
        }
        _ => 0,
    };
    let given = texts(&spec["clusterIPs"]);
    let wanted = |(index, family): (usize, String)| match given.get(index).filter(|address| !address.is_empty()) {
        Some(address) => Wanted::Given { index, address: address.clone() },
        None => Wanted::Any { index, family: Family::parse(&family) },
    };
    families.into_iter().enumerate().skip(first).map(wanted).collect()
}

/// The addresses that a change of a Service leaves to others.
pub fn freed_addresses(service: &Value, old: &Value) -> Vec<String> {
    let now = addresses(service);
    let external = service["spec"]["type"] == "ExternalName";
    addresses(old).into_iter().filter(|address| external || !now.contains(address)).collect()
}

/// Writes an allocated address.
pub fn set_address(service: &mut Value, index: usize, address: &str) {
    let spec = &mut service["spec"];
    if !spec["clusterIPs"].is_array() {
        spec["clusterIPs"] = json!([]);
    }
    if let Some(all) = spec["clusterIPs"].as_array_mut() {
        all.resize(all.len().max(index + 1), Value::from(""));
        all[index] = address.into();
    }
    if index == 0 {
        spec["clusterIP"] = address.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(ranges: &[&str]) -> Families {
        Families(ranges.iter().map(|range| range.parse().expect("a range")).collect())
    }

    fn completed(ranges: &[&str], spec: Value, old: Option<Value>) -> Result<Value, Vec<String>> {
        let mut service = json!({"spec": spec});
        let old = old.map(|spec| json!({"spec": spec}));
        match families(ranges).complete(&mut service, old.as_ref()) {
            Ok(()) => Ok(service["spec"].take()),
            Err(errors) => Err(errors.into_iter().map(|e| e.field).collect()),
        }
    }

    const ONE: &[&str] = &["10.96.0.0/12"];
    const TWO: &[&str] = &["10.96.0.0/12", "fd00::/108"];

    #[test]
    fn a_service_gets_the_primary_family() {
        let mut service = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        families(ONE).complete(&mut service, None).expect("complete");
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(wanted_addresses(&service, None), [Wanted::Any { index: 0, family: Family::V4 }]);
        set_address(&mut service, 0, "10.96.0.9");
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.9");
        assert!(wanted_addresses(&service, Some(&service.clone())).is_empty());
    }

    #[test]
    fn headless_and_external_services_get_no_address() {
        for spec in
            [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"type": "ExternalName", "externalName": "x"})]
        {
            let mut service = json!({"spec": spec});
            families(ONE).complete(&mut service, None).expect("complete");
            assert!(wanted_addresses(&service, None).is_empty());
        }
    }

    #[test]
    fn families_are_those_of_the_addresses_and_of_the_policy() {
        let list = |spec: Value| completed(TWO, spec, None).map(|spec| spec["ipFamilies"].clone());
        let given = json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]});
        assert_eq!(list(given), Ok(json!(["IPv6"])));
        assert_eq!(list(json!({"ipFamilyPolicy": "PreferDualStack"})), Ok(json!(["IPv4", "IPv6"])));
        assert_eq!(list(json!({"ipFamilies": ["IPv6"]})), Ok(json!(["IPv6"])));
        let alone = completed(ONE, json!({"clusterIP": "None", "clusterIPs": ["None"]}), None).expect("complete");
        assert_eq!(alone["ipFamilyPolicy"], "RequireDualStack");
        assert_eq!(alone["ipFamilies"], json!(["IPv4", "IPv6"]));
    }

    #[test]
    fn what_the_cluster_cannot_give_is_refused() {
        let fields = |spec: Value| completed(ONE, spec, None).expect_err("refused");
        assert_eq!(fields(json!({"ipFamilyPolicy": "RequireDualStack"})), ["spec.ipFamilyPolicy"]);
        assert_eq!(fields(json!({"ipFamilies": ["IPv6"]})), ["spec.ipFamilies[0]"]);
        assert_eq!(fields(json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]})), ["spec.clusterIPs[0]"]);
        assert_eq!(
            fields(json!({"ipFamilies": ["x", "x"]})),
            ["spec.ipFamilies[0]", "spec.ipFamilies[1]", "spec.ipFamilies[1]"]
        );
        assert_eq!(fields(json!({"clusterIPs": ["10.96.0.9"]})), ["spec.clusterIPs"]);
    }

    #[test]
    fn a_second_family_comes_and_goes() {
        let one = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let mut asked = one.clone();
        asked["ipFamilyPolicy"] = json!("RequireDualStack");
        let two = completed(TWO, asked, Some(one.clone())).expect("complete");
        let (service, old) = (json!({"spec": two}), json!({"spec": one}));
        assert_eq!(wanted_addresses(&service, Some(&old)), [Wanted::Any { index: 1, family: Family::V6 }]);

        let mut both = two.clone();
        both["clusterIPs"] = json!(["10.96.0.9", "fd00::9"]);
        let mut asked = both.clone();
        asked["ipFamilyPolicy"] = json!("SingleStack");
        let single = completed(TWO, asked, Some(both.clone())).expect("complete");
        assert_eq!((&single["clusterIPs"], &single["ipFamilies"]), (&json!(["10.96.0.9"]), &json!(["IPv4"])));
        assert_eq!(freed_addresses(&json!({"spec": single}), &json!({"spec": both})), ["fd00::9"]);

        let mut silent = both.clone();
        silent["clusterIPs"] = json!(["10.96.0.9"]);
        assert_eq!(completed(TWO, silent, Some(both)), Err(vec!["spec.ipFamilyPolicy".to_owned()]));
    }

    #[test]
    fn candidates_stay_within_the_range_and_reach_all_of_it() {
        let families = families(&["10.0.0.0/29"]);
        let all: std::collections::BTreeSet<IpAddr> = families.candidates(Family::V4, 4).collect();
        let expected: std::collections::BTreeSet<IpAddr> =
            (1..=6).map(|n| format!("10.0.0.{n}").parse().expect("an address")).collect();
        assert_eq!(all, expected);
        assert!(families.check("10.0.0.0").is_err() && families.check("10.0.0.7").is_err());
        assert!(families.check("10.0.0.3").is_ok() && families.check("11.0.0.1").is_err());
    }
}
