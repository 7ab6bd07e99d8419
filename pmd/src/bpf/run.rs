//! The machine: an accumulator, an index, scratch words, a frame.

use super::op::{Alu, Cond, Op, Size};

/// Runs a checked program. `memory` has all 16 words if the program uses any.
#[inline]
pub(super) fn run(ops: &[Op], bytes: &[u8], len: u32, memory: &mut [u32]) -> u32 {
    let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0_usize);
    loop {
        // Every path ends in a return before the end: jumps go forward and stay inside.
        let op = ops[pc];
        pc += 1;
        match op {
            Op::LoadWord(k) => match word(bytes, k as usize) {
                Some(value) => a = value,
                None => return 0,
            },
            Op::LoadHalf(k) => match half(bytes, k as usize) {
                Some(value) => a = value,
                None => return 0,
            },
            Op::LoadByte(k) => match bytes.get(k as usize) {
                Some(value) => a = u32::from(*value),
                None => return 0,
            },
            Op::LoadIndirect(size, k) => {
                // Two numbers of 32 bits: no overflow in 64.
                let at = x as usize + k as usize;
                let value = match size {
                    Size::Word => word(bytes, at),
                    Size::Half => half(bytes, at),
                    Size::Byte => bytes.get(at).map(|byte| u32::from(*byte)),
                };
                match value {
                    Some(value) => a = value,
                    None => return 0,
                }
            }
            Op::LoadLen => a = len,
            Op::LoadConst(k) => a = k,
            Op::LoadMemory(word) => a = memory[usize::from(word)],
            Op::LoadXConst(k) => x = k,
            Op::LoadXLen => x = len,
            Op::LoadXMemory(word) => x = memory[usize::from(word)],
            Op::LoadXHeader(k) => match bytes.get(k as usize) {
                Some(value) => x = u32::from(*value & 0xf) << 2,
                None => return 0,
            },
            Op::Store(word) => memory[usize::from(word)] = a,
            Op::StoreX(word) => memory[usize::from(word)] = x,
            Op::AluConst(alu, k) => match compute(alu, a, k) {
                Some(value) => a = value,
                None => return 0,
            },
            Op::AluX(alu) => match compute(alu, a, x) {
                Some(value) => a = value,
                None => return 0,
            },
            Op::Negate => a = a.wrapping_neg(),
            Op::Jump(to) => pc = usize::from(to),
            Op::JumpConst(cond, k, yes, no) => {
                pc = jump(holds(cond, a, k), yes, no);
            }
            Op::JumpX(cond, yes, no) => {
                pc = jump(holds(cond, a, x), yes, no);
            }
            Op::XFromA => x = a,
            Op::AFromX => a = x,
            Op::WordEqual(at, value, yes, no) => match word(bytes, at as usize) {
                Some(found) => (a, pc) = (found, jump(found == value, yes, no)),
                None => return 0,
            },
            Op::HalfEqual(at, value, yes, no) => match half(bytes, at as usize) {
                Some(found) => (a, pc) = (found, jump(found == value, yes, no)),
                None => return 0,
            },
            Op::ByteEqual(at, value, yes, no) => match bytes.get(at as usize) {
                Some(found) => {
                    a = u32::from(*found);
                    pc = jump(a == value, yes, no);
                }
                None => return 0,
            },
            Op::HalfAnyBit(at, value, yes, no) => match half(bytes, at as usize) {
                Some(found) => (a, pc) = (found, jump(found & value != 0, yes, no)),
                None => return 0,
            },
            Op::HalfXEqual(at, value, yes, no) => match half(bytes, x as usize + at as usize) {
                Some(found) => (a, pc) = (found, jump(found == value, yes, no)),
                None => return 0,
            },
            Op::Return(k) => return k,
            Op::ReturnA => return a,
        }
    }
}

#[inline(always)]
fn jump(holds: bool, yes: u16, no: u16) -> usize {
    usize::from(if holds { yes } else { no })
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_be_bytes(*raw))
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from(u16::from_be_bytes(*raw)))
}

/// `None` for a division by zero.
#[inline(always)]
fn compute(alu: Alu, a: u32, value: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(value),
        Alu::Sub => a.wrapping_sub(value),
        Alu::Mul => a.wrapping_mul(value),
        Alu::Div => a.checked_div(value)?,
        Alu::Mod => a.checked_rem(value)?,
        Alu::And => a & value,
        Alu::Or => a | value,
        Alu::Xor => a ^ value,
        // A shift by more bits than there are leaves nothing, as in libpcap.
        Alu::Shl => a.checked_shl(value).unwrap_or(0),
        Alu::Shr => a.checked_shr(value).unwrap_or(0),
    })
}

#[inline(always)]
fn holds(cond: Cond, a: u32, value: u32) -> bool {
    match cond {
        Cond::Equal => a == value,
        Cond::Greater => a > value,
        Cond::GreaterEqual => a >= value,
        Cond::AnyBit => a & value != 0,
    }
}
