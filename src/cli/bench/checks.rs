//! Checks over keep-alive connections, as fast as they are answered or at a rate; each answer is verified.
//!
//! 1. Requests are written beforehand but for the customer's digits, and answers are searched for what counts: the
//!    generator shares the machine with the daemon.
//! 2. Without a rate each connection has one request under way; a thread has several connections, and goes round.
//! 3. With a rate each request is due at a time that was fixed beforehand, and its latency counts from then, however late it was
//!    sent: an answer that takes long hides nothing of those that had to wait behind it.
//! 4. Every check must be allowed, and say that no less was used than before the run, and no more than after it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fastrand::Rng;

use crate::cli::client::Target;
use crate::cli::generate::{self, Workload};
use crate::cli::load::percentile;
use crate::cli::totals::ByCustomer;
use crate::model::Quantity;

/// Threads that go round all connections.
const THREADS: usize = 2;
const ANSWER_BYTES_MAX: usize = 8 << 10;
const WRONG_KEPT: usize = 5;

/// How checks are asked.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub connections: usize,
    /// None: as fast as they are answered.
    pub per_second: Option<f64>,
}

/// One run of checks.
pub struct Run<'a> {
    pub checks: Checks,
    pub target: &'a Target,
    pub workload: &'a Workload,
    /// What each customer had used of each meter before.
    pub used: &'a Used,
    pub timeout: Duration,
    /// Raised when it is over.
    pub stop: &'a AtomicBool,
    pub seed: u64,
}

/// What every customer has used of every meter, in hundredths.
#[derive(Debug, Default)]
pub struct Used(Vec<u64>);

/// What came back.
#[derive(Debug, Default)]
pub struct Report {
    pub elapsed: Duration,
    answers: Vec<Answer>,
    /// Answers that were not what they had to be, and how many of them there were.
    pub wrong: Vec<String>,
    pub wrong_count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    /// Which customer's usage of which meter it is.
    place: u32,
    micros: u32,
    used: u64,
}

impl Used {
    /// `totals`: by meter.
    pub fn new(workload: &Workload, totals: &[ByCustomer]) -> Self {
        let hundredth = Quantity::ONE.scaled() / 100;
        let customers = || (0..workload.customers()).map(Workload::customer_name);
        let total = |totals: &ByCustomer, name: &str| totals.get(name).map_or(0, |total| total.scaled() / hundredth);
        let of_meter = |totals| customers().map(move |name| u64::try_from(total(totals, &name)).unwrap_or_default());
        Self(totals.iter().flat_map(of_meter).collect())
    }
}

impl Report {
    pub fn count(&self) -> u64 {
        self.answers.len() as u64
    }

    pub fn latency(&self, permille: usize) -> Duration {
        percentile(self.answers.iter().map(|answer| answer.micros).collect(), permille)
    }

    /// Holds every answer against what had been used in the end.
    pub fn verify(&mut self, after: &Used) {
        for answer in std::mem::take(&mut self.answers) {
            let last = after.0[answer.place as usize];
            if answer.used > last {
                self.note_wrong(format!("{} hundredths used, {last} in the end", answer.used));
            }
            self.answers.push(answer);
        }
    }

    fn note_wrong(&mut self, text: String) {
        self.wrong_count += 1;
        if self.wrong.len() < WRONG_KEPT {
            self.wrong.push(text);
        }
    }

    fn merge(&mut self, other: Report) {
        self.answers.extend(other.answers);
        self.wrong_count += other.wrong_count;
        self.wrong.extend(other.wrong);
        self.wrong.truncate(WRONG_KEPT);
    }
}

impl Run<'_> {
    /// Asks until the flag is raised. Fails if a connection breaks, or is answered a status other than 200.
    pub fn run(&self) -> anyhow::Result<Report> {
        let started = Instant::now();
        let asked = &AtomicU64::new(0);
        let threads = match self.checks.per_second {
            None => self.checks.connections.min(THREADS),
            Some(_) => self.checks.connections,
        };
        let mut report = thread::scope(|scope| {
            let workers = (0..threads).map(|n| {
                let connections = (self.checks.connections - n).div_ceil(threads);
                let worker = move || match self.checks.per_second {
                    None => self.go_round(n, connections),
                    Some(per_second) => self.keep_pace(n, (started, asked), per_second),
                };
                thread::Builder::new().name(format!("check-{n}")).spawn_scoped(scope, worker)
            });
            let mut report = Report::default();
            for worker in workers.collect::<Vec<_>>() {
                report.merge(worker?.join().map_err(|_| anyhow::anyhow!("a check thread panicked"))??);
            }
            anyhow::Ok(report)
        })?;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    fn go_round(&self, n: usize, connections: usize) -> anyhow::Result<Report> {
        let (mut rng, mut report) = (self.rng(n), Report::default());
        let connections = (0..connections).map(|_| Connection::open(self)).collect::<anyhow::Result<Vec<_>>>();
        let mut connections = connections?;
        for connection in &mut connections {
            connection.ask(self.draw(&mut rng))?;
        }
        while !self.stop.load(Ordering::Relaxed) {
            for connection in &mut connections {
                self.take(connection, &mut report)?;
                connection.ask(self.draw(&mut rng))?;
            }
        }
        connections.iter_mut().try_for_each(|connection| self.take(connection, &mut report))?;
        Ok(report)
    }

    fn keep_pace(&self, n: usize, (started, asked): (Instant, &AtomicU64), rate: f64) -> anyhow::Result<Report> {
        let (mut rng, mut report) = (self.rng(n), Report::default());
        let mut connection = Connection::open(self)?;
        while !self.stop.load(Ordering::Relaxed) {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let due = started + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            connection.ask(self.draw(&mut rng))?;
            connection.asked_at = due;
            self.take(&mut connection, &mut report)?;
        }
        Ok(report)
    }

    fn rng(&self, n: usize) -> Rng {
        Rng::with_seed(self.seed ^ (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn draw(&self, rng: &mut Rng) -> (usize, u64) {
        (rng.usize(0..self.workload.meters().len()), rng.u64(0..self.workload.customers()))
    }

    /// Reads the answer that a connection waits for.
    fn take(&self, connection: &mut Connection, report: &mut Report) -> anyhow::Result<()> {
        let (meter, customer) = connection.asked;
        let place = meter * self.workload.customers() as usize + customer as usize;
        let body = connection.answer()?;
        let (is_allowed, used) = (find(body, b"\"allowed\":true").is_some(), member(body, b"\"used\":\"", b'"'));
        match used.and_then(hundredths).filter(|used| is_allowed && *used >= self.used.0[place]) {
            Some(used) => {
                let micros = u32::try_from(connection.asked_at.elapsed().as_micros()).unwrap_or(u32::MAX);
                report.answers.push(Answer { place: place as u32, micros, used });
            }
            None => {
                let text = String::from_utf8_lossy(body);
                report.note_wrong(format!("at least {} hundredths were used: {text}", self.used.0[place]));
            }
        }
        Ok(())
    }
}

/// One connection with its requests, one for each meter.
struct Connection {
    stream: TcpStream,
    /// By meter, and where the customer stands.
    requests: Vec<(Vec<u8>, usize)>,
    buffer: Vec<u8>,
    asked: (usize, u64),
    asked_at: Instant,
}

impl Connection {
    fn open(run: &Run<'_>) -> anyhow::Result<Self> {
        let address = run.target.to_string();
        let stream = TcpStream::connect(&address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(run.timeout))?;
        let meters = run.workload.meters().iter();
        let requests = meters.map(|meter| request(&address, &meter.slug)).collect();
        let buffer = vec![0; ANSWER_BYTES_MAX];
        Ok(Self { stream, requests, buffer, asked: (0, 0), asked_at: Instant::now() })
    }

    fn ask(&mut self, (meter, customer): (usize, u64)) -> std::io::Result<()> {
        let (request, at) = &mut self.requests[meter];
        generate::write_customer(customer, &mut request[*at..][..generate::CUSTOMER_BYTES]);
        (self.asked, self.asked_at) = ((meter, customer), Instant::now());
        self.stream.write_all(request)
    }

    /// The body of the answer.
    fn answer(&mut self) -> anyhow::Result<&[u8]> {
        let (mut filled, mut whole) = (0, None);
        while whole.is_none_or(|(_, end)| filled < end) {
            let read = self.stream.read(&mut self.buffer[filled..]).context("a check was not answered")?;
            ensure!(read > 0, "a connection was closed before its check was answered");
            filled += read;
            whole = body_of(&self.buffer[..filled]);
        }
        let (start, end) = whole.context("a check's answer has no length")?;
        let text = || String::from_utf8_lossy(&self.buffer[..filled]);
        ensure!(self.buffer.starts_with(b"HTTP/1.1 200 ") && filled == end, "a check was answered: {}", text());
        Ok(&self.buffer[start..end])
    }
}

fn request(host: &str, meter: &str) -> (Vec<u8>, usize) {
    let name = Workload::customer_name(0);
    let meter = serde_json::Value::from(meter);
    let body = format!("{{\"customer\":\"{name}\",\"meter\":{meter},\"quantity\":1}}");
    let length = body.len();
    let head = format!(
        "POST /v1/check HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let at = head.len() + "{\"customer\":\"".len();
    ((head + &body).into_bytes(), at)
}

/// Where the body starts and ends, once the head is there.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let start = find(answer, b"\r\n\r\n")? + 4;
    let length = member(&answer[..start], b"content-length: ", b'\r')?;
    let length = std::str::from_utf8(length).ok()?.parse::<usize>().ok()?;
    Some((start, start + length))
}

/// What stands between `name` and `end`.
fn member<'a>(text: &'a [u8], name: &[u8], end: u8) -> Option<&'a [u8]> {
    let rest = &text[find(text, name)? + name.len()..];
    Some(&rest[..rest.iter().position(|byte| *byte == end)?])
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// `12`, `12.3` and `12.34`, times a hundred.
fn hundredths(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let digits = whole.iter().chain(decimals).chain(b"00".iter().take(2_usize.checked_sub(decimals.len())?));
    digits.into_iter().try_fold(0_u64, |sum, digit| {
        let digit = u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_in_hundredths() {
        let texts = ["0", "12", "12.3", "12.34", "100.05"];
        assert_eq!(texts.map(|text| hundredths(text.as_bytes())), [0, 1_200, 1_230, 1_234, 10_005].map(Some));
        for bad in ["-1", "1.234", "1,2", "x", "99999999999999999999"] {
            assert_eq!(hundredths(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_whole_once_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\nx: y\r\n\r\n{\"used\":\"\"}";
        assert_eq!(body_of(&answer[..30]), None);
        let (start, end) = body_of(answer).unwrap();
        assert_eq!((&answer[start..end], end), (&b"{\"used\":\"\"}"[..], answer.len()));
    }

    #[test]
    fn a_request_names_its_customer_where_it_says() {
        let (mut bytes, at) = request("127.0.0.1:1", "bench_1");
        generate::write_customer(42, &mut bytes[at..][..generate::CUSTOMER_BYTES]);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"customer":"c00000042","meter":"bench_1","quantity":1}"#);
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    }
}
