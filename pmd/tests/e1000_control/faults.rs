//! What a port says when its device does not do as the datasheet says.

use pmd::{
    Device, DropReason, Health,
    e1000::{
        Options,
        model::{self, Faults, Model},
    },
};

use super::{CHIPS, MAC, Rig, both_ways, frame, open, pool, receive, whole};

#[test]
fn a_device_that_is_gone_cannot_be_opened() {
    for (chip, kind) in CHIPS {
        let model = Model::new(model::Options::new(kind));
        model.unplug();
        let error = open(chip, &model, Options::default()).err().unwrap().to_string();
        assert_eq!(error, format!("port 'pci:{chip:?}': device gone (0xffffffff)"));
    }
}

#[test]
fn a_reset_that_never_ends_has_a_limit() {
    for (chip, kind) in CHIPS {
        let model = Model::new(model::Options::new(kind));
        model.set_faults(Faults { reset_sticks: true, ..Faults::default() });
        let error = open(chip, &model, Options::default()).err().unwrap().to_string();
        assert_eq!(error, format!("port 'pci:{chip:?}': start: reset timeout 1000 ms"));
    }
}

#[test]
fn a_reset_that_never_ends_costs_the_buffers_that_the_device_has() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        rig.model.set_faults(Faults { reset_sticks: true, ..Faults::default() });
        let error = rig.port.stop(queues).unwrap_err().to_string();
        assert!(error.contains("reset timeout 1000 ms"), "{error}");
        let audit = pool.audit();
        assert!(!audit.is_home() && audit.leaked > 0, "{audit}");
        assert_eq!(rig.port.health(), Health::Faulted("reset timeout 1000 ms".into()));
        let error = rig.port.start(both_ways(&pool)).err().unwrap().to_string();
        assert!(error.contains("reset timeout 1000 ms"), "{error}");
    }
}

#[test]
fn an_address_that_is_none_is_replaced_by_one_of_our_own() {
    for (chip, kind) in CHIPS {
        for mac in [[0; 6], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1]] {
            let model = Model::new(model::Options::new(kind).mac(mac));
            let mut port = open(chip, &model, Options::default()).unwrap();
            let taken = port.info().mac;
            assert_eq!(taken[0] & 3, 2, "{taken:02x?} is a station's, locally administered");
            // It is the one that frames are let in for.
            let pool = pool(512);
            let mut cache = pool.cache();
            let mut queues = port.start(both_ways(&pool)).unwrap();
            model.inject(&frame(taken, 1, 64));
            assert_eq!(receive(whole(&mut queues, 0), &mut cache).len(), 1);
            port.stop(queues).unwrap();
        }
    }
}

#[test]
fn a_queue_that_does_not_come_up_ends_the_start_and_costs_nothing() {
    let mut rig = Rig::new(CHIPS[1]);
    let pool = pool(512);
    rig.model.set_faults(Faults { enable_sticks: true, ..Faults::default() });
    let error = rig.port.start(both_ways(&pool)).err().unwrap().to_string();
    assert!(error.contains("receive queue 0 did not change its state in 100 ms"), "{error}");
    assert!(pool.audit().is_home(), "{}", pool.audit());
    rig.model.set_faults(Faults::default());
    let queues = rig.port.start(both_ways(&pool)).unwrap();
    rig.port.stop(queues).unwrap();
}

#[test]
fn what_the_system_says_of_a_device_is_its_health() {
    for chips in CHIPS {
        let rig = Rig::new(chips);
        rig.model.report_error();
        let faulted = Health::Faulted("PCIe error reported by the bus".into());
        assert_eq!(rig.port.health(), faulted);
        assert_eq!(rig.port.health(), faulted, "it stays so");
        rig.model.ask_for_removal();
        assert!(matches!(rig.port.health(), Health::Removed(_)));
        let rig = Rig::new(chips);
        rig.model.unplug();
        assert_eq!(rig.port.health(), Health::Removed("device gone (0xffffffff)".into()));
        assert!(!rig.port.link().is_up);
    }
}

#[test]
fn a_port_that_the_bus_reported_an_error_of_is_good_again_after_a_restart() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        rig.model.report_error();
        assert!(matches!(rig.port.health(), Health::Faulted(_)));
        rig.port.stop(queues).unwrap();
        assert_eq!(rig.port.health(), Health::Good);
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        rig.port.stop(queues).unwrap();
    }
}

#[test]
fn a_device_that_is_pulled_out_gives_its_buffers_back() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        rig.model.unplug();
        rig.port.stop(queues).unwrap();
        assert!(pool.audit().is_home(), "{}", pool.audit());
        let (_, _, named) = rig.port.stats();
        assert!(named.iter().all(|(_, count)| *count < 1000), "all ones are no figures: {named:?}");
    }
}

#[test]
fn frames_that_the_chip_had_no_room_for_are_drops_of_the_device() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let mut cache = pool.cache();
        let mut queues = rig.port.start(both_ways(&pool)).unwrap();
        let offered = 200_u64;
        for _ in 0..offered {
            rig.model.inject(&frame(MAC, 1, 1500));
        }
        let got = receive(whole(&mut queues, 0), &mut cache).len() as u64;
        let (rx, _, _) = rig.port.stats();
        assert!(rx.is_balanced());
        assert_eq!((rx.offered, rx.delivered), (offered, got), "{chips:?}");
        let missed = rx.drops.of(DropReason::Device);
        assert!(missed > 0 && missed == offered - got, "{chips:?}: {missed} of {offered}");
        rig.port.stop(queues).unwrap();
    }
}

#[test]
fn a_link_that_goes_down_and_up_is_seen_and_counted() {
    for chips in CHIPS {
        let mut rig = Rig::new(chips);
        let pool = pool(512);
        let queues = rig.port.start(both_ways(&pool)).unwrap();
        let changes = |rig: &Rig| {
            let named = rig.port.stats().2;
            named.iter().find(|(name, _)| name == "link_changes").unwrap().1
        };
        let before = changes(&rig);
        rig.model.set_cable(false);
        assert!(!rig.port.link().is_up);
        assert_eq!(changes(&rig), before + 1, "{chips:?}");
        rig.model.set_cable(true);
        assert!(rig.port.link().is_up);
        assert_eq!(changes(&rig), before + 2, "{chips:?}");
        rig.port.stop(queues).unwrap();
    }
}
