//! A process works against what watches it.
//!
//! ## What it sees
//! Programs of the kernel detached or replaced (`bpf`), or others' programs taken in hand; a process moved to another control group; the
//! kernel's trace settings changed; a kernel module loaded; the guard's own folder written. Each by something that the step's text does
//! not name; the guard stopped or ended by a signal; work given to a server of terminals that was there before the job. A process that
//! looks for the guard, by name or by its entry in `/proc`: a note.
//!
//! A credential that nothing explains, taken in a way that hides it from those who watch in the usual places: through a ring (`io_uring`), by a name
//! that was resolved and never opened or a descriptor that was handed over, in namespaces of the process's own, after the command that
//! started it was over, under the name of the runner or of the system, again and again as a race needs it, or beside a socket where a stranger
//! listens. What a program opens as a matter of course counts once the same command also talks to a bare address.
//!
//! The traces of a job taken away: records of log-ins written, logs of the host and histories of shells emptied, removed, replaced or led to
//! nowhere. A process that gave itself the name of the runner or of a part of the system and connects to somebody whom nothing explains:
//! medium, and high once the command that started it is over.
//!
//! A process whose environment is that of another step than the one it was forked in: a note, since a build server
//! that an earlier step left hands its client's environment on. Whatever a process says of itself, it stays in its step.
//!
//! ## Why it matters
//! Whoever blinds the guard does it before the act that counts. So the attempt is the finding.
//!
//! ## What to do
//! Do not trust what the report says after this moment. Throw the machine away, and take root from the job.
//!
//! ## Known limits
//! A log that is emptied by a redirection looks like one that is added to, and is not told. Logs of the job's own services are its business.
//! A guard that was ended can't tell of it: the exit status and the missing footer do. `io_uring` and 32-bit calls are seen like others, so
//! using them alone is no finding.

use super::{
    Act, Detection, Ground, Hit, attack, ground, has_left, is_bare, is_bare_object, is_from_before,
    is_set_up, is_strangers_socket, is_work, named, of_process, of_strand, runs_code,
};
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::Touch;

pub const DETECTION: Detection = Detection {
    id: RuleId("sensor-evasion"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.001"), Technique("T1562.006"), Technique("T1547.006")],
    references: &["CVE-2022-26316"],
    frameworks: &["CICD-SEC-10", "ASI10"],
    remedy: "Do not trust this report after this moment: throw the machine away, and take root from the job.",
    source: include_str!("sensor_evasion.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named {
        return Vec::new();
    }
    if matches!(act.effect, Effect::Read { .. } | Effect::Connect { .. }) {
        return around(act, ground);
    }
    let who = || named(act.lineage, act.process.key);
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    match (act.effect, act.activity) {
        (Effect::Other, Activity::Bpf { command }) => match command.as_str() {
            "program-detach" | "link-detach" | "link-update" => {
                let title = format!("{} took a program out of the kernel ({command})", who());
                attack(act, &DETECTION, (Severity::High, sure), title, format!("bpf {command}"))
            }
            "program-by-id" | "map-by-id" | "link-by-id" if ground == Ground::Foreign => {
                let title = format!("{} took others' kernel programs in hand ({command})", who());
                attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, format!("bpf {command}"))
            }
            _ => Vec::new(),
        },
        (Effect::Other, Activity::Signal { signal, own_group }) => {
            // Stopping, ending at once, or by a fault: nobody means his own group by these.
            let is_hard = matches!(signal, 4 | 6 | 7 | 8 | 9 | 11 | 19 | 20 | 21 | 22);
            let is_end = matches!(signal, 1 | 2 | 3 | 15) && !own_group;
            if !is_hard && !is_end {
                return Vec::new();
            }
            let title = format!("{} sent the guard signal {signal}", who());
            attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, format!("signal {signal}"))
        }
        (Effect::Other, Activity::UnixConnect { file, outside: true }) if is_work(act, "work-takers") => {
            let title = format!("{} gave work to a server that is not part of this job", who());
            attack(act, &DETECTION, (Severity::High, sure), title, &file.path)
        }
        (Effect::Other, Activity::UnixConnect { file, outside })
            if is_strangers_socket(&file.path, *outside) =>
        {
            handed_over(act, &file.path, sure)
        }
        (Effect::Other, Activity::Open { file, access }) if access.read => {
            let hits = looked(act, &file.path);
            if hits.is_empty() { went_through(act, &file.path) } else { hits }
        }
        (Effect::Launch { .. }, Activity::Launch(launch)) => searched(act, launch),
        (Effect::Other, Activity::Module { file }) => {
            let path = file.as_ref().map_or("memory", |file| file.path.as_str());
            let title = format!("{} loaded a kernel module", who());
            let weight = match ground {
                Ground::Foreign => (Severity::Critical, Confidence::High),
                _ => (Severity::High, Confidence::Medium),
            };
            attack(act, &DETECTION, weight, title, path)
        }
        (Effect::Write { path, .. }, _) if is_trail(act, path) => wiped(act, path, sure),
        (Effect::Write { path, .. }, Activity::Open { .. })
            if catalogue::is_object("group-members", path) =>
        {
            if is_work(act, "cgroup-managers") {
                return Vec::new();
            }
            let title = format!("{} moved a process to another control group", who());
            attack(act, &DETECTION, (Severity::High, sure), title, path)
        }
        (Effect::Write { path, .. }, Activity::Open { .. })
            if catalogue::is_object("group-controls", path) =>
        {
            if is_work(act, "cgroup-managers") {
                return Vec::new();
            }
            let title = format!("{} froze or ended a control group", who());
            attack(act, &DETECTION, (Severity::High, sure), title, path)
        }
        (Effect::Write { path, .. }, _) if catalogue::is_object("kernel-tracing", path) => {
            if is_work(act, "tracers") {
                return Vec::new();
            }
            attack(
                act,
                &DETECTION,
                (Severity::High, sure),
                format!("{} changed the kernel's trace settings", who()),
                path,
            )
        }
        (Effect::Write { path, .. }, _)
            if ["/run/edamame-guard/", "/run/edamame-guard-hooks/"]
                .iter()
                .any(|own| path.starts_with(own)) =>
        {
            attack(
                act,
                &DETECTION,
                (Severity::Critical, Confidence::High),
                format!("{} wrote into the guard's folder", who()),
                path,
            )
        }
        _ => Vec::new(),
    }
}

/// Whether the file tells who was here and what was done: records of log-ins, the host's logs, a shell's history.
fn is_trail(act: &Act<'_>, path: &str) -> bool {
    let below = |home: &String| path.strip_prefix(home.as_str())?.strip_prefix('/');
    catalogue::is_object("log-in-records", path)
        || catalogue::is_object("host-logs", path)
        || act
            .context
            .all_homes
            .iter()
            .filter_map(below)
            .any(|rest| catalogue::is_object("shell-histories", rest))
}

/// Traces are emptied, removed, replaced by another file or led to nowhere.
fn wiped(act: &Act<'_>, path: &str, sure: Confidence) -> Vec<Hit> {
    let is_loss = match act.activity {
        // Records of log-ins are written by those who let somebody in; a log or a history is added to all the time.
        Activity::Open { access, .. } => {
            access.write && !access.create && catalogue::is_object("log-in-records", path)
        }
        Activity::Truncate { .. } | Activity::Delete { .. } | Activity::Symlink { .. } => true,
        Activity::Rename { from, to } => from.path == path || to.path == path,
        _ => false,
    };
    if !is_loss
        || act.lineage.has_made(path)
        || matches!(act.explanation, Explanation::Declared(_))
        || is_set_up(act)
        || of_strand(act).any(|process| process.tool == Some("system-packages"))
        || is_work(act, "log-keepers")
    {
        return Vec::new();
    }
    let title =
        format!("{} took away traces of who did what on the host", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, sure), title, path)
}

/// A process that calls itself a part of the system talks to somebody whom nothing explains.
fn masked(act: &Act<'_>, object: &str) -> Option<Hit> {
    let own = act.process.key;
    let mut names = act.lineage.strand(own).noted("false-name");
    let name = names.find(|note| act.lineage.is_at_or_below(own, note.process))?;
    let is_gone = has_left(act);
    if !is_gone && !is_bare(act) {
        return None;
    }
    let severity = if is_gone { Severity::High } else { Severity::Medium };
    let end = if is_gone { ", after the command that started it was over" } else { "" };
    let title = format!(
        "{} connected to {object} while it calls itself {}{end}",
        named(act.lineage, own),
        name.object
    );
    let mut hits = attack(act, &DETECTION, (severity, Confidence::Medium), title, object);
    hits[0].evidence.push(name.sequence);
    hits.pop()
}

/// Processes whose command lines one reads, before it goes through them all.
const MANY: usize = 5;
/// How often a process opens one credential before it looks like a race.
const OFTEN: usize = 10;

/// How a process keeps out of sight, as a sentence goes on, with the record that shows it.
fn hides(act: &Act<'_>) -> Option<(String, Option<u64>)> {
    let own = act.process;
    let strand = act.lineage.strand(own.key);
    let by = |kind: &'static str, is: &dyn Fn(&Touch) -> bool| {
        strand.noted(kind).find(|note| is(note)).map(|note| note.sequence)
    };
    let is_own = |note: &Touch| note.process == own.key;
    let is_above = |note: &Touch| act.lineage.is_at_or_below(own.key, note.process);
    if let Some(sequence) = by("ring", &is_own) {
        return Some(("through a ring, past the system calls that are watched".to_owned(), Some(sequence)));
    }
    if let Some(note) = strand.noted("false-name").find(|note| is_own(note)) {
        return Some((format!("while it calls itself {}", note.object), Some(note.sequence)));
    }
    if let Some(sequence) = by("network-namespace", &is_above) {
        return Some(("from a network of its own".to_owned(), Some(sequence)));
    }
    if has_left(act) {
        return Some(("after the command that started it was over".to_owned(), None));
    }
    let note = strand.noted("outside-service").find(|note| is_own(note))?;
    Some((format!("while it talks to a process outside the job by {}", note.object), Some(note.sequence)))
}

/// A credential is taken, or carried away, around those who watch.
fn around(act: &Act<'_>, ground: Ground) -> Vec<Hit> {
    let own = act.process.key;
    let strand = act.lineage.strand(own);
    let who = named(act.lineage, own);
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let tell = |severity, title: String, object: &str, evidence: Option<u64>| {
        let mut hits = attack(act, &DETECTION, (severity, sure), title, object);
        hits[0].evidence.extend(evidence);
        hits
    };
    match act.effect {
        Effect::Read { path, store, by_owner: false } if act.explanation.reason().is_none() => {
            let title = &store.title;
            let resolved = strand.noted("resolved").find(|note| note.process == own && note.object == *path);
            if let Some(note) = resolved {
                let title = format!("{who} took hold of {title} by a name that it never opened, and read it");
                return tell(Severity::High, title, path, Some(note.sequence));
            }
            if matches!(act.activity, Activity::Open { access, .. } if access.received) {
                let title = format!("{who} was handed {title} by another process");
                return tell(Severity::High, title, path, None);
            }
            let prefix = format!("{path} ");
            let often =
                strand.noted("opened").filter(|note| note.process == own && note.object.starts_with(&prefix));
            if often.count() + 1 == OFTEN {
                let title = format!("{who} opened {title} {OFTEN} times, as one does who races a check");
                return tell(Severity::High, title, path, None);
            }
            hides(act).map_or_else(Vec::new, |(how, evidence)| {
                tell(Severity::High, format!("{who} read {title} {how}"), path, evidence)
            })
        }
        // What many programs open as a matter of course: only together with a bare address.
        Effect::Read { path, store, by_owner: true } if act.process.tool == Some("interpreters") => {
            let contact = strand.contacts.iter().find(|contact| is_bare_object(&contact.object));
            let Some((contact, (how, _))) = contact.zip(hides(act)) else { return Vec::new() };
            let title = format!("{who} read {} {how}, and {} was contacted", store.title, contact.object);
            tell(Severity::Medium, title, path, Some(contact.sequence))
        }
        Effect::Connect { object, .. } if act.explanation.is_undeclared() => {
            if let Some(hit) = masked(act, object) {
                return vec![hit];
            }
            if !is_bare(act) {
                return Vec::new();
            }
            let is_interpreter = |read: &&Touch| {
                let reader = act.lineage.get(read.process);
                read.by_owner && reader.is_some_and(|reader| reader.tool == Some("interpreters"))
            };
            let Some(read) = strand.reads.iter().find(is_interpreter) else { return Vec::new() };
            let is_inside = |note: &Touch| act.lineage.is_at_or_below(read.process, note.process);
            let how = match (has_left(act), strand.noted("network-namespace").any(is_inside)) {
                (true, _) => "after the command that started it was over",
                (_, true) => "for one in a network of its own",
                _ => return Vec::new(),
            };
            let title = format!("{who} connected to {object} {how}; {} was read", read.title);
            tell(Severity::Medium, title, object, Some(read.sequence))
        }
        _ => Vec::new(),
    }
}

/// A socket where a stranger listens is used by a process that has taken something.
fn handed_over(act: &Act<'_>, path: &str, sure: Confidence) -> Vec<Hit> {
    let own = act.process.key;
    let who = named(act.lineage, own);
    let read = act.lineage.strand(own).reads.iter().find(|read| read.process == own);
    // A client with its own login at its own daemon, wherever that listens: docker.
    let is_client = act.process.tool.is_some() && !runs_code(act.process) && is_from_before(act, act.process);
    if is_client && read.is_none_or(|read| read.by_owner) && ground(act) != Ground::Foreign {
        return Vec::new();
    }
    let (severity, story) = match read {
        Some(read) if !read.by_owner => (Severity::High, format!(", after it read {}", read.title)),
        Some(read) => (Severity::Medium, format!(", after it read {}", read.title)),
        // An abstract name may well be another process's of the job.
        None => (Severity::Low, String::new()),
    };
    let sure = if severity == Severity::Low { Confidence::Low } else { sure };
    let title = format!("{who} talks to a process outside the job by {path}{story}");
    attack(act, &DETECTION, (severity, sure), title, path)
}

/// Whether it is the program's work to look at the host's processes.
fn is_list(act: &Act<'_>) -> bool {
    is_work(act, "process-lists") || is_work(act, "restart-checks")
}

/// A process that is no process list looks at the guard.
fn looked(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let is_guard =
        of_process(path).is_some_and(|(pid, entry)| pid == act.context.guard.pid && entry == "cmdline");
    let is_folder = path.starts_with("/run/edamame-guard/");
    if !(is_guard || is_folder) || is_list(act) {
        return Vec::new();
    }
    let title = format!("{} looked at the guard", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Low, Confidence::Low), title, path)
}

/// A process that is no process list goes through the host's processes one by one.
fn went_through(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let is_entry =
        of_process(path).is_some_and(|(pid, entry)| pid != act.process.key.pid && entry == "cmdline");
    let seen = || {
        act.lineage
            .strand(act.process.key)
            .noted("command-line")
            .filter(|note| note.process == act.process.key)
    };
    if !is_entry || is_list(act) || seen().count() + 1 != MANY {
        return Vec::new();
    }
    let title = format!("{} went through the processes of the host", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Low, Confidence::Low), title, "/proc/*/cmdline")
}

/// A search among the processes or files of the host for something that watches it.
fn searched(act: &Act<'_>, launch: &crate::event::Launch) -> Vec<Hit> {
    let name = launch.applet().map_or(basename(&launch.executable.path), |(applet, _)| applet);
    let ends = matches!(name, "pkill" | "killall");
    let searches = ends
        || matches!(name, "pgrep" | "pidof" | "grep" | "egrep" | "rg" | "systemctl" | "service" | "bpftool");
    let word = launch.arguments.iter().skip(1).filter(|word| !word.contains('/')).find(|word| {
        word.split(['|', '\\', '(', ')'])
            .any(|word| catalogue::is_object("sensor-names", word.trim_start_matches(['[', '^'])))
    });
    let Some(word) = word.filter(|_| searches && launch.script.is_none()) else { return Vec::new() };
    let weight = if ends { (Severity::High, Confidence::Medium) } else { (Severity::Low, Confidence::Low) };
    let title = format!("{} looked for what watches the host ({word})", named(act.lineage, act.process.key));
    attack(act, &DETECTION, weight, title, word)
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    fn told(trace: &str) -> Vec<String> {
        let lines = findings(
            "make\n",
            "",
            &format!("1 > 2 launch /usr/bin/make make\n2 > 3 launch /w/tool tool\n{trace}"),
        );
        lines.into_iter().filter(|line| line.contains("sensor-evasion")).collect()
    }

    #[test]
    fn a_credential_taken_out_of_sight() {
        for acts in [
            "3 ring\n3 read ~/.aws/credentials",
            "3 title Runner.Worker\n3 read ~/.aws/credentials",
            "3 resolve ~/.aws/credentials\n3 read ~/.aws/credentials",
            "3 leave user network\n3 > 4\n4 read ~/.aws/credentials",
            "3 > 4\n3 exit\n4 > 5\n4 exit\n5 read ~/.aws/credentials",
            "3 unix @relay\n3 read ~/.aws/credentials",
        ] {
            let lines = told(acts);
            assert!(
                lines.contains(&"!sensor-evasion attack high /home/u/.aws/credentials".to_owned()),
                "{acts}: {lines:?}"
            );
        }
        let race = "3 read ~/.aws/credentials\n".repeat(12);
        assert_eq!(told(&race), ["!sensor-evasion attack high /home/u/.aws/credentials"]);
    }

    #[test]
    fn the_same_ways_without_a_credential_stay_quiet() {
        for acts in [
            "3 ring\n3 connect 203.0.113.7:443",
            "3 title worker-1\n3 read ~/.aws/credentials",
            "3 title Runner.Worker",
            "3 resolve ~/.aws/credentials",
            "3 leave user network\n3 > 4 launch /usr/bin/cc cc x.c",
            "3 > 4\n3 exit\n4 > 5\n4 exit\n5 connect 203.0.113.7:443",
            "3 unix /run/dbus/system_bus_socket outside\n3 read ~/.aws/credentials",
            "3 read ~/.aws/credentials\n3 read ~/.aws/credentials",
        ] {
            assert_eq!(told(acts), [""; 0], "{acts}");
        }
    }

    #[test]
    fn traces_are_taken_away() {
        for (act, path) in [
            ("3 write", "/var/log/wtmp"),
            ("3 write", "/var/log/btmp"),
            ("3 truncate", "/var/log/auth.log"),
            ("3 rename /var/log/sedx", "/var/log/auth.log"),
            ("3 delete", "/var/log/syslog"),
            ("3 delete", "/var/log/journal/ab/system.journal"),
            ("3 symlink /dev/null", "/home/u/.bash_history"),
            ("3 delete", "/home/u/.zsh_history"),
        ] {
            assert_eq!(
                told(&format!("{act} {path}")),
                [format!("!sensor-evasion attack high {path}")],
                "{act}"
            );
        }
        for act in [
            // Its own logs, a history that is added to, what it made itself, and those whose work it is.
            "3 truncate /srv/app/log/x.log\n3 delete /var/log/app/x.log",
            "3 write ~/.bash_history\n3 write /var/log/syslog",
            "3 create /var/log/syslog\n3 delete /var/log/syslog",
            "3 > 4 launch /usr/sbin/logrotate logrotate x\n4 rename /var/log/syslog /var/log/syslog.1",
            "3 > 4 launch /usr/bin/apt-get apt-get install x\n4 > 5 launch /usr/bin/dpkg dpkg x\n5 delete /var/log/syslog",
        ] {
            assert_eq!(told(act), [""; 0], "{act}");
        }
        let said = "1 > 2 launch /usr/bin/truncate truncate -s 0 /var/log/syslog\n2 truncate /var/log/syslog";
        let lines = findings("truncate -s 0 /var/log/syslog\n", "", said);
        assert!(lines.iter().all(|line| !line.contains("sensor-evasion")), "{lines:?}");
    }

    #[test]
    fn a_part_of_the_system_that_calls_a_stranger() {
        let gone = "3 > 4\n3 exit\n4 > 5\n4 exit\n";
        for (acts, severity) in [
            ("3 title [kworker/0:1-events]\n3 connect 203.0.113.7:8443".to_owned(), "medium"),
            ("3 title sshd\n3 > 4\n4 connect 203.0.113.7:8443".to_owned(), "medium"),
            (format!("{gone}5 title [kworker/0:1-ev]\n5 connect 203.0.113.7:8443"), "!high"),
            (
                format!(
                    "answer x.example 203.0.113.7\n{gone}5 title systemd-udevd\n5 connect 203.0.113.7:443"
                ),
                "!high",
            ),
        ] {
            let lines = told(&acts);
            let (mark, severity) =
                severity.strip_prefix('!').map_or(("", severity), |severity| ("!", severity));
            assert!(
                lines.len() == 1 && lines[0].starts_with(&format!("{mark}sensor-evasion attack {severity}")),
                "{acts}: {lines:?}"
            );
        }
        for acts in [
            "3 title worker-1\n3 connect 203.0.113.7:8443",
            "answer x.example 203.0.113.7\n3 title sshd\n3 connect 203.0.113.7:443",
            "3 title sshd\n3 connect 10.0.0.7:443",
        ] {
            assert_eq!(told(acts), [""; 0], "{acts}");
        }
    }

    #[test]
    fn a_client_with_its_own_login_may_talk_to_its_daemon_wherever_that_listens() {
        let trace = |program: &str| {
            format!("3 launch {program}\n3 read ~/.docker/config.json\n3 unix /srv/d.sock outside")
        };
        assert_eq!(told(&trace("/usr/bin/docker docker version")), [""; 0]);
        let other = told(&trace("/usr/bin/python3.11 python3 x.py"));
        assert!(other.contains(&"!sensor-evasion attack high /srv/d.sock".to_owned()), "{other:?}");
    }

    #[test]
    fn signals_to_the_guard_and_work_for_a_strangers_server() {
        for (act, object) in [
            ("3 signal 19 own", "signal 19"),
            ("3 signal 15", "signal 15"),
            (
                "3 launch /usr/bin/tmux tmux new-window x\n3 unix /tmp/tmux-0/default outside",
                "/tmp/tmux-0/default",
            ),
        ] {
            let lines = told(act);
            assert!(lines.len() == 1 && lines[0].ends_with(object), "{act}: {lines:?}");
        }
        for act in [
            "3 signal 15 own",
            "3 signal 23",
            "3 launch /usr/bin/tmux tmux new-window x\n3 unix /tmp/tmux-0/default",
        ] {
            assert_eq!(told(act), [""; 0], "{act}");
        }
    }

    #[test]
    fn who_looks_for_the_guard_is_noted() {
        assert_eq!(told("3 read /proc/100/cmdline"), ["sensor-evasion attack low /proc/100/cmdline"]);
        assert_eq!(told("3 > 4 launch /usr/bin/pgrep pgrep -f edamame-guard").len(), 1);
        assert_eq!(
            told("3 > 4 launch /usr/bin/ps ps aux\n4 read /proc/100/cmdline\n3 read /proc/77/cmdline"),
            [""; 0]
        );
        assert_eq!(told("3 > 4 launch /usr/bin/grep grep -r edamame-guard docs/x\n3 > 5 launch /usr/bin/pgrep pgrep node").len(), 1);
    }

    #[test]
    fn programs_groups_traces_and_modules() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 bpf link-detach
             3 write /sys/fs/cgroup/cgroup.procs
             3 write /sys/kernel/tracing/tracing_on
             3 module /tmp/x.ko
             3 create /run/edamame-guard/x/evidence.jsonl",
            &[
                "!sensor-evasion attack critical /run/edamame-guard/x/evidence.jsonl",
                "!sensor-evasion attack critical /tmp/x.ko",
                "!sensor-evasion attack high /sys/fs/cgroup/cgroup.procs",
                "!sensor-evasion attack high /sys/kernel/tracing/tracing_on",
                "!sensor-evasion attack high bpf link-detach",
                "file-undeclared divergence low /run/edamame-guard/x/evidence.jsonl",
                "file-undeclared divergence low /sys/fs/cgroup/cgroup.procs",
                "file-undeclared divergence low /sys/kernel/tracing/tracing_on",
            ],
        );
    }

    #[test]
    fn another_sensor_a_profiler_and_group_managers_stay_quiet() {
        expect(
            "make test\nbpftool prog list\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/bpftrace bpftrace x
             3 bpf map-create
             3 bpf program-load
             3 bpf link-create
             3 bpf program-by-id
             2 > 5 launch /usr/bin/podman podman run x
             5 create /sys/fs/cgroup/x/cgroup.procs
             1 > 6 launch /usr/sbin/bpftool bpftool prog list
             6 bpf next-program
             6 bpf program-by-id",
            &["file-undeclared divergence low /sys/fs/cgroup/x/cgroup.procs"],
        );
    }
}
