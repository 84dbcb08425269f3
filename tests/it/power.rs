//! Power loss on a real file system: an ext4 in a loop device is shut down without a flush, so that everything that was
//! not synced is gone. SIGKILL alone never loses the page cache; only this shows that the syncs are there.
//!
//! Needs root and a loop device; skipped aloud without. `METERD_POWER_ROUNDS=<n>` for more, `METERD_POWER_SEED=<seed>`
//! to draw the same again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use meterd::cli::daemon::{Daemon, Place};

use crate::harness::sender::Sender;
use crate::harness::{ANYWHERE, Home, can_inject, client, number, seed, skip};

const ROUNDS: u64 = 5;
/// Sparse: it takes what is written.
const IMAGE_BYTES: u64 = 16 << 30;

/// An ext4 in a file, mounted.
struct Volume {
    image: PathBuf,
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Volume {
    fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it takes root to mount a file system".into());
        }
        let directory = tempfile::tempdir().unwrap();
        let (image, mount) = (directory.path().join("image"), directory.path().join("mount"));
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        fs::create_dir(&mount).unwrap();
        succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-N", "4096", "-E", "nodiscard"]).arg(&image))?;
        let volume = Self { image, mount, _directory: directory };
        volume.mount()?;
        Ok(volume)
    }

    fn mount(&self) -> Result<(), String> {
        succeeds(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }

    /// The file system stops between two writes; nothing that it has only in memory reaches the image.
    fn lose_power(&self) {
        let root = File::open(&self.mount).unwrap();
        shut_down(&root).unwrap();
    }

    fn remount(&self) {
        self.unmount().unwrap();
        self.mount().unwrap();
    }

    fn unmount(&self) -> Result<(), String> {
        succeeds(Command::new("umount").arg(&self.mount))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            let _ = succeeds(Command::new("umount").arg("-l").arg(&self.mount));
        }
    }
}

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
fn shut_down(root: &File) -> std::io::Result<()> {
    const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the kernel reads one u32 through the pointer, which is what the setter passes.
    unsafe { rustix::ioctl::ioctl(root, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH))? };
    Ok(())
}

fn volume() -> Option<Volume> {
    Volume::new().inspect_err(|why| skip(&format!("power loss on a real file system: {why}"))).ok()
}

fn on(volume: &Volume, place: &Place) -> Place {
    Place { data_dir: volume.mount.join("data"), ..place.clone() }
}

/// Sends for a while, loses power, and comes back with what the disk kept.
fn load_and_lose_power(volume: &Volume, daemon: Daemon, sender: &Sender, after: Duration) {
    let target = daemon.target().unwrap();
    sender.send_to(&target, move || {
        std::thread::sleep(after);
        volume.lose_power();
        daemon.kill().unwrap();
    });
    volume.remount();
}

fn entries(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let Some(volume) = volume() else { return };
    let rounds = number("METERD_POWER_ROUNDS").unwrap_or(ROUNDS);
    let seed = seed("METERD_POWER_SEED");
    let mut rng = Rng::with_seed(seed);
    let home = Home::small();
    let place = on(&volume, &home.place);
    let sender = Sender::new(seed);
    for round in 0..rounds {
        let daemon = Daemon::start(&place, ANYWHERE).unwrap();
        // From the second on the store persists too; a round in three sees it.
        let pause = if round % 3 == 1 { 1_600 } else { rng.u64(20..600) };
        load_and_lose_power(&volume, daemon, &sender, Duration::from_millis(pause));
        let daemon = Daemon::start(&place, ANYWHERE).unwrap_or_else(|error| panic!("after round {round}: {error:#}"));
        let mut client = client(&daemon);
        sender.check_after_crash(&mut client).unwrap_or_else(|wrong| panic!("after round {round}: {wrong}"));
        sender.settle(&mut client).unwrap_or_else(|wrong| panic!("after the retries of round {round}: {wrong}"));
        daemon.stop().unwrap();
    }
    println!("{rounds} power losses: {} events counted once", sender.answered_events());
    assert!(entries(&volume.mount.join("data/journal")) > 0);
}

/// The check above must be able to fail: a daemon whose syncs do nothing loses what it acknowledged.
#[test]
fn a_disk_that_lies_about_syncs_is_noticed_when_the_power_goes() {
    let Some(volume) = volume() else { return };
    if !can_inject("a disk that lies about syncs") {
        return;
    }
    let home = Home::small();
    let sender = Sender::new(7);
    Daemon::start(&on(&volume, &home.place), ANYWHERE).unwrap().stop().unwrap();
    let lying = on(&volume, &home.traced("fdatasync,fsync:retval=0"));
    let daemon = Daemon::start(&lying, ANYWHERE).unwrap();
    load_and_lose_power(&volume, daemon, &sender, Duration::from_millis(400));
    assert!(sender.answered_events() > 0, "it acknowledged");
    let noticed = match Daemon::start(&on(&volume, &home.place), ANYWHERE) {
        Ok(daemon) => sender.check_after_crash(&mut client(&daemon)).unwrap_err(),
        Err(refused) => format!("{refused:#}"),
    };
    println!("noticed: {noticed}");
}

/// Nothing is acknowledged yet, but a directory that was half made when the power went must not be refused ever after.
#[test]
fn a_first_start_that_loses_power_at_any_sync_can_be_repeated() {
    let Some(volume) = volume() else { return };
    if !can_inject("power loss at the syncs of a first start") {
        return;
    }
    let home = Home::small();
    for call in ["fdatasync", "fsync"] {
        for nth in (1..).step_by(2) {
            // One for each trial: power loss would bring back what was removed and not synced.
            let data_dir = volume.mount.join(format!("{call}-{nth}"));
            let traced = home.traced(&format!("{call}:signal=KILL:when={nth}"));
            let survived = Daemon::start(&Place { data_dir: data_dir.clone(), ..traced }, ANYWHERE);
            volume.lose_power();
            let survived = survived.map(|daemon| daemon.kill().unwrap()).is_ok();
            volume.remount();
            let daemon = Daemon::start(&Place { data_dir, ..home.place.clone() }, ANYWHERE);
            let daemon = daemon.unwrap_or_else(|error| panic!("power lost at {call} {nth}: {error:#}"));
            let sender = Sender::new(nth).over(1);
            sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(20)));
            sender.settle(&mut client(&daemon)).unwrap();
            daemon.kill().unwrap();
            if survived {
                println!("a first start has fewer than {nth} {call} calls in a thread");
                break;
            }
        }
    }
}
