//! Devices that break: gone at any access, stuck in reset, silent, without an address; and what the system
//! says about them.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use pmd::{
    AnyRxQueue, Device, Health,
    e1000::model::{Chip, Faults, Model, Options, Work},
};

use super::{
    rig::{CHIPS, port},
    stream::{Books, Plan, Stream, frame, mixed, number_of},
};

fn broken(chip: Chip, faults: Faults) -> Options {
    Options { faults, ..Options::new(chip) }
}

#[test]
fn a_device_that_is_gone_is_not_opened() {
    for chip in CHIPS {
        let faults = Faults { gone_at: Some(0), ..Faults::default() };
        let model = Model::new(broken(chip, faults));
        let error = port(&model, chip).err().map(|error| error.to_string());
        let text = "port 'pci:0000:01:00.0': device gone (0xffffffff)";
        assert_eq!(error.as_deref(), Some(text));
    }
}

#[test]
fn a_reset_that_does_not_end_has_a_limit() {
    for chip in CHIPS {
        let model = Model::new(broken(chip, Faults { reset_sticks: true, ..Faults::default() }));
        let error = port(&model, chip).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("reset timeout 1000 ms"), "{error}");
    }
}

#[test]
fn a_queue_that_is_not_enabled_has_a_limit_and_the_port_stays_usable() {
    let mut stream =
        Stream::new([7, 8].map(|seed| Options::new(Chip::I82576).seed(seed)), mixed(false));
    stream.pair.stop();
    let faults = Faults { enable_sticks: true, ..Faults::default() };
    stream.pair.models[1].set_faults(faults);
    let error = stream.start_again().expect_err("no queue was enabled").to_string();
    assert!(error.contains("receive queue 0 did not change its state in 100 ms"), "{error}");
    stream.pair.models[1].set_faults(Faults::default());
    stream.start_again().unwrap_or_else(|error| panic!("{error}"));
    stream.run_exactly(100);
    stream.end();
}

/// Remembers the text of events.
struct Listener(Arc<OnceLock<String>>, AtomicBool);

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _infallible = write!(self.0, "{value:?}");
        }
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.1.store(self.0.set(text.0).is_err(), Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_address_that_is_none_is_replaced_and_said() {
    for chip in CHIPS {
        for bad in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            let said = Arc::new(OnceLock::new());
            let listener = Listener(Arc::clone(&said), AtomicBool::new(false));
            let model = Model::new(Options::new(chip).mac(bad));
            let port = tracing::subscriber::with_default(listener, || port(&model, chip)).unwrap();
            let mac = port.info().mac;
            assert_eq!(mac[0] & 3, 2, "one station's, locally administered");
            let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
            let warning = said.get().cloned().unwrap_or_default();
            assert!(warning.contains(&format!("permanent MAC {} invalid", text(bad))), "{warning}");
            assert!(warning.contains(&text(mac)), "{warning}");
        }
    }
}

#[test]
fn the_address_is_that_of_the_eeprom_whatever_its_checksum_says() {
    for chip in CHIPS {
        let mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
        let model = Model::new(Options { eeprom_is_good: false, ..Options::new(chip).mac(mac) });
        assert_eq!(port(&model, chip).unwrap().info().mac, mac);
    }
}

#[test]
fn what_the_system_says_is_healths_answer() {
    for chip in CHIPS {
        let model = Model::new(Options::new(chip));
        let port = port(&model, chip).unwrap();
        assert_eq!(port.health(), Health::Good);
        model.report_error();
        assert!(matches!(port.health(), Health::Faulted(why) if why.starts_with("PCIe error")));
        model.ask_for_removal();
        assert!(matches!(port.health(), Health::Removed(_)));
        assert!(matches!(port.health(), Health::Removed(_)), "it stays so");
    }
}

/// Opens, starts, sends, receives, stops, on devices of which one is gone from access `step` on.
fn removed_at(chip: Chip, split: bool, end: usize, step: u64) -> bool {
    let options = [0, 1].map(|at| {
        let gone_at = (at == end).then_some(step);
        let options = Options::new(chip).seed(at as u64 + 1).work(Work::Ticked);
        Options { faults: Faults { gone_at, ..Faults::default() }, ..options }
    });
    let plan = Plan { ring: 32, slots: 256, ..mixed(split) };
    let Ok(mut stream) = Stream::try_new(options, plan) else { return true };
    for _ in 0..4 {
        stream.send(16);
        stream.pair.tick();
        for one in stream.receive() {
            let number = number_of(&one.bytes);
            assert_eq!(one.bytes, frame(number, (plan.len)(number)));
        }
        stream.reap();
        let model = &stream.pair.models[end];
        if model.accesses() > step {
            let health = stream.pair.ports[end].health();
            let Health::Removed(why) = health else { panic!("at {step}: {health:?}") };
            assert_eq!(why, "device gone (0xffffffff)");
        }
    }
    let rx = stream.pair.ports[1].stats_of(true);
    assert!(rx.is_balanced() && rx.offered <= stream.next, "at {step}: {rx:?}");
    // The stop counts too: until a run ends before this access.
    let model = stream.pair.models[end].clone();
    stream.end_without_checks().check();
    model.accesses() > step
}

/// Removes a device at every access of a whole run, one after the other.
fn removed_everywhere(chip: Chip, split: bool, end: usize) {
    // A run that never ends well would be tried for ever.
    const MOST: usize = 100_000;
    let steps = (0..).take(MOST).take_while(|step| removed_at(chip, split, end, *step)).count();
    assert!(steps < MOST, "no run of {MOST} was long enough");
    assert!(steps > 100, "only {steps} accesses in a whole run");
}

#[test]
fn a_sending_82574_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82574, false, 0);
}

#[test]
fn a_receiving_82574_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82574, false, 1);
}

#[test]
fn a_splitting_82574_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82574, true, 1);
}

#[test]
fn a_sending_82576_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82576, false, 0);
}

#[test]
fn a_receiving_82576_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82576, false, 1);
}

#[test]
fn a_splitting_82576_gone_at_any_access_is_noticed_and_every_buffer_comes_home() {
    removed_everywhere(Chip::I82576, true, 1);
}

#[test]
fn interrupts_without_a_cause_wake_and_harm_nothing() {
    for chip in CHIPS {
        let faults = Faults { spurious: 2, ..Faults::default() };
        let options = [1, 2].map(|seed| Options { faults, ..Options::new(chip).seed(seed) });
        let mut stream = Stream::new(options, mixed(false));
        for _ in 0..50 {
            let AnyRxQueue::Whole(queue) = stream.pair.rx(1) else { panic!("whole frames") };
            assert!(queue.arm().is_some(), "the queue can wake its worker");
            stream.pair.tick();
            assert!(stream.receive().is_empty());
            stream.run_exactly(10);
        }
        stream.end();
    }
}

#[test]
fn reports_that_never_come_end_with_the_stop() {
    for chip in CHIPS {
        let faults = Faults { lost_reports: 3, ..Faults::default() };
        let options =
            [1, 2].map(|seed| Options { faults, ..Options::new(chip).seed(seed).flow_control() });
        let mut stream = Stream::new(options, mixed(false));
        let mut expected = 0;
        stream.run(1000, |one| {
            assert_eq!(number_of(&one.bytes), expected);
            expected += 1;
        });
        assert!(expected > 0);
        stream.end_without_checks().check();
    }
}

#[test]
fn a_link_that_flaps_by_itself_loses_nothing_that_it_took() {
    for chip in CHIPS {
        let faults = Faults { flaps: 5, ..Faults::default() };
        let options = [1, 2].map(|seed| {
            let options = Options::new(chip).work(Work::Late).seed(seed).flow_control();
            // One end's cable is enough: what it does not hear, nobody counts.
            if seed == 1 { Options { faults, ..options } } else { options }
        });
        let mut stream = Stream::new(options, mixed(false));
        stream.run_exactly(5000);
        stream.end();
    }
}
