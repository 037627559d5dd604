//! kube-proxy: Services and EndpointSlices as one nftables ruleset.
//!
//! `view` is what is read of the API, `select` chooses endpoints, `plan` makes nftables objects of them, `ruleset`
//! knows what is wanted and what changed, `transaction` writes it down, and `nft` hands it to the kernel.

pub mod conntrack;
pub mod nft;
pub mod plan;
pub mod proxier;
pub mod ruleset;
pub mod select;
#[doc(hidden)]
pub mod testing;
pub mod transaction;
pub mod view;
