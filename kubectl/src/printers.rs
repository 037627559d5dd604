//! What objects look like. All of it is pure.

pub mod age;
pub mod columns;
pub mod custom_columns;
pub mod go_template;
pub mod json;
pub mod jsonpath;
pub mod output;
pub mod table;
pub mod tree;
