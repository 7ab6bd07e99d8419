//! Debian's kernel and its modules, unpacked.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{Archive, Package};
use super::here;
use super::tool::Tool;
use crate::error::{At, Error, Result};

const META: &str = "linux-image-amd64";
/// What has `depmod`.
pub(super) const PACKAGES: [&str; 1] = ["kmod"];

/// Makes the folder of the suite's kernel unless one of that suite is there.
pub(super) fn make(
    archive: &mut Archive,
    kernels: &Path,
    suite: &str,
    update: bool,
) -> Result<String> {
    if let (Some(name), false) = (existing(kernels, suite), update) {
        return Ok(here(&name));
    }
    let packages = archive.missing_for(&[format!("{META}/{suite}")])?;
    let version = version_among(&packages)
        .ok_or_else(|| Error::Invalid(format!("{META} of {suite} installs no kernel")))?;
    let name = format!("debian-{version}");
    let folder = kernels.join(&name);
    if folder.join("bzImage").is_file() {
        fs::write(folder.join("suite"), suite).at("write", &folder)?;
        return Ok(here(&name));
    }
    let suffix = format!("-{version}");
    let of_kernel: Vec<_> =
        packages.into_iter().filter(|package| package.name.ends_with(&suffix)).collect();
    let making = kernels.join("making-debian");
    let _ = fs::remove_dir_all(&making);
    let unpacked = making.join("unpacked");
    archive.unpack(&of_kernel, &unpacked)?;

    let tree = found(
        &unpacked,
        &[format!("usr/lib/modules/{version}"), format!("lib/modules/{version}")],
    )?;
    let image = found(
        &unpacked,
        &[format!("boot/vmlinuz-{version}"), format!("usr/lib/modules/{version}/vmlinuz")],
    )?;
    fs::copy(&image, making.join("bzImage")).at("copy", &image)?;
    // depmod wants to see lib/modules below its root.
    let base = making.join("lib");
    fs::create_dir_all(base.join("modules")).at("make", &base)?;
    let modules = base.join("modules").join(&version);
    fs::rename(&tree, &modules).at("move", &tree)?;
    Tool::new("depmod").args(["-b".as_ref(), making.as_os_str(), version.as_ref()]).run()?;
    fs::rename(base.join("modules"), making.join("modules")).at("move", &base)?;
    fs::remove_dir_all(&base).at("remove", &base)?;
    fs::remove_dir_all(&unpacked).at("remove", &unpacked)?;
    fs::write(making.join("suite"), suite).at("write", &making)?;
    fs::rename(&making, &folder).at("rename", &making)?;
    Ok(name)
}

fn existing(kernels: &Path, suite: &str) -> Option<String> {
    let names = fs::read_dir(kernels).ok()?.flatten();
    let mut found = names.filter(|entry| {
        let made_from = fs::read_to_string(entry.path().join("suite")).unwrap_or_default();
        entry.file_name().to_string_lossy().starts_with("debian-") && made_from == suite
    });
    found.next().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The version in the name of the package that has the kernel itself, `linux-image-7.3.4+deb13-amd64`.
fn version_among(packages: &[Package]) -> Option<String> {
    packages.iter().find_map(|package| {
        let version = package.name.strip_prefix("linux-image-")?;
        version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
    })
}

fn found(root: &Path, names: &[String]) -> Result<PathBuf> {
    let mut paths = names.iter().map(|name| root.join(name));
    paths.find(|path| path.exists()).ok_or_else(|| {
        Error::Invalid(format!("the package of the kernel has none of {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_image_and_not_of_the_package_that_names_it() {
        let package = |name: &str| Package { name: name.to_owned(), version: String::new() };
        let packages = [
            package("linux-image-amd64"),
            package("linux-modules-7.3.4+deb13-amd64"),
            package("linux-image-7.3.4+deb13-amd64"),
        ];
        assert_eq!(version_among(&packages).as_deref(), Some("7.3.4+deb13-amd64"));
        assert_eq!(version_among(&packages[..2]), None);
    }
}
