//! How objects become text. Pure.

pub mod age;
pub mod columns;
pub mod jsonpath;
pub mod table;
pub mod tree;
