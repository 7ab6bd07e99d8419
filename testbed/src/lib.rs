//! A throw-away machine with an IOMMU and real PCI NICs, emulated. Knows nothing of memwire but what it
//! is told to run.
