//! `memwire status`: who drives what on the PCI bus. Reads; binds nothing.

use std::{io::Write, path::Path};

use memwire_apps::AppError;
use serde::Serialize;

use crate::{
    Failure,
    args::StatusArgs,
    pci::{Nic, functions},
    write_json,
};

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    functions: Vec<Nic>,
}

pub(crate) fn run(args: &StatusArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let functions = functions(root, |function| {
        if args.addresses.is_empty() {
            args.all || function.class.is_network() || function.is_on_vfio()
        } else {
            args.addresses.contains(&function.address)
        }
    })?;
    for address in &args.addresses {
        if !functions.iter().any(|function| function.address == address.to_string()) {
            return Err(AppError::missing(vfio::Error::NoFunction(*address).to_string()).into());
        }
    }
    match &args.json {
        Some(path) => write_json(&Report { schema: "memwire/status/1", functions }, path, out),
        None => Ok(out.write_all(text(&functions).as_bytes())?),
    }
}

/// A paragraph for each kind of driver, as `dpdk-devbind --status` has them.
fn text(functions: &[Nic]) -> String {
    let titles = ["On a driver for user space", "On the kernel's driver", "Without a driver"];
    let paragraph = |title: &str| {
        let functions = functions.iter().filter(|nic| title_of(nic) == title);
        let lines: Vec<String> = functions.map(line).collect();
        let rule = "=".repeat(title.len());
        (!lines.is_empty()).then(|| format!("{title}\n{rule}\n{}\n", lines.join("\n")))
    };
    let paragraphs: Vec<String> = titles.into_iter().filter_map(paragraph).collect();
    match paragraphs.is_empty() {
        true => "no NICs on the PCI bus; --all shows what else is there\n".to_owned(),
        false => paragraphs.join("\n"),
    }
}

fn title_of(nic: &Nic) -> &'static str {
    match nic.driver {
        None => "Without a driver",
        Some(_) if nic.is_for_user_space() => "On a driver for user space",
        Some(_) => "On the kernel's driver",
    }
}

/// The line of devbind's, and the IOMMU group.
fn line(nic: &Nic) -> String {
    let line = nic.to_string();
    let Some(group) = nic.iommu_group else { return line };
    match line.strip_suffix(" *Active*") {
        Some(line) => format!("{line} group={group} *Active*"),
        None => format!("{line} group={group}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::pci::fixture::{IDS, bind, function, put};

    fn machine() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let active = function(root, "0000:00:03.0", ["0x020000", "0x1af4", "0x1041"]);
        put(root, &format!("{active}/virtio2/net/eth0/address"), "");
        put(root, "proc/net/route", "Iface\tDestination\neth0\t00000000\n");
        put(root, "usr/share/misc/pci.ids", IDS);
        bind(root, &active, "virtio-pci");
        let ours = function(root, "0000:01:00.0", ["0x020000", "0x8086", "0x10d3"]);
        bind(root, &ours, "vfio-pci");
        let memory = function(root, "0000:05:00.0", ["0x050000", "0x1af4", "0x1110"]);
        bind(root, &memory, "vfio-pci");
        function(root, "0000:02:00.0", ["0x020000", "0x8086", "0x10c9"]);
        let bridge = function(root, "0000:00:01.0", ["0x060400", "0x1b36", "0x000c"]);
        bind(root, &bridge, "pcieport");
        for (at, folder) in [active, ours, memory].iter().enumerate() {
            let group = format!("../../../kernel/iommu_groups/{at}");
            symlink(group, root.join(folder).join("iommu_group")).unwrap();
        }
        folder
    }

    fn shown(args: &StatusArgs) -> Result<String, Failure> {
        let mut out = Vec::new();
        run(args, machine().path(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn functions_stand_below_the_kind_of_driver_that_they_have() {
        let nics = shown(&StatusArgs::default()).unwrap();
        assert_eq!(
            nics,
            "On a driver for user space\n==========================\n\
             0000:01:00.0 'Device 10d3' drv=vfio-pci unused= group=1\n\
             0000:05:00.0 'Device 1110' drv=vfio-pci unused= group=2\n\n\
             On the kernel's driver\n======================\n\
             0000:00:03.0 'Virtio 1.0 network device 1041' if=eth0 drv=virtio-pci unused=vfio-pci \
             group=0 *Active*\n\n\
             Without a driver\n================\n\
             0000:02:00.0 'Device 10c9' unused=vfio-pci\n"
        );
        let all = shown(&StatusArgs { all: true, ..StatusArgs::default() }).unwrap();
        assert!(all.contains("0000:00:01.0 'Device 000c' drv=pcieport"), "{all}");
    }

    #[test]
    fn named_functions_alone_are_shown_and_one_that_is_not_there_is_an_error() {
        let of = |address: &str| StatusArgs {
            addresses: vec![address.parse().unwrap()],
            ..StatusArgs::default()
        };
        assert_eq!(shown(&of("01:00.0")).unwrap().lines().count(), 3);
        let Err(Failure::App(error)) = shown(&of("09:00.0")) else { panic!("it is not there") };
        assert_eq!(error.code(), memwire_apps::Exit::Missing);
        assert!(error.to_string().starts_with("0000:09:00.0: no such PCI function"), "{error}");
    }

    #[test]
    fn a_machine_without_nics_says_so() {
        assert!(text(&[]).starts_with("no NICs on the PCI bus"));
    }
}
