//! How a model behaves: which chip, when it works, and what is wrong with it.

/// Which NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// 82574L: 2 + 2 queues, packet split.
    I82574,
    /// 82576: 16 + 16 queues, header split, segmentation.
    I82576,
}

impl Chip {
    /// PCI vendor and device.
    #[must_use]
    pub const fn id(self) -> (u16, u16) {
        match self {
            Self::I82574 => (0x8086, 0x10d3),
            Self::I82576 => (0x8086, 0x10c9),
        }
    }

    /// Queues of each direction.
    #[must_use]
    pub const fn queues(self) -> usize {
        match self {
            Self::I82574 => 2,
            Self::I82576 => 16,
        }
    }

    /// MSI-X vectors.
    #[must_use]
    pub const fn vectors(self) -> usize {
        match self {
            Self::I82574 => 5,
            Self::I82576 => 25,
        }
    }

    /// Longest frame with its check sequence, where long frames are enabled.
    #[must_use]
    pub const fn longest(self) -> usize {
        match self {
            Self::I82574 => 9234,
            Self::I82576 => 9728,
        }
    }

    /// Bytes of frames that wait for descriptors inside the chip (the receive part of its packet buffer
    /// after reset).
    pub(super) const fn packet_buffer(self) -> usize {
        match self {
            Self::I82574 => 20 << 10,
            Self::I82576 => 64 << 10,
        }
    }
}

/// When the model works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// At once: a write to a tail register returns when everything is done.
    #[default]
    Prompt,
    /// In [`super::Model::tick`]: everything that can be done.
    Ticked,
    /// In [`super::Model::tick`]: a random part of it, in the order of the datasheets; descriptors are
    /// reported later than they are done.
    Late,
}

/// A model's configuration. [`Options::new`] is a correct device.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which NIC.
    pub chip: Chip,
    /// Where randomness comes from.
    pub seed: u64,
    /// When it works.
    pub work: Work,
    /// Station address in the EEPROM.
    pub mac: [u8; 6],
    /// Whether the EEPROM's checksum is right.
    pub eeprom_is_good: bool,
    /// Bytes of received frames that wait for descriptors; a frame beyond is missed.
    pub packet_buffer: usize,
    /// Whether a sender is made to wait when the packet buffer is full (802.3x), so that none is missed.
    pub flow_control: bool,
    /// How often `STATUS` is read, or the model ticks, until the link is up.
    pub link_delay: u32,
    /// How often `CTRL` reads as "in reset" after a reset.
    pub reset_delay: u32,
    /// What breaks.
    pub faults: Faults,
    /// How it lies.
    pub hostility: Hostility,
}

impl Options {
    /// A correct device with the chip's own packet buffer.
    #[must_use]
    pub fn new(chip: Chip) -> Self {
        Self {
            chip,
            seed: 1,
            work: Work::default(),
            mac: [0x02, 0x57, 0x1e, 0, 0, 1],
            eeprom_is_good: true,
            packet_buffer: chip.packet_buffer(),
            flow_control: false,
            link_delay: 0,
            reset_delay: 1,
            faults: Faults::default(),
            hostility: Hostility::default(),
        }
    }

    /// The same with work done at that time.
    #[must_use]
    pub fn work(mut self, work: Work) -> Self {
        self.work = work;
        self
    }

    /// The same with that seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same with that station address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = mac;
        self
    }

    /// The same, with senders that are made to wait instead of frames that are missed.
    #[must_use]
    pub fn flow_control(mut self) -> Self {
        self.flow_control = true;
        self
    }
}

/// What breaks in a device that means well. Nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every register reads as all ones, and nothing is done, from this access on.
    pub gone_at: Option<u64>,
    /// A reset never ends.
    pub reset_sticks: bool,
    /// A queue that is enabled never says so (82576).
    pub enable_sticks: bool,
    /// A receive queue that is disabled never says so (82576), transactions on the bus never end (82574).
    pub disable_sticks: bool,
    /// One in so many reports of a sent descriptor never comes.
    pub lost_reports: u32,
    /// One in so many ticks, the link goes down or comes back.
    pub flaps: u32,
    /// One in so many ticks, an interrupt without a cause.
    pub spurious: u32,
}

/// How a device lies. It does not, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hostility {
    /// One in so many reports is made up; none for 0.
    pub one_in: u32,
    /// In which ways.
    pub lies: Vec<Lie>,
}

/// A way to lie about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// More bytes than the buffer has.
    TooLong,
    /// No bytes.
    Empty,
    /// The frame never ends.
    NoEnd,
    /// A descriptor further on is reported first.
    OutOfOrder,
    /// A descriptor is reported a second time, when it belongs to the driver.
    Twice,
    /// Every bit that is not "done" is random.
    Garbage,
    /// Every bit is set.
    AllOnes,
    /// A head that is longer than its buffer.
    LongHead,
    /// Error bits are set.
    Errors,
    /// Bytes are written into buffers after they were reported.
    Scribble,
    /// Head registers read as nonsense.
    Head,
    /// Descriptors that were not sent, or not even given, are reported as sent.
    EarlySent,
    /// A receive queue that said it was disabled goes on writing into the buffers it had.
    AfterStop,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::TooLong,
        Self::Empty,
        Self::NoEnd,
        Self::OutOfOrder,
        Self::Twice,
        Self::Garbage,
        Self::AllOnes,
        Self::LongHead,
        Self::Errors,
        Self::Scribble,
        Self::Head,
        Self::EarlySent,
        Self::AfterStop,
    ];
}
