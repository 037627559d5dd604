//! kube-apiserver: the generic API server.
