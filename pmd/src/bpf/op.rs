//! Instructions as they are run: decoded once, jumps as the places they go to.

/// How many bytes a load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Word,
    Half,
    Byte,
}

/// An arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

/// A condition between A and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cond {
    Equal,
    Greater,
    GreaterEqual,
    AnyBit,
}

/// An instruction. Places and scratch words were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    LoadWord(u32),
    LoadHalf(u32),
    LoadByte(u32),
    /// From X + k on.
    LoadIndirect(Size, u32),
    LoadLen,
    LoadConst(u32),
    LoadMemory(u8),
    LoadXConst(u32),
    LoadXLen,
    LoadXMemory(u8),
    /// X = 4 × the lower half of the byte at k: the length of an IPv4 header.
    LoadXHeader(u32),
    Store(u8),
    StoreX(u8),
    AluConst(Alu, u32),
    AluX(Alu),
    Negate,
    Jump(u16),
    JumpConst(Cond, u32, u16, u16),
    JumpX(Cond, u16, u16),
    XFromA,
    AFromX,
    Return(u32),
    ReturnA,
}

const _: () = assert!(size_of::<Op>() == 12);

impl Op {
    /// Whether it reads or writes scratch memory.
    pub(super) fn uses_memory(&self) -> bool {
        matches!(
            self,
            Self::LoadMemory(_) | Self::LoadXMemory(_) | Self::Store(_) | Self::StoreX(_)
        )
    }
}
