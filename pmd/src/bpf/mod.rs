//! Classic BPF: the little machine that libpcap compiles filter expressions for. Programs are checked
//! when they are loaded, and run over frames with libpcap's meaning. Knows no expressions and no
//! kernel.
//!
//! A program that passes the check ends, whatever the frame: jumps go forward and stay inside, every
//! path ends in a return. A load beyond the frame, or a division by zero, ends it with "no".

mod check;
mod op;
mod run;
mod text;

use op::Op;
pub use text::TextError;

/// Instructions of a program, at most, as in the kernel.
pub const MOST: usize = 4096;
/// Words of scratch memory.
const MEMORY: usize = 16;

/// One instruction, as libpcap and the kernel write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    /// What to do.
    pub code: u16,
    /// How many to skip if the condition holds.
    pub jt: u8,
    /// How many to skip if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// Why a program was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It has no instruction.
    #[error("the program is empty")]
    Empty,
    /// It has too many.
    #[error("{0} instructions are more than the limit {MOST}")]
    TooLong(usize),
    /// Something is wrong with an instruction.
    #[error("instruction {at}: {why}")]
    Insn {
        /// Its number, from 0.
        at: usize,
        /// What is wrong.
        why: String,
    },
}

/// A program that was checked.
///
/// ```
/// use pmd::bpf::Program;
///
/// // tcpdump -ddd -y EN10MB ip
/// let ip: Program = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0".parse()?;
/// let mut frame = [0; 60];
/// assert!(!ip.matches(&frame, 60));
/// frame[12] = 8;
/// assert!(ip.matches(&frame, 60));
/// # Ok::<(), pmd::bpf::TextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    ops: Box<[Op]>,
    insns: Box<[Insn]>,
    uses_memory: bool,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// It could leave its own bounds, run for ever, divide by a constant zero, or asks for what only
    /// the kernel knows (`SKF_AD_…`).
    pub fn new(insns: &[Insn]) -> Result<Self, ProgramError> {
        let ops = check::check(insns)?;
        let uses_memory = ops.iter().any(Op::uses_memory);
        Ok(Self { ops, insns: insns.into(), uses_memory })
    }

    /// The instructions it was made of.
    #[must_use]
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Whether a frame passes. `bytes` are what is there of it, `len` is its length on the wire.
    #[inline]
    #[must_use]
    pub fn matches(&self, bytes: &[u8], len: usize) -> bool {
        self.run(bytes, len) != 0
    }

    /// What the program returns for a frame: 0, or how many bytes of it to keep.
    #[must_use]
    pub fn run(&self, bytes: &[u8], len: usize) -> u32 {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if self.uses_memory {
            run::run(&self.ops, bytes, len, &mut [0; MEMORY])
        } else {
            run::run(&self.ops, bytes, len, &mut [])
        }
    }
}
