//! What `memwire info` tells; serialised, it is docs/schema/memwire-info.json. Holds no logic.

use pmd::{Capabilities, Link, SplitSupport};
use serde::Serialize;

use super::{machine::Machine, memory::MemoryRow};
use crate::{hugepages, pci::Nic, support};

/// The name of the schema.
pub(crate) const SCHEMA: &str = "memwire/info/2";

/// Everything; sections that were not asked for are left out.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<Machine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nics: Option<Vec<Nic>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ports: Option<Vec<Port>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drivers: Option<Vec<DriverRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrappers: Option<Vec<WrapperRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Vec<MemoryRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hugepages: Option<Vec<hugepages::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) support: Option<Vec<support::Entry>>,
}

impl Report {
    /// Without any section.
    pub(crate) fn empty() -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            machine: None,
            nics: None,
            ports: None,
            drivers: None,
            wrappers: None,
            memory: None,
            hugepages: None,
            support: None,
        }
    }
}

/// A port that is here, or that was opened.
#[derive(Clone, Serialize)]
pub(crate) struct Port {
    pub(crate) port: String,
    pub(crate) driver: &'static str,
    /// None where all of it is zero.
    pub(crate) mac: Option<String>,
    /// The kernel's driver below, or empty.
    pub(crate) below: String,
    /// Address of its hardware, or empty.
    pub(crate) bus: String,
    pub(crate) numa_node: Option<u32>,
    pub(crate) is_up: bool,
    pub(crate) speed_mbps: Option<u32>,
    pub(crate) can: Can,
    /// Why it cannot be opened here.
    pub(crate) trouble: Option<String>,
}

impl Port {
    pub(crate) fn set_link(&mut self, link: Link) {
        (self.is_up, self.speed_mbps) = (link.is_up, link.speed_mbps);
    }
}

/// What a port can do, as flat fields.
#[derive(Clone, Serialize)]
pub(crate) struct Can {
    pub(crate) rx_queues: usize,
    pub(crate) tx_queues: usize,
    pub(crate) max_frame: usize,
    pub(crate) split: bool,
    pub(crate) split_kind: SplitKind,
    /// Where hardware splits: the longest head, and what fixed lengths are multiples of.
    pub(crate) split_protocol: Option<bool>,
    pub(crate) split_head: Option<usize>,
    pub(crate) split_step: Option<usize>,
    pub(crate) rx_buffer_step: usize,
    pub(crate) rx_spare: usize,
    pub(crate) rx_offloads: Vec<&'static str>,
    pub(crate) tx_offloads: Vec<&'static str>,
    pub(crate) addresses: usize,
    pub(crate) tx_segments: bool,
    pub(crate) rx_timestamp: bool,
    pub(crate) copies: bool,
    pub(crate) finite: bool,
    pub(crate) loopback: bool,
}

/// Where a port can cut frames.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SplitKind {
    /// Nowhere.
    None,
    /// Anywhere: in software.
    Anywhere,
    /// Where the hardware can: behind the transport header, or after fixed lengths.
    Hardware,
}

impl From<&Capabilities> for Can {
    fn from(can: &Capabilities) -> Self {
        let (split_kind, hardware) = match can.split {
            SplitSupport::None => (SplitKind::None, None),
            SplitSupport::ProtocolAndLength => (SplitKind::Anywhere, None),
            SplitSupport::Hardware(hardware) => (SplitKind::Hardware, Some(hardware)),
        };
        Self {
            split_protocol: hardware.map(|hardware| hardware.protocol),
            split_head: hardware.map(|hardware| hardware.longest_head),
            split_step: hardware.and_then(|hardware| hardware.length_step),
            split_kind,
            rx_buffer_step: can.rx_buffer_step,
            rx_spare: can.rx_spare,
            rx_offloads: can.rx_offloads.names().collect(),
            tx_offloads: can.tx_offloads.names().collect(),
            addresses: can.addresses,
            rx_queues: can.rx_queues,
            tx_queues: can.tx_queues,
            max_frame: can.max_frame,
            split: can.split != SplitSupport::None,
            tx_segments: can.tx_segments,
            rx_timestamp: can.rx_timestamp,
            copies: can.copies,
            finite: can.finite,
            loopback: can.loopback,
        }
    }
}

/// A driver, with what its ports can do at best.
#[derive(Serialize)]
pub(crate) struct DriverRow {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    pub(crate) can: Can,
}

/// `02:00:00:00:00:01`; none where all of it is zero.
pub(crate) fn mac(bytes: [u8; 6]) -> Option<String> {
    let text = bytes.map(|byte| format!("{byte:02x}")).join(":");
    (bytes != [0; 6]).then_some(text)
}

/// A wrapper: goes around any port.
#[derive(Serialize)]
pub(crate) struct WrapperRow {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
}

#[cfg(test)]
mod tests {
    use mempool::Offload;

    use super::*;

    #[test]
    fn hardware_is_told_from_software_and_offloads_have_names() {
        let can = Capabilities {
            split: SplitSupport::Hardware(pmd::HardwareSplit {
                longest_head: 960,
                protocol: true,
                length_step: Some(64),
                ..pmd::HardwareSplit::default()
            }),
            rx_offloads: Offload::RX_VLAN_STRIPPED.with(Offload::RX_TIMESTAMP),
            tx_offloads: Offload::TX_TCP_SEGMENT,
            rx_buffer_step: 1024,
            addresses: 23,
            ..Capabilities::default()
        };
        let can = serde_json::to_value(Can::from(&can)).unwrap();
        assert_eq!((&can["split"], &can["split_kind"]), (&true.into(), &"hardware".into()));
        assert_eq!((&can["split_head"], &can["split_step"]), (&960.into(), &64.into()));
        assert_eq!(can["split_protocol"], true);
        assert_eq!(can["rx_offloads"], serde_json::json!(["rx_vlan_strip", "rx_timestamp"]));
        assert_eq!(can["tx_offloads"], serde_json::json!(["tx_tcp_segment"]));
        assert_eq!((&can["rx_buffer_step"], &can["addresses"]), (&1024.into(), &23.into()));
    }
}
