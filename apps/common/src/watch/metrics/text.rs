//! A sample in Prometheus' text format 0.0.4. Units are in the names, every family has HELP and TYPE,
//! counters end in `_total`.

use std::{collections::BTreeSet, fmt::Write};

use pmd::{DropReason, QueueStats};

use super::super::{Latency, Sample};

/// What the text is, for HTTP.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sample of `app` as text.
pub(super) fn expose(app: &str, sample: &Sample) -> String {
    let mut text = Text::default();
    general(&mut text, app, sample);
    ports(&mut text, sample);
    pools(&mut text, sample);
    stages(&mut text, sample);
    counts(&mut text, app, sample);
    if let Some(latency) = &sample.latency {
        summary(&mut text, latency);
    }
    text.out
}

fn general(text: &mut Text, app: &str, sample: &Sample) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("memwire_build_info", "gauge", "The program and its version; always 1.");
    text.line(&[("app", app), ("version", version)], 1);
    text.family("memwire_uptime_seconds", "gauge", "Time since the packets began.");
    text.line(&[], sample.at.as_secs_f64());
    if !sample.facts.is_empty() {
        let names: Vec<_> = sample.facts.iter().map(|(name, _)| label(name)).collect();
        let facts = names.iter().map(String::as_str);
        let facts: Vec<_> = facts.zip(sample.facts.iter().map(|(_, fact)| &**fact)).collect();
        text.family("memwire_run_info", "gauge", "Facts of the run that do not change; always 1.");
        text.line(&facts, 1);
    }
}

type Read = fn(&QueueStats) -> u64;

fn ports(text: &mut Text, sample: &Sample) {
    if sample.ports.is_empty() {
        return;
    }
    text.family("memwire_port_up", "gauge", "Whether the port works: 1 as long as it does.");
    for port in &sample.ports {
        let labels = [("port", &*port.name), ("driver", &*port.driver)];
        text.line(&labels, u64::from(port.health == "good"));
    }
    let families: [(&str, &str, &str, Read); 3] = [
        ("offered_packets", "Frames that reached the queues", "of the port", |q| q.offered),
        ("packets", "Frames delivered", "to the app or the wire", |q| q.delivered),
        ("bytes", "Bytes of the frames delivered", "without FCS", |q| q.bytes),
    ];
    for direction in ["rx", "tx"] {
        for (what, help, more, read) in families {
            let name = format!("memwire_{direction}_{what}_total");
            text.family(&name, "counter", &format!("{help}, {more}; {direction}."));
            for port in &sample.ports {
                let labels = [("port", &*port.name), ("driver", &*port.driver)];
                let stats = if direction == "rx" { &port.rx } else { &port.tx };
                text.line(&labels, read(stats));
            }
        }
    }
    let help = "Frames that the queues dropped, by reason: offered = packets + all drops.";
    text.family("memwire_drops_total", "counter", help);
    for port in &sample.ports {
        for (direction, stats) in [("rx", &port.rx), ("tx", &port.tx)] {
            // Those that did not occur too: a rate needs a zero to rise from.
            for reason in DropReason::ALL {
                let labels = [
                    ("port", &*port.name),
                    ("driver", &*port.driver),
                    ("direction", direction),
                    ("reason", reason.name()),
                ];
                text.line(&labels, stats.drops.of(reason));
            }
        }
    }
}

fn pools(text: &mut Text, sample: &Sample) {
    if sample.pools.is_empty() {
        return;
    }
    text.family("memwire_pool_buffers", "gauge", "Buffers of the pool, by where they are.");
    for pool in &sample.pools {
        for (state, buffers) in [
            ("free", pool.free),
            ("cached", pool.cached),
            ("in_flight", pool.in_flight),
            ("held", pool.held),
            ("leaked", pool.leaked),
            ("drained", pool.drained),
        ] {
            text.line(&[("pool", &pool.name), ("state", state)], buffers);
        }
    }
    text.family("memwire_pool_capacity_buffers", "gauge", "All buffers of the pool.");
    for pool in &sample.pools {
        text.line(&[("pool", &pool.name), ("provider", &pool.provider)], pool.capacity);
    }
    text.family("memwire_pool_memory_bytes", "gauge", "Memory of the pool's buffers.");
    for pool in &sample.pools {
        text.line(&[("pool", &pool.name), ("provider", &pool.provider)], pool.bytes);
    }
}

fn stages(text: &mut Text, sample: &Sample) {
    if !sample.stages.is_empty() {
        text.family("memwire_stage_rounds_total", "counter", "Rounds of the worker or stage.");
        for stage in &sample.stages {
            text.line(&[("stage", &stage.name)], stage.rounds);
        }
        let help = "Rounds that found nothing: occupancy is 1 - empty / rounds.";
        text.family("memwire_stage_empty_rounds_total", "counter", help);
        for stage in &sample.stages {
            text.line(&[("stage", &stage.name)], stage.empty);
        }
    }
    if !sample.levels.is_empty() {
        text.family("memwire_level", "gauge", "How full something is, of memwire_level_limit.");
        for level in &sample.levels {
            text.line(&[("level", &level.name)], level.value);
        }
        text.family("memwire_level_limit", "gauge", "What full is for memwire_level.");
        for level in &sample.levels {
            text.line(&[("level", &level.name)], level.of);
        }
    }
}

fn counts(text: &mut Text, app: &str, sample: &Sample) {
    if !sample.drops.0.is_empty() {
        let name = format!("memwire_{}_drops_total", label(app));
        text.family(&name, "counter", "Frames that the app itself dropped, by reason.");
        for (reason, frames) in &sample.drops.0 {
            text.line(&[("reason", reason)], frames);
        }
    }
    for count in &sample.counts {
        let name = format!("memwire_{}_{}_total", label(app), label(count.name));
        if text.family(&name, "counter", count.help) {
            text.line(&[], count.value);
        }
    }
}

fn summary(text: &mut Text, latency: &Latency) {
    let seconds = |ns: u64| ns as f64 / 1e9;
    text.family("memwire_latency_seconds", "summary", "Latency since the start.");
    for (quantile, ns) in latency.quantiles() {
        text.line(&[("quantile", &quantile.to_string())], seconds(ns));
    }
    text.suffixed("_sum", latency.mean_ns * latency.count as f64 / 1e9);
    text.suffixed("_count", latency.count);
    text.family("memwire_latency_min_seconds", "gauge", "Shortest latency since the start.");
    text.line(&[], seconds(latency.min_ns));
    text.family("memwire_latency_max_seconds", "gauge", "Longest latency since the start.");
    text.line(&[], seconds(latency.max_ns));
}

/// The text, and the family that lines are added to.
#[derive(Default)]
struct Text {
    out: String,
    family: String,
    families: BTreeSet<String>,
}

impl Text {
    /// Begins a family; returns whether it is new, which it must be.
    fn family(&mut self, name: &str, kind: &str, help: &str) -> bool {
        let is_new = self.families.insert(name.to_owned());
        debug_assert!(is_new, "{name} twice");
        if is_new {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a `String` never fails.
            let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            name.clone_into(&mut self.family);
        }
        is_new
    }

    fn line(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.out += &self.family;
        for (at, (name, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{name}=\"{text}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{after} {value}");
    }

    fn suffixed(&mut self, suffix: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{}{suffix} {value}", self.family);
    }
}

/// A name made fit for labels and metrics: `[a-z0-9_]`, and no digit first.
fn label(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut fitted: String = name.chars().map(fit).collect();
    if !fitted.starts_with(|c: char| c.is_ascii_alphabetic()) {
        fitted.insert_str(0, "x_");
    }
    fitted
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Write as _, process::Stdio};

    use super::*;
    use crate::watch::sample::tests::full;

    /// Values by name and labels; panics at what is no line of the format.
    fn values(text: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect(line);
            let before = values.insert(name.to_owned(), value.parse().expect(line));
            assert!(before.is_none(), "{name} twice");
        }
        values
    }

    #[test]
    fn every_line_belongs_to_a_family_with_help_and_type() {
        let text = expose("gpurx", &full());
        let (mut family, mut kind) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.') && help.len() > 10, "{line}");
                family = name.to_owned();
                kind.clear();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
                kind = of.to_owned();
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let rest = name.strip_prefix(&family).expect(line);
                assert!(rest.is_empty() || kind == "summary", "{line}");
            }
        }
        assert!(values(&text).len() > 40);
    }

    #[test]
    fn counters_say_what_the_sample_says() {
        let values = values(&expose("gpurx", &full()));
        let port = r#"{port="ring:a",driver="ring"}"#;
        assert_eq!(values[&format!("memwire_rx_packets_total{port}")], 1000.0);
        assert_eq!(values[&format!("memwire_rx_offered_packets_total{port}")], 1007.0);
        let dropped = r#"{port="ring:a",driver="ring",direction="rx",reason="no_buffer"}"#;
        assert_eq!(values[&format!("memwire_drops_total{dropped}")], 7.0);
        assert_eq!(values[r#"memwire_gpurx_drops_total{reason="foreign"}"#], 5.0);
        assert_eq!(values["memwire_gpurx_rows_missing_total"], 3.0);
        assert_eq!(values[r#"memwire_pool_buffers{pool="heads",state="held"}"#], 24.0);
        assert_eq!(values[r#"memwire_stage_empty_rounds_total{stage="worker 0"}"#], 25.0);
        assert_eq!(values[r#"memwire_latency_seconds{quantile="0.99"}"#], 9e-6);
        assert_eq!(values["memwire_latency_seconds_count"], 10.0);
        assert_eq!(values["memwire_uptime_seconds"], 2.0);
    }

    #[test]
    fn labels_are_escaped_and_names_made_fit() {
        let mut sample = full();
        sample.ports[0].name = "pcap:a\"b\\c\nd".into();
        sample.facts = vec![("2nd mem".into(), "x".into())];
        let text = expose("gpurx", &sample);
        assert!(text.contains(r#"port="pcap:a\"b\\c\nd""#), "{text}");
        assert!(text.contains(r#"memwire_run_info{x_2nd_mem="x"} 1"#), "{text}");
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/promtool");
        let promtool = if std::path::Path::new(built).exists() { built } else { "promtool" };
        let mut command = std::process::Command::new(promtool);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            println!("SKIP promtool_finds_nothing_to_say: no promtool on PATH or in target/tools");
            return;
        };
        let text = expose("gpurx", &full());
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    }
}
