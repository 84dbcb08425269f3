//! What became of a file: counts, the first events that were not taken, and a file of all of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::cli::answer::Counts;
use crate::cli::send::deliver::Delivered;

/// An event that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// From 1, in the input.
    pub line: u64,
    pub usage_event_id: Option<String>,
    pub outcome: String,
    pub code: Option<String>,
    pub detail: Option<String>,
}

impl Reject {
    /// A line that cannot be an event at all; the daemon has taken nothing of it.
    pub fn local(line: u64, code: &str, detail: String) -> Self {
        Self { line, usage_event_id: None, outcome: "rejected".into(), code: Some(code.into()), detail: Some(detail) }
    }
}

/// See the module.
pub struct Summary {
    pub counts: Counts,
    pub elapsed: Duration,
    /// Lines of the input that were read, sent or not.
    pub lines_read: u64,
    /// Those that were not blank.
    pub events_read: u64,
    /// They were sent as this backfill.
    pub backfill: Option<String>,
    requests: u64,
    retries: u64,
    unknown: u64,
    /// Why sending stopped before the end.
    fatal: Option<String>,
    /// Events by outcome and code.
    codes: BTreeMap<(String, String), u64>,
    /// The not taken events with the lowest line numbers.
    first: BTreeMap<u64, Reject>,
    show: usize,
    file: Option<BufWriter<File>>,
}

impl Summary {
    /// `show`: how many events that were not taken are printed; all go to `file`.
    pub fn new(show: usize, file: Option<File>) -> Self {
        Self {
            counts: Counts::default(),
            elapsed: Duration::ZERO,
            lines_read: 0,
            events_read: 0,
            backfill: None,
            requests: 0,
            retries: 0,
            unknown: 0,
            fatal: None,
            codes: BTreeMap::new(),
            first: BTreeMap::new(),
            show,
            file: file.map(BufWriter::new),
        }
    }

    pub fn add(&mut self, delivered: Delivered) -> io::Result<()> {
        self.counts.add(&delivered.counts);
        self.requests += delivered.requests;
        self.retries += delivered.retries;
        self.unknown += delivered.unknown;
        self.fatal = self.fatal.take().or(delivered.fatal);
        for reject in delivered.rejects {
            let code = reject.code.clone().unwrap_or_default();
            *self.codes.entry((reject.outcome.clone(), code)).or_default() += 1;
            if let Some(file) = &mut self.file {
                serde_json::to_writer(&mut *file, &reject)?;
                file.write_all(b"\n")?;
            }
            self.first.insert(reject.line, reject);
            if self.first.len() > self.show {
                self.first.pop_last();
            }
        }
        Ok(())
    }

    /// Writes out what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }

    /// Every event of the input was accepted or a duplicate.
    pub fn is_success(&self) -> bool {
        self.fatal.is_none() && self.unknown == 0 && self.counts.total() == self.counts.accepted + self.counts.duplicate
    }

    /// For the progress bar.
    pub fn one_line(&self) -> String {
        let counts = &self.counts;
        let not_taken = counts.conflict + counts.rejected + counts.capped;
        format!("{} accepted, {} duplicate, {not_taken} not taken", counts.accepted, counts.duplicate)
    }

    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let counts = &self.counts;
        let rate = counts.total() as f64 / self.elapsed.as_secs_f64().max(1e-9);
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            out,
            "sent       {} events in {} requests, {seconds:.2} s ({rate:.0} events/s)",
            counts.total(),
            self.requests
        )?;
        if let Some(backfill) = &self.backfill {
            writeln!(out, "backfill   {backfill}")?;
        }
        for (name, count) in self.outcomes() {
            writeln!(out, "{name:10} {count}")?;
        }
        for ((outcome, code), count) in &self.codes {
            writeln!(out, "  {outcome} {code}: {count}")?;
        }
        for reject in self.first.values() {
            let id = reject.usage_event_id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
            let code = reject.code.as_deref().unwrap_or("no code");
            let detail = reject.detail.as_deref().unwrap_or_default();
            writeln!(out, "line {}:{id} {} ({code}) {detail}", reject.line, reject.outcome)?;
        }
        let hidden = self.codes.values().sum::<u64>().saturating_sub(self.first.len() as u64);
        if hidden > 0 {
            writeln!(out, "… and {hidden} more; --rejects FILE has them all")?;
        }
        if let Some(reason) = &self.fatal {
            writeln!(out, "STOPPED: {reason}")?;
            writeln!(
                out,
                "{} events got no answer, and what follows was not read. Sending the whole file again is safe.",
                self.unanswered()
            )?;
        }
        Ok(())
    }

    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let codes =
            self.codes.iter().map(|((outcome, code), count)| json!({"outcome": outcome, "code": code, "count": count}));
        let summary = json!({
            "complete": self.fatal.is_none(),
            "stopped_by": self.fatal,
            "backfill": self.backfill,
            "lines": self.lines_read,
            "events": self.counts.total(),
            "accepted": self.counts.accepted,
            "duplicate": self.counts.duplicate,
            "conflict": self.counts.conflict,
            "rejected": self.counts.rejected,
            "capped": self.counts.capped,
            "late": self.counts.late,
            "unanswered": self.unanswered(),
            "requests": self.requests,
            "retries": self.retries,
            "seconds": self.elapsed.as_secs_f64(),
            "codes": codes.collect::<Vec<_>>(),
            "not_taken": self.first.values().collect::<Vec<_>>(),
        });
        writeln!(out, "{summary}")
    }

    fn outcomes(&self) -> [(&'static str, u64); 8] {
        let counts = &self.counts;
        [
            ("accepted", counts.accepted),
            ("duplicate", counts.duplicate),
            ("conflict", counts.conflict),
            ("rejected", counts.rejected),
            ("capped", counts.capped),
            ("late", counts.late),
            ("unanswered", self.unanswered()),
            ("retries", self.retries),
        ]
    }

    /// Events that were sent, or read and waiting, and got no answer. Zero unless sending stopped early.
    fn unanswered(&self) -> u64 {
        match self.fatal {
            Some(_) => self.events_read.saturating_sub(self.counts.total()).max(self.unknown),
            None => self.unknown,
        }
    }
}
