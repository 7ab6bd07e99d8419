//! From open to the end, and again.

use mempool::{SplitBurst, SplitCache};
use pmd::{AnyRxQueue, Config, Device, Health, RxMemory, SplitAt, e1000::Options};

use super::{
    CHIPS, MAC, Rig, both_ways, frame, pool, receive, send, split_config, split_pools, udp, whole,
};

#[test]
fn an_open_port_says_what_it_is() {
    for (chips, driver, queues) in [(CHIPS[0], "e1000e", 2), (CHIPS[1], "igb", 16)] {
        let rig = Rig::new(chips);
        let info = rig.port.info();
        assert_eq!((info.driver, info.mac), (driver, MAC));
        assert_eq!((info.capabilities.rx_queues, info.capabilities.max_frame), (queues, 9018));
        assert!(rig.port.link().is_up);
        assert_eq!(rig.port.link().speed_mbps, Some(1000));
        assert_eq!(rig.port.health(), Health::Good);
        assert_eq!(rig.model.violations(), Vec::<String>::new());
    }
}

#[test]
fn frames_pass_both_ways_and_every_buffer_is_home_after_the_stop() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut cache = pool.cache();
        let mut queues = rig.port.start(both_ways(&pool)).unwrap();
        for tag in 0..100 {
            rig.model.inject(&frame(MAC, tag, 60 + usize::from(tag)));
        }
        let got = receive(whole(&mut queues, 0), &mut cache);
        assert_eq!(got.len(), 100, "{chips:?}");
        assert!(
            got.iter().zip(0..).all(|(got, tag)| *got == frame(MAC, tag, 60 + usize::from(tag)))
        );
        for tag in 0..100 {
            send(&mut queues, &mut cache, &frame([2; 6], tag, 100));
        }
        assert_eq!(rig.model.sent().len(), 100);
        let (rx, tx, named) = rig.port.stats();
        assert_eq!((rx.delivered, tx.delivered), (100, 100));
        let named = |name: &str| named.iter().find(|(known, _)| known == name).map(|(_, n)| *n);
        assert_eq!((named("gprc"), named("gptc"), named("mpc")), (Some(100), Some(100), Some(0)));
        rig.port.stop(queues).unwrap();
        drop(cache);
        assert!(pool.audit().is_home(), "{chips:?}: {}", pool.audit());
        assert_eq!(rig.model.mappings().0, 0, "{chips:?}");
        assert_eq!(rig.model.violations(), Vec::<String>::new(), "{chips:?}");
    }
}

#[test]
fn what_was_counted_stays_counted_over_a_restart() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut cache = pool.cache();
        for turn in 1..=3 {
            let mut queues = rig.port.start(both_ways(&pool)).unwrap();
            rig.model.inject(&frame(MAC, 1, 64));
            assert_eq!(receive(whole(&mut queues, 0), &mut cache).len(), 1);
            rig.port.stop(queues).unwrap();
            let (rx, _, named) = rig.port.stats();
            assert_eq!(rx.delivered, turn);
            assert!(named.contains(&("gprc".to_owned(), turn)), "{chips:?}: {named:?}");
        }
    }
}

#[test]
fn a_split_queue_cuts_behind_the_transport_header() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let (heads, data) = split_pools();
        let mut cache = SplitCache::new(&heads, &data);
        let mut queues = rig.port.start(split_config(&heads, &data)).unwrap();
        rig.model.inject(&udp(1000, 1042));
        let AnyRxQueue::Split(queue) = &mut queues.rx[0] else { panic!("whole frames") };
        let mut burst = SplitBurst::with_limit(&heads, &data, 32);
        assert_eq!(queue.recv(&mut cache, &mut burst), 1, "{chips:?}");
        let frame = burst.iter().next().unwrap();
        assert_eq!(frame.head.bytes(), &udp(1000, 1042)[..42]);
        assert_eq!(frame.data.map(|data| data.len()), Some(1000));
        burst.recycle(&mut cache);
        rig.port.stop(queues).unwrap();
        drop((cache, burst));
        assert!(heads.audit().is_home() && data.audit().is_home(), "{chips:?}");
        assert_eq!(rig.model.violations(), Vec::<String>::new(), "{chips:?}");
    }
}

#[test]
fn a_port_can_be_stopped_and_started_a_hundred_times() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut cache = pool.cache();
        for turn in 0..100 {
            let mut queues = rig.port.start(both_ways(&pool)).unwrap();
            rig.model.inject(&frame(MAC, turn, 64));
            assert_eq!(receive(whole(&mut queues, 0), &mut cache), [frame(MAC, turn, 64)]);
            send(&mut queues, &mut cache, &frame([2; 6], turn, 64));
            rig.port.stop(queues).unwrap();
            assert_eq!(rig.model.mappings().0, 0, "{chips:?}: mappings pile up");
        }
        assert_eq!(rig.model.sent().len(), 100);
        assert_eq!(rig.model.violations(), Vec::<String>::new(), "{chips:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_leaves_the_port_as_it_was() {
    for (chips, split) in CHIPS.into_iter().zip(["e1000e", "igb"]) {
        let mut rig = Rig::new(chips);
        let before = rig.model.accesses();
        let (heads, data) = split_pools();
        let length = Config::default().split(&heads, &data, SplitAt::Length(64));
        let error = rig.port.start(length).err().unwrap().to_string();
        let wanted = format!("the {split} driver cuts frames by protocol only");
        assert!(error.contains(&wanted), "{error}");
        let pool = pool(512);
        let error = rig.port.start(Config::one_queue(&pool).rings(8192)).err().unwrap().to_string();
        assert!(error.contains("ring of 8192 descriptors"), "{error}");
        assert_eq!(rig.model.accesses(), before, "nothing was touched");
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        let error = rig.port.start(both_ways(&pool)).err().unwrap().to_string();
        assert!(error.contains("already started"), "{error}");
        rig.port.stop(queues).unwrap();
    }
}

#[test]
fn the_82574_has_one_form_for_both_of_its_queues() {
    let mut rig = Rig::new(CHIPS[0]);
    let (pool, (heads, data)) = (pool(512), split_pools());
    let mixed = split_config(&heads, &data).with_rx(RxMemory::Whole(pool)).rings(64);
    let error = rig.port.start(mixed).err().unwrap().to_string();
    assert!(error.contains("one form for both receive queues"), "{error}");
}

#[test]
fn queues_that_did_not_come_back_give_their_buffers_home_when_they_end() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut queues = rig.port.start(both_ways(&pool)).unwrap();
        let late = queues.rx.remove(0);
        rig.port.stop(queues).unwrap();
        assert!(!pool.audit().is_home());
        drop(late);
        assert!(pool.audit().is_home(), "{}", pool.audit());
    }
}

#[test]
fn a_long_frame_comes_as_a_chain_where_it_is_let_in() {
    for chips in CHIPS {
        for (max_frame, come) in [(None, 1), (Some(1518), 0)] {
            let mut rig = Rig::with(chips, Options { max_frame, ..Options::default() });
            let pool = pool(512);
            let mut cache = pool.cache();
            let mut queues = rig.port.start(both_ways(&pool)).unwrap();
            rig.model.inject(&frame(MAC, 7, 9018));
            let mut burst = mempool::Burst::with_limit(&pool, 32);
            let got = whole(&mut queues, 0).recv(&mut cache, &mut burst);
            assert_eq!(got, come, "{chips:?} {max_frame:?}");
            assert!(burst.iter().all(|frame| frame.frame_len() == 9018));
            burst.recycle(&mut cache);
            rig.port.stop(queues).unwrap();
        }
    }
}
