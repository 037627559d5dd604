//! Several authorizers as one.

use std::sync::Arc;

use super::{Authorizer, UserRules};
use crate::user::{Attributes, Decision, MASTERS, UserInfo};

/// Asks each in turn; the first with an opinion decides, and without one the answer is no.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(user, attributes) {
                Decision::NoOpinion { reason } if reason.is_empty() => {}
                Decision::NoOpinion { reason } => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion { reason: reasons.join(", ") }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        for authorizer in &self.0 {
            let mut some = authorizer.rules(user, namespace);
            all.rules.append(&mut some.rules);
            all.errors.append(&mut some.errors);
            all.incomplete |= some.incomplete;
        }
        all
    }
}

/// Members of `system:masters` may do everything, whatever roles say.
pub struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, user: &UserInfo, _: &Attributes<'_>) -> Decision {
        if user.in_group(MASTERS) { Decision::allow("") } else { Decision::no_opinion("") }
    }

    fn rules(&self, user: &UserInfo, _: &str) -> UserRules {
        let rules = if user.in_group(MASTERS) { super::Rule::everything() } else { Vec::new() };
        UserRules { rules, ..UserRules::default() }
    }
}

/// The mode `AlwaysAllow`.
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _: &UserInfo, _: &Attributes<'_>) -> Decision {
        Decision::allow("")
    }

    fn rules(&self, _: &UserInfo, _: &str) -> UserRules {
        UserRules { rules: super::Rule::everything(), ..UserRules::default() }
    }
}

/// The mode `AlwaysDeny`.
pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _: &UserInfo, _: &Attributes<'_>) -> Decision {
        Decision::no_opinion("Everything is forbidden.")
    }

    fn rules(&self, _: &UserInfo, _: &str) -> UserRules {
        UserRules::default()
    }
}
