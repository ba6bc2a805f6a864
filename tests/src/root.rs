//! A root filesystem as small as one can be: a shell and a few programs, and the libraries that they need, all of them this machine's
//! own. A template of it is baked in seconds.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// What the setups and steps of the cases run in it.
const PROGRAMS: [&str; 4] = ["/bin/sh", "/bin/cat", "/usr/bin/head", "/bin/sleep"];

/// What the agent mounts something on.
const DIRECTORIES: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Packs one as `.tar.zst`.
pub fn tiny() -> Result<Vec<u8>> {
    let encoder = zstd::Encoder::new(Vec::new(), 0).context("start to compress")?;
    let mut tar = tar::Builder::new(encoder);
    for path in DIRECTORIES {
        append(&mut tar, path, tar::EntryType::Directory, &[])?;
    }
    let mut files = libraries()?;
    files.extend(PROGRAMS.map(str::to_owned));
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("read {file}"))?;
        let path = file.trim_start_matches('/');
        append(&mut tar, path, tar::EntryType::Regular, &bytes)?;
    }
    let encoder = tar.into_inner().context("end the archive")?;
    encoder.finish().context("compress the archive")
}

/// Links are followed: a library is where its program looks for it.
fn append(
    tar: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    kind: tar::EntryType,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(if path == "tmp" { 0o1777 } else { 0o755 });
    header.set_entry_type(kind);
    tar.append_data(&mut header, path, bytes)
        .with_context(|| format!("pack {path}"))
}

/// What the dynamic linker would load for the programs, itself included.
fn libraries() -> Result<BTreeSet<String>> {
    let output = Command::new("ldd").args(PROGRAMS).output();
    let output = output.context("run ldd")?;
    ensure!(output.status.success(), "ldd: {}", output.status);
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

/// The absolute paths in what ldd prints, but for the headings.
fn paths(printed: &str) -> BTreeSet<String> {
    let lines = printed.lines().filter(|line| !line.ends_with(':'));
    let words = lines.flat_map(str::split_whitespace);
    words
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_packed_where_its_program_looks_for_it() {
        let printed = "/bin/sh:\n\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        let found: Vec<_> = paths(printed).into_iter().collect();
        assert_eq!(found, ["/lib/libc.so.6", "/lib64/ld.so"]);
    }
}
