//! The guest's first file system: busybox, our `init`, and the modules without which Debian's kernel
//! cannot reach the host. A cpio archive in the "newc" format of the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, Error, Result};
use crate::state::KernelFiles;

const INIT: &str = include_str!("../guest/init");
/// Folders that `init` mounts things on.
const FOLDERS: [&str; 9] =
    ["bin", "dev", "layer", "lower", "modules", "proc", "root", "sys", "tmp"];
/// Below a kernel's modules, in the order in which they are loaded.
const MODULES: [&str; 5] =
    ["fs/netfs/netfs", "net/9p/9pnet", "net/9p/9pnet_virtio", "fs/9p/9p", "fs/overlayfs/overlay"];

/// Makes the archive for a kernel.
pub(crate) fn archive(busybox: &Path, kernel: &KernelFiles) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, 0o040_755, &[])?;
    }
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox).at("read", busybox)?)?;
    archive.add("init", 0o100_755, INIT.as_bytes())?;
    if let Some(modules) = &kernel.modules {
        let tree = only_folder(modules)?;
        for module in MODULES {
            let name = module.rsplit('/').next().unwrap_or(module);
            let bytes = unpacked(&tree.join("kernel").join(module), busybox)?;
            archive.add(&format!("modules/{name}.ko"), 0o100_644, &bytes)?;
        }
    }
    archive.finish()
}

/// The tree of the one version that was unpacked there.
fn only_folder(modules: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(modules).at("read", modules)?;
    let entry = entries.next().ok_or_else(|| {
        Error::NotSetUp(format!("{} is empty: no version of modules", modules.display()))
    })?;
    Ok(entry.at("read", modules)?.path())
}

/// A module's bytes; Debian compresses them, which the kernel undoes only with a loader's help.
fn unpacked(stem: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let plain = stem.with_extension("ko");
    if plain.is_file() {
        return fs::read(&plain).at("read", &plain);
    }
    let packed = stem.with_extension("ko.xz");
    let output = Command::new(busybox).args(["xz", "-dc"]).arg(&packed).output();
    let output = output.at("run", busybox)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Error::NotSetUp(format!("{}: {}", packed.display(), reason.trim())));
    }
    Ok(output.stdout)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let too_long = |_| Error::Invalid(format!("{name} is too long for an initrd"));
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        // inode, mode, uid, gid, links, mtime, size, device, rdevice (two numbers each), name, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_finds_in_the_archive_what_was_put_there() {
        let mut archive = Archive::default();
        archive.add("odd", 0o040_755, &[]).expect("short");
        archive.add("odd/file", 0o100_644, b"12345").expect("short");
        let bytes = archive.finish().expect("short");

        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..14], b"07070100000001");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("odd/file\0") && text.contains("12345\0\0\0"));
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text:?}");
    }

    #[test]
    fn a_kernel_without_modules_needs_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let busybox = folder.path().join("busybox");
        fs::write(&busybox, "#!").expect("written");
        let kernel = KernelFiles { image: PathBuf::new(), modules: None };

        let bytes = archive(&busybox, &kernel).expect("an archive");

        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("bin/busybox") && text.contains("init\0"));
        assert!(!text.contains("overlay.ko"));
    }
}
