//! From a file to an object: one zstd stream, holes included, with the digests of both.
//!
//! A guest's memory and disk are mostly holes. They are not read: zeros are fed in their place, from memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use schemas::Sha256Digest;

use crate::digesting::Digesting;

/// 3: zstd's own default; higher levels cost a bake more time than they save a fetch.
const LEVEL: i32 = 3;

/// 256 KiB: read, hashed and compressed at a time.
const BLOCK: usize = 256 * 1024;

/// What stands in a hole.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A compressed file, not yet an object.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The compressed bytes, at their start; the file has no name and goes with this value.
    pub(crate) stream: File,
    /// Their digest, which names the object.
    pub(crate) object: Sha256Digest,
    /// Their length.
    pub(crate) stored_bytes: u64,
    /// The digest of the file as it was.
    pub(crate) sha256: Sha256Digest,
    /// Its length.
    pub(crate) size_bytes: u64,
}

/// Compresses the file at `path`; the result lies in an unnamed file in the directory `into`.
pub(crate) fn pack(path: &Path, into: &Path) -> io::Result<Packed> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let stream = Digesting::new(tempfile::tempfile_in(into)?);
    let mut encoder = zstd::Encoder::new(stream, LEVEL)?;
    encoder.set_pledged_src_size(Some(size))?;
    let mut plain = Digesting::new(encoder);
    copy(&mut file, size, &mut plain)?;
    let (encoder, size_bytes, sha256) = plain.finish();
    let (mut stream, stored_bytes, object) = encoder.finish()?.finish();
    stream.rewind()?;
    Ok(Packed {
        stream,
        object,
        stored_bytes,
        sha256,
        size_bytes,
    })
}

/// Copies `size` bytes, data and holes in turn.
fn copy(file: &mut File, size: u64, to: &mut impl Write) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = next(file, at, size, Whence::SeekData)?;
        write_zeros(data - at, to)?;
        if data == size {
            break;
        }
        let hole = next(file, data, size, Whence::SeekHole)?;
        copy_data(file, data, hole - data, to)?;
        at = hole;
    }
    Ok(())
}

/// Where the next data or hole begins, at `at` or after it; `size` if there is none. A filesystem that knows no holes
/// gives one stretch of data.
fn next(file: &File, at: u64, size: u64, what: Whence) -> io::Result<u64> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    let without_holes = match what {
        Whence::SeekData => at,
        _ => size,
    };
    match lseek(file, offset, what) {
        Ok(found) => Ok(u64::try_from(found).map_or(size, |found| found.min(size))),
        Err(Errno::ENXIO) => Ok(size),
        Err(Errno::EINVAL) => Ok(without_holes),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(mut count: u64, to: &mut impl Write) -> io::Result<()> {
    while count > 0 {
        let length = usize::try_from(count).map_or(BLOCK, |count| count.min(BLOCK));
        to.write_all(&ZEROS[..length])?;
        count -= length as u64;
    }
    Ok(())
}

fn copy_data(file: &mut File, from: u64, count: u64, to: &mut impl Write) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut left = file.take(count);
    let mut block = vec![0; BLOCK];
    loop {
        let count = left.read(&mut block)?;
        if count == 0 {
            break;
        }
        to.write_all(&block[..count])?;
    }
    if left.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn pack_bytes(prepare: impl FnOnce(&File)) -> (Packed, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        prepare(&File::create(&path).unwrap());
        let packed = pack(&path, directory.path()).unwrap();
        (packed, std::fs::read(path).unwrap())
    }

    #[test]
    fn an_object_is_the_file_as_one_zstd_stream_under_its_digest() {
        let (mut packed, plain) = pack_bytes(|file| file.write_all_at(b"hello", 0).unwrap());
        let mut stream = Vec::new();
        packed.stream.read_to_end(&mut stream).unwrap();
        assert_eq!(packed.object, Sha256Digest::of(&stream));
        assert_eq!(packed.stored_bytes, stream.len() as u64);
        assert_eq!(packed.sha256, Sha256Digest::of(&plain));
        assert_eq!(packed.size_bytes, 5);
        assert_eq!(zstd::decode_all(stream.as_slice()).unwrap(), plain);
    }

    #[test]
    fn holes_count_as_zeros_wherever_they_are() {
        let (packed, plain) = pack_bytes(|file| {
            file.write_all_at(b"middle", 3 << 20).unwrap();
            file.write_all_at(b"later", (7 << 20) + 1).unwrap();
            file.set_len((9 << 20) + 5).unwrap();
        });
        assert_eq!(packed.size_bytes, (9 << 20) + 5);
        assert_eq!(packed.sha256, Sha256Digest::of(&plain));
        assert_eq!(zstd::decode_all(&packed.stream).unwrap(), plain);
        assert!(packed.stored_bytes < 2048, "{}", packed.stored_bytes);
    }

    #[test]
    fn a_file_of_nothing_but_a_hole_and_an_empty_one_are_packed() {
        let (packed, _) = pack_bytes(|file| file.set_len(1 << 20).unwrap());
        assert_eq!(packed.sha256, Sha256Digest::of(vec![0; 1 << 20]));
        let (packed, _) = pack_bytes(|_| ());
        assert_eq!(
            (packed.size_bytes, packed.sha256),
            (0, Sha256Digest::of(""))
        );
    }
}
