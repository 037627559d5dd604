# What the scripts in hack/ share: messages, time per step, and the Debian packages they need. To be sourced.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Where things are kept that outlive a `cargo clean`: tools compiled once, the foreign kubectl.
CORTEN_CACHE=${CORTEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "error: $*"; exit 1; }

# step TITLE COMMAND…: runs the command between a line that announces it and one that tells how long it took.
# (Not with `||`, which would switch `set -e` off for everything inside.)
step() {
    STEP=$1 STEP_START=$SECONDS
    shift
    printf '==> %s\n' "$STEP"
    "$@"
    printf '==> %s: %d s\n' "$STEP" "$((SECONDS - STEP_START))"
    STEP=
}

STEP= STEP_START=0
# A command to run at the end, however the script ends.
AT_END=

at_end() {
    local status=$?
    ((status == 0)) || [[ -z $STEP ]] || warn "==> $STEP: failed after $((SECONDS - STEP_START)) s (status $status)"
    [[ -z $AT_END ]] || "$AT_END"
    exit "$status"
}
trap at_end EXIT

# What the cluster needs, as PACKAGE:PROOF, where the proof is a command or an absolute path. A machine that has the
# proof from elsewhere (Docker's containerd.io, say) is left as it is.
NODE_PACKAGES=(
    etcd-server:etcd containerd:containerd runc:runc containernetworking-plugins:/usr/lib/cni/bridge
    nftables:nft iproute2:ip conntrack:conntrack iptables:iptables busybox-static:busybox openssl:openssl jq:jq curl:curl
    util-linux:nsenter procps:sysctl ca-certificates:/etc/ssl/certs/ca-certificates.crt
)
BUILD_PACKAGES=(build-essential:cc protobuf-compiler:protoc libprotobuf-dev:/usr/include/google/protobuf/descriptor.proto)
TEST_PACKAGES=(etcd-client:etcdctl python3-venv:/usr/share/doc/python3-venv socat:socat)

has() { [[ $1 == /* ]] && [[ -e $1 ]] || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# install_packages PACKAGE:PROOF…: installs what is missing, without starting any of the services that come with it:
# the cluster runs its own etcd and containerd, and must not find those of the package on its ports.
install_packages() {
    local entry missing=() status=0 policy=/usr/sbin/policy-rc.d
    for entry in "$@"; do
        has "${entry#*:}" || missing+=("${entry%%:*}")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || die "missing packages; run as root: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    else
        policy=
    fi
    apt_install "${missing[@]}" || status=$?
    [[ -z $policy ]] || rm -f "$policy"
    ((status == 0)) || die "could not install ${missing[*]}"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

need_cargo() {
    has cargo || die "no Rust toolchain: install rustup (https://rustup.rs) with Rust 1.89 or newer"
}
