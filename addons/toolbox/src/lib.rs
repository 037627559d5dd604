//! toolbox: small network, process and load tools for samples and tests, one per module.

pub mod dns;
pub mod echo;
pub mod load;
pub mod probe;
pub mod process;
pub mod serve;

mod stop;
