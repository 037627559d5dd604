//! Names and paths that kubeadm, the kubelet and people agree on.

pub const PKI_DIR: &str = "/etc/kubernetes/pki";
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
pub const MANIFESTS_DIR: &str = "/etc/kubernetes/manifests";
pub const KUBELET_DIR: &str = "/var/lib/kubelet";
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
pub const ETCD_DATA_DIR: &str = "/var/lib/etcd";
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
pub const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
pub const BOOTSTRAP_KUBELET_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
pub const CONTROLLER_MANAGER_CONF: &str = "/etc/kubernetes/controller-manager.conf";
pub const SCHEDULER_CONF: &str = "/etc/kubernetes/scheduler.conf";
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

pub const IMAGE_REPOSITORY: &str = "localhost/corten";
pub const IMAGE_TAG: &str = concat!("v1.36.2-corten.", env!("CARGO_PKG_VERSION"));

pub const ADMINS_GROUP: &str = "kubeadm:cluster-admins";
pub const BOOTSTRAPPERS_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
