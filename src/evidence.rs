//! The record of a run: one JSON object a line, each with its number and the digest of the line before.
//!
//! ```text
//! {"seq":0,"prev":"000…0","type":"start",…}
//! {"seq":1,"prev":"<SHA-256 of line 0 without its newline, hex>","type":"fact",…}
//! ```

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Input;
use crate::event::hex;

/// Schema named by the first record.
pub const SCHEMA: &str = "edamame-guard/evidence/v1";

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    prev: &'a str,
    #[serde(flatten)]
    input: &'a Input,
}

#[derive(Deserialize)]
struct OwnedLine {
    seq: u64,
    prev: String,
    #[serde(flatten)]
    input: Input,
}

/// Writes records and keeps the chain.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    next: u64,
    previous: String,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, next: 0, previous: genesis(), buffer: Vec::new() }
    }

    /// Appends one record and returns its number.
    pub fn append(&mut self, input: &Input) -> io::Result<u64> {
        let seq = self.next;
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &Line { seq, prev: &self.previous, input })?;
        self.previous = digest(&self.buffer);
        self.buffer.push(b'\n');
        self.out.write_all(&self.buffer)?;
        self.next += 1;
        Ok(seq)
    }

    /// How many records there are.
    pub fn count(&self) -> u64 {
        self.next
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives the output back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Why a recording can't be trusted from some record on.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error("record {line}: {source}")]
    Io { line: u64, source: io::Error },
    #[error("record {line} is not one of ours: {reason}")]
    Unreadable { line: u64, reason: String },
    #[error("record {line} does not follow the one before: it was edited, removed, inserted or moved")]
    Chain { line: u64 },
    #[error("the recording is empty")]
    Empty,
    #[error("the recording does not open with a `{SCHEMA}` start record")]
    Schema,
}

/// Reads a recording, record by record, and stops at the first bad one.
///
/// # Errors
/// The first [`BadRecord`]; what came before it has been handed to `each`.
pub fn read(input: impl BufRead, mut each: impl FnMut(u64, Input)) -> Result<u64, BadRecord> {
    let mut previous = genesis();
    let mut count = 0;
    for (line, text) in (0..).zip(input.split(b'\n')) {
        let text = text.map_err(|source| BadRecord::Io { line, source })?;
        let record: OwnedLine = serde_json::from_slice(&text)
            .map_err(|error| BadRecord::Unreadable { line, reason: error.to_string() })?;
        if record.seq != line || record.prev != previous {
            return Err(BadRecord::Chain { line });
        }
        let is_start = matches!(&record.input, Input::Start(start) if start.schema == SCHEMA);
        if (line == 0) != is_start {
            return Err(BadRecord::Schema);
        }
        previous = digest(&text);
        each(record.seq, record.input);
        count += 1;
    }
    if count == 0 { Err(BadRecord::Empty) } else { Ok(count) }
}

fn genesis() -> String {
    "0".repeat(64)
}

fn digest(line: &[u8]) -> String {
    hex(&Sha256::digest(line))
}
