//! Builds OCI image archives from files, without a registry.
