//! `label`: the labels of objects.

pub use super::marks::Options;
use super::marks::{self, Kind};
use crate::error::Result;
use crate::session::Session;
use crate::streams::Streams;

const KIND: Kind = Kind { noun: "label", field: "labels", manager: "kubectl-label" };

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    marks::run(options, &KIND, session, streams).await
}
