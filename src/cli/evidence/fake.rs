//! A stand-in for the daemon in tests: answers by path, remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cli::client::{Client, Target};

/// Method, path with query, body.
pub type Asked = (String, String, String);

/// Gives the status and body for a method, a path with its query, and a body.
pub type Answer = Box<dyn FnMut(&str, &str, &str) -> (u16, Value) + Send>;

/// Serves until the test's process ends.
pub fn daemon(answer: Answer) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answer, seen) = (Arc::new(Mutex::new(answer)), asked.clone());
    let accept = move || {
        for stream in listener.incoming() {
            let (answer, seen) = (answer.clone(), seen.clone());
            std::thread::Builder::new().spawn(move || converse(stream.unwrap(), &answer, &seen)).unwrap();
        }
    };
    std::thread::Builder::new().spawn(accept).unwrap();
    (Client::new(&target, Duration::from_secs(5)).unwrap(), asked)
}

fn converse(mut stream: TcpStream, answer: &Mutex<Answer>, seen: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut request, mut length) = (String::new(), 0);
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let (status, text) = answer.lock()(&method, &path, &body);
        seen.lock().push((method, path, body));
        let text = text.to_string();
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).unwrap();
    }
}

/// A parameter of a path's query, as it was before it was encoded.
pub fn parameter(path: &str, name: &str) -> Option<String> {
    let query = path.split_once('?')?.1;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at(2);
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
                rest = after;
            }
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// One page of a list: `limit` entries from where `cursor` says.
pub fn page(path: &str, entries: &[Value]) -> (u16, Value) {
    let number = |name: &str| parameter(path, name).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (number("cursor").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let end = from.saturating_add(limit).min(entries.len());
    let next = (end < entries.len()).then(|| end.to_string());
    (200, json!({"data": entries[from..end], "next_cursor": next}))
}

pub fn unknown(path: &str) -> (u16, Value) {
    (404, json!({"detail": format!("no {path}")}))
}
