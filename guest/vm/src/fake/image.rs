//! Directories as one file, for a fake guest's disk and memory.
//!
//! What always holds: the file is a tar archive with the entries' modes and times; symbolic links stay links.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::driver::VmError;

/// Packs what `dir` holds into the new file `image`, except its entry `without`.
pub(super) async fn pack(
    dir: &Path,
    image: &Path,
    without: Option<&'static str>,
) -> Result<(), VmError> {
    let (dir, image) = (dir.to_owned(), image.to_owned());
    blocking(move || {
        write_archive(&dir, &image, without).map_err(VmError::io("pack a guest into", &image))
    })
    .await
}

/// Unpacks `image` into `dir`, which is made if absent.
pub(super) async fn unpack(image: &Path, dir: &Path) -> Result<(), VmError> {
    let (image, dir) = (image.to_owned(), dir.to_owned());
    blocking(move || read_archive(&image, &dir).map_err(VmError::io("unpack", &image))).await
}

/// Makes the directory that stands for a guest's memory, empty.
pub(super) fn make_memory(dir: &Path) -> Result<(), VmError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(VmError::io("clear", dir)(error))
        }
        Ok(()) | Err(_) => std::fs::create_dir_all(dir).map_err(VmError::io("create", dir)),
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<(), VmError> + Send + 'static,
) -> Result<(), VmError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("packing and unpacking report errors and do not panic")
}

fn write_archive(dir: &Path, image: &Path, without: Option<&str>) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::new(File::create_new(image)?));
    archive.follow_symlinks(false);
    for (path, name) in sorted(dir)? {
        if without.is_some_and(|without| name == Path::new(without)) {
            continue;
        }
        if std::fs::symlink_metadata(&path)?.is_dir() {
            archive.append_dir_all(&name, &path)?;
        } else {
            archive.append_path_with_name(&path, &name)?;
        }
    }
    archive.into_inner()?.into_inner()?.sync_all()
}

fn sorted(dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut entries = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| (entry.path(), PathBuf::from(entry.file_name()))))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn read_archive(image: &Path, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(image)?));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.unpack(dir)
}
