//! From an object to a file: decompressed, checked against both digests, and written with holes.
//!
//! What always holds of a file that was unpacked: its bytes have the manifest's digest, it is on the disk and not only in
//! the page cache, it is read-only, and no block of zeros takes up space. It is never checked again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use schemas::Sha256Digest;
use sha2::{Digest, Sha256};

use crate::digesting::Digesting;
use crate::manifest::StoredFile;

/// 64 KiB: what is all zeros in a block of this size becomes a hole.
const BLOCK: usize = 64 * 1024;

/// 0444: a fork maps the file privately; nothing may ever write it again.
const READ_ONLY: u32 = 0o444;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Why an object does not become a file.
#[derive(Debug)]
pub(crate) enum UnpackError {
    /// The object's bytes did not come.
    Read(io::Error),
    /// The file cannot be written.
    Write(io::Error),
    /// The object is not what the manifest says: a sentence that reads on from the file's name.
    Corrupt(String),
}

/// Unpacks `object` into a new file at `path`, as `expected` says.
pub(crate) fn unpack(
    object: impl Read,
    expected: &StoredFile,
    path: &Path,
) -> Result<(), UnpackError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(UnpackError::Write)?;
    let digest = decompress(object, expected, &file)?;
    if digest != expected.sha256 {
        return Err(corrupt("does not have the digest in the manifest"));
    }
    finish(&file, expected.size_bytes).map_err(UnpackError::Write)
}

/// Writes the plain bytes and returns their digest, having checked the object's own digest and both lengths.
fn decompress(
    object: impl Read,
    expected: &StoredFile,
    file: &File,
) -> Result<Sha256Digest, UnpackError> {
    let bounded = object.take(expected.stored_bytes.saturating_add(1));
    let source = BufReader::with_capacity(4 * BLOCK, Digesting::new(bounded));
    let mut decoder = zstd::Decoder::with_buffer(source).map_err(UnpackError::Write)?;
    let digest = write_blocks(&mut decoder, expected.size_bytes, file)?;
    let (_, stored_bytes, stored_digest) = decoder.finish().into_inner().finish();
    if stored_bytes != expected.stored_bytes || stored_digest != expected.object {
        return Err(corrupt("is an object that does not have its own digest"));
    }
    Ok(digest)
}

/// Writes what the decoder gives, which must be `size` bytes, and returns its digest.
fn write_blocks<R: Read>(
    decoder: &mut zstd::Decoder<'_, BufReader<Digesting<R>>>,
    size: u64,
    file: &File,
) -> Result<Sha256Digest, UnpackError> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let plain = match fill(decoder, &mut block) {
            Ok(0) => break,
            Ok(count) => &block[..count],
            Err(error) => return Err(explain(&error, decoder.get_mut().get_mut())),
        };
        if at + plain.len() as u64 > size {
            return Err(corrupt("is longer than the manifest says"));
        }
        hasher.update(plain);
        write(file, plain, at).map_err(UnpackError::Write)?;
        at += plain.len() as u64;
    }
    if at != size {
        return Err(corrupt("is shorter than the manifest says"));
    }
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}

/// Whether the decoder's error is the object's, or that of the stream behind it.
fn explain<R>(error: &io::Error, source: &mut Digesting<R>) -> UnpackError {
    source.take_failure().map_or_else(
        || corrupt(&format!("cannot be decompressed: {error}")),
        UnpackError::Read,
    )
}

/// Reads until `block` is full or the stream ends.
fn fill(from: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < block.len() {
        match from.read(&mut block[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

fn write(file: &File, plain: &[u8], at: u64) -> io::Result<()> {
    if plain == &ZEROS[..plain.len()] {
        return Ok(());
    }
    file.write_all_at(plain, at)
}

fn finish(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    file.set_permissions(Permissions::from_mode(READ_ONLY))?;
    file.sync_all()
}

fn corrupt(problem: &str) -> UnpackError {
    UnpackError::Corrupt(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn stored(plain: &[u8]) -> (Vec<u8>, StoredFile) {
        let object = zstd::encode_all(plain, 3).unwrap();
        let file = StoredFile {
            name: "memory".to_owned(),
            size_bytes: plain.len() as u64,
            sha256: Sha256Digest::of(plain),
            object: Sha256Digest::of(&object),
            stored_bytes: object.len() as u64,
        };
        (object, file)
    }

    fn unpack_bytes(object: &[u8], expected: &StoredFile) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        unpack(object, expected, &directory.path().join("memory")).map_err(|error| match error {
            UnpackError::Read(error) | UnpackError::Write(error) => panic!("{error}"),
            UnpackError::Corrupt(problem) => problem,
        })
    }

    #[test]
    fn a_file_comes_back_read_only_with_holes_where_zeros_were() {
        let mut plain = vec![0; 40 * BLOCK + 7];
        plain[20 * BLOCK] = 1;
        let (object, expected) = stored(&plain);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        unpack(object.as_slice(), &expected, &path).unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, READ_ONLY);
        assert!(metadata.blocks() * 512 <= 2 * BLOCK as u64);
        assert_eq!(std::fs::read(path).unwrap(), plain);
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_object_is_refused() {
        let (object, expected) = stored(b"some bytes that are not all the same");
        for position in 0..object.len() {
            let mut flipped = object.clone();
            flipped[position] ^= 1;
            assert!(unpack_bytes(&flipped, &expected).is_err(), "{position}");
        }
    }

    #[test]
    fn an_object_that_is_cut_short_or_followed_by_more_is_refused() {
        let (object, expected) = stored(&[7; 1000]);
        let cut = unpack_bytes(&object[..object.len() - 1], &expected).unwrap_err();
        assert!(cut.starts_with("cannot be decompressed: "), "{cut}");
        let more = [
            object.as_slice(),
            &zstd::encode_all(b"".as_slice(), 3).unwrap(),
        ]
        .concat();
        assert!(unpack_bytes(&more, &expected).is_err());
    }

    #[test]
    fn a_manifest_that_is_wrong_about_the_file_is_refused() {
        let (object, good) = stored(&[7; 1000]);
        let wrong = |change: fn(&mut StoredFile)| {
            let mut wrong = good.clone();
            change(&mut wrong);
            unpack_bytes(&object, &wrong).unwrap_err()
        };
        assert_eq!(
            wrong(|file| file.size_bytes = 999),
            "is longer than the manifest says"
        );
        assert_eq!(
            wrong(|file| file.size_bytes = 1001),
            "is shorter than the manifest says"
        );
        assert_eq!(
            wrong(|file| file.sha256 = Sha256Digest::of("other")),
            "does not have the digest in the manifest"
        );
        assert_eq!(
            wrong(|file| file.object = Sha256Digest::of("other")),
            "is an object that does not have its own digest"
        );
    }

    #[test]
    fn a_small_object_cannot_fill_the_disk() {
        let (object, mut expected) = stored(&vec![7; 64 << 20]);
        expected.size_bytes = 10;
        assert_eq!(
            unpack_bytes(&object, &expected).unwrap_err(),
            "is longer than the manifest says"
        );
    }

    #[test]
    fn a_stream_that_breaks_off_is_the_object_stores_failure_and_not_corruption() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let (object, expected) = stored(&vec![7; 1000]);
        let directory = tempfile::tempdir().unwrap();
        let broken = object[..9].chain(Broken);
        let error = unpack(broken, &expected, &directory.path().join("memory")).unwrap_err();
        assert!(
            matches!(error, UnpackError::Read(error) if error.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}
