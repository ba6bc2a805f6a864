//! How many jobs a worker runs at a time, where the operator does not say: as many as its processors, its memory and its disk allow.
//!
//! What always holds: at least one, since a worker that runs none is of no use; a slot's memory counts once for the guest and a bit
//! more for its VMM, though forks share what they do not write.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, MAX_SLOTS};

/// 128 MiB beside each guest: the VMM with its emulation, and a part of an artifact on its way to S3.
const VMM_MIB: u64 = 128;

/// What a worker has for its jobs, and how many that makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Jobs at a time.
    pub slots: u32,
    /// What bounds them.
    pub bound: Bound,
}

/// What bounds the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `slots` in the configuration.
    Configured,
    /// Processors.
    Processors,
    /// Memory.
    Memory,
    /// Scratch space.
    Disk,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Processors that this process may use.
    pub cores: u64,
    /// Memory that may still be taken, in MiB.
    pub memory_mib: u64,
    /// Scratch space beside what the cache may still take, in MiB.
    pub disk_mib: u64,
}

impl Capacity {
    /// For that configuration on that host.
    pub fn of(config: &Config, host: &Host) -> Self {
        if let Some(slots) = config.slots {
            return Self {
                slots,
                bound: Bound::Configured,
            };
        }
        let memory = u64::from(config.slot_memory_mib) + VMM_MIB;
        let by = [
            (
                host.cores / u64::from(config.slot_vcpu.max(1)),
                Bound::Processors,
            ),
            (host.memory_mib / memory, Bound::Memory),
            (
                host.disk_mib / u64::from(config.slot_disk_mib.max(1)),
                Bound::Disk,
            ),
        ];
        let least = by.into_iter().min_by_key(|(slots, _)| *slots);
        let (slots, bound) = least.expect("three bounds have a least");
        Self {
            slots: u32::try_from(slots)
                .unwrap_or(MAX_SLOTS)
                .clamp(1, MAX_SLOTS),
            bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Configured => "configured",
            Self::Processors => "processors",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

impl Host {
    /// Looks at this host. `free_bytes` are those of the disk, on which the cache at `cache` may grow to `cache_bytes`.
    pub fn measure(free_bytes: u64, cache: &Path, cache_bytes: u64) -> io::Result<Self> {
        let cached = used_bytes(cache)?;
        let disk = free_bytes.saturating_sub(cache_bytes.saturating_sub(cached));
        Ok(Self {
            cores: std::thread::available_parallelism()?.get() as u64,
            memory_mib: memory_mib()?,
            disk_mib: disk >> 20,
        })
    }
}

/// What may still be taken, not what there is: other programs of the host keep theirs. The page cache counts as free, as the kernel says.
fn memory_mib() -> io::Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let available = available_kib(&meminfo)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        std::fs::read_to_string(file)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    // `max`, which is no number, is no limit; nor is the first version's, which is larger than any memory.
    let limit = limits.min().map_or(u64::MAX, |bytes| bytes >> 10);
    Ok(available.min(limit) >> 10)
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The files that limit the memory of a process in these groups, as `/proc/self/cgroup` lists them: that of its own group and of all
/// above, in either version of the interface.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|group| Path::new(root).join(group).join(file)),
        );
    }
    files
}

/// What the files below a directory take on the disk.
fn used_bytes(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut used = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let about = match entry.metadata() {
            Ok(about) => about,
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        used += if about.is_dir() {
            used_bytes(&entry.path())?
        } else {
            about.blocks() * 512
        };
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(config: &str, host: (u64, u64, u64)) -> (u32, Bound) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("state = '/w'\n{config}")).unwrap();
        let config = Config::load(file.path(), |_| None).unwrap();
        let (cores, memory_mib, disk_mib) = host;
        let host = Host {
            cores,
            memory_mib,
            disk_mib,
        };
        let capacity = Capacity::of(&config, &host);
        (capacity.slots, capacity.bound)
    }

    #[test]
    fn what_is_scarcest_bounds_the_slots() {
        assert_eq!(slots("", (4, 16 << 10, 100 << 10)), (4, Bound::Processors));
        assert_eq!(slots("", (64, 16 << 10, 1000 << 10)), (14, Bound::Memory));
        assert_eq!(slots("", (64, 64 << 10, 20 << 10)), (5, Bound::Disk));
        let large = "slot_vcpu = 2\nslot_memory_mib = 4096\nslot_disk_mib = 8192";
        assert_eq!(
            slots(large, (8, 64 << 10, 100 << 10)),
            (4, Bound::Processors)
        );
    }

    #[test]
    fn there_is_at_least_one_slot_and_what_the_operator_says_counts() {
        assert_eq!(slots("", (2, 100, 1 << 20)), (1, Bound::Memory));
        assert_eq!(slots("slots = 3", (1, 100, 100)), (3, Bound::Configured));
    }

    #[test]
    fn a_groups_limit_is_that_of_all_groups_above() {
        let files = limit_files("0::/a/b\n");
        let paths: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let first = limit_files("3:memory:/x\n2:cpu,cpuacct:/x\n");
        assert!(first[0].ends_with("memory/x/memory.limit_in_bytes"));
        assert_eq!(first.len(), 2);
    }

    #[test]
    fn this_host_has_something_of_everything() {
        let cache = tempfile::tempdir().unwrap();
        std::fs::write(cache.path().join("chunk"), [7; 8192]).unwrap();
        assert!(used_bytes(cache.path()).unwrap() >= 8192);
        let host = Host::measure(1 << 30, cache.path(), 0).unwrap();
        assert!(host.cores > 0 && host.memory_mib > 0, "{host:?}");
        assert_eq!(host.disk_mib, 1 << 10);
        let full = Host::measure(1 << 30, cache.path(), u64::MAX).unwrap();
        assert_eq!(full.disk_mib, 0, "the cache may take it all");
    }

    #[test]
    fn available_memory_is_what_the_kernel_says() {
        let meminfo = "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(available_kib(meminfo), Some(4096));
        assert_eq!(available_kib("MemTotal: 1 kB"), None);
    }
}
