//! The report for people: a heading, a table.

use mempool::format_bytes;
use memwire_apps::table::Table;
use pmd::Registry;

use super::{
    machine::Machine,
    memory::MemoryRow,
    report::{Can, DriverRow, Port, Report, SplitKind, WrapperRow},
};
use crate::{hugepages, pci::Nic, support};

pub(super) fn text(report: &Report) -> String {
    let mut parts = Vec::new();
    parts.extend(report.machine.as_ref().map(|machine| self::machine(machine, report.version)));
    parts.extend(report.nics.as_deref().map(nics));
    parts.extend(report.ports.as_deref().map(|ports| match report.nics {
        Some(_) => self::ports(ports),
        None => ports.iter().map(opened).collect::<Vec<_>>().join("\n"),
    }));
    parts.extend(report.drivers.as_deref().map(drivers));
    parts.extend(report.wrappers.as_deref().map(wrappers));
    parts.extend(report.memory.as_deref().map(memory));
    parts.extend(
        report.hugepages.as_deref().map(|rows| format!("Hugepages\n{}", hugepages::table(rows))),
    );
    parts.extend(report.support.as_ref().map(|_| format!("What works\n{}", support::text())));
    parts.join("\n")
}

fn machine(machine: &Machine, version: &str) -> String {
    let mut table = Table::new(&["Machine"]).words(2);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    line("memwire", version.to_owned());
    line("kernel", machine.kernel.clone());
    line("processor", machine.processor.clone());
    let cores = if machine.online == machine.allowed || machine.online.is_empty() {
        machine.allowed.clone()
    } else {
        format!("{} (online: {})", machine.allowed, machine.online)
    };
    line("cores", cores);
    line(
        "memory",
        machine
            .available
            .map(|bytes| format!("{} to be had", format_bytes(bytes)))
            .unwrap_or_default(),
    );
    for node in &machine.nodes {
        let cores = match node.cores.as_str() {
            "" => String::new(),
            cores => format!("cores {cores}  "),
        };
        let memory = match (node.memory, node.free) {
            (Some(total), Some(free)) => {
                format!("{}, {} free", format_bytes(total), format_bytes(free))
            }
            _ => String::new(),
        };
        line(&format!("NUMA node {}", node.node), format!("{cores}{memory}").trim().to_owned());
    }
    table.to_string()
}

fn nics(nics: &[Nic]) -> String {
    let lines: String = match nics {
        [] => "none\n".to_owned(),
        _ => nics.iter().map(|nic| format!("{nic}\n")).collect(),
    };
    format!("NICs on the PCI bus\n{lines}")
}

fn ports(ports: &[Port]) -> String {
    let header =
        ["Port", "Address", "Link", "Kernel driver", "Bus", "Node", "Longest", "To be opened here"];
    let mut table = Table::new(&header).words(header.len());
    for port in ports {
        table.row([
            port.port.clone(),
            dash(port.mac.clone()),
            link(port),
            dash(Some(port.below.clone())),
            dash(Some(port.bus.clone())),
            dash(port.numa_node.map(|node| node.to_string())),
            dash((port.can.max_frame > 0).then(|| port.can.max_frame.to_string())),
            port.trouble.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    let named: String = Registry::drivers()
        .iter()
        .filter(|driver| ports.iter().all(|port| port.driver != driver.name))
        .map(|driver| format!("{}\n    {}\n", driver.usage, driver.about))
        .collect();
    format!("Ports here\n{table}\nPorts by name\n{named}")
}

fn link(port: &Port) -> String {
    let speed = port.speed_mbps.map(|speed| format!(" {speed} Mb/s")).unwrap_or_default();
    format!("{}{speed}", if port.is_up { "up" } else { "down" })
}

/// One port that was opened, a line a fact.
fn opened(port: &Port) -> String {
    let mut table = Table::new(&["port", &port.port]).words(2);
    let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
    line("driver", port.driver.to_owned());
    if let Some(mac) = &port.mac {
        line("address", mac.clone());
    }
    line("link", link(port));
    for (name, value) in [("kernel driver", &port.below), ("bus", &port.bus)] {
        if !value.is_empty() {
            line(name, value.clone());
        }
    }
    if let Some(node) = port.numa_node {
        line("NUMA node", node.to_string());
    }
    let can = &port.can;
    line("queues", format!("{} receive, {} transmit", can.rx_queues, can.tx_queues));
    line("longest frame", format!("{} B without FCS", can.max_frame));
    line("header/data split", split(can));
    if can.rx_buffer_step > 1 {
        line("fills buffers by", format!("{} B", can.rx_buffer_step));
    }
    if can.rx_spare > 0 {
        line(
            "keeps back",
            format!("{} of its pool's buffers a queue, besides its ring's", can.rx_spare),
        );
    }
    for (name, offloads) in
        [("receive offloads", &can.rx_offloads), ("send offloads", &can.tx_offloads)]
    {
        if !offloads.is_empty() {
            line(name, offloads.join(", "));
        }
    }
    if can.addresses > 0 {
        line("further addresses", can.addresses.to_string());
    }
    line("several segments", yes(can.tx_segments).into());
    line("receive timestamps", yes(can.rx_timestamp).into());
    line("copies frames", yes(can.copies).into());
    line("ends by itself", yes(can.finite).into());
    line("loopback", yes(can.loopback).into());
    table.to_string()
}

/// Where frames are cut, in words.
fn split(can: &Can) -> String {
    let head = can.split_head.unwrap_or_default();
    let step = match can.split_step {
        Some(1) => Some("any number of bytes".to_owned()),
        step => step.map(|step| format!("a multiple of {step} B")),
    };
    let place = match (can.split_kind, can.split_protocol, step) {
        (SplitKind::None, ..) => return "no: the bounce path copies".into(),
        (SplitKind::Anywhere, ..) => return "by the driver, anywhere".into(),
        (SplitKind::Hardware, Some(true), None) => "behind the transport header".to_owned(),
        (SplitKind::Hardware, Some(true), Some(step)) => {
            format!("behind the transport header or after {step}")
        }
        (SplitKind::Hardware, _, step) => format!("after {}", step.unwrap_or_default()),
    };
    format!("by hardware, {place}; heads up to {head} B")
}

fn drivers(drivers: &[DriverRow]) -> String {
    let mut table = Table::new(&[
        "Driver",
        "RX queues",
        "TX queues",
        "Longest",
        "Split",
        "Segments",
        "Timestamps",
        "Copies",
        "Ends",
    ]);
    for driver in drivers {
        let Can {
            rx_queues,
            tx_queues,
            max_frame,
            split_kind,
            tx_segments,
            rx_timestamp,
            copies,
            finite,
            ..
        } = &driver.can;
        let split = match split_kind {
            SplitKind::None => "no",
            SplitKind::Anywhere => "yes",
            SplitKind::Hardware => "hardware",
        };
        let flags = [tx_segments, rx_timestamp, copies, finite];
        let numbers = [rx_queues, tx_queues, max_frame].map(ToString::to_string);
        let flags = flags.map(|flag| yes(*flag).to_owned());
        let cells = std::iter::once(driver.name.to_owned()).chain(numbers);
        table.row(cells.chain([split.to_owned()]).chain(flags));
    }
    format!("What ports can do at best\n{table}")
}

fn wrappers(wrappers: &[WrapperRow]) -> String {
    let lines = wrappers.iter().map(|row| format!("{}\n    {}\n", row.usage, row.about));
    format!("Around any port (they nest)\n{}", lines.collect::<String>())
}

fn memory(rows: &[MemoryRow]) -> String {
    let mut table =
        Table::new(&["Memory (-m)", "Page", "Left", "CPU reads it", "To be had here"]).words(5);
    for row in rows {
        table.row([
            row.name.clone(),
            dash(row.page_bytes.map(|bytes| format_bytes(bytes as u64))),
            dash(row.available.map(format_bytes)),
            dash(row.is_cpu_readable.map(|readable| yes(readable).to_owned())),
            row.trouble.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    table.to_string()
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use pmd::Capabilities;

    use super::*;

    #[test]
    fn what_a_port_needs_of_a_pool_is_told_where_it_needs_something() {
        let told = |rx_spare, rx_buffer_step| {
            let can = Capabilities { rx_spare, rx_buffer_step, ..Capabilities::default() };
            let (port, below, bus) = ("test:0".to_owned(), String::new(), String::new());
            let (mac, numa_node, speed_mbps, trouble) = (None, None, None, None);
            opened(&Port {
                port,
                driver: "test",
                mac,
                below,
                bus,
                numa_node,
                is_up: true,
                speed_mbps,
                can: Can::from(&can),
                trouble,
            })
        };
        let text = told(1, 1024);
        assert!(text.contains("keeps back"), "{text}");
        assert!(text.contains("1 of its pool's buffers a queue, besides its ring's"), "{text}");
        assert!(text.contains("1024 B"), "{text}");
        let text = told(0, 1);
        assert!(!text.contains("keeps back") && !text.contains("fills buffers by"), "{text}");
    }
}
