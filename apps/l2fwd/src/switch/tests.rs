//! A switch of ring wires on one thread, held against a model that is a map and a page of rules.

use std::{collections::HashMap, sync::mpsc};

use mempool::{Pool, heap::Heap};
use memwire_apps::idle::IdleMode;
use pmd::{AnyRxQueue, Config, Device, Queues, Registry, RxQueue, TxQueue};
use proptest::prelude::*;

use super::*;
use crate::{
    mailbox::{Post, Share},
    tally::PortCounts,
    vlan::PortVlan,
    worker::{Plane, Worker},
};

const PORTS: usize = 4;
const AGEING: Duration = Duration::from_secs(10);

/// The other end of one of the switch's wires.
struct Host {
    device: Box<dyn Device>,
    tx: Box<dyn TxQueue>,
    rx: Box<dyn RxQueue>,
}

/// One worker, its ports, and a host at each.
struct Rig {
    worker: Worker,
    _posts: Vec<Post>,
    fabric: Arc<Fabric>,
    devices: Vec<Box<dyn Device>>,
    hosts: Vec<Host>,
    pool: Pool<Cpu>,
    rests: Vec<f64>,
}

/// The only queue pair.
fn pair(mut queues: Queues) -> (Box<dyn RxQueue>, Box<dyn TxQueue>) {
    let rx = queues.rx.pop().and_then(AnyRxQueue::whole).unwrap();
    (rx, queues.tx.pop().unwrap())
}

impl Rig {
    fn new(vlans: &[&str], storm: Option<StormRate>, passes_reserved: bool, mirror: bool) -> Self {
        let members = |port| {
            let mut named = vlans.iter().map(|text| text.parse::<PortVlan>().unwrap());
            named.find(|vlan| vlan.port == port).map(|vlan| vlan.membership).unwrap_or_default()
        };
        let vlans = (!vlans.is_empty()).then(|| (0..PORTS).map(members).collect());
        let fdb = Fdb::new(64, AGEING);
        let fabric = Arc::new(Fabric::new(PORTS, fdb, vlans, storm, passes_reserved));
        let pool = Pool::builder().slots(4096).shareable().memory(&Heap::new()).build().unwrap();
        let plane = Plane::Switch(Switch::new(&fabric, PORTS, 32));
        let (give_back, _) = mpsc::channel();
        let (mut worker, post) =
            Worker::new(plane, PORTS, mirror, &pool, 32, IdleMode::Spin, &give_back);
        let mut registry = Registry::new();
        let (mut devices, mut hosts) = (Vec::new(), Vec::new());
        for port in 0..PORTS + usize::from(mirror) {
            let mut device = registry.open(&format!("ring:w{port}")).unwrap();
            let (rx, tx) = pair(device.start(Config::one_queue(&pool)).unwrap());
            let rx = if port < PORTS { vec![rx] } else { Vec::new() };
            worker.assign(port, Share { rx, tx: Some(tx) }, [0; 6], true);
            devices.push(device);
            let mut device = registry.open(&format!("ring:w{port}")).unwrap();
            let (rx, tx) = pair(device.start(Config::one_queue(&pool)).unwrap());
            hosts.push(Host { device, tx, rx });
        }
        Self { worker, _posts: vec![post], fabric, devices, hosts, pool, rests: Vec::new() }
    }

    /// Has a host send frames, in one burst.
    fn send(&mut self, host: usize, frames: &[Vec<u8>]) {
        let (mut cache, mut burst) = (self.pool.cache(), Burst::new(&self.pool));
        for bytes in frames {
            let mut buf = cache.take_one().unwrap();
            assert!(buf.frame_mut().append(bytes));
            burst.push(buf);
        }
        assert_eq!(self.hosts[host].tx.send(&mut cache, &mut burst), frames.len());
        assert!(burst.is_empty());
    }

    /// Has the worker serve everything once; returns what arrives at each host, in order.
    fn round(&mut self) -> Vec<Vec<Vec<u8>>> {
        self.worker.round();
        let (mut cache, mut burst) = (self.pool.cache(), Burst::with_limit(&self.pool, 512));
        let mut arrived = Vec::new();
        for host in &mut self.hosts {
            host.rx.recv(&mut cache, &mut burst);
            let bytes = |frame: mempool::Frame<'_, Cpu>| {
                frame.segments().flat_map(|segment| segment.bytes().to_vec()).collect()
            };
            arrived.push(burst.iter().map(bytes).collect());
            burst.recycle(&mut cache);
        }
        arrived
    }

    fn set_time(&mut self, now: Duration) {
        self.fabric.set_time(now, &mut self.rests);
    }

    fn counts(&self, port: usize) -> PortCounts {
        let tally = self.worker.tally();
        PortCounts::sum(std::iter::once(&**tally), port)
    }

    /// Ends all; every buffer must be home.
    fn end(self) {
        let Self { worker, mut devices, hosts, pool, .. } = self;
        drop(worker);
        for mut host in hosts {
            drop((host.tx, host.rx));
            host.device.stop(Queues::default()).unwrap();
        }
        devices.iter_mut().for_each(|device| device.stop(Queues::default()).unwrap());
        drop(devices);
        let audit = pool.audit();
        assert_eq!(audit.free + audit.cached, audit.capacity, "{audit:?}");
    }
}

fn mac(station: u8) -> [u8; 6] {
    match station {
        0xff => [0xff; 6],
        0xfe => [0x01, 0x00, 0x5e, 0, 0, 1],
        0xfd => [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        0xfc => [0; 6],
        number => [2, 0, 0, 0, 0, number],
    }
}

/// A frame with a number in it; `tag` is a whole TCI.
fn frame(dst: u8, src: u8, tag: Option<u16>, number: u32) -> Vec<u8> {
    let mut frame = [mac(dst), mac(src)].concat();
    if let Some(tci) = tag {
        frame.extend([0x81, 0x00]);
        frame.extend(tci.to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// What the switch should do, as plainly as it can be said.
#[derive(Default)]
struct Model {
    stations: HashMap<(u16, [u8; 6]), (usize, Duration)>,
    vlans: Option<Vec<Rules>>,
    passes_reserved: bool,
}

/// A port of the model: the VLAN of untagged frames, and those of tagged ones.
#[derive(Clone)]
struct Rules {
    untagged: Option<u16>,
    tagged: Vec<u16>,
}

impl Rules {
    fn has(&self, vid: u16) -> bool {
        self.untagged == Some(vid) || self.tagged.contains(&vid)
    }
}

#[derive(Clone, Debug)]
struct Packet {
    from: usize,
    dst: u8,
    src: u8,
    tag: Option<u16>,
}

impl Model {
    /// At which ports the packet leaves, each with what tag.
    fn forward(&mut self, packet: &Packet, now: Duration) -> Vec<(usize, Option<u16>)> {
        let Packet { from, dst, src, tag } = *packet;
        let priority = tag.unwrap_or(0) & 0xf000;
        let mut vlan = 0;
        if let Some(rules) = &self.vlans {
            let rules = &rules[from];
            let found = match tag.map(|tci| tci & 0xfff) {
                None | Some(0) => rules.untagged,
                Some(vid) => Some(vid).filter(|vid| rules.has(*vid)),
            };
            let Some(vid) = found else { return Vec::new() };
            vlan = vid;
        }
        if dst == 0xfd && !self.passes_reserved {
            return Vec::new();
        }
        if mac(src)[0] & 1 == 0 && mac(src) != [0; 6] {
            self.stations.insert((vlan, mac(src)), (from, now));
        }
        let known = self.stations.get(&(vlan, mac(dst)));
        let known = known.filter(|(_, seen)| now - *seen <= AGEING && mac(dst)[0] & 1 == 0);
        let leaves: Vec<_> = match known {
            Some((port, _)) => vec![*port],
            None => (0..PORTS).collect(),
        };
        let mut out = Vec::new();
        for port in leaves.into_iter().filter(|port| *port != from) {
            match &self.vlans {
                None => out.push((port, tag)),
                Some(rules) if !rules[port].has(vlan) => {}
                Some(rules) if rules[port].untagged == Some(vlan) => out.push((port, None)),
                Some(_) => out.push((port, Some(priority | vlan))),
            }
        }
        out
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<Packet>),
    Wait(u64),
    PortGoes(usize),
}

fn packet() -> impl Strategy<Value = Packet> {
    let address = prop_oneof![12 => 1_u8..10, 1 => Just(0xff), 1 => Just(0xfe), 1 => Just(0xfd)];
    let source = prop_oneof![12 => 1_u8..10, 1 => Just(0xfe), 1 => Just(0xfc)];
    let vid = prop_oneof![Just(0_u16), Just(1), Just(10), Just(20), Just(30)];
    let tag = proptest::option::of((vid, 0_u16..16).prop_map(|(vid, top)| top << 12 | vid));
    (0..PORTS, address, source, tag).prop_map(|(from, dst, src, tag)| Packet {
        from,
        dst,
        src,
        tag,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(packet(), 1..24).prop_map(Step::Send),
        2 => (0_u64..12_000).prop_map(Step::Wait),
        1 => (0..PORTS).prop_map(Step::PortGoes),
    ]
}

const VLANS: [&str; 3] = ["0:access=10", "1:trunk=10,20", "2:trunk=20,native=10"];

fn rules() -> Vec<Rules> {
    let rules = |untagged, tagged: &[u16]| Rules { untagged, tagged: tagged.to_vec() };
    vec![rules(Some(10), &[]), rules(None, &[10, 20]), rules(Some(10), &[20]), rules(Some(1), &[])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Exactly the frames that the model says leave, in order, bit by bit; every frame is counted,
    /// and every buffer comes home.
    #[test]
    fn the_switch_does_what_the_model_does(
        steps in proptest::collection::vec(step(), 1..40),
        has_vlans: bool,
        passes_reserved: bool,
        has_mirror: bool,
    ) {
        let vlans: &[&str] = if has_vlans { &VLANS } else { &[] };
        let mut rig = Rig::new(vlans, None, passes_reserved, has_mirror);
        let mut model =
            Model { vlans: has_vlans.then(rules), passes_reserved, ..Model::default() };
        let (mut now, mut number) = (Duration::ZERO, 0);
        for step in steps {
            match step {
                Step::Send(packets) => {
                    // All of one host's before those of the next, as the worker serves them.
                    let mut expected = vec![Vec::new(); PORTS + usize::from(has_mirror)];
                    for from in 0..PORTS {
                        let mut burst = Vec::new();
                        for packet in packets.iter().filter(|packet| packet.from == from) {
                            number += 1;
                            let bytes = |tag| frame(packet.dst, packet.src, tag, number);
                            let sent = bytes(packet.tag);
                            for (port, tag) in model.forward(packet, now) {
                                let mut left = bytes(tag);
                                // A tag that goes shortens the frame, one that comes makes it longer.
                                let tags = [tag, packet.tag].map(|tag| 4 * usize::from(tag.is_some()));
                                left.resize(60 + tags[0] - tags[1], 0);
                                expected[port].push(left);
                            }
                            if has_mirror {
                                expected[PORTS].push(sent.clone());
                            }
                            burst.push(sent);
                        }
                        rig.send(from, &burst);
                    }
                    prop_assert_eq!(rig.round(), expected);
                }
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    rig.set_time(now);
                    if ms % 2 == 0 {
                        rig.fabric.fdb.age(rig.fabric.now_ms());
                    }
                }
                Step::PortGoes(port) => {
                    rig.fabric.fdb.flush(u16::try_from(port).unwrap());
                    model.stations.retain(|_, (at, _)| *at != port);
                }
            }
        }
        let (mut received, mut counted) = (0, 0);
        for port in 0..PORTS {
            let counts = rig.counts(port);
            received += rig.devices[port].stats().0.delivered;
            counted += counts.forwarded + counts.flooded + counts.dropped();
            prop_assert_eq!(counts.handed, rig.devices[port].stats().1.offered + counts.unsent());
        }
        prop_assert_eq!((received, counted), (u64::from(number), u64::from(number)));
        rig.end();
    }
}

#[test]
fn flooded_frames_are_held_to_the_rate_and_known_stations_are_not() {
    let mut rig = Rig::new(&[], Some("100pps".parse().unwrap()), false, false);
    // Ten are saved up; station 1 is known from its first.
    let burst: Vec<_> = (0..30).map(|number| frame(0xff, 1, None, number)).collect();
    rig.send(0, &burst);
    assert_eq!(rig.round()[2].len(), 10);
    assert_eq!(rig.counts(0).drops_report().0["storm"], 20);
    rig.send(1, &burst);
    assert_eq!(rig.round()[2].len(), 10, "each port has its own rate");
    let burst: Vec<_> = (0..30).map(|number| frame(1, 2, None, number)).collect();
    rig.send(2, &burst);
    let arrived = rig.round();
    assert_eq!((arrived[0].len(), arrived[1].len()), (0, 30), "station 1 has moved to port 1");
    rig.set_time(Duration::from_millis(50));
    rig.send(0, &[frame(9, 3, None, 0), frame(9, 3, None, 1)]);
    assert_eq!(rig.round()[3].len(), 2);
    rig.end();
}

#[test]
fn frames_to_where_they_came_from_and_runts_are_counted() {
    let mut rig = Rig::new(&[], None, false, false);
    rig.send(0, &[frame(0xff, 1, None, 0), frame(1, 2, None, 1), vec![2; 13]]);
    assert_eq!(rig.round().iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1, 1]);
    let drops = rig.counts(0).drops_report();
    assert_eq!((drops.0["same_port"], drops.0["runt"]), (1, 1));
    rig.end();
}

#[test]
fn what_a_port_has_no_room_for_is_dropped_at_that_port_alone() {
    let mut rig = Rig::new(&[], None, false, false);
    // Host 3 takes nothing until its wire of 1024 is full.
    let burst: Vec<_> = (0..32).map(|number| frame(0xff, 1, None, number)).collect();
    let (mut cache, mut at_1) = (rig.pool.cache(), 0);
    for _ in 0..40 {
        rig.send(0, &burst);
        rig.worker.round();
        for host in [1, 2] {
            let mut taken = Burst::with_limit(&rig.pool, 512);
            rig.hosts[host].rx.recv(&mut cache, &mut taken);
            at_1 += taken.len() * (2 - host);
            taken.recycle(&mut cache);
        }
    }
    drop(cache);
    assert_eq!(at_1, 40 * 32);
    let counts = rig.counts(3);
    let full = counts.unsent_report().0["no_room"];
    assert_eq!(full + rig.devices[3].stats().1.delivered, 40 * 32);
    assert!(full >= 200, "{full}");
    assert_eq!(rig.counts(1).unsent(), 0);
    rig.end();
}
