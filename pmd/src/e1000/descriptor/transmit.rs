//! Transmit descriptors: legacy, context and data of the 82574 (§7.2.5 to §7.2.7), context and data of
//! the 82576 (§7.2.2).
