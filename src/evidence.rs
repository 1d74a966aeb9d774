//! The record of a run: one JSON object a line, each with its number and the digest of the line before.
//!
//! ```text
//! {"seq":0,"prev":"0000000000000000","type":"start",…}
//! {"seq":1,"prev":"<16 digits of digest 0>","type":"fact",…}
//! {"seq":2,"prev":"<all 64 of digest 1>","type":"end",…}
//! {"seq":3,"prev":"<all 64 of digest 2>","type":"footer","records":3,"counts":{…},"lost":0,"tier":"T2","canaries":{…}}
//!
//! digest 0 = SHA-256(line 0)        digest n = SHA-256(digest n-1 in hex, line n)        lines without their newlines
//! ```
//!
//! So each digest stands for everything above it. Digests don't compress, and were half of a recording: most lines show 16
//! digits, enough to name the record that was edited; heartbeats, the end and the footer, which are signed, show all.
//!
//! The footer follows from the lines above it, so a reader makes it again and compares: a changed last
//! record, a changed footer and a missing one all show. Version 2 had whole digests of single lines, version 1 no footer
//! either; both are still read.
//!
//! Where record 0 names a key, each heartbeat and the end begin with a `signature` of their own line without it, by
//! which all above is signed as well. [`Seal`] signs the end of it all, and [`parts`] tells how a long one is kept.

mod key;
pub mod parts;
mod seal;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Input;
use crate::event::{Activity, Plane, hex};

pub use key::Key;
pub use parts::{Recording, Store};
pub use seal::{Ends, Seal};

/// Schema named by the first record.
pub const SCHEMA: &str = "edamame-guard/evidence/v3";
/// Those before: with digests of the line before alone, and without a footer.
const SCHEMA_SINGLE: &str = "edamame-guard/evidence/v2";
const SCHEMA_BARE: &str = "edamame-guard/evidence/v1";
/// How many digits of a digest most lines show.
const SHORT: usize = 16;
/// How a signed line begins.
const SIGNED: &[u8] = b"{\"signature\":\"";
/// What a line is signed for, so that no signature can stand for another thing.
const HEAD: &[u8] = b"edamame-guard/head/v1\n";
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

/// The digest that stands for all lines so far.
#[derive(Clone, Debug, Default)]
struct Link {
    digest: String,
    /// Before version 3 each stands for its own line alone.
    is_single: bool,
}

impl Link {
    /// What the next line shows of it.
    fn shown(&self, is_whole: bool) -> &str {
        const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
        let digest = if self.digest.is_empty() { FIRST } else { &self.digest };
        if is_whole || self.is_single { digest } else { &digest[..SHORT] }
    }

    fn follow(&mut self, line: &[u8]) {
        let above = if self.is_single { "" } else { &self.digest };
        self.digest = hex(&Sha256::new().chain_update(above).chain_update(line).finalize());
    }
}

/// Writes records and keeps the chain. The footer follows the [`Input::End`] by itself.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    next: u64,
    link: Link,
    buffer: Vec<u8>,
    footer: Footer,
    key: Option<Key>,
    ends: Ends,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        let ends = Ends::default();
        Self {
            out,
            next: 0,
            link: Link::default(),
            buffer: Vec::new(),
            footer: Footer::default(),
            key: None,
            ends,
        }
    }

    /// One whose heartbeats and end are signed. The start has to name the key.
    pub fn signed(out: W, key: Key) -> Self {
        Self { key: Some(key), ..Self::new(out) }
    }

    /// Appends one record and returns its number.
    pub fn append(&mut self, input: &Input) -> io::Result<u64> {
        let seq = self.next;
        self.buffer.clear();
        let prev = self.link.shown(is_head(input));
        serde_json::to_writer(&mut self.buffer, &Line { seq, prev, input })?;
        if let (true, Some(key)) = (is_head(input), &self.key) {
            let signature = key.sign(&[HEAD, &self.buffer].concat());
            self.buffer.splice(..1, [SIGNED, signature.as_bytes(), b"\","].concat());
        }
        self.link.follow(&self.buffer);
        if seq == 0 {
            self.ends.genesis.clone_from(&self.link.digest);
        }
        self.buffer.push(b'\n');
        self.out.write_all(&self.buffer)?;
        self.next += 1;
        self.footer.count(input);
        if matches!(input, Input::End(_)) {
            let mut line = self.footer.line(self.link.shown(true))?;
            self.link.follow(&line);
            line.push(b'\n');
            self.out.write_all(&line)?;
        }
        Ok(seq)
    }

    /// What the recording is known by: its first record, its newest line, and how many there are.
    pub fn ends(&self) -> Ends {
        Ends { head: self.link.digest.clone(), records: self.next, ..self.ends.clone() }
    }

    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Where the records go.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// How many records there are.
    pub fn count(&self) -> u64 {
        self.next
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives the output back, flushed.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.part()?.0)
    }

    /// Gives the output back, flushed, and the key.
    pub fn part(mut self) -> io::Result<(W, Option<Key>)> {
        self.out.flush()?;
        Ok((self.out, self.key))
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
    #[error("record {line} does not follow the one before: record {} was edited", line.saturating_sub(1))]
    Edited { line: u64 },
    #[error("record {line} is missing: record {found} stands in its place, so it was removed or moved")]
    Missing { line: u64, found: u64 },
    #[error(
        "record {line} is not the next: record {found} stands in its place, so that was inserted or moved"
    )]
    Inserted { line: u64, found: u64 },
    #[error("record {line} is not signed by the key that record 0 names")]
    Signature { line: u64 },
    #[error(
        "record {line} is not the footer of the records above it: it or the last of them was edited, or the recording was cut there"
    )]
    Footer { line: u64 },
    #[error("record {line} stands behind the end of the recording, and is none of it")]
    Behind { line: u64 },
    #[error("the recording is empty")]
    Empty,
    #[error("the recording does not open with a `{SCHEMA}` start record")]
    Schema,
}

/// What is known of a recording once it was read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub ends: Ends,
    /// The key that record 0 names.
    pub key: Option<String>,
    /// How many records are signed, and the last of them.
    pub signed: u64,
    pub last_signed: Option<u64>,
    /// Whether it has its end; a recorder that was killed wrote none.
    pub has_end: bool,
}

/// Reads a recording, record by record, and stops at the first bad one.
///
/// # Errors
/// The first [`BadRecord`]; what came before it has been handed to `each`.
pub fn read(input: impl BufRead, each: impl FnMut(u64, Input)) -> Result<u64, BadRecord> {
    Ok(walk(input, each)?.ends.records)
}

/// The same, and tells more of what was read.
///
/// # Errors
/// As for [`read`].
pub fn walk(mut input: impl BufRead, mut each: impl FnMut(u64, Input)) -> Result<Chain, BadRecord> {
    let mut chain = Chain::default();
    let mut link = Link::default();
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
            if count != line {
                return Err(BadRecord::Behind { line });
            }
            if !footer.line(link.shown(true)).is_ok_and(|made| made == text) {
                return Err(BadRecord::Footer { line });
            }
            has_footer = false;
            link.follow(&text);
            chain.ends.head.clone_from(&link.digest);
            continue;
        }
        let record: OwnedLine = serde_json::from_slice(&text)
            .map_err(|error| BadRecord::Unreadable { line, reason: error.to_string() })?;
        if record.seq > line {
            return Err(BadRecord::Missing { line, found: record.seq });
        }
        if record.seq < line {
            return Err(BadRecord::Inserted { line, found: record.seq });
        }
        let schema = match &record.input {
            Input::Start(start) => start.schema.as_str(),
            _ => "",
        };
        let is_start = [SCHEMA, SCHEMA_SINGLE, SCHEMA_BARE].contains(&schema);
        if line == 0 {
            if !is_start {
                return Err(BadRecord::Schema);
            }
            link.is_single = schema != SCHEMA;
            has_footer = schema != SCHEMA_BARE;
        }
        if record.prev != link.shown(is_head(&record.input)) {
            return Err(BadRecord::Edited { line });
        }
        if line > 0 && is_start {
            return Err(BadRecord::Schema);
        }
        link.follow(&text);
        if let Input::Start(start) = &record.input {
            chain.key.clone_from(&start.key);
            chain.ends.genesis.clone_from(&link.digest);
        }
        if let (true, Some(key)) = (is_head(&record.input), &chain.key) {
            if !is_signed(&text, key) {
                return Err(BadRecord::Signature { line });
            }
            (chain.signed, chain.last_signed) = (chain.signed + 1, Some(line));
        }
        footer.count(&record.input);
        chain.has_end = matches!(&record.input, Input::End(_));
        is_over = has_footer && chain.has_end;
        each(record.seq, record.input);
        count += 1;
        chain.ends.head.clone_from(&link.digest);
    }
    chain.ends.records = count;
    match count {
        0 => Err(BadRecord::Empty),
        // A recorder that was killed wrote neither; one that wrote its end wrote the footer as well.
        _ if is_over && has_footer => Err(BadRecord::Footer { line: count }),
        _ => Ok(chain),
    }
}

/// What is signed where there is a key: it comes every few seconds, and at the end.
fn is_head(input: &Input) -> bool {
    matches!(input, Input::Heartbeat(_) | Input::End(_))
}

/// Whether a line begins with a signature by this key of its rest.
fn is_signed(line: &[u8], key: &str) -> bool {
    let Some(behind) = line.strip_prefix(SIGNED) else { return false };
    let Some(end) = behind.iter().position(|byte| *byte == b'"') else { return false };
    let (Ok(signature), Some(rest)) = (std::str::from_utf8(&behind[..end]), behind.get(end + 2..)) else {
        return false;
    };
    key::is_signed(key, &[HEAD, b"{", rest].concat(), signature)
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

/// SHA-256 of all that is left to read, in hex.
pub fn digest_of(mut content: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
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
        ] {
            let error = count(damaged.as_bytes()).expect_err(what);
            assert!(matches!(error, BadRecord::Footer { .. }), "{what}: {error}");
        }
        for (what, damaged) in [
            ("two footers", join(&[above, &[last, last]])),
            ("something after it", join(&[above, &[last, end]])),
        ] {
            let error = count(damaged.as_bytes()).expect_err(what);
            assert!(
                matches!(error, BadRecord::Behind { line } if line == lines.len() as u64),
                "{what}: {error}"
            );
        }
    }

    /// A signed recording of a start, beats and an end, and its lines.
    fn signed(key: Key) -> (Ends, Vec<String>) {
        let mut all = inputs();
        let end = all.pop().expect("an end");
        if let Some(Input::Start(start)) = all.first_mut() {
            start.key = Some(key.public());
        }
        let mut writer = Writer::signed(Vec::new(), key);
        for (number, input) in all.iter().enumerate() {
            writer.append(input).expect("written");
            if number % 10 == 1 {
                let time = Timestamp(number as u64);
                writer
                    .append(&Input::Heartbeat(crate::engine::Heartbeat { time, behind: 0 }))
                    .expect("written");
            }
        }
        writer.append(&end).expect("written");
        let text = String::from_utf8(writer.out.clone()).expect("text");
        (writer.ends(), text.lines().map(str::to_owned).collect())
    }

    fn first_event(lines: &[String]) -> usize {
        lines.iter().position(|line| line.contains("\"type\":\"event\"")).expect("an event")
    }

    /// The chain as somebody without the key would make it again.
    fn chained(lines: &[String]) -> String {
        let mut link = Link::default();
        let mut out = String::new();
        let mut footer = Footer::default();
        let mut seq = 0_u64;
        for line in lines {
            let Ok(record) = serde_json::from_str::<OwnedLine>(line) else { continue };
            let signature = line.strip_prefix("{\"signature\":\"").and_then(|rest| rest.split('"').next());
            let prev = link.shown(is_head(&record.input));
            let mut made = serde_json::to_string(&Line { seq, prev, input: &record.input }).expect("JSON");
            if let Some(signature) = signature {
                made = format!("{{\"signature\":\"{signature}\",{}", &made[1..]);
            }
            link.follow(made.as_bytes());
            out += &(made + "\n");
            footer.count(&record.input);
            seq += 1;
        }
        out + std::str::from_utf8(&footer.line(link.shown(true)).expect("JSON")).expect("text") + "\n"
    }

    #[test]
    fn heads_are_signed_and_nobody_else_can_make_the_chain_again() {
        let (ends, lines) = signed(Key::new().expect("a key"));
        let whole = lines.join("\n") + "\n";
        assert_eq!(chained(&lines), whole, "the test makes it as the writer does");
        let chain = walk(whole.as_bytes(), |_, _| ()).expect("whole");
        assert_eq!(chain.ends, ends);
        assert!(chain.signed > 2 && chain.has_end && chain.last_signed == Some(chain.ends.records - 1));
        // What is signed holds a whole digest, and so all above it.
        for line in &lines {
            let prev =
                line.split("\"prev\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a digest");
            let is_whole = line.starts_with("{\"signature\"") || line.contains("\"type\":\"footer\"");
            assert_eq!(prev.len(), if is_whole { 64 } else { SHORT }, "{line}");
        }
        // Whoever edits a record and mends the chain behind it can't sign the next head.
        let at = first_event(&lines);
        let mut edited = lines.clone();
        edited[at] = edited[at].replacen("\"pid\":", "\"pid\":1", 1);
        let mut removed = lines.clone();
        removed.remove(at);
        let mut bare = lines.clone();
        for line in &mut bare {
            if let Some(rest) = line.strip_prefix("{\"signature\":\"") {
                *line = format!("{{{}", rest.split_once("\",").expect("a signature").1);
            }
        }
        assert!(edited != lines && bare != lines);
        for (what, lines) in [("edited", edited), ("removed", removed), ("without signatures", bare)] {
            let error = count(chained(&lines).as_bytes()).expect_err(what);
            assert!(matches!(error, BadRecord::Signature { .. }), "{what}: {error}");
        }
    }

    #[test]
    fn the_bad_record_is_named() {
        let (_, lines) = signed(Key::new().expect("a key"));
        let at = first_event(&lines) + 4;
        let told = |change: &dyn Fn(&mut Vec<String>)| {
            let mut changed = lines.clone();
            change(&mut changed);
            count((changed.join("\n") + "\n").as_bytes()).expect_err("a bad record").to_string()
        };
        let edited = told(&|lines| lines[at] = lines[at].replacen("\"time\":1", "\"time\":2", 1));
        assert!(edited.ends_with(&format!("record {at} was edited")), "{edited}");
        let removed = told(&|lines| drop(lines.remove(at)));
        assert!(removed.starts_with(&format!("record {at} is missing")), "{removed}");
        let inserted = told(&|lines| lines.insert(at, lines[3].clone()));
        assert!(inserted.starts_with(&format!("record {at} is not the next: record 3 stands")), "{inserted}");
        let reordered = told(&|lines| lines.swap(at, at + 1));
        assert!(
            reordered.starts_with(&format!("record {at} is missing: record {} stands", at + 1)),
            "{reordered}"
        );
        let half = told(&|lines| {
            lines.truncate(at + 1);
            lines[at].truncate(40);
        });
        assert!(half.starts_with(&format!("record {at} is not one of ours")), "{half}");
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
