//! A receiver of webhooks on loopback that behaves as a test says, verifies every signature itself, and remembers.
//!
//! 1. Blocking and with a thread per connection: an answer that is late, or never comes, delays nobody else.
//! 2. A request is in the book before it is answered, with what it is answered: a sender that is killed meanwhile has
//!    been heard all the same.
//! 3. What breaks the standard (signature, timestamp, id, size, headers) is kept as `wrong`, and fails [`Receiver::requests`].

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use meterd::env::{Clock, SystemClock};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What the secret in the config is, and what it stands for.
pub const SECRET: &str = "whsec_b25lIGh1bmRyZWQgYW5kIHR3ZW50eSBlaWdodCBiaXRzIQ==";
const SECRET_PREFIX: &str = "whsec_";
/// How far a timestamp may be off, as the standard's libraries have it.
const TOLERANCE_S: i64 = 300;
/// The standard's, for a message of more than one row.
const BODY_BYTES_MAX: usize = 20_000;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longer than any sender waits.
const HANG: Duration = Duration::from_secs(60);

/// What a request gets.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// A status after a while.
    Late(Duration, u16),
    /// A status with a header and a body.
    Says(u16, &'static str, String, &'static str),
    /// Nothing, and the connection stays open.
    Hang,
    /// The connection is reset.
    Reset,
}

/// One request that came in whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub id: String,
    /// How many requests with this id came before.
    pub attempt: usize,
    /// How many ids came before this one.
    pub message: usize,
    pub digest: [u8; 32],
    pub body: Value,
    /// What it was answered, if it was.
    pub status: Option<u16>,
}

type Script = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    script: Mutex<Script>,
    book: Mutex<Book>,
    connections: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Book {
    requests: Vec<Request>,
    /// By id: its place among ids, and how many requests there were.
    ids: HashMap<String, (usize, usize)>,
    wrong: Vec<String>,
    connects: usize,
    under_way: usize,
    under_way_max: usize,
}

/// Listens until dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Request {
    /// The rows it carries.
    pub fn rows(&self) -> &[Value] {
        self.body["data"]["rows"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The alert it carries instead.
    pub fn alert(&self) -> Option<&Value> {
        let is_alert = self.body["type"].as_str().is_some_and(|kind| kind.starts_with("alert."));
        Some(&self.body["data"]).filter(|data| is_alert && data["alert_id"].is_string())
    }

    pub fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Receiver {
    /// Answers as `script` says.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Takes everything.
    pub fn willing() -> Self {
        Self::start(|_| Answer::Status(204))
    }

    /// At an address where nobody listened so far.
    pub fn start_at(address: SocketAddr, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind(address).unwrap(), script)
    }

    /// An address where nobody listens.
    pub fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn listen(listener: TcpListener, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            book: Mutex::default(),
            connections: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let builder = thread::Builder::new().name("receiver".into());
        builder.spawn(move || accept(&listener, &accepting)).unwrap();
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        url(self.address)
    }

    /// From now on.
    pub fn answer(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock() = Arc::new(script);
    }

    /// Every request so far, in order. Panics if one of them broke the standard.
    pub fn requests(&self) -> Vec<Request> {
        let book = self.shared.book.lock();
        assert!(book.wrong.is_empty(), "{} requests are wrong: {:?}", book.wrong.len(), book.wrong.first());
        book.requests.clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.book.lock().requests.len()
    }

    /// How many requests there were at once, at most.
    pub fn at_once(&self) -> usize {
        self.shared.book.lock().under_way_max
    }

    /// How many connections there were.
    pub fn connects(&self) -> usize {
        self.shared.book.lock().connects
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the thread that accepts
        for connection in self.shared.connections.lock().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

pub fn url(address: SocketAddr) -> String {
    format!("http://{address}/hooks")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(connection) = connection else { continue };
        shared.book.lock().connects += 1;
        shared.connections.lock().push(connection.try_clone().unwrap());
        let serving = Arc::clone(shared);
        let builder = thread::Builder::new().name("receiver-line".into());
        builder.spawn(move || while serve(&connection, &serving).is_ok_and(|again| again) {}).unwrap();
    }
}

/// Answers one request. False: the connection is over.
fn serve(mut connection: &TcpStream, shared: &Shared) -> io::Result<bool> {
    let Some(head) = read_head(connection)? else { return Ok(false) };
    let length = head.get("content-length").and_then(|text| text.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length > 0) else {
        shared.book.lock().wrong.push(format!("no content-length: {head:?}"));
        return Ok(false);
    };
    // The last byte stays unread until it is known whether the connection is to be reset: closing a socket that holds
    // unread bytes does that.
    let mut body = vec![0; length];
    connection.read_exact(&mut body[..length - 1])?;
    if connection.peek(&mut body[length - 1..])? == 0 {
        return Ok(false);
    }
    let answer = enter(&head, &body, shared);
    let again = reply(connection, answer, shared);
    shared.book.lock().under_way -= 1;
    again
}

/// False: the connection is over.
fn reply(mut connection: &TcpStream, answer: Answer, shared: &Shared) -> io::Result<bool> {
    if matches!(answer, Answer::Reset) {
        let own = connection.peer_addr()?;
        let mut connections = shared.connections.lock();
        connections.retain(|other| other.peer_addr().is_ok_and(|peer| peer != own));
        return Ok(false);
    }
    connection.read_exact(&mut [0])?;
    let (status, header, text) = match answer {
        Answer::Status(status) => (status, String::new(), ""),
        Answer::Late(delay, status) => {
            thread::sleep(delay);
            (status, String::new(), "")
        }
        Answer::Says(status, name, value, text) => (status, format!("{name}: {value}\r\n"), text),
        Answer::Hang | Answer::Reset => {
            connection.set_read_timeout(Some(HANG))?;
            let _ = connection.read(&mut [0]); // until the sender has enough of it
            return Ok(false);
        }
    };
    // A 204 has no length.
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", text.len()) };
    connection.write_all(format!("HTTP/1.1 {status} As told\r\n{header}{length}\r\n{text}").as_bytes())?;
    Ok(true)
}

/// Headers by name in lower case, and the request line as `:`; none at the end.
fn read_head(mut connection: &TcpStream) -> io::Result<Option<HashMap<String, String>>> {
    let mut bytes = vec![0; HEAD_BYTES_MAX];
    let length = loop {
        let seen = connection.peek(&mut bytes)?;
        if seen == 0 {
            return Ok(None);
        }
        match bytes[..seen].windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    connection.read_exact(&mut bytes[..length])?;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let mut lines = text.trim_end().lines();
    let mut head = HashMap::from([(":".to_owned(), lines.next().unwrap_or_default().to_owned())]);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        head.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(head))
}

/// Puts a request into the book and decides what it gets.
fn enter(head: &HashMap<String, String>, body: &[u8], shared: &Shared) -> Answer {
    let header = |name: &str| head.get(name).cloned().unwrap_or_default();
    let script = Arc::clone(&shared.script.lock());
    let mut book = shared.book.lock();
    let id = header("webhook-id");
    let known = book.ids.len();
    let (message, requests) = book.ids.entry(id.clone()).or_insert((known, 0));
    let (message, attempt) = (*message, *requests);
    *requests += 1;
    let mut request = Request {
        at: Instant::now(),
        id,
        attempt,
        message,
        digest: Sha256::digest(body).into(),
        body: serde_json::from_slice(body).unwrap_or_default(),
        status: None,
    };
    let now_s = SystemClock::new().now().millis() / 1_000;
    if let Err(wrong) = verify(head, body, &request, now_s) {
        book.wrong.push(format!("{wrong}: {head:?} {:.200}", String::from_utf8_lossy(body)));
    }
    let answer = script(&request);
    request.status = match &answer {
        Answer::Status(status) | Answer::Late(_, status) | Answer::Says(status, ..) => Some(*status),
        Answer::Hang | Answer::Reset => None,
    };
    book.requests.push(request);
    book.under_way += 1;
    book.under_way_max = book.under_way_max.max(book.under_way);
    answer
}

/// What the standard asks of a message.
fn verify(head: &HashMap<String, String>, body: &[u8], request: &Request, now_s: i64) -> Result<(), String> {
    let header = |name: &str| head.get(name).ok_or(format!("no {name}"));
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    if !header(":")?.starts_with("POST /hooks HTTP/1.1") {
        return Err("not what the url asks for".into());
    }
    if header("content-type")? != "application/json" {
        return Err("not called JSON".into());
    }
    if id.is_empty() || id.contains('.') {
        return Err("an id that cannot be signed".into());
    }
    let off_s = timestamp.parse::<i64>().map_err(|_| "a timestamp that is no number")?.abs_diff(now_s);
    if off_s > TOLERANCE_S.unsigned_abs() {
        return Err(format!("a timestamp that is off by {off_s} s"));
    }
    if body.len() > BODY_BYTES_MAX && request.rows().len() != 1 {
        return Err(format!("{} rows in {} bytes", request.rows().len(), body.len()));
    }
    let is_empty = request.rows().is_empty() && request.alert().is_none();
    if !request.body["type"].is_string() || !request.body["timestamp"].is_string() || is_empty {
        return Err("a body of another shape".into());
    }
    let expected = format!("v1,{}", sign(SECRET, id, timestamp, body));
    match header("webhook-signature")?.split(' ').any(|signature| signature == expected) {
        true => Ok(()),
        false => Err(format!("not signed {expected}")),
    }
}

fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX).unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The example of the standard's reference libraries.
#[test]
fn signs_as_the_reference_libraries_do() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let signed = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    assert_eq!(signed, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

/// The checks must be able to fail.
#[test]
fn another_body_another_time_and_another_secret_are_noticed() {
    let sent = br#"{"type":"window.adjusted","timestamp":"t","data":{"rows":[{}]}}"#;
    let check = |body: &[u8], secret: &str, now_s: i64| {
        let signature = format!("v1,b3RoZXI= v1,{}", sign(secret, "msg_1", "1000", sent));
        let head = [
            (":", "POST /hooks HTTP/1.1"),
            ("content-type", "application/json"),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1000"),
            ("webhook-signature", &signature),
        ];
        let head = head.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = Request {
            at: Instant::now(),
            id: "msg_1".into(),
            attempt: 0,
            message: 0,
            digest: [0; 32],
            body: serde_json::from_slice(body).unwrap(),
            status: None,
        };
        verify(&head, body, &request, now_s)
    };
    assert_eq!(check(sent, SECRET, 1_000), Ok(()));
    assert_eq!(check(sent, SECRET, 1_300), Ok(()));
    assert!(check(sent, SECRET, 1_301).unwrap_err().contains("off by"));
    assert!(check(&[sent.as_slice(), b" "].concat(), SECRET, 1_000).unwrap_err().contains("not signed"));
    assert!(check(sent, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_000).unwrap_err().contains("not signed"));
}
