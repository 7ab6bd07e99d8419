//! `memwire dmabuf info`: what a dma-buf is, and who can import it. Reads none of its bytes.

use std::io::Write;

use mempool::{Provider, RegionRequest, format_bytes};
use memwire_apps::AppError;
use pmd::{DmaMapper, SoftwareMapper};
use providers::dmabuf::{Buffer, DmaBuf};

use super::args::{InfoArgs, Which};
use crate::Failure;

pub(super) fn run(args: &InfoArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let provider = match &args.which {
        Which::Number(number) => DmaBuf::from_number(*number),
        Which::Path(path) => DmaBuf::receive(path),
    };
    // It belongs to somebody: its bytes stay what they are.
    let provider = provider.map_err(AppError::from)?.with_contents();
    for (key, value) in lines(provider.buffer()) {
        writeln!(out, "{key:<20}{value}")?;
    }
    for (importer, answer) in importers(&provider)? {
        let answer = answer.map_or_else(|why| format!("no: {why}"), |()| "yes".to_owned());
        writeln!(out, "{importer:<20}{answer}")?;
    }
    Ok(())
}

fn lines(buffer: &Buffer) -> Vec<(&'static str, String)> {
    let identity = buffer.identity();
    let mapping = match buffer.cpu_mapping() {
        Ok(()) => "yes".to_owned(),
        Err(error) => format!("no: its exporter gives no mapping ({error})"),
    };
    let memory = match buffer.memory() {
        Some(_) => "yes, sealed: NICs are given the file in its place",
        None => "none that came along",
    };
    vec![
        ("dma-buf", buffer.name().trim_start_matches("dmabuf:").to_owned()),
        ("exporter", identity.exporter.clone()),
        ("name", identity.label.clone().unwrap_or_else(|| "-".to_owned())),
        ("size", format!("{} ({} B)", format_bytes(identity.bytes), identity.bytes)),
        ("page", format_bytes(buffer.page_size() as u64)),
        ("CPU mapping", mapping),
        ("memory file", memory.to_owned()),
    ]
}

type Answer = (&'static str, Result<(), String>);

/// Who can import it: the answers of the code that would.
fn importers(provider: &DmaBuf) -> Result<Vec<Answer>, AppError> {
    let request = RegionRequest { name: "memwire dmabuf info".into(), len: 1, align: 1 };
    let region = provider.alloc(&request)?.handle();
    let software = SoftwareMapper.map(&region).map(drop).map_err(|error| error.to_string());
    let mut rows = vec![("software NICs", software)];
    let buffer = provider.buffer();
    for (interface, answer) in pmd::pci::answers(&region) {
        let row = match interface {
            "type1" => "NICs, iommu=type1",
            "iommufd" => "NICs, iommu=iommufd",
            _ => "NICs, no IOMMU",
        };
        let is_foreign = interface == "iommufd" && buffer.memory().is_none();
        rows.push((row, answer.and_then(|()| ours(is_foreign, &buffer.identity().exporter))));
    }
    Ok(rows)
}

/// What the kernel would say of an exporter, if a port asked.
fn ours(is_foreign: bool, exporter: &str) -> Result<(), String> {
    if is_foreign && !exporter.starts_with("vfio") {
        return Err(format!(
            "the kernel takes dma-bufs that VFIO exported, and '{exporter}' is another exporter; receive \
             into host memory and copy (the bounce path)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iommufd_takes_what_vfio_exported_and_memory_files() {
        assert_eq!(ours(true, "vfio_pci_core"), Ok(()));
        assert_eq!(ours(false, "udmabuf"), Ok(()));
        assert!(ours(true, "system").unwrap_err().contains("'system' is another exporter"));
    }

    #[test]
    fn what_is_no_dma_buf_is_bad_usage_and_a_path_without_offer_is_missing() {
        let fails = |which: Which| match run(&InfoArgs { which }, &mut Vec::new()) {
            Err(Failure::App(error)) => error,
            other => panic!("{other:?}"),
        };
        let error = fails(Which::Number(987_654));
        assert_eq!(error.code(), memwire_apps::Exit::Usage);
        assert!(error.to_string().contains("fd 987654 is not open"), "{error}");
        let error = fails(Which::Path("/nonexistent/socket".into()));
        assert_eq!(error.code(), memwire_apps::Exit::Missing);
        assert!(error.to_string().contains("nobody offers there"), "{error}");
    }
}
