//! The name of a revision: a hash of the pod template, in letters that spell no words. Upstream hashes its own memory layout, which is nobody's contract;
//! what counts is that the same template gives the same name, and that a collision is told apart by the count.

use k8s_openapi::api::core::v1::PodTemplateSpec;

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The hash of a template, made different by a collision count.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_value(template).map(|value| value.to_string()).unwrap_or_default();
    let mut hash = fnv1a(FNV_OFFSET, json.as_bytes());
    if let Some(collisions) = collisions {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    encode(hash)
}

/// Text from a number, with letters that are safe in names.
pub fn encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

fn fnv1a(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::testing::template;

    #[test]
    fn a_hash_depends_on_template_and_collisions_only() {
        let hash = template_hash(&template("web:1"), None);
        assert_eq!(hash, template_hash(&template("web:1"), None));
        assert_ne!(hash, template_hash(&template("web:2"), None));
        assert_ne!(hash, template_hash(&template("web:1"), Some(1)));
        assert!(hash.len() <= 10 && hash.bytes().all(|byte| ALPHABET.contains(&byte)), "{hash}");
    }
}
