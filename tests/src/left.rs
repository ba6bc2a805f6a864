//! What processes of ours leave behind when they end, asked of the kernel and of their directories.
//!
//! | what | where it is looked for |
//! | --- | --- |
//! | process | `/proc/PID/{cmdline,environ,cwd}` names the directory, as every VMM has its slot there |
//! | mount | `/proc/mounts` names the directory |
//! | socket | `/proc/net/unix` names the directory |
//! | cgroup | a process of ours is in one of its own; we make none |
//! | scratch file | a worker's `slots/` or `work/` has an entry |

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What a worker's state directory has while a job runs, and is empty when none does.
const SCRATCH: [&str; 2] = ["slots", "work"];

/// Everything that jobs left below `directory`, in words: VMs and what they have, and scratch files of the workers whose state
/// directories are `states`.
pub fn of_jobs(directory: &Path, states: &[PathBuf]) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for state in states {
        for scratch in SCRATCH {
            let scratch = state.join(scratch);
            left.extend(entries(&scratch)?.iter().map(|path| say("file", path)));
            let processes = processes_that_name(&scratch);
            left.extend(processes.iter().map(|id| format!("process {id}")));
        }
    }
    left.extend(in_table("/proc/mounts", directory, "mount")?);
    left.extend(in_table("/proc/net/unix", directory, "socket")?);
    left.sort();
    left.dedup();
    Ok(left)
}

/// Ids of the processes with `path` in their environment, arguments or working directory.
pub fn processes_that_name(path: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| names(*id, path)).collect()
}

fn names(id: u32, path: &Path) -> bool {
    let directory = format!("/proc/{id}");
    let works_there =
        fs::read_link(format!("{directory}/cwd")).is_ok_and(|cwd| cwd.starts_with(path));
    let path = path.as_os_str().as_encoded_bytes();
    works_there
        || ["environ", "cmdline"].into_iter().any(|file| {
            let text = fs::read(format!("{directory}/{file}")).unwrap_or_default();
            text.windows(path.len()).any(|window| window == path)
        })
}

/// The lines of a table of the kernel's that name a path.
fn in_table(table: &str, path: &Path, what: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(table).with_context(|| format!("read {table}"))?;
    let path = path.display().to_string();
    let lines = text.lines().filter(|line| line.contains(&path));
    Ok(lines.map(|line| format!("{what} {line}")).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(context),
    };
    entries
        .map(|entry| Ok(entry.with_context(context)?.path()))
        .collect()
}

fn say(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_and_a_file_in_a_slot_are_left_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("worker");
        let slot = state.join("slots/vm-1");
        fs::create_dir_all(&slot).unwrap();
        fs::create_dir_all(state.join("cache/snapshot")).unwrap();
        let mut sleeper = Command::new("sleep")
            .arg("60")
            .current_dir(&slot)
            .spawn()
            .unwrap();
        let states = [state, directory.path().join("never-ran")];
        let left = of_jobs(directory.path(), &states);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let expected = [
            format!("file {}", slot.display()),
            format!("process {}", sleeper.id()),
        ];
        assert_eq!(left.unwrap(), expected);
        fs::remove_dir(&slot).unwrap();
        assert_eq!(
            of_jobs(directory.path(), &states).unwrap(),
            Vec::<String>::new()
        );
    }
}
