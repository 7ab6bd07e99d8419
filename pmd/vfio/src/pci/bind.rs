//! Handing a function to another driver: to vfio-pci and back to the kernel's. Refuses to take away what
//! somebody would miss, looks whether it worked, and puts back what was if it did not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Address, Function, Interface, Sysfs, addresses,
    sysfs::{link, names},
};
use crate::{Error, Result};

/// Drivers that hand a device to user space.
pub const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// What became of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebound {
    /// The driver before.
    pub from: Option<String>,
    /// The driver now.
    pub to: Option<String>,
}

/// Binds a function to a driver, as a rule `vfio-pci`. One that has it already keeps it.
///
/// `force` takes an interface away that has an address; never one with a default route, nor one that
/// belongs to a bridge or a bond.
///
/// # Errors
/// It would be missed, there is no such driver, or the kernel refused; then it has the driver that it
/// had.
pub fn bind(sysfs: &Sysfs, address: Address, driver: &str, force: bool) -> Result<Rebound> {
    Binder { sysfs, address, system: &mut Linux }.bind(driver, force)
}

/// Gives a function back to the kernel's own driver. One that has it already keeps it.
///
/// # Errors
/// A process has it, or the kernel refused.
pub fn unbind(sysfs: &Sysfs, address: Address) -> Result<Rebound> {
    Binder { sysfs, address, system: &mut Linux }.unbind()
}

/// What of the system is more than reading files.
trait System {
    fn write(&mut self, file: &Path, text: &str) -> io::Result<()>;
    fn load(&mut self, module: &str) -> io::Result<()>;
    fn addresses(&mut self, interface: &str) -> Vec<String>;
}

struct Linux;

impl System for Linux {
    fn write(&mut self, file: &Path, text: &str) -> io::Result<()> {
        // Without creating: a file that is not there has no driver behind it.
        fs::OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
    }

    fn load(&mut self, module: &str) -> io::Result<()> {
        let done = Command::new("modprobe").arg("--").arg(module).output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
    }

    fn addresses(&mut self, interface: &str) -> Vec<String> {
        addresses::of(interface)
    }
}

/// Why a step did not work, and whether the user can do something about it.
#[derive(Debug)]
struct Problem {
    why: String,
    is_refusal: bool,
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self { why, is_refusal: false }
    }
}

struct Binder<'a> {
    sysfs: &'a Sysfs,
    address: Address,
    system: &'a mut dyn System,
}

impl Binder<'_> {
    fn bind(&mut self, driver: &str, force: bool) -> Result<Rebound> {
        let function = Function::read(self.sysfs, self.address)?;
        let from = function.driver.clone();
        if from.as_deref() == Some(driver) {
            return Ok(Rebound { to: from.clone(), from });
        }
        if function.class.is_bridge() {
            return Err(
                self.refused("a bridge: the functions behind it need its driver".to_owned())
            );
        }
        for name in &function.interfaces {
            let addresses = self.system.addresses(name);
            let interface = Interface::read(self.sysfs, name, addresses);
            if let Some(why) = interface.refusal(force) {
                return Err(self.refused(why));
            }
        }
        self.refuse_if_held(&function)?;
        self.load(driver)?;
        let moved = self.hand_over(from.as_deref(), driver);
        moved
            .and_then(|()| self.look(driver))
            .map_err(|why| self.put_back(from.as_deref(), why))?;
        Ok(Rebound { from, to: Some(driver.to_owned()) })
    }

    fn unbind(&mut self) -> Result<Rebound> {
        let function = Function::read(self.sysfs, self.address)?;
        let from = function.driver.clone();
        if let Some(driver) = &from
            && !is_for_user_space(driver)
        {
            return Ok(Rebound { to: from.clone(), from });
        }
        self.refuse_if_held(&function)?;
        let moved = self.hand_over(from.as_deref(), "\n");
        let to = moved.and_then(|()| self.driver());
        let to = to.map_err(|problem| self.failed(problem))?;
        match &to {
            Some(driver) if is_for_user_space(driver) => Err(self.refused(format!(
                "{driver} took it again: it was told to by its new_id; write the id to \
                 /sys/bus/pci/drivers/{driver}/remove_id"
            ))),
            _ => Ok(Rebound { from, to }),
        }
    }

    /// Takes the function from one driver and lets the kernel find another, of this name if it is one.
    fn hand_over(&mut self, from: Option<&str>, to: &str) -> Result<(), Problem> {
        let folder = self.sysfs.function(self.address);
        let address = self.address.to_string();
        self.write(&folder.join("driver_override"), to)?;
        if from.is_some() {
            self.write(&folder.join("driver/unbind"), &address)?;
        }
        self.write(&self.sysfs.path("sys/bus/pci/drivers_probe"), &address)
    }

    fn write(&mut self, file: &Path, text: &str) -> Result<(), Problem> {
        self.system.write(file, text).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Problem {
                why: format!("{}: {error}: run as root, on the host", file.display()),
                is_refusal: true,
            },
            _ => format!("{}: {error}", file.display()).into(),
        })
    }

    fn load(&mut self, driver: &str) -> Result<()> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if driver.is_empty() || !driver.bytes().all(is_name) {
            return Err(self.refused(format!("'{driver}' is no driver's name")));
        }
        let folder = self.sysfs.path("sys/bus/pci/drivers").join(driver);
        if folder.is_dir() {
            return Ok(());
        }
        let loaded = self.system.load(driver);
        if folder.is_dir() {
            return Ok(());
        }
        let why = loaded.err().map_or_else(String::new, |error| format!(" ({error})"));
        Err(self
            .refused(format!("no driver {driver} here: modprobe {driver} did not bring it{why}")))
    }

    fn driver(&self) -> Result<Option<String>, Problem> {
        let file = self.sysfs.function(self.address).join("driver");
        link(&file).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// Whether the driver has the function now.
    fn look(&self, driver: &str) -> Result<(), Problem> {
        match self.driver()? {
            Some(now) if now == driver => Ok(()),
            now => Err(format!(
                "{driver} did not take it, {} has it: see dmesg",
                now.as_deref().unwrap_or("nobody")
            )
            .into()),
        }
    }

    /// Back to the driver that it had, as far as that goes.
    fn put_back(&mut self, from: Option<&str>, problem: Problem) -> Error {
        let now = self.driver().ok().flatten();
        if now.as_deref() != from {
            let undone = self.hand_over(now.as_deref(), "\n");
            tracing::debug!(address = %self.address, ?undone, "putting back the driver that was");
        } else {
            // Only the wish is to be forgotten.
            let file = self.sysfs.function(self.address).join("driver_override");
            let forgotten = self.write(&file, "\n");
            tracing::debug!(address = %self.address, ?forgotten, "forgetting the wish for a driver");
        }
        let now = self.driver().ok().flatten();
        let now = match now {
            Some(driver) => format!("it is on {driver}"),
            None => "it is on no driver".to_owned(),
        };
        self.failed(Problem { why: format!("{}; {now}", problem.why), ..problem })
    }

    /// A process that has the device would keep the kernel, and so us, waiting for ever.
    fn refuse_if_held(&self, function: &Function) -> Result<()> {
        let holders = holders(self.sysfs, function);
        if holders.is_empty() {
            return Ok(());
        }
        Err(self.refused(format!("in use by {}: stop that first", holders.join(", "))))
    }

    fn refused(&self, why: String) -> Error {
        Error::Binding { address: self.address, why, is_refusal: true }
    }

    fn failed(&self, Problem { why, is_refusal }: Problem) -> Error {
        Error::Binding { address: self.address, why, is_refusal }
    }
}

fn is_for_user_space(driver: &str) -> bool {
    USER_SPACE_DRIVERS.contains(&driver) || driver.contains("vfio")
}

/// Processes that have the function's group or character device open: `gpurx (pid 1234)`. Of other
/// users' processes only root learns.
fn holders(sysfs: &Sysfs, function: &Function) -> Vec<String> {
    let mut nodes: Vec<PathBuf> = names(&sysfs.function(function.address).join("vfio-dev"))
        .into_iter()
        .map(|name| Path::new("/dev/vfio/devices").join(name))
        .collect();
    for prefix in ["", "noiommu-"] {
        let node = function.iommu_group.map(|group| format!("/dev/vfio/{prefix}{group}"));
        nodes.extend(node.map(PathBuf::from));
    }
    let processes = names(&sysfs.path("proc")).into_iter();
    let processes = processes.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let holds = |pid: &String| {
        let open = sysfs.path("proc").join(pid).join("fd");
        let mut open = names(&open).into_iter().map(move |fd| fs::read_link(open.join(fd)));
        open.any(|file| file.is_ok_and(|file| nodes.contains(&file)))
    };
    let named = |pid: String| {
        let name = fs::read_to_string(sysfs.path("proc").join(&pid).join("comm"));
        format!("{} (pid {pid})", name.as_deref().unwrap_or("a process").trim())
    };
    processes.filter(holds).map(named).collect()
}

#[cfg(test)]
mod tests;
