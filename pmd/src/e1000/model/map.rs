//! Where the registers are and what their bits mean, read from the datasheets: 82574 (revision 3.4)
//! chapter 10, 82576EB (revision 2.9) chapter 8. Names are theirs. The drivers have a map of their own;
//! this one is not shared with them, so that a slip in either is seen.

/// Bytes of the register space (BAR 0) of both.
pub(super) const BAR_BYTES: u32 = 0x2_0000;

pub(super) const CTRL: u32 = 0x0000;
/// Full duplex: set by every reset (82574 §10.2.2.1, 82576 §8.2.1).
pub(super) const CTRL_FD: u32 = 1;
pub(super) const CTRL_GIO_MASTER_DISABLE: u32 = 1 << 2;
pub(super) const CTRL_SLU: u32 = 1 << 6;
pub(super) const CTRL_RST: u32 = 1 << 26;
pub(super) const CTRL_VME: u32 = 1 << 30;
pub(super) const CTRL_PHY_RST: u32 = 1 << 31;
/// The same register (82574 §10.2.2.1: "also mapped at 0x0004").
pub(super) const CTRL_ALIAS: u32 = 0x0004;
pub(super) const STATUS: u32 = 0x0008;
pub(super) const STATUS_FD: u32 = 1;
pub(super) const STATUS_LU: u32 = 1 << 1;
pub(super) const STATUS_SPEED_1000: u32 = 2 << 6;
pub(super) const STATUS_PHYRA: u32 = 1 << 10;
pub(super) const STATUS_GIO_MASTER: u32 = 1 << 19;
pub(super) const EEC: u32 = 0x0010;
/// Present, and read by the chip after reset.
pub(super) const EEC_READY: u32 = 1 << 8 | 1 << 9;
pub(super) const EERD: u32 = 0x0014;
pub(super) const CTRL_EXT: u32 = 0x0018;
pub(super) const CTRL_EXT_EIAME: u32 = 1 << 24;
pub(super) const CTRL_EXT_IAME: u32 = 1 << 27;
pub(super) const MDIC: u32 = 0x0020;
pub(super) const VET: u32 = 0x0038;

pub(super) const ICR: u32 = 0x00c0;
pub(super) const ICS: u32 = 0x00c8;
pub(super) const IMS: u32 = 0x00d0;
pub(super) const IMC: u32 = 0x00d8;
pub(super) const EIAC_82574: u32 = 0x00dc;
pub(super) const IAM: u32 = 0x00e0;
pub(super) const IVAR_82574: u32 = 0x00e4;
pub(super) const INT_TXDW: u32 = 1;
pub(super) const INT_LSC: u32 = 1 << 2;
pub(super) const INT_RXO: u32 = 1 << 6;
pub(super) const INT_RXT0: u32 = 1 << 7;
/// Receive queue 0 and 1, transmit queue 0 and 1, other (82574 §10.2.4.1).
pub(super) const INT_QUEUES: u32 = 20;
pub(super) const INT_OTHER: u32 = 1 << 24;
pub(super) const INT_ASSERTED: u32 = 1 << 31;

/// The 82576's own places for the same registers (§8.8), and its extended ones.
pub(super) const ICR_82576: u32 = 0x1500;
pub(super) const ICS_82576: u32 = 0x1504;
pub(super) const IMS_82576: u32 = 0x1508;
pub(super) const IMC_82576: u32 = 0x150c;
pub(super) const IAM_82576: u32 = 0x1510;
pub(super) const GPIE: u32 = 0x1514;
pub(super) const GPIE_MULTIPLE_MSIX: u32 = 1 << 4;
pub(super) const GPIE_EIAME: u32 = 1 << 30;
pub(super) const EICS: u32 = 0x1520;
pub(super) const EIMS: u32 = 0x1524;
pub(super) const EIMC: u32 = 0x1528;
pub(super) const EIAC: u32 = 0x152c;
pub(super) const EIAM: u32 = 0x1530;
pub(super) const EICR: u32 = 0x1580;
pub(super) const IVAR_82576: u32 = 0x1700;
pub(super) const IVAR_MISC: u32 = 0x1740;

pub(super) const RCTL: u32 = 0x0100;
pub(super) const RCTL_EN: u32 = 1 << 1;
pub(super) const RCTL_SBP: u32 = 1 << 2;
pub(super) const RCTL_UPE: u32 = 1 << 3;
pub(super) const RCTL_MPE: u32 = 1 << 4;
pub(super) const RCTL_LPE: u32 = 1 << 5;
/// Loopback mode, two bits; the first alone is the MAC's.
pub(super) const RCTL_LBM: u32 = 3 << 6;
pub(super) const RCTL_LBM_MAC: u32 = 1 << 6;
pub(super) const RCTL_BAM: u32 = 1 << 15;
pub(super) const RCTL_VFE: u32 = 1 << 18;
pub(super) const RCTL_BSEX: u32 = 1 << 25;
pub(super) const RCTL_SECRC: u32 = 1 << 26;
/// Bits that are reserved and to be written 0 in both.
pub(super) const RCTL_RESERVED: u32 = 1 | 1 << 14 | 1 << 24 | 1 << 31;
pub(super) const TCTL: u32 = 0x0400;
pub(super) const TCTL_EN: u32 = 1 << 1;
pub(super) const TCTL_PSP: u32 = 1 << 3;
pub(super) const PSRCTL: u32 = 0x2170;

/// Receive queue `n` of the 82574 (§10.2.5), and of the 82576 for `n` < 4 under its old name.
pub(super) const RX_QUEUES: u32 = 0x2800;
/// Transmit queue `n` likewise.
pub(super) const TX_QUEUES: u32 = 0x3800;
/// From one queue to the next.
pub(super) const QUEUE_STEP: u32 = 0x100;
/// Receive queue `n` of the 82576 (§8.10).
pub(super) const RX_QUEUES_82576: u32 = 0xc000;
/// Transmit queue `n` of the 82576 (§8.12).
pub(super) const TX_QUEUES_82576: u32 = 0xe000;
/// From one queue to the next.
pub(super) const QUEUE_STEP_82576: u32 = 0x40;

pub(super) const RXCSUM: u32 = 0x5000;
pub(super) const RXCSUM_IPOFLD: u32 = 1 << 8;
pub(super) const RXCSUM_TUOFLD: u32 = 1 << 9;
pub(super) const RXCSUM_PCSD: u32 = 1 << 13;
pub(super) const RLPML: u32 = 0x5004;
pub(super) const RFCTL: u32 = 0x5008;
pub(super) const RFCTL_IPFRSP_DIS: u32 = 1 << 14;
pub(super) const RFCTL_EXSTEN: u32 = 1 << 15;
pub(super) const MTA: u32 = 0x5200;
pub(super) const RAL: u32 = 0x5400;
/// Station addresses 16 to 23 of the 82576.
pub(super) const RAL_FURTHER: u32 = 0x54e0;
pub(super) const RAH_AV: u32 = 1 << 31;
pub(super) const PSRTYPE: u32 = 0x5480;
pub(super) const VFTA: u32 = 0x5600;
pub(super) const MRQC: u32 = 0x5818;
pub(super) const SWSM: u32 = 0x5b50;
pub(super) const RETA: u32 = 0x5c00;
pub(super) const RSSRK: u32 = 0x5c80;

/// The statistics block: every register clears when read.
pub(super) const STATISTICS: std::ops::Range<u32> = 0x4000..0x4140;
pub(super) const CRCERRS: u32 = 0x4000;
pub(super) const MPC: u32 = 0x4010;
pub(super) const PRC64: u32 = 0x405c;
pub(super) const GPRC: u32 = 0x4074;
pub(super) const BPRC: u32 = 0x4078;
pub(super) const MPRC: u32 = 0x407c;
pub(super) const GPTC: u32 = 0x4080;
pub(super) const GORC: u32 = 0x4088;
pub(super) const GOTC: u32 = 0x4090;
pub(super) const RNBC: u32 = 0x40a0;
pub(super) const RUC: u32 = 0x40a4;
pub(super) const ROC: u32 = 0x40ac;
pub(super) const TOR: u32 = 0x40c0;
pub(super) const TOT: u32 = 0x40c8;
pub(super) const TPR: u32 = 0x40d0;
pub(super) const TPT: u32 = 0x40d4;
pub(super) const PTC64: u32 = 0x40d8;
pub(super) const MPTC: u32 = 0x40f0;
pub(super) const BPTC: u32 = 0x40f4;
/// Segmentation contexts done.
pub(super) const TSCTC: u32 = 0x40f8;

/// A register of a queue, relative to the queue's first.
pub(super) mod queue {
    pub(crate) const BASE_LOW: u32 = 0x00;
    pub(crate) const BASE_HIGH: u32 = 0x04;
    pub(crate) const LENGTH: u32 = 0x08;
    /// 82576 receive only: split and replication control.
    pub(crate) const SRRCTL: u32 = 0x0c;
    pub(crate) const HEAD: u32 = 0x10;
    pub(crate) const TAIL: u32 = 0x18;
    pub(crate) const CONTROL: u32 = 0x28;
    /// 82576 receive only: frames dropped for want of descriptors; clears when read.
    pub(crate) const DROPPED: u32 = 0x30;
    /// `RXDCTL.ENABLE` and `TXDCTL.ENABLE` of the 82576.
    pub(crate) const CONTROL_ENABLE: u32 = 1 << 25;
}
