//! Setting a port of DPDK's up: its queues, on which memory, and what it receives. Knows neither where ports
//! come from nor how they end.
#![allow(unsafe_code, reason = "calls DPDK's control functions")]

use std::{
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering},
};

use dpdk_sys as sys;

use super::{
    cut::Cut,
    eal,
    limit::Call,
    log,
    memory::{self, Sharing},
    port::{Port, Refusal},
};
use crate::{Config, PostOrder, Rss, RxConfig, RxMemory};

/// Bytes around what DPDK calls MTU.
const HEADER: usize = 14;
const FCS: usize = 4;
/// Hardware is set up for frames of at most so many bytes, without FCS: what all that takes jumbo frames takes.
/// Some drivers want a descriptor with room for the longest in as few as 32 buffers.
const LONGEST_SET_UP: usize = 9018;

/// What a queue of DPDK's receives into or sends from.
#[derive(Clone, Copy)]
pub(super) struct QueueMemory {
    pub(super) mempool: *mut sys::rte_mempool,
    /// For what is behind the head, if frames are split.
    pub(super) payload: Option<Payload>,
}

/// The second segment of a queue that splits.
#[derive(Clone, Copy)]
pub(super) struct Payload {
    pub(super) mempool: *mut sys::rte_mempool,
    /// Bytes of its buffer that stay free in front, where the driver lets one choose.
    pub(super) offset: u16,
    pub(super) cut: Cut,
}

impl QueueMemory {
    /// Both segments of a queue that splits (`rte_eth_rxseg_split`, `rte_ethdev.h`).
    fn segments(&self) -> Option<[sys::rte_eth_rxseg; 2]> {
        let payload = self.payload?;
        let (length, proto_hdr) = match payload.cut {
            Cut::After(length) => (length, 0),
            Cut::Behind(headers) => (0, headers),
        };
        let head = sys::rte_eth_rxseg_split { mp: self.mempool, length, offset: 0, proto_hdr };
        let (mp, offset) = (payload.mempool, payload.offset);
        let data = sys::rte_eth_rxseg_split { mp, length: 0, offset, proto_hdr: 0 };
        Some([head, data].map(|split| sys::rte_eth_rxseg { split }))
    }
}

/// What is needed to start a port that is set up.
pub(super) struct Launch {
    filters: Filters,
    rx: u16,
    /// Queues that wait for payload buffers.
    waiting: AtomicUsize,
}

impl Launch {
    /// Receive queues.
    pub(super) fn queues(&self) -> u16 {
        self.rx
    }
}

/// What is received, and by which queue.
struct Filters {
    promiscuous: bool,
    all_multicast: bool,
    addresses: Vec<[u8; 6]>,
    rss: Option<Rss>,
}

impl Filters {
    fn of(config: &Config) -> Self {
        Self {
            promiscuous: config.promiscuous,
            all_multicast: config.all_multicast,
            addresses: config.addresses.clone(),
            rss: config.rss.clone(),
        }
    }
}

fn is_posted_by_app(queue: &RxConfig) -> bool {
    matches!(&queue.memory, RxMemory::Split(split) if split.post == PostOrder::App)
}

impl Port {
    /// Whether it is hardware.
    pub(super) fn is_hardware(&self) -> bool {
        memory::is_hardware(self.info().device)
    }

    /// The longest frame that hardware is set up for, without FCS; drivers in software look at no length, and
    /// mostly know none.
    pub(super) fn longest(&self) -> Option<usize> {
        let known = self.is_hardware() && self.info().max_rx_pktlen > 0;
        known.then(|| {
            let longest = self.info().max_rx_pktlen as usize - FCS;
            longest.min(usize::from(self.info().max_mtu) + HEADER).min(LONGEST_SET_UP)
        })
    }

    /// Configures the port, sets its queues up, a receive queue on each `memory` and `senders` to transmit, and
    /// starts it; if the application posts payload buffers, as soon as each of those queues has what its ring
    /// takes ([`Port::posted`]), because drivers fill their rings when they start. There may be more queues than
    /// `config` has.
    pub(super) fn start(
        &mut self,
        config: &Config,
        (mut rx_offloads, tx_offloads): (u64, u64),
        memory: &[QueueMemory],
        senders: usize,
    ) -> Result<(), Refusal> {
        self.sharing = Sharing::of(&self.driver()).map_err(Refusal::Memory)?;
        log::forget();
        let splits = memory.iter().any(|memory| memory.payload.is_some());
        if splits && self.info().rx_queue_offload_capa & sys::MEMWIRE_RX_BUFFER_SPLIT == 0 {
            // A thing of the whole port.
            rx_offloads |= sys::MEMWIRE_RX_BUFFER_SPLIT;
        }
        let (rx, tx) = (queue_count(memory.len()), queue_count(senders));
        // SAFETY: a plain structure; all zeroes are its defaults.
        let mut conf: sys::rte_eth_conf = unsafe { eal::zeroed() };
        conf.rxmode.offloads = rx_offloads;
        conf.txmode.offloads = tx_offloads;
        // Unasked, DPDK has hardware drop what is longer than 1500 bytes and a header.
        let mtu = self.longest().map_or(0, |longest| longest.saturating_sub(HEADER));
        conf.rxmode.mtu = u32::try_from(mtu).unwrap_or(0);
        let mut key = config.rss.as_ref().map(|rss| rss.key);
        if rx > 1 && self.info().flow_type_rss_offloads != 0 {
            conf.rxmode.mq_mode = sys::MEMWIRE_MQ_RX_RSS as _;
            conf.rx_adv_conf.rss_conf.rss_hf = self.info().flow_type_rss_offloads;
            if let Some(key) =
                key.as_mut().filter(|key| usize::from(self.info().hash_key_size) == key.len())
            {
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                conf.rx_adv_conf.rss_conf.rss_key_len = self.info().hash_key_size;
            }
        }
        // SAFETY: the port exists and is stopped; DPDK copies the structure.
        let failed = unsafe { sys::rte_eth_dev_configure(self.id(), rx, tx, &raw const conf) };
        self.step("configuring it", failed)?;
        self.set_up_queues(config, (rx_offloads, tx_offloads), memory, senders)?;
        let waiting = config.rx.iter().filter(|queue| is_posted_by_app(queue)).count();
        self.launch = Some(Launch { filters: Filters::of(config), rx, waiting: waiting.into() });
        if waiting == 0 { self.launch_now() } else { Ok(()) }
    }

    /// Starts the port.
    fn launch_now(&self) -> Result<(), Refusal> {
        let Some(launch) = &self.launch else { return Ok(()) };
        let id = self.id();
        // SAFETY: configured, with all its queues set up; nobody calls them before `started` says so.
        let start = move || unsafe { sys::rte_eth_dev_start(id) };
        let failed = self.peer.wait("starting", start).and_then(Call::in_time);
        self.step("starting it", failed.map_err(Refusal::Overdue)?)?;
        // Release: what DPDK wrote is seen by who sees this.
        self.started.store(true, Ordering::Release);
        self.set_filters(&launch.filters, launch.rx)
    }

    /// Says that one more queue has been posted what its ring takes, once. With the last one the port is started.
    #[cold]
    pub(super) fn posted(&self) {
        let Some(launch) = &self.launch else { return };
        // AcqRel: the last one sees what the others posted.
        if launch.waiting.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if let Err(refusal) = self.launch_now() {
            let why = match refusal {
                Refusal::Step(what, why) => format!("{what} failed: {why}"),
                Refusal::Overdue(why) => why,
                _ => "it could not be started".into(),
            };
            tracing::error!(%why, "a DPDK port does not run");
            let _ = self.fault.set(why);
        }
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
            let mut conf = self.info().default_rxconf;
            conf.offloads = rx_offloads & self.info().rx_queue_offload_capa;
            let mut segments = memory.segments();
            let (mut count, mempool) = if let Some(segments) = &mut segments {
                conf.offloads |= sys::MEMWIRE_RX_BUFFER_SPLIT;
                (conf.rx_seg, conf.rx_nseg) = (segments.as_mut_ptr(), 2);
                (ring(config.rx[index].ring / 2), null_mut())
            } else {
                let ring = ring(config.rx.get(index).map_or(default, |queue| queue.ring));
                (ring, memory.mempool)
            };
            // SAFETY: the port exists; the count has its place.
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id(), &raw mut count, null_mut()) };
            if segments.is_some() && usize::from(count) > config.rx[index].ring / 2 {
                let (driver, least) = (self.driver(), 2 * usize::from(count));
                let why = format!(
                    "{driver}: of {} descriptors; {least} are the least",
                    config.rx[index].ring
                );
                return Err(Refusal::Step("making a ring that splits", why));
            }
            // net_e1000_igb tells the chip of new buffers when more than 32 have come, of which a ring of 32 has
            // none: it would stop for good.
            conf.rx_free_thresh = conf.rx_free_thresh.min(count / 4);
            let (index, conf) = (queue_count(index), &raw const conf);
            // SAFETY: the port is configured with this queue; its mempools live as long as the port
            // (`Memory`); the segments are here; -1 is any NUMA node.
            let failed = unsafe {
                sys::rte_eth_rx_queue_setup(self.id(), index, count, u32::MAX, conf, mempool)
            };
            self.step("setting a receive queue up on the pool's memory", failed)?;
        }
        let default = config.rx.first().map_or(crate::config::DEFAULT_RING, |queue| queue.ring);
        for index in 0..senders {
            let mut conf = self.info().default_txconf;
            conf.offloads = tx_offloads & self.info().tx_queue_offload_capa;
            let mut count = ring(config.tx.get(index).map_or(default, |queue| queue.ring));
            // SAFETY: the port exists; the count has its place.
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id(), null_mut(), &raw mut count) };
            let (index, conf) = (queue_count(index), &raw const conf);
            // SAFETY: the port is configured with this queue; -1 is any NUMA node.
            let failed =
                unsafe { sys::rte_eth_tx_queue_setup(self.id(), index, count, u32::MAX, conf) };
            self.step("setting a transmit queue up", failed)?;
        }
        Ok(())
    }

    /// What is received, and by which queue.
    fn set_filters(&self, filters: &Filters, rx: u16) -> Result<(), Refusal> {
        if filters.promiscuous {
            // SAFETY: the port is started.
            let failed = unsafe { sys::rte_eth_promiscuous_enable(self.id()) };
            self.unless_unsupported("receiving for other addresses", failed)?;
        }
        if filters.all_multicast {
            // SAFETY: the port is started.
            let failed = unsafe { sys::rte_eth_allmulticast_enable(self.id()) };
            self.unless_unsupported("receiving for every group", failed)?;
        }
        for address in &filters.addresses {
            let mut address = sys::rte_ether_addr { addr_bytes: *address };
            // SAFETY: the port is started; DPDK copies the address.
            let failed = unsafe { sys::rte_eth_dev_mac_addr_add(self.id(), &raw mut address, 0) };
            self.step("adding a station address", failed)?;
        }
        match &filters.rss {
            Some(rss) if rx > 1 && !rss.table.is_empty() => self.set_table(rss),
            _ => Ok(()),
        }
    }

    /// Spreads the redirection table over the queues that `rss` names, in turn.
    fn set_table(&self, rss: &Rss) -> Result<(), Refusal> {
        let group = sys::MEMWIRE_RETA_GROUP as usize;
        let size = usize::from(self.info().reta_size);
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
            sys::rte_eth_dev_rss_reta_update(self.id(), table.as_mut_ptr(), self.info().reta_size)
        };
        self.step("setting the table of receive queues", failed)
    }
}

fn queue_count(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
