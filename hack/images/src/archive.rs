//! An OCI image layout as a tar: blobs by digest, one manifest per image, and an index with the names that containerd
//! gives them on import.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a container of the image starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub user: String,
}

/// A blob that is in the archive already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    digest: String,
    size: usize,
}

pub struct Archive<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<String>,
    manifests: Vec<Value>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> anyhow::Result<Self> {
        let mut archive = Archive { tar: tar::Builder::new(out), written: BTreeSet::new(), manifests: Vec::new() };
        archive.file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes())?;
        Ok(archive)
    }

    /// Adds a blob, once.
    pub fn blob(&mut self, contents: &[u8]) -> io::Result<Blob> {
        let hash: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        if self.written.insert(hash.clone()) {
            self.file(&format!("blobs/sha256/{hash}"), contents)?;
        }
        Ok(Blob { digest: format!("sha256:{hash}"), size: contents.len() })
    }

    /// Adds an image of layers that are in the archive.
    pub fn image(&mut self, name: &str, layers: &[Blob], start: &Start) -> anyhow::Result<()> {
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = self.blob(config(&digests, start)?.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
        });
        let manifest = self.blob(manifest.to_string().as_bytes())?;
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture()? });
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
        self.manifests.push(entry);
        Ok(())
    }

    /// Writes the index, and returns the number of images.
    pub fn finish(mut self) -> anyhow::Result<(W, usize)> {
        let images = self.manifests.len();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": std::mem::take(&mut self.manifests) });
        self.file("index.json", index.to_string().as_bytes())?;
        Ok((self.tar.into_inner().context("end the archive")?, images))
    }

    fn file(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        self.tar.append_data(&mut header, path, contents)
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

fn config(layers: &[&str], start: &Start) -> anyhow::Result<Value> {
    Ok(json!({
        "created": "1970-01-01T00:00:00Z",
        "os": "linux",
        "architecture": architecture()?,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": start.entrypoint,
            "Cmd": start.command,
            "User": start.user,
        },
        "rootfs": { "type": "layers", "diff_ids": layers },
    }))
}

/// This machine's architecture by OCI's name.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("no images for {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, io::Read};

    fn contents(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let (path, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
                entry.read_to_end(&mut bytes).unwrap();
                (path, bytes)
            })
            .collect()
    }

    #[test]
    fn every_digest_names_a_blob_with_that_hash_and_a_shared_layer_is_there_once() {
        let mut archive = Archive::new(Vec::new()).unwrap();
        let base = archive.blob(b"base layer").unwrap();
        for name in ["localhost/corten/a:v1", "localhost/corten/b:v1"] {
            let own = archive.blob(name.as_bytes()).unwrap();
            archive.image(name, &[base.clone(), own], &Start::default()).unwrap();
        }
        let (bytes, images) = archive.finish().unwrap();
        assert_eq!(images, 2);
        let files = contents(&bytes);
        // Three layers, two configs, two manifests.
        assert_eq!(files.keys().filter(|path| path.starts_with("blobs/")).count(), 7);
        for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(path, &format!("blobs/sha256/{hash}"));
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        for manifest in index["manifests"].as_array().unwrap() {
            let path = format!("blobs/{}", manifest["digest"].as_str().unwrap().replace(':', "/"));
            let read: Value = serde_json::from_slice(&files[&path]).unwrap();
            assert_eq!(read["layers"].as_array().unwrap().len(), 2);
        }
    }
}
