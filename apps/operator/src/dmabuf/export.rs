//! `memwire dmabuf export`: makes a dma-buf and hands it to who connects.

use std::{io::Write, sync::Arc, time::Duration};

use mempool::{ProviderError, format_bytes};
use memwire_apps::{AppError, stop::Stop};
use providers::{
    P2pDma,
    dmabuf::{Buffer, Event, Offer},
    p2pdma::BarOptions,
};
use vfio::{Iommu, Kind, pci::Sysfs};

use super::args::{BarSpec, ExportArgs};
use crate::Failure;

/// How long one look at the socket may take: ^C is heard within.
const ROUND: Duration = Duration::from_millis(200);

pub(super) fn run(args: &ExportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    // The arguments were understood; what is wrong now is missing here.
    let missing = |error: ProviderError| AppError::missing(error.to_string());
    let buffer = Arc::new(make(args).map_err(missing)?);
    let mut offer = Offer::new(&buffer, &args.socket).map_err(missing)?;
    let stop = Stop::on_signals()?;
    let (bytes, exporter) = (format_bytes(buffer.bytes()), &buffer.identity().exporter);
    let (name, path) = (buffer.name(), offer.path().display());
    writeln!(out, "{name}: {bytes}, exported by {exporter}, offered at {path}")?;
    out.flush()?;
    let mut had_one = false;
    loop {
        let is_done = args.once && had_one && offer.importers() == 0;
        if stop.is_set() || is_done {
            break;
        }
        for event in offer.serve(ROUND).map_err(|error| AppError::failed(error.to_string()))? {
            had_one |= matches!(event, Event::Taken { .. });
            writeln!(out, "{}", told(&event))?;
            out.flush()?;
        }
    }
    let importers = offer.importers();
    drop(offer);
    if importers > 0 {
        writeln!(out, "taken back from {}", counted(importers))?;
    }
    Ok(())
}

fn make(args: &ExportArgs) -> Result<Buffer, ProviderError> {
    match (args.udmabuf, &args.bar, &args.heap) {
        (Some(bytes), _, _) => Buffer::udmabuf(bytes, args.pages),
        (_, Some(bar), _) => export(*bar, args.allow_nonpref),
        (_, _, Some(heap)) => Buffer::heap(&heap.name, heap.bytes),
        // The parser wants one of them.
        (None, None, None) => Err(ProviderError::BadRequest {
            provider: "dmabuf".into(),
            why: "say of what: --udmabuf, --bar or --heap".into(),
        }),
    }
}

fn export(bar: BarSpec, allow_non_prefetchable: bool) -> Result<Buffer, ProviderError> {
    let (offset, len) = bar.part.map_or((0, None), |(offset, len)| (offset, Some(len)));
    // Nobody here looks at it; and where its interrupts' table is does not matter then.
    let options = BarOptions { offset, len, allow_non_prefetchable, without_cpu: true };
    let iommu = Iommu::new(Kind::Auto);
    let memory = P2pDma::vfio(&Sysfs::system(), bar.address, bar.index, &iommu, options)?;
    Buffer::bar(&memory, None)
}

fn told(event: &Event) -> String {
    match event {
        Event::Taken { pid } => format!("process {pid} has it"),
        Event::Refused { pid, why } => format!("process {pid} did not get it: {why}"),
        Event::Left { pid } => format!("process {pid} has let it go"),
        other => format!("{other:?}"),
    }
}

fn counted(processes: usize) -> String {
    if processes == 1 { "1 process".into() } else { format!("{processes} processes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_an_offer_is_told_in_a_line() {
        for (event, line) in [
            (Event::Taken { pid: 7 }, "process 7 has it"),
            (Event::Left { pid: 7 }, "process 7 has let it go"),
            (
                Event::Refused { pid: 7, why: "it is user 5's".into() },
                "process 7 did not get it: it is user 5's",
            ),
        ] {
            assert_eq!(told(&event), line);
        }
        assert_eq!(counted(1), "1 process");
        assert_eq!(counted(2), "2 processes");
    }
}
