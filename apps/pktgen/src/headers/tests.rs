//! Flags and files, and what is wrong with them.

use std::io::Write;

use clap::Parser;
use memwire_apps::Exit;

use super::*;

#[derive(Parser, Debug)]
struct App {
    #[command(flatten)]
    headers: HeaderArgs,
}

fn traffic(line: &str) -> Result<Traffic, AppError> {
    let words = std::iter::once("app").chain(line.split_whitespace());
    App::try_parse_from(words).unwrap().headers.traffic(64)
}

/// The traffic of a file, and of flags beside it.
fn with_file(text: &str, flags: &str) -> Result<Traffic, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    traffic(&format!("--template {path} {flags}"))
        .map_err(|error| error.to_string().replace(&path, "t.toml"))
}

const FULL: &str = r#"
size = "imix"
flows = "10"
random = ["flows"]
header = "auto"

[ethernet]
dst = "02:00:00:00:00:99"
vlan = 7
outer_vlan = 100
priority = 3

[ip]
src = "10.0.0.1-10.0.0.5"
dst = "10.9.0.1"
ttl = 9
tos = 4

[udp]
src = "1000-1001"
dst = 5004
checksum = true

[rtp]
payload_type = 97
ssrc = 5
step = 160
"#;

#[test]
fn a_file_says_everything_and_flags_win() {
    let traffic = with_file(FULL.replace("imix", "90").as_str(), "").unwrap();
    let template = traffic.template;
    assert_eq!((template.vlan, template.outer_vlan, template.priority), (Some(7), Some(100), 3));
    assert_eq!((template.ttl, template.tos, template.dst_port), (9, 4, 5004));
    assert_eq!(template.app, AppHeader::Rtp { payload_type: 97, ssrc: 5, step: 160 });
    assert!(template.checksum && traffic.flows.random && !traffic.random_sizes);
    assert_eq!(traffic.flows.keys(&template).unwrap().len(), 10);
    let flags = "--vlan 8 --dst 10.8.0.0/30 --flows 40 --size 200 --ttl 1 --dport 1";
    let traffic = with_file(FULL, flags).unwrap();
    assert_eq!(
        (traffic.template.vlan, traffic.template.ttl, traffic.template.dst_port),
        (Some(8), 1, 1)
    );
    assert_eq!(traffic.sizes().to_string(), "200");
    assert_eq!(traffic.flows.keys(&traffic.template).unwrap().len(), 40);
    let traffic = with_file("[tcp]\nflags = \"syn+ack\"\nsrc = 80", "--dst ::1 --src ::2").unwrap();
    assert_eq!(traffic.template.transport, Transport::Tcp { flags: 0x12 });
    assert_eq!(traffic.template.src_port, 80);
    assert_eq!(traffic.sizes().to_string(), "90");
    assert!(!traffic.template.ip_id);
    assert!(with_file("[ip]\nid = true", "").unwrap().template.ip_id);
    assert!(self::traffic("--ip-id").unwrap().template.ip_id);
}

#[test]
fn an_error_in_a_file_names_line_and_column_and_what_is_allowed() {
    for (text, place, says) in [
        ("sise = 64", "line 1, column 1", "unknown field `sise`, expected one of `size`, `flows`"),
        ("[ip]\nttl = 300", "line 2, column 7", "expected u8"),
        ("[ip]\nsrc = \"10.0.0.1-9\"", "line 2, column 7", "a range such as 10.0.0.1-10.0.0.100"),
        ("[ethernet]\ndst = \"02:00\"", "line 2, column 7", "a station address such as"),
        ("[udp]\nport = 5", "line 2, column 1", "expected one of `src`, `dst`, `checksum`"),
        ("[udp]\nsrc = 70000", "line 2, column 7", "a port, or a range such as 1000-2000"),
        ("size = \"12\"", "line 1, column 8", "frame sizes in bytes without FCS, 60 to"),
        (
            "header = \"tall\"",
            "line 1, column 10",
            "expected one of `auto`, `long`, `short`, `none`",
        ),
        ("[tcp]\nflags = \"sny\"", "line 2, column 9", "of fin, syn, rst"),
        ("random = [\"all\"]", "line 1, column 11", "expected `sizes` or `flows`"),
        ("size = ", "line 1, column 8", "TOML parse error"),
        ("[ip]\nttl = true", "line 2, column 7", "invalid type: boolean"),
    ] {
        let error = with_file(text, "").unwrap_err();
        assert!(error.starts_with("--template t.toml: TOML parse error"), "{error}");
        assert!(error.contains(place) && error.contains(says), "{text}: {error}");
    }
}

#[test]
fn what_makes_no_frame_is_usage_with_the_reason() {
    for (line, says) in [
        ("--size 60 --vlan 5", "frames of 60 B: these headers need 62 to 65553 B (without FCS)"),
        ("--size 64 --header long", "these headers need 66 to"),
        ("--size 64 --tcp", "these headers need 70 to"),
        ("--size 70 --src ::1 --dst ::2", "these headers need 78 to"),
        ("--size 65589", "these headers need 60 to 65549"),
        ("--flows 0", "0 flows: there is nothing to send"),
        ("--flows 2m", "2000000 flows: should be 1 to 1048576"),
        ("--dst 10.0.0.0/8", "16777216 flows: should be 1 to 1048576"),
        ("--flows 3 --sport 9", "3 flows, and these addresses and ports make 1; widen a range"),
        ("--vlan 0", "VLAN 0: should be 1 to 4094"),
        ("--outer-vlan 5", "an outer VLAN needs an inner one"),
        ("--src 10.0.0.1 --dst ::1", "both must be IPv4, or both IPv6"),
        ("--src ::1 --dst ::2 --ip-id", "only IPv4 has an identification field"),
        ("--spead=3", "SPEAD items 3: should be 4 to 15"),
        ("--priority 9", "VLAN priority 9: should be 0 to 7"),
        ("--rtp=200", "RTP payload type 200: should be 0 to 127"),
    ] {
        let error = traffic(line).unwrap_err();
        assert_eq!(error.code(), Exit::Usage, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
    let error = traffic("--template /nowhere/t.toml").unwrap_err();
    assert_eq!(error.code(), Exit::Missing);
    assert!(with_file("[udp]\n[tcp]", "").unwrap_err().contains("both [udp] and [tcp]"));
}

#[test]
fn flags_that_are_none_are_refused_by_example() {
    let parse = |line: &str| {
        let words = std::iter::once("app").chain(line.split_whitespace());
        App::try_parse_from(words).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (line, says) in [
        ("--dst-mac 02:00", "a station address such as 02:00:00:00:00:01"),
        ("--tcp=what", "TCP flags joined by +"),
        ("--size 0", "60:7,590:4,1514:1 (weights), or imix"),
        ("--sport 5-4", "a range such as 1000-2000"),
        ("--random all", "[possible values: sizes, flows]"),
        ("--udp --tcp", "cannot be used with"),
        ("--tcp --rtp", "cannot be used with"),
    ] {
        assert!(parse(line).contains(says), "{line}: {}", parse(line));
    }
}

#[test]
fn the_example_of_the_readme_is_a_template() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let traffic = with_file(example, "").unwrap();
    assert_eq!(traffic.flows.keys(&traffic.template).unwrap().len(), 1000);
    assert_eq!(traffic.template.app_len(), 12);
}
