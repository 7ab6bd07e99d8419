//! Filters against tcpdump's own verdict: libpcap's programs on our machine, and programs of our own
//! compiler, let the same frames through as `tcpdump -r`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use capture::{Compiler, Filter};
use pmd::pcap::{Format, Reader, Writer};

/// A small generator of numbers that look random (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

fn ipv4(dice: &mut Dice) -> Vec<u8> {
    let words = dice.pick(&[5, 5, 5, 6, 15]);
    let mut packet = vec![0x40 | words, 0, 0, 0, 0, 0];
    packet.extend(dice.pick(&[[0, 0], [0, 0], [0x40, 0], [0x20, 0], [0, 9], [0x1f, 0xff]]));
    packet.extend([64, dice.pick(&[6, 6, 17, 17, 17, 1, 132, 2, 47]), 0, 0]);
    packet.extend([10, 0, 0, dice.pick(&[1, 2, 3])]);
    packet.extend(dice.pick(&[[10, 0, 0, 1], [10, 0, 0, 2], [10, 1, 2, 3], [192, 168, 7, 9]]));
    packet.resize(usize::from(words) * 4, 1);
    ports(dice, packet)
}

fn ipv6(dice: &mut Dice) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 9, dice.pick(&[6, 17, 58, 44, 132, 0]), 64];
    for _ in 0..2 {
        packet.extend([
            0xfd,
            0,
            0,
            0,
            0,
            0,
            0,
            dice.pick(&[0, 1]),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            dice.pick(&[1, 2]),
        ]);
    }
    if packet[6] == 44 {
        packet.extend([dice.pick(&[6, 17]), 0, 0, 0, 0, 0, 0, 1]);
    }
    ports(dice, packet)
}

fn ports(dice: &mut Dice, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..2 {
        packet.extend(dice.pick(&[53_u16, 80, 443, 5000, 5005, 5010, 5011]).to_be_bytes());
    }
    let len = packet.len() + 4 + dice.roll(40);
    packet.resize(len, 7);
    packet
}

fn arp(dice: &mut Dice) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0];
    packet.push(dice.pick(&[1, 2]));
    packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, dice.pick(&[2, 3])]);
    packet
}

/// An Ethernet frame: plain or tagged, whole or cut.
fn frame(dice: &mut Dice) -> Vec<u8> {
    let mut frame = dice
        .pick(&[[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]])
        .to_vec();
    frame.extend([2, 0, 0, 0, 0, dice.pick(&[1, 2])]);
    for _ in 0..dice.pick(&[0, 0, 0, 1, 1, 2]) {
        frame.extend(dice.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        frame.extend([0x20, dice.pick(&[5, 7])]);
    }
    let (kind, payload): (u16, _) = match dice.roll(8) {
        0..4 => (0x0800, ipv4(dice)),
        4 | 5 => (0x86dd, ipv6(dice)),
        6 => (dice.pick(&[0x0806, 0x8035]), arp(dice)),
        _ => (0x88b5, vec![3; 50]),
    };
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    match dice.roll(4) {
        0 => frame.truncate(14 + dice.roll(frame.len() - 13)),
        1 => frame.resize(frame.len() + dice.roll(1400), 9),
        _ => {}
    }
    frame
}

/// A capture whose frames are numbered by their timestamps.
fn corpus(folder: &Path) -> (PathBuf, Vec<Vec<u8>>) {
    let path = folder.join("corpus.pcap");
    let mut writer = Writer::new(File::create(&path).unwrap(), Format::Pcap);
    let mut dice = Dice(0xfeed_face_cafe_beef);
    let frames: Vec<_> = (0..3000).map(|_| frame(&mut dice)).collect();
    for (number, frame) in (0..).zip(&frames) {
        writer.write(number, frame).unwrap();
    }
    writer.finish().unwrap();
    (path, frames)
}

/// The numbers of the frames that tcpdump lets through; `None` where it is not installed. With `-O`,
/// libpcap's optimiser leaves the order of the expression as it is: on frames that are cut inside their
/// headers that makes a difference.
fn by_tcpdump(corpus: &Path, expression: &str, how: &[&str]) -> Option<Vec<usize>> {
    let mut command = Command::new("tcpdump");
    command.args(how).args(["--nano", "-w", "-", "-r"]).arg(corpus).args(["--", expression]);
    let output = command.output().ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{expression}: {stderr}");
    let (mut reader, mut numbers) = (Reader::new(output.stdout.as_slice()), Vec::new());
    while let Some(record) = reader.read_record().unwrap() {
        numbers.push(usize::try_from(record.timestamp.unwrap()).unwrap());
    }
    Some(numbers)
}

fn by_us(frames: &[Vec<u8>], filter: &Filter) -> Vec<usize> {
    let passes = |frame: &Vec<u8>| filter.program.matches(frame, frame.len());
    frames.iter().enumerate().filter(|(_, frame)| passes(frame)).map(|(at, _)| at).collect()
}

/// What both compilers take.
const PLAIN: [&str; 56] = [
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "port 53",
    "udp port 53",
    "tcp port 80 or udp port 53",
    "src port 443",
    "dst port 443",
    "tcp src port 5000",
    "sctp dst port 80",
    "src and dst port 53",
    "src or dst port 53",
    "port 53 or 80 or 443",
    "portrange 5000-5010",
    "udp portrange 80-443",
    "tcp dst portrange 5000-5005",
    "host 10.0.0.1",
    "src host 10.0.0.2",
    "dst host 10.1.2.3",
    "src 10.0.0.2",
    "dst 192.168.7.9",
    "ip host 10.0.0.3",
    "arp host 10.0.0.2",
    "host 10.0.0.1 or 10.1.2.3",
    "net 10.0.0.0/8",
    "net 10.0.0.0/31",
    "src net 10.0.0.2/31",
    "dst net 192.168.0.0/16",
    "net 0.0.0.0/0",
    "host fd00::1",
    "ip6 host fd00:0:0:1::2",
    "src host fd00::2",
    "net fd00::/16",
    "dst net fd00:0:0:1::/64",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:02",
    "ether dst ff:ff:ff:ff:ff:ff",
    "ether proto 0x88b5",
    "ether proto \\ip6",
    "ip proto 47",
    "ip6 proto 17",
    "ether broadcast",
    "ether multicast",
    "less 64",
    "greater 1000",
    "not ip",
    "ip and not (tcp or udp) and dst host 10.0.0.1",
    "! udp port 53 && ! arp || icmp",
    "(ip or ip6) and not port 53 and not (src host 10.0.0.1 or host 10.0.0.3)",
];

/// `vlan` moves what is behind it.
const TAGGED: [&str; 8] = [
    "vlan",
    "vlan 5",
    "vlan 7 and udp",
    "vlan and port 53",
    "vlan 5 and vlan 7 and ip",
    "vlan 5 and host 10.0.0.1",
    "ip or vlan 7",
    "vlan and not (net 10.0.0.0/8 or arp)",
];

/// What only libpcap takes: all that the machine can do.
const ARITHMETIC: [&str; 16] = [
    "ip[100] = 1",
    "ether[200:4] != 0",
    "len % 7 = 3",
    "len % 16 > 8",
    "(ip[8] ^ ip[9]) & 7 = 3",
    "ip[ip[0] & 0xf] = 1",
    "ip[2:2] + ip[ip[9]] > 10",
    "ether[len - 1] = 9",
    "ip[0] << 2 & 0x3c = 20",
    "ether[12:2] / 256 = 8",
    "(ether[0] | ether[6]) * 3 - 4 > 0",
    "tcp[13] & 2 != 0",
    "udp[4:2] > 1000",
    "ip6[6] = 44 and ip6[40] = 17",
    "ether[ether[13] >> 1] > ether[ether[12] >> 1]",
    "-ip[9] & 0xff > 200",
];

#[test]
fn the_same_frames_pass_as_with_tcpdump() {
    let folder = tempfile::tempdir().unwrap();
    let (path, frames) = corpus(folder.path());
    if by_tcpdump(&path, "ip", &[]).is_none() {
        eprintln!("SKIP the_same_frames_pass_as_with_tcpdump: tcpdump is not installed");
        return;
    }
    let (mut some, mut compared) = (0, 0);
    for (list, is_ours) in [(&PLAIN[..], true), (&TAGGED, true), (&ARITHMETIC, false)] {
        for expression in list {
            let expected = by_tcpdump(&path, expression, &[]).unwrap();
            some += usize::from(!expected.is_empty() && expected.len() < frames.len());
            let libpcap = Filter::compile(expression, Compiler::Libpcap).unwrap();
            assert!(by_us(&frames, &libpcap) == expected, "libpcap's program for '{expression}'");
            if is_ours {
                let ours = Filter::compile(expression, Compiler::Builtin).unwrap();
                let got = by_us(&frames, &ours);
                let plain = by_tcpdump(&path, expression, &["-O"]).unwrap();
                let is_wrong = |at: &usize| {
                    let passes = got.contains(at);
                    passes != expected.contains(at) && passes != plain.contains(at)
                };
                let wrong = (0..frames.len()).find(is_wrong).map(|at| &frames[at]);
                assert!(wrong.is_none(), "our program for '{expression}': {wrong:02x?}");
            }
            compared += 1;
        }
    }
    assert!(some > 70, "only {some} of {compared} expressions tell frames apart");
}

#[test]
fn a_long_expression_reaches_its_end() {
    let addresses: Vec<_> = (0..80).map(|at| format!("host 10.9.{at}.1")).collect();
    let expression = format!("{} or udp", addresses.join(" or "));
    let filter = Filter::compile(&expression, Compiler::Builtin).unwrap();
    assert!(filter.program.insns().len() > 1000);
    let mut dice = Dice(7);
    // Long enough for every field that is looked at.
    let frames = (0..1000).map(|_| frame(&mut dice)).filter(|frame| frame.len() > 100);
    let frames: Vec<_> = frames.collect();
    let udp = Filter::compile("udp", Compiler::Builtin).unwrap();
    assert_eq!(by_us(&frames, &filter), by_us(&frames, &udp));
    let too_long = vec!["ip6 host fd00::1 or port 9"; 120].join(" and ");
    let error = Filter::compile(&too_long, Compiler::Builtin).unwrap_err();
    assert!(error.to_string().contains("are more than the limit 4096"), "{error}");
}

#[test]
fn a_wrong_expression_is_refused_in_the_compilers_words() {
    let error = Filter::compile("udp prt 53", Compiler::Builtin).unwrap_err().to_string();
    assert!(error.starts_with("filter 'udp prt 53': column 5: expected 'and' or 'or'"), "{error}");
    let error = Filter::compile("udp prt 53", Compiler::Auto).unwrap_err().to_string();
    assert!(error.starts_with("filter 'udp prt 53': "), "{error}");
    if Command::new("tcpdump").arg("--version").output().is_ok() {
        assert!(error.contains("syntax error"), "{error}");
        let error = Filter::compile("-w /tmp/x", Compiler::Libpcap).unwrap_err().to_string();
        assert!(error.contains("syntax error"), "an expression is never an option: {error}");
    }
}
