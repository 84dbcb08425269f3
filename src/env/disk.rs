//! What the journal asks of a disk. Paths are relative to the disk's root, the data directory.

use std::io;
use std::path::Path;

/// Holds an exclusive lock until it is dropped.
pub trait DiskLock: Send + Sync {}

/// A directory tree. Errors are the operating system's own.
pub trait Disk: Send + Sync {
    /// Makes the directory and its missing parents. Durable once the parent directories are synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes a new, empty file for reading and writing; [`io::ErrorKind::AlreadyExists`] if there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for reading only.
    fn open_read_only(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The names in a directory, sorted. A name that is not UTF-8 comes with replacement characters.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name in the same directory, in place of any file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable. `""` is the root.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged process may still write.
    fn available_bytes(&self) -> io::Result<u64>;

    /// Takes an exclusive lock on a file, which is made if need be; [`io::ErrorKind::WouldBlock`] when another
    /// process (or another lock of this one) holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`, and grows the file if it must. After an error any part of them may be written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes zeros, around the page cache where the system can: for blocks that are to be written again much later.
    fn write_zeros_at(&self, offset: u64, bytes: u64) -> io::Result<()> {
        write_zeros_cached(self, offset, bytes)
    }

    /// Makes the bytes and the length durable. After an error it is unknown what is, and asking again does not tell.
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// Zeros to write from, aligned as direct I/O asks.
#[repr(align(4096))]
pub(super) struct Zeros(pub [u8; 256 << 10]);

pub(super) static ZEROS: Zeros = Zeros([0; 256 << 10]);

/// Writes zeros like any other bytes.
pub(super) fn write_zeros_cached<F: DiskFile + ?Sized>(file: &F, offset: u64, bytes: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        let take = ZEROS.0.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        file.write_all_at(offset + done, &ZEROS.0[..take])?;
        done += take as u64;
    }
    Ok(())
}

/// Fills `buf` from `offset`, as far as the file goes; returns how many bytes that was.
pub fn read_full_at(file: &dyn DiskFile, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(offset + filled as u64, &mut buf[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
