//! containerd's own stream of events, on the socket that also serves CRI: runtimes before CRI's GetContainerEvents tell ends of
//! processes only there. Of its messages only the fields that are read here are written down.

use futures::stream::{BoxStream, StreamExt};
use http::uri::PathAndQuery;
use tonic::transport::Channel;

use super::Error;

const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";
/// The end of a process, in the namespace that CRI uses.
const FILTER: &str = "namespace==k8s.io,topic==\"/tasks/exit\"";

#[derive(Clone, PartialEq, prost::Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `containerd.events.TaskExit`.
#[derive(Clone, PartialEq, prost::Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    /// The process; the container's first one has the container's id, others that of their exec.
    #[prost(string, tag = "2")]
    id: String,
}

/// The ids of containers and sandboxes whose first process ends, from now on.
pub async fn exits(channel: Channel) -> Result<BoxStream<'static, String>, Error> {
    let failed = |status: tonic::Status| Error::Call(Box::new(status));
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| failed(tonic::Status::unavailable(error.to_string())))?;
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, Envelope>::default();
    let request = tonic::Request::new(SubscribeRequest { filters: vec![FILTER.to_owned()] });
    let path = PathAndQuery::from_static(SUBSCRIBE);
    let stream = client.server_streaming(request, path, codec).await.map_err(failed)?.into_inner();
    let told = stream.take_while(|item| std::future::ready(item.is_ok()));
    Ok(told.filter_map(|item| std::future::ready(item.ok().and_then(ended))).boxed())
}

fn ended(envelope: Envelope) -> Option<String> {
    match <TaskExit as prost::Message>::decode(envelope.event?.value.as_slice()) {
        Ok(exit) => (exit.id == exit.container_id).then_some(exit.container_id),
        Err(error) => {
            tracing::warn!(%error, "containerd's event of an end cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn only_the_end_of_a_containers_first_process_counts() {
        let envelope = |container_id: &str, id: &str| Envelope {
            event: Some(Any { value: TaskExit { container_id: container_id.into(), id: id.into() }.encode_to_vec() }),
        };
        assert_eq!(ended(envelope("a", "a")).as_deref(), Some("a"));
        assert_eq!(ended(envelope("a", "exec-1")), None);
        assert_eq!(ended(Envelope { event: None }), None);
        assert_eq!(ended(Envelope { event: Some(Any { value: vec![255] }) }), None);
    }
}
