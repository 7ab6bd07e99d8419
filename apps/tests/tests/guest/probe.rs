//! What the guest's kernel shows of devices and memory, and what it lets one break. Knows no program.

use std::time::{Duration, Instant};

use crate::machine::{Machine, pause};

/// Memory space enable, in a function's command register (PCI 3.0 §6.2.2).
pub(crate) const MEMORY_SPACE: u16 = 1 << 1;
/// Bus master enable.
pub(crate) const BUS_MASTER: u16 = 1 << 2;

/// What a line of bash prints, which must end well.
pub(crate) fn ask(machine: &Machine, line: &str) -> String {
    let answer = machine.run(line).unwrap().success();
    answer.unwrap_or_else(|error| panic!("{line}: {error}")).trim().to_owned()
}

/// A NIC's command register.
pub(crate) fn command(machine: &Machine, nic: &str) -> u16 {
    let address = machine.address(nic).unwrap();
    let bytes = ask(machine, &format!("od -An -tx2 -j4 -N2 /sys/bus/pci/devices/{address}/config"));
    u16::from_str_radix(&bytes, 16).unwrap_or_else(|_| panic!("{address}: {bytes:?}"))
}

/// Writes a NIC's command register behind its driver's back, which may change it again at once.
pub(crate) fn set_command(machine: &Machine, nic: &str, command: u16) {
    let address = machine.address(nic).unwrap();
    let [low, high] = command.to_le_bytes();
    let config = format!("/sys/bus/pci/devices/{address}/config");
    let line =
        format!("printf '\\x{low:02x}\\x{high:02x}' | dd of={config} bs=2 seek=2 conv=notrunc");
    ask(machine, &line);
}

/// A line of bash that prints how many hugepages nobody has.
const FREE: &str = "cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Hugepages that nobody has.
pub(crate) fn free_hugepages(machine: &Machine) -> u64 {
    ask(machine, FREE).parse().unwrap()
}

/// How long it takes until that many hugepages are free.
pub(crate) fn await_hugepages(machine: &Machine, count: u64, limit: Duration) -> Duration {
    let start = Instant::now();
    loop {
        let free = free_hugepages(machine);
        let elapsed = start.elapsed();
        if free >= count {
            return elapsed;
        }
        assert!(elapsed < limit, "{free} of {count} hugepages free after {elapsed:?}");
        pause(Duration::from_millis(10));
    }
}

/// 64 MiB of the guest's memory that belong to nobody who does DMA.
pub(crate) struct Canary<'a> {
    machine: &'a Machine,
    sum: String,
}

impl<'a> Canary<'a> {
    /// Fills it.
    pub(crate) fn new(machine: &'a Machine) -> Self {
        ask(machine, "head -c 64M /dev/urandom > /dev/shm/canary");
        Self { machine, sum: Self::sum(machine) }
    }

    fn sum(machine: &Machine) -> String {
        ask(machine, "sha256sum /dev/shm/canary")
    }

    /// Fails the test unless every byte is what it was.
    pub(crate) fn check(&self) {
        assert_eq!(Self::sum(self.machine), self.sum, "the canary has changed");
    }
}

impl Drop for Canary<'_> {
    fn drop(&mut self) {
        // The guest may be what failed.
        let _ = self.machine.run("rm -f /dev/shm/canary");
    }
}

/// The median and the longest, as text.
pub(crate) fn median_and_longest(times: &mut [Duration]) -> String {
    times.sort_unstable();
    match times {
        [] => "none".to_owned(),
        [.., longest] => {
            let longest = *longest;
            let median = times[times.len() / 2];
            format!("median {} ms, longest {} ms", median.as_millis(), longest.as_millis())
        }
    }
}
