//! Sources and tools that are not what they were: whose hand it was, or that nobody's was seen.
//!
//! The recorder tells that a content differs, and since when it was known. Whoever changed it in between was seen to open it
//! for writing, to put another file in its place or to mount something over it, by this name or by another one of the same object.
//! What nobody of the job was seen to do was done past it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::detections::{self, Swap};
use crate::event::{Activity, Event, File, Launch, Plane, ProcessKey, SourceContent, Timestamp};
use crate::finding::{Confidence, Severity};
use crate::lineage::Standing;

use super::{Engine, Start};

/// What the engine remembers of it.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By hash of the path, and of the object.
    hands: HashMap<u64, Vec<Hand>>,
    mounts: Vec<(String, Hand)>,
    /// Programs of tool chains as they ran last.
    tools: HashMap<String, Tool>,
    /// Sources that were gone before they could be compared: how many, and one of them.
    gone: (u64, String),
    /// There was no room for a hand: one may be missing.
    is_full: bool,
    /// A container was started that the step asks for; what it writes is not seen.
    has_containers: bool,
}

/// A program of a tool chain: its content and its object, when it ran.
#[derive(Clone, Debug)]
struct Tool {
    sha256: Arc<str>,
    file: File,
    time: Timestamp,
}

/// One act by which a file may have become another one.
#[derive(Clone, Copy, Debug)]
struct Hand {
    process: ProcessKey,
    sequence: u64,
    time: Timestamp,
    /// Nobody asked whoever it was.
    is_others: bool,
    /// What stands there since; 0 where that is not known.
    inode: u64,
    /// What lies below the path came with it.
    is_move: bool,
}

/// Whose hand it was.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// It belongs to the work.
    Asked,
    /// Process and record, and whether it was a mount.
    Others(ProcessKey, u64, bool),
    Nobody,
}

impl Sources {
    /// Places and objects whose hands are remembered, and those of each.
    const PLACES: usize = 1 << 18;
    const EACH: usize = 8;
    const MOUNTS: usize = 256;
    const TOOLS: usize = 4096;

    /// Takes in what the rules say of an act on the file at `path`, or of a mount over it.
    pub(super) fn act(&mut self, sequence: u64, event: &Event, path: &str, is_others: bool) {
        let (object, is_move) = match &event.activity {
            Activity::Open { file, .. } | Activity::Truncate { file } => (Some(file), false),
            // Two names may have changed places.
            Activity::Rename { from, to } => (Some(if to.path == path { from } else { to }), true),
            Activity::Link { from, .. } => (Some(from), false),
            Activity::Symlink { .. } | Activity::Mount { .. } => (None, true),
            _ => return,
        };
        let inode = object.map_or(0, |object| object.inode);
        let hand = Hand { process: event.actor, sequence, time: event.time, is_others, inode, is_move };
        if matches!(event.activity, Activity::Mount { .. }) {
            if self.mounts.len() < Self::MOUNTS {
                self.mounts.push((path.to_owned(), hand));
            } else {
                self.is_full = true;
            }
            return;
        }
        let of_object = object.filter(|object| object.inode != 0).map(of_object);
        for place in [Some(of_path(path)), of_object].into_iter().flatten() {
            if self.hands.len() >= Self::PLACES && !self.hands.contains_key(&place) {
                self.is_full = true;
                continue;
            }
            let hands = self.hands.entry(place).or_default();
            // The last act of each is enough, and others' acts go last.
            hands.retain(|known| known.process != hand.process || known.is_others != hand.is_others);
            if hands.len() >= Self::EACH {
                let at = hands.iter().position(|known| !known.is_others).unwrap_or(0);
                hands.remove(at);
            }
            hands.push(hand);
        }
    }

    /// A program was launched that lets a daemon write what no event tells of; the step asks for it.
    pub(super) fn launches(&mut self, tool: Option<&str>, standing: &Standing) {
        self.has_containers |=
            tool == Some("containers") && !matches!(standing, Standing::Script | Standing::Undeclared);
    }

    /// A gap in the coverage: sources that nobody could compare.
    pub(super) fn gap(&self) -> Option<String> {
        let (count, one) = &self.gone;
        let text =
            || format!("{count} sources were gone before they could be compared with what they were: {one}");
        (*count > 0).then(text)
    }

    /// Who can have changed the file between the two moments: whoever opened it in between, or had it open (`held`).
    fn cause(&self, file: &File, since: Timestamp, held: Option<ProcessKey>, until: Timestamp) -> Cause {
        let is_in_time =
            |hand: &&Hand| hand.time <= until && (hand.time >= since || held == Some(hand.process));
        let at = |place: u64| self.hands.get(&place).into_iter().flatten().filter(is_in_time);
        let of_object: Vec<&Hand> = if file.inode == 0 { Vec::new() } else { at(of_object(file)).collect() };
        let of_path: Vec<&Hand> = at(of_path(&file.path)).collect();
        let folders = file.path.char_indices().filter(|(at, letter)| *letter == '/' && *at > 0);
        let of_folders: Vec<&Hand> = folders
            .flat_map(|(end, _)| at(self::of_path(&file.path[..end])))
            .filter(|hand| hand.is_move && hand.time >= since)
            .collect();
        let all = of_path.iter().chain(&of_object).chain(&of_folders);
        if let Some(hand) = all.clone().find(|hand| hand.is_others) {
            return Cause::Others(hand.process, hand.sequence, false);
        }
        let is_over = |target: &str| {
            file.path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut mounts = self.mounts.iter().filter(|(target, hand)| hand.time <= until && is_over(target));
        // What was put there last, as far as it is known, is what is there.
        let is_placed = of_path.iter().any(|hand| hand.inode == 0 || hand.inode == file.inode);
        let is_explained = !of_object.is_empty() || !of_folders.is_empty() || is_placed;
        match mounts.next_back() {
            Some((_, hand)) if hand.is_others && !is_explained => {
                Cause::Others(hand.process, hand.sequence, true)
            }
            Some(_) => Cause::Asked,
            None if is_explained => Cause::Asked,
            None => Cause::Nobody,
        }
    }
}

impl Engine {
    /// A build reads a source that is not what it was.
    pub(super) fn source(&mut self, sequence: u64, source: &SourceContent) {
        let Some(reader) = self.lineage.get(source.reader) else { return };
        if reader.launch.as_deref().is_none_or(|launch| !detections::is_builder(launch)) {
            return;
        }
        let path = &source.file.path;
        let cause = self.sources.cause(&source.file, source.since, source.held, source.time);
        if source.sha256.is_none() && !matches!(cause, Cause::Others(..)) {
            if matches!(cause, Cause::Nobody) {
                let (count, one) = &mut self.sources.gone;
                *count += 1;
                if one.is_empty() {
                    one.clone_from(path);
                }
            }
            return;
        }
        // What others' code was seen to do to it by this name is told already, at the open.
        let hand = match cause {
            Cause::Asked => return,
            Cause::Others(hand, ..) if detections::is_own_work(&self.lineage, source.reader, hand) => return,
            Cause::Others(_, _, false) if self.lineage.tampered(path).is_some() => return,
            Cause::Others(hand, sequence, is_mount) => Some((hand, sequence, is_mount)),
            Cause::Nobody => None,
        };
        let hit = detections::swapped(
            &self.lineage,
            &Swap {
                object: path,
                user: source.reader,
                is_program: false,
                was_checked_in: source.was.starts_with("blob:"),
                hand,
                weight: self.weight_of_swap(hand.is_some()),
                sequence,
            },
        );
        self.record(sequence, source.time, vec![hit], None);
    }

    /// A program of a tool chain is launched that is not what it was when it ran before.
    pub(super) fn tool(&mut self, sequence: u64, event: &Event, launch: &Launch, start: &Start) {
        let program = launch.program();
        let workspace = start.job.workspace.as_str();
        if self.sources.tools.len() >= Sources::TOOLS && !self.sources.tools.contains_key(&program.path)
            || !detections::is_guarded_tool(&program.path, workspace)
        {
            return;
        }
        let now = self.digest(program);
        let known = self.sources.tools.get(&program.path);
        let since = known.map(|known| known.time);
        let is_other = known.is_some_and(|known| match &now {
            Some(now) => known.sha256 != *now,
            // It was gone before it could be read.
            None => (known.file.inode, known.file.changed) != (program.inode, program.changed),
        });
        let is_read = now.is_some();
        if let Some(sha256) = now {
            let tool = Tool { sha256, file: program.clone(), time: event.time };
            self.sources.tools.insert(program.path.clone(), tool);
        }
        let Some(since) = since.filter(|_| is_other) else { return };
        let hand = match self.sources.cause(program, since, None, event.time) {
            // Whoever may not change a tool was told when it did.
            Cause::Asked | Cause::Others(_, _, false) => return,
            Cause::Others(hand, sequence, true) => Some((hand, sequence, true)),
            // That there is no digest of it is told in any case.
            Cause::Nobody if !is_read => return,
            Cause::Nobody => None,
        };
        let hit = detections::swapped(
            &self.lineage,
            &Swap {
                object: &program.path,
                user: event.actor,
                is_program: true,
                was_checked_in: false,
                hand,
                weight: self.weight_of_swap(hand.is_some()),
                sequence,
            },
        );
        self.record(sequence, event.time, vec![hit], None);
    }

    /// How much it weighs. Where acts may be missing in the record, that nobody was seen says less.
    fn weight_of_swap(&self, has_hand: bool) -> (Severity, Confidence) {
        if has_hand {
            (Severity::High, Confidence::High)
        } else if self.sources.has_containers {
            (Severity::Low, Confidence::Low)
        } else if self.sources.is_full || self.lost.contains_key(&Plane::File) {
            (Severity::Medium, Confidence::Medium)
        } else {
            (Severity::High, Confidence::Medium)
        }
    }
}

fn of_path(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn of_object(file: &File) -> u64 {
    let mut hasher = DefaultHasher::new();
    (file.device, file.inode).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use crate::trace::{findings, report};

    fn told(step: &str, trace: &str) -> Vec<String> {
        let mut told = findings(step, "", trace);
        told.retain(|line| line.contains("build-tamper"));
        told
    }

    const STEP: &str = "gcc src/main.c\n";
    const COMPILE: &str = "1 > 5 launch /usr/bin/gcc gcc src/main.c
         5 > 6 launch /usr/lib/gcc/x86_64-linux-gnu/12/cc1 cc1 src/main.c
         6 sees /w/src/main.c blob:1 2";
    const FOUND: [&str; 1] = ["!build-tamper attack high /w/src/main.c"];

    #[test]
    fn a_source_that_nobody_was_seen_to_change() {
        assert_eq!(told(STEP, COMPILE), FOUND);
        let report = report(STEP, "", COMPILE);
        assert_eq!(
            report.findings[0].title,
            "cc1 takes in main.c, which is not what is checked in: no process of the job was seen to change it"
        );
        // Somebody who only shows it makes nothing of it.
        let shown = "1 > 5 launch /usr/bin/cat cat src/main.c\n5 sees /w/src/main.c blob:1 2";
        assert_eq!(told("cat src/main.c\n", shown), [""; 0]);
    }

    #[test]
    fn what_could_not_be_compared_is_no_finding_and_no_silence() {
        let gone = COMPILE.replace("blob:1 2", "blob:1 gone");
        assert_eq!(told(STEP, &gone), [""; 0]);
        let gaps = report(STEP, "", &gone).coverage.gaps;
        assert!(gaps.iter().any(|gap| gap.starts_with("1 sources were gone")), "{gaps:?}");
        // One that was made anew all the time is nobody's.
        let made = format!("1 create /w/src/main.c\n{gone}");
        let gaps = report(STEP, "", &made).coverage.gaps;
        assert!(!gaps.iter().any(|gap| gap.contains("were gone")), "{gaps:?}");
    }

    #[test]
    fn a_change_that_somebody_of_the_work_was_seen_to_make_is_quiet() {
        for (text, change) in [
            (
                "sed -i s/a/b/ src/main.c",
                "1 > 2 launch /usr/bin/sed sed -i s/a/b/ src/main.c\n2 create /w/src/sedX\n2 rename /w/src/sedX /w/src/main.c",
            ),
            (
                "git checkout v2",
                "1 > 2 launch /usr/bin/git git checkout v2\n2 delete /w/src/main.c\n2 create /w/src/main.c",
            ),
            (
                "git pull",
                "1 > 2 launch /usr/bin/git git pull\n2 > 3 launch /usr/lib/git-core/git git merge\n3 create /w/src/main.c",
            ),
            (
                "npm version patch",
                "1 > 2 launch /usr/bin/node node /usr/bin/npm version patch\n2 write /w/src/main.c",
            ),
            (
                "clang-format -i src/main.c",
                "1 > 2 launch /usr/bin/clang-format clang-format -i src/main.c\n2 write /w/src/main.c",
            ),
            ("protoc a.proto", "1 > 2 launch /usr/bin/protoc protoc a.proto\n2 write /w/src/main.c"),
            (
                "go generate ./...",
                "1 > 2 launch /usr/bin/go go generate ./...\n2 > 3 launch /w/gen gen\n3 write /w/src/main.c",
            ),
            (
                "make gen",
                "1 > 2 launch /usr/bin/make make gen\n2 > 3 launch /usr/bin/python3.11 python3 gen.py\n3 write /w/src/main.c",
            ),
            (
                "patch -p1 < a.patch",
                "1 > 2 launch /usr/bin/patch patch -p1\n2 create /w/src/x\n2 rename /w/src/x /w/src/main.c",
            ),
            ("mv new src", "1 > 2 launch /usr/bin/mv mv new src\n2 rename /w/new /w/src"),
            (
                "ln -sf b.c src/main.c",
                "1 > 2 launch /usr/bin/ln ln -sf b.c src/main.c\n2 symlink b.c /w/src/main.c",
            ),
        ] {
            let trace = format!("{change}\n{COMPILE}");
            assert_eq!(told(&format!("{text}\n{STEP}"), &trace), [""; 0], "{text}");
            // The same before the source was known explains nothing.
            let waits = "1 read /w/x\n".repeat(60);
            let late = format!("{change}\n{waits}{COMPILE} since 60");
            assert_eq!(told(&format!("{text}\n{STEP}"), &late), FOUND, "{text}");
        }
    }

    #[test]
    fn who_has_it_open_may_still_write_to_it() {
        let open = "1 > 2 launch /usr/bin/node node /usr/bin/tsc --watch\n2 create /w/src/main.c\n";
        let waits = "1 read /w/x\n".repeat(60);
        assert_eq!(
            told(&format!("tsc --watch\n{STEP}"), &format!("{open}{waits}{COMPILE} since 40 held 2")),
            [""; 0]
        );
    }

    #[test]
    fn another_object_than_the_one_that_was_put_there() {
        let trace = |object: &str| {
            format!(
                "1 > 2 launch /usr/bin/sed sed -i s/a/b/ src/main.c\n2 write /w/src/main.c is /w/src/main.c\n{COMPILE} is {object}"
            )
        };
        let step = format!("sed -i s/a/b/ src/main.c\n{STEP}");
        assert_eq!(told(&step, &trace("/w/src/main.c")), [""; 0]);
        assert_eq!(told(&step, &trace("/elsewhere/evil.c")), FOUND);
    }

    #[test]
    fn a_dependency_writes_by_another_name_of_the_object() {
        let trace = |folder: &str| {
            format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/node node x.js in:{folder}
                 3 write /var/cache/alias is /w/src/main.c
                 {COMPILE} is /w/src/main.c"
            )
        };
        let step = format!("npm ci\n{STEP}");
        assert_eq!(told(&step, &trace("/w/node_modules/a")), FOUND);
        assert_eq!(told(&step, &trace("/w")), [""; 0], "the project's own script");
    }

    #[test]
    fn a_dependency_puts_a_link_in_place_of_a_source() {
        let trace = |folder: &str, link: &str| {
            format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/node node x.js in:{folder}
                 3 delete /w/src/main.c
                 {link}
                 {COMPILE}"
            )
        };
        let step = format!("npm ci\n{STEP}");
        for link in ["3 symlink ../node_modules/a/evil.c /w/src/main.c", "3 symlink node_modules/a /w/src"] {
            assert_eq!(told(&step, &trace("/w/node_modules/a", link)), FOUND, "{link}");
            assert_eq!(told(&step, &trace("/w", link)), [""; 0], "{link}");
        }
    }

    #[test]
    fn something_is_mounted_over_a_source() {
        let by_recipe = format!(
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/mount mount --bind x src
             3 mount /w/x /w/src
             {COMPILE}"
        );
        assert_eq!(told(&format!("make test\n{STEP}"), &by_recipe), FOUND);
        let title = &report(&format!("make test\n{STEP}"), "", &by_recipe).findings[0].title;
        assert!(title.ends_with("mount mounted something over it"), "{title}");
        // By the text itself, and elsewhere.
        let by_text = by_recipe.replace("2 > 3", "1 > 3");
        assert_eq!(told(&format!("mount --bind x src\nmake test\n{STEP}"), &by_text), [""; 0]);
        let elsewhere = by_recipe.replace("/w/src\n", "/w/sr\n");
        assert!(told(&format!("make test\n{STEP}"), &elsewhere).len() == 1);
    }

    #[test]
    fn what_a_container_of_the_step_writes_is_not_seen() {
        let run = |by: &str| format!("{by}\n9 unix /run/docker.sock\n{COMPILE}");
        let step = format!("docker run x\nnpm ci\n{STEP}");
        let asked = run("1 > 9 launch /usr/bin/docker docker run x");
        assert_eq!(told(&step, &asked), ["build-tamper attack low /w/src/main.c"]);
        let others = run("1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node x.js in:/w/node_modules/a
             3 > 9 launch /usr/bin/docker docker run x");
        assert_eq!(told(&step, &others), FOUND);
    }

    #[test]
    fn a_tool_is_another_program_than_before() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let trace = |between: &str| {
            format!(
                "digest /usr/bin/gcc {one}
                 1 > 2 launch /usr/bin/gcc gcc a.c
                 {between}
                 digest /usr/bin/gcc {other}
                 1 > 3 launch /usr/bin/gcc gcc b.c"
            )
        };
        let step = "gcc a.c\napt-get install -y gcc\ngcc b.c\n";
        assert_eq!(told(step, &trace("1 read /w/x")), ["!build-tamper attack high /usr/bin/gcc"]);
        assert_eq!(
            told(
                "gcc a.c\nmake x\ngcc b.c\n",
                &trace(
                    "1 > 4 launch /usr/bin/make make x\n4 > 5 launch /usr/bin/mount mount\n5 mount /w/evil /usr/bin/gcc"
                )
            ),
            ["!build-tamper attack high /usr/bin/gcc"]
        );
        let installed = "1 > 4 launch /usr/bin/apt-get apt-get install -y gcc
             4 > 5 launch /usr/bin/dpkg dpkg --unpack gcc.deb
             5 create /usr/bin/gcc.dpkg-new
             5 rename /usr/bin/gcc.dpkg-new /usr/bin/gcc";
        assert_eq!(told(step, &trace(installed)), [""; 0]);
        // What the project makes is another one after each build.
        let own = trace("1 read /w/x")
            .replace("/usr/bin/gcc gcc", "/w/bin/gcc gcc")
            .replace("digest /usr/bin", "digest /w/bin");
        assert_eq!(told(step, &own), [""; 0]);
    }

    #[test]
    fn where_records_were_lost_it_weighs_less() {
        let mut inputs = crate::trace::inputs(STEP, COMPILE);
        let lost = crate::event::Activity::Lost {
            plane: crate::event::Plane::File,
            count: 3,
            since: crate::event::Timestamp(1),
        };
        let (time, actor) =
            (crate::event::Timestamp(1_800_000_000_000_000_001), crate::event::ProcessKey::HOST);
        let lost = crate::engine::Input::Event(crate::event::Event { time, actor, activity: lost });
        inputs.insert(inputs.len() - 2, lost);
        let mut engine =
            super::Engine::new(crate::policy::Policy::absent(), crate::engine::Settings::default());
        for (sequence, input) in (0..).zip(&inputs) {
            engine.accept(sequence, input);
        }
        let found = engine.finish().findings;
        let tamper = found.iter().find(|finding| finding.rule.0 == "build-tamper").expect("found");
        assert_eq!((tamper.severity.as_str(), tamper.fails), ("medium", false));
    }
}
