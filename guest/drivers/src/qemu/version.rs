//! Which QEMU it is, and which virtual CPU it gives: part of what a snapshot may only be restored under.

use std::path::Path;

use sha2::{Digest, Sha256};
use vm::VmError;

use super::command::EMULATED_CPU;

/// What `--version` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version<'t> {
    pub(super) number: &'t str,
    /// The whole first line: a distribution's rebuild of one version may save its state otherwise.
    pub(super) build: &'t str,
}

/// The version in what the program says; none if that is not QEMU's.
pub(super) fn version_in(text: &str) -> Option<Version<'_>> {
    let build = text.lines().next()?;
    let number = build
        .strip_prefix("QEMU emulator version ")?
        .split_whitespace()
        .next()?;
    Some(Version { number, build })
}

/// The words for the virtual CPU. Under emulation the program's build decides what `max` is; with hardware virtualisation
/// the host's processor does.
pub(super) fn cpu_model(accelerator: &str, build: &str) -> Result<String, VmError> {
    match accelerator {
        "tcg" => Ok(format!("{EMULATED_CPU} of {build}")),
        _ => {
            let path = Path::new("/proc/cpuinfo");
            let text = std::fs::read_to_string(path).map_err(VmError::io("read", path))?;
            let lines = text.lines().take_while(|line| !line.is_empty());
            let lasting = lines.filter(|line| {
                ["model name", "stepping", "microcode", "flags"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            let digest = Sha256::digest(lasting.collect::<Vec<_>>().join("\n"));
            Ok(format!("host {} of {build}", hex::encode(&digest[..8])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_word_behind_the_name() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright";
        let version = version_in(text).unwrap();
        assert_eq!(version.number, "7.2.22");
        assert_eq!(
            version.build,
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
        );
        assert_eq!(version_in("qemu: command not found"), None);
    }
}
