//! The registers of both chips that this driver touches, by the datasheets' names: 82574 revision 3.4,
//! chapter 10.2 (10.2.2 general, 10.2.4 interrupts, 10.2.5 receive, 10.2.6 transmit, 10.2.7
//! statistics), and 82576EB revision 2.9, chapter 8 (8.2 general, 8.8 interrupts, 8.10 receive, 8.11
//! filters, 8.12 transmit, 8.16 time, 8.19 statistics). Offsets and bits; no behaviour.
#![expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "the datasheets' names")]

use super::register::register;

register! {
    /// Device control (82574 §10.2.2.1, 82576 §8.2.1).
    CTRL @ 0x0000 {
        FD = 0, MASTER_DISABLE = 2, LRST = 3, ASDE = 5, SLU = 6, ILOS = 7, FRCSPD = 11, FRCDPX = 12,
        RST = 26, RFCE = 27, TFCE = 28, VME = 30, PHY_RST = 31,
    }
    /// Device status (82574 §10.2.2.2, 82576 §8.2.2).
    STATUS @ 0x0008 { FD = 0, LU = 1, SPEED = 7:6, MASTER_ENABLE = 19 }
    /// EEPROM control: whether the start values have been read from it (82574 §10.2.2, 82576 §8.4).
    EEC @ 0x0010 { PRES = 8, AUTO_RD = 9 }
    /// Extended device control (82574 §10.2.2.5, 82576 §8.2.3).
    CTRL_EXT @ 0x0018 { EIAME = 24, IAME = 27, DRV_LOAD = 28, PBA = 31 }
    /// The way to the PHY's registers (82574 §10.2.2.7, 82576 §8.2.4).
    MDIC @ 0x0020 { DATA = 15:0, REGADD = 20:16, PHYADD = 25:21, OP = 27:26, R = 28, E = 30 }
    /// VLAN Ethernet type (82574 §10.2.2, 82576 §8.2).
    VET @ 0x0038 { VET = 15:0 }
}

register! {
    /// Interrupt causes; reading takes them (82574 §10.2.4.1, 82576 §8.8).
    ICR @ 0x00C0 { LSC = 2 }
    /// Interrupt mask: sets bits (82574 §10.2.4, 82576 §8.8). Bits 20, 21 and 24 are the 82574's.
    IMS @ 0x00D0 { LSC = 2, RXQ0 = 20, RXQ1 = 21, OTHER = 24 }
    /// Interrupt mask: clears bits (82574 §10.2.4, 82576 §8.8).
    IMC @ 0x00D8 { ALL = 31:0 }
    /// 82574: causes that are taken and masked when their message is sent (§10.2.4).
    EIAC_82574 @ 0x00DC { RXQ = 21:20 }
    /// Causes that are masked when ICR is read (82574 §10.2.4).
    IAM @ 0x00E0 { ALL = 31:0 }
    /// 82574: which vector a cause goes to, 3 bits and a valid bit each (§10.2.4).
    IVAR_82574 @ 0x00E4 { RXQ0 = 3:0, RXQ1 = 7:4, TXQ0 = 11:8, TXQ1 = 15:12, OTHER = 19:16 }
    /// 82574: least time between interrupts of a vector, in 256 ns (§10.2.4).
    EITR_82574 @ 0x00E8 { INTERVAL = 15:0 }

    /// 82576: how interrupts work at all (§8.8).
    GPIE @ 0x1514 { NSICR = 0, MULTIPLE_MSIX = 4, EIAME = 30, PBA = 31 }
    /// 82576: mask of the vectors; sets bits (§8.8).
    EIMS @ 0x1524 { VECTORS = 24:0 }
    /// 82576: mask of the vectors; clears bits (§8.8).
    EIMC @ 0x1528 { VECTORS = 24:0 }
    /// 82576: vectors whose cause is taken when their message is sent (§8.8).
    EIAC @ 0x152C { VECTORS = 24:0 }
    /// 82576: vectors that are masked when their message is sent (§8.8).
    EIAM @ 0x1530 { VECTORS = 24:0 }
    /// 82576: least time between interrupts of a vector, in microseconds (§8.8).
    EITR @ 0x1680 { INTERVAL = 14:2 }
    /// 82576: which vector a queue's interrupts go to; a register serves the queues n and n + 8 (§8.8).
    IVAR @ 0x1700 { RX_LOW = 7:0, TX_LOW = 15:8, RX_HIGH = 23:16, TX_HIGH = 31:24 }
    /// 82576: which vector other causes go to (§8.8).
    IVAR_MISC @ 0x1740 { TCP_TIMER = 7:0, OTHER = 15:8 }
}

register! {
    /// Receive control (82574 §10.2.5.1, 82576 §8.10.1).
    RCTL @ 0x0100 {
        EN = 1, SBP = 2, UPE = 3, MPE = 4, LPE = 5, LBM = 7:6, RDMTS = 9:8, DTYP = 11:10, MO = 13:12, BAM = 15,
        BSIZE = 17:16, VFE = 18, BSEX = 25, SECRC = 26, FLXBUF = 30:27,
    }
    /// 82574: sizes of the four buffers of packet split (§10.2.5.2).
    PSRCTL @ 0x2170 { BSIZE0 = 6:0, BSIZE1 = 13:8, BSIZE2 = 21:16, BSIZE3 = 29:24 }
    /// Receive checksums (82574 §10.2.5, 82576 §8.10).
    RXCSUM @ 0x5000 { PCSS = 7:0, IPOFLD = 8, TUOFLD = 9, CRCOFL = 11, PCSD = 13 }
    /// 82576: longest frame with FCS, if RCTL.LPE is set (§8.10).
    RLPML @ 0x5004 { RLPML = 13:0 }
    /// Receive filter control (82574 §10.2.5, 82576 §8.10).
    RFCTL @ 0x5008 { ISCSI_DIS = 0, NFSW_DIS = 6, NFSR_DIS = 7, EXSTEN = 15 }
    /// 82576: which headers are split off (§8.10.3).
    PSRTYPE @ 0x5480 {
        IPV4 = 1, IPV4_TCP = 2, IPV4_UDP = 3, IPV4_IPV6 = 4, IPV4_IPV6_TCP = 5, IPV4_IPV6_UDP = 6,
        IPV6 = 7, IPV6_TCP = 8, IPV6_UDP = 9,
    }
    /// How frames are spread over the queues (82574 §10.2.5, 82576 §8.11).
    MRQC @ 0x5818 { ENABLE = 2:0, FIELDS = 31:16 }
    /// Queue by hash, four entries a register (82574 §10.2.5, 82576 §8.11).
    RETA @ 0x5C00 { ENTRY0 = 7:0, ENTRY1 = 15:8, ENTRY2 = 23:16, ENTRY3 = 31:24 }
    /// Key of the hash, four bytes a register (82574 §10.2.5, 82576 §8.11).
    RSSRK @ 0x5C80 { BYTES = 31:0 }
    /// Multicast groups by hash (82574 §10.2.5, 82576 §8.11).
    MTA @ 0x5200 { GROUPS = 31:0 }
    /// Station address, first four bytes (82574 §10.2.5, 82576 §8.11).
    RAL @ 0x5400 { BYTES = 31:0 }
    /// Station address, the rest, and whether it counts (82574 §10.2.5, 82576 §8.11).
    RAH @ 0x5404 { BYTES = 15:0, AV = 31 }
    /// VLANs that pass (82574 §10.2.5, 82576 §8.11); all do, since RCTL.VFE is off.
    VFTA @ 0x5600 { VLANS = 31:0 }
}

register! {
    /// Base of a receive ring, low half; as all that follow, from the queue's own base on (82574
    /// §10.2.5, 82576 §8.10).
    RDBAL @ 0x00 { BASE = 31:0 }
    /// Base of a receive ring, high half.
    RDBAH @ 0x04 { BASE = 31:0 }
    /// Bytes of a receive ring.
    RDLEN @ 0x08 { LEN = 19:0 }
    /// 82576: form and buffer sizes of a receive queue (§8.10.2).
    SRRCTL @ 0x0C { BSIZEPACKET = 6:0, BSIZEHEADER = 11:8, RDMTS = 24:20, DESCTYPE = 27:25, DROP_EN = 31 }
    /// Where the device is in a receive ring.
    RDH @ 0x10 { INDEX = 15:0 }
    /// Where the driver is in a receive ring.
    RDT @ 0x18 { INDEX = 15:0 }
    /// 82574: delay of receive interrupts.
    RDTR @ 0x20 { DELAY = 15:0 }
    /// When the device fetches and writes back receive descriptors. ENABLE is the 82576's, GRAN the 82574's.
    RXDCTL @ 0x28 { PTHRESH = 4:0, HTHRESH = 12:8, WTHRESH = 20:16, GRAN = 24, ENABLE = 25 }
    /// 82576: frames that found no descriptor in this queue; reading clears it (§8.10).
    RQDPC @ 0x30 { FRAMES = 11:0 }
}

register! {
    /// Transmit control (82574 §10.2.6, 82576 §8.12.1).
    TCTL @ 0x0400 { EN = 1, PSP = 3, CT = 11:4, COLD = 21:12, RTLC = 24 }
    /// Base of a transmit ring, low half; as all that follow, from the queue's own base on (82574
    /// §10.2.6, 82576 §8.12).
    TDBAL @ 0x00 { BASE = 31:0 }
    /// Base of a transmit ring, high half.
    TDBAH @ 0x04 { BASE = 31:0 }
    /// Bytes of a transmit ring.
    TDLEN @ 0x08 { LEN = 19:0 }
    /// Where the device is in a transmit ring.
    TDH @ 0x10 { INDEX = 15:0 }
    /// Where the driver is in a transmit ring.
    TDT @ 0x18 { INDEX = 15:0 }
    /// When the device fetches and writes back transmit descriptors. ENABLE is the 82576's; GRAN and
    /// bit 22, which has to be set, the 82574's.
    TXDCTL @ 0x28 { PTHRESH = 4:0, HTHRESH = 12:8, WTHRESH = 20:16, ONE = 22, GRAN = 24, ENABLE = 25 }
    /// 82574: arbitration between the transmit queues (§10.2.6).
    TARC @ 0x40 { COUNT = 6:0, ENABLE = 10 }
}
