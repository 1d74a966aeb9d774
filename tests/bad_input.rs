//! Odd words, full disks and missing rights: the guard says what is wrong, and never passes a job it could not judge.
//! Without the rights, each test says so and passes.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use common::{GUARD, Place, live, text};

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

#[test]
fn without_rights_nothing_is_started_and_the_reason_is_said() {
    live("without_rights_nothing_is_started_and_the_reason_is_said", |_| {
        let place = Place::new("");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(place.root.path(), open).expect("open to all");
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
