//! Ordinary jobs with no policy end green, and the same jobs with one attack inside fail: what needs no installation.
//!
//! All of them run by `make first-run`. Without the rights, this says so and passes; so does a job without its tool.

use std::path::Path;
use std::process::Command;

use edamame_guard::sensors::ebpf::{Ebpf, Options, SensorError};

/// Jobs of `fixtures/first-run/jobs` that need nothing but compilers, git, curl and an interpreter for their stand-ins.
const JOBS: [&str; 6] =
    ["make-gcc", "cargo", "cargo-build-rs", "cache-tar", "artifact-upload", "release-tag"];

#[test]
fn ordinary_jobs_end_green_and_their_twins_do_not() {
    let name = "ordinary_jobs_end_green_and_their_twins_do_not";
    match Ebpf::start(&Options::default()) {
        Ok(_) => {}
        Err(SensorError::NotPermitted | SensorError::NoTypes | SensorError::NoCgroup) => {
            println!("skipped: {name} needs root and BPF");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: {name} needs python3");
        return;
    }
    let keep = tempfile::tempdir().expect("a folder");
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/first-run/run.py"))
        .args(["--runs", "1", "--guard", env!("CARGO_BIN_EXE_edamame-guard"), "--keep"])
        .arg(keep.path())
        .args(JOBS)
        .output()
        .expect("the runner starts");
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for job in JOBS {
        assert!(table.lines().any(|line| line.starts_with(job)), "{job} is not in the table");
    }
}
