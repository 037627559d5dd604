//! Strategies: defaulting, validation and printing of every built-in resource.
