//! What of an outcome is compared: where the original may say one thing or another, and where an older one says something else.

use super::world::Outcome;

/// Whether a command changes nothing, so that it may run again.
pub fn looks(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        Some("get" | "describe" | "version" | "api-resources" | "wait" | "explain" | "logs") => true,
        Some("rollout") => matches!(words.next(), Some("status" | "history")),
        _ => false,
    }
}

/// The original prints the logs of several containers in any order.
pub fn in_order(line: &str, mut outcome: Outcome) -> Outcome {
    if line.starts_with("logs") && line.contains("--all-containers") {
        let mut lines: Vec<&str> = outcome.out.split_inclusive('\n').collect();
        lines.sort_unstable();
        outcome.out = lines.concat();
    }
    outcome
}

/// What the present version says where an older one says something else, and what is no part of what is compared.
pub fn of_today(line: &str, version: &str, outcome: Outcome) -> Outcome {
    let minor: u32 = version.split('.').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let Outcome { code, mut out, err } = outcome;
    // Libraries of the original log what they do.
    let mut err: String = err.split_inclusive('\n').filter(|line| !is_log(line)).collect();
    if line.starts_with("version") {
        // There is no kustomize in ours, and it is as new as the server.
        let said = |line: &&str| !line.to_lowercase().contains("kustomize");
        out = out.split_inclusive('\n').filter(said).collect::<String>().replace("  },\n}", "  }\n}");
        err = err.split_inclusive('\n').filter(|line| !line.starts_with("WARNING: version difference")).collect();
    }
    if minor < 34 {
        // Kubeconfigs have no preferences any more.
        out = out.replace("preferences: {}\n", "").replace("    \"preferences\": {},\n", "");
        // Times that are not set are left out.
        out = out.split_inclusive('\n').filter(|line| line.trim() != "creationTimestamp: null").collect();
        // Whether the sources of a volume are optional is told as for other volumes.
        out = out.split_inclusive('\n').map(of_source).collect();
        // Deleting tells the namespace, where there is one.
        if line.starts_with("delete ") {
            let clustered = |text: &str| {
                text.starts_with("namespace ")
                    || text.starts_with("node ")
                    || text.starts_with("customresourcedefinition")
            };
            let told = |text: &str| (text.ends_with("deleted") || text.ends_with("dry run)")) && !clustered(text);
            let add = |text: &str| {
                if told(text) { format!("{text} from NAMESPACE namespace\n") } else { format!("{text}\n") }
            };
            out = out.lines().map(add).collect();
        }
    }
    Outcome { code, out, err }
}

/// `E1121 19:02:58.561609   15928 memcache.go:265] ...`
fn is_log(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    let dated =
        first.len() == 5 && first.starts_with(['I', 'W', 'E']) && first[1..].bytes().all(|byte| byte.is_ascii_digit());
    dated && words.nth(2).is_some_and(|word| word.contains(".go:"))
}

/// `SecretOptionalName:  0xc0001`: the address of what is told now.
fn of_source(line: &str) -> String {
    let text = line.trim_start();
    let indent = &line[..line.len() - text.len()];
    let Some((_, value)) =
        text.split_once(':').filter(|(label, _)| matches!(*label, "ConfigMapOptional" | "SecretOptionalName"))
    else {
        return line.to_owned();
    };
    let told = value.trim() != "<nil>";
    format!("{indent}{:<26}{told}\n", "Optional:")
}
