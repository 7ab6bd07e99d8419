//! The system calls of packet sockets, one thin function each. Knows no ring and no policy.
#![allow(unsafe_code, reason = "system calls that no crate wraps")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use libc::{c_int, socklen_t};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::abi::{InterfaceRequest, LinkAddress, Statistics};

/// A packet socket that is bound to nothing and receives nothing.
pub(super) fn socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

/// A socket to ask about interfaces with; anyone may have one.
pub(super) fn asking_socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socklen<T>() -> socklen_t {
    const { assert!(size_of::<T>() < 4096, "an option is small") };
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let len = size_of::<T>() as socklen_t;
    len
}

/// Sets an option of the packet level.
pub(super) fn set_option<T: IntoBytes + Immutable>(
    socket: BorrowedFd<'_>,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, option, value)
}

fn set<T: IntoBytes + Immutable>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let (fd, value) = (socket.as_raw_fd(), ptr::from_ref(value).cast());
    // SAFETY: `value` points to a whole `T`, which the kernel reads and no more.
    check(unsafe { libc::setsockopt(fd, level, option, value, socklen::<T>()) })
}

fn get<T: FromBytes + IntoBytes>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
) -> io::Result<T> {
    let mut value = T::new_zeroed();
    let mut len = socklen::<T>();
    let (fd, to) = (socket.as_raw_fd(), ptr::from_mut(&mut value).cast());
    // SAFETY: `to` points to a whole `T` of `len` bytes, any of which are a `T`.
    check(unsafe { libc::getsockopt(fd, level, option, to, &raw mut len) })?;
    Ok(value)
}

/// An option of the packet level.
pub(super) fn option<T: FromBytes + IntoBytes>(
    socket: BorrowedFd<'_>,
    option: c_int,
) -> io::Result<T> {
    get(socket, libc::SOL_PACKET, option)
}

/// What the kernel counted since the last call.
pub(super) fn take_statistics(socket: BorrowedFd<'_>) -> io::Result<Statistics> {
    option(socket, libc::PACKET_STATISTICS)
}

/// A number that names the socket's network namespace.
pub(super) fn namespace(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: c_int = 71;
    get(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)
}

/// Lets `bytes` wait for transmission, more than the system's limit if we may.
pub(super) fn set_send_buffer(socket: BorrowedFd<'_>, bytes: u32) {
    if set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes).is_err() {
        let _ = set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes);
    }
}

/// Binds to an interface: frames of `protocol` only, or none if it is 0.
pub(super) fn bind(socket: BorrowedFd<'_>, index: i32, protocol: u16) -> io::Result<()> {
    let family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    let protocol = protocol.to_be();
    let address = LinkAddress { family, protocol, index, ..LinkAddress::default() };
    let to = ptr::from_ref(&address).cast();
    // SAFETY: `to` points to a whole link address, which the kernel reads.
    check(unsafe { libc::bind(socket.as_raw_fd(), to, socklen::<LinkAddress>()) })
}

/// The interface a socket is bound to; negative once it is gone.
pub(super) fn bound_index(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut address = LinkAddress::default();
    let mut len = socklen::<LinkAddress>();
    let to = ptr::from_mut(&mut address).cast();
    // SAFETY: `to` points to a whole link address of `len` bytes, which the kernel writes.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), to, &raw mut len) })?;
    Ok(address.index)
}

/// Has the kernel send what stands in the transmit ring.
#[inline]
pub(super) fn kick(socket: BorrowedFd<'_>) -> Result<(), c_int> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: no buffer and no address are passed.
    let sent = unsafe { libc::sendto(fd, ptr::null(), 0, flags, ptr::null(), 0) };
    if sent >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

/// Which frames a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// None: while sockets are being joined.
    None,
    /// Those that a NIC which is not promiscuous would let through.
    Ours,
    /// All.
    All,
}

/// Sets the socket's filter. What a filter refuses is neither copied nor counted.
pub(super) fn set_filter(socket: BorrowedFd<'_>, filter: Filter) -> io::Result<()> {
    const LOAD: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS; ancillary loads ignore the width
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const PACKET_TYPE: u32 = 0xffff_f004; // SKF_AD_OFF + SKF_AD_PKTTYPE
    const OTHER_HOST: u32 = 3; // PACKET_OTHERHOST
    let op = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = match filter {
        Filter::None => vec![op(RETURN, 0, 0)],
        Filter::Ours => vec![
            op(LOAD, 0, PACKET_TYPE),
            op(JUMP_IF_EQUAL, 1, OTHER_HOST),
            op(RETURN, 0, u32::MAX),
            op(RETURN, 0, 0),
        ],
        Filter::All => vec![op(RETURN, 0, u32::MAX)],
    };
    let len = u16::try_from(program.len()).unwrap_or_default();
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let (fd, value) = (socket.as_raw_fd(), ptr::from_ref(&program).cast());
    let (level, size) = (libc::SOL_SOCKET, socklen::<libc::sock_fprog>());
    // SAFETY: `value` points to a program of `len` instructions that lives until the call is over.
    check(unsafe { libc::setsockopt(fd, level, libc::SO_ATTACH_FILTER, value, size) })
}

/// Asks about an interface.
pub(super) fn interface(
    socket: BorrowedFd<'_>,
    what: libc::Ioctl,
    request: &mut InterfaceRequest,
) -> io::Result<()> {
    let argument = ptr::from_mut(request);
    // SAFETY: `argument` points to a whole `ifreq`, all that the SIOCGIF* calls read and write.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, argument) })
}

/// Asks an interface's driver: `command` starts with the number of an ethtool command whose
/// structure it has the length of.
pub(super) fn ethtool<const N: usize>(
    socket: BorrowedFd<'_>,
    name: [u8; 16],
    command: &mut EthtoolCommand<N>,
) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let mut request = InterfaceRequest { name, data: [0; 24] };
    let address = ptr::from_mut(command).expose_provenance();
    request.data[..size_of::<usize>()].copy_from_slice(&address.to_ne_bytes());
    let argument = &raw mut request;
    // SAFETY: `argument` points to a whole `ifreq` with the address of a command structure, which
    // is at least as long as the command's (`EthtoolCommand`'s makers see to that) and aligned.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, argument) })
}

/// The structure of one ethtool command.
#[repr(C, align(8))]
pub(super) struct EthtoolCommand<const N: usize>([u8; N]);

impl<const N: usize> EthtoolCommand<N> {
    fn of(command: u32) -> Self {
        let mut bytes = [0; N];
        bytes[..4].copy_from_slice(&command.to_ne_bytes());
        Self(bytes)
    }

    /// The answer.
    pub(super) fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

/// `ETHTOOL_GSET`, `struct ethtool_cmd`.
pub(super) fn link_settings() -> EthtoolCommand<44> {
    EthtoolCommand::of(1)
}

/// `ETHTOOL_GLINK`, `struct ethtool_value`: whether there is a carrier, now.
pub(super) fn carrier() -> EthtoolCommand<8> {
    EthtoolCommand::of(10)
}

/// `ETHTOOL_GDRVINFO`, `struct ethtool_drvinfo`.
pub(super) fn driver_info() -> EthtoolCommand<196> {
    EthtoolCommand::of(3)
}

/// The names of all interfaces of this namespace.
pub(super) fn interface_names() -> Vec<String> {
    // SAFETY: allocates a list, or returns null.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut at = list;
    loop {
        // SAFETY: the list ends with an entry of index 0, at which we stop.
        let entry = unsafe { at.read() };
        if entry.if_index == 0 || entry.if_name.is_null() {
            break;
        }
        // SAFETY: a name of the list is a C string until the list is freed.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        names.push(name.to_string_lossy().into_owned());
        // SAFETY: not the last entry, so there is another.
        at = unsafe { at.add(1) };
    }
    // SAFETY: the list that `if_nameindex` made, freed once.
    unsafe { libc::if_freenameindex(list) };
    names
}
