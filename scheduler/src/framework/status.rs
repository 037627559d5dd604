//! What a plugin answers.

use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Success,
    /// Something went wrong that has nothing to do with the pod fitting.
    Error,
    /// Does not fit now; removing other pods may help.
    Unschedulable,
    /// Does not fit, whatever other pods are removed.
    Unresolvable,
    /// Waits for something outside the cluster's state.
    Pending,
    /// This plugin leaves the matter to the next one.
    Skip,
}

pub type Reason = Cow<'static, str>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// Every reason, not only the first.
    pub reasons: Vec<Reason>,
    /// The plugin that said so; the framework fills it in.
    pub plugin: &'static str,
}

impl Status {
    fn with(code: Code, reasons: Vec<Reason>) -> Self {
        Self { code, reasons, plugin: "" }
    }

    pub fn success() -> Self {
        Self::with(Code::Success, Vec::new())
    }

    pub fn skip() -> Self {
        Self::with(Code::Skip, Vec::new())
    }

    pub fn error(reason: impl Into<Reason>) -> Self {
        Self::with(Code::Error, vec![reason.into()])
    }

    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self::with(Code::Unschedulable, vec![reason.into()])
    }

    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self::with(Code::Unresolvable, vec![reason.into()])
    }

    /// Success if there are no reasons.
    pub fn from_reasons(code: Code, reasons: Vec<Reason>) -> Self {
        if reasons.is_empty() { Self::success() } else { Self::with(code, reasons) }
    }

    pub fn is_success(&self) -> bool {
        self.code == Code::Success
    }

    /// Whether it says that the pod does not fit (as opposed to an error).
    pub fn is_rejection(&self) -> bool {
        matches!(self.code, Code::Unschedulable | Code::Unresolvable | Code::Pending)
    }

    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }

    #[must_use]
    pub fn by(mut self, plugin: &'static str) -> Self {
        self.plugin = plugin;
        self
    }
}
