//! Small files that are there whole or not at all: written under another name, synced, renamed.

use std::io;

use quorate_storage::disk::Disk;

/// Replaces the file `name`, durably, with `parts` one behind the other.
pub(super) fn replace<D: Disk>(disk: &D, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let fresh = format!("{name}.new");
    remove(disk, &fresh)?;
    let length = parts.iter().map(|part| part.len() as u64).sum();
    let file = disk.create(&fresh, length)?;
    let mut offset = 0;
    for part in parts {
        disk.write_at(&file, offset, part)?;
        offset += part.len() as u64;
    }
    disk.sync(&file)?;
    disk.rename(&fresh, name)?;
    disk.sync_dir()
}

/// The content of a file; `None` if it is not there.
pub(super) fn read<D: Disk>(disk: &D, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(disk.len(&file)?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    disk.read_at(&file, 0, &mut bytes)?;
    Ok(Some(bytes))
}

/// Removes a file that may be there.
pub(super) fn remove<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
