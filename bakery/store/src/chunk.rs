//! Chunks: what files are cut into, each an object of its own, named for the SHA-256 of its plain bytes.
//!
//! What always holds: chunk `i` of a file begins at `i * CHUNK_BYTES`, the last one may be shorter, and one of nothing but
//! zeros is no chunk at all: it is a hole.

use std::cell::RefCell;
use std::io;

use schemas::Sha256Digest;
use zstd::bulk::{Compressor, Decompressor};

/// 512 KiB. Measured with a template of Node on Debian and an environment baked from it: the environment's own share of its
/// full size was 0.163 at 16 KiB, 0.185 at 64 KiB, 0.198 at 256 KiB, 0.203 at 512 KiB and 0.218 at 1 MiB, for 1475
/// requests at 512 KiB and 32 times as many at 16 KiB.
pub(crate) const CHUNK_BYTES: usize = 512 * 1024;

/// Most that a chunk takes once it is compressed: zstd's own bound, rounded up.
pub(crate) const MAX_STORED_BYTES: usize = CHUNK_BYTES + CHUNK_BYTES / 64;

/// 3: zstd's own default; higher levels cost a bake more time than they save a fetch.
const LEVEL: i32 = 3;

/// What is not stored.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// How many chunks a file of `size` bytes has, zeros included.
pub(crate) fn count(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES as u64)
}

/// Where chunk `index` begins.
pub(crate) fn offset(index: u32) -> u64 {
    u64::from(index) * CHUNK_BYTES as u64
}

/// How long chunk `index` of a file of `size` bytes is; 0 behind its end.
pub(crate) fn length(size: u64, index: u32) -> usize {
    let left = size.saturating_sub(offset(index));
    usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
}

/// Whether `plain`, no longer than a chunk, is nothing but zeros.
pub(crate) fn is_zero(plain: &[u8]) -> bool {
    plain == &ZEROS[..plain.len()]
}

thread_local! {
    /// A thread's own compressor: making one anew costs as much as compressing a small chunk.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// A thread's own decompressor and the buffer that it fills.
    static DECOMPRESSOR: RefCell<Option<(Decompressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Compresses a chunk.
pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(LEVEL)?),
        };
        compressor.compress(plain)
    })
}

/// Decompresses the object of the chunk `digest`, which has `length` plain bytes, and gives these to `then` once they are
/// verified. The error is a sentence that reads on from what the chunk is a part of.
pub(crate) fn verified<T>(
    object: &[u8],
    length: usize,
    digest: &Sha256Digest,
    then: impl FnOnce(&[u8]) -> T,
) -> Result<T, String> {
    let undone = |error: io::Error| format!("cannot be decompressed: {error}");
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let (decompressor, buffer) = match kept {
            Some(kept) => kept,
            None => kept.insert((
                Decompressor::new().map_err(undone)?,
                Vec::with_capacity(CHUNK_BYTES),
            )),
        };
        decompressor
            .decompress_to_buffer(object, buffer)
            .map_err(undone)?;
        if buffer.len() != length || Sha256Digest::of(&*buffer) != *digest {
            return Err(format!("does not have the digest of its chunk {digest}"));
        }
        Ok(then(buffer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_whole_chunks_and_a_rest() {
        let whole = CHUNK_BYTES as u64;
        assert_eq!(
            (count(0), count(1), count(whole), count(whole + 1)),
            (0, 1, 1, 2)
        );
        assert_eq!(length(whole + 1, 0), CHUNK_BYTES);
        assert_eq!(length(whole + 1, 1), 1);
        assert_eq!(length(whole + 1, 2), 0);
        assert_eq!(offset(8192), 4 << 30);
    }

    #[test]
    fn an_object_gives_its_chunk_back() {
        let plain = vec![7; 1000];
        let object = compress(&plain).unwrap();
        let digest = Sha256Digest::of(&plain);
        assert_eq!(verified(&object, 1000, &digest, <[u8]>::to_vec), Ok(plain));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_an_object_never_gives_other_bytes() {
        let plain = b"some bytes that are not all the same";
        let object = compress(plain).unwrap();
        for position in 0..object.len() {
            let mut flipped = object.clone();
            flipped[position] ^= 1;
            // A bit of the frame's header may mean nothing; then the bytes are the right ones.
            let read = verified(
                &flipped,
                plain.len(),
                &Sha256Digest::of(plain),
                <[u8]>::to_vec,
            );
            assert!(read.is_err() || read == Ok(plain.to_vec()), "{position}");
        }
    }

    #[test]
    fn a_small_object_cannot_fill_the_memory() {
        let object = zstd::encode_all(vec![7; 64 << 20].as_slice(), 3).unwrap();
        let read = verified(&object, CHUNK_BYTES, &Sha256Digest::of(""), |_| ());
        assert!(read.unwrap_err().starts_with("cannot be decompressed: "));
    }

    #[test]
    fn the_bound_of_a_stored_chunk_is_zstds() {
        assert!(zstd::zstd_safe::compress_bound(CHUNK_BYTES) <= MAX_STORED_BYTES);
    }
}
