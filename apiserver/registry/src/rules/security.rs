//! Security contexts of pods and containers.

use crate::node::Node;

const ID_MAX: i64 = 2_147_483_647;
const SYSCTL_MAX: usize = 253;

/// `securityContext` of a pod.
pub fn of_pod(spec: Node<'_>, context: Node<'_>) {
    let host_network = spec.get("hostNetwork").bool();
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        context.get(field).within(0, ID_MAX);
    }
    for group in context.get("supplementalGroups").items() {
        group.within(0, ID_MAX);
    }
    context.get("supplementalGroupsPolicy").one_of_if_set(&["Merge", "Strict"]);
    context.get("fsGroupChangePolicy").one_of_if_set(&["Always", "OnRootMismatch"]);
    context.get("seLinuxChangePolicy").one_of_if_set(&["MountOption", "Recursive"]);
    if spec.get("shareProcessNamespace").bool() && spec.get("hostPID").bool() {
        // Shared with the host already.
        context
            .named("shareProcessNamespace")
            .invalid_value(true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(context.get("sysctls"), host_network, spec.get("hostIPC").bool());
    profiles(context);
    windows(context.get("windowsOptions"));
}

fn sysctls(list: Node<'_>, host_network: bool, host_ipc: bool) {
    let mut seen: Vec<&str> = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        let normal = name.str().replace('/', ".");
        if name.is_empty() {
            name.required("");
        } else if name.len() > SYSCTL_MAX || !sysctl_form(name.str()) {
            name.invalid(
                "must be a sysctl name of lower case alphanumeric characters, '-' or '_', separated by '.' or '/'",
            );
        } else if seen.contains(&name.str()) {
            name.duplicate();
        }
        if host_network && normal.starts_with("net.") {
            name.invalid("may not be specified when 'hostNetwork' is set to true");
        }
        let of_ipc =
            normal == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| normal.starts_with(p));
        if host_ipc && of_ipc {
            name.invalid("may not be specified when 'hostIPC' is set to true");
        }
        seen.push(name.str());
    }
}

fn sysctl_form(name: &str) -> bool {
    let word = |w: &str| {
        let b = w.as_bytes();
        let end = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        !b.is_empty() && end(b[0]) && end(b[b.len() - 1]) && b.iter().all(|&c| end(c) || c == b'-' || c == b'_')
    };
    name.split(['.', '/']).all(word)
}

/// `securityContext` of a container.
pub fn of_container(context: Node<'_>, host_users: bool) {
    if !context.is_set() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        context.get(field).within(0, ID_MAX);
    }
    let proc_mount = context.get("procMount");
    if proc_mount.is_set() {
        proc_mount.one_of(&["Default", "Unmasked"]);
        if host_users && proc_mount.str() == "Unmasked" {
            proc_mount.invalid("`hostUsers` must be false to use `Unmasked`");
        }
    }
    profiles(context);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.is_set() && !escalation.bool() {
        if context.get("privileged").bool() {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.get("capabilities").get("add").items().any(|c| matches!(c.str(), "CAP_SYS_ADMIN")) {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    windows(context.get("windowsOptions"));
}

/// An `appArmorProfile`.
pub fn app_armor_profile(profile: Node<'_>) {
    localhost_profile(profile, false);
}

fn profiles(context: Node<'_>) {
    let seccomp = context.get("seccompProfile");
    if seccomp.is_set() {
        localhost_profile(seccomp, true);
    }
    let app_armor = context.get("appArmorProfile");
    if app_armor.is_set() {
        app_armor_profile(app_armor);
    }
}

fn localhost_profile(profile: Node<'_>, is_file: bool) {
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.str() {
        "Localhost" => {
            if !local.is_set() {
                local.required("must be set when type is Localhost");
            } else if is_file {
                crate::rules::volume::local_descending_path(local);
            } else {
                app_armor_name(local);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                local.invalid("can only be set when type is Localhost");
            }
        }
        "" => kind.required("type is required"),
        _ => kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn app_armor_name(name: Node<'_>) {
    const NAME_MAX: usize = 4095;
    if name.str().trim() != name.str() {
        name.invalid("must not be padded with whitespace");
    } else if name.is_empty() {
        name.required("must be set when type is Localhost");
    }
    if name.len() > NAME_MAX {
        name.too_long(NAME_MAX);
    }
}

fn windows(options: Node<'_>) {
    let name = options.get("gmsaCredentialSpecName");
    if name.is_set() {
        name.check(apimachinery::names::dns1123_subdomain);
    }
    let spec = options.get("gmsaCredentialSpec");
    if spec.is_set() {
        if spec.is_empty() {
            spec.invalid("gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            spec.invalid("gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if options.get("runAsUserName").is_set() {
        user_name(options.get("runAsUserName"));
    }
}

/// `user` or `domain\user`, as Windows names them.
fn user_name(name: Node<'_>) {
    const DOMAIN_MAX: usize = 255;
    const USER_MAX: usize = 104;
    let text = name.str();
    if text.is_empty() {
        return name.invalid("runAsUserName cannot be an empty string");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return name.invalid("runAsUserName cannot contain control characters");
    }
    let (domain, user) = text.split_once('\\').map_or((None, text), |(domain, user)| (Some(domain), user));
    if user.contains('\\') {
        return name.invalid("runAsUserName cannot contain more than one backslash");
    }
    if domain.is_some_and(|domain| domain.len() > DOMAIN_MAX) {
        name.invalid(format!("runAsUserName's Domain length must be at most {DOMAIN_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios_domain(domain) && !is_dns_domain(domain)) {
        name.invalid("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        name.invalid("runAsUserName's User cannot be empty");
    }
    if user.len() > USER_MAX {
        name.invalid(format!("runAsUserName's User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        name.invalid("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        name.invalid("runAsUserName's User cannot contain the characters \"/\\:;|=,+*?<>@[]");
    }
}

fn is_net_bios_domain(domain: &str) -> bool {
    let allowed = |c: char| !"\\/:*?\"<>|".contains(c);
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && domain.chars().all(allowed)
}

fn is_dns_domain(domain: &str) -> bool {
    domain.split('.').all(|label| apimachinery::names::dns1123_label(&label.to_lowercase()).is_empty())
}
