//! cluster-dns: DNS for Services and Pods.
