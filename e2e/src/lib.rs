//! End-to-end tests against real clusters, looked at from outside.
