//! A driver in ten lines, by hand: registers and descriptors as numbers, for tests of the models alone.

use pmd::{
    e1000::model::{Chip, Model, ModelBus, ModelMmio, Options},
    pci::{Bus, Mmio, SharedMemory},
};

/// Descriptors of the ring, and bytes of a buffer.
pub(crate) const RING: u32 = 16;
pub(crate) const BUFFER: u64 = 2048;

/// A chip with one receive and one transmit ring at hand.
pub(crate) struct Raw {
    pub(crate) model: Model,
    pub(crate) bus: ModelBus,
    pub(crate) mmio: ModelMmio,
    pub(crate) chip: Chip,
    rx: SharedMemory,
    tx: SharedMemory,
    pub(crate) buffers: SharedMemory,
    rx_at: u32,
    tx_at: u32,
}

pub(crate) const CTRL_LINK: u32 = 1 << 6;
/// Everything, broadcast too, without check sequence.
pub(crate) const RCTL_ALL: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15 | 1 << 26;

impl Raw {
    /// The link is up, nothing else is set.
    pub(crate) fn new(options: Options) -> Self {
        let chip = options.chip;
        let model = Model::new(options);
        let mut bus = model.bus();
        bus.set_bus_master(true).unwrap();
        let mmio = bus.mmio();
        let ring = RING as usize * 32;
        let (rx, tx) = (bus.share(ring).unwrap(), bus.share(ring).unwrap());
        let buffers = bus.share(64 * BUFFER as usize).unwrap();
        let raw = Self { model, bus, mmio, chip, rx, tx, buffers, rx_at: 0, tx_at: 0 };
        raw.link_up();
        raw
    }

    pub(crate) fn link_up(&self) {
        if self.chip == Chip::I82576 {
            self.mmio.write(0x20, 0x1200 | 1 << 21 | 1 << 26);
        }
        self.mmio.write(0, CTRL_LINK);
    }

    /// First register of a queue: receive or transmit.
    pub(crate) fn block(&self, tx: bool, queue: u32) -> u32 {
        match (self.chip, tx) {
            (Chip::I82574, false) => 0x2800 + queue * 0x100,
            (Chip::I82574, true) => 0x3800 + queue * 0x100,
            (Chip::I82576, false) => 0xc000 + queue * 0x40,
            (Chip::I82576, true) => 0xe000 + queue * 0x40,
        }
    }

    /// Sets base and length of a queue's ring, in 16-byte units.
    pub(crate) fn set_ring(&self, tx: bool, queue: u32, units: u32) {
        let (block, iova) = (self.block(tx, queue), if tx { &self.tx } else { &self.rx }.iova().0);
        self.mmio.write(block, iova as u32);
        self.mmio.write(block + 4, (iova >> 32) as u32);
        self.mmio.write(block + 8, units * 16);
        self.mmio.write(block + 0x10, 0);
        self.mmio.write(block + 0x18, 0);
    }

    /// Starts receiving whole frames into 2 KiB buffers: extended, or one buffer.
    pub(crate) fn start_rx(&self, rctl: u32) {
        self.set_ring(false, 0, RING);
        match self.chip {
            Chip::I82574 => self.mmio.write(0x5008, 1 << 15),
            Chip::I82576 => {
                self.mmio.write(0xc00c, 0x0200_0002);
                self.mmio.write(0xc028, 1 << 25);
            }
        }
        self.mmio.write(0x100, rctl);
    }

    /// Starts sending.
    pub(crate) fn start_tx(&self) {
        self.set_ring(true, 0, RING);
        if self.chip == Chip::I82576 {
            self.mmio.write(0xe028, 1 << 25);
        }
        self.mmio.write(0x400, 1 << 1 | 1 << 3);
    }

    /// Device address of a buffer.
    pub(crate) fn buffer(&self, at: u64) -> u64 {
        self.buffers.iova().0 + at * BUFFER
    }

    pub(crate) fn write_rx(&self, index: u32, unit: u32, words: &[u64]) {
        self.model.poke(self.rx.iova().0 + u64::from(index * unit), &bytes(words));
    }

    pub(crate) fn read_rx(&self, index: u32, unit: u32) -> [u64; 4] {
        self.read(&self.rx, index * unit)
    }

    pub(crate) fn read_tx(&self, index: u32) -> [u64; 4] {
        self.read(&self.tx, index * 16)
    }

    fn read(&self, from: &SharedMemory, at: u32) -> [u64; 4] {
        let mut bytes = [0; 32];
        self.model.peek(from.iova().0 + u64::from(at), &mut bytes);
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        std::array::from_fn(|_| words.next().unwrap())
    }

    pub(crate) fn data(&self, buffer: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.model.peek(self.buffer(buffer), &mut bytes);
        bytes
    }

    /// Gives `count` more receive descriptors of one buffer each.
    pub(crate) fn post(&mut self, count: u32) {
        for _ in 0..count {
            let index = self.rx_at % RING;
            self.write_rx(index, 16, &[self.buffer(u64::from(index)), 0]);
            self.rx_at += 1;
        }
        self.mmio.write(self.block(false, 0) + 0x18, self.rx_at % RING);
    }

    /// Gives transmit descriptors: all of them, then the tail.
    pub(crate) fn send(&mut self, descriptors: &[[u64; 2]]) {
        for words in descriptors {
            let at = u64::from(self.tx_at % RING) * 16;
            self.model.poke(self.tx.iova().0 + at, &bytes(words));
            self.tx_at += 1;
        }
        self.mmio.write(self.block(true, 0) + 0x18, self.tx_at % RING);
    }

    /// Puts a frame into a buffer and yields the buffer's address.
    pub(crate) fn put(&self, buffer: u64, frame: &[u8]) -> u64 {
        self.model.poke(self.buffer(buffer), frame);
        self.buffer(buffer)
    }

    #[track_caller]
    pub(crate) fn expect_violation(&self, text: &str) {
        let violations = self.model.violations();
        assert!(violations.iter().any(|one| one.contains(text)), "{text}: {violations:#?}");
    }

    #[track_caller]
    pub(crate) fn expect_none(&self) {
        let violations = self.model.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A UDP frame over IPv4 to a station address, with right checksums where `sums` asks.
pub(crate) fn udp(destination: [u8; 6], ports: [u16; 2], payload: usize, sums: bool) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0]);
    frame.extend(((28 + payload) as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    frame.extend(((8 + payload) as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|at| at as u8));
    let sum = |bytes: &[u8], start: u32| {
        let mut sum = start;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    };
    let header = sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    if sums {
        let pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 8 + payload as u32;
        let udp = sum(&frame[34..], pseudo);
        frame[40..42].copy_from_slice(&udp.to_be_bytes());
    }
    frame
}
