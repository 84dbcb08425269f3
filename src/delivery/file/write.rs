//! One delivery's two files, onto a disk: written under another name, made durable, renamed, the manifest last.

use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::delivery::Message;
use crate::delivery::file::Format;
use crate::delivery::row;
use crate::engine::OutboxRow;
use crate::env::{Disk, DiskFile};
use crate::model::hex;

/// The directory itself.
const HERE: &str = "";

/// Names and bytes; the same for the same delivery, always.
pub struct Files {
    name: String,
    rows: Vec<u8>,
    manifest: Vec<u8>,
}

#[derive(Serialize)]
struct Manifest<'a> {
    file: &'a str,
    delivery: String,
    kind: &'a str,
    rows: usize,
    bytes: usize,
    sha256: String,
    first: String,
    last: String,
    planned_at: String,
}

impl Files {
    pub fn of(format: Format, message: &Message) -> Self {
        let rows = render(format, message);
        let name = format!("{}-{}.{}", message.kind.as_str(), message.id, format.as_str());
        let position = |row: Option<&OutboxRow>| row.map_or_else(String::new, |row| row.position.to_string());
        let manifest = Manifest {
            file: &name,
            delivery: message.id.to_string(),
            kind: message.kind.as_str(),
            rows: message.rows.len(),
            bytes: rows.len(),
            sha256: hex::encode(&Sha256::digest(&rows)),
            first: position(message.rows.first()),
            last: position(message.rows.last()),
            planned_at: message.planned_at.to_string(),
        };
        let mut manifest = serde_json::to_vec(&manifest).expect("strings and numbers are JSON");
        manifest.push(b'\n');
        Self { name, rows, manifest }
    }

    /// Both files are on the disk for good, or an error says at which name it went wrong.
    pub fn put(&self, disk: &dyn Disk) -> Result<(), (String, io::Error)> {
        let manifest = format!("{}.manifest.json", self.name);
        for (name, bytes) in [(&self.name, &self.rows), (&manifest, &self.manifest)] {
            put(disk, name, bytes).map_err(|error| (name.clone(), error))?;
        }
        Ok(())
    }
}

fn render(format: Format, message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 * message.rows.len());
    match format {
        Format::Ndjson => message.rows.iter().for_each(|row| row::put_line(&mut out, row)),
        Format::Csv => {
            out.extend_from_slice(row::csv_header(message.kind).as_bytes());
            message.rows.iter().for_each(|row| row::put_csv(&mut out, row));
        }
    }
    out
}

/// A file of this name and these bytes, durable.
fn put(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    // A name stands only for bytes that were synced before it was given. Whether the name itself is durable is not known.
    if !holds(disk, Path::new(name), bytes)? {
        let temporary = format!("{name}.tmp");
        let written = put_as(disk, Path::new(&temporary), Path::new(name), bytes);
        if written.is_err() {
            // On a full disk, what is of no use should at least not fill it.
            let _ = disk.remove(Path::new(&temporary));
        }
        written?;
    }
    disk.sync_dir(Path::new(HERE))
}

fn put_as(disk: &dyn Disk, temporary: &Path, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = match disk.create(temporary) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(temporary)?;
            disk.create(temporary)?
        }
        created => created?,
    };
    file.write_all_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(temporary, name)
}

/// Whether there is a file of this name and exactly these bytes.
fn holds(disk: &dyn Disk, name: &Path, bytes: &[u8]) -> io::Result<bool> {
    let file: Box<dyn DiskFile> = match disk.open_read_only(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    if file.len()? != bytes.len() as u64 {
        return Ok(false);
    }
    let mut there = vec![0; bytes.len()];
    let read = crate::env::disk::read_full_at(file.as_ref(), 0, &mut there)?;
    Ok(read == bytes.len() && there == bytes)
}

#[cfg(test)]
mod tests;
