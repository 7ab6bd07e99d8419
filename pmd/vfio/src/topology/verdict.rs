//! The answers. Knows no file.

/// What the kernel's own peer-to-peer DMA would do (`enum pci_p2pdma_map_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ports between route it by bus address; the root complex is not touched.
    BusAddr,
    /// Up to the root complex and down again, by addresses of the IOMMU's if there is one.
    ThruHostBridge,
    /// Refused: through the root complex, and nobody vouches for that.
    NotSupported,
    /// It depends on registers that this process may not read.
    Unknown,
}

impl Verdict {
    /// The kernel's word, as it is spelled there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BusAddr => "BUS_ADDR",
            Self::ThruHostBridge => "THRU_HOST_BRIDGE",
            Self::NotSupported => "NOT_SUPPORTED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What a NIC's writes meet that is driven through VFIO, in one address space with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translated {
    /// The IOMMU translates, and the root complex is known to send writes down to peers.
    Known,
    /// The IOMMU translates; whether the root complex sends the writes down is for a probe to say.
    Unproved,
    /// The two are not both behind an IOMMU: there is no such address space, only bus addresses.
    NoIommu,
}

impl Translated {
    /// One word for reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unproved => "unproved",
            Self::NoIommu => "no-iommu",
        }
    }
}
