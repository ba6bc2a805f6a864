//! Makes a restored guest its own: every fork wakes with the same random state, the same clock and the same name.
//!
//! What always holds: the entropy is mixed in and the generator reseeded before the host is told so, and the host starts
//! nothing before.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use wire::Thaw;

use crate::operations::Failure;

/// `RNDADDENTROPY` of linux/random.h: `_IOW('R', 0x03, int[2])`.
const ADD_ENTROPY: libc::Ioctl = 0x4008_5203;

/// `RNDRESEEDCRNG` of linux/random.h: `_IO('R', 0x07)`.
const RESEED: libc::Ioctl = 0x5207;

/// `struct rand_pool_info` of linux/random.h, with room for what a [`Thaw`] carries.
#[repr(C)]
struct Entropy {
    /// Credited, in bits.
    bits: libc::c_int,
    /// Length of `bytes`.
    size: libc::c_int,
    bytes: [[u8; 32]; 2],
}

/// Does all of it.
pub(crate) fn thaw(thaw: &Thaw) -> Result<(), Failure> {
    reseed(thaw.entropy).map_err(Failure::doing("reseed the random number generator"))?;
    clock_settime(
        ClockId::CLOCK_REALTIME,
        TimeSpec::from_duration(thaw.realtime),
    )
    .map_err(Failure::doing("set the clock"))?;
    nix::unistd::sethostname(&thaw.hostname).map_err(Failure::doing("set the hostname"))
}

fn reseed(entropy: ([u8; 32], [u8; 32])) -> std::io::Result<()> {
    let random = File::options().write(true).open("/dev/urandom")?;
    let entropy = Entropy {
        bits: 512,
        size: 64,
        bytes: [entropy.0, entropy.1],
    };
    // SAFETY: the first call reads a rand_pool_info of the length it states; the second takes no argument.
    #[expect(unsafe_code, reason = "the two ioctls have no wrapper")]
    let results = unsafe {
        let added = libc::ioctl(random.as_raw_fd(), ADD_ENTROPY, &raw const entropy);
        [added, libc::ioctl(random.as_raw_fd(), RESEED)]
    };
    if results.contains(&-1) {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}
