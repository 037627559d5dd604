//! The two passes of a request through the plugins that change it: when one that calls out has changed the object, the
//! others see it once more.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Reinvocation policy").

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// What is remembered of the first pass.
#[derive(Default)]
pub struct Passes {
    second: bool,
    wanted: bool,
    calls: HashMap<&'static str, Calls>,
}

/// What one plugin called in the first pass, by ids of its own.
#[derive(Default)]
pub struct Calls {
    /// Those that want to see changes that others make after them.
    made: HashSet<String>,
    again: HashSet<String>,
    output: Option<Value>,
}

impl Passes {
    /// Whether this is the second pass.
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Asks for a second pass.
    pub fn want_another(&mut self) {
        self.wanted = true;
    }

    /// What a plugin remembers.
    pub fn calls(&mut self, plugin: &'static str) -> &mut Calls {
        self.calls.entry(plugin).or_default()
    }

    /// Whether there is another pass after the one that has ended.
    pub(crate) fn goes_on(&mut self) -> bool {
        let goes_on = self.wanted && !self.second;
        self.second = true;
        goes_on
    }
}

impl Calls {
    /// At the start of the second pass: others have changed the object since the plugin left it.
    pub fn start_again(&mut self, object: &Value) {
        if self.output.as_ref() != Some(object) {
            self.changed();
        }
    }

    /// Whether a call is to be made in the second pass.
    pub fn is_wanted_again(&self, id: &str) -> bool {
        self.again.contains(id)
    }

    /// A call changed the object: those before it that want to see changes are made again.
    pub fn changed(&mut self) {
        self.again.extend(self.made.drain());
    }

    /// Notes a call that wants to see changes that come after it.
    pub fn made(&mut self, id: &str) {
        self.made.insert(id.to_owned());
    }

    /// How the plugin left the object.
    pub fn ended(&mut self, object: &Value) {
        self.output = Some(object.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_made_again_when_the_object_changes_after_it() {
        let mut passes = Passes::default();
        let calls = passes.calls("P");
        calls.made("a");
        calls.changed();
        calls.made("b");
        calls.ended(&json!(1));
        passes.want_another();
        assert!(passes.goes_on() && passes.is_second());
        let calls = passes.calls("P");
        calls.start_again(&json!(1));
        assert!(calls.is_wanted_again("a") && !calls.is_wanted_again("b"));
        calls.start_again(&json!(2));
        assert!(calls.is_wanted_again("b"));
        assert!(!passes.goes_on(), "there are no more than two");
    }

    #[test]
    fn there_is_no_second_pass_that_nobody_wants() {
        assert!(!Passes::default().goes_on());
    }
}
