//! A pod's DNS policy and configuration, and its host aliases.

use apimachinery::names;

use crate::node::Node;
use crate::rules::ip;

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Names in a search list: subdomains, a trailing dot and underscores being allowed; `.` alone too.
fn search_domain(text: &str) -> Vec<String> {
    if text == "." {
        return vec![];
    }
    names::dns1123_subdomain(&text.strip_suffix('.').unwrap_or(text).replace('_', "x"))
}

/// `dnsPolicy` and `dnsConfig`.
pub fn of_pod(spec: Node<'_>) {
    let (policy, config) = (spec.get("dnsPolicy"), spec.get("dnsConfig"));
    policy.need_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    let nameservers = config.get("nameservers");
    if policy.str() == "None" {
        if !config.is_set() {
            config.required("must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if nameservers.is_empty() {
            nameservers.required("must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    if nameservers.len() > NAMESERVERS_MAX {
        nameservers.invalid(format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in nameservers.items() {
        ip::address(server);
    }
    searches(config.get("searches"));
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            option.required("must not be empty");
        }
    }
}

fn searches(searches: Node<'_>) {
    if searches.len() > SEARCHES_MAX {
        searches.invalid(format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    if searches.items().map(|s| s.len() + 1).sum::<usize>() > SEARCH_CHARS_MAX + 1 {
        searches.invalid(format!(
            "must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list"
        ));
    }
    for search in searches.items() {
        search.check(search_domain);
    }
}

/// `hostAliases`.
pub fn host_aliases(aliases: Node<'_>) {
    for alias in aliases.items() {
        ip::address(alias.get("ip"));
        for host in alias.get("hostnames").items() {
            host.check(names::dns1123_subdomain);
        }
    }
}
