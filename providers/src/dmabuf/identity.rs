//! What a descriptor is: a dma-buf, by whom, of how many bytes; or what else, in words. Reads
//! `/proc/self/fdinfo`; maps nothing.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::fs::{FileType, OFlags, SeekFrom};

/// Bytes of a page: dma-bufs are made of them.
pub(super) const PAGE: u64 = 4096;

/// What the kernel says of a dma-buf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who exported it: `udmabuf`, `system` (a dma-heap), `vfio_pci_core`, a GPU's driver.
    pub exporter: String,
    /// The name that somebody gave it (`DMA_BUF_SET_NAME`).
    pub label: Option<String>,
    /// Its bytes.
    pub bytes: u64,
    /// What tells it from every other one.
    pub(super) inode: (u64, u64),
}

/// What is known of a descriptor.
struct Facts {
    kind: FileType,
    /// Where `/proc/self/fd` says that it leads.
    link: String,
    fdinfo: String,
    is_writable: bool,
    /// Where its end is, if that can be asked.
    end: Option<u64>,
    inode: (u64, u64),
}

impl Identity {
    /// Looks at a descriptor. `what` is how errors call it: `fd 9`.
    ///
    /// # Errors
    /// It is no dma-buf, or none that can be used; the text says what it is.
    pub(super) fn of(what: &str, fd: BorrowedFd<'_>) -> Result<Self, String> {
        let facts =
            Facts::gather(fd).map_err(|error| format!("{what} cannot be looked at: {error}"))?;
        facts.judge(what)
    }
}

impl Facts {
    fn gather(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let (stat, number) = (rustix::fs::fstat(fd)?, fd.as_raw_fd());
        let flags = rustix::fs::fcntl_getfl(fd)?;
        let link = fs::read_link(format!("/proc/self/fd/{number}"))?;
        let link = link.to_string_lossy().into_owned();
        let fdinfo = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
        // Where a dma-buf ends is its size; nothing else of it can be sought (`dma_buf_llseek`), and nothing
        // else is: another file's position is somebody's.
        let end = fdinfo.contains("exp_name:").then(|| rustix::fs::seek(fd, SeekFrom::End(0)));
        Ok(Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            fdinfo,
            is_writable: flags.contains(OFlags::RDWR),
            end: end.and_then(Result::ok),
            inode: (stat.st_dev, stat.st_ino),
            link,
        })
    }

    /// A line of `fdinfo`.
    fn info(&self, key: &str) -> Option<&str> {
        let line = self.fdinfo.lines().find_map(|line| line.strip_prefix(key));
        line.map(str::trim).filter(|value| !value.is_empty())
    }

    fn judge(&self, what: &str) -> Result<Identity, String> {
        let Some(exporter) = self.info("exp_name:") else {
            return Err(format!("{what} is {}", self.other_kind()));
        };
        let exporter = exporter.to_owned();
        if !self.is_writable {
            return Err(format!(
                "{what} is a dma-buf of '{exporter}' that is open for reading only (O_RDONLY), and payloads \
                 are written: export it with O_RDWR"
            ));
        }
        let said = self.info("size:").and_then(|size| size.parse::<u64>().ok());
        let bytes = match (self.end, said) {
            (Some(end), Some(said)) if end != said => {
                return Err(format!(
                    "{what} is a dma-buf of '{exporter}' that ends at {end} B and is said to have {said} B: \
                     not to be trusted"
                ));
            }
            (Some(bytes), _) | (None, Some(bytes)) => bytes,
            (None, None) => 0,
        };
        if bytes == 0 {
            return Err(format!(
                "{what} is a dma-buf of '{exporter}' with 0 bytes: there is nothing to carve buffers from"
            ));
        }
        if !bytes.is_multiple_of(PAGE) {
            return Err(format!(
                "{what} is a dma-buf of '{exporter}' with {bytes} B, not a multiple of a page of {PAGE} B: a \
                 NIC is given whole pages only"
            ));
        }
        let label = self.info("name:").map(str::to_owned);
        Ok(Identity { exporter, label, bytes, inode: self.inode })
    }

    /// What it is instead.
    fn other_kind(&self) -> String {
        let link = &self.link;
        match self.kind {
            FileType::RegularFile if link.starts_with("/memfd:") => format!(
                "a memory file ({}), not a dma-buf: have one made of such memory by `memwire dmabuf export \
                 --udmabuf SIZE`",
                link.trim_start_matches('/').trim_end_matches(" (deleted)")
            ),
            FileType::RegularFile => format!("a regular file ({link}), not a dma-buf"),
            FileType::Socket => {
                "a socket, not a dma-buf: a socket that hands one over is named by its path".into()
            }
            FileType::Fifo => "a pipe, not a dma-buf".into(),
            FileType::Directory => format!("a directory ({link}), not a dma-buf"),
            FileType::CharacterDevice if link.starts_with("/dev/dma_heap/") => format!(
                "a dma-heap ({link}), not a dma-buf: have one made by `memwire dmabuf export --heap \
                 NAME,SIZE`"
            ),
            FileType::CharacterDevice | FileType::BlockDevice => {
                format!("a device ({link}), not a dma-buf")
            }
            _ => format!("something else ({link}), not a dma-buf"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fdinfo: &str, end: Option<u64>) -> Facts {
        Facts {
            kind: FileType::RegularFile,
            link: "/dmabuf:".into(),
            fdinfo: fdinfo.into(),
            is_writable: true,
            end,
            inode: (1, 2),
        }
    }

    const SOUND: &str = "pos:\t0\nflags:\t02000002\nsize:\t8192\ncount:\t1\nexp_name:\tudmabuf\n";

    #[test]
    fn a_sound_dma_buf_is_named_with_exporter_and_size() {
        let identity = facts(SOUND, Some(8192)).judge("fd 9").unwrap();
        assert_eq!((identity.exporter.as_str(), identity.bytes), ("udmabuf", 8192));
        assert_eq!(identity.label, None);
        let named = format!("{SOUND}name:\tcamera\n");
        let identity = facts(&named, None).judge("fd 9").unwrap();
        assert_eq!((identity.label.as_deref(), identity.bytes), (Some("camera"), 8192));
    }

    #[test]
    fn a_dma_buf_that_cannot_be_used_says_why() {
        let says = |facts: Facts| facts.judge("fd 9").unwrap_err();
        let read_only = Facts { is_writable: false, ..facts(SOUND, Some(8192)) };
        assert_eq!(
            says(read_only),
            "fd 9 is a dma-buf of 'udmabuf' that is open for reading only (O_RDONLY), and payloads are \
             written: export it with O_RDWR"
        );
        let of = |size: u64| SOUND.replace("8192", &size.to_string());
        assert!(says(facts(&of(0), Some(0))).contains("with 0 bytes: there is nothing"));
        assert!(says(facts("exp_name:\tx\n", None)).contains("with 0 bytes"));
        assert!(
            says(facts(&of(5000), Some(5000)))
                .contains("5000 B, not a multiple of a page of 4096 B")
        );
        assert!(
            says(facts(SOUND, Some(4096))).contains("ends at 4096 B and is said to have 8192 B")
        );
    }

    #[test]
    fn what_is_no_dma_buf_is_told_by_name() {
        let is = |kind, link: &str| {
            let facts = Facts { kind, link: link.into(), ..facts("pos:\t0\n", None) };
            facts.judge("fd 9").unwrap_err()
        };
        for (kind, link, text) in [
            (
                FileType::RegularFile,
                "/etc/hosts",
                "fd 9 is a regular file (/etc/hosts), not a dma-buf",
            ),
            (
                FileType::RegularFile,
                "/memfd:x (deleted)",
                "fd 9 is a memory file (memfd:x), not a dma-buf: ",
            ),
            (FileType::Socket, "socket:[1]", "fd 9 is a socket, not a dma-buf: "),
            (FileType::Fifo, "pipe:[1]", "fd 9 is a pipe, not a dma-buf"),
            (FileType::Directory, "/tmp", "fd 9 is a directory (/tmp), not a dma-buf"),
            (FileType::CharacterDevice, "/dev/null", "fd 9 is a device (/dev/null), not a dma-buf"),
            (
                FileType::CharacterDevice,
                "/dev/dma_heap/system",
                "fd 9 is a dma-heap (/dev/dma_heap/system)",
            ),
            (
                FileType::Unknown,
                "anon_inode:x",
                "fd 9 is something else (anon_inode:x), not a dma-buf",
            ),
        ] {
            assert!(is(kind, link).starts_with(text), "{}", is(kind, link));
        }
    }
}
