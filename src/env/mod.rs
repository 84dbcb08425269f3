//! The only doors to the operating system: clocks and disks, each with a stand-in that a test can steer.
//!
//! 1. Nothing outside this folder reads the wall clock or opens a file of the data directory.
//! 2. [`Disk`] promises no more than POSIX does: a file's bytes survive a power loss after [`DiskFile::sync_data`], its
//!    name after [`Disk::sync_dir`] of the directory that holds it, and nothing survives before that for certain.
//! 3. [`SimDisk`] takes every liberty that 2. leaves, by a seed, so that a schedule of faults can be replayed.

pub mod clock;
pub mod disk;
pub mod os_disk;
pub mod sim_disk;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskFile, DiskLock};
pub use os_disk::OsDisk;
pub use sim_disk::SimDisk;
