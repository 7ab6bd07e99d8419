//! `memwire bind` and `memwire unbind`: a function from the kernel's driver to VFIO's, and back. What may
//! be taken away, and how, is `vfio`'s business.

use std::{io::Write, path::Path};

use memwire_apps::AppError;
use vfio::pci::{self, Address, Function, Rebound, Sysfs};

use crate::{
    Failure,
    args::{BindArgs, UnbindArgs},
    pci::app_error,
};

pub(crate) fn bind(args: &BindArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let each = |sysfs: &Sysfs, address| pci::bind(sysfs, address, &args.driver, args.force);
    change(&args.addresses, root, out, each)
}

pub(crate) fn unbind(args: &UnbindArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    change(&args.addresses, root, out, pci::unbind)
}

/// All of them, in this order; stops at the first that cannot be.
fn change(
    addresses: &[Address],
    root: &Path,
    out: &mut dyn Write,
    each: impl Fn(&Sysfs, Address) -> vfio::Result<Rebound>,
) -> Result<(), Failure> {
    if root != Path::new("/") {
        let message = "--root names a copy of a machine; drivers are bound on this one";
        return Err(AppError::usage(message).into());
    }
    let sysfs = Sysfs::system();
    // A typing error in the last address shall not be found when the first is bound.
    for &address in addresses {
        Function::read(&sysfs, address).map_err(|error| app_error(&error))?;
    }
    for &address in addresses {
        let rebound = each(&sysfs, address).map_err(|error| app_error(&error))?;
        writeln!(out, "{address}: {}", told(&rebound))?;
    }
    Ok(())
}

fn told(Rebound { from, to }: &Rebound) -> String {
    let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "no driver".to_owned());
    match (from, to) {
        (Some(_), _) if from == to => format!("on {} already", name(to)),
        (None, None) => "on no driver: none of the kernel's takes it".to_owned(),
        (_, None) => format!("{} -> no driver: none of the kernel's takes it", name(from)),
        _ => format!("{} -> {}", name(from), name(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_became_of_a_function() {
        let driver = |name: &str| Some(name.to_owned());
        for (from, to, line) in [
            (driver("e1000e"), driver("vfio-pci"), "e1000e -> vfio-pci"),
            (None, driver("vfio-pci"), "no driver -> vfio-pci"),
            (driver("vfio-pci"), driver("vfio-pci"), "on vfio-pci already"),
            (driver("vfio-pci"), None, "vfio-pci -> no driver: none of the kernel's takes it"),
            (None, None, "on no driver: none of the kernel's takes it"),
        ] {
            assert_eq!(told(&Rebound { from, to }), line);
        }
    }

    #[test]
    fn a_copy_of_a_machine_is_not_bound() {
        let each = |_: &Sysfs, _| panic!("nothing is bound");
        let done = change(&[], Path::new("/tmp"), &mut Vec::new(), each);
        let Err(Failure::App(error)) = done else { panic!("refused") };
        assert_eq!(error.code(), memwire_apps::Exit::Usage);
    }
}
