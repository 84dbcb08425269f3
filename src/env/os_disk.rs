//! The real disk: files below one directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::disk::write_zeros_cached;
use super::{Disk, DiskFile, DiskLock};

/// What direct I/O asks of offsets and lengths, on every disk in use.
const DIRECT_ALIGNMENT: u64 = 4_096;

/// Files below `root`. Cheap to make: it holds a path, no handle.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
}

struct OsFile(File);

/// The lock ends when the file is closed, which the kernel does for a process that dies.
struct OsLock(#[expect(dead_code, reason = "held for its Drop")] File);

impl OsDisk {
    /// A disk rooted at `root`, which is there already.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// As `new`, and makes `root` if it is missing, with its name durable in the directory that holds it.
    pub fn create(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let missing = std::path::absolute(&root)?.ancestors().take_while(|path| !path.exists()).count();
        std::fs::create_dir_all(&root)?;
        // The entry of every directory that was made, and of the root even if it was there before.
        for parent in root.canonicalize()?.ancestors().skip(1).take(missing.max(1)) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(self.path(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(path))?;
        Ok(Box::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(path))?;
        Ok(Box::new(OsFile(file)))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(File::open(self.path(path))?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let path = self.path(path);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock(file))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskLock for OsLock {}

impl OsFile {
    fn write_zeros_direct(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("flags of open(2) are an int");
        let twin = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let file = OpenOptions::new().write(true).custom_flags(flags).open(twin)?;
        write_zeros_cached(&OsFile(file), offset, bytes)
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn write_zeros_at(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if (offset | bytes).is_multiple_of(DIRECT_ALIGNMENT) && self.write_zeros_direct(offset, bytes).is_ok() {
            return Ok(());
        }
        // Not every file system can, and a full disk says so again here.
        write_zeros_cached(self, offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, OsDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::create(directory.path().join("data")).unwrap();
        (directory, disk)
    }

    #[test]
    fn writes_zeros_of_any_length_at_any_offset() {
        let (_directory, disk) = disk();
        let file = disk.create(Path::new("zeros")).unwrap();
        for (offset, bytes) in [(0, 1 << 20), (4_096, 8_192), (5, 700_000)] {
            file.write_all_at(offset, &vec![7; bytes as usize]).unwrap();
            file.write_zeros_at(offset, bytes).unwrap();
            let mut back = vec![1; bytes as usize];
            assert_eq!(file.read_at(offset, &mut back).unwrap(), bytes as usize);
            assert!(back.iter().all(|byte| *byte == 0), "{bytes} zeros at {offset}");
        }
    }

    #[test]
    fn reads_back_what_it_wrote_under_the_new_name() {
        let (_directory, disk) = disk();
        disk.create_dir_all(Path::new("journal")).unwrap();
        let file = disk.create(Path::new("journal/a.tmp")).unwrap();
        file.write_all_at(3, b"abc").unwrap();
        file.sync_data().unwrap();
        disk.rename(Path::new("journal/a.tmp"), Path::new("journal/b")).unwrap();
        disk.sync_dir(Path::new("journal")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(disk.list(Path::new("journal")).unwrap(), ["b"]);
        let mut buf = [9; 8];
        let file = disk.open_read_only(Path::new("journal/b")).unwrap();
        assert_eq!(crate::env::disk::read_full_at(file.as_ref(), 0, &mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"\0\0\0abc");
        assert!(file.write_all_at(0, b"x").is_err());
        disk.remove(Path::new("journal/b")).unwrap();
        assert_eq!(disk.open(Path::new("journal/b")).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(disk.available_bytes().unwrap() > 0);
    }

    #[test]
    fn makes_no_file_twice_and_gives_no_lock_twice() {
        let (_directory, disk) = disk();
        let path = Path::new("LOCK");
        disk.create(path).unwrap();
        assert_eq!(disk.create(path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        let lock = disk.lock(path).unwrap();
        assert_eq!(disk.lock(path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock(path).unwrap();
    }
}
