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
    /// A load and the test behind it, in one: at, value, where to. Most of what libpcap writes.
    WordEqual(u32, u32, u16, u16),
    HalfEqual(u32, u32, u16, u16),
    ByteEqual(u32, u32, u16, u16),
    HalfAnyBit(u32, u32, u16, u16),
    /// From X + at on.
    HalfXEqual(u32, u32, u16, u16),
}

const _: () = assert!(size_of::<Op>() == 16);

impl Op {
    /// This operation and the one behind it in one, if there is one for that. The one behind stays
    /// where it is: others may jump to it.
    pub(super) fn fused(self, next: Self) -> Self {
        let Self::JumpConst(cond, value, yes, no) = next else {
            return self;
        };
        match (self, cond) {
            (Self::LoadWord(at), Cond::Equal) => Self::WordEqual(at, value, yes, no),
            (Self::LoadHalf(at), Cond::Equal) => Self::HalfEqual(at, value, yes, no),
            (Self::LoadByte(at), Cond::Equal) => Self::ByteEqual(at, value, yes, no),
            (Self::LoadHalf(at), Cond::AnyBit) => Self::HalfAnyBit(at, value, yes, no),
            (Self::LoadIndirect(Size::Half, at), Cond::Equal) => {
                Self::HalfXEqual(at, value, yes, no)
            }
            _ => self,
        }
    }

    /// Whether it reads or writes scratch memory.
    pub(super) fn uses_memory(&self) -> bool {
        matches!(
            self,
            Self::LoadMemory(_) | Self::LoadXMemory(_) | Self::Store(_) | Self::StoreX(_)
        )
    }
}
