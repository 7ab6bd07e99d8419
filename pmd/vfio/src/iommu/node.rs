//! Device nodes below `/dev`: opened, or refused in words that help.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{Error, Result};

/// Opens a node for reading and writing. `missing` says what to do if it is not there.
pub(crate) fn open(path: &Path, missing: &str) -> Result<OwnedFd> {
    let opened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| refused(path, errno, missing))
}

fn refused(path: &Path, errno: Errno, missing: &str) -> Error {
    let path = path.to_owned();
    match errno {
        Errno::ACCESS | Errno::PERM => {
            Error::Permission { path, uid: rustix::process::geteuid().as_raw() }
        }
        Errno::BUSY => Error::Busy { path },
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            Error::Unsupported { what: path.display().to_string(), why: missing.to_owned() }
        }
        other => Error::System { what: path.display().to_string(), source: io::Error::from(other) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_ours_says_whose_it_should_be() {
        let error = refused(Path::new("/dev/vfio/26"), Errno::ACCESS, "").to_string();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(
            error,
            format!("/dev/vfio/26: permission denied; chown it to uid {uid}, or run as root")
        );
    }

    #[test]
    fn a_node_in_use_and_one_that_is_missing_are_told_apart() {
        let error = refused(Path::new("/dev/vfio/26"), Errno::BUSY, "").to_string();
        assert_eq!(error, "/dev/vfio/26: in use by another process: stop that first");
        let folder = tempfile::tempdir().expect("a folder");
        let error = open(&folder.path().join("vfio"), "run modprobe vfio-pci").expect_err("none");
        assert!(error.to_string().ends_with("/vfio not supported: run modprobe vfio-pci"));
    }
}
