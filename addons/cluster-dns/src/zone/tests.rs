use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(name: &str, protocol: &str, port: u16) -> Port {
    Port { name: name.into(), protocol: protocol.into(), port }
}

fn endpoint(address: &str, hostname: Option<&str>) -> Endpoint {
    Endpoint { addresses: vec![ip(address)], hostname: hostname.map(Into::into) }
}

fn slice(service: &str, ports: Vec<Port>, endpoints: Vec<Endpoint>) -> Slice {
    Slice { service: ServiceName::new("shop", service), ports, endpoints }
}

/// Services of every kind in the namespace `shop`.
fn zone() -> Zone {
    let mut zone = Zone::new("Cluster.Local.", 30);
    let mut add = |name: &str, kind, ports| {
        zone.set_service(&ServiceName::new("shop", name), Some(Service { kind, ports }));
    };
    let web = vec![port("http", "tcp", 80), port("", "udp", 53)];
    add("web", Kind::ClusterIp(vec![ip("10.96.0.5"), ip("fd00:96::5")]), web);
    add("db", Kind::Headless, vec![port("pg", "tcp", 5432)]);
    add("none", Kind::Headless, vec![port("pg", "tcp", 5432)]);
    add("search", Kind::ExternalName("example.org".into()), vec![]);
    let db = vec![endpoint("10.244.1.2", Some("db-0")), endpoint("10.244.1.3", None)];
    zone.set_slice(&("shop".into(), "db-1".into()), Some(slice("db", vec![port("pg", "tcp", 5432)], db)));
    zone
}

/// One line per record: `type value`, those of SRV targets after a `+`; `NXDOMAIN` and `elsewhere` where that is the answer.
fn look(lookup: Lookup) -> String {
    let line = |r: &Record| match &r.data {
        RecordData::Address(ip) if ip.is_ipv4() => format!("A {ip}"),
        RecordData::Address(ip) => format!("AAAA {ip}"),
        RecordData::Srv(port, weight, target) => format!("SRV {weight} {port} {target}"),
        RecordData::Ptr(name) => format!("PTR {name}"),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Txt(text) => format!("TXT {text}"),
        RecordData::Ns(name) => format!("NS {name}"),
    };
    match lookup {
        Lookup::Elsewhere => "elsewhere".into(),
        Lookup::NoName => "NXDOMAIN".into(),
        Lookup::Records { records, additional } => {
            let extra = additional.iter().map(|r| format!("+ {} {}", r.name, line(r)));
            records.iter().map(line).chain(extra).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn names_have_the_records_of_the_specification() {
    let zone = zone();
    let web = "web.shop.svc.cluster.local";
    let web_extra = format!("+ {web} A 10.96.0.5; + {web} AAAA fd00:96::5");
    let db0 = "db-0.db.shop.svc.cluster.local";
    let db1 = "10-244-1-3.db.shop.svc.cluster.local";
    let db_extra = format!("+ {db0} A 10.244.1.2; + {db1} A 10.244.1.3");
    let db_srv = format!("SRV 50 5432 {db1}; SRV 50 5432 {db0}");
    #[rustfmt::skip]
    let cases = [
        ("cluster.local", "NS ns.dns.cluster.local".to_owned()),
        ("dns-version.cluster.local", "TXT 1.1.0".into()),
        // A Service with cluster IPs.
        (web, format!("A 10.96.0.5; AAAA fd00:96::5; SRV 100 80 {web}; SRV 100 53 {web}; {web_extra}")),
        ("_http._tcp.web.shop.svc.cluster.local", format!("SRV 100 80 {web}; {web_extra}")),
        ("_http._udp.web.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("_._udp.web.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("_tcp.web.shop.svc.cluster.local", "".into()),
        ("_sctp.web.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("x.web.shop.svc.cluster.local", "NXDOMAIN".into()),
        // A headless one.
        ("db.shop.svc.cluster.local", format!("A 10.244.1.2; A 10.244.1.3; {db_srv}; {db_extra}")),
        ("_pg._tcp.db.shop.svc.cluster.local", format!("{db_srv}; {db_extra}")),
        (db0, format!("A 10.244.1.2; SRV 100 5432 {db0}; + {db0} A 10.244.1.2")),
        (db1, format!("A 10.244.1.3; SRV 100 5432 {db1}; + {db1} A 10.244.1.3")),
        ("10-244-1-2.db.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("none.shop.svc.cluster.local", "NXDOMAIN".into()),
        // Another name for something outside.
        ("search.shop.svc.cluster.local", "CNAME example.org".into()),
        // Names in between exist, others do not.
        ("svc.cluster.local", "".into()),
        ("shop.svc.cluster.local", "".into()),
        ("empty.svc.cluster.local", "NXDOMAIN".into()),
        ("gone.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("a.b.c.web.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("shop.cluster.local", "NXDOMAIN".into()),
        // What search paths make of names that are complete already.
        ("web.shop.svc.cluster.local.shop.svc.cluster.local", "NXDOMAIN".into()),
        ("example.org.cluster.local", "NXDOMAIN".into()),
        ("example.org", "elsewhere".into()),
        ("notcluster.local", "elsewhere".into()),
        // Pods by address.
        ("10-244-1-2.shop.pod.cluster.local", "A 10.244.1.2".into()),
        ("fd00--1.shop.pod.cluster.local", "AAAA fd00::1".into()),
        ("web.shop.pod.cluster.local", "NXDOMAIN".into()),
    ];
    for (name, expected) in cases {
        assert_eq!(look(zone.lookup(name)), expected, "{name}");
    }
}

#[test]
fn addresses_have_the_names_of_services_and_of_endpoints_without_a_cluster_ip() {
    let zone = zone();
    for (address, expected) in [
        ("10.96.0.5", "PTR web.shop.svc.cluster.local"),
        ("fd00:96::5", "PTR web.shop.svc.cluster.local"),
        ("10.244.1.2", "PTR db-0.db.shop.svc.cluster.local"),
        ("10.244.1.3", "PTR 10-244-1-3.db.shop.svc.cluster.local"),
        ("10.96.0.6", "elsewhere"),
    ] {
        assert_eq!(look(zone.reverse(ip(address))), expected, "{address}");
    }
}

#[test]
fn changes_leave_nothing_behind() {
    let mut zone = zone();
    let slice_name = ("shop".to_owned(), "db-1".to_owned());
    let moved = slice("db", vec![port("pg", "tcp", 5432)], vec![endpoint("10.244.1.9", Some("db-0"))]);
    zone.set_slice(&slice_name, Some(moved));
    assert_eq!(look(zone.reverse(ip("10.244.1.2"))), "elsewhere");
    assert_eq!(look(zone.reverse(ip("10.244.1.9"))), "PTR db-0.db.shop.svc.cluster.local");
    zone.set_slice(&slice_name, None);
    for name in ["web", "db", "none", "search"] {
        zone.set_service(&ServiceName::new("shop", name), None);
    }
    assert!(zone.services.is_empty() && zone.slices.is_empty() && zone.slices_of.is_empty());
    assert!(zone.namespaces.is_empty() && zone.by_ip.is_empty());
    assert_eq!(look(zone.lookup("shop.svc.cluster.local")), "NXDOMAIN");
}

#[test]
fn an_endpoint_in_two_slices_keeps_its_address_until_both_are_gone() {
    let mut zone = zone();
    let again = slice("db", vec![], vec![endpoint("10.244.1.2", Some("db-0"))]);
    zone.set_slice(&("shop".into(), "db-2".into()), Some(again));
    zone.set_slice(&("shop".into(), "db-1".into()), None);
    assert_eq!(look(zone.reverse(ip("10.244.1.2"))), "PTR db-0.db.shop.svc.cluster.local");
}

#[test]
fn only_ready_endpoints_count() {
    let slice: k8s_openapi::api::discovery::v1::EndpointSlice = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.2"], "conditions": {}},
        ],
        "ports": [{"port": 5432}],
    }))
    .unwrap();
    let slice = Slice::from_api(&slice).unwrap();
    assert_eq!(slice.endpoints, [endpoint("10.0.0.2", None)]);
    assert_eq!(slice.ports, [port("", "tcp", 5432)]);
}
