//! Odd words, policies and recordings, full disks and missing rights: the guard says what is wrong, and never passes a
//! job it could not judge. Without the rights, a test that needs them says so and passes.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use edamame_guard::engine::Input;
use edamame_guard::evidence::{self, Writer};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use common::{GUARD, Place, ends_within, live, text};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn ten_thousand_arguments_and_bytes_that_are_no_text_are_recorded() {
    live("ten_thousand_arguments_and_bytes_that_are_no_text_are_recorded", |_| {
        let place = Place::new("");
        let mut command = place.command(&["run", "--report-dir", "../report", "--", "/bin/sh", "-c"]);
        command.arg("echo \"$#\"; : > \"$1\"").arg("sh").arg(OsStr::from_bytes(b"odd\xff name"));
        command.args((1..10_000).map(|number| number.to_string()));
        let output = command.output().expect("the guard starts");
        assert_eq!(
            (output.status.code(), text(&output.stdout).trim()),
            (Some(0), "10000"),
            "{}",
            text(&output.stderr)
        );
        assert!(place.root.path().join("work").join(OsStr::from_bytes(b"odd\xff name")).exists());
        let record = fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("text");
        assert!(record.contains(r"work/odd\\xff name"), "the path is told with its bytes");
        assert!(record.contains("\"9999\""), "the last argument is told");
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_report_directory_that_is_full_or_read_only_fails_the_job() {
    live("a_report_directory_that_is_full_or_read_only_fails_the_job", |_| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private");
        let place = Place::new("");
        let report = place.root.path().join("report");
        fs::create_dir(&report).expect("a folder");
        mount(Some("small"), &report, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).expect("mounted");
        fs::write(report.join("filler"), vec![0_u8; (1 << 20) - 8192]).expect("almost full");
        let output = place.run(&[], &["sh", "-c", "exit 3"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &report, None::<&str>, flags, None::<&str>).expect("read-only");
        let output = place.run(&[], &["touch", "ran"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
    });
}

/// Cleaning up is no crime; who puts something else in the place of the reports is told, and destroys nothing.
#[test]
fn a_report_directory_that_the_job_removes_is_made_again() {
    live("a_report_directory_that_the_job_removes_is_made_again", |_| {
        let place = Place::new("");
        let report = place.root.path().join("report");
        let output = place.run(&[], &["rm", "-rf", report.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(report.join("report.html").is_file() && report.join("evidence.jsonl").is_file());
        let precious = place.root.path().join("precious");
        fs::write(&precious, "mine").expect("written");
        let script = r#"rm -rf "$1" && mkdir "$1" && for file in evidence.jsonl findings.json; do ln -s "$2" "$1/$file"; done"#;
        let words =
            ["sh", "-c", script, "sh", report.to_str().expect("text"), precious.to_str().expect("text")];
        let output = place.run(&[], &words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("something else was put in the place of"), "{said}");
        assert_eq!(fs::read_to_string(&precious).expect("read"), "mine");
        let beside = fs::read_dir(place.root.path()).expect("a folder").flatten().map(|entry| entry.path());
        let kept: Vec<PathBuf> =
            beside.filter(|path| path.join("report.html").is_file() && *path != report).collect();
        assert_eq!(kept.len(), 1, "{said}");
        assert!(fs::read_to_string(kept[0].join("evidence.jsonl")).expect("read").contains("precious"));
    });
}

#[test]
fn without_rights_nothing_is_started_and_the_reason_is_said() {
    live("without_rights_nothing_is_started_and_the_reason_is_said", |_| {
        let place = Place::new("");
        fs::set_permissions(place.root.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
        let guard = place.root.path().join("guard");
        fs::copy(GUARD, &guard).expect("a copy that everybody can run");
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
            .arg(&guard)
            .args(["run", "--sensor", "ebpf", "--report-dir"])
            .arg(place.root.path().join("report"))
            .args(["--", "touch"])
            .arg(place.root.path().join("ran"))
            .current_dir(place.root.path())
            .output()
            .expect("setpriv");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.starts_with("error: ") && said.contains("root"), "{said}");
        assert!(!place.root.path().join("ran").exists());
    });
}

#[test]
fn a_machine_without_types_or_cgroups_is_told_before_anything_starts() {
    for hidden in ["/sys/kernel/btf", "/sys/fs/cgroup"] {
        live("a_machine_without_types_or_cgroups_is_told_before_anything_starts", |_| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
            // Wherever the unified hierarchy is, not only where it usually is.
            let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
            let unified = mounts
                .lines()
                .filter(|line| line.contains(" cgroup2 "))
                .filter_map(|line| line.split(' ').nth(1));
            let places: Vec<&str> = if hidden.contains("cgroup") { unified.collect() } else { vec![hidden] };
            for place in &places {
                nix::mount::umount2(*place, nix::mount::MntFlags::MNT_DETACH).ok();
                mount(Some("nothing"), *place, Some("tmpfs"), MsFlags::empty(), None::<&str>).ok();
            }
            let place = Place::new("");
            let output = place.run(&["--sensor", "ebpf"], &["touch", "ran"]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{hidden} {places:?}: {said}");
            let word = if hidden.contains("cgroup") { "cgroup" } else { "BTF" };
            assert!(said.starts_with("error: ") && said.contains(word), "{said}");
            assert!(!place.root.path().join("work/ran").exists());
        });
    }
}

/// One message, one status, nothing started and nothing that looks like a judged run.
#[track_caller]
fn refuses(what: &str, place: &Place, output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{what}: {said}");
    assert!(said.starts_with("error: "), "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{what}: {words:?} in {said}");
    assert!(said.len() < 8_000, "{what}: {} bytes", said.len());
    assert!(!place.root.path().join("work/ran").exists(), "{what}");
    assert!(!place.root.path().join("report/findings.json").exists(), "{what}");
}

#[test]
fn a_huge_or_hostile_policy_starts_nothing() {
    let rules = "version: 1\ndefaults:\n  network:\n    allow:\n";
    let lines = |bytes: usize| "      - a.example:443\n".repeat(bytes / 22);
    let lock = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policy-violations/policy.lock.yml"),
    )
    .expect("a lock");
    let anchors = (0..40).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        format!("{text}a{}: &a{} [*a{n}, *a{n}, *a{n}, *a{n}]\n", n + 1, n + 1)
    });
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("2 MiB of rules", (rules.to_owned() + &lines(2 << 20)).into(), &["the limit is"]),
        // Cut at any length it would be a policy.
        (
            "2 MiB of comment",
            (rules.to_owned() + &lines(100) + &"# x\n".repeat(1 << 19)).into(),
            &["the limit is"],
        ),
        ("5 MiB", vec![b'#'; 5 << 20], &["more than"]),
        ("a lock of 5 MiB", (lock + &"# x\n".repeat(5 << 18)).into(), &["more than"]),
        ("lists in lists", "[".repeat(200_000).into(), &[".yml:1:"]),
        ("maps in maps", "{a: ".repeat(60_000).into(), &[".yml:1:"]),
        ("indents", (0..600).map(|n| " ".repeat(n) + "a:\n").collect::<String>().into(), &[".yml:"]),
        ("aliases of aliases", anchors.into(), &[".yml:"]),
        (
            "a program",
            fs::read(GUARD).map(|bytes| bytes[..100_000].to_vec()).expect("it is there"),
            &["UTF-8"],
        ),
        ("noughts", vec![0; 4096], &[".yml:1:"]),
        ("escapes", "version: 1\n\u{1b}[2J\u{9b}31m\u{202e}: x\n".into(), &[".yml:"]),
        ("nothing", Vec::new(), &["the policy is empty"]),
    ];
    for (what, policy, words) in cases {
        let place = Place::new("");
        let path = place.root.path().join("guard.yml");
        fs::write(&path, policy).expect("written");
        let run = ["run", "--policy", "../guard.yml", "--report-dir", "../report", "--", "touch", "ran"];
        for call in [&run[..], &["policy", "check", "../guard.yml"]] {
            let output = ends_within(SOON, &mut place.command(call));
            refuses(what, &place, &output, words);
            let said = text(&output.stderr);
            assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\0']), "{what}: {said:?}");
        }
    }
}

#[test]
fn a_policy_that_is_no_file_starts_nothing() {
    type Put = fn(&Path);
    let put: &[(&str, Put, &str)] = &[
        ("a folder", |path| fs::create_dir(path).expect("made"), "not a regular file"),
        (
            "a pipe",
            |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made"),
            "not a regular file",
        ),
        ("a device", |path| symlink("/dev/zero", path).expect("made"), "not a regular file"),
        ("a link to nowhere", |path| symlink("nowhere", path).expect("made"), "No such file"),
        ("a link to itself", |path| symlink("guard.yml", path).expect("made"), "symbolic links"),
    ];
    for (what, put, word) in put {
        let place = Place::new("");
        fs::create_dir(place.root.path().join("work/.github")).expect("a folder");
        put(&place.root.path().join("work/.github/guard.yml"));
        let file = ".github/guard.yml";
        let named = ["run", "--policy", file, "--report-dir", "../report", "--", "touch", "ran"];
        // Found by itself it must not count as no policy either.
        let found = ["run", "--report-dir", "../report", "--", "touch", "ran"];
        for call in [&named[..], &found, &["policy", "check", file]] {
            refuses(what, &place, &ends_within(SOON, &mut place.command(call)), &[word, "guard.yml"]);
        }
    }
    let place = Place::new("");
    for path in ["missing.yml", "build.sh/guard.yml"] {
        let output = ends_within(SOON, &mut place.command(&["policy", "check", path]));
        refuses(path, &place, &output, &[path]);
    }
}

#[test]
fn a_policy_that_is_handed_over_in_a_pipe_is_read() {
    let place = Place::new("");
    let mut command = place.command(&["policy", "check", "/dev/stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    // Not all at once: a writer may be slow.
    for part in ["version: 1\n", "defaults:\n  network:\n    allow: [a.example:443]\n"] {
        std::thread::sleep(Duration::from_millis(300));
        input.write_all(part.as_bytes()).expect("it reads");
    }
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_recording_that_is_handed_over_in_a_pipe_is_judged() {
    let place = Place::new("");
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/npm-poisoned/evidence.jsonl");
    let bytes = fs::read(&recording).expect("a recording");
    let direct = place.command(&["replay", recording.to_str().expect("plain")]).output().expect("it starts");
    assert_eq!(direct.status.code(), Some(86), "{}", text(&direct.stderr));
    let mut command = place.command(&["replay", "/dev/stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    // Not all at once: a writer may be slow.
    for part in bytes.chunks(bytes.len() / 3 + 1) {
        std::thread::sleep(Duration::from_millis(200));
        input.write_all(part).expect("it reads");
    }
    drop(input);
    let piped = child.wait_with_output().expect("it ends");
    assert_eq!((piped.status.code(), text(&piped.stderr)), (direct.status.code(), text(&direct.stderr)));
}

#[test]
fn a_policy_that_may_not_be_read_starts_nothing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a_policy_that_may_not_be_read_starts_nothing needs root to become somebody else");
        return;
    }
    for (what, locked, mode) in
        [("the file", "work/.github/guard.yml", 0o000), ("its folder", "work/.github", 0o000)]
    {
        let place = Place::new("");
        let root = place.root.path();
        place.write("work/.github/guard.yml", "version: 1\n");
        let guard = root.join("guard");
        fs::copy(GUARD, &guard).expect("a copy that everybody can run");
        for folder in ["", "work"] {
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o777)).expect("open to all");
        }
        fs::set_permissions(root.join(locked), fs::Permissions::from_mode(mode)).expect("locked");
        let named: &[&str] = &["--policy", ".github/guard.yml"];
        for options in [named, &[]] {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
                .arg(&guard)
                .args(["run", "--sensor", "procfs", "--report-dir", "../report"])
                .args(options)
                .args(["--", "touch", "ran"])
                .current_dir(root.join("work"));
            let output = ends_within(SOON, &mut command);
            refuses(what, &place, &output, &["Permission denied", "guard.yml"]);
        }
    }
}

/// A recording of today's form, with its footer, and where its policy is.
fn recording() -> (Vec<u8>, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policy-violations");
    let older = fs::read(folder.join("evidence.jsonl")).expect("a recording");
    let mut writer = Writer::new(Vec::new());
    evidence::read(older.as_slice(), |_, mut input| {
        if let Input::Start(start) = &mut input {
            evidence::SCHEMA.clone_into(&mut start.schema);
        }
        writer.append(&input).expect("written");
    })
    .expect("a whole recording");
    (writer.finish().expect("written"), folder.join("policy.lock.yml"))
}

#[test]
fn a_cut_or_flipped_recording_is_refused_or_told_as_blind() {
    let (whole, policy) = recording();
    let place = Place::new("");
    let replay = |bytes: &[u8]| {
        place.write("evidence.jsonl", "");
        fs::write(place.root.path().join("evidence.jsonl"), bytes).expect("written");
        let mut command = place.command(&["replay", "../evidence.jsonl", "--report-dir", "../report"]);
        ends_within(SOON, command.arg("--policy").arg(&policy))
    };
    let output = replay(&whole);
    assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
    fs::remove_dir_all(place.root.path().join("report")).expect("removed");

    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    let last = ends.len() - 1;
    // Between two records, with the end record gone: what is there is judged, and nothing passes.
    for at in [ends[0], ends[last / 2], ends[last - 2]] {
        let output = replay(&whole[..at]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "cut at {at}: {said}");
        assert!(said.contains("the recording has no end"), "cut at {at}: {said}");
        assert_eq!(place.report()["coverage"]["state"], "blind", "cut at {at}");
        fs::remove_dir_all(place.root.path().join("report")).expect("removed");
    }
    // Inside a record, inside the footer, and between the end record and the footer.
    let inside = [1, ends[0] / 2, ends[0] + 1, ends[last / 2] + 40, ends[last - 2] + 9];
    for at in inside.into_iter().chain([ends[last - 1], ends[last - 1] + 9, whole.len() - 2]) {
        let record = ends.iter().filter(|end| **end <= at).count();
        let words = ["cannot be trusted", &format!("record {record} "), "hint: "];
        refuses(&format!("cut at {at}"), &place, &replay(&whole[..at]), &words);
    }
    refuses("nothing left", &place, &replay(b""), &["the recording is empty"]);
    // One bit each, in every part of the file and in the newlines too.
    let spread = (0..32).map(|part| part * (whole.len() - 1) / 32 + part);
    for (turn, at) in spread.chain([ends[3] - 1, ends[last - 1] - 1, ends[last - 1] + 20]).enumerate() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (turn % 8);
        let what = format!("bit {} of byte {at}", turn % 8);
        refuses(&what, &place, &replay(&flipped), &["the recording `../evidence.jsonl` cannot be trusted"]);
    }
    for (what, bytes) in [
        ("noughts", vec![0; 1 << 20]),
        ("lists in lists", [&whole[..ends[0]], &"[".repeat(1 << 20).into_bytes()].concat()),
        ("a program", fs::read(GUARD).expect("it is there")[..1 << 20].to_vec()),
    ] {
        refuses(what, &place, &replay(&bytes), &["cannot be trusted: record "]);
    }
}

#[test]
fn a_recording_that_is_no_file_is_refused_at_once() {
    let place = Place::new("");
    let work = place.root.path().join("work");
    nix::unistd::mkfifo(&work.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::create_dir_all(work.join("report")).expect("a folder");
    nix::unistd::mkfifo(&work.join("report/evidence.jsonl"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for words in [
        ["replay", "pipe"].as_slice(),
        &["replay", "report"],
        &["replay", "/dev/zero"],
        &["policy", "learn", "pipe"],
    ] {
        let output = ends_within(SOON, &mut place.command(words));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{words:?}: {said}");
        assert!(said.contains("it is not a regular file"), "{words:?}: {said}");
    }
}

#[test]
fn a_recording_that_comes_through_a_pipe_is_judged_like_the_file() {
    let place = Place::new("");
    let (bytes, policy) = recording();
    let file = place.root.path().join("evidence.jsonl");
    fs::write(&file, &bytes).expect("written");
    let replay = |recording: &Path, reports: &str| {
        let mut command = place.command(&["replay"]);
        command.arg(recording).arg("--policy").arg(&policy).args(["--report-dir", reports]);
        command
    };
    let from_file = ends_within(SOON, &mut replay(&file, "from-file"));
    let mut command = replay(Path::new("/dev/stdin"), "from-pipe");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(&bytes).expect("it reads");
    assert_eq!(child.wait().expect("it ends").code(), from_file.status.code());
    let report = |folder: &str| {
        fs::read_to_string(place.root.path().join("work").join(folder).join("findings.json"))
            .expect("a report")
    };
    assert!(report("from-file").contains("run-undeclared"), "the recording has findings of its policy");
    assert_eq!(report("from-file"), report("from-pipe"));
}
