//! A directory that is only read: what is written to it stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Disk;

/// Changes are kept in pieces of this size.
const PAGE_BYTES: u64 = 4096;

/// The files of a directory as they were when it was opened, with changes that nobody else sees and that are
/// gone with it. For looking at a log without recovering it on the device.
#[derive(Debug)]
pub struct OverlayDisk {
    files: Mutex<BTreeMap<String, OverlayFile>>,
}

/// An open file.
pub type OverlayFile = Arc<Mutex<Overlaid>>;

/// A file's bytes: those of the device, and the pages that were changed.
#[derive(Debug, Default)]
pub struct Overlaid {
    /// The file, and how much of it counts.
    beneath: Option<(File, u64)>,
    bytes: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl OverlayDisk {
    /// Opens a directory for reading.
    ///
    /// # Errors
    ///
    /// If it or one of its files cannot be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !entry.file_type()?.is_file() {
                continue;
            }
            let file = File::open(entry.path())?;
            let bytes = file.metadata()?.len();
            let overlaid = Overlaid {
                beneath: Some((file, bytes)),
                bytes,
                pages: BTreeMap::new(),
            };
            files.insert(name, Arc::new(Mutex::new(overlaid)));
        }
        Ok(Self {
            files: Mutex::new(files),
        })
    }

    fn file(&self, name: &str) -> io::Result<OverlayFile> {
        let files = lock(&self.files);
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file))
    }
}

impl Overlaid {
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE_BYTES as usize];
        if let Some((file, counts)) = &self.beneath {
            let start = number * PAGE_BYTES;
            let there = counts.saturating_sub(start).min(PAGE_BYTES) as usize;
            file.read_exact_at(&mut page[..there], start)?;
        }
        Ok(page)
    }

    fn check_range(&self, offset: u64, bytes: usize) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A panic while it was held leaves nothing half done that another reader could meet.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pages that `[offset, offset + bytes)` touches: number, range inside the page.
fn pages(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + bytes as u64;
    (offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(move |number| {
        let start = number * PAGE_BYTES;
        let from = offset.max(start) - start;
        let to = end.min(start + PAGE_BYTES) - start;
        (number, from as usize..to as usize)
    })
}

impl Disk for OverlayDisk {
    type File = OverlayFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<OverlayFile> {
        self.file(name)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<OverlayFile> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(Mutex::new(Overlaid {
            bytes: len,
            ..Overlaid::default()
        }));
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn extend(&self, file: &OverlayFile, len: u64) -> io::Result<()> {
        let mut file = lock(file);
        file.bytes = file.bytes.max(len);
        Ok(())
    }

    fn len(&self, file: &OverlayFile) -> io::Result<u64> {
        Ok(lock(file).bytes)
    }

    fn read_at(&self, file: &OverlayFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = lock(file);
        file.check_range(offset, buf.len())?;
        let mut rest = buf;
        for (number, range) in pages(offset, rest.len()) {
            let (piece, others) = rest.split_at_mut(range.len());
            piece.copy_from_slice(&file.page(number)?[range]);
            rest = others;
        }
        Ok(())
    }

    fn write_at(&self, file: &OverlayFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut file = lock(file);
        let end = offset
            .checked_add(buf.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut rest = buf;
        for (number, range) in pages(offset, buf.len()) {
            let (piece, others) = rest.split_at(range.len());
            let mut page = file.page(number)?;
            page[range].copy_from_slice(piece);
            file.pages.insert(number, page);
            rest = others;
        }
        file.bytes = file.bytes.max(end);
        Ok(())
    }

    fn sync(&self, _file: &OverlayFile) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_directory_stays_as_it_was() {
        let dir = std::env::temp_dir().join(format!("quorate-overlay-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let content: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        std::fs::write(dir.join("a"), &content).unwrap();
        let disk = OverlayDisk::open(&dir).unwrap();
        let file = disk.open("a").unwrap();
        let mut expected = content.clone();

        // Within a page, over two bounds, and behind the end.
        for (offset, bytes) in [(10, 5), (4000, 5000), (9_990, 300)] {
            let data = vec![0xAB; bytes];
            disk.write_at(&file, offset, &data).unwrap();
            let end = offset as usize + bytes;
            expected.resize(expected.len().max(end), 0);
            expected[offset as usize..end].copy_from_slice(&data);
        }
        disk.extend(&file, 20_000).unwrap();
        expected.resize(20_000, 0);
        let mut all = vec![1; 20_000];
        disk.read_at(&file, 0, &mut all).unwrap();
        assert!(all == expected);
        let mut odd = [0; 77];
        disk.read_at(&file, 4_050, &mut odd).unwrap();
        assert_eq!(odd, expected[4_050..4_127]);
        let beyond = disk.read_at(&file, 19_990, &mut [0; 11]).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);

        disk.create("b", 3).unwrap();
        assert_eq!(
            disk.create("b", 3).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        disk.rename("a", "c").unwrap();
        disk.remove("b").unwrap();
        assert_eq!(disk.list().unwrap(), ["c"]);
        assert_eq!(disk.open("a").unwrap_err().kind(), io::ErrorKind::NotFound);

        assert!(std::fs::read(dir.join("a")).unwrap() == content);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
