//! Who may look inside a buffer: a closed set of marker types, decided at compile time.

use crate::CpuAccess;

mod sealed {
    pub trait Sealed {}
}

/// What the holder of a buffer may do with its bytes. Implemented by [`Cpu`], [`Device`], [`Peer`]
/// and [`Shared`] only.
pub trait Access: sealed::Sealed + Send + Sync + 'static {
    /// The name used in reports.
    const NAME: &'static str;
    /// True where several handles may name one slot, so that a release counts references.
    const COUNTED: bool;
    /// Whether a region with this CPU access can back such a pool.
    fn accepts(region: CpuAccess) -> bool;
}

/// Bytes are slices: ordinary memory that only the owner of the buffer touches.
#[derive(Debug)]
pub enum Cpu {}

/// Addresses only. There is no way to read the bytes: the memory may be a GPU, a PCI BAR, or pages
/// that the CPU has no right to.
#[derive(Debug)]
pub enum Device {}

/// Another process may write at any time: bytes are copied out and in with volatile accesses, never
/// borrowed.
#[derive(Debug)]
pub enum Peer {}

/// A counted, read-only reference to a [`Cpu`] buffer: see [`crate::SharedBuf`].
#[derive(Debug)]
pub enum Shared {}

/// Access under which the bytes can be borrowed as a slice.
pub trait Readable: Access {}

/// Access under which the bytes can be borrowed mutably: one owner, ordinary memory.
pub trait Writable: Readable {}

impl Readable for Cpu {}
impl Readable for Shared {}
impl Writable for Cpu {}

macro_rules! access {
    ($($name:ident: $text:literal, counted $counted:literal, $accepts:pat,)*) => {$(
        impl sealed::Sealed for $name {}
        impl Access for $name {
            const NAME: &'static str = $text;
            const COUNTED: bool = $counted;
            fn accepts(region: CpuAccess) -> bool { matches!(region, $accepts) }
        }
    )*};
}

access! {
    Cpu: "cpu", counted false, CpuAccess::ReadWrite,
    Device: "device", counted false, _,
    Peer: "peer", counted false, CpuAccess::ReadWrite | CpuAccess::Volatile,
    Shared: "shared", counted true, CpuAccess::ReadWrite,
}
