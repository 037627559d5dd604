//! kubeadm: certificates, kubeconfigs, static pods, init, join and reset.
