//! Cuts a stream into batches of lines, in bounded memory.

use std::io::{self, BufRead, Read};

use crossbeam_channel::Sender;
use serde::de::IgnoredAny;

use crate::cli::send::summary::Reject;

/// The longest line that is sent: the daemon's default for a whole body.
pub const LINE_BYTES_MAX: usize = 8 << 20;
/// A batch is closed at this length, so that a body stays below the daemon's limit.
const BATCH_BYTES: usize = 4 << 20;

/// Some lines, each an event that is at least JSON.
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines, each followed by a line feed.
    pub text: Vec<u8>,
    pub lines: Vec<Line>,
    /// Lines of this stretch that are no JSON: they are not sent.
    pub rejects: Vec<Reject>,
    /// Bytes of the input that this batch stands for.
    pub input_bytes: u64,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// From 1, in the input.
    pub number: u64,
    pub start: usize,
    /// Exclusive, without the line feed.
    pub end: usize,
}

/// How the reading ended.
pub struct Ended {
    /// Lines that were read, blank ones included.
    pub lines: u64,
    /// Lines that were not blank.
    pub events: u64,
    pub result: io::Result<()>,
}

/// See the module.
pub struct Lines<R> {
    reader: R,
    batch_lines: usize,
    number: u64,
    events: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, batch_lines: usize) -> Self {
        Self { reader, batch_lines, number: 0, events: 0 }
    }

    /// Sends batches until the input ends, or nobody takes them any more.
    pub fn cut(mut self, batches: &Sender<Batch>) -> Ended {
        let result = loop {
            let batch = match self.batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if batches.send(batch).is_err() {
                break Ok(());
            }
        };
        Ended { lines: self.number, events: self.events, result }
    }

    /// The next batch; none at the end of the input.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.lines.len() + batch.rejects.len() < self.batch_lines && batch.text.len() < BATCH_BYTES {
            if !self.line(&mut batch)? {
                break;
            }
        }
        Ok((batch.input_bytes > 0).then_some(batch))
    }

    /// Adds one line to the batch, unless it is blank; false at the end of the input.
    fn line(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let start = batch.text.len();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut batch.text)?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        batch.input_bytes += read as u64;
        let ended = batch.text.last() == Some(&b'\n');
        let line = batch.text[start..].trim_ascii();
        let reject = if !ended && read > LINE_BYTES_MAX {
            batch.input_bytes += self.skip_line()?;
            Some(("too_long", format!("the line has over {LINE_BYTES_MAX} bytes")))
        } else if line.is_empty() {
            None
        } else {
            serde_json::from_slice::<IgnoredAny>(line).err().map(|error| ("invalid_json", error.to_string()))
        };
        if reject.is_some() || line.is_empty() {
            batch.text.truncate(start);
        } else {
            let end = start + batch.text[start..].trim_ascii_end().len();
            batch.text.truncate(end);
            batch.text.push(b'\n');
            batch.lines.push(Line { number: self.number, start, end });
        }
        self.events += u64::from(reject.is_some() || batch.text.len() > start);
        let number = self.number;
        batch.rejects.extend(reject.map(|(code, detail)| Reject::local(number, code, detail)));
        Ok(true)
    }

    /// Reads to the end of the line, keeping nothing.
    fn skip_line(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            let (bytes, found) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.reader.consume(bytes);
            skipped += bytes as u64;
            if found {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches, and how many lines there were, with and without blank ones.
    fn batches(input: &[u8], batch_lines: usize) -> (Vec<Batch>, [u64; 2]) {
        let (sender, receiver) = crossbeam_channel::bounded(1_000);
        let read = Lines::new(input, batch_lines).cut(&sender);
        read.result.unwrap();
        drop(sender);
        (receiver.iter().collect(), [read.lines, read.events])
    }

    #[test]
    fn lines_keep_their_numbers_over_blank_and_broken_ones() {
        let input = b"{\"a\":1}\n\n  {\"b\":2} \r\nnot json\n{\"c\":3}";
        let (batches, lines) = batches(input, 2);
        assert_eq!(lines, [5, 4]);
        let numbers = batches.iter().flat_map(|batch| &batch.lines).map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers, [1, 3, 5]);
        assert_eq!(batches[0].text, b"{\"a\":1}\n  {\"b\":2}\n");
        assert_eq!(batches[1].rejects[0].line, 4);
        assert_eq!(batches[1].text, b"{\"c\":3}\n");
        assert_eq!(batches.iter().map(|batch| batch.input_bytes).sum::<u64>(), input.len() as u64);
    }

    #[test]
    fn a_line_without_end_is_rejected_in_bounded_memory() {
        let mut input = b"{\"a\":1}\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', 3 * LINE_BYTES_MAX));
        input.extend_from_slice(b"\n{\"b\":2}\n");
        let (batches, lines) = batches(&input, 10);
        assert_eq!(lines, [3, 3]);
        assert_eq!(batches[0].rejects[0].code.as_deref(), Some("too_long"));
        assert_eq!(batches[0].lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(batches[0].input_bytes, input.len() as u64);
    }
}
