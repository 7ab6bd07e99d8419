//! The requests that VFIO and iommufd understand (`<linux/vfio.h>`, `<linux/iommufd.h>`), one thin
//! function each. Knows no policy, and no lifetime but a descriptor's.
#![allow(unsafe_code, reason = "ioctls that no crate wraps")]

use std::{
    ffi::{CStr, c_int, c_void},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
};

use iommufd_bindings::{
    IOMMUFD_CMD_DESTROY, IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_IOVA_RANGES,
    IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_MAP_FILE, IOMMUFD_CMD_IOAS_UNMAP, iommu_destroy,
    iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_map_file,
    iommu_ioas_unmap, iommu_iova_range,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET, VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_detach_iommufd_pt, vfio_group_status, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap,
};

use crate::{abi::Buffer, iommu::Access};

/// Both speak `_IO(';', n)`: a number without direction or size.
const fn request(number: u32) -> libc::Ioctl {
    ((b';' as libc::Ioctl) << 8) | number as libc::Ioctl
}

const GET_API_VERSION: libc::Ioctl = request(VFIO_BASE);
const CHECK_EXTENSION: libc::Ioctl = request(VFIO_BASE + 1);
const SET_IOMMU: libc::Ioctl = request(VFIO_BASE + 2);
const GROUP_GET_STATUS: libc::Ioctl = request(VFIO_BASE + 3);
const GROUP_SET_CONTAINER: libc::Ioctl = request(VFIO_BASE + 4);
const GROUP_UNSET_CONTAINER: libc::Ioctl = request(VFIO_BASE + 5);
const GROUP_GET_DEVICE_FD: libc::Ioctl = request(VFIO_BASE + 6);
const DEVICE_SET_IRQS: libc::Ioctl = request(VFIO_BASE + 10);
const DEVICE_RESET: libc::Ioctl = request(VFIO_BASE + 11);
const IOMMU_MAP_DMA: libc::Ioctl = request(VFIO_BASE + 13);
const IOMMU_UNMAP_DMA: libc::Ioctl = request(VFIO_BASE + 14);
const DEVICE_FEATURE: libc::Ioctl = request(VFIO_BASE + 17);
const DEVICE_BIND_IOMMUFD: libc::Ioctl = request(VFIO_BASE + 18);
const DEVICE_ATTACH_IOMMUFD_PT: libc::Ioctl = request(VFIO_BASE + 19);
const DEVICE_DETACH_IOMMUFD_PT: libc::Ioctl = request(VFIO_BASE + 20);

/// A request that answers with a structure of changing length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Info {
    /// `VFIO_DEVICE_GET_INFO`.
    Device,
    /// `VFIO_DEVICE_GET_REGION_INFO`.
    Region,
    /// `VFIO_DEVICE_GET_IRQ_INFO`.
    Interrupt,
    /// `VFIO_IOMMU_GET_INFO`.
    Iommu,
}

impl Info {
    const fn number(self) -> libc::Ioctl {
        request(
            VFIO_BASE
                + match self {
                    Self::Device => 7,
                    Self::Region => 8,
                    Self::Interrupt => 9,
                    Self::Iommu => 12,
                },
        )
    }
}

/// Makes a request.
///
/// # Safety
/// `arg` is what the request takes: the kernel reads and writes there what it documents.
unsafe fn ioctl(fd: BorrowedFd<'_>, request: libc::Ioctl, arg: *mut c_void) -> io::Result<c_int> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, arg) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a request whose argument is a structure that the kernel fills in or reads, and no more.
///
/// # Safety
/// `T` is the structure that the request takes, and what it names is the caller's to give.
unsafe fn ioctl_with<T>(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    arg: &mut T,
) -> io::Result<c_int> {
    // SAFETY: `arg` is a whole, exclusive `T`; that it is the right one is the caller's promise.
    unsafe { ioctl(fd, request, ptr::from_mut(arg).cast()) }
}

/// Makes a request whose argument is a number.
///
/// # Safety
/// The request takes a number.
unsafe fn ioctl_number(fd: BorrowedFd<'_>, request: libc::Ioctl, arg: u32) -> io::Result<c_int> {
    // SAFETY: the caller's promise; the pointer is a number that nobody follows.
    unsafe { ioctl(fd, request, ptr::without_provenance_mut(arg as usize)) }
}

/// `size` or `argsz` of a structure.
const fn size<T>() -> u32 {
    const { assert!(size_of::<T>() < 4096, "an argument is small") };
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size_of::<T>() as u32;
    size
}

/// The version of VFIO's interface.
pub(crate) fn api_version(container: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: takes no argument.
    unsafe { ioctl_number(container, GET_API_VERSION, 0) }
}

/// Whether the kernel has this kind of address space.
pub(crate) fn has_extension(container: BorrowedFd<'_>, extension: u32) -> io::Result<bool> {
    // SAFETY: takes a number.
    Ok(unsafe { ioctl_number(container, CHECK_EXTENSION, extension) }? > 0)
}

/// Makes the container an address space of this kind; a group must be in it.
pub(crate) fn set_iommu(container: BorrowedFd<'_>, kind: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    unsafe { ioctl_number(container, SET_IOMMU, kind) }.map(drop)
}

/// The group's flags (`VFIO_GROUP_FLAGS_*`).
pub(crate) fn group_flags(group: BorrowedFd<'_>) -> io::Result<u32> {
    let mut status = vfio_group_status { argsz: size::<vfio_group_status>(), flags: 0 };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(group, GROUP_GET_STATUS, &mut status) }?;
    Ok(status.flags)
}

/// Puts a group into a container.
pub(crate) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let mut fd = container.as_raw_fd();
    // SAFETY: takes the address of a descriptor.
    unsafe { ioctl_with(group, GROUP_SET_CONTAINER, &mut fd) }.map(drop)
}

/// Takes a group out of its container.
pub(crate) fn unset_container(group: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl_number(group, GROUP_UNSET_CONTAINER, 0) }.map(drop)
}

/// A device of the group.
pub(crate) fn device_of(group: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: takes a string, which the kernel only reads.
    let fd = unsafe { ioctl(group, GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut().cast()) }?;
    // SAFETY: the request made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks for a structure that may be followed by capabilities; `buffer` is as long as the structure, and
/// grows to what the kernel has to say.
pub(crate) fn info(fd: BorrowedFd<'_>, info: Info, mut buffer: Buffer) -> io::Result<Buffer> {
    // Twice is enough: the second time it is as long as the kernel wished.
    for _ in 0..4 {
        let had = buffer.len();
        buffer.set_argsz();
        // SAFETY: the buffer starts with its own length, beyond which the kernel writes nothing.
        unsafe { ioctl(fd, info.number(), buffer.as_mut_ptr().cast()) }?;
        let wants = buffer.argsz();
        if wants <= had {
            return Ok(buffer);
        }
        buffer.grow(wants)?;
    }
    Err(io::Error::other("the kernel changes the length of its answer again and again"))
}

/// `VFIO_DEVICE_SET_IRQS`: `argsz, flags, index, start, count`, and a descriptor each.
pub(crate) fn set_interrupts(
    device: BorrowedFd<'_>,
    flags: u32,
    index: u32,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    const HEADER: u32 = 5;
    let count = u32::try_from(fds.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut words = vec![4 * (HEADER + count), flags, index, 0, count];
    words.extend(fds.iter().map(|fd| fd.as_raw_fd().cast_unsigned()));
    // SAFETY: the structure starts with its own length, and the kernel only reads it.
    unsafe { ioctl(device, DEVICE_SET_IRQS, words.as_mut_ptr().cast()) }.map(drop)
}

/// Resets the function.
pub(crate) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl_number(device, DEVICE_RESET, 0) }.map(drop)
}

/// Maps memory of this process for the devices of a container.
///
/// # Safety
/// Devices may write it from now on, until it is unmapped.
pub(crate) unsafe fn type1_map(
    container: BorrowedFd<'_>,
    base: NonNull<u8>,
    len: u64,
    iova: u64,
    access: Access,
) -> io::Result<()> {
    let flags = match access {
        Access::Read => VFIO_DMA_MAP_FLAG_READ,
        Access::ReadWrite => VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    };
    let mut map = vfio_iommu_type1_dma_map {
        argsz: size::<vfio_iommu_type1_dma_map>(),
        flags,
        vaddr: base.as_ptr().expose_provenance() as u64,
        iova,
        size: len,
    };
    // SAFETY: the structure of this request; the memory is the caller's to give.
    unsafe { ioctl_with(container, IOMMU_MAP_DMA, &mut map) }.map(drop)
}

/// Takes a mapping away; yields the bytes that were mapped there.
pub(crate) fn type1_unmap(container: BorrowedFd<'_>, iova: u64, len: u64) -> io::Result<u64> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size::<vfio_iommu_type1_dma_unmap>(),
        iova,
        size: len,
        ..Default::default()
    };
    // SAFETY: the structure of this request; without flags nothing follows it.
    unsafe { ioctl_with(container, IOMMU_UNMAP_DMA, &mut unmap) }?;
    Ok(unmap.size)
}

/// Binds a character device to an iommufd.
pub(crate) fn bind_iommufd(device: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> io::Result<()> {
    let mut bind = vfio_device_bind_iommufd {
        // Without the token, which older kernels do not know.
        argsz: 16,
        iommufd: iommufd.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(device, DEVICE_BIND_IOMMUFD, &mut bind) }.map(drop)
}

/// `vfio_device_feature`, `vfio_device_feature_dma_buf` and its one `vfio_region_dma_range`.
#[repr(C)]
struct ExportRequest {
    argsz: u32,
    flags: u32,
    region_index: u32,
    open_flags: u32,
    buffer_flags: u32,
    ranges: u32,
    offset: u64,
    length: u64,
}

/// Exports bytes of a BAR as a dma-buf (`VFIO_DEVICE_FEATURE_DMA_BUF`).
pub(crate) fn export(
    device: BorrowedFd<'_>,
    bar: u8,
    offset: u64,
    length: u64,
) -> io::Result<OwnedFd> {
    let mut request = ExportRequest {
        argsz: size::<ExportRequest>(),
        flags: VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
        region_index: u32::from(bar),
        open_flags: (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned(),
        buffer_flags: 0,
        ranges: 1,
        offset,
        length,
    };
    // SAFETY: the structure that this feature takes, with as many ranges as it says; what is named is a
    // BAR of the device's own.
    let fd = unsafe { ioctl_with(device, DEVICE_FEATURE, &mut request) }?;
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a bound device to an address space.
pub(crate) fn attach_iommufd(device: BorrowedFd<'_>, ioas: u32) -> io::Result<()> {
    let mut attach = vfio_device_attach_iommufd_pt {
        // Without the PASID, which older kernels do not know.
        argsz: 12,
        pt_id: ioas,
        ..Default::default()
    };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach) }.map(drop)
}

/// Takes a device out of its address space.
pub(crate) fn detach_iommufd(device: BorrowedFd<'_>) -> io::Result<()> {
    let mut detach = vfio_device_detach_iommufd_pt { argsz: 8, ..Default::default() };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(device, DEVICE_DETACH_IOMMUFD_PT, &mut detach) }.map(drop)
}

/// A new, empty address space.
pub(crate) fn ioas_alloc(iommufd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut alloc = iommu_ioas_alloc { size: size::<iommu_ioas_alloc>(), ..Default::default() };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_IOAS_ALLOC), &mut alloc) }?;
    Ok(alloc.out_ioas_id)
}

/// Ends an address space.
pub(crate) fn ioas_destroy(iommufd: BorrowedFd<'_>, ioas: u32) -> io::Result<()> {
    let mut destroy = iommu_destroy { size: size::<iommu_destroy>(), id: ioas };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_DESTROY), &mut destroy) }.map(drop)
}

/// The addresses that every attached device can reach, first and last each; and what mappings must be a
/// multiple of.
pub(crate) fn ioas_ranges(
    iommufd: BorrowedFd<'_>,
    ioas: u32,
) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let mut ranges = vec![iommu_iova_range::default(); 64];
    for _ in 0..4 {
        let room = u32::try_from(ranges.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut ask = iommu_ioas_iova_ranges {
            size: size::<iommu_ioas_iova_ranges>(),
            ioas_id: ioas,
            num_iovas: room,
            allowed_iovas: ranges.as_mut_ptr().expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: the structure of this request; it names `room` ranges, which are there.
        let asked = unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_IOAS_IOVA_RANGES), &mut ask) };
        match asked {
            Ok(_) => {
                let found = ranges.iter().take(ask.num_iovas as usize);
                let found = found.map(|range| (range.start, range.last)).collect();
                return Ok((found, ask.out_iova_alignment));
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) && ask.num_iovas > room => {
                ranges.resize(ask.num_iovas.min(1 << 16) as usize, iommu_iova_range::default());
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the kernel names more and more ranges"))
}

fn ioas_flags(access: Access) -> u32 {
    match access {
        Access::Read => FIXED_IOVA | READABLE,
        Access::ReadWrite => FIXED_IOVA | READABLE | WRITEABLE,
    }
}

/// Maps memory of this process into an address space.
///
/// # Safety
/// Devices may write it from now on, until it is unmapped.
pub(crate) unsafe fn ioas_map(
    (iommufd, ioas): (BorrowedFd<'_>, u32),
    base: NonNull<u8>,
    len: u64,
    iova: u64,
    access: Access,
) -> io::Result<()> {
    let mut map = iommu_ioas_map {
        size: size::<iommu_ioas_map>(),
        flags: ioas_flags(access),
        ioas_id: ioas,
        user_va: base.as_ptr().expose_provenance() as u64,
        length: len,
        iova,
        ..Default::default()
    };
    // SAFETY: the structure of this request; the memory is the caller's to give.
    unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_IOAS_MAP), &mut map) }.map(drop)
}

/// Maps bytes of a file into an address space. The kernel keeps the file; memory of this process is not
/// involved.
pub(crate) fn ioas_map_file(
    (iommufd, ioas): (BorrowedFd<'_>, u32),
    (file, offset): (BorrowedFd<'_>, u64),
    len: u64,
    iova: u64,
    access: Access,
) -> io::Result<()> {
    let mut map = iommu_ioas_map_file {
        size: size::<iommu_ioas_map_file>(),
        flags: ioas_flags(access),
        ioas_id: ioas,
        fd: file.as_raw_fd(),
        start: offset,
        length: len,
        iova,
    };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_IOAS_MAP_FILE), &mut map) }.map(drop)
}

/// Takes a mapping away.
pub(crate) fn ioas_unmap(
    (iommufd, ioas): (BorrowedFd<'_>, u32),
    iova: u64,
    len: u64,
) -> io::Result<()> {
    let mut unmap =
        iommu_ioas_unmap { size: size::<iommu_ioas_unmap>(), ioas_id: ioas, iova, length: len };
    // SAFETY: the structure of this request.
    unsafe { ioctl_with(iommufd, request(IOMMUFD_CMD_IOAS_UNMAP), &mut unmap) }.map(drop)
}
