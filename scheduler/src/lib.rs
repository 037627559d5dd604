//! kube-scheduler: the scheduling framework and its plugins.
