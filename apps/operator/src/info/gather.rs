//! Asks drivers, providers and the kernel. Names none of them: lists are theirs.

use std::path::Path;

use memwire_apps::{AppError, ports};
use pmd::{Device, Driver, Found, Registry, wrap::Wrapper};
use providers::Sysfs;

use super::{
    machine, memory,
    report::{Can, DriverRow, Port, Report, WrapperRow, mac},
};
use crate::{args::Section, hugepages, pci, support};

/// What is here: the sections of `only`, or all.
pub(super) fn here(only: &[Section], root: &Path) -> Result<Report, AppError> {
    if !root.is_dir() {
        return Err(AppError::usage(format!("--root {}: not a folder", root.display())));
    }
    let sysfs = Sysfs::at(root);
    let wants = |section| only.is_empty() || only.contains(&section);
    let mut report = Report::empty();
    if wants(Section::Machine) {
        report.machine = Some(machine::read(root, &sysfs));
    }
    if wants(Section::Ports) {
        report.nics = Some(pci::nics(root));
        report.ports = Some(found());
    }
    if wants(Section::Drivers) {
        report.drivers = Some(Registry::drivers().iter().map(driver).collect());
        report.wrappers = Some(Registry::wrappers().iter().map(wrapper).collect());
    }
    if wants(Section::Memory) {
        report.memory = Some(memory::rows());
        report.hugepages = Some(hugepages::rows(&sysfs));
    }
    if wants(Section::Support) {
        report.support = Some(support::entries());
    }
    Ok(report)
}

/// The ports of these specs, opened and not started.
pub(super) fn opened(specs: &[String]) -> Result<Report, AppError> {
    let devices = ports::open(&mut Registry::new(), specs)?;
    let found = found();
    let ports = devices.iter().map(|device| port(&**device, &found)).collect();
    Ok(Report { ports: Some(ports), ..Report::empty() })
}

fn found() -> Vec<Port> {
    let of = |driver: &Driver| -> Vec<Port> {
        (driver.find)().into_iter().map(|found| here_by(driver.name, found)).collect()
    };
    Registry::drivers().iter().flat_map(of).collect()
}

fn here_by(driver: &'static str, found: Found) -> Port {
    Port {
        driver,
        mac: mac(found.mac),
        below: found.below,
        bus: found.bus,
        numa_node: found.numa_node,
        is_up: found.link.is_up,
        speed_mbps: found.link.speed_mbps,
        can: Can::from(&found.capabilities),
        trouble: found.trouble,
        port: found.port,
    }
}

/// An open port; what only its driver's look around tells is taken from there.
fn port(device: &dyn Device, found: &[Port]) -> Port {
    let info = device.info();
    let seen = found.iter().find(|found| found.port == info.port);
    let mut port = Port {
        port: info.port.clone(),
        driver: info.driver,
        mac: mac(info.mac),
        below: seen.map(|seen| seen.below.clone()).unwrap_or_default(),
        bus: seen.map(|seen| seen.bus.clone()).unwrap_or_default(),
        numa_node: info.numa_node,
        is_up: false,
        speed_mbps: None,
        can: Can::from(&info.capabilities),
        trouble: None,
    };
    port.set_link(device.link());
    port
}

fn driver(driver: &Driver) -> DriverRow {
    let can = Can::from(&(driver.capabilities)());
    DriverRow { name: driver.name, usage: driver.usage, about: driver.about, can }
}

fn wrapper(wrapper: &Wrapper) -> WrapperRow {
    WrapperRow { name: wrapper.name, usage: wrapper.usage, about: wrapper.about }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_has_a_row_that_is_true_of_its_ports() {
        for (spec, name) in [("null:", "null"), ("ring:a", "ring")] {
            let report = opened(&[spec.to_owned()]).expect("these need nothing");
            let port = &report.ports.expect("one")[0];
            let row = Registry::drivers().iter().find(|driver| driver.name == name).map(driver);
            let row = row.expect("a driver of that name");
            assert_eq!(port.driver, name);
            assert_eq!(
                serde_json::to_value(&port.can).unwrap(),
                serde_json::to_value(&row.can).unwrap()
            );
        }
    }

    #[test]
    fn sections_that_were_not_asked_for_are_left_out() {
        let report = here(&[Section::Drivers], Path::new("/")).expect("always possible");
        assert!(report.drivers.is_some() && report.machine.is_none() && report.support.is_none());
    }

    #[test]
    fn a_root_that_is_no_folder_is_usage() {
        let error = here(&[], Path::new("/nowhere")).err().expect("no such folder");
        assert_eq!(error.code(), memwire_apps::Exit::Usage);
    }
}
