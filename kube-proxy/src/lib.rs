//! kube-proxy: Services and EndpointSlices as one nftables ruleset.
