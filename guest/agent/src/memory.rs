//! The machine's memory: how much there is, how much is free, and taking what is free.

use std::fs;
use std::io;
use std::ptr::NonNull;

/// Left free by [`take`]: twice what the kernel is told to keep for itself, because its count of free pages may be behind by some
/// hundred.
const MARGIN: u64 = 2 << 20;

/// Taken at once while there is plenty: some 10 ms of work under emulation, so that the look at what is left is never old.
const LARGE_STEP: u64 = 8 << 20;

/// Taken at once near the end.
const SMALL_STEP: u64 = 64 << 10;

/// The size of a huge page on x86-64.
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

/// Takes free memory, which the kernel clears, until [`MARGIN`] is left; gives the number of bytes. The memory is this process's until
/// its end, and of all processes this is the one that is killed for want of memory.
pub(crate) fn take() -> io::Result<u64> {
    fs::write("/proc/self/oom_score_adj", "1000")?;
    let large = Reserved::new(total()?, true)?;
    let taken = large.fill(LARGE_STEP)?;
    // By single pages: of these there are some between what is in use, and a huge page would be more than is left.
    let small = Reserved::new(total()?, false)?;
    Ok(taken + small.fill(SMALL_STEP)?)
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

    /// Gives it memory, `step` bytes at a time, as long as that leaves the margin; gives the number of bytes.
    fn fill(&self, step: u64) -> io::Result<u64> {
        let mut filled = 0;
        while filled + step <= self.length && free()? >= MARGIN + step {
            match self.advise(filled, step, libc::MADV_POPULATE_WRITE) {
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
