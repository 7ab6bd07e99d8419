//! The library on an in-process wire, one thread, traffic that can be repeated: both kinds of
//! consumer and both paths read the same bytes.

use gpurx::{
    consumer::Tensor, exchange::Binding, flow::Flow, head::HeadReader, path::Path, place::Geometry,
    seq::SeqField, sink::Placed, totals::Totals, worker::Worker,
};
use mempool::{Burst, Cpu, Device, Pool, SplitBurst, SplitCache};
use memwire_apps::{
    idle::IdleMode,
    traffic::{Template, TestHeader},
};
use pmd::{Config, PostOrder, Queues, Registry, SplitAt, SplitConfig};
use providers::{Fake, Host};
use zerocopy::IntoBytes;

const ROW: usize = 200;
const FRAMES: u64 = 40_000;
const FAULTS: &str = "chaos:seed=7,tx.drop=1%,tx.reorder=1%,tx.dup=1%@";

/// Writes the frame with that number: its payload follows from it.
fn frame(template: &Template, headers: &[u8], seq: u64, is_foreign: bool, to: &mut [u8]) {
    let seed = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let payload: Vec<u8> = seed.iter().copied().cycle().take(ROW).collect();
    let (head, rest) = to.split_at_mut(headers.len());
    head.copy_from_slice(headers);
    if is_foreign {
        head[template.udp_at() + 3] ^= 1;
    }
    let (header, row) = rest.split_at_mut(TestHeader::LEN);
    header.copy_from_slice(TestHeader::new(seq, 0, &payload).as_bytes());
    row.copy_from_slice(&payload);
}

/// Sends everything over a wire with those faults, at the end that they name; returns what came of it
/// and the digest.
fn receive(path: Path, contiguous: bool, faults: &str, foreign_every: u64) -> (Totals, u32) {
    let (host, fake) = (Host::new(), Fake::new());
    let mut registry = Registry::new();
    let [rx_faults, tx_faults] = if faults.contains("rx.") { [faults, ""] } else { ["", faults] };
    let mut receiver = registry.open(&format!("{rx_faults}ring:t,size=64")).unwrap();
    let mut sender = registry.open(&format!("{tx_faults}ring:t,size=64")).unwrap();
    // No block is cut short because this machine had something else to do meanwhile.
    let deadline = 60_000_000_000;
    let geometry = Geometry { origin: Some(0), deadline, ..Geometry::of(64, contiguous) };
    let heads: Pool<Cpu> =
        Pool::builder().name("heads").slots(1024).stride(1024).memory(&host).build().unwrap();
    let data: Pool<Device> = Pool::builder()
        .name("payloads")
        .slots(geometry.slots(8))
        .stride(256)
        .memory(&fake)
        .build()
        .unwrap();
    let split = SplitConfig {
        heads: heads.clone(),
        data: data.clone(),
        at: SplitAt::Protocol { extra: SeqField::Memwire.extra() },
        post: PostOrder::App,
    };
    let config = Config { rx: vec![path.rx_config(&split, 64)], ..Config::default() };
    let queue = receiver.start(config).unwrap().rx.remove(0);
    let rx = path.wrap(queue, split, 64).unwrap();
    let flow = Flow { udp_port: Some(9000), ..Flow::default() };
    let reader = HeadReader::new(flow, SeqField::Memwire);
    let sink = Placed::new(reader, &data, (&geometry, 64), Box::new(Tensor::new(256))).unwrap();
    let cache = SplitCache::new(&heads, &data);
    let burst = SplitBurst::new(&heads, &data);
    let by_host = path == Path::Bounce;
    let binding = Binding { rx, cache, burst, sink: Box::new(sink), by_host, is_refuge: false };
    let mut worker = Worker::new(binding, IdleMode::Spin);

    let source: Pool<Cpu> =
        Pool::builder().name("source").slots(1024).stride(512).memory(&host).build().unwrap();
    let mut tx = sender.start(Config::default().with_tx(&source)).unwrap().tx.remove(0);
    let template = Template { payload_len: TestHeader::LEN + ROW, ..Template::default() };
    let headers = template.headers().unwrap();
    let (mut cache, mut burst) = (source.cache(), Burst::new(&source));
    let (mut seq, mut made) = (0, 0u64);
    while seq < FRAMES {
        if burst.is_empty() {
            let got = cache.take(&mut burst, 32);
            for at in 0..got {
                made += 1;
                let is_foreign = foreign_every > 0 && made.is_multiple_of(foreign_every);
                let mut view = burst.frame_mut(at);
                view.set_len(template.frame_len());
                frame(&template, &headers, seq, is_foreign, view.bytes_mut());
                seq += u64::from(!is_foreign);
            }
        }
        tx.send(&mut cache, &mut burst);
        while worker.poll() > 0 {}
    }
    burst.recycle(&mut cache);
    drop(cache);
    sender.stop(Queues { rx: Vec::new(), tx: vec![tx] }).unwrap();
    let stop = memwire_apps::Stop::new();
    stop.set();
    let finished = worker.run(&stop, None);
    assert_eq!(finished.fault, None);
    let stats = finished.rx.counters().snapshot();
    assert!(stats.is_balanced());
    assert_eq!(stats.delivered, finished.totals.frames(), "{:?}", finished.totals);
    drop(finished.rx);
    assert!(heads.audit().is_home() && data.audit().is_home(), "{}", data.audit());
    (finished.totals, finished.digest.unwrap())
}

#[test]
fn in_order_traffic_fills_every_block_and_moves_nothing() {
    for contiguous in [false, true] {
        let (totals, _) = receive(Path::Direct, contiguous, "", 0);
        assert_eq!((totals.ok, totals.complete, totals.partial), (FRAMES, FRAMES / 64, 0));
        assert_eq!((totals.rows_moved, totals.missing, totals.touched), (0, 0, 0));
    }
}

#[test]
fn whoever_follows_the_map_and_whoever_wants_a_tensor_reads_the_same_bytes() {
    let (mapped, expected) = receive(Path::Direct, false, FAULTS, 100);
    assert_eq!((mapped.rows_moved, mapped.bad, mapped.touched), (0, 0, 0));
    for count in [mapped.missing, mapped.reordered, mapped.duplicate, mapped.foreign] {
        assert!((FRAMES / 200..FRAMES / 50).contains(&count), "{mapped:?}");
    }
    let (contiguous, digest) = receive(Path::Direct, true, FAULTS, 100);
    assert!(contiguous.rows_moved > 0);
    assert_eq!(contiguous.touched, contiguous.rows_moved * ROW as u64);
    assert_eq!((digest, contiguous.rows), (expected, mapped.rows));
    for by_copy in [false, true] {
        let (bounced, digest) = receive(Path::Bounce, by_copy, FAULTS, 100);
        assert_eq!((digest, bounced.rows), (expected, mapped.rows), "the bounce path");
    }
}

#[test]
fn payload_buffers_of_frames_that_a_receiver_loses_are_not_waited_for() {
    // The app posts every buffer there is, in its order: one that went astray would be missed soon.
    let faults = "chaos:seed=7,rx.drop=5%,rx.drop.for=40,rx.reorder=5%,rx.exhaust=1%@";
    for contiguous in [false, true] {
        let (totals, _) = receive(Path::Direct, contiguous, faults, 0);
        assert_eq!((totals.bad, totals.invalid, totals.unsplit), (0, 0, 0));
        assert!(totals.rows < FRAMES / 2 && totals.rows > FRAMES / 10, "{totals:?}");
        assert!(totals.reordered > 100, "{totals:?}");
    }
}
