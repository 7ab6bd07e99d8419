//! Whose frames are let in, and to which queue they go.

use mempool::Offload;
use pmd::{Config, Device, Rss, RxMemory};

use super::{CHIPS, MAC, Rig, both_ways, frame, pool, receive, udp, whole};

const OTHER: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb];
const STRANGE_GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x11, 0x22, 0x33];
const BROADCAST: [u8; 6] = [0xff; 6];

/// Which of the four kinds of frame are let in by a configuration.
fn let_in(config: impl Fn(Config) -> Config) -> Vec<Vec<[u8; 6]>> {
    CHIPS
        .into_iter()
        .map(|chips| {
            let mut rig = Rig::new(chips);
            let pool = pool(512);
            let mut cache = pool.cache();
            let mut queues = rig.port.start(config(both_ways(&pool))).unwrap();
            for to in [MAC, OTHER, GROUP, STRANGE_GROUP, BROADCAST] {
                rig.model.inject(&frame(to, 1, 64));
            }
            let got = receive(whole(&mut queues, 0), &mut cache);
            rig.port.stop(queues).unwrap();
            assert_eq!(rig.model.violations(), Vec::<String>::new());
            got.iter().map(|frame| frame[..6].try_into().unwrap()).collect()
        })
        .collect()
}

#[test]
fn without_being_asked_a_port_takes_its_own_frames_and_broadcasts() {
    assert_eq!(let_in(|config| config), [[MAC, BROADCAST]; 2]);
}

#[test]
fn further_stations_and_groups_are_let_in_by_address() {
    let further = |config| Config { addresses: vec![OTHER, GROUP], ..config };
    assert_eq!(let_in(further), [[MAC, OTHER, GROUP, BROADCAST]; 2]);
}

#[test]
fn promiscuous_and_all_multicast_ports_do_not_ask_for_whom() {
    let all = [MAC, OTHER, GROUP, STRANGE_GROUP, BROADCAST];
    assert_eq!(let_in(|config| Config { promiscuous: true, ..config }), [all; 2]);
    let groups = [MAC, GROUP, STRANGE_GROUP, BROADCAST];
    assert_eq!(let_in(|config| Config { all_multicast: true, ..config }), [groups; 2]);
}

#[test]
fn the_last_station_of_a_full_filter_is_let_in_and_one_more_is_refused() {
    for (chips, most) in CHIPS.into_iter().zip([14, 23]) {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut cache = pool.cache();
        let station = |at: u8| [2, 0, 0, 0, 1, at];
        let mut config = both_ways(&pool);
        config.addresses = (0..=most).map(station).collect();
        let error = rig.port.start(config.clone()).err().unwrap().to_string();
        assert!(error.contains(&format!("it filters for {most}")), "{error}");
        config.addresses.pop();
        let mut queues = rig.port.start(config).unwrap();
        rig.model.inject(&frame(station(most - 1), 1, 64));
        rig.model.inject(&frame(station(most), 1, 64));
        assert_eq!(receive(whole(&mut queues, 0), &mut cache).len(), 1, "{chips:?}");
        rig.port.stop(queues).unwrap();
    }
}

#[test]
fn a_tag_is_taken_out_where_it_was_asked_for() {
    for chips in CHIPS {
        for (offloads, len) in [(Offload::NONE, 68), (Offload::RX_VLAN_STRIPPED, 64)] {
            let mut rig = Rig::new(chips);
            let pool = pool(512);
            let mut cache = pool.cache();
            let config = Config { rx_offloads: offloads, ..both_ways(&pool) };
            let mut queues = rig.port.start(config).unwrap();
            let mut tagged = frame(MAC, 1, 64);
            tagged.splice(12..12, [0x81, 0x00, 0x00, 0x2a]);
            rig.model.inject(&tagged);
            let mut burst = mempool::Burst::with_limit(&pool, 32);
            assert_eq!(whole(&mut queues, 0).recv(&mut cache, &mut burst), 1);
            let got = burst.iter().next().unwrap();
            assert_eq!(got.len(), len, "{chips:?}");
            if len == 64 {
                assert_eq!(got.meta().vlan(), 0x2a, "{chips:?}");
            }
            burst.recycle(&mut cache);
            rig.port.stop(queues).unwrap();
        }
    }
}

#[test]
fn flows_are_spread_over_the_queues_and_a_table_sends_them_to_one() {
    for chips in CHIPS {
        let pool = pool(4096);
        for (table, all_in_one) in [(Vec::new(), false), (vec![1], true)] {
            let mut rig = Rig::new(chips);
            let mut cache = pool.cache();
            let mut config = both_ways(&pool).with_rx(RxMemory::Whole(pool.clone())).rings(256);
            config.rss = Some(Rss { table, ..Rss::default() });
            let mut queues = rig.port.start(config).unwrap();
            for port in 0..100u16 {
                let mut flow = udp(port, 100);
                // The 82574 hashes no ports, so addresses differ too.
                flow[29] = port.to_le_bytes()[0];
                rig.model.inject(&flow);
            }
            let got = [0, 1].map(|at| receive(whole(&mut queues, at), &mut cache).len());
            assert_eq!(got[0] + got[1], 100, "{chips:?}");
            assert_eq!(got[0] == 0, all_in_one, "{chips:?}: {got:?}");
            assert!(got[1] > 20, "{chips:?}: {got:?}");
            rig.port.stop(queues).unwrap();
        }
    }
}
