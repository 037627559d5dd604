//! Environment variables of containers.

use apimachinery::names;

use crate::node::Node;
use crate::rules::downward;

/// `env` of a container.
pub fn env(list: Node<'_>) {
    for variable in list.items() {
        variable.get("name").need_check(names::env_var_name);
        let from = variable.get("valueFrom");
        if from.is_set() {
            value_from(variable, from);
        }
    }
}

fn value_from(variable: Node<'_>, from: Node<'_>) {
    let mut sources = 0;
    let field = from.get("fieldRef");
    if field.is_set() {
        sources += 1;
        downward::field_ref(field, &downward::ENV_FIELDS);
    }
    let resource = from.get("resourceFieldRef");
    if resource.is_set() {
        sources += 1;
        downward::resource_field_ref(resource, false);
    }
    for selector in [from.get("configMapKeyRef"), from.get("secretKeyRef")] {
        if selector.is_set() {
            sources += 1;
            selector.get("name").check(names::dns1123_subdomain);
            selector.get("key").need_check(names::config_map_key);
        }
    }
    let file = from.get("fileKeyRef");
    if file.is_set() {
        sources += 1;
        file.get("key").need_check(names::env_var_name);
        file.get("volumeName").need_check(names::dns1123_label);
        if file.get("path").need() {
            crate::rules::volume::local_descending_path(file.get("path"));
        }
    }
    if sources == 0 {
        from.invalid_value(
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !variable.get("value").is_empty() {
        from.invalid_value("", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        from.invalid_value("", "may not have more than one field specified at a time");
    }
}

/// `envFrom` of a container. What is wrong with a source as a whole is reported at the list.
pub fn env_from(list: Node<'_>) {
    for source in list.items() {
        source.get("prefix").check_if_set(names::env_var_name);
        let mut sources = 0;
        for reference in [source.get("configMapRef"), source.get("secretRef")] {
            if reference.is_set() {
                sources += 1;
                // It may be the beginning of a generated name.
                reference.get("name").need_check(names::dns1123_subdomain_prefix);
            }
        }
        match sources {
            0 => list.invalid_value("", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => list.invalid_value("", "may not have more than one field specified at a time"),
        }
    }
}
