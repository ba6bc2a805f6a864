//! The machine's memory: how much there is, how much is free, and taking what is free.

use std::fs;
use std::io;
use std::ptr::NonNull;

/// Left free by [`take`]: twice what the kernel is told to keep for itself, because its count of free pages may be behind by some
/// hundred.
const MARGIN: u64 = 2 << 20;

/// Taken at once while there is plenty: some 20 ms of work under emulation, so that the look at what is left is never old.
const LARGE_STEP: u64 = 8 << 20;

/// Taken at once near the end.
const SMALL_STEP: u64 = 64 << 10;

/// Given back and taken again, twice: more than is left in small pieces.
const RETURNED: u64 = 4 * MARGIN;

/// The size of a page, and of a page table, on x86-64.
const PAGE: u64 = 4096;

/// The size of a huge page there, which is what one page table is for.
const HUGE: u64 = 2 << 20;

/// The machine's memory in bytes.
pub(crate) fn total() -> io::Result<u64> {
    field("MemTotal:")
}

/// What of it nobody uses, in bytes; not what the kernel could make free.
pub(crate) fn free() -> io::Result<u64> {
    field("MemFree:")
}

fn field(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let kib: Option<u64> = kib.and_then(|number| number.parse().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("no {name} in /proc/meminfo")))
}

/// Takes free memory, which the kernel clears, until [`MARGIN`] is left; gives the number of bytes that are clear. The memory is this process's until
/// its end, and of all processes this is the one that is killed for want of memory.
///
/// What is left at first is the smallest pieces, as they were. So large ones, clear by now, are given back, and as much is taken in
/// single pages: the kernel breaks no large piece while it has a small one, and what is left in the end is clear as well. It keeps the
/// small pieces of programs and its own apart; page tables are its own.
pub(crate) fn take() -> io::Result<u64> {
    fs::write("/proc/self/oom_score_adj", "1000")?;
    let large = Reserved::new(total()?, true)?;
    let small = Reserved::new(total()?, false)?;
    let large_bytes = large.fill(0, LARGE_STEP)?;
    let small_bytes = small.fill(0, SMALL_STEP)?;
    if large_bytes >= 2 * RETURNED {
        large.advise(0, RETURNED, libc::MADV_DONTNEED)?;
        small.fill(small_bytes, SMALL_STEP)?;
        large.advise(RETURNED, RETURNED, libc::MADV_DONTNEED)?;
        make_page_tables(RETURNED / 2)?;
    }
    Ok(large_bytes + small_bytes)
}

/// Has the kernel make page tables of that many bytes: one page for each 2 MiB of addresses that is looked at.
fn make_page_tables(bytes: u64) -> io::Result<()> {
    let tables = bytes / PAGE;
    let addresses = Reserved::new(tables * HUGE, false)?;
    for table in 0..tables {
        // Only read, it is all the same page of zeroes.
        addresses.advise(table * HUGE, PAGE, libc::MADV_POPULATE_READ)?;
    }
    Ok(())
}

/// Addresses, without memory as yet.
struct Reserved {
    start: NonNull<libc::c_void>,
    length: u64,
}

impl Reserved {
    fn new(length: u64, huge: bool) -> io::Result<Self> {
        let length = length.next_multiple_of(HUGE);
        let advice = if huge {
            libc::MADV_HUGEPAGE
        } else {
            libc::MADV_NOHUGEPAGE
        };
        let size = usize::try_from(length + HUGE).expect("64 bits");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        #[expect(unsafe_code, reason = "mmap")]
        let start = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let huge = usize::try_from(HUGE).expect("64 bits");
        let start = start.map_addr(|address| address.next_multiple_of(huge));
        let reserved = Self {
            start: NonNull::new(start).expect("a mapping is not at 0"),
            length,
        };
        // A kernel without huge pages refuses the advice; then there are none.
        let _ = reserved.advise(0, length, advice);
        Ok(reserved)
    }

    /// Gives it memory from `offset` on, `step` bytes at a time, as long as that leaves the margin; gives the number of bytes.
    fn fill(&self, offset: u64, step: u64) -> io::Result<u64> {
        let mut filled = 0;
        while offset + filled + step <= self.length && free()? >= MARGIN + step {
            match self.advise(offset + filled, step, libc::MADV_POPULATE_WRITE) {
                Ok(()) => filled += step,
                // There is none left after all.
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn advise(&self, offset: u64, length: u64, advice: libc::c_int) -> io::Result<()> {
        assert!(offset + length <= self.length, "within the mapping");
        let (offset, length) = (
            usize::try_from(offset).expect("64 bits"),
            usize::try_from(length).expect("64 bits"),
        );
        // SAFETY: the range lies in a mapping that nothing else uses.
        #[expect(unsafe_code, reason = "madvise")]
        let advised =
            unsafe { libc::madvise(self.start.as_ptr().byte_add(offset), length, advice) };
        if advised == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
