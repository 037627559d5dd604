//! The files of an image, and where they come from. A program brings the shared libraries that `ldd` names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// What stands at a path of an image.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Entry {
    Directory {
        mode: u32,
    },
    /// The contents of a file of this machine.
    Copy {
        from: PathBuf,
        mode: u32,
    },
    Text(String),
    Link(PathBuf),
}

/// Path (absolute) to entry.
pub type Files = BTreeMap<PathBuf, Entry>;

const EXECUTABLE: u32 = 0o755;

/// What every image starts with: users, name service, and the libraries of our own programs.
pub fn base(binaries: &[PathBuf]) -> anyhow::Result<Files> {
    let mut files = Files::new();
    files.insert("/tmp".into(), Entry::Directory { mode: 0o1777 });
    files.insert(
        "/etc/passwd".into(),
        Entry::Text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".into()),
    );
    files.insert("/etc/group".into(), Entry::Text("root:x:0:\nnogroup:x:65534:\n".into()));
    files.insert("/etc/nsswitch.conf".into(), Entry::Text("passwd: files\ngroup: files\nhosts: files dns\n".into()));
    for binary in binaries {
        files.extend(libraries(binary)?);
    }
    Ok(files)
}

/// A program of ours at /usr/local/bin, without its libraries, which the base has.
pub fn binary(path: &Path) -> anyhow::Result<Files> {
    let name = path.file_name().context("a program has a name")?;
    Ok(Files::from([(Path::new("/usr/local/bin").join(name), copy(path, EXECUTABLE)?)]))
}

/// A program of this machine, where it is here, with its libraries.
pub fn program(name: &str) -> anyhow::Result<Files> {
    let path = find_program(name)?;
    let mut files = libraries(&path)?;
    files.insert(path.clone(), copy(&path, EXECUTABLE)?);
    Ok(files)
}

/// A file or folder of this machine, where it is here.
pub fn tree(path: &Path) -> anyhow::Result<Files> {
    if !path.is_dir() {
        return Ok(Files::from([(path.to_owned(), copy(path, mode_of(path)?)?)]));
    }
    let mut files = Files::new();
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        files.extend(tree(&entry?.path())?);
    }
    Ok(files)
}

/// busybox with a link for each of its commands.
pub fn busybox() -> anyhow::Result<Files> {
    let path = find_program("busybox")?;
    if !libraries(&path)?.is_empty() {
        bail!("{} is not static: apt-get install busybox-static", path.display());
    }
    let output = Command::new(&path).arg("--list").output()?;
    let mut files = Files::from([("/bin/busybox".into(), copy(&path, EXECUTABLE)?)]);
    for command in String::from_utf8(output.stdout)?.lines().filter(|command| *command != "busybox") {
        files.insert(Path::new("/bin").join(command), Entry::Link("busybox".into()));
    }
    Ok(files)
}

fn libraries(program: &Path) -> anyhow::Result<Files> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8(output.stdout)?;
    parse_ldd(&text)
        .with_context(|| format!("libraries of {}", program.display()))?
        .into_iter()
        .map(|library| {
            let entry = copy(&library, EXECUTABLE)?;
            Ok((library, entry))
        })
        .collect()
}

/// The paths in what `ldd` prints; none for a static program.
fn parse_ldd(text: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.contains("not found") {
            bail!("{line}");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if path.starts_with('/')
            && let Some((path, _)) = path.split_once(" (")
        {
            paths.insert(path.into());
        }
    }
    Ok(paths)
}

fn copy(from: &Path, mode: u32) -> anyhow::Result<Entry> {
    let from = from.canonicalize().with_context(|| format!("{} is missing", from.display()))?;
    Ok(Entry::Copy { from, mode })
}

fn mode_of(path: &Path) -> anyhow::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path).with_context(|| format!("{} is missing", path.display()))?.permissions().mode() & 0o777)
}

fn find_program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not on this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths: Vec<_> = parse_ldd(text).unwrap().into_iter().collect();
        assert_eq!(paths, [PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"), "/lib64/ld-linux-x86-64.so.2".into()]);
        assert!(parse_ldd("\tnot a dynamic executable\n").unwrap().is_empty());
        assert!(parse_ldd("\tlibx.so => not found\n").is_err());
    }
}
