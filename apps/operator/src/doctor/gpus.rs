//! GPUs: display controllers and accelerators on the bus, and how their memory can be shared.

use mempool::format_bytes;
use vfio::pci::Function;

use super::{finding::Finding, machine::Machine};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let gpus: Vec<_> = machine.functions.iter().filter(|function| is_gpu(function)).collect();
    if gpus.is_empty() {
        return vec![Finding::skip("GPUs", "no display controller or accelerator on the PCI bus")];
    }
    gpus.into_iter().map(finding).collect()
}

/// Display controllers (base class 3) and processing accelerators (0x12).
fn is_gpu(function: &Function) -> bool {
    matches!(function.class.0 >> 16, 0x03 | 0x12)
}

fn finding(function: &Function) -> Finding {
    let address = function.address.to_string();
    let bars = function.resources.iter().take(6);
    let window = bars.filter(|bar| bar.is_prefetchable()).map(|bar| bar.size()).max().unwrap_or(0);
    let driver = function.driver.as_deref();
    let says = format!(
        "{}, driver {}, {} of its memory on the bus",
        function.id(),
        driver.unwrap_or("none"),
        format_bytes(window)
    );
    match driver {
        Some("amdgpu" | "nouveau" | "xe" | "i915") => Finding::ok(
            address,
            format!(
                "{says}; its driver exports dma-bufs, which no interface of VFIO's takes (doctor importers)"
            ),
        ),
        Some("nvidia") => Finding::ok(
            address,
            format!(
                "{says}; its driver exports dma-bufs (open kernel modules), which no interface of VFIO's \
                     takes (doctor importers)"
            ),
        ),
        Some(name) if name.contains("vfio") => Finding::ok(
            address,
            format!("{says}; its BARs can be given: p2p:{}/barN", function.address),
        ),
        _ => Finding::warn(address, format!("{says}; nobody shares its memory"))
            .fix(format!("as root: memwire bind {}, to give its BARs", function.address)),
    }
}
