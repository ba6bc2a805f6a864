//! A source archive as any publisher makes one: `.tar.zst` of a few files.

use anyhow::{Context as _, Result};

/// 2026-01-01, which is then the time of everything in the tree.
const MODIFIED_AT: u64 = 1_767_225_600;

/// Packs files, each a path and its text. A path that ends in `.sh` is executable.
pub fn pack(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let encoder = zstd::Encoder::new(Vec::new(), 0).context("start to compress")?;
    let mut tar = tar::Builder::new(encoder);
    for (path, text) in files {
        let is_script = std::path::Path::new(path)
            .extension()
            .is_some_and(|extension| extension == "sh");
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(if is_script { 0o755 } else { 0o644 });
        header.set_mtime(MODIFIED_AT);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, path, text.as_bytes())
            .with_context(|| format!("pack {path}"))?;
    }
    let encoder = tar.into_inner().context("end the archive")?;
    encoder.finish().context("compress the archive")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_holds_its_files() {
        let packed = pack(&[("a/b.sh", "echo"), ("c", "")]).unwrap();
        let mut tar = tar::Archive::new(zstd::Decoder::new(&packed[..]).unwrap());
        let mut found = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let path = entry.path().unwrap().display().to_string();
            found.push((path, entry.header().mode().unwrap(), text));
        }
        assert_eq!(
            found,
            [
                ("a/b.sh".to_owned(), 0o755, "echo".to_owned()),
                ("c".to_owned(), 0o644, String::new())
            ]
        );
    }
}
