//! What no two guests share, and the time.

use std::fs::{self, File};
use std::io::Read;

use nix::time::{ClockId, clock_gettime};
use wire::Probed;

use crate::operations::Failure;

/// Answers it.
pub(crate) fn probe() -> Result<Probed, Failure> {
    let mut random = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(Failure::doing("read /dev/urandom"))?;
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid");
    let uuid = uuid.map_err(Failure::doing("read a random UUID"))?;
    let hostname = nix::unistd::gethostname().map_err(Failure::doing("read the hostname"))?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(Failure::doing("read the clock"))?;
    Ok(Probed {
        random,
        uuid: uuid.trim().to_owned(),
        realtime: now.into(),
        hostname: hostname.to_string_lossy().into_owned(),
    })
}
