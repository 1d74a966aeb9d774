//! The record of a run: one JSON object a line, each with its number and the digest of the line before.
//!
//! ```text
//! {"seq":0,"prev":"000…0","type":"start",…}
//! {"seq":1,"prev":"<SHA-256 of line 0 without its newline, hex>","type":"fact",…}
//! {"seq":2,"prev":"<of line 1>","type":"end",…}
//! {"seq":3,"prev":"<of line 2>","type":"footer","records":3,"counts":{…},"lost":0,"tier":"T2","canaries":{…}}
//! ```
//!
//! The footer follows from the lines above it, so a reader makes it again and compares: a changed last
//! record, a changed footer and a missing one all show. Version 1 had no footer and is still read.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Input;
use crate::event::{Activity, Plane, hex};

/// Schema named by the first record.
pub const SCHEMA: &str = "edamame-guard/evidence/v2";
/// The one before, without a footer.
const SCHEMA_BEFORE: &str = "edamame-guard/evidence/v1";
/// Many times what 64 KiB of arguments and three paths can become as JSON.
const LONGEST_LINE: u64 = 16 << 20;

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

/// What the last line says of those above it.
#[derive(Debug, Default, Serialize)]
struct Footer {
    seq: u64,
    prev: String,
    #[serde(rename = "type")]
    kind: &'static str,
    records: u64,
    /// Records by kind; events by plane.
    counts: BTreeMap<&'static str, u64>,
    /// Events that the recorder could not deliver.
    lost: u64,
    tier: String,
    /// Each hook, and whether it was proved at the start.
    canaries: BTreeMap<String, bool>,
}

impl Footer {
    fn count(&mut self, input: &Input) {
        let kind = match input {
            Input::Start(start) => {
                self.tier.clone_from(&start.sight.tier);
                self.canaries.clone_from(&start.sight.hooks);
                "start"
            }
            Input::Declaration(_) => "declaration",
            Input::Fact(_) => "fact",
            Input::Heartbeat(_) => "heartbeat",
            Input::End(_) => "end",
            Input::Event(event) => {
                if let Activity::Lost { count, .. } = event.activity {
                    self.lost = self.lost.saturating_add(count);
                }
                match event.activity.plane() {
                    Some(Plane::Process) => "process",
                    Some(Plane::File) => "file",
                    Some(Plane::Egress) => "egress",
                    None => "recorder",
                }
            }
        };
        *self.counts.entry(kind).or_default() += 1;
        self.records += 1;
    }

    /// The line that follows a line with this digest.
    fn line(&mut self, previous: &str) -> serde_json::Result<Vec<u8>> {
        (self.seq, self.kind) = (self.records, "footer");
        previous.clone_into(&mut self.prev);
        serde_json::to_vec(self)
    }
}

/// Writes records and keeps the chain. The footer follows the [`Input::End`] by itself.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    next: u64,
    previous: String,
    buffer: Vec<u8>,
    footer: Footer,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, next: 0, previous: genesis(), buffer: Vec::new(), footer: Footer::default() }
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
        self.footer.count(input);
        if matches!(input, Input::End(_)) {
            let mut line = self.footer.line(&self.previous)?;
            line.push(b'\n');
            self.out.write_all(&line)?;
        }
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
    #[error("record {line} is not one of ours: it takes more than {LONGEST_LINE} bytes")]
    Long { line: u64 },
    #[error("record {line} does not follow the one before: it was edited, removed, inserted or moved")]
    Chain { line: u64 },
    #[error(
        "record {line} is not the footer of the records above it: it or the last of them was edited, or the recording was cut there"
    )]
    Footer { line: u64 },
    #[error("the recording is empty")]
    Empty,
    #[error("the recording does not open with a `{SCHEMA}` start record")]
    Schema,
}

/// Reads a recording, record by record, and stops at the first bad one.
///
/// # Errors
/// The first [`BadRecord`]; what came before it has been handed to `each`.
pub fn read(mut input: impl BufRead, mut each: impl FnMut(u64, Input)) -> Result<u64, BadRecord> {
    let mut previous = genesis();
    let mut count = 0;
    let mut footer = Footer::default();
    let (mut has_footer, mut is_over) = (false, false);
    let mut text = Vec::new();
    for line in 0.. {
        text.clear();
        let taken = Read::by_ref(&mut input).take(LONGEST_LINE + 1).read_until(b'\n', &mut text);
        if taken.map_err(|source| BadRecord::Io { line, source })? == 0 {
            break;
        }
        if text.last() == Some(&b'\n') {
            text.pop();
        } else if text.len() as u64 > LONGEST_LINE {
            return Err(BadRecord::Long { line });
        }
        if is_over {
            // Only an exact copy will do, and nothing may follow it.
            let is_made = footer.line(&previous).is_ok_and(|made| made == text);
            if !is_made || count != line {
                return Err(BadRecord::Footer { line });
            }
            has_footer = false;
            continue;
        }
        let record: OwnedLine = serde_json::from_slice(&text)
            .map_err(|error| BadRecord::Unreadable { line, reason: error.to_string() })?;
        if record.seq != line || record.prev != previous {
            return Err(BadRecord::Chain { line });
        }
        let is_start = match &record.input {
            Input::Start(start) => [SCHEMA, SCHEMA_BEFORE].contains(&start.schema.as_str()),
            _ => false,
        };
        if (line == 0) != is_start {
            return Err(BadRecord::Schema);
        }
        previous = digest(&text);
        footer.count(&record.input);
        if matches!(&record.input, Input::Start(start) if start.schema == SCHEMA) {
            has_footer = true;
        }
        is_over = has_footer && matches!(&record.input, Input::End(_));
        each(record.seq, record.input);
        count += 1;
    }
    match count {
        0 => Err(BadRecord::Empty),
        // A recorder that was killed wrote neither; one that wrote its end wrote the footer as well.
        _ if is_over && has_footer => Err(BadRecord::Footer { line: count }),
        _ => Ok(count),
    }
}

/// What was recorded late and has to be known first: the workflow's file. Anything that can't be read ends it.
pub fn late(input: &mut impl BufRead) -> Vec<Input> {
    const MARK: &[u8] = b"\"fact\":\"workflow\"";
    const MOST: usize = 8;
    let mut found = Vec::new();
    let mut line = Vec::new();
    let has = |line: &[u8], mark: &[u8]| line.windows(mark.len()).any(|part| part == mark);
    while found.len() < MOST {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // Only a runner's job has such a file; other recordings need no second look.
        if line.starts_with(b"{\"seq\":0,") && !has(&line, b"\"provider\":\"github\"") {
            break;
        }
        if has(&line, MARK)
            && let Ok(record) = serde_json::from_slice::<OwnedLine>(&line)
        {
            found.push(record.input);
        }
    }
    found
}

fn genesis() -> String {
    "0".repeat(64)
}

fn digest(line: &[u8]) -> String {
    hex(&Sha256::digest(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{End, Start};
    use crate::event::Timestamp;

    fn inputs() -> Vec<Input> {
        let recording = include_bytes!("../fixtures/make-honest/evidence.jsonl");
        let mut inputs = Vec::new();
        read(recording.as_slice(), |_, input| inputs.push(input)).expect("version 1 is still read");
        if let Some(Input::Start(Start { schema, .. })) = inputs.first_mut() {
            SCHEMA.clone_into(schema);
        }
        inputs
    }

    fn written(inputs: &[Input]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for input in inputs {
            writer.append(input).expect("written");
        }
        writer.finish().expect("written")
    }

    fn count(recording: &[u8]) -> Result<u64, BadRecord> {
        read(recording, |_, _| ())
    }

    #[test]
    fn a_recording_ends_with_a_footer_that_counts() {
        let inputs = inputs();
        let text = String::from_utf8(written(&inputs)).expect("text");
        assert_eq!(count(text.as_bytes()).expect("whole"), inputs.len() as u64);
        let footer: serde_json::Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&footer["type"], &footer["records"]), (&"footer".into(), &inputs.len().into()));
        let sum: u64 = footer["counts"]
            .as_object()
            .expect("counts")
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert_eq!(
            (sum, &footer["tier"]),
            (inputs.len() as u64, &"T2 (tracepoints and cgroup hooks)".into())
        );
        assert!(footer["canaries"].as_object().is_some_and(|hooks| !hooks.is_empty()), "{footer}");
    }

    #[test]
    fn an_edited_end_and_an_edited_or_missing_footer_are_refused() {
        let inputs = inputs();
        let text = String::from_utf8(written(&inputs)).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let (last, above) = lines.split_last().expect("lines");
        let (end, rest) = above.split_last().expect("lines");
        let join = |lines: &[&[&str]]| lines.concat().join("\n") + "\n";
        let edited_end = end.replace("\"watching\":true", "\"watching\":false");
        let edited_footer = last.replace("\"lost\":0", "\"lost\":1");
        assert!(edited_end != *end && edited_footer != *last);
        for (what, damaged) in [
            ("the last record is another", join(&[rest, &[&edited_end, last]])),
            ("the footer is another", join(&[above, &[&edited_footer]])),
            ("no footer", join(&[above])),
            ("half a footer", join(&[above, &[&last[..last.len() / 2]]])),
            ("two footers", join(&[above, &[last, last]])),
            ("something after it", join(&[above, &[last, end]])),
        ] {
            let error = count(damaged.as_bytes()).expect_err(what);
            assert!(matches!(error, BadRecord::Footer { .. }), "{what}: {error}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_taken_into_memory() {
        let start = written(&inputs()[..1]);
        let endless = start.as_slice().chain(io::repeat(b' '));
        let error = read(io::BufReader::new(endless), |_, _| ()).expect_err("too long");
        assert!(matches!(error, BadRecord::Long { line: 1 }), "{error}");
        let padded = [vec![b' '; 1 << 20], start].concat();
        assert_eq!(count(&padded).expect("a long line is a line"), 1);
    }

    #[test]
    fn a_recorder_that_was_killed_left_no_footer() {
        let mut inputs = inputs();
        inputs.pop();
        assert_eq!(count(&written(&inputs)).expect("what is there"), inputs.len() as u64);
        let end = End { time: Timestamp(1), command: None, signal: None, watching: true, client: None };
        inputs.push(Input::End(end));
        assert_eq!(count(&written(&inputs)).expect("whole"), inputs.len() as u64);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        /// A flipped byte anywhere is an error with words, and what is cut is an error or has no end.
        #[test]
        fn no_damage_goes_unnoticed(at in proptest::prelude::any::<proptest::sample::Index>(), bit in 0_u8..8) {
            static WHOLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| written(&inputs()));
            let place = at.index(WHOLE.len() - 1);
            let mut flipped = WHOLE.clone();
            flipped[place] ^= 1 << bit;
            let error = count(&flipped).expect_err("a flipped bit");
            assert!(!error.to_string().is_empty());
            let mut has_end = false;
            let cut = read(&WHOLE[..place], |_, input| has_end |= matches!(input, Input::End(_)));
            assert!(cut.is_err() || !has_end || place == WHOLE.len() - 1, "{place} of {}", WHOLE.len());
        }
    }
}
