//! Makes everything that a guest is made of, each thing once: what is there already takes no time.
//!
//! Nothing is installed: packages of the Debian archive that this machine's own apt sources name are
//! unpacked into the state's folder. No root is needed for that.

mod apt;
mod debian_kernel;
mod own_kernel;
mod qemu;
mod tool;

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use crate::error::{At, Error, Result};
use crate::options::Kernel;
use crate::state::State;
use apt::Archive;

/// The release that has a kernel new enough for what is tested here.
const KERNEL_SUITE: &str = "trixie-backports";
/// The first QEMU with an 82576 is 8.0, which bookworm has only in its backports; later ones have it.
const QEMU_SUITE_OF_BOOKWORM: &str = "bookworm-backports";

/// What to make, and out of what.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it goes.
    pub state: State,
    /// Which kernels.
    pub kernels: Vec<Kernel>,
    /// The release that QEMU comes from; the machine's own, or its backports, if none.
    pub qemu_suite: Option<String>,
    /// The release that kernels come from; trixie-backports if none.
    pub kernel_suite: Option<String>,
    /// The agent's executable, which is copied.
    pub agent: PathBuf,
    /// Look for newer versions of what is there already.
    pub update: bool,
}

impl Setup {
    /// Makes what is missing, and says so line by line on standard output.
    ///
    /// # Errors
    /// If a step fails: which, what the program printed, and what to install.
    pub fn run(&self) -> Result<()> {
        let root = self.state.root();
        fs::create_dir_all(root).at("make", root)?;
        let lock = root.join("lock");
        // Two at a time would unpack into each other's folders. Ends with this process at the latest.
        let file = File::create(&lock).at("make", &lock)?;
        file.lock().at("lock", &lock)?;

        let host = apt::codename();
        let qemu_suite = match (&self.qemu_suite, host.as_str()) {
            (Some(suite), _) => suite,
            (None, "bookworm") => QEMU_SUITE_OF_BOOKWORM,
            (None, host) => host,
        };
        let kernel_suite = self.kernel_suite.as_deref().unwrap_or(KERNEL_SUITE);
        let mut archive = Archive::new(root.join("apt"), &[&host, qemu_suite, kernel_suite]);
        let folder = self.state.qemu();
        step("QEMU", || qemu::make(&mut archive, &folder, qemu_suite, self.update))?;
        for kernel in &self.kernels {
            let folder = self.state.kernels();
            match kernel {
                Kernel::Debian => step("Debian's kernel", || {
                    debian_kernel::make(&mut archive, &folder, kernel_suite, self.update)
                })?,
                Kernel::Own => step("our own kernel", || {
                    own_kernel::make(&mut archive, &folder, kernel_suite, self.update)
                })?,
            }
        }
        step("the agent", || self.copy_agent())?;
        self.kernels.iter().try_for_each(|kernel| self.state.check(*kernel))
    }

    fn copy_agent(&self) -> Result<String> {
        let to = self.state.agent();
        if fs::read(&to).is_ok_and(|there| fs::read(&self.agent).is_ok_and(|new| new == there)) {
            return Ok(here("as it was built"));
        }
        let folder = self.state.root().join("agent");
        fs::create_dir_all(&folder).at("make", &folder)?;
        // A guest may be running the old one: that file stays as it is, without a name.
        let fresh = folder.join("fresh");
        fs::copy(&self.agent, &fresh).at("copy", &self.agent)?;
        fs::rename(&fresh, &to).at("replace", &to)?;
        Ok("copied".to_owned())
    }
}

impl Kernel {
    /// Debian packages with what makes it.
    #[must_use]
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &debian_kernel::PACKAGES,
            Self::Own => &own_kernel::PACKAGES,
        }
    }
}

fn step(name: &str, make: impl FnOnce() -> Result<String>) -> Result<()> {
    let start = Instant::now();
    let done = make()
        .map_err(|error| Error::Setup { step: name.to_owned(), reason: error.to_string() })?;
    println!("{name}: {done} ({:.1} s)", start.elapsed().as_secs_f64());
    Ok(())
}

fn here(what: &str) -> String {
    format!("is here, {what}")
}
