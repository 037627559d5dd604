//! kubelet: the node agent that drives containerd over CRI.
