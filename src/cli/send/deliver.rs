//! Delivers batches over one connection and says what became of every line.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use fastrand::Rng;

use crate::cli::answer::{Counts, Events};
use crate::cli::client::{Client, Reply, Target};
use crate::cli::retry::{self, Policy};
use crate::cli::send::lines::{Batch, Line};
use crate::cli::send::summary::Reject;

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Native,
    CloudEvents,
}

/// What became of one batch.
#[derive(Debug, Default)]
pub struct Delivered {
    pub counts: Counts,
    /// Every event that is neither accepted nor a duplicate.
    pub rejects: Vec<Reject>,
    pub requests: u64,
    pub retries: u64,
    /// Events whose fate is unknown: no answer came.
    pub unknown: u64,
    /// Bytes of the input that the batch stood for.
    pub bytes: u64,
    /// Why nothing more is sent.
    pub fatal: Option<String>,
}

/// See the module.
pub struct Deliver {
    client: Client,
    /// With its query.
    path: String,
    format: Format,
    policy: Policy,
    rng: Rng,
}

impl Deliver {
    /// `path`: where events go, with its query.
    pub fn new(
        target: &Target,
        path: String,
        format: Format,
        timeout: Duration,
        give_up_after: Duration,
    ) -> std::io::Result<Self> {
        let client = Client::new(target, timeout)?;
        Ok(Self { client, path, format, policy: Policy::until(give_up_after), rng: Rng::new() })
    }

    /// Until there are no batches left, or something fatal has happened.
    pub fn run(&mut self, batches: &Receiver<Batch>, results: &Sender<Delivered>) {
        for mut batch in batches {
            let mut delivered = Delivered { bytes: batch.input_bytes, ..Delivered::default() };
            delivered.rejects.append(&mut batch.rejects);
            delivered.counts.rejected += delivered.rejects.len() as u64;
            self.lines(&batch, 0..batch.lines.len(), &mut delivered);
            let is_fatal = delivered.fatal.is_some();
            if results.send(delivered).is_err() || is_fatal {
                return;
            }
        }
    }

    /// Sends some lines of a batch, halving what cannot be read as one body.
    fn lines(&mut self, batch: &Batch, range: Range<usize>, delivered: &mut Delivered) {
        let lines = &batch.lines[range.clone()];
        if lines.is_empty() {
            return;
        }
        if delivered.fatal.is_some() {
            delivered.unknown += lines.len() as u64;
            return;
        }
        let content_type = match self.format {
            Format::Native => "application/x-ndjson",
            Format::CloudEvents => "application/cloudevents-batch+json",
        };
        let body = body(self.format, &batch.text, lines);
        delivered.requests += 1;
        let mut retries = 0;
        let (client, path, rng) = (&mut self.client, &self.path, &mut self.rng);
        let answered = retry::post(client, path, content_type, &body, &self.policy, rng, &mut |_| retries += 1);
        delivered.retries += retries;
        let reply = match answered {
            Ok(answered) => answered.reply,
            Err(gave_up) => {
                delivered.retries -= 1;
                return fail(lines, gave_up.to_string(), delivered);
            }
        };
        match (reply.status, lines) {
            (200 | 207, _) => tally(lines, &reply, delivered),
            (400 | 413, [line]) => {
                let code = if reply.status == 400 { "unreadable" } else { "too_long" };
                delivered.counts.rejected += 1;
                delivered.rejects.push(Reject::local(line.number, code, reply.problem()));
            }
            (400 | 413, _) => {
                let middle = range.start + lines.len() / 2;
                self.lines(batch, range.start..middle, delivered);
                self.lines(batch, middle..range.end, delivered);
            }
            (status, _) => fail(lines, format!("the daemon answered {status}: {}", reply.problem()), delivered),
        }
    }
}

fn body(format: Format, text: &[u8], lines: &[Line]) -> Bytes {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Bytes::new() };
    let text = &text[first.start..last.end];
    match format {
        Format::Native => Bytes::copy_from_slice(text),
        Format::CloudEvents => {
            let mut array = Vec::with_capacity(text.len() + 2);
            array.push(b'[');
            for line in lines {
                array.extend_from_slice(&text[line.start - first.start..line.end - first.start]);
                array.push(b',');
            }
            array.pop();
            array.push(b']');
            Bytes::from(array)
        }
    }
}

fn tally(lines: &[Line], reply: &Reply, delivered: &mut Delivered) {
    let (counts, events) = match (serde_json::from_slice::<Counts>(&reply.body), serde_json::from_slice(&reply.body)) {
        (Ok(counts), Ok(Events { events })) if counts.total() == lines.len() as u64 => (counts, events),
        (Ok(counts), Ok(_)) => {
            let total = counts.total();
            return fail(lines, format!("{} events were sent, {total} answered", lines.len()), delivered);
        }
        (Err(error), _) | (_, Err(error)) => return fail(lines, format!("unreadable answer: {error}"), delivered),
    };
    delivered.counts.add(&counts);
    for event in events {
        if matches!(event.outcome.as_str(), "accepted" | "duplicate") {
            continue;
        }
        let line = lines.get(event.index).map_or(0, |line| line.number);
        delivered.rejects.push(Reject {
            line,
            usage_event_id: event.usage_event_id,
            outcome: event.outcome,
            code: event.code,
            detail: event.detail,
        });
    }
}

/// Nothing more can be sent: what became of these lines is unknown.
fn fail(lines: &[Line], reason: String, delivered: &mut Delivered) {
    delivered.unknown += lines.len() as u64;
    delivered.fatal = Some(reason);
}
