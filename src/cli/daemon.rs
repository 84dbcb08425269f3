//! A daemon as a child process, for the commands that start one of their own, and a directory that goes with it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::client::{Client, Target};

/// How long an orderly stop may take before the command fails.
const STOP_MAX: Duration = Duration::from_secs(60);
const READY_MAX: Duration = Duration::from_secs(120);
const LOG_LINES_SHOWN: usize = 20;

/// Where a daemon keeps everything, and where to write what it says.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program with whatever runs it: this one, or a tracer, its options, and this one.
    pub program: Vec<OsString>,
    pub config: PathBuf,
    pub data_dir: PathBuf,
    pub log: PathBuf,
}

impl Place {
    /// `meterd run` there, with nothing to read and what it says added to the log.
    pub fn command(&self, listen: &str) -> anyhow::Result<Command> {
        let (program, arguments) = self.program.split_first().context("no program to start")?;
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("run").arg("--config").arg(&self.config).arg("--data-dir").arg(&self.data_dir);
        command.args(["--listen", listen]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(command)
    }
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    /// From the start of the process to its first "ready".
    pub ready_after: Duration,
}

impl Daemon {
    /// Starts the place's program as `run`, waits for the line with its address, then until it is ready. `listen` is an
    /// address; port 0 lets the system pick one.
    pub fn start(place: &Place, listen: &str) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut daemon = Self::spawn(place, listen)?;
        daemon.wait_until_ready(place)?;
        daemon.ready_after = started.elapsed();
        Ok(daemon)
    }

    /// As `start`, but ready or not.
    pub fn spawn(place: &Place, listen: &str) -> anyhow::Result<Self> {
        let mut child = place.command(listen)?.spawn().with_context(|| format!("cannot start {:?}", place.program))?;
        let address = child.stdout.take().context("no pipe to the daemon").and_then(first_address);
        match address {
            Ok(address) => Ok(Self { child, address, ready_after: Duration::ZERO }),
            Err(error) => {
                let _ = child.kill();
                let status = child.wait()?;
                Err(error.context(format!("the daemon did not start ({status}):\n{}", tail(&place.log))))
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn target(&self) -> anyhow::Result<Target> {
        Target::parse(&self.address.to_string()).map_err(anyhow::Error::msg)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the process ends between two instructions.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the orderly end. An exit code other than 0 is an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM).context("cannot signal the daemon")?;
        match self.wait(STOP_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the daemon stopped with {}", describe(status)),
            None => bail!("the daemon did not stop within {} s", STOP_MAX.as_secs()),
        }
    }

    /// Waits for the process to end by itself, for so long at most.
    pub fn wait(&mut self, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() <= deadline => thread::sleep(Duration::from_millis(10)),
                status => return Ok(status),
            }
        }
    }

    fn wait_until_ready(&mut self, place: &Place) -> anyhow::Result<()> {
        let mut client = Client::new(&self.target()?, Duration::from_secs(5))?;
        let deadline = Instant::now() + READY_MAX;
        loop {
            if client.get("/readyz").is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended at its start ({}):\n{}", describe(status), tail(&place.log));
            }
            if Instant::now() > deadline {
                bail!("the daemon is not ready after {} s:\n{}", READY_MAX.as_secs(), tail(&place.log));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no code".into(),
    }
}

/// Reads lines until one holds an address; what follows is read and dropped, so that the daemon never blocks on it.
fn first_address(stdout: ChildStdout) -> anyhow::Result<SocketAddr> {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("it printed no address");
        }
        if let Some(address) = find_address(&line) {
            let drain = move || while reader.read(&mut [0; 4_096]).is_ok_and(|bytes| bytes > 0) {};
            thread::Builder::new().name("daemon-output".into()).spawn(drain)?;
            return Ok(address);
        }
    }
}

fn find_address(line: &str) -> Option<SocketAddr> {
    line.split(|c: char| c.is_whitespace() || c == '"' || c == '/' || c == ',').find_map(|word| word.parse().ok())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// A directory that is removed when dropped.
pub struct TemporaryDirectory {
    path: PathBuf,
    keep: bool,
}

impl TemporaryDirectory {
    /// Creates `<parent>/meterd-<purpose>-<pid>`; `parent` is the system's temporary directory if not given.
    pub fn create(parent: Option<&Path>, purpose: &str) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("meterd-{purpose}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory behind, for whoever wants to look.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Writes `config` there and names the places of a daemon called `name`.
    pub fn place(&self, name: &str, config: &str) -> anyhow::Result<Place> {
        let file = |suffix: &str| self.path.join(format!("{name}{suffix}"));
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let program = vec![program.into_os_string()];
        let place = Place { program, config: file(".toml"), data_dir: file("-data"), log: file(".log") };
        fs::write(&place.config, config).with_context(|| format!("cannot write {}", place.config.display()))?;
        Ok(place)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_whatever_the_line_says() {
        for line in [
            "meterd 0.1.0 serves http://127.0.0.1:4321",
            "127.0.0.1:4321\n",
            "{\"listen\":\"127.0.0.1:4321\"}",
            "listening on http://127.0.0.1:4321/, tenant default",
        ] {
            assert_eq!(find_address(line), Some("127.0.0.1:4321".parse().unwrap()), "{line}");
        }
        assert_eq!(find_address("meterd 0.1.0 at 12:30:01"), None);
    }

    #[test]
    fn a_temporary_directory_goes_with_its_owner_unless_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = |purpose| parent.path().join(format!("meterd-{purpose}-{}", std::process::id()));
        drop(TemporaryDirectory::create(Some(parent.path()), "a").unwrap());
        assert!(!path("a").exists());
        let mut kept = TemporaryDirectory::create(Some(parent.path()), "b").unwrap();
        kept.keep();
        drop(kept);
        assert!(path("b").exists());
    }
}
