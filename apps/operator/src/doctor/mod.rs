//! `memwire doctor`: what stands in the way here, and what to do about it. Reads the kernel's files below a root,
//! asks the code that maps memory, and opens no device: what only opening can tell, it says it does not know.

mod asked;
mod finding;
mod gpus;
mod importers;
mod interfaces;
mod iommu;
mod machine;
mod memory;
mod process;
mod text;
mod topo;
mod vfio_nodes;

use std::{io::Write, path::Path};

use memwire_apps::AppError;
use serde::Serialize;

use self::{
    finding::{Finding, Section, Status},
    machine::Machine,
    text::Style,
};
use crate::{
    Failure,
    args::{DoctorArgs, Matter},
    write_json,
};

/// The whole report; docs/schema/memwire-doctor.json.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    /// Whether nothing fails.
    ok: bool,
    sections: Vec<Section>,
    /// Every NIC with every device that offers memory, if that was looked at.
    pairs: Vec<topo::Pair>,
}

pub(crate) fn run(args: &DoctorArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let machine = Machine::read(root)?;
    let report = report(args, &machine)?;
    match &args.json {
        Some(path) => write_json(&report, path, out)?,
        None => {
            // Who names a matter wants all of it.
            let style = Style::here(!args.matters.is_empty() || args.asked.is_some());
            out.write_all(text::text(&report.sections, style).as_bytes())?;
        }
    }
    let all = report.sections.iter().flat_map(|section| &section.findings);
    match all.filter(|finding| finding.status == Status::Fail).count() {
        0 => Ok(()),
        1 => Err(AppError::missing("one thing fails").into()),
        count => Err(AppError::missing(format!("{count} things fail")).into()),
    }
}

fn report(args: &DoctorArgs, machine: &Machine) -> Result<Report, AppError> {
    let (mut sections, mut pairs) = (Vec::new(), Vec::new());
    if let Some(asked) = &args.asked {
        let findings = asked::findings(machine, asked)?;
        sections.push(Section { name: "asked", title: "What was asked for", findings });
    }
    for matter in Matter::ALL {
        let is_wanted = if args.matters.is_empty() {
            args.asked.is_none()
        } else {
            args.matters.contains(&matter)
        };
        if !is_wanted {
            continue;
        }
        let (name, title, findings) = match matter {
            Matter::Hugepages => ("hugepages", "Hugepages", memory::findings(machine)),
            Matter::Iommu => ("iommu", "IOMMU", iommu::findings(machine)),
            Matter::Vfio => ("vfio", "VFIO", no_failures(vfio_nodes::findings(machine))),
            Matter::Process => ("process", "This process", process::findings(machine)),
            Matter::Xdp => ("xdp", "AF_XDP", interfaces::findings(machine)),
            Matter::Gpus => ("gpus", "GPUs", gpus::findings(machine)),
            Matter::Topo => {
                let (found, findings) = topo::pairs(machine);
                pairs = found;
                ("topo", "Peer to peer: NIC -> memory", findings)
            }
            Matter::Importers => {
                ("importers", "Memory and the interfaces that map it", importers::findings())
            }
        };
        sections.push(Section { name, title, findings });
    }
    let is_failure = |finding: &Finding| finding.status == Status::Fail;
    let ok = !sections.iter().flat_map(|section| &section.findings).any(is_failure);
    Ok(Report {
        schema: "memwire/doctor/1",
        version: env!("CARGO_PKG_VERSION"),
        ok,
        sections,
        pairs,
    })
}

/// Nobody asked for these: what would fail if somebody did is to be known, and no more.
fn no_failures(findings: Vec<Finding>) -> Vec<Finding> {
    let soften = |finding: Finding| match finding.status {
        Status::Fail => Finding { status: Status::Warn, ..finding },
        _ => finding,
    };
    findings.into_iter().map(soften).collect()
}
