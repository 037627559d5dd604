//! Builds OCI image archives from files, without a registry.
//!
//! `spec` says which images there are, `rootfs` finds the files of each (with the shared libraries of every program),
//! `layer` turns files into a tar, and `archive` writes all images into one OCI layout. The same files give the same bytes.

pub mod archive;
pub mod build;
pub mod layer;
pub mod rootfs;
pub mod spec;
