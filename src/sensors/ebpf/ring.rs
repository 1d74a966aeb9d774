//! The reader's end of a kernel ring buffer.
//!
//! libbpf has one too, but maps the data twice in a row to spare itself the wrap; both copies
//! count as the guard's memory. Here a record that wraps is put together instead.
#![expect(unsafe_code, reason = "the ring is memory shared with the kernel")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// Laid out as the kernel does: the reader's position, a page on the writers', a page on the data.
#[derive(Debug)]
pub(super) struct Ring {
    consumer: NonNull<u8>,
    producer: NonNull<u8>,
    page: usize,
    size: usize,
    wrapped: Vec<u8>,
}

// SAFETY: The mappings belong to the value and stay valid on any thread; taking records needs `&mut`.
unsafe impl Send for Ring {}

impl Ring {
    /// `size` is the ring's `max_entries`: a power of two of at least a page.
    pub(super) fn new(map: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        // SAFETY: A question without arguments in memory.
        let page = unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let part = |length: usize, access, offset: usize| {
            let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
            let offset = i64::try_from(offset).map_err(io::Error::other)?;
            // SAFETY: A new mapping at a place the kernel chooses overlaps nothing of ours.
            let address = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.as_fd(), offset) }?;
            Ok::<_, io::Error>(address.cast::<u8>())
        };
        let consumer = part(page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 0)?;
        let producer = part(page + size, ProtFlags::PROT_READ, page).inspect_err(|_| {
            // SAFETY: Mapped above with this length, and not used again.
            let _ = unsafe { munmap(consumer.cast(), page) };
        })?;
        Ok(Self { consumer, producer, page, size, wrapped: Vec::new() })
    }

    /// Hands the records that are complete to `take`, at most this many; false when it left some.
    pub(super) fn consume(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> bool {
        // SAFETY: Both pages stay mapped as long as `self` lives, begin with a position, and are
        // changed by the kernel with atomic stores only.
        let (consumer, producer) = unsafe {
            (self.consumer.cast::<AtomicU64>().as_ref(), self.producer.cast::<AtomicU64>().as_ref())
        };
        let mut position = consumer.load(Ordering::Relaxed);
        let mut taken = 0;
        while position < producer.load(Ordering::Acquire) {
            if taken == most {
                return false;
            }
            taken += 1;
            let at = self.offset(position);
            // SAFETY: Records begin at multiples of eight inside the data, so the header is in
            // it and aligned.
            let header = unsafe { self.data(at).cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return true;
            }
            let length = (header & !DISCARDED) as usize;
            if header & DISCARDED == 0 {
                let start = self.offset(position + HEADER as u64);
                let first = length.min(self.size - start);
                // SAFETY: `first` bytes from `start` are inside the data. The record is complete,
                // and the kernel does not touch it before the position moves past it.
                let front = unsafe { std::slice::from_raw_parts(self.data(start).as_ptr(), first) };
                if first == length {
                    take(front);
                } else {
                    // SAFETY: As above; a record is shorter than the ring.
                    let back = unsafe { std::slice::from_raw_parts(self.data(0).as_ptr(), length - first) };
                    let mut wrapped = std::mem::take(&mut self.wrapped);
                    wrapped.clear();
                    wrapped.extend(front);
                    wrapped.extend(back);
                    take(&wrapped);
                    self.wrapped = wrapped;
                }
            }
            position += (length + HEADER).next_multiple_of(8) as u64;
            consumer.store(position, Ordering::Release);
        }
        true
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the bits below the size remain")]
    fn offset(&self, position: u64) -> usize {
        position as usize & (self.size - 1)
    }

    /// `offset` is less than the size.
    fn data(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: The mapping goes on for `size` bytes behind its first page.
        unsafe { self.producer.add(self.page + offset) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: Both were mapped with these lengths, and nothing refers to them any more.
        unsafe {
            let _ = munmap(self.consumer.cast(), self.page);
            let _ = munmap(self.producer.cast(), self.page + self.size);
        }
    }
}
