//! kube-controller-manager: the controllers on one runner.
