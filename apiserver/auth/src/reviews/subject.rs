//! SelfSubjectReview: who am I?

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{answered, user_to_value};
use crate::UserInfo;

/// Answers a SelfSubjectReview for who asks.
pub fn self_subject(user: &UserInfo, object: &Value, now: Timestamp) -> Value {
    let mut out = answered(object, json!({"userInfo": user_to_value(user)}));
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    out["metadata"] = json!({"creationTimestamp": seconds.to_string()});
    out
}
