//! What `verify` says of a report directory that was left alone, and of each way to tamper with one.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edamame_guard::engine::{Heartbeat, Input};
use edamame_guard::event::Timestamp;
use edamame_guard::evidence::{self, Key, Seal, Writer, parts};
use edamame_guard::policy::Policy;
use serde_json::json;
use tempfile::TempDir;

use common::{GUARD, Place, text};

fn verify(folder: &Path, options: &[&str]) -> Output {
    Command::new(GUARD).arg("verify").arg(folder).args(options).output().expect("the guard starts")
}

#[track_caller]
fn verified(folder: &Path, options: &[&str]) -> String {
    let output = verify(folder, options);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(folder: &Path, options: &[&str], words: &str) {
    let output = verify(folder, options);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{words}: {}{said}", text(&output.stdout));
    assert!(said.contains(words), "should say `{words}`:\n{said}");
}

/// The inputs of a recorded job, with beats between.
fn inputs(beats: &[u64]) -> Vec<Input> {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/make-honest/evidence.jsonl");
    let recording = fs::read(recording).expect("a recording");
    let mut inputs = Vec::new();
    evidence::read(recording.as_slice(), |_, input| inputs.push(input)).expect("whole");
    let Some(Input::Start(start)) = inputs.first_mut() else { panic!("no start") };
    evidence::SCHEMA.clone_into(&mut start.schema);
    let began = start.time.0;
    let Some(Input::End(mut end)) = inputs.pop() else { panic!("no end") };
    for second in beats {
        let time = Timestamp(began + second * 1_000_000_000);
        inputs.push(Input::Heartbeat(Heartbeat { time, behind: 0 }));
        end.time = Timestamp(end.time.0.max(time.0 + 1));
    }
    inputs.push(Input::End(end));
    inputs
}

/// A report directory as a recorder with this key would sign it.
fn signed(inputs: &[Input], key: Key) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::signed(Vec::new(), key);
    for input in inputs {
        let mut input = input.clone();
        if let Input::Start(start) = &mut input {
            start.key = writer.key().map(Key::public);
        }
        writer.append(&input).expect("written");
    }
    let ends = writer.ends();
    let (recording, key) = writer.part().expect("written");
    let lock = Policy::absent().lock();
    let subject = |name: &str, bytes: &[u8]| json!({"name": name, "digest": {"sha256": evidence::digest(bytes)}, "annotations": {"kind": "report"}});
    let statement =
        json!({"subject": [subject("findings.json", b"{}"), subject(parts::NAME, &recording)]}).to_string();
    let seal =
        Seal::new(&key.expect("a key"), &ends, &evidence::digest(lock.as_bytes()), statement.as_bytes());
    for (name, bytes) in [
        (parts::NAME, recording.as_slice()),
        ("policy.lock.yml", lock.as_bytes()),
        ("findings.json", b"{}"),
        ("statement.json", statement.as_bytes()),
        ("evidence.sig", &serde_json::to_vec(&seal).expect("JSON")),
    ] {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    folder
}

/// A record in the middle that tells an event.
fn middle(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join(parts::NAME)).expect("text");
    text.lines().position(|line| line.contains("\"type\":\"event\"")).expect("an event") + 3
}

fn key() -> Key {
    Key::new().expect("a key")
}

/// A signed directory with beats every five seconds.
fn whole() -> TempDir {
    signed(&inputs(&[5, 10, 15]), key())
}

fn change(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<String>)) {
    let path = folder.join(name);
    let mut lines: Vec<String> =
        fs::read_to_string(&path).expect("text").lines().map(str::to_owned).collect();
    let before = lines.clone();
    change(&mut lines);
    assert_ne!(lines, before, "nothing was changed");
    fs::write(path, lines.join("\n") + "\n").expect("written");
}

#[test]
fn what_was_left_alone_is_verified() {
    let folder = whole();
    let said = verified(folder.path(), &[]);
    assert!(
        said.ends_with("verified\n") && said.contains("heads      4 signed, longest silence 5.0 s"),
        "{said}"
    );
}

#[test]
fn each_way_to_tamper_with_a_record_is_named_with_the_record() {
    let edited = whole();
    let at = middle(edited.path());
    let next = at + 1;
    change(edited.path(), parts::NAME, |lines| lines[at] = lines[at].replacen("\"time\":1", "\"time\":2", 1));
    refused(edited.path(), &[], &format!("record {at} was edited"));
    let removed = whole();
    change(removed.path(), parts::NAME, |lines| drop(lines.remove(at)));
    refused(removed.path(), &[], &format!("record {at} is missing: record {next} stands in its place"));
    let inserted = whole();
    change(inserted.path(), parts::NAME, |lines| lines.insert(at, lines[10].clone()));
    refused(inserted.path(), &[], &format!("record {at} is not the next: record 10 stands in its place"));
    let reordered = whole();
    change(reordered.path(), parts::NAME, |lines| lines.swap(at, next));
    refused(reordered.path(), &[], &format!("record {at} is missing: record {next} stands in its place"));
    // From here on to the end, or in the middle of a line.
    let cut = whole();
    change(cut.path(), parts::NAME, |lines| lines.truncate(at));
    refused(cut.path(), &[], &format!("it was cut after record {}", at - 1));
    let half = whole();
    change(half.path(), parts::NAME, |lines| {
        lines.truncate(next);
        lines[at].truncate(30);
    });
    refused(half.path(), &[], &format!("record {at} is not one of ours"));
    let tail = whole();
    change(tail.path(), parts::NAME, |lines| drop(lines.pop()));
    refused(tail.path(), &[], "is not the footer");
}

type Edit = &'static dyn Fn(&str) -> String;

#[test]
fn what_is_put_to_a_record_is_named_too() {
    let put = |bytes: &[u8]| {
        let folder = whole();
        let path = folder.path().join(parts::NAME);
        let text = [fs::read(&path).expect("a record"), bytes.to_vec()].concat();
        let behind = text.split(|byte| *byte == b'\n').count() - 1;
        fs::write(path, &text).expect("written");
        (folder, behind)
    };
    let lines = put(b"").1;
    let other = fs::read(whole().path().join(parts::NAME)).expect("a record");
    for more in [b"garbage\n".as_slice(), b"\n", b"\0", b"{}", &other] {
        let (folder, _) = put(more);
        refused(folder.path(), &[], &format!("record {lines} stands behind the end of the recording"));
    }
    // The same to a reader of JSON, and not what was written.
    let at = middle(whole().path());
    let each: [(Edit, String); 6] = [
        (
            &|line| line.replacen("{\"seq\":", "{\"seq\":1,\"seq\":", 1),
            format!("record {at} is not one of ours: duplicate field"),
        ),
        (&|line| line.replacen("\"type\"", "\"\\u0074ype\"", 1), format!("record {at} was edited")),
        (&|line| line.replacen(',', ", ", 1), format!("record {at} was edited")),
        (&|line| format!("{line}\r"), format!("record {at} was edited")),
        (&|line| format!("\u{feff}{line}"), format!("record {at} is not one of ours")),
        (&|line| format!("\n{line}"), format!("record {at} is not one of ours")),
    ];
    for (edit, words) in each {
        let folder = whole();
        change(folder.path(), parts::NAME, |lines| lines[at] = edit(&lines[at]));
        refused(folder.path(), &[], &words);
    }
    let other = (whole(), whole());
    fs::copy(other.0.path().join("statement.json"), other.1.path().join("statement.json")).expect("copied");
    refused(other.1.path(), &[], "statement.json is not the statement that was signed");
}

#[test]
fn another_policy_another_key_and_another_report_are_named() {
    let policy = whole();
    fs::write(policy.path().join("policy.lock.yml"), "version: 1\n").expect("written");
    refused(policy.path(), &[], "policy.lock.yml is not the policy that was signed");
    fs::remove_file(policy.path().join("policy.lock.yml")).expect("removed");
    refused(policy.path(), &[], "policy.lock.yml can't be read");

    // The same records, signed by somebody else.
    let (mine, theirs) = (whole(), whole());
    fs::copy(theirs.path().join("evidence.sig"), mine.path().join("evidence.sig")).expect("copied");
    refused(mine.path(), &[], "evidence.sig is by another key than the one that record 0 names");
    let named = whole();
    change(named.path(), "evidence.sig", |lines| {
        let seal: Seal = serde_json::from_str(&lines[0]).expect("JSON");
        lines[0] = lines[0].replace(
            &format!("\"public_key\":\"{}\"", seal.public_key),
            &format!("\"public_key\":\"{}\"", key().public()),
        );
    });
    refused(named.path(), &[], "the signature in evidence.sig is not of what it says");
    // Whoever signs all of it anew is found out by what was printed at the start.
    let key = key();
    let public = key.public();
    let ours = signed(&inputs(&[5]), key);
    let said = verified(ours.path(), &["--key", &public]);
    let genesis = said.split("first ").nth(1).and_then(|rest| rest.split(',').next()).expect("a digest");
    verified(ours.path(), &["--key", &public.to_uppercase(), "--genesis", genesis]);
    refused(theirs.path(), &["--key", &public], "the public key is not the one of `--key`");
    refused(
        theirs.path(),
        &["--genesis", genesis],
        "the first record's digest is not the one of `--genesis`",
    );

    let report = whole();
    fs::write(report.path().join("findings.json"), "{ }").expect("written");
    refused(report.path(), &[], "findings.json is not the file that was signed");
    let statement = whole();
    change(statement.path(), "statement.json", |lines| lines[0].push(' '));
    refused(statement.path(), &[], "statement.json is not the statement that was signed");
    let unsigned = whole();
    fs::remove_file(unsigned.path().join("evidence.sig")).expect("removed");
    refused(unsigned.path(), &[], "evidence.sig can't be read");
    let nothing = tempfile::tempdir().expect("a folder");
    assert_eq!(verify(nothing.path(), &[]).status.code(), Some(125));
    assert_eq!(Command::new(GUARD).arg("verify").output().expect("it starts").status.code(), Some(2));
}

#[test]
fn a_clock_that_goes_back_and_a_silence_are_named_with_the_record() {
    let all = inputs(&[5, 10, 4, 15]);
    let record = all.len() - 3;
    let back = signed(&all, key());
    refused(back.path(), &[], &format!("record {record}: the clock goes back by 6.000 s"));
    let all = inputs(&[5, 10, 40, 45]);
    let record = all.len() - 3;
    let gap = signed(&all, key());
    refused(gap.path(), &[], &format!("record {record}: no heartbeat for 30.0 s before it"));
    // Its quiet twin: three beats may be late, and a kernel's event may come behind a beat.
    let mut all = inputs(&[5, 15, 30]);
    let event = all.iter().find(|input| matches!(input, Input::Event(_))).cloned().expect("an event");
    all.insert(all.len() - 3, event);
    verified(signed(&all, key()).path(), &[]);
}

/// A real run by polling, which needs no rights.
fn run(options: &[&str], job: &[&str]) -> (Place, PathBuf, Output) {
    let place = Place::new("");
    place.write("work/out.txt", "made\n");
    let output = place.run(&[&["--sensor", "procfs"], options].concat(), job);
    let report = place.root.path().join("report");
    (place, report, output)
}

#[test]
fn a_run_prints_its_key_and_leaves_a_directory_that_verifies() {
    let (place, report, output) =
        run(&["--artifact", "out.txt", "--artifact", "no.txt"], &["/bin/sleep", "0.1"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let line = said.lines().find(|line| line.starts_with("evidence: signed by ed25519 key ")).expect("a key");
    let words: Vec<&str> = line.split([' ', ',']).collect();
    verified(&report, &["--key", words[5], "--genesis", words[9]]);
    assert!(said.contains("the artifact `no.txt` is not in the statement"), "{said}");
    let statement: serde_json::Value =
        serde_json::from_slice(&fs::read(report.join("statement.json")).expect("a statement")).expect("JSON");
    assert_eq!(statement["subject"][0]["name"], "out.txt");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], evidence::digest(b"made\n"));
    place.replay_is_the_same(&output);
    // Another tool reads key and signature alike.
    let seal = Seal::parse(&fs::read(report.join("evidence.sig")).expect("a signature")).expect("JSON");
    let [pem, message, signature] = ["key.pem", "message", "signature"].map(|name| report.join(name));
    let [signed, sig] = [
        format!(
            "edamame-guard/signature/v1\n{}\n{}\n{}\n{}\n",
            seal.genesis, seal.head, seal.records, seal.policy
        )
        .into_bytes(),
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &seal.signature).expect("base64"),
    ];
    for (path, bytes) in [(&pem, seal.public_key_pem.as_bytes()), (&message, &signed), (&signature, &sig)] {
        fs::write(path, bytes).expect("written");
    }
    let openssl = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"])
        .args([&pem, Path::new("-in"), &message, Path::new("-sigfile"), &signature].map(Path::as_os_str))
        .output();
    match openssl {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => println!("skipped: there is no openssl"),
    }
}

#[test]
fn a_long_recording_has_compressed_parts_and_one_chain() {
    let (place, report, output) = run(&["--part-size", "16k"], &["/bin/sleep", "0.1"]);
    let said = verified(&report, &[]);
    let first = report.join("evidence.0001.jsonl.zst");
    assert!(first.is_file(), "{said}");
    assert!(fs::metadata(report.join(parts::NAME)).expect("the last part").len() < 16 << 10);
    place.replay_is_the_same(&output);
    // All of it in one compressed file, and through a pipe, is the same recording.
    let whole = place.root.path().join("whole.jsonl.zst");
    let packed =
        zstd::stream::encode_all(evidence::Recording::open(&report.join(parts::NAME)).expect("opens"), 1);
    fs::write(&whole, packed.expect("packed")).expect("written");
    let told = |command: &mut Command| {
        let output = command.output().expect("the guard starts");
        (output.status.code(), text(&output.stderr))
    };
    let direct = told(&mut place.command(&["replay", "../report"]));
    assert_eq!(told(&mut place.command(&["replay", "../whole.jsonl.zst"])), direct);
    let mut cat = Command::new("cat").arg(&whole).stdout(std::process::Stdio::piped()).spawn().expect("cat");
    let piped = told(place.command(&["replay", "/dev/stdin"]).stdin(cat.stdout.take().expect("a pipe")));
    assert!(cat.wait().expect("it ends").success());
    assert_eq!(piped, direct);
    // Bytes that no reader shows, a part packed anew, and one put beside the others.
    let second = report.join("evidence.0002.jsonl.zst");
    let as_it_was = fs::read(&second).expect("a part");
    let hidden = [as_it_was.as_slice(), b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"].concat();
    let plain = zstd::stream::decode_all(as_it_was.as_slice()).expect("unpacked");
    let anew = zstd::stream::encode_all(plain.as_slice(), 19).expect("packed");
    for content in [hidden, anew] {
        fs::write(&second, content).expect("written");
        refused(
            &report,
            &[],
            "evidence.0002.jsonl.zst holds the records that were signed and is not the file",
        );
    }
    fs::write(&second, &as_it_was).expect("written");
    let beside = report.join("evidence.0002.jsonl");
    fs::write(&beside, plain).expect("written");
    refused(&report, &[], "evidence.0002.jsonl is no part of the recording that was signed");
    fs::remove_file(&beside).expect("removed");
    let third = report.join("evidence.0003.jsonl.zst");
    let (one, two) = (fs::read(&second).expect("a part"), fs::read(&third).expect("a part"));
    fs::write(&second, &two).expect("written");
    fs::write(&third, &one).expect("written");
    refused(&report, &[], "is missing: record ");
    fs::write(&second, &one).expect("written");
    fs::write(&third, &two).expect("written");
    verified(&report, &[]);
    // A part is part of the chain.
    fs::remove_file(&first).expect("removed");
    refused(&report, &[], "record 0 is missing: record ");
    assert_eq!(place.command(&["replay", "../report"]).output().expect("it starts").status.code(), Some(125));
}

/// The events of recorded jobs, in a row.
fn recorded_events() -> Vec<edamame_guard::event::Event> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus/recordings");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).expect("recordings").flatten().map(|it| it.path()).collect();
    folders.sort();
    let mut events = Vec::new();
    for folder in folders {
        let recording = fs::read(folder.join(parts::NAME)).expect("a recording");
        let _ = evidence::read(recording.as_slice(), |_, input| {
            if let Input::Event(event) = input {
                events.push(event);
            }
        });
    }
    events
}

#[test]
#[ignore = "takes minutes: one million events"]
fn a_million_events_take_less_than_sixty_megabytes() {
    const EVENTS: u64 = 1_000_000;
    let events = recorded_events();
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let public = key.public();
    let store = evidence::Store::in_folder(folder.path(), parts::PART_BYTES).expect("a store");
    let mut writer = Writer::signed(store, key);
    let mut all = inputs(&[]).into_iter();
    let Some(Input::Start(mut start)) = all.next() else { panic!("no start") };
    let Some(Input::End(mut end)) = all.next_back() else { panic!("no end") };
    start.key = Some(public);
    let mut time = start.time.0;
    let mut beat = time;
    writer.append(&Input::Start(start)).expect("written");
    let mut random = fastrand::Rng::with_seed(7);
    let mut plain = 0;
    for number in 0..EVENTS {
        // Each process, moment and inode is another one, as in a real job.
        let mut event = events[usize::try_from(number).expect("small") % events.len()].clone();
        time += random.u64(1_000..200_000);
        event.time = Timestamp(time);
        event.actor.pid = 1_000 + u32::try_from(number / 40).expect("small");
        // A process keeps its start.
        event.actor.start = 5_000_000_000 + u64::from(event.actor.pid) * 7_919_317;
        if let edamame_guard::event::Activity::Open { file, .. } = &mut event.activity {
            file.inode = random.u64(1..50_000_000);
        }
        if time - beat > 5_000_000_000 {
            beat = time;
            writer
                .append(&Input::Heartbeat(Heartbeat { time: Timestamp(time), behind: 0 }))
                .expect("written");
        }
        plain += serde_json::to_vec(&event).expect("JSON").len() + 110;
        writer.append(&Input::Event(event)).expect("written");
    }
    writer.out().close().expect("closed");
    end.time = Timestamp(time);
    writer.append(&Input::End(end)).expect("written");
    drop(writer.part().expect("written"));
    let files = parts::of(&folder.path().join(parts::NAME));
    let size: u64 = files.iter().map(|file| fs::metadata(file).expect("a part").len()).sum();
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).expect("a line");
    println!("{} parts, {size} bytes of about {plain}, {memory}", files.len());
    assert!(size < 60_000_000, "{size} bytes");
    let chain = evidence::walk(
        evidence::Recording::open(&folder.path().join(parts::NAME)).expect("opens"),
        |_, _| (),
    );
    assert!(chain.expect("whole").ends.records > EVENTS);
}
