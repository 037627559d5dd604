//! From a spec to an archive.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::{
    archive::{Archive, Blob, Start},
    layer,
    rootfs::{self, Entry, Files},
    spec::{self, Image},
};

pub struct Request<'a> {
    pub spec: &'a Path,
    pub bin_dir: &'a Path,
    pub out: &'a Path,
    pub repository: &'a str,
    pub tag: &'a str,
    pub only: &'a [String],
}

#[derive(Debug)]
pub enum Outcome {
    Unchanged,
    Written { images: usize, bytes: u64 },
}

/// An image as the layers that it is stacked of.
struct Plan {
    name: String,
    layers: Vec<Files>,
    start: Start,
}

pub fn run(request: &Request<'_>) -> anyhow::Result<Outcome> {
    let text = fs::read_to_string(request.spec).with_context(|| format!("read {}", request.spec.display()))?;
    let spec = spec::parse(&text)?;
    let chosen: Vec<&Image> =
        spec.images.iter().filter(|image| request.only.is_empty() || request.only.contains(&image.name)).collect();
    if let Some(name) = request.only.iter().find(|name| !chosen.iter().any(|image| image.name == **name)) {
        bail!("no image {name} in {}", request.spec.display());
    }
    let plans = plan(request, &chosen)?;
    let (key, key_file) = (key(&plans)?, request.out.with_extension("key"));
    if request.out.is_file() && fs::read_to_string(&key_file).is_ok_and(|old| old == key) {
        return Ok(Outcome::Unchanged);
    }
    let outcome = write(request.out, &plans)?;
    fs::write(key_file, key)?;
    Ok(outcome)
}

fn plan(request: &Request<'_>, images: &[&Image]) -> anyhow::Result<Vec<Plan>> {
    let mut ours: Vec<PathBuf> =
        images.iter().flat_map(|image| &image.binaries).map(|name| request.bin_dir.join(name)).collect();
    ours.sort();
    ours.dedup();
    if let Some(missing) = ours.iter().find(|path| !path.is_file()) {
        bail!("{} is missing: build it first", missing.display());
    }
    let base = rootfs::base(&ours)?;
    images
        .iter()
        .map(|image| {
            Ok(Plan {
                name: format!("{}/{}:{}", request.repository, image.name, request.tag),
                layers: layers(image, request.bin_dir, &base).with_context(|| format!("image {}", image.name))?,
                start: Start {
                    entrypoint: image.entrypoint.clone(),
                    command: image.command.clone(),
                    user: image.user.clone(),
                },
            })
        })
        .collect()
}

/// The base, what comes from this machine, and one layer for each program of ours: those that images share are equal.
fn layers(image: &Image, bin_dir: &Path, base: &Files) -> anyhow::Result<Vec<Files>> {
    let mut machine = Files::new();
    for program in &image.programs {
        machine.extend(rootfs::program(program)?);
    }
    for path in &image.files {
        machine.extend(rootfs::tree(path)?);
    }
    machine.retain(|path, entry| base.get(path) != Some(entry));
    let mut layers = vec![base.clone(), machine];
    if image.busybox {
        layers.push(rootfs::busybox()?);
    }
    for binary in &image.binaries {
        layers.push(rootfs::binary(&bin_dir.join(binary))?);
    }
    layers.retain(|layer| !layer.is_empty());
    Ok(layers)
}

/// What the archive depends on: names, paths, and each source's size and time of change.
fn key(plans: &[Plan]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for plan in plans {
        hash.update(format!("{} {:?} {:?}", plan.name, plan.start, plan.layers));
        for entry in plan.layers.iter().flat_map(BTreeMap::values) {
            if let Entry::Copy { from, .. } = entry {
                let found = fs::metadata(from)?;
                hash.update(format!("{} {} {}", found.len(), found.mtime(), found.mtime_nsec()));
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write(out: &Path, plans: &[Plan]) -> anyhow::Result<Outcome> {
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = out.with_extension("new");
    let mut archive = Archive::new(BufWriter::new(fs::File::create(&temporary)?))?;
    let mut known: BTreeMap<&Files, Blob> = BTreeMap::new();
    for plan in plans {
        let mut layers = Vec::new();
        for files in &plan.layers {
            let blob = match known.get(files) {
                Some(blob) => blob.clone(),
                None => {
                    let blob = archive.blob(&layer::tar(files)?)?;
                    known.insert(files, blob.clone());
                    blob
                }
            };
            layers.push(blob);
        }
        archive.image(&plan.name, &layers, &plan.start)?;
    }
    let (mut file, images) = archive.finish()?;
    file.flush()?;
    let bytes = fs::metadata(&temporary)?.len();
    fs::rename(&temporary, out)?;
    Ok(Outcome::Written { images, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_built_once_and_again_when_a_program_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (spec, out, bin) = (dir.path().join("images.yaml"), dir.path().join("images.tar"), dir.path().join("bin"));
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/true", bin.join("tool")).unwrap();
        fs::write(&spec, "images:\n- name: tool\n  binaries: [tool]\n  entrypoint: [tool]\n").unwrap();
        let request =
            Request { spec: &spec, bin_dir: &bin, out: &out, repository: "localhost/corten", tag: "v1", only: &[] };
        assert!(matches!(run(&request).unwrap(), Outcome::Written { images: 1, .. }));
        let first = fs::read(&out).unwrap();
        assert!(matches!(run(&request).unwrap(), Outcome::Unchanged));
        fs::remove_file(&out).unwrap();
        run(&request).unwrap();
        assert_eq!(fs::read(&out).unwrap(), first);
        fs::copy("/bin/false", bin.join("tool")).unwrap();
        assert!(matches!(run(&request).unwrap(), Outcome::Written { .. }));
        assert_ne!(fs::read(&out).unwrap(), first);
    }
}
