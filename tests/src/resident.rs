//! How large a process is: `VmRSS` of `/proc/PID/status`.

use std::fs;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

/// The memory that a process has in use, in KiB.
pub fn resident_kib(process: Pid) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.with_context(|| format!("{path} has no VmRSS"))?
        .parse()
        .with_context(|| format!("read VmRSS in {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_size() {
        assert!(resident_kib(Pid::this()).unwrap() > 100);
    }
}
