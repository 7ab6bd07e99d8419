//! From instructions to operations, if all of them are sound.

use super::{
    Insn, MEMORY, MOST, ProgramError,
    op::{Alu, Cond, Op, Size},
};

/// Loads from here on are questions to the kernel (`SKF_AD_OFF`, `SKF_NET_OFF`, `SKF_LL_OFF`).
const KERNEL: u32 = 0xffe0_0000;

/// Decodes a program.
pub(super) fn check(insns: &[Insn]) -> Result<Box<[Op]>, ProgramError> {
    if insns.is_empty() {
        return Err(ProgramError::Empty);
    }
    if insns.len() > MOST {
        return Err(ProgramError::TooLong(insns.len()));
    }
    let decode =
        |(at, insn)| decode(insn, at, insns.len()).map_err(|why| ProgramError::Insn { at, why });
    let ops: Box<[Op]> = insns.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
    match ops.last() {
        Some(Op::Return(_) | Op::ReturnA) => {
            let pairs = ops.iter().zip(&ops[1..]).map(|(op, next)| op.fused(*next));
            Ok(pairs.chain(ops.last().copied()).collect())
        }
        _ => Err(ProgramError::Insn {
            at: insns.len() - 1,
            why: "the program does not end in a return".into(),
        }),
    }
}

/// Decodes the instruction at `at` of `count`. The encoding is that of `linux/bpf_common.h`.
fn decode(insn: &Insn, at: usize, count: usize) -> Result<Op, String> {
    let Insn { code, jt, jf, k } = *insn;
    let unknown = || format!("code {code:#06x} is not known");
    let to = |skip: u32| {
        let to = at as u64 + 1 + u64::from(skip);
        u16::try_from(to)
            .ok()
            .filter(|to| usize::from(*to) < count)
            .ok_or_else(|| format!("jumps to instruction {to}, of {count}"))
    };
    let scratch = || match usize::try_from(k) {
        Ok(word) if word < MEMORY => Ok(u8::try_from(word).unwrap_or(0)),
        _ => Err(format!("scratch word {k} is not there; there are {MEMORY}")),
    };
    let place = || {
        if k >= KERNEL {
            Err(format!("load at {k:#x}: what only the kernel knows is not supported"))
        } else {
            Ok(k)
        }
    };
    // Class in the three lowest bits.
    match code & 0x07 {
        // LD: size in bits 3-4, mode in bits 5-7.
        0x00 => Ok(match code {
            0x00 => Op::LoadConst(k),
            0x20 => Op::LoadWord(place()?),
            0x28 => Op::LoadHalf(place()?),
            0x30 => Op::LoadByte(place()?),
            0x40 => Op::LoadIndirect(Size::Word, place()?),
            0x48 => Op::LoadIndirect(Size::Half, place()?),
            0x50 => Op::LoadIndirect(Size::Byte, place()?),
            0x60 => Op::LoadMemory(scratch()?),
            0x80 => Op::LoadLen,
            _ => return Err(unknown()),
        }),
        // LDX
        0x01 => Ok(match code {
            0x01 => Op::LoadXConst(k),
            0x61 => Op::LoadXMemory(scratch()?),
            0x81 => Op::LoadXLen,
            0xb1 => Op::LoadXHeader(place()?),
            _ => return Err(unknown()),
        }),
        0x02 if code == 0x02 => Ok(Op::Store(scratch()?)),
        0x03 if code == 0x03 => Ok(Op::StoreX(scratch()?)),
        // ALU: operation in bits 4-7, source in bit 3.
        0x04 => {
            let alu = match code & 0xf0 {
                0x00 => Alu::Add,
                0x10 => Alu::Sub,
                0x20 => Alu::Mul,
                0x30 => Alu::Div,
                0x40 => Alu::Or,
                0x50 => Alu::And,
                0x60 => Alu::Shl,
                0x70 => Alu::Shr,
                0x80 if code == 0x84 => return Ok(Op::Negate),
                0x90 => Alu::Mod,
                0xa0 => Alu::Xor,
                _ => return Err(unknown()),
            };
            match (code & !0xf8, code & 0x08, alu) {
                (0x04, 0x08, _) => Ok(Op::AluX(alu)),
                (0x04, _, Alu::Div | Alu::Mod) if k == 0 => Err("divides by zero".into()),
                (0x04, _, Alu::Shl | Alu::Shr) if k > 31 => Err(format!("shifts by {k} bits")),
                (0x04, ..) => Ok(Op::AluConst(alu, k)),
                _ => Err(unknown()),
            }
        }
        // JMP
        0x05 => {
            if code == 0x05 {
                return Ok(Op::Jump(to(k)?));
            }
            let cond = match code & 0xf0 {
                0x10 => Cond::Equal,
                0x20 => Cond::Greater,
                0x30 => Cond::GreaterEqual,
                0x40 => Cond::AnyBit,
                _ => return Err(unknown()),
            };
            let (yes, no) = (to(u32::from(jt))?, to(u32::from(jf))?);
            match code & !0xf0 {
                0x05 => Ok(Op::JumpConst(cond, k, yes, no)),
                0x0d => Ok(Op::JumpX(cond, yes, no)),
                _ => Err(unknown()),
            }
        }
        // RET
        0x06 => match code {
            0x06 => Ok(Op::Return(k)),
            0x16 => Ok(Op::ReturnA),
            _ => Err(unknown()),
        },
        // MISC
        0x07 => match code {
            0x07 => Ok(Op::XFromA),
            0x87 => Ok(Op::AFromX),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Insn = Insn { code: 6, jt: 0, jf: 0, k: 1 };

    fn refusal(insns: &[Insn]) -> String {
        check(insns).expect_err("refused").to_string()
    }

    #[test]
    fn what_could_go_astray_is_refused() {
        let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
        for (bad, why) in [
            (insn(0x15, 1, 0, 0), "instruction 0: jumps to instruction 2, of 2"),
            (insn(0x15, 0, 255, 0), "instruction 0: jumps to instruction 256, of 2"),
            (insn(0x05, 0, 0, 1), "instruction 0: jumps to instruction 2, of 2"),
            // A jump back, in the two's complement that libpcap would take.
            (insn(0x05, 0, 0, u32::MAX), "instruction 0: jumps to instruction 4294967296, of 2"),
            (insn(0x34, 0, 0, 0), "instruction 0: divides by zero"),
            (insn(0x94, 0, 0, 0), "instruction 0: divides by zero"),
            (insn(0x64, 0, 0, 32), "instruction 0: shifts by 32 bits"),
            (insn(0x60, 0, 0, 16), "instruction 0: scratch word 16 is not there; there are 16"),
            (
                insn(0x02, 0, 0, u32::MAX),
                "instruction 0: scratch word 4294967295 is not there; there are 16",
            ),
            (
                insn(0x30, 0, 0, 0xffff_f02c),
                "instruction 0: load at 0xfffff02c: what only the kernel knows is not supported",
            ),
            (insn(0xffff, 0, 0, 0), "instruction 0: code 0xffff is not known"),
            (insn(0x0115, 0, 0, 0), "instruction 0: code 0x0115 is not known"),
        ] {
            assert_eq!(refusal(&[bad, RETURN]), why);
        }
        assert_eq!(refusal(&[]), "the program is empty");
        assert_eq!(refusal(&[RETURN; 4097]), "4097 instructions are more than the limit 4096");
        assert!(check(&[RETURN; 4096]).is_ok());
        let open = [RETURN, insn(0, 0, 0, 7)];
        assert_eq!(refusal(&open), "instruction 1: the program does not end in a return");
    }
}
