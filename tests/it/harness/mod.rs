//! What the tests of the real program share: a directory for one daemon, and a way to say aloud what cannot run here.

pub mod postgres;
pub mod receiver;
pub mod sender;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use meterd::cli::client::Client;
use meterd::cli::daemon::{Daemon, Place};

pub const METERD: &str = env!("CARGO_BIN_EXE_meterd");
/// An address with a port that the system picks.
pub const ANYWHERE: &str = "127.0.0.1:0";
/// The process that is started is the traced program itself, and strace runs beside it. No `--seccomp-bpf`: with it some
/// versions of strace inject no signals.
const STRACE: [&str; 5] = ["-D", "-f", "-qq", "-o", "/dev/null"];
/// Small segments, so that a test rolls over many, and no reserve that a small disk could not keep.
pub const SMALL: &str = "[storage]\nreserve = \"1MiB\"\n[journal]\nsegment = \"1MiB\"\n[log]\nformat = \"text\"\n";
/// Meters whose totals the sender predicts.
pub const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"requests\"
aggregation = \"count\"
[[meter]]
slug = \"bytes\"
aggregation = \"sum\"
window = \"1d\"
";

/// A number from the environment, for longer runs and replays.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The seed of this run: printed, and replayed from `variable`.
pub fn seed(variable: &str) -> u64 {
    let seed = number(variable).unwrap_or_else(|| fastrand::Rng::new().u64(..));
    println!("{variable}={seed} draws the same again");
    seed
}

/// Says that something could not be tested here: on the output, and in the file that the test runner reads.
pub fn skip(what: &str) {
    println!("SKIPPED: {what}");
    let Some(path) = std::env::var_os("METERD_SKIPS") else { return };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{what}\n").as_bytes()).unwrap();
}

/// Whether faults can be injected; says aloud when not.
pub fn can_inject(what: &str) -> bool {
    let can = Command::new("strace").args(STRACE).args(["-e", "trace=fdatasync", "true"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    if !can {
        skip(&format!("{what}: strace cannot be used here"));
    }
    can
}

/// A directory with a config; removed at the end.
pub struct Home {
    pub place: Place,
    _directory: tempfile::TempDir,
}

impl Home {
    pub fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (config_path, data_dir, log) = (at("meterd.toml"), at("data"), at("log"));
        fs::write(&config_path, config).unwrap();
        let place = Place { program: vec![METERD.into()], config: config_path, data_dir, log };
        Self { place, _directory: directory }
    }

    /// Small segments, and the meters of the sender.
    pub fn small() -> Self {
        Self::new(&format!("{SMALL}{METERS}"))
    }

    pub fn start(&self) -> Daemon {
        Daemon::start(&self.place, ANYWHERE).unwrap()
    }

    /// The daemon under strace, which does `injection` to it.
    pub fn traced(&self, injection: &str) -> Place {
        let mut program = vec![OsString::from("strace")];
        program.extend(STRACE.map(Into::into));
        let calls = injection.split(':').next().unwrap();
        program.extend(["-e".into(), format!("trace={calls}").into()]);
        program.extend(["-e".into(), format!("inject={injection}").into()]);
        program.push(METERD.into());
        Place { program, ..self.place.clone() }
    }

    /// Runs `meterd run` where it is expected to end by itself: what it said, and its exit code.
    pub fn refused(&self) -> (Option<i32>, String) {
        let before = self.log().len();
        let output = self.place.command(ANYWHERE).unwrap().output().unwrap();
        assert!(output.stdout.is_empty(), "no address is printed by a daemon that does not serve");
        (output.status.code(), self.log()[before..].to_owned())
    }

    /// Another command of the program on this directory.
    pub fn run(&self, command: &str, flags: &[&str]) -> Output {
        let mut run = Command::new(METERD);
        run.arg(command).arg("--config").arg(&self.place.config).arg("--data-dir").arg(&self.place.data_dir);
        run.args(flags).output().unwrap()
    }

    /// Refolds the journal and expects it to be equal to the store.
    pub fn verify(&self) {
        let output = self.run("verify", &[]);
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
        println!("meterd verify: {}", String::from_utf8_lossy(&said).lines().last().unwrap_or_default());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.place.log).unwrap_or_default()
    }

    pub fn store(&self) -> PathBuf {
        self.place.data_dir.join("store")
    }

    pub fn journal(&self) -> PathBuf {
        self.place.data_dir.join("journal")
    }

    /// The journal's segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments = entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect::<Vec<_>>();
        segments.sort();
        segments
    }
}

/// One connection to a daemon.
pub fn client(daemon: &Daemon) -> Client {
    Client::new(&daemon.target().unwrap(), Duration::from_secs(30)).unwrap()
}

/// Sends native events and returns the status and the answer.
pub fn post(client: &mut Client, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let reply = client.post(path, "application/json", body.to_string().into()).unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

/// The length of a file without the zeros at its end.
pub fn used_bytes(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
