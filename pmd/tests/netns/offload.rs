//! What a local sender leaves to hardware is done by the time a frame is delivered.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use pmd::headers;

use crate::{
    lab::{End, Lab, MAC_A},
    traffic::{Port, named, udp},
};

const PATIENCE: Duration = Duration::from_millis(500);

/// The one's complement sum of an IPv4 frame's transport and pseudo header: all ones if its
/// checksum is right.
fn transport_sum(frame: &[u8]) -> u16 {
    let layers = headers::layers(frame).unwrap();
    let ip = &frame[layers.network..];
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let transport = &frame[layers.transport..layers.network + total];
    let mut bytes = ip[12..20].to_vec();
    bytes.extend([0, ip[9]]);
    bytes.extend(u16::try_from(transport.len()).unwrap().to_be_bytes());
    bytes.extend(transport);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let sum: u32 = bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

#[test]
fn vlan_tags_are_delivered_as_they_were_on_the_wire() {
    let Some(lab) = Lab::open("vlan_tags_are_delivered_as_they_were_on_the_wire") else {
        return;
    };
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 0, false));
    let tags: [&[u8]; 4] = [
        &[0x81, 0x00, 0x20, 0x64],
        &[0x81, 0x00, 0x00, 0x00],
        &[0x88, 0xa8, 0x0f, 0xff],
        &[0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x00, 0x06],
    ];
    let mut sent: Vec<Vec<u8>> = tags
        .iter()
        .enumerate()
        .map(|(at, tag)| {
            let mut frame = udp(0, at as u64, 100);
            frame.splice(12..12, tag.iter().copied());
            frame
        })
        .collect();
    // As long as a tagged frame may be: the MTU, the header and one tag.
    let mut longest = udp(0, 9, 1514);
    longest.splice(12..12, tags[0].iter().copied());
    sent.push(longest);
    sent.iter().for_each(|frame| sender.send_surely(frame));
    assert_eq!(receiver.frames(sent.len(), PATIENCE), sent);
    let (_, _, counts) = receiver.stop();
    assert_eq!(named(&counts, "rx_vlan_restored"), 5);
    assert_eq!(sender.stop().1.delivered, 5);
}

#[test]
fn checksums_that_the_sender_left_to_hardware_are_completed() {
    let Some(lab) = Lab::open("checksums_that_the_sender_left_to_hardware_are_completed") else {
        return;
    };
    lab.addresses();
    let mut port = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    lab.within(End::A, || {
        let socket = UdpSocket::bind("10.99.0.1:7000").unwrap();
        for len in 1..=200 {
            socket.send_to(&vec![0xa5; len], "10.99.0.2:7001").unwrap();
        }
    });
    let frames = port.frames(200, PATIENCE);
    assert_eq!(frames.len(), 200);
    for frame in &frames {
        assert_eq!(transport_sum(frame), 0xffff, "{frame:02x?}");
    }
    assert_eq!(named(&port.stop().2, "rx_checksum_completed"), 200);
}

#[test]
fn super_frames_are_cut_into_the_frames_they_stand_for() {
    let Some(lab) = Lab::open("super_frames_are_cut_into_the_frames_they_stand_for") else {
        return;
    };
    lab.addresses();
    let text: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let mut port = lab.within(End::B, || Port::start("af_packet:vb,blocks=128", 1, false));
    let listener = lab.within(End::B, || TcpListener::bind("10.99.0.2:7002").unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), text.len());
        });
        lab.within(End::A, || {
            let mut stream = TcpStream::connect("10.99.0.2:7002").unwrap();
            stream.write_all(&text).unwrap();
        });
    });
    let mut seen = vec![0; text.len()];
    let (mut first, mut longest) = (None, 0);
    for frame in port.frames(usize::MAX, PATIENCE) {
        longest = longest.max(frame.len());
        let layers = headers::layers(&frame).unwrap();
        if frame[6..12] != MAC_A || layers.protocol != Some(headers::protocol::TCP) {
            continue;
        }
        assert_eq!(transport_sum(&frame), 0xffff);
        let word = &frame[layers.transport + 4..][..4];
        let number = u32::from_be_bytes(word.try_into().unwrap());
        let start = *first.get_or_insert(number.wrapping_add(1));
        let payload = &frame[layers.payload.unwrap()..];
        let at = number.wrapping_sub(start) as usize;
        if !payload.is_empty() {
            seen[at..at + payload.len()].copy_from_slice(payload);
        }
    }
    let (rx, _, counts) = port.stop();
    eprintln!("{} frames, {counts:?}", rx.delivered);
    assert_eq!(rx.drops.total(), 0);
    assert!(longest <= 1514, "a frame of {longest} B");
    assert!(named(&counts, "rx_super_frames_cut") > 0);
    assert!(seen == text, "the payload differs");
}

#[test]
fn a_sender_without_offloads_needs_nothing_done() {
    let Some(lab) = Lab::open("a_sender_without_offloads_needs_nothing_done") else {
        return;
    };
    lab.addresses();
    let off =
        lab.within(End::A, || Command::new("ethtool").args(["-K", "va", "tx", "off"]).output());
    if !off.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIP a_sender_without_offloads_needs_nothing_done: needs ethtool");
        return;
    }
    let mut port = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    lab.within(End::A, || {
        let socket = UdpSocket::bind("10.99.0.1:7000").unwrap();
        socket.send_to(b"hello", "10.99.0.2:7001").unwrap();
    });
    let frames = port.frames(1, PATIENCE);
    assert_eq!(transport_sum(&frames[0]), 0xffff);
    assert_eq!(named(&port.stop().2, "rx_checksum_completed"), 0);
}
