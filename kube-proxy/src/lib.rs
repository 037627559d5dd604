//! kube-proxy: Services and EndpointSlices as one nftables ruleset.
//!
//! `view` is what is read of the API, `select` chooses endpoints, `plan` makes nftables objects of them, `ruleset`
//! knows what is wanted and what changed, `transaction` writes it down, and `nft` hands it to the kernel. `proxier` holds
//! the state between them, `sync` drives it, `service` runs it all.

pub mod config;
pub mod conntrack;
pub mod health;
pub mod metrics;
pub use component_base::nft;
pub mod options;
pub mod plan;
pub mod proxier;
pub mod ruleset;
pub mod select;
pub mod service;
pub mod sync;
pub mod sysctl;
#[doc(hidden)]
pub mod testing;
pub mod transaction;
pub mod view;
