//! The kernel's files, below a root that tests set up themselves. Reads no more of a file than it can
//! have, and knows a function that vanished from one that cannot be read.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{Address, Function};
use crate::{Error, Result};

/// Longer than anything sysfs says: a file there is one page.
const LONGEST: u64 = 4096;

/// Where `/sys`, `/proc` and `/dev` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

/// What a walk over the bus found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The functions, by address.
    pub functions: Vec<Function>,
    /// Functions whose files do not say what they should, one error each.
    pub problems: Vec<Error>,
}

impl Sysfs {
    /// Those of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// Those below another root: a copy of a machine's, or a test's.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A place below the root.
    #[must_use]
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// The folder of a function.
    #[must_use]
    pub fn function(&self, address: Address) -> PathBuf {
        self.path(format!("sys/bus/pci/devices/{address}"))
    }

    /// Every function on the bus. One that vanishes meanwhile is left out.
    ///
    /// # Errors
    /// The bus cannot be listed; a machine without PCI has an empty one.
    pub fn scan(&self) -> Result<Scan> {
        let folder = self.path("sys/bus/pci/devices");
        let mut scan = Scan::default();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if has_vanished(&error) => return Ok(scan),
            Err(error) => return Err(Error::system(folder.display().to_string())(error)),
        };
        for name in entries.filter_map(Result::ok).map(|entry| entry.file_name()) {
            let read = name
                .to_str()
                .ok_or_else(|| Error::Address(name.to_string_lossy().into_owned()))
                .and_then(str::parse)
                .and_then(|address| Function::read(self, address));
            match read {
                Ok(function) => scan.functions.push(function),
                Err(Error::NoFunction(address)) => tracing::debug!(%address, "device vanished"),
                Err(problem) => scan.problems.push(problem),
            }
        }
        scan.functions.sort_by_key(|function| function.address);
        Ok(scan)
    }

    /// The functions of an IOMMU group, by address.
    pub(crate) fn group(&self, group: u32) -> Vec<Function> {
        let folder = self.path(format!("sys/kernel/iommu_groups/{group}/devices"));
        let names = names(&folder);
        names.iter().filter_map(|name| Function::read(self, name.parse().ok()?).ok()).collect()
    }
}

/// Names in a folder, sorted; none if it cannot be read.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The text of a small file.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("longer than {LONGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}

/// The last part of where a link leads; none if there is no link.
pub(super) fn link(path: &Path) -> io::Result<Option<String>> {
    match fs::read_link(path) {
        Ok(to) => Ok(to.file_name().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if has_vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the file, or the device that it belonged to, is gone.
pub(crate) fn has_vanished(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NODEV | Errno::NXIO))
}
