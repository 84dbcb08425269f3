//! What the system says about a process (Linux `/proc`): its processor time and memory, and who listens on a port.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Ticks a second in `/proc/*/stat`: 100 on every Linux that runs today.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of all threads of a process, user and system. To the hundredth of a second.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The most memory that a process has had resident so far, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Option<u64> {
    parse_status_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")
}

/// The memory that a process has resident now, in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    parse_status_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// The process that listens on a TCP port of this machine, if its open files may be seen.
pub fn listener(port: u16) -> Option<u32> {
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = sockets.iter().find_map(|table| parse_listening_inode(table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds(*pid, &socket))
}

/// Time that all processors together have been busy since the system started, for whomever.
pub fn machine_busy() -> Option<Duration> {
    parse_machine_busy(&fs::read_to_string("/proc/stat").ok()?)
}

/// Processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link == Path::new(socket)))
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The command's name is in parentheses and may hold spaces: fields are counted from the last one.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(from_ticks(ticks))
}

/// `cpu user nice system idle iowait irq softirq steal …`: all but idle and iowait.
fn parse_machine_busy(stat: &str) -> Option<Duration> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = fields.map(|field| field.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
    Some(from_ticks(ticks.iter().enumerate().filter(|(n, _)| !matches!(n, 3 | 4)).map(|(_, ticks)| ticks).sum()))
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn parse_status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

/// The inode of the socket in state LISTEN (0A) on `port`.
fn parse_listening_inode(table: &str, port: u16) -> Option<u64> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc_files_whose_command_holds_spaces_and_parentheses() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 1 0 5 1 1";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(4)));
        assert_eq!(parse_status_kib("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2 << 20));
        assert_eq!(parse_machine_busy("cpu  100 0 50 9999 777 0 25 25 0 0\ncpu0 1\n"), Some(Duration::from_secs(2)));
        assert_eq!((parse_cpu_time("nonsense"), parse_machine_busy("nonsense")), (None, None));
    }

    #[test]
    fn finds_the_listener_of_a_port_and_not_a_client_of_it() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retrnsmt uid timeout inode\n\
            0: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000 0 0 111 1\n\
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 222 1\n";
        assert_eq!(parse_listening_inode(table, 8080), Some(222));
        assert_eq!(parse_listening_inode(table, 8081), None);
    }

    #[test]
    fn finds_this_process_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(socket.local_addr().unwrap().port()), Some(std::process::id()));
        assert!(peak_resident_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
