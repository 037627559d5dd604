# One node: its folder, its namespaces, its containerd and its kubelet. To be sourced.
#
# Every node has a mount and a UTS namespace of its own, in which the paths that Kubernetes knows (/etc/kubernetes,
# /var/lib/kubelet, …) are folders below DIR. So nothing of the machine's is touched, nodes do not see each other's files,
# and every mount goes away with the last process of the node. Workers have a network namespace too. A bridge joins
# the nodes; the first has the machine's network. A small process, the holder, keeps the namespaces of a node.
# shellcheck shell=bash

readonly LINK=corten0 SUBNET=10.213.0 POD_SUBNET=10.244.0.0/16 SERVICE_SUBNET=10.96.0.0/12 CGROUP=corten
# Path in a node: folder below its own.
readonly NODE_PATHS=(
    /etc/kubernetes:etc/kubernetes /var/lib/kubelet:var/lib/kubelet /var/lib/etcd:var/lib/etcd
    /etc/cni/net.d:etc/cni/net.d /var/lib/cni:var/lib/cni /var/log/pods:var/log/pods
    /var/log/containers:var/log/containers /run/containerd:run/containerd /run/netns:run/netns
)

node_dir() { printf '%s/nodes/%s' "$DIR" "$1"; }
node_address() { printf '%s.%s' "$SUBNET" "${1#node-}"; }
node_names() { [[ ! -d $DIR/nodes ]] || ls "$DIR/nodes" | sort -V; }
node_log() { printf '%s/log/%s.log' "$(node_dir "$1")" "$2"; }
is_first() { [[ $1 == node-1 ]]; }

# in_node NODE COMMAND…: runs a command in the node's namespaces.
in_node() {
    local node=$1 pid flags=(--mount --uts)
    shift
    pid=$(pid_of "$(node_dir "$node")/holder.pid") || die "$node is not running"
    is_first "$node" || flags+=(--net)
    nsenter --target "$pid" "${flags[@]}" -- "$@"
}

# Like in_node, as a process that stays: nsenter becomes the program, so its pid is the program's.
start_in_node() {
    local node=$1 name=$2 pid flags=(--mount --uts)
    shift 2
    pid=$(pid_of "$(node_dir "$node")/holder.pid") || die "$node is not running"
    is_first "$node" || flags+=(--net)
    start_process "$name" "$(node_dir "$node")/$name.pid" "$(node_log "$node" "$name")" \
        nsenter --target "$pid" "${flags[@]}" -- "$@"
}

start_holder() {
    local node=$1 dir entry unshare=(unshare --mount --uts --propagation private)
    dir=$(node_dir "$node")
    pid_of "$dir/holder.pid" >/dev/null && return
    is_first "$node" || unshare+=(--net)
    for entry in "${NODE_PATHS[@]}"; do
        mkdir -p "$dir/${entry#*:}"
        make_mount_point "${entry%%:*}"
    done
    rm -f "$dir/ready"
    start_process holder "$dir/holder.pid" "$(node_log "$node" holder)" \
        "${unshare[@]}" bash -euc "$HOLDER" holder "$dir" "$node" "$BIN/toolbox" "${NODE_PATHS[@]}"
    wait_until 10 test -e "$dir/ready" || fail_with_log "$node" holder "the namespaces of $node could not be made"
}

# What runs in the new namespaces: folders, name, then nothing.
readonly HOLDER='
dir=$1 name=$2 toolbox=$3
shift 3
for entry in "$@"; do
    mount --bind "$dir/${entry#*:}" "${entry%%:*}"
done
mount --make-rshared /
hostname "$name"
touch "$dir/ready"
exec "$toolbox" pause
'

# A folder to mount on; when it is new, it is removed by `down`.
make_mount_point() {
    local path=$1 missing=() each
    for ((;;)); do
        [[ ! -d $path ]] || break
        missing+=("$path")
        path=$(dirname "$path")
    done
    for each in "${missing[@]}"; do
        printf '%s\n' "$each" >>"$DIR/made-folders"
    done
    mkdir -p "$1"
}

remove_mount_points() {
    [[ -e $DIR/made-folders ]] || return 0
    sort -ru "$DIR/made-folders" | while read -r path; do
        rmdir "$path" 2>/dev/null || true
    done
}

## Network

# The bridge that joins the nodes is in a network namespace of its own. In the machine's namespace its frames would go through
# bridge netfilter and whatever Docker and others put into the forward chain, and a packet that a node sends back to the
# node it came from would never be masqueraded.
set_up_network() {
    local nodes=$1 i
    save_sysctl net.ipv4.ip_forward 1
    # A Service whose pod is on the node of its client answers over the pods' bridge, where NAT has to see it.
    [[ -d /proc/sys/net/bridge ]] || modprobe br_netfilter || die "the kernel module br_netfilter is missing"
    start_switch
    for ((i = 1; i <= nodes; i++)); do connect_node "node-$i"; done
    # Services are reached from the machine with the node's address, also where there is no default route.
    ip route replace "$SERVICE_SUBNET" dev "$LINK" src "$SUBNET.1"
}

start_switch() {
    pid_of "$DIR/switch.pid" >/dev/null && return
    rm -f "$DIR/switch-ready"
    start_process switch "$DIR/switch.pid" "$(node_log node-1 switch)" unshare --net bash -euc "$SWITCH" switch "$DIR" "$BIN/toolbox"
    wait_until 10 test -e "$DIR/switch-ready" || fail_with_log node-1 switch "the bridge between the nodes could not be made"
}

readonly SWITCH='
sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
ip link add switch type bridge
ip link set switch up
touch "$1/switch-ready"
exec "$2" pause
'

connect_node() {
    local node=$1 port=port-${1#node-} link=eth0 node_pid switch_pid
    ! is_first "$node" || link=$LINK
    in_node "$node" ip link show "$link" >/dev/null 2>&1 && return
    node_pid=$(pid_of "$(node_dir "$node")/holder.pid")
    switch_pid=$(pid_of "$DIR/switch.pid")
    ip link add "$link" netns "$node_pid" type veth peer name "$port" netns "$switch_pid"
    nsenter --target "$switch_pid" --net -- ip link set "$port" master switch up
    in_node "$node" ip address add "$(node_address "$node")/24" dev "$link"
    in_node "$node" ip link set "$link" up
    is_first "$node" || in_node "$node" sh -euc "ip link set lo up; ip route add default via $SUBNET.1; sysctl -qw net.ipv4.ip_forward=1"
}

save_sysctl() {
    local old
    old=$(sysctl -n "$1")
    [[ $old == "$2" ]] && return
    printf '%s=%s\n' "$1" "$old" >>"$DIR/sysctls"
    sysctl -qw "$1=$2"
}

restore_sysctls() {
    [[ -e $DIR/sysctls ]] || return 0
    while read -r setting; do
        sysctl -qw "$setting"
    done <"$DIR/sysctls"
}

## Cgroups

cgroup_hierarchies() {
    local path
    for path in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [[ ! -d $path || -L $path ]] || ! mountpoint -q "$path" || [[ $(stat -fc %T "$path") != cgroup* ]] || printf '%s\n' "$path"
    done
}

make_cgroups() {
    local hierarchy dir
    while read -r hierarchy; do
        dir=$hierarchy/$CGROUP/$1
        mkdir -p "$dir"
        # A version 1 cpuset is unusable until it has what its parent has.
        if [[ -e $dir/cpuset.cpus && ! -e $dir/cgroup.controllers ]]; then
            for each in "$hierarchy/$CGROUP" "$dir"; do
                cat "$(dirname "$each")/cpuset.cpus" >"$each/cpuset.cpus"
                cat "$(dirname "$each")/cpuset.mems" >"$each/cpuset.mems"
            done
        fi
    done < <(cgroup_hierarchies)
}

# The processes in the cgroups of a node: those of its containers.
container_pids() {
    local hierarchy
    while read -r hierarchy; do
        [[ ! -d $hierarchy/$CGROUP/$1 ]] || find "$hierarchy/$CGROUP/$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done < <(cgroup_hierarchies) | sort -un
}

remove_cgroups() {
    local hierarchy
    while read -r hierarchy; do
        [[ -d $hierarchy/$CGROUP ]] || continue
        find "$hierarchy/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done < <(cgroup_hierarchies)
}

## containerd and kubelet

containerd_config() {
    local dir=$1 restrict=false
    # Without CAP_SYS_RESOURCE nothing can have a lower OOM score than its parent.
    has_capability 24 || restrict=true
    cat <<TOML
version = 2
root = "$dir/containerd/root"
state = "$dir/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "$dir/containerd.sock"

[ttrpc]
  address = "$dir/containerd.sock.ttrpc"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$REPOSITORY/pause:$TAG"
  restrict_oom_score_adj = $restrict
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_bin_dir)"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(snapshotter)"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
}

cni_bin_dir() { if [[ -x /usr/lib/cni/bridge ]]; then printf /usr/lib/cni; else printf /opt/cni/bin; fi; }

# overlayfs does not stack on itself.
snapshotter() { if [[ $(stat -fc %T "$DIR") == overlayfs ]]; then printf native; else printf overlayfs; fi; }

has_capability() {
    local caps
    caps=$(awk '/^CapEff/ {print $2}' /proc/self/status)
    (((16#$caps >> $1) & 1))
}

start_containerd() {
    local node=$1 dir
    dir=$(node_dir "$node")
    if ! pid_of "$dir/containerd.pid" >/dev/null; then
        ((${#dir} < 80)) || die "$DIR is too long for the path of a socket: choose a shorter --dir"
        mkdir -p "$dir/containerd/root" "$dir/containerd/state"
        containerd_config "$dir" >"$dir/containerd.toml"
        start_in_node "$node" containerd containerd --config "$dir/containerd.toml"
    fi
    wait_until 30 ctr_in "$node" version >/dev/null 2>&1 || fail_with_log "$node" containerd "containerd of $node does not answer"
}

ctr_in() { local node=$1; shift; ctr --address "$(node_dir "$node")/containerd.sock" --namespace k8s.io "$@"; }

# import_image NODE FILE: an OCI archive into the containerd of a node, unless that very file is in it.
import_image() {
    local node=$1 file=$2 mark
    mark=$(node_dir "$node")/imported/$(basename "$file")
    mkdir -p "$(dirname "$mark")"
    [[ -e $mark && ! $file -nt $mark ]] && return
    ctr_in "$node" images import --snapshotter "$(snapshotter)" "$file" >>"$(node_log "$node" images)" 2>&1 ||
        fail_with_log "$node" images "$file could not be imported into $node"
    touch "$mark"
}

start_kubelet() {
    local node=$1 dir KUBELET_KUBEADM_ARGS=
    dir=$(node_dir "$node")
    if ! pid_of "$dir/kubelet.pid" >/dev/null; then
        # shellcheck source=/dev/null
        source "$dir/var/lib/kubelet/kubeadm-flags.env"
        # shellcheck disable=SC2086
        start_in_node "$node" kubelet "$BIN/kubelet" --config=/var/lib/kubelet/config.yaml \
            --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
            $KUBELET_KUBEADM_ARGS
    fi
    wait_until 30 kubelet_healthy "$node" || fail_with_log "$node" kubelet "the kubelet of $node is not healthy"
}

kubelet_healthy() { in_node "$1" curl -fs --noproxy '*' -o /dev/null --max-time 2 http://127.0.0.1:10248/healthz; }

## The end

stop_node() {
    local node=$1 dir holder namespace pids
    dir=$(node_dir "$node")
    stop_process "$dir/kubelet.pid"
    holder=$(pid_of "$dir/holder.pid") && namespace=$(readlink "/proc/$holder/ns/mnt") || namespace=none
    # Containers, then whatever else runs in the node's mount namespace: containerd, its shims, the holder.
    for _ in {1..50}; do
        pids=$(container_pids "$node"; processes_in "$namespace")
        [[ -n ${pids//[$'\n' ]/} ]] || break
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.1
    done
    [[ -z ${pids//[$'\n' ]/} ]] || die "processes of $node that cannot be ended: $pids"
    rm -f "$dir"/*.pid "$dir"/*.sock*
}

# processes_in NAMESPACE: the pids of all processes in a mount namespace.
processes_in() {
    local link
    for link in /proc/[0-9]*/ns/mnt; do
        if [[ $(readlink "$link" 2>/dev/null) == "$1" ]]; then
            link=${link#/proc/}
            printf '%s\n' "${link%%/*}"
        fi
    done
}

remove_network() {
    stop_process "$DIR/switch.pid"
    local link
    for link in "$LINK" "$POD_BRIDGE"; do
        ! ip link show "$link" >/dev/null 2>&1 || ip link delete "$link" 2>/dev/null || true
    done
    local family name
    for family in ip ip6 inet; do
        for name in "${NFT_TABLES[@]}"; do
            nft delete table "$family" "$name" 2>/dev/null || true
        done
    done
}
