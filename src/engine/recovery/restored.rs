//! The mark of a directory that was restored or repaired: a file `RESTORED`, its text the reason.
//!
//! What such a directory holds may have gone out already, or may contradict what went out since. So the next start begins a
//! new incarnation, with every sink paused, and takes the file away once that is durable.

use std::io::{Error, ErrorKind};
use std::path::Path;

use super::OpenError;
use crate::env::Disk;
use crate::env::disk::read_full_at;

const FILE: &str = "RESTORED";
const REASON_BYTES_MAX: usize = 500;

/// Why the directory is marked; none if it is not.
pub fn read(disk: &dyn Disk) -> Result<Option<String>, OpenError> {
    let file = match disk.open_read_only(Path::new(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = [0; REASON_BYTES_MAX];
    let length = read_full_at(&*file, 0, &mut bytes).map_err(unreadable)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    let reason: String = text.trim().chars().filter(|character| !character.is_control()).collect();
    Ok(Some(if reason.is_empty() { "restored".to_owned() } else { reason }))
}

/// Marks the directory, durably.
pub fn write(disk: &dyn Disk, reason: &str) -> Result<(), OpenError> {
    let written = disk.create(Path::new(FILE)).and_then(|file| {
        file.write_all_at(0, reason.as_bytes())?;
        file.sync_data()
    });
    written.and_then(|()| disk.sync_dir(Path::new(""))).map_err(|source| OpenError::Mark { file: FILE, source })
}

/// A crash before this is durable begins one more incarnation: no harm.
pub fn remove(disk: &dyn Disk) -> Result<(), OpenError> {
    disk.remove(Path::new(FILE)).and_then(|()| disk.sync_dir(Path::new(""))).map_err(unreadable)
}

fn unreadable(error: Error) -> OpenError {
    OpenError::Mark { file: FILE, source: error }
}
