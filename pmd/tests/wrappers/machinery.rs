//! What every wrapper gets from the machinery: names, nesting, queues that come home.

use std::sync::atomic::Ordering;

use mempool::Burst;
use pmd::{
    AnyRxQueue, Config, Device, Health, Queues, Registry, RxMemory,
    wrap::{WrapSpec, Wrapped, Wrapper},
};

use proptest::prelude::*;

use crate::rig::{Counted, ends, pool, refusal};

fn wrapper(name: &str) -> &'static Wrapper {
    let mut wrappers = Registry::wrappers().iter();
    wrappers.find(|wrapper| wrapper.name == name).unwrap_or_else(|| panic!("no wrapper {name}"))
}

/// A wrapper's spec that changes nothing.
fn neutral(name: &str, inner: &str) -> WrapSpec {
    let options = match name {
        "trace" => "/dev/null",
        "capture" => "/dev/null",
        _ => "",
    };
    WrapSpec { name: name.into(), options: options.into(), inner: inner.into() }
}

#[test]
fn every_wrapper_brings_the_inner_queues_home_when_it_is_stopped() {
    let pool = pool(256);
    for wrapper in Registry::wrappers() {
        let port = Counted::new();
        let returned = port.returned.clone();
        let layer = (wrapper.layer)(&neutral(wrapper.name, "null:")).unwrap();
        let mut device = Wrapped::new(wrapper.name, layer, Box::new(port)).unwrap();
        for round in 1..=3 {
            let queues = device.start(Config::one_queue(&pool).with_tx(&pool)).unwrap();
            device.stop(queues).unwrap();
            assert_eq!(returned.load(Ordering::Relaxed), round * 3, "{}", wrapper.name);
        }
        // Queues that do not come back stay away: they ended where they were dropped.
        drop(device.start(Config::one_queue(&pool)).unwrap());
        device.stop(Queues::default()).unwrap();
        assert_eq!(returned.load(Ordering::Relaxed), 9, "{}", wrapper.name);
        assert!(pool.audit().is_home());
    }
}

#[test]
fn a_wrapped_queue_that_is_dropped_ends_the_wire_as_a_bare_one_does() {
    let pool = pool(256);
    for wrapper in Registry::wrappers() {
        let neutral = neutral(wrapper.name, "ring:a");
        let spec = format!("{}:{}@ring:a", neutral.name, neutral.options);
        let mut ends = ends(&spec, "ring:a", &pool, RxMemory::Whole(pool.clone()));
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        cache.take(&mut burst, 3);
        assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 3);
        ends.tx = Queues::default();
        assert_eq!(ends.whole().recv(&mut cache, &mut burst), 3);
        assert_eq!(ends.receiver.health(), Health::Ended, "{}", wrapper.name);
    }
}

#[test]
fn a_port_counts_the_same_behind_wrappers_that_change_nothing() {
    let through = |around: &str| {
        let (rx_pool, tx_pool) = (pool(64), pool(64));
        let mut device = Registry::new().open(&format!("{around}null:,size=1000")).unwrap();
        let memory = RxMemory::Whole(rx_pool.clone());
        let mut queues = device.start(Config::default().with_rx(memory).with_tx(&tx_pool)).unwrap();
        let mut rx = queues.rx.remove(0).whole().unwrap();
        // More than the pool has: a part is dropped for want of buffers.
        let (mut cache, mut burst) = (rx_pool.cache(), Burst::with_limit(&rx_pool, 100));
        assert_eq!(rx.recv(&mut cache, &mut burst), 64);
        let received = rx.counters().snapshot();
        let (mut cache, mut out) = (tx_pool.cache(), Burst::new(&tx_pool));
        cache.take(&mut out, 20);
        assert_eq!(queues.tx[0].send(&mut cache, &mut out), 20);
        let sent = queues.tx[0].counters().snapshot();
        assert_eq!(device.stats().0, received);
        assert_eq!(device.stats().1, sent);
        drop((burst, out));
        queues.rx.push(AnyRxQueue::Whole(rx));
        device.stop(queues).unwrap();
        assert_eq!((device.stats().0, device.stats().1), (received, sent), "{around}");
        (received, sent)
    };
    let bare = through("");
    assert_eq!((bare.0.offered, bare.0.delivered, bare.1.delivered), (100, 64, 20));
    for around in
        ["trace:/dev/null@", "chaos:@", "chaos:drop#1000000000@", "trace:/dev/null@chaos:flip=0@"]
    {
        assert_eq!(through(around), bare, "{around}");
    }
}

#[test]
fn wrappers_nest_and_the_port_is_named_by_all_of_it() {
    let spec = "trace:/dev/null,every=2@trace:/dev/null@ring:a,size=64";
    let mut device = Registry::new().open(spec).unwrap();
    assert_eq!(device.info().port, spec);
    assert_eq!(device.info().driver, "ring");
    let pool = pool(256);
    let queues = device.start(Config::one_queue(&pool)).unwrap();
    device.stop(queues).unwrap();
    let mut deep = "trace:/dev/null@".repeat(8);
    deep.push_str("null:");
    assert!(Registry::new().open(&deep).is_ok());
    let error = refusal(&format!("trace:/dev/null@{deep}")).to_string();
    assert!(error.contains("more than 8 wrappers around one port"), "{error}");
}

#[test]
fn a_wrapper_needs_a_port_and_a_slip_in_its_name_is_met_with_the_right_one() {
    for spec in ["trace:", "trace:file.txt", "trace:every=2"] {
        let error = refusal(spec).to_string();
        let form = "trace goes around a port, which stands behind an '@': trace:[FILE|-]";
        assert!(error.contains(form), "{error}");
        assert!(error.starts_with(&format!("port '{spec}'")), "{error}");
    }
    let error = refusal("trcae:every=2,every=2@ring:a");
    assert!(
        error.to_string().contains("unknown driver 'trcae' (did you mean 'trace'?)"),
        "{error}"
    );
    assert!(error.to_string().contains("around a port: "), "{error}");
    assert!(error.is_usage());
    let error = refusal("trace:@rinf:a").to_string();
    assert!(error.contains("unknown driver 'rinf' (did you mean 'ring'?)"), "{error}");
    let error = refusal("trace:@").to_string();
    assert!(error.contains("the spec is empty"), "{error}");
    // Without options the name may end at the '@'.
    let device = Registry::new().open("trace@null:a").unwrap();
    assert_eq!(device.info().port, "trace:@null:a");
}

#[test]
fn wrapper_entries_explain_themselves() {
    for wrapper in Registry::wrappers() {
        assert!(wrapper.usage.starts_with(&format!("{}:", wrapper.name)));
        assert!(wrapper.usage.ends_with("@SPEC") && wrapper.about.len() > 20);
    }
    assert_eq!(wrapper("trace").name, "trace");
}

#[test]
fn clones_of_a_registry_share_wires_and_claims() {
    let mut first = Registry::new();
    let mut second = first.clone();
    let pool = pool(64);
    let mut sender = first.open("ring:a").unwrap();
    let mut receiver =
        std::thread::spawn(move || (second.open("ring:a").unwrap(), second)).join().unwrap();
    let error = receiver.1.open("ring:a").err().expect("a third end").to_string();
    assert!(error.contains("a wire has two ends"), "{error}");
    let mut tx = sender.start(Config::default().with_tx(&pool)).unwrap();
    let config = Config::default().with_rx(RxMemory::Whole(pool.clone()));
    let mut rx = receiver.0.start(config).unwrap().rx.remove(0).whole().unwrap();
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 5);
    assert_eq!(tx.tx[0].send(&mut cache, &mut burst), 5);
    assert_eq!(rx.recv(&mut cache, &mut burst), 5);
}

proptest! {
    /// Of the wrappers only the one that writes no file.
    #[test]
    fn no_spec_makes_the_registry_panic(words in proptest::collection::vec(proptest::sample::select(vec![
        "chaos", "null", "ring", ":", "@", ",", "=", "a", "hex", "seed", "rx.drop",
        "1%", "#", "5", "\u{e9}", "size", "64", "every", ";", " ",
    ]), 0..16)) {
        let _any = Registry::new().open(&words.concat());
    }
}
