//! Where the things are that a guest is made of. Knows folders; makes nothing but the folders of runs
//! (`setup` makes the rest).
//!
//! ```text
//! qemu/                  QEMU, its firmware, the libraries it needs, busybox: unpacked packages
//! kernels/debian-VERSION/ Debian's kernel and its modules
//! kernels/own-VERSION-HASH/ ours: bzImage, and the configuration it has the hash of
//! agent/testbed-agent    what runs in the guest
//! run/PID-N/             a guest's sockets and files, gone with it
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{At, Error, Result};
use crate::options::Kernel;

/// The environment variable that names the folder.
pub const VARIABLE: &str = "MEMWIRE_TESTBED";
/// Our kernel's answers; its hash is in the name of the folder.
pub(crate) const KERNEL_CONFIG: &str = include_str!("../guest/kernel.config");

/// The folder of all this.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

/// A kernel, and its modules if it has any.
#[derive(Clone, Debug)]
pub(crate) struct KernelFiles {
    pub(crate) image: PathBuf,
    /// A tree like `/usr/lib/modules`.
    pub(crate) modules: Option<PathBuf>,
}

impl State {
    /// The folder that is named; it need not be there.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What `MEMWIRE_TESTBED` names; else `testbed` in the target folder that this executable was built
    /// into.
    ///
    /// # Errors
    /// If neither is there.
    pub fn find() -> Result<Self> {
        if let Some(root) = std::env::var_os(VARIABLE) {
            return Ok(Self::at(root));
        }
        let own = std::env::current_exe().map_err(|error| Error::io("own executable", error))?;
        let folder = own.ancestors().map(|folder| folder.join("testbed"));
        let mut found = folder.filter(|folder| folder.join("qemu").is_dir());
        found.next().map(Self::at).ok_or_else(|| {
            Error::NotSetUp(format!("no folder testbed/qemu beside {}", own.display()))
        })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn qemu(&self) -> PathBuf {
        self.root.join("qemu")
    }

    pub(crate) fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.root.join("agent/testbed-agent")
    }

    /// QEMU's program.
    pub(crate) fn qemu_program(&self) -> Result<PathBuf> {
        self.needed(self.qemu().join("usr/bin/qemu-system-x86_64"), "QEMU")
    }

    /// The static busybox that starts a guest.
    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        let merged = self.qemu().join("usr/bin/busybox");
        let path = if merged.is_file() { merged } else { self.qemu().join("bin/busybox") };
        self.needed(path, "busybox")
    }

    /// The agent that setup left.
    pub(crate) fn built_agent(&self) -> Result<PathBuf> {
        self.needed(self.agent(), "the guest's agent")
    }

    /// The newest kernel of that kind.
    pub(crate) fn kernel(&self, kernel: Kernel) -> Result<KernelFiles> {
        let (prefix, suffix) = match kernel {
            Kernel::Debian => ("debian-", String::new()),
            Kernel::Own => ("own-", format!("-{}", hash(KERNEL_CONFIG))),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(self.kernels()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let image = entry.path().join("bzImage");
            if let (true, Ok(made)) = (
                name.starts_with(prefix) && name.ends_with(&suffix),
                image.metadata().and_then(|metadata| metadata.modified()),
            ) {
                found.push((made, name, entry.path()));
            }
        }
        let Some((_, _, folder)) = found.into_iter().max() else {
            let what = match kernel {
                Kernel::Debian => "no kernel of Debian's".to_owned(),
                Kernel::Own => "no kernel built from guest/kernel.config as it is now".to_owned(),
            };
            return Err(Error::NotSetUp(format!("{what} in {}", self.kernels().display())));
        };
        let modules = Some(folder.join("modules")).filter(|modules| modules.is_dir());
        Ok(KernelFiles { image: folder.join("bzImage"), modules })
    }

    /// Whether a guest with that kernel can be made here.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, kernel: Kernel) -> Result<()> {
        self.built_agent()?;
        self.check_without_agent(kernel)
    }

    /// The same for a guest that brings its own agent.
    pub(crate) fn check_without_agent(&self, kernel: Kernel) -> Result<()> {
        self.qemu_program()?;
        self.busybox()?;
        self.kernel(kernel).map(|_| ())
    }

    /// A fresh folder for one guest. Those of processes that are no more go first.
    pub(crate) fn run_folder(&self) -> Result<PathBuf> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = self.root.join("run");
        fs::create_dir_all(&runs).at("make", &runs)?;
        for entry in fs::read_dir(&runs).at("read", &runs)?.flatten() {
            let name = entry.file_name();
            let owner = name.to_string_lossy().split('-').next().map(str::to_owned);
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another guest may be doing the same.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = runs.join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&folder).at("make", &folder)?;
        Ok(folder)
    }

    fn needed(&self, path: PathBuf, what: &str) -> Result<PathBuf> {
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::NotSetUp(format!("{what} is not in {}", self.root.display())))
    }
}

/// Where an unpacked QEMU has the libraries that came with it.
pub(crate) fn libraries(qemu: &Path) -> PathBuf {
    qemu.join("usr/lib/x86_64-linux-gnu")
}

/// A short name for a text: 64 bits of FNV-1a.
pub(crate) fn hash(text: &str) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(start, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_another_configuration_is_not_taken() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = State::at(folder.path());
        let make = |name: &str| {
            let kernel = folder.path().join("kernels").join(name);
            fs::create_dir_all(&kernel).expect("made");
            fs::write(kernel.join("bzImage"), "").expect("written");
        };

        make("own-7.3-0000000000000000");
        let missing = state.kernel(Kernel::Own).expect_err("it has another configuration");
        make(&format!("own-7.3-{}", hash(KERNEL_CONFIG)));

        assert!(missing.to_string().contains("cargo xtask testbed setup"), "{missing}");
        assert!(state.kernel(Kernel::Own).expect("there").modules.is_none());
        assert!(state.kernel(Kernel::Debian).is_err());
    }

    #[test]
    fn the_folder_of_a_dead_process_goes_and_that_of_a_living_one_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runs = folder.path().join("run");
        let (dead, living) =
            (runs.join("999999999-0"), runs.join(format!("{}-9", std::process::id())));
        fs::create_dir_all(&dead).expect("made");
        fs::create_dir_all(&living).expect("made");

        let fresh = State::at(folder.path()).run_folder().expect("a folder");

        assert!(fresh.is_dir() && living.is_dir() && !dead.exists());
    }

    #[test]
    fn a_hash_tells_texts_apart() {
        assert_eq!(hash(""), "cbf29ce484222325");
        assert_ne!(hash("a"), hash("b"));
    }
}
