//! The BPF machine against the kernel's: random programs over random frames, and the verdicts of both.
//! The kernel runs them on the packets of a socket pair; that needs no privilege.
#![allow(unsafe_code, reason = "attaches a filter to a socket, which has no safe call")]

use std::{
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    time::Duration,
};

use pmd::bpf::{Insn, Program};
use proptest::prelude::*;

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

/// Constants: small ones, offsets about the frame's end, and extremes.
const VALUES: [u32; 16] =
    [0, 1, 2, 3, 7, 12, 20, 28, 30, 31, 32, 60, 0x1fff, 0x8000_0000, u32::MAX, 0xdead_beef];

/// X is kept below 64: where X + k leaves 32 bits, the kernel wraps and libpcap refuses the frame, and
/// we do as libpcap does.
const SMALL_X: [Insn; 3] = [insn(0x87, 0), insn(0x54, 0x3f), insn(0x07, 0)];

const fn insn(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

/// A step of a program: instructions that jumps do not go into. Jumps are in steps, for now, of which
/// `left` more come.
fn step(dice: &mut Dice, left: usize) -> Vec<Insn> {
    let place = dice.pick(&[0_u32, 1, 2, 11, 12, 14, 20, 29, 30, 31, 32, 33, 1000]);
    let word = u32::try_from(dice.roll(16)).unwrap();
    let one = |code, k| vec![insn(code, k)];
    match dice.roll(12) {
        0..3 => one(dice.pick(&[0x20, 0x28, 0x30, 0x40, 0x48, 0x50]), place),
        3 => match dice.roll(2) {
            0 => one(0x00, dice.pick(&VALUES)),
            _ => one(0x01, u32::try_from(dice.roll(64)).unwrap()),
        },
        4 => one(dice.pick(&[0x80, 0x81]), 0),
        5 => one(0xb1, place),
        6 => one(dice.pick(&[0x02, 0x03]), word),
        7 => match dice.roll(3) {
            0 => vec![SMALL_X[1], SMALL_X[2]],
            1 => one(0x87, 0),
            _ => one(0x84, 0),
        },
        8 => one(dice.pick(&[0x04, 0x14, 0x24, 0x44, 0x54, 0xa4]), dice.pick(&VALUES)),
        9 => match dice.roll(4) {
            0 => one(dice.pick(&[0x34, 0x94]), dice.pick(&VALUES).max(1)),
            1 => one(dice.pick(&[0x64, 0x74]), u32::try_from(dice.roll(32)).unwrap()),
            _ => one(dice.pick(&[0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x9c, 0xac]), 0),
        },
        10 => match dice.roll(2) {
            0 => one(0x60, word),
            _ => vec![insn(0x61, word), SMALL_X[0], SMALL_X[1], SMALL_X[2]],
        },
        _ => {
            let mut skip = || u8::try_from(dice.roll(left.min(8))).unwrap();
            let (jt, jf) = (skip(), skip());
            let code = dice.pick(&[0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d]);
            vec![Insn { code, jt, jf, k: dice.pick(&VALUES) }]
        }
    }
}

/// A program that stores to all scratch words first: the kernel refuses loads of those never stored.
fn program(dice: &mut Dice) -> Vec<Insn> {
    let mut steps: Vec<Vec<Insn>> =
        (0..16).map(|word| vec![insn(2 + u16::from(word % 2 == 1), word)]).collect();
    let body = 1 + dice.roll(30);
    for at in 0..body {
        steps.push(step(dice, body - at));
    }
    // What A is in the end: 0, or how many bytes pass.
    steps.push(vec![insn(0x16, 0)]);
    let mut starts = vec![0];
    steps.iter().for_each(|step| starts.push(starts[starts.len() - 1] + step.len()));
    for (at, step) in steps.iter_mut().enumerate() {
        for insn in step {
            let skip = |steps: u8| {
                u8::try_from(starts[at + 1 + usize::from(steps)] - starts[at + 1]).unwrap()
            };
            (insn.jt, insn.jf) = (skip(insn.jt), skip(insn.jf));
        }
    }
    steps.concat()
}

/// Attaches a program; false if the kernel refuses it.
fn attach(socket: &UnixDatagram, insns: &[Insn]) -> bool {
    let mut filter: Vec<libc::sock_filter> = insns
        .iter()
        .map(|Insn { code, jt, jf, k }| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
        .collect();
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    let len = libc::socklen_t::try_from(size_of_val(&program)).unwrap();
    // SAFETY: the program and its instructions live until the call returns, and the length is its.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            len,
        )
    };
    done == 0
}

/// How many bytes of a frame the kernel lets through.
fn kernel(from: &UnixDatagram, to: &UnixDatagram, frame: &[u8]) -> usize {
    // A filter that drops it makes the call fail, or succeed with nothing to be read.
    if from.send(frame).is_err() {
        return 0;
    }
    let mut buffer = [0; 256];
    to.recv(&mut buffer).unwrap_or(0)
}

#[test]
fn verdicts_are_those_of_the_kernel() {
    let (from, to) = UnixDatagram::pair().unwrap();
    to.set_nonblocking(true).unwrap();
    from.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let full = std::env::var_os("MEMWIRE_FULL").is_some_and(|full| full == "1");
    let mut dice = Dice(0x0123_4567_89ab_cdef);
    let (mut passed, mut dropped, mut cut) = (0, 0, 0);
    for round in 0..if full { 100_000 } else { 4000 } {
        let insns = program(&mut dice);
        let ours = Program::new(&insns).unwrap_or_else(|error| panic!("{error}: {insns:?}"));
        if !attach(&to, &insns) {
            let why = std::io::Error::last_os_error();
            if round == 0 {
                eprintln!("SKIP verdicts_are_those_of_the_kernel: attaching a filter: {why}");
                return;
            }
            panic!("the kernel refuses {insns:?}: {why}");
        }
        for _ in 0..4 {
            let len = 1 + dice.roll(64);
            let frame: Vec<u8> = (0..len).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
            let keep = usize::try_from(ours.run(&frame, len)).unwrap();
            let expected = kernel(&from, &to, &frame);
            assert_eq!(keep.min(len), expected, "of {frame:?} by\n{ours}");
            match expected {
                0 => dropped += 1,
                all if all == len => passed += 1,
                _ => cut += 1,
            }
        }
    }
    assert!(passed > 500 && dropped > 500 && cut > 100, "{passed} {dropped} {cut}");
}

fn any_insn() -> impl Strategy<Value = Insn> {
    let code = prop_oneof![
        20 => prop::sample::select(vec![
            0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02,
            0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64,
            0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35,
            0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87_u16,
        ]),
        1 => any::<u16>(),
    ];
    let k = prop_oneof![4 => 0..20_u32, 1 => any::<u32>()];
    (code, 0..6_u8, 0..6_u8, k).prop_map(|(code, jt, jf, k)| Insn { code, jt, jf, k })
}

proptest! {
    #[test]
    fn what_passes_the_check_ends_on_any_frame(
        insns in prop::collection::vec(any_insn(), 1..24),
        frame in prop::collection::vec(any::<u8>(), 0..100),
        len in any::<u16>(),
    ) {
        // As it is, and with an end that makes most of them acceptable.
        let end = Insn { code: 6, jt: 0, jf: 0, k: 7 };
        let mut ended = insns.clone();
        ended.extend([end; 8]);
        for insns in [insns, ended] {
            if let Ok(program) = Program::new(&insns) {
                program.run(&frame, usize::from(len));
                let again: Program = program.to_string().parse().unwrap();
                prop_assert_eq!(again.insns(), program.insns());
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[0-9 \n-]{0,200}") {
        let _ = text.parse::<Program>();
    }
}
