//! Several components together, without a cluster's nodes. One binary: what the tests share is compiled once.

mod access;
mod durability;
mod streams;
