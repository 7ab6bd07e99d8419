//! One port of DPDK's, from attaching to removing: what is called, in which order, and what is freed when.
//! Knows memory as mirrors and mempools; moves no frames.
//!
//! The device and every queue share the port: whoever is last to go stops, closes and removes it, and only
//! then its memory may go. So no driver of DPDK's ever has a queue or a buffer that is gone.
#![allow(unsafe_code, reason = "calls DPDK's control functions")]
#![expect(clippy::disallowed_types, reason = "control plane: ports come and go rarely")]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr::null_mut,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dpdk_sys as sys;
use mempool::{Cpu, Pool};

use super::{
    eal::{self, Share},
    layout::Mbuf,
    log,
    memory::{self, EthMapper},
    mirror::Mirror,
    options::Options,
    rx,
};
use crate::{Config, Link, MapError, MappedPool, Rss};

/// One caller at a time attaches, closes, and asks by name.
static CONTROL: Mutex<()> = Mutex::new(());

fn control() -> MutexGuard<'static, ()> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes around what DPDK calls MTU.
const HEADER: usize = 14;
const FCS: usize = 4;
/// Hardware is set up for frames of at most so many bytes, without FCS: what all that takes jumbo frames takes.
/// Some drivers want a descriptor with room for the longest in as few as 32 buffers.
const LONGEST_SET_UP: usize = 9018;

/// Why a port could not be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// DPDK itself could not be had.
    Eal(String),
    /// There is a device of that name.
    Exists,
    /// No such device, or it does not work.
    NotThere(String),
    /// A step of the set-up failed.
    Step(&'static str, String),
    /// The driver does not take the memory.
    Memory(MapError),
}

/// What a queue of DPDK's receives into or sends from.
#[derive(Clone, Copy)]
pub(super) struct QueueMemory {
    pub(super) mempool: *mut sys::rte_mempool,
}

/// What is kept for as long as the port may use it, in the order in which it goes.
#[derive(Default)]
struct Memory {
    mapped: Vec<MappedPool<Cpu, EthMapper>>,
    mirrors: Vec<Arc<Mirror>>,
    own: Vec<OwnPool>,
}

/// A mempool of DPDK's own memory.
struct OwnPool(*mut sys::rte_mempool);

impl Drop for OwnPool {
    fn drop(&mut self) {
        // SAFETY: made by `Port::own_pool`; its port is closed.
        unsafe { sys::rte_mempool_free(self.0) };
    }
}

/// A port of DPDK's.
pub(super) struct Port {
    id: u16,
    name: CString,
    info: sys::rte_eth_dev_info,
    /// Receive queues, while it runs.
    queues: Option<u16>,
    /// Whether the driver can be asked to free what it sent.
    cleans: AtomicBool,
    /// Before the memory: a mirror asks whether there are ports.
    _share: Share,
    memory: Memory,
}

// SAFETY: DPDK's control functions may be called by any thread, and those that change the port are called by
// one that owns it.
unsafe impl Send for Port {}
// SAFETY: as above; shared access only asks.
unsafe impl Sync for Port {}

impl Port {
    /// Initialises DPDK if nobody did, and has it find the device and its driver.
    pub(super) fn attach(options: &Options) -> Result<Self, Refusal> {
        let share = Share::take(&options.eal).map_err(Refusal::Eal)?;
        let text =
            |text: &str| CString::new(text).map_err(|_| Refusal::NotThere("a zero byte".into()));
        let (name, devargs) = (text(&options.name)?, text(&options.devargs)?);
        let control = control();
        if find(&name).is_some() {
            return Err(Refusal::Exists);
        }
        log::forget();
        // SAFETY: a string; DPDK is initialised.
        let failed = unsafe { sys::rte_dev_probe(devargs.as_ptr()) };
        if failed != 0 {
            let why = log::why("its driver refuses it, and does not say why");
            return Err(match -failed {
                libc::EEXIST => Refusal::Exists,
                // A driver's -1 is no error number.
                1 => Refusal::NotThere(why),
                _ => Refusal::NotThere(format!("{why} ({})", eal::strerror(failed))),
            });
        }
        let id = find(&name).ok_or_else(|| {
            Refusal::NotThere("the device is there, but it has no Ethernet port".into())
        })?;
        // SAFETY: a plain structure, which DPDK fills in.
        let mut info: sys::rte_eth_dev_info = unsafe { eal::zeroed() };
        // SAFETY: the port exists.
        let failed = unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) };
        let (memory, queues) = (Memory::default(), None);
        let cleans = AtomicBool::new(true);
        let port = Self { id, name, info, memory, queues, cleans, _share: share };
        drop(control);
        port.step("asking what it can do", failed)?;
        Ok(port)
    }

    #[inline(always)]
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn info(&self) -> &sys::rte_eth_dev_info {
        &self.info
    }

    /// Whether it is hardware.
    pub(super) fn is_hardware(&self) -> bool {
        memory::is_hardware(self.info.device)
    }

    /// The longest frame that hardware is set up for, without FCS; drivers in software look at no length, and
    /// mostly know none.
    pub(super) fn longest(&self) -> Option<usize> {
        let known = self.is_hardware() && self.info.max_rx_pktlen > 0;
        known.then(|| {
            let longest = self.info.max_rx_pktlen as usize - FCS;
            longest.min(usize::from(self.info.max_mtu) + HEADER).min(LONGEST_SET_UP)
        })
    }

    /// The driver's name in DPDK.
    pub(super) fn driver(&self) -> String {
        // SAFETY: null, or a string that lives as long as the driver.
        match unsafe { self.info.driver_name.as_ref() } {
            None => String::new(),
            // SAFETY: as above.
            Some(name) => unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned(),
        }
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        let mut mac = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port exists; DPDK fills the address in.
        unsafe { sys::rte_eth_macaddr_get(self.id, &raw mut mac) };
        mac.addr_bytes
    }

    pub(super) fn numa_node(&self) -> Option<u32> {
        // SAFETY: the port exists.
        u32::try_from(unsafe { sys::rte_eth_dev_socket_id(self.id) }).ok()
    }

    /// Whether DPDK still has the port, under its name.
    pub(super) fn is_there(&self) -> bool {
        find(&self.name) == Some(self.id)
    }

    /// Whether the hardware is gone.
    pub(super) fn is_removed(&self) -> bool {
        // SAFETY: asked of any number.
        unsafe { sys::rte_eth_dev_is_removed(self.id) != 0 }
    }

    pub(super) fn link(&self) -> Link {
        let (mut is_up, mut speed) = (0, 0);
        // SAFETY: asked of any number; the answers have their places.
        let failed = unsafe { sys::memwire_link(self.id, &raw mut is_up, &raw mut speed) };
        let known = speed != 0 && speed != u32::MAX;
        Link { is_up: failed == 0 && is_up != 0, speed_mbps: known.then_some(speed) }
    }

    /// Has a pool mirrored and mapped, for as long as the port lives.
    pub(super) fn mirror(&mut self, pool: &Pool<Cpu>) -> Result<Arc<Mirror>, Refusal> {
        if let Some(mirror) = self.mirror_of(pool) {
            return Ok(mirror);
        }
        let mapper = EthMapper::new(self.info.device);
        let mapped = MappedPool::new(pool, mapper).map_err(Refusal::Memory)?;
        let mirror = Mirror::of(pool).map_err(|why| Refusal::Step("mirroring the pool", why))?;
        self.memory.mapped.push(mapped);
        self.memory.mirrors.push(Arc::clone(&mirror));
        Ok(mirror)
    }

    /// The mirror that the port has of a pool.
    pub(super) fn mirror_of(&self, pool: &Pool<Cpu>) -> Option<Arc<Mirror>> {
        self.memory.mirrors.iter().find(|mirror| mirror.pool().is_same(pool)).cloned()
    }

    /// A mempool of DPDK's own memory, of `count` buffers that hold `room` bytes, for as long as the port
    /// lives.
    pub(super) fn own_pool(&mut self, count: usize, room: usize) -> Result<QueueMemory, Refusal> {
        let name = format!("mw_{}_{}", self.id, self.memory.own.len());
        let name = CString::new(name).unwrap_or_default();
        let room = room + sys::MEMWIRE_HEADROOM as usize;
        let room = u16::try_from(room).unwrap_or(u16::MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        log::forget();
        // SAFETY: a string and numbers; -1 is any NUMA node.
        let mempool = unsafe { sys::rte_pktmbuf_pool_create(name.as_ptr(), count, 0, 0, room, -1) };
        if mempool.is_null() {
            let why = log::why(&eal::strerror(eal::errno()));
            return Err(Refusal::Step("allocating DPDK's own buffers", why));
        }
        self.memory.own.push(OwnPool(mempool));
        Ok(QueueMemory { mempool })
    }

    /// Configures the port, sets its queues up, a receive queue on each `memory` and `senders` to transmit,
    /// and starts it. There may be more than `config` has.
    pub(super) fn start(
        &mut self,
        config: &Config,
        (rx_offloads, tx_offloads): (u64, u64),
        memory: &[QueueMemory],
        senders: usize,
    ) -> Result<(), Refusal> {
        log::forget();
        let (rx, tx) = (queue_count(memory.len()), queue_count(senders));
        // SAFETY: a plain structure; all zeroes are its defaults.
        let mut conf: sys::rte_eth_conf = unsafe { eal::zeroed() };
        conf.rxmode.offloads = rx_offloads;
        conf.txmode.offloads = tx_offloads;
        // Unasked, DPDK has hardware drop what is longer than 1500 bytes and a header.
        let mtu = self.longest().map_or(0, |longest| longest.saturating_sub(HEADER));
        conf.rxmode.mtu = u32::try_from(mtu).unwrap_or(0);
        let mut key = config.rss.as_ref().map(|rss| rss.key);
        if rx > 1 && self.info.flow_type_rss_offloads != 0 {
            conf.rxmode.mq_mode = sys::MEMWIRE_MQ_RX_RSS as _;
            conf.rx_adv_conf.rss_conf.rss_hf = self.info.flow_type_rss_offloads;
            if let Some(key) =
                key.as_mut().filter(|key| usize::from(self.info.hash_key_size) == key.len())
            {
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                conf.rx_adv_conf.rss_conf.rss_key_len = self.info.hash_key_size;
            }
        }
        // SAFETY: the port exists and is stopped; DPDK copies the structure.
        let failed = unsafe { sys::rte_eth_dev_configure(self.id, rx, tx, &raw const conf) };
        self.step("configuring it", failed)?;
        self.set_up_queues(config, (rx_offloads, tx_offloads), memory, senders)?;
        // SAFETY: configured, with all its queues set up.
        let failed = unsafe { sys::rte_eth_dev_start(self.id) };
        self.step("starting it", failed)?;
        self.queues = Some(rx);
        self.set_filters(config, rx)
    }

    fn set_up_queues(
        &self,
        config: &Config,
        (rx_offloads, tx_offloads): (u64, u64),
        memory: &[QueueMemory],
        senders: usize,
    ) -> Result<(), Refusal> {
        let ring = |ring: usize| u16::try_from(ring).unwrap_or(1 << 15);
        let default = config.tx.first().map_or(crate::config::DEFAULT_RING, |queue| queue.ring);
        for (index, memory) in memory.iter().enumerate() {
            let mut conf = self.info.default_rxconf;
            conf.offloads = rx_offloads & self.info.rx_queue_offload_capa;
            let mut count = ring(config.rx.get(index).map_or(default, |queue| queue.ring));
            // SAFETY: the port exists; the count has its place.
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut count, null_mut()) };
            // net_e1000_igb tells the chip of new buffers when more than 32 have come, of which a ring of 32 has
            // none: it would stop for good.
            conf.rx_free_thresh = conf.rx_free_thresh.min(count / 4);
            let (index, conf) = (queue_count(index), &raw const conf);
            // SAFETY: the port is configured with this queue; the mempool lives as long as the port
            // (`Memory`); -1 is any NUMA node.
            let failed = unsafe {
                sys::rte_eth_rx_queue_setup(self.id, index, count, u32::MAX, conf, memory.mempool)
            };
            self.step("setting a receive queue up on the pool's memory", failed)?;
        }
        let default = config.rx.first().map_or(crate::config::DEFAULT_RING, |queue| queue.ring);
        for index in 0..senders {
            let mut conf = self.info.default_txconf;
            conf.offloads = tx_offloads & self.info.tx_queue_offload_capa;
            let mut count = ring(config.tx.get(index).map_or(default, |queue| queue.ring));
            // SAFETY: the port exists; the count has its place.
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, null_mut(), &raw mut count) };
            let (index, conf) = (queue_count(index), &raw const conf);
            // SAFETY: the port is configured with this queue; -1 is any NUMA node.
            let failed =
                unsafe { sys::rte_eth_tx_queue_setup(self.id, index, count, u32::MAX, conf) };
            self.step("setting a transmit queue up", failed)?;
        }
        Ok(())
    }

    /// What is received, and by which queue.
    fn set_filters(&self, config: &Config, rx: u16) -> Result<(), Refusal> {
        if config.promiscuous {
            // SAFETY: the port is started.
            let failed = unsafe { sys::rte_eth_promiscuous_enable(self.id) };
            self.unless_unsupported("receiving for other addresses", failed)?;
        }
        if config.all_multicast {
            // SAFETY: the port is started.
            let failed = unsafe { sys::rte_eth_allmulticast_enable(self.id) };
            self.unless_unsupported("receiving for every group", failed)?;
        }
        for address in &config.addresses {
            let mut address = sys::rte_ether_addr { addr_bytes: *address };
            // SAFETY: the port is started; DPDK copies the address.
            let failed = unsafe { sys::rte_eth_dev_mac_addr_add(self.id, &raw mut address, 0) };
            self.step("adding a station address", failed)?;
        }
        match &config.rss {
            Some(rss) if rx > 1 && !rss.table.is_empty() => self.set_table(rss),
            _ => Ok(()),
        }
    }

    /// Spreads the redirection table over the queues that `rss` names, in turn.
    fn set_table(&self, rss: &Rss) -> Result<(), Refusal> {
        let group = sys::MEMWIRE_RETA_GROUP as usize;
        let size = usize::from(self.info.reta_size);
        let mut entries = rss.table.iter().cycle().map(|queue| u16::from(*queue));
        let mut table: Vec<_> = (0..size.div_ceil(group))
            .map(|_| {
                // SAFETY: a plain structure of numbers.
                let mut part: sys::rte_eth_rss_reta_entry64 = unsafe { eal::zeroed() };
                part.mask = u64::MAX;
                part.reta.iter_mut().zip(&mut entries).for_each(|(place, queue)| *place = queue);
                part
            })
            .collect();
        // SAFETY: the port is started; the table has the device's size.
        let failed = unsafe {
            sys::rte_eth_dev_rss_reta_update(self.id, table.as_mut_ptr(), self.info.reta_size)
        };
        self.step("setting the table of receive queues", failed)
    }

    /// What the device counts, by name.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        if !self.is_there() {
            return Vec::new();
        }
        // SAFETY: a plain structure of numbers.
        let mut stats: sys::rte_eth_stats = unsafe { eal::zeroed() };
        // SAFETY: the port exists.
        let failed = unsafe { sys::rte_eth_stats_get(self.id, &raw mut stats) };
        let mut all = Vec::new();
        if failed == 0 {
            let sys::rte_eth_stats { imissed, ierrors, oerrors, rx_nombuf, .. } = stats;
            let known = [("missed", imissed), ("rx_errors", ierrors), ("tx_errors", oerrors)];
            all.extend(known.map(|(name, count)| (name.to_owned(), count)));
            all.push(("no_mbuf".into(), rx_nombuf));
        }
        let starved: u64 = self.memory.mirrors.iter().map(|mirror| mirror.stock().starved()).sum();
        all.push(("pool_exhausted".into(), starved));
        all.extend(self.extended());
        all
    }

    /// The driver's own statistics.
    fn extended(&self) -> Vec<(String, u64)> {
        // SAFETY: the port exists; without places DPDK says how many there are.
        let count = unsafe { sys::rte_eth_xstats_get_names(self.id, null_mut(), 0) };
        let count = usize::try_from(count).unwrap_or(0);
        let most = u32::try_from(count).unwrap_or(0);
        let mut names = vec![sys::rte_eth_xstat_name { name: [0; 64] }; count];
        let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; count];
        // SAFETY: as many places as are said.
        let named = unsafe { sys::rte_eth_xstats_get_names(self.id, names.as_mut_ptr(), most) };
        // SAFETY: as above.
        let valued = unsafe { sys::rte_eth_xstats_get(self.id, values.as_mut_ptr(), most) };
        if usize::try_from(named) != Ok(count) || usize::try_from(valued) != Ok(count) {
            return Vec::new();
        }
        let name = |name: &[c_char]| -> String {
            let bytes = name.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
        };
        let value = |value: &sys::rte_eth_xstat| {
            let names = usize::try_from(value.id).ok().and_then(|id| names.get(id))?;
            Some((name(&names.name), value.value))
        };
        values.iter().filter(|value| value.value > 0).filter_map(value).collect()
    }

    /// Asks the driver to free what it has sent, if it can be asked.
    #[inline]
    pub(super) fn done_cleanup(&self, queue: u16) {
        if self.cleans.load(Ordering::Relaxed) {
            // SAFETY: the port is started with this queue, which the caller alone uses.
            let freed = unsafe { sys::rte_eth_tx_done_cleanup(self.id, queue, 0) };
            if freed == -libc::ENOTSUP {
                self.cleans.store(false, Ordering::Relaxed);
            }
        }
    }

    fn step(&self, what: &'static str, failed: c_int) -> Result<(), Refusal> {
        if failed == 0 {
            return Ok(());
        }
        let error = eal::strerror(failed);
        let driver = self.driver();
        Err(Refusal::Step(what, format!("{driver}: {} ({error})", log::why("no reason given"))))
    }

    /// As [`Port::step`]; a device without filters receives everything anyway.
    fn unless_unsupported(&self, what: &'static str, failed: c_int) -> Result<(), Refusal> {
        if failed == -libc::ENOTSUP { Ok(()) } else { self.step(what, failed) }
    }

    /// Frees what lies in the receive queues: some drivers forget it when they are closed.
    fn drain(&self, queues: u16) {
        /// Bursts of a queue; traffic may go on.
        const MOST: usize = 256;
        let mut mbufs: [Mbuf; 32] = [null_mut(); 32];
        for queue in 0..queues {
            for _ in 0..MOST {
                // SAFETY: the port is started with this queue, and nobody else is left to use it.
                let count = unsafe { sys::rx_burst(self.id, queue, mbufs.as_mut_ptr(), 32) };
                if count == 0 {
                    break;
                }
                rx::free(&mbufs[..usize::from(count).min(mbufs.len())]);
            }
        }
    }

    fn close(&mut self) {
        let _control = control();
        if !self.is_there() {
            // Somebody else in this process took it away; its id may be another port's by now, and its
            // device is not to be asked to let go of memory.
            std::mem::forget(std::mem::take(&mut self.memory.mapped));
            return;
        }
        if let Some(queues) = self.queues.take() {
            self.drain(queues);
            // SAFETY: started; no queue is left (this is the last owner).
            let failed = unsafe { sys::rte_eth_dev_stop(self.id) };
            self.note("stopping", failed);
        }
        if !eal::settle() {
            // It may be in the midst of this port: what it uses stays.
            tracing::warn!(
                port = %self.name.to_string_lossy(),
                "DPDK's interrupt thread does not answer: a port is left open, with its buffers"
            );
            std::mem::forget(std::mem::take(&mut self.memory));
            eal::keep();
            return;
        }
        // SAFETY: stopped.
        let failed = unsafe { sys::rte_eth_dev_close(self.id) };
        self.note("closing", failed);
        // The device is still known to its bus: now it can let go of memory.
        self.memory.mapped.clear();
        // SAFETY: the device was there when the port was attached, and its port is closed.
        let failed = unsafe { sys::rte_dev_remove(self.info.device) };
        self.note("removing", failed);
        if self.driver() == "net_memif" {
            // It leaves its listening socket's handle, which it has freed, with the interrupt thread: seen
            // with 22.11.11 as that thread's SIGSEGV in rte_intr_fd_get, called while rte_eal_cleanup unmaps
            // memory (12 of 40 processes).
            eal::keep();
        }
    }

    fn note(&self, what: &str, failed: c_int) {
        if failed != 0 {
            let (port, error) = (self.name.to_string_lossy(), eal::strerror(failed));
            tracing::warn!(%port, %error, "{what} a DPDK port failed");
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

fn queue_count(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// The port of that name.
fn find(name: &CStr) -> Option<u16> {
    let mut id = 0;
    // SAFETY: a string; the answer has its place.
    let failed = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (failed == 0).then_some(id)
}
