//! Which machine a figure comes from, and which source.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::state::repository;

/// What tells one machine's figures from another's. What cannot be found out is null.
pub(super) fn describe() -> Value {
    let cpus = std::thread::available_parallelism()
        .map(std::num::NonZero::get)
        .ok();
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cpus": cpus,
        "memory_mib": memory_mib(),
        "kernel": first_line(Command::new("uname").arg("-r")),
        "vmm": first_line(Command::new("qemu-system-x86_64").arg("--version")),
        "accelerator": "tcg",
    })
}

/// The commit that is checked out, with `-dirty` where the tree differs from it.
pub(super) fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(repository()).args([
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
        "--exclude=*",
    ]);
    first_line(&mut git)
}

fn memory_mib() -> Option<u64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// The value of the first `name: value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
