//! The `corten-images` binary: parse, run, exit code.

use std::path::PathBuf;

use clap::Parser;
use images::build;

#[derive(Parser)]
#[command(name = "corten-images", version, about = "Build OCI image archives from files")]
struct Options {
    /// Which images to build, as YAML
    #[arg(long)]
    spec: PathBuf,
    /// Where our binaries are
    #[arg(long)]
    bin_dir: PathBuf,
    /// The archive to write; left as it is when nothing in it would change
    #[arg(long)]
    out: PathBuf,
    /// The tag of all images
    #[arg(long)]
    tag: String,
    /// The repository of all images
    #[arg(long, default_value = "localhost/corten")]
    repository: String,
    /// Only these images
    #[arg(long)]
    only: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let outcome = build::run(&build::Request {
        spec: &options.spec,
        bin_dir: &options.bin_dir,
        out: &options.out,
        repository: &options.repository,
        tag: &options.tag,
        only: &options.only,
    })?;
    match outcome {
        build::Outcome::Unchanged => println!("{}: unchanged", options.out.display()),
        build::Outcome::Written { images, bytes } => {
            println!("{}: {images} images, {} MiB", options.out.display(), bytes >> 20);
        }
    }
    Ok(())
}
