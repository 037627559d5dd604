//! Compiles the gRPC contracts. protox stands in for protoc, so that no tool has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=cri/runtime.v1.proto");
    let descriptors = protox::compile(["cri/runtime.v1.proto"], ["."])?;
    tonic_prost_build::configure().build_server(true).compile_fds(descriptors)?;
    Ok(())
}
