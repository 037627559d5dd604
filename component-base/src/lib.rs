//! What every binary shares: options, logging, metrics, health, TLS, API client, informers, work queue, reconcile runner,
//! leader election, events, certificates and shutdown.

pub mod client;
pub mod events;
pub mod informer;
pub mod leader_election;
pub mod logging;
pub mod metrics;
pub mod nft;
pub mod options;
pub mod pki;
pub mod process;
pub mod queue;
pub mod quota;
pub mod relay;
pub mod runner;
pub mod serving;
pub mod shutdown;
pub mod sockets;
pub mod tls;
pub mod version;
pub mod webhook;
