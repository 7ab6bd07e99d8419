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
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dpdk_sys as sys;
use mempool::{Cpu, Device as DeviceMemory, Pool};

use super::{
    eal::{self, Share},
    layout::Mbuf,
    limit::{Call, Peer},
    log,
    memory::{EthMapper, Reader, Sharing},
    mirror::Mirror,
    options::Options,
    payloads::Payloads,
    probe::{Device, find, probe},
    rx,
    setup::{Launch, QueueMemory},
};
use crate::{Link, MapError, MappedPool};

/// One caller at a time attaches, starts late, closes, and asks by name.
static CONTROL: Mutex<()> = Mutex::new(());

pub(super) fn control() -> MutexGuard<'static, ()> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a port could not be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// DPDK itself could not be had.
    Eal(String),
    /// There is a device of that name.
    Exists,
    /// Its peer, or the device, takes too long.
    Overdue(String),
    /// No such device, or it does not work.
    NotThere(String),
    /// A step of the set-up failed.
    Step(&'static str, String),
    /// The driver does not take the memory.
    Memory(MapError),
    /// The driver does not split so.
    Split(String),
}

/// What is kept for as long as the port may use it, in the order in which it goes.
#[derive(Default)]
struct Memory {
    mapped: Vec<MappedPool<Cpu, EthMapper>>,
    mapped_data: Vec<MappedPool<DeviceMemory, EthMapper>>,
    mirrors: Vec<Arc<Mirror>>,
    payloads: Vec<Arc<Payloads>>,
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
    /// Set up, and started at once or when payloads are posted.
    pub(super) launch: Option<Launch>,
    /// Whether its queues may be called.
    pub(super) started: AtomicBool,
    /// Why it could not be started when it was to be.
    pub(super) fault: OnceLock<String>,
    /// Whom its driver may wait for.
    pub(super) peer: Peer,
    /// Whether the driver can be asked to free what it sent.
    cleans: AtomicBool,
    /// From the first start on, where its driver needs it.
    pub(super) sharing: Option<Sharing>,
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
        let peer = options.peer();
        let probed = probe(&peer, &name, devargs)?;
        let id = find(&name).ok_or_else(|| {
            Refusal::NotThere("the device is there, but it has no Ethernet port".into())
        })?;
        // SAFETY: a plain structure, which DPDK fills in.
        let mut info: sys::rte_eth_dev_info = unsafe { eal::zeroed() };
        // SAFETY: the port exists.
        let failed = unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) };
        probed.keep();
        let (memory, launch, fault) = (Memory::default(), None, OnceLock::new());
        let started = AtomicBool::new(false);
        let cleans = AtomicBool::new(true);
        let (sharing, _share) = (None, share);
        let port =
            Self { id, name, info, memory, launch, started, fault, peer, cleans, sharing, _share };
        drop(control);
        port.step("asking what it can do", failed)?;
        Ok(port)
    }

    #[inline(always)]
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Whether its queues may be called: one that waits for payload buffers is not started yet.
    #[inline(always)]
    pub(super) fn is_started(&self) -> bool {
        // Acquire: sees what DPDK wrote when it started the port.
        self.started.load(Ordering::Acquire)
    }

    /// Why it does not run, if it was to be started and could not be.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    pub(super) fn info(&self) -> &sys::rte_eth_dev_info {
        &self.info
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
        let mapper = EthMapper::new(self.info.device, Reader::Host);
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

    /// What a queue has of a pool for payloads: mbufs of its own. The pool is mapped for as long as the port
    /// lives.
    pub(super) fn payloads(
        &mut self,
        pool: &Pool<DeviceMemory>,
        limit: usize,
    ) -> Result<Arc<Payloads>, Refusal> {
        if !self.memory.mapped_data.iter().any(|mapped| mapped.pool().is_same(pool)) {
            let mapper = EthMapper::new(self.info.device, Reader::Nobody);
            let mapped = MappedPool::new(pool, mapper).map_err(Refusal::Memory)?;
            self.memory.mapped_data.push(mapped);
        }
        let payloads = Payloads::new(pool, limit);
        let payloads =
            payloads.map_err(|why| Refusal::Step("mirroring the payloads' pool", why))?;
        let payloads = Arc::new(payloads);
        self.memory.payloads.push(Arc::clone(&payloads));
        Ok(payloads)
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
        Ok(QueueMemory { mempool, payload: None })
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
        if !self.memory.payloads.is_empty() {
            let starved = self.memory.payloads.iter().map(|payloads| payloads.starved()).sum();
            all.push(("payloads_exhausted".into(), starved));
        }
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

    pub(super) fn step(&self, what: &'static str, failed: c_int) -> Result<(), Refusal> {
        if failed == 0 {
            return Ok(());
        }
        let error = eal::strerror(failed);
        let driver = self.driver();
        Err(Refusal::Step(what, format!("{driver}: {} ({error})", log::why("no reason given"))))
    }

    /// As [`Port::step`]; a device without filters receives everything anyway.
    pub(super) fn unless_unsupported(
        &self,
        what: &'static str,
        failed: c_int,
    ) -> Result<(), Refusal> {
        if failed == -libc::ENOTSUP { Ok(()) } else { self.step(what, failed) }
    }

    fn close(&mut self) {
        let _control = control();
        if !self.is_there() {
            // Somebody else in this process took it away; its id may be another port's by now, and its
            // device is not to be asked to let go of memory.
            std::mem::forget(std::mem::take(&mut self.memory.mapped));
            std::mem::forget(std::mem::take(&mut self.memory.mapped_data));
            return;
        }
        let (id, device) = (self.id, Device(self.info.device));
        if let Some(launch) = self.launch.take()
            && self.is_started()
        {
            let queues = launch.queues();
            let stop = move || {
                drain(id, queues);
                // SAFETY: started; no queue is left (this is the last owner).
                unsafe { sys::rte_eth_dev_stop(id) }
            };
            if !self.ends("stopping", stop) {
                return;
            }
        }
        // What it had begun has to end before the port's memory goes; once a port is stopped nothing new begins.
        if eal::between_handlers(|| ()).is_none() {
            // It may be in the midst of this port: what it uses stays.
            self.leave("DPDK's interrupt thread does not answer");
            return;
        }
        // SAFETY: stopped.
        if !self.ends("closing", move || unsafe { sys::rte_eth_dev_close(id) }) {
            return;
        }
        // The device is still known to its bus: now it can let go of memory.
        self.memory.mapped.clear();
        self.memory.mapped_data.clear();
        // SAFETY: the device was there when the port was attached, and its port is closed.
        if !self.ends("removing", move || unsafe { sys::rte_dev_remove({ device }.0) }) {
            return;
        }
        if self.driver() == "net_memif" {
            // It leaves its listening socket's handle, which it has freed, with the interrupt thread: seen
            // with 22.11.11 as that thread's SIGSEGV in rte_intr_fd_get, called while rte_eal_cleanup unmaps
            // memory (12 of 40 processes).
            eal::keep();
        }
    }

    /// Whether a step of closing came to an end, which is told if it failed. What a driver that does not end may
    /// use stays.
    ///
    /// net_memif lets go of a peer that went on DPDK's interrupt thread, without a lock: stopped by another
    /// thread meanwhile, both unmap the peer's memory, the second time perhaps what was mapped there since
    /// (22.11.11: a thread's stack, in 19 of 50 processes whose peer was killed). So it is stopped there too.
    fn ends(&mut self, what: &str, step: impl FnOnce() -> c_int + Send + 'static) -> bool {
        let ended = if self.driver() == "net_memif" {
            let ended = eal::between_handlers(step).map(Call::of);
            ended.ok_or_else(|| "DPDK's interrupt thread does not answer".to_owned())
        } else {
            self.peer.wait(what, step)
        };
        match ended {
            Ok(call) => {
                if let Some(why) = &call.overdue {
                    tracing::warn!("{why}");
                }
                self.note(what, call.value);
                true
            }
            Err(why) => {
                self.leave(&why);
                false
            }
        }
    }

    /// Leaves the port open, and what it uses where it is, for good.
    fn leave(&mut self, why: &str) {
        let port = self.name.to_string_lossy();
        tracing::warn!(%port, "{why}: a port is left open, with its buffers");
        std::mem::forget(std::mem::take(&mut self.memory));
        eal::keep();
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

/// Frees what lies in the receive queues of a started port that nobody else uses: some drivers forget it when
/// they are closed.
fn drain(id: u16, queues: u16) {
    /// Bursts of a queue; traffic may go on.
    const MOST: usize = 256;
    let mut mbufs: [Mbuf; 32] = [null_mut(); 32];
    for queue in 0..queues {
        for _ in 0..MOST {
            // SAFETY: the port is started with this queue, and nobody else is left to use it.
            let count = unsafe { sys::rx_burst(id, queue, mbufs.as_mut_ptr(), 32) };
            if count == 0 {
                break;
            }
            rx::free(&mbufs[..usize::from(count).min(mbufs.len())]);
        }
    }
}
