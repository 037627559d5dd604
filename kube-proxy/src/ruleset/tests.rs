use super::*;

fn element(key: &str, value: &str) -> (Key, Value) {
    (Key::Element(Family::V4, "service-ips".into(), key.into()), Value::Element(value.into()))
}

fn chain(name: &'static str, rules: &[&str]) -> (Key, Value) {
    let rules = rules.iter().map(|r| (*r).to_owned()).collect();
    (Key::Chain(Family::V4, name.into()), Value::Chain { hook: None, rules })
}

fn owner(name: &str) -> Owner {
    Owner::Service(ServiceName::new("ns", name))
}

fn lines(ruleset: &mut Ruleset) -> Vec<String> {
    ruleset.take_changes().render().lines().map(|l| l.replace("ip kube-proxy ", "")).collect()
}

#[test]
fn only_what_changed_is_sent() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("a"), vec![element("1", "goto x"), element("2", "goto x"), chain("x", &["accept"])]);
    assert_eq!(
        lines(&mut rules),
        ["add chain x", "add element service-ips { 1 : goto x, 2 : goto x }", "add rule x accept"]
    );
    rules.replace(&owner("a"), vec![element("1", "goto x"), element("2", "goto x"), chain("x", &["accept"])]);
    assert!(rules.take_changes().is_empty());
    rules.replace(&owner("a"), vec![element("1", "drop"), element("3", "goto x"), chain("x", &["accept"])]);
    assert_eq!(
        lines(&mut rules),
        ["delete element service-ips { 1, 2 }", "add element service-ips { 1 : drop, 3 : goto x }"]
    );
}

#[test]
fn a_change_and_its_reversal_send_nothing() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("a"), vec![element("1", "drop")]);
    rules.take_changes();
    rules.replace(&owner("a"), vec![]);
    rules.replace(&owner("a"), vec![element("1", "drop")]);
    assert!(rules.take_changes().is_empty());
}

#[test]
fn a_shared_object_goes_with_its_last_owner() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("a"), vec![chain("shared", &["accept"])]);
    rules.replace(&owner("b"), vec![chain("shared", &["accept"])]);
    rules.take_changes();
    rules.replace(&owner("a"), vec![]);
    assert!(rules.take_changes().is_empty());
    rules.replace(&owner("b"), vec![]);
    assert_eq!(lines(&mut rules), ["flush chain shared", "delete chain shared"]);
    assert!(rules.is_empty());
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("b"), vec![element("192.0.2.1", "goto b")]);
    assert_eq!(lines(&mut rules), ["add element service-ips { 192.0.2.1 : goto b }"]);
    rules.replace(&owner("a"), vec![element("192.0.2.1", "goto a")]);
    assert_eq!(
        lines(&mut rules),
        ["delete element service-ips { 192.0.2.1 }", "add element service-ips { 192.0.2.1 : goto a }"]
    );
    rules.replace(&owner("a"), vec![]);
    assert_eq!(
        lines(&mut rules),
        ["delete element service-ips { 192.0.2.1 }", "add element service-ips { 192.0.2.1 : goto b }"]
    );
}

#[test]
fn a_changed_chain_is_refilled_in_place() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("a"), vec![chain("x", &["one", "two"])]);
    rules.take_changes();
    rules.replace(&owner("a"), vec![chain("x", &["three"])]);
    assert_eq!(lines(&mut rules), ["flush chain x", "add rule x three"]);
}

#[test]
fn a_rebuild_replaces_the_table_in_one_script() {
    let mut rules = Ruleset::default();
    rules.replace(&owner("a"), vec![chain("x", &["accept"])]);
    rules.take_changes();
    let script = rules.rebuild(&[Family::V4]).render();
    let lines: Vec<&str> = script.lines().collect();
    assert_eq!(lines[..2], ["add table ip kube-proxy", "delete table ip kube-proxy"]);
    assert_eq!(lines[3..], ["add chain ip kube-proxy x", "add rule ip kube-proxy x accept"]);
}
