//! A PostgreSQL server of a test's own: fresh, on a free port of 127.0.0.1, run by an unprivileged user, gone at the end.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::skip;

/// Where Debian and the PostgreSQL project's own packages put the programs of each version.
const HOMES: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql"];
/// What every system calls the user that owns nothing; initdb refuses to run as root.
const NOBODY: u32 = 65_534;
const SUPERUSER: &str = "meterd";
/// No log, error or answer may ever hold it.
pub const PASSWORD: &str = "hunter2-not-to-be-shown";
const READY_WITHIN: Duration = Duration::from_secs(60);

pub struct Postgres {
    programs: PathBuf,
    port: u16,
    child: Option<Child>,
    directory: tempfile::TempDir,
}

/// A running server, or `None` after saying aloud that there is none to run.
pub fn start() -> Option<Postgres> {
    let Some(programs) = programs() else {
        skip("PostgreSQL: no server is installed here (Debian: apt-get install postgresql)");
        return None;
    };
    let directory = tempfile::Builder::new().prefix("meterd-pg").tempdir().unwrap();
    if getuid().is_root() {
        chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut postgres = Postgres { programs, port, child: None, directory };
    postgres.init();
    postgres.resume();
    Some(postgres)
}

/// The programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let homes = HOMES.iter().filter_map(|home| fs::read_dir(home).ok()).flatten();
    let versions = homes.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let programs = path.join("bin");
        ["initdb", "postgres"].iter().all(|name| programs.join(name).is_file()).then_some((version, programs))
    });
    versions.max().map(|(_, programs)| programs)
}

impl Postgres {
    /// Of the superuser, with the password.
    pub fn url(&self) -> String {
        self.url_of(SUPERUSER)
    }

    /// Of another user, who was made with [`PASSWORD`].
    pub fn url_of(&self, user: &str) -> String {
        format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Runs statements, and returns the rows of all of them, each value as text.
    pub fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// On a thread of its own, so that tests with and without a runtime can call it.
    pub fn try_query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let url = self.url();
        std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(query(&url, sql))
            };
            scope.spawn(run).join().unwrap()
        })
    }

    /// Ends the server at once, as a crash would: its clients' connections break.
    pub fn halt(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_child(&child);
        // An immediate shutdown: the server takes its own children along.
        let _ = kill_process(pid, Signal::QUIT);
        let deadline = Instant::now() + READY_WITHIN;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts the server again, on the same port and data.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", ""]);
        for setting in ["fsync=off", "full_page_writes=off", "max_connections=50", "shared_buffers=16MB", "jit=off"] {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(error) = self.try_query("SELECT 1") {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!ended && Instant::now() < deadline, "PostgreSQL does not start: {error}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// From now on the server speaks TLS, with a certificate of its own that nobody trusts: its path.
    pub fn speak_tls(&self) -> PathBuf {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let files = [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())];
        for (name, text) in files {
            let path = self.data().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if getuid().is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        self.query("ALTER SYSTEM SET ssl = on");
        self.query("SELECT pg_reload_conf()");
        let deadline = Instant::now() + READY_WITHIN;
        while self.query("SHOW ssl") != [[Some("on".to_owned())]] {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.data().join("server.crt")
    }

    /// What the server said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn init(&self) {
        let password = self.directory.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.data()).arg("--pwfile").arg(&password);
        command.args(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// One of the server's programs, as the unprivileged user if need be.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.halt();
    }
}

async fn query(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let answer = client.simple_query(sql).await;
    drop(client);
    let _ = driver.await;
    let rows = answer?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.map(|row| (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()).collect())
}
