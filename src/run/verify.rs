//! `verify`: whether a report directory is what its recorder signed, and if not, from which record on.

use std::fmt::Write as _;
use std::path::Path;

use super::{Error, counted, load_policy, opened, print};
use crate::engine::{Input, LONGEST_SILENCE_NS};
use crate::event::Timestamp;
use crate::evidence::{self, Chain, Seal, parts};
use crate::policy::Policy;

/// Larger than any report of ours; what is more is not read.
const LARGEST: u64 = 256 << 20;

/// Checks everything, then says what is wrong, all of it. `key` and `genesis` are what was printed at the start.
pub(super) fn verify(directory: &Path, key: Option<&str>, genesis: Option<&str>) -> Result<u8, Error> {
    let mut check = Check { directory, problems: Vec::new(), said: String::new() };
    let chain = check.chain()?;
    let seal = check.seal(chain.as_ref());
    if let Some(seal) = &seal {
        check.policy(seal);
        check.statement(seal);
    }
    let keys = [
        chain.as_ref().and_then(|chain| chain.key.as_deref()),
        seal.as_ref().map(|it| it.public_key.as_str()),
    ];
    check.printed("key", "the public key", key, &keys);
    let firsts = [
        chain.as_ref().map(|chain| chain.ends.genesis.as_str()),
        seal.as_ref().map(|seal| seal.genesis.as_str()),
    ];
    check.printed("genesis", "the first record's digest", genesis, &firsts);
    if check.problems.is_empty() {
        print(&format!("{}verified\n", check.said));
        return Ok(0);
    }
    Err(Error::Untrusted { path: directory.to_owned(), problems: check.problems })
}

/// Whether a recording is signed, alone or by its report directory; an error if it should be and is not well.
/// One of before there were signatures has its chain alone, which whoever reads it checks.
pub(super) fn is_trusted(recording: &Path) -> Result<bool, Error> {
    let directory = recording.parent().unwrap_or(Path::new("."));
    let is_whole = recording.file_name().is_some_and(|name| name == parts::NAME);
    if is_whole && directory.join("evidence.sig").symlink_metadata().is_ok() {
        let mut check = Check { directory, problems: Vec::new(), said: String::new() };
        let chain = check.chain()?;
        if let Some(seal) = check.seal(chain.as_ref()) {
            check.policy(&seal);
        }
        if check.problems.is_empty() {
            return Ok(true);
        }
        return Err(Error::Untrusted { path: directory.to_owned(), problems: check.problems });
    }
    let chain = evidence::walk(opened(recording)?, |_, _| ())
        .map_err(|source| Error::Evidence { path: recording.to_owned(), source })?;
    let Some(_) = chain.key else { return Ok(false) };
    if chain.has_end && !is_whole {
        return Ok(true);
    }
    let problem = if chain.has_end { "there is no evidence.sig beside it" } else { "it has no end" };
    Err(Error::Untrusted { path: recording.to_owned(), problems: vec![problem.to_owned()] })
}

struct Check<'a> {
    directory: &'a Path,
    problems: Vec<String>,
    /// What is told where nothing is wrong.
    said: String,
}

impl Check<'_> {
    fn wrong(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        parts::open_file(&self.directory.join(name))
            .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
            .map_err(|error| format!("{name} can't be read: {error}"))?;
        Ok(bytes)
    }

    /// The recording: its chain, its signed heads, its moments.
    fn chain(&mut self) -> Result<Option<Chain>, Error> {
        let mut moments = Moments::default();
        let walked = evidence::walk(opened(&self.directory.join(parts::NAME))?, |line, input| {
            moments.take(line, &input);
        });
        self.problems.append(&mut moments.problems);
        let chain = match walked {
            Ok(chain) => chain,
            Err(error) => {
                self.wrong(error.to_string());
                return Ok(None);
            }
        };
        let records = chain.ends.records;
        if !chain.has_end {
            self.wrong(format!(
                "record {records} is missing: the recording has no end, so it was cut after record {}, or its recorder was killed",
                records.saturating_sub(1)
            ));
        }
        let _ = writeln!(
            self.said,
            "chain      {}, first {}, last line {}",
            counted(usize::try_from(records).unwrap_or(usize::MAX), "record"),
            chain.ends.genesis,
            chain.ends.head
        );
        match (&chain.key, chain.last_signed) {
            (None, _) => self.wrong("the recording names no key: nothing in it is signed"),
            (Some(_), None) => self.wrong("no record is signed"),
            (Some(key), Some(_)) => {
                let _ = writeln!(
                    self.said,
                    "heads      {} signed, longest silence {:.1} s, key {key}",
                    chain.signed,
                    seconds(moments.longest)
                );
            }
        }
        Ok(Some(chain))
    }

    /// `evidence.sig`: that its key is the recording's, and what it signs is what lies there.
    fn seal(&mut self, chain: Option<&Chain>) -> Option<Seal> {
        let seal = match self.read("evidence.sig").and_then(|text| {
            Seal::parse(&text).map_err(|error| format!("evidence.sig is not one of ours: {error}"))
        }) {
            Ok(seal) => seal,
            Err(problem) => {
                self.wrong(problem);
                return None;
            }
        };
        if let Some(key) = chain.and_then(|chain| chain.key.as_ref())
            && *key != seal.public_key
        {
            self.wrong(format!(
                "evidence.sig is by another key than the one that record 0 names: {}, not {key}",
                seal.public_key
            ));
        }
        if !seal.is_signed() {
            self.wrong("the signature in evidence.sig is not of what it says");
        } else if let Some(chain) = chain
            && (&seal.genesis, &seal.head, seal.records)
                != (&chain.ends.genesis, &chain.ends.head, chain.ends.records)
        {
            let place = if seal.genesis == chain.ends.genesis {
                format!("it has {} records and another end, signed were {}", chain.ends.records, seal.records)
            } else {
                "record 0 is another".to_owned()
            };
            self.wrong(format!("evidence.sig signs another recording than this one: {place}"));
        } else {
            self.said += "signature  of the whole recording\n";
        }
        Some(seal)
    }

    fn policy(&mut self, seal: &Seal) {
        match self.read("policy.lock.yml") {
            Err(problem) => self.wrong(problem),
            Ok(text) if evidence::digest(&text) != seal.policy => {
                self.wrong("policy.lock.yml is not the policy that was signed: it was swapped or edited");
            }
            Ok(_) => {
                let origin = load_policy(&self.directory.join("policy.lock.yml"))
                    .ok()
                    .and_then(|policy: Policy| policy.origin().map(str::to_owned));
                let _ = writeln!(self.said, "policy     {}", origin.as_deref().unwrap_or("none was applied"));
            }
        }
    }

    /// `statement.json`: that it is the signed one, and that each file it names is as it says.
    fn statement(&mut self, seal: &Seal) {
        let Some(signed) = seal.statement() else {
            return self.wrong("the statement's envelope in evidence.sig is not signed by its key");
        };
        match self.read("statement.json") {
            Err(problem) => self.wrong(problem),
            Ok(text) if text != signed => self.wrong("statement.json is not the statement that was signed"),
            Ok(_) => {}
        }
        let statement: serde_json::Value = serde_json::from_slice(&signed).unwrap_or_default();
        let subjects = statement["subject"].as_array().cloned().unwrap_or_default();
        let mut counts = (0, 0);
        for subject in &subjects {
            let name = subject["name"].as_str().unwrap_or_default();
            if subject["annotations"]["kind"] != "report" {
                counts.1 += 1;
                continue;
            }
            counts.0 += 1;
            let digest = parts::open_file(&self.directory.join(name)).and_then(evidence::digest_of);
            match digest {
                Err(error) => self.wrong(format!("{name} can't be read: {error}")),
                Ok(digest) if subject["digest"]["sha256"] == digest => {}
                Ok(_) if !parts::is_part(name) => {
                    self.wrong(format!("{name} is not the file that was signed: it was edited or replaced"));
                }
                // What is wrong with the records themselves was said above.
                Ok(_) if self.problems.is_empty() => self.wrong(format!(
                    "{name} holds the records that were signed and is not the file that was: packed anew, or changed in bytes of no record"
                )),
                Ok(_) => {}
            }
        }
        let signed_names: Vec<&str> =
            subjects.iter().filter_map(|subject| subject["name"].as_str()).collect();
        if signed_names.iter().any(|name| parts::is_part(name)) {
            let entries = std::fs::read_dir(self.directory).into_iter().flatten().flatten();
            let mut others: Vec<String> = entries
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| parts::is_part(name) && !signed_names.contains(&name.as_str()))
                .collect();
            others.sort();
            for name in others {
                self.wrong(format!("{name} is no part of the recording that was signed"));
            }
        }
        if counts.0 == 0 {
            self.wrong("the statement names no report");
        }
        let _ = writeln!(
            self.said,
            "statement  {} as signed, {} named",
            counted(counts.0, "file"),
            counted(counts.1, "artifact")
        );
    }

    /// Compares with what was printed at the start.
    fn printed(&mut self, name: &str, what: &str, wanted: Option<&str>, seen: &[Option<&str>]) {
        let Some(wanted) = wanted else { return };
        let wanted = wanted.to_ascii_lowercase();
        let mut seen = seen.iter().flatten().peekable();
        if seen.peek().is_none() || seen.any(|seen| *seen != wanted) {
            self.wrong(format!("{what} is not the one of `--{name}`: these are records of another run"));
        } else {
            let _ = writeln!(self.said, "{name:<10} as printed at the start");
        }
    }
}

/// The moments of a recording, which only go on, with no longer silence than its beats allow.
#[derive(Default)]
struct Moments {
    last: Option<Timestamp>,
    /// How far the recorder said that it was behind at most, nanoseconds.
    behind: u64,
    /// Since when nobody said that the recorder is alive; only where beats are to be expected.
    beat: Option<Timestamp>,
    longest: u64,
    problems: Vec<String>,
}

impl Moments {
    fn take(&mut self, line: u64, input: &Input) {
        if let Input::Heartbeat(beat) = input {
            self.behind = self.behind.max(beat.behind);
        }
        let (time, is_own) = match input {
            Input::Start(start) => (start.time, true),
            Input::Heartbeat(beat) => (beat.time, true),
            Input::End(end) => (end.time, true),
            Input::Event(event) => (event.time, false),
            Input::Declaration(_) | Input::Fact(_) => return,
        };
        let last = self.last.unwrap_or(time);
        // The kernel's events are handed over a little later than they happened, and a recorder that was held up
        // has older ones.
        let slack = if is_own { 0 } else { LONGEST_SILENCE_NS + self.behind };
        if time.0.saturating_add(slack) < last.0 {
            self.wrong(format!(
                "record {line}: the clock goes back by {:.3} s, from {} to {}",
                seconds(last.0 - time.0),
                last.rfc3339(),
                time.rfc3339()
            ));
        }
        if !is_own {
            return;
        }
        self.last = Some(last.max(time));
        if let Some(beat) = self.beat {
            let silence = time.0.saturating_sub(beat.0);
            self.longest = self.longest.max(silence);
            if silence > LONGEST_SILENCE_NS {
                self.wrong(format!(
                    "record {line}: no heartbeat for {:.1} s before it, since {}",
                    seconds(silence),
                    beat.rfc3339()
                ));
            }
        }
        self.beat = Some(time);
    }

    fn wrong(&mut self, text: String) {
        const MOST: usize = 20;
        if self.problems.len() < MOST {
            self.problems.push(text);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Heartbeat;
    use crate::event::{Activity, Event, ExitStatus, ProcessKey};

    #[test]
    fn older_events_are_no_clock_that_goes_back_where_the_recorder_said_that_it_is_behind() {
        const SECOND: u64 = 1_000_000_000;
        let problems = |behind: u64| {
            let mut moments = Moments::default();
            moments.take(1, &Input::Heartbeat(Heartbeat { time: Timestamp(100 * SECOND), behind }));
            let activity = Activity::Exit { status: ExitStatus::Code(0) };
            let time = Timestamp(60 * SECOND);
            moments.take(2, &Input::Event(Event { time, actor: ProcessKey::HOST, activity }));
            moments.problems.len()
        };
        assert_eq!(problems(40 * SECOND), 0);
        assert_eq!(problems(0), 1);
        assert_eq!(problems(10 * SECOND), 1);
    }
}
