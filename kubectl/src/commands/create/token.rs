//! `create token`: a token of a service account.

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use crate::api::Call;
use crate::error::{Result, usage, wrong_call};
use crate::fields::Fields;
use crate::flags::duration;
use crate::printers::output::{Format, Printer};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    names: Vec<String>,
    /// Audience of the requested token
    #[arg(long)]
    audience: Vec<String>,
    /// Requested lifetime of the issued token
    #[arg(long, value_parser = duration, default_value = "0s")]
    duration: SignedDuration,
    /// Kind of an object to bind the token to: Node, Pod or Secret
    #[arg(long, default_value = "")]
    bound_object_kind: String,
    /// Name of an object to bind the token to
    #[arg(long, default_value = "")]
    bound_object_name: String,
    /// UID of an object to bind the token to
    #[arg(long, default_value = "")]
    bound_object_uid: String,
    /// json, yaml or a jsonpath
    #[arg(long, short, default_value = "")]
    output: String,
    /// Template to use with -o
    #[arg(long, default_value = "")]
    template: String,
}

pub async fn run(options: &Options, session: &Session, streams: &mut Streams) -> Result<()> {
    let [name] = options.names.as_slice() else {
        let message = format!("exactly one NAME is required, got {}", options.names.len());
        return wrong_call("kubectl create token", message);
    };
    if options.duration.is_negative() {
        return usage("--duration must be greater than or equal to 0");
    }
    let mut spec = json!({"audiences": options.audience});
    if !options.duration.is_zero() {
        spec["expirationSeconds"] = options.duration.as_secs().into();
    }
    match options.bound_object_kind.as_str() {
        "" if !options.bound_object_name.is_empty() => {
            return usage("--bound-object-name can only be set if --bound-object-kind is provided");
        }
        "" => {}
        _ if options.bound_object_name.is_empty() => {
            return usage("--bound-object-name is required if --bound-object-kind is provided");
        }
        kind => {
            let (name, uid) = (&options.bound_object_name, &options.bound_object_uid);
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid});
        }
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", session.namespace);
    let mut answer = match session.client.json(&Call::post(path, &request)).await {
        Ok(answer) => answer,
        Err(error) => return usage(format!("failed to create token: {error}")),
    };
    let token = answer.text("status.token").to_owned();
    if token.is_empty() {
        return usage("failed to create token: no token in server response");
    }
    if let Some(format) = Format::of_objects(&options.output, &options.template)? {
        answer["apiVersion"] = "authentication.k8s.io/v1".into();
        answer["kind"] = "TokenRequest".into();
        return Ok(write!(streams.out, "{}", Printer::new(format, false).print(answer)?)?);
    }
    Ok(write!(streams.out, "{token}")?)
}
