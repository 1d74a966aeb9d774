//! The processes of the job, as far as they were met: whose child each is, and what it was seen with.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use procfs::ProcError;
use procfs::process::Stat;

use super::Clock;
use super::links::Links;
use super::look::{self, Image};
use crate::event::{Access, Activity, Event, ExitStatus, File, Launch, ProcessKey, Running};
use crate::sockets::{self, Tables};

/// More new numbers than this at once are found by the list of all processes.
const MOST_NUMBERS: u32 = 256;
/// A new process is looked at again at every tick for so long: what it does first tells most.
const YOUNG: Duration = Duration::from_millis(30);
/// So many young ones at most; in a storm the regular look has to do.
const MOST_YOUNG: usize = 64;

/// One process of the job.
#[derive(Debug)]
struct Member {
    key: ProcessKey,
    /// The image that was told last; `None` before the first.
    image: Option<Image>,
    launch: Option<Launch>,
    /// What the kernel called it when its launch was told.
    called: String,
    /// What each descriptor led to at the last look.
    descriptors: HashMap<u32, String>,
    is_over: bool,
}

/// Everything that is known between two looks.
#[derive(Debug)]
pub(super) struct Tree {
    guard: ProcessKey,
    environment: Vec<String>,
    clock: Clock,
    job: BTreeMap<u32, Member>,
    /// The numbers of all that ever belonged to the job, to know their sessions and groups.
    leaders: HashMap<u32, ProcessKey>,
    /// The job's first process.
    root: Option<ProcessKey>,
    /// Processes of the host that are none of the job's.
    others: HashSet<u32>,
    /// Met, but their parent was gone in between.
    unsettled: Vec<u32>,
    young: Vec<(u32, Instant)>,
    newest: u32,
    own_descriptors: HashMap<u32, String>,
    mounts: HashMap<i32, u64>,
    links: Links,
    unreadable: BTreeSet<ProcessKey>,
    /// Processes and threads the host made before the start, and how many were met since.
    made_before: Option<u64>,
    met: u64,
}

impl Tree {
    pub(super) fn new(own: &Stat, environment: &[String], tables: Tables, clock: Clock) -> Self {
        let guard = look::key(own);
        let own_descriptors: HashMap<u32, String> =
            look::descriptors(guard.pid).unwrap_or_default().into_iter().collect();
        let mut tree = Self {
            guard,
            environment: environment.to_owned(),
            clock,
            job: BTreeMap::new(),
            leaders: HashMap::new(),
            root: None,
            others: sockets::processes().filter(|pid| *pid != guard.pid).collect(),
            unsettled: Vec::new(),
            young: Vec::new(),
            newest: look::newest().unwrap_or(0),
            own_descriptors,
            mounts: HashMap::new(),
            links: Links::new(tables),
            unreadable: BTreeSet::new(),
            made_before: made(),
            met: 0,
        };
        // A socket of the guard's own that the job inherits was there before.
        let inherited: Vec<u64> =
            tree.own_descriptors.values().filter_map(|link| sockets::inode(link)).collect();
        tree.links.seed(guard, &inherited);
        tree
    }

    /// Looks for new processes, and at those met a moment ago.
    pub(super) fn meet(&mut self, is_census: bool, events: &mut Vec<Event>) {
        let newest = look::newest().unwrap_or(self.newest);
        let more = newest.checked_sub(self.newest).filter(|more| *more <= MOST_NUMBERS);
        let mut found = std::mem::take(&mut self.unsettled);
        match more {
            Some(_) if !is_census => found.extend(self.newest + 1..=newest),
            _ => {
                let listed: HashSet<u32> = sockets::processes().collect();
                self.others.retain(|pid| listed.contains(pid));
                found.extend(&listed);
            }
        }
        self.newest = newest;
        found.sort_unstable();
        found.dedup();
        self.settle(&found, events);

        let now = Instant::now();
        self.young.retain(|(_, since)| now.duration_since(*since) < YOUNG);
        for (pid, _) in self.young.clone() {
            self.look_at(pid, events);
        }
        if !self.young.is_empty() {
            self.links.resolve(self.clock.now(), events);
        }
    }

    /// Looks at every process of the job.
    pub(super) fn visit(&mut self, events: &mut Vec<Event>) {
        for pid in self.job.keys().copied().collect::<Vec<_>>() {
            self.look_at(pid, events);
        }
        self.links.resolve(self.clock.now(), events);
    }

    /// Finds out whose these are.
    fn settle(&mut self, found: &[u32], events: &mut Vec<Event>) {
        let mut strangers: Vec<Stat> = Vec::new();
        for pid in found {
            if *pid == self.guard.pid || self.others.contains(pid) || self.job.contains_key(pid) {
                continue;
            }
            let Ok(stat) = look::stat(*pid) else { continue };
            self.met += 1;
            if !look::is_thread(&stat) {
                strangers.push(stat);
            }
        }
        strangers.sort_by_key(|stat| (stat.starttime, stat.pid));
        // Numbers start again from low ones, so a child may stand before its parent.
        loop {
            let before = strangers.len();
            strangers.retain(|stat| !self.is_settled(stat, events));
            if strangers.len() == before {
                break;
            }
        }
        self.unsettled = strangers.iter().map(|stat| key_pid(stat.pid)).collect();
    }

    fn is_settled(&mut self, stat: &Stat, events: &mut Vec<Event>) -> bool {
        let (pid, parent) = (key_pid(stat.pid), key_pid(stat.ppid));
        let leader = || {
            let leaders = [stat.pgrp, stat.session].map(key_pid);
            leaders.iter().find_map(|leader| self.leaders.get(leader)).copied()
        };
        let parent = if parent == self.guard.pid {
            // Our second child is an orphan of the job.
            match self.root {
                None => Some(self.guard),
                Some(root) => Some(leader().unwrap_or(root)),
            }
        } else if let Some(member) = self.job.get(&parent) {
            Some(member.key)
        } else if let Some(leader) = leader() {
            Some(leader)
        } else if parent == 0 || self.others.contains(&parent) {
            None
        } else {
            return false;
        };
        match parent {
            Some(parent) => self.join(stat, parent, events),
            None => {
                self.others.insert(pid);
            }
        }
        true
    }

    fn join(&mut self, stat: &Stat, parent: ProcessKey, events: &mut Vec<Event>) {
        let key = look::key(stat);
        if self.root.is_none() {
            self.root = Some(key);
        }
        // What the parent opened since the last look is the parent's own, and only inherited here.
        self.look_at(parent.pid, events);
        let inherited = match self.job.get(&parent.pid) {
            Some(above) if above.key == parent => above.descriptors.clone(),
            _ if parent == self.guard => self.own_descriptors.clone(),
            _ => HashMap::new(),
        };
        let member = Member {
            key,
            image: None,
            launch: None,
            called: String::new(),
            descriptors: inherited,
            is_over: false,
        };
        self.job.insert(key.pid, member);
        self.leaders.insert(key.pid, key);
        self.tell(parent, Activity::Fork { child: key }, events);
        if self.young.len() < MOST_YOUNG {
            self.young.push((key.pid, Instant::now()));
        }
        self.look_at(key.pid, events);
    }

    fn tell(&self, actor: ProcessKey, activity: Activity, events: &mut Vec<Event>) {
        events.push(Event { time: self.clock.now(), actor, activity });
    }

    fn look_at(&mut self, pid: u32, events: &mut Vec<Event>) {
        let Some(member) = self.job.get(&pid) else { return };
        let (key, was_over) = (member.key, member.is_over);
        let stat = match look::stat(pid) {
            Ok(stat) => stat,
            // It is there, and not ours to look into.
            Err(ProcError::PermissionDenied(_)) => {
                self.unreadable.insert(key);
                return;
            }
            Err(_) => {
                self.leave(key, was_over, events);
                return;
            }
        };
        if look::key(&stat) != key {
            // Another process by the same number.
            self.leave(key, was_over, events);
            self.unsettled.push(pid);
            return;
        }
        if look::is_over(&stat) {
            if let Some(member) = self.job.get_mut(&pid).filter(|_| !was_over) {
                member.is_over = true;
                self.tell(key, Activity::Exit { status: ExitStatus::Unknown }, events);
            }
            return;
        }
        // A process whose first thread has ended goes on, and shows neither image nor descriptors.
        if stat.state == 'Z' {
            self.unreadable.insert(key);
            return;
        }
        self.image(key, &stat, events);
        self.files(key, events);
    }

    fn leave(&mut self, key: ProcessKey, was_over: bool, events: &mut Vec<Event>) {
        self.job.remove(&key.pid);
        if !was_over {
            self.tell(key, Activity::Exit { status: ExitStatus::Unknown }, events);
        }
    }

    /// Tells a new image.
    fn image(&mut self, key: ProcessKey, stat: &Stat, events: &mut Vec<Event>) {
        let Some(member) = self.job.get_mut(&key.pid) else { return };
        let image = Image::of(stat);
        let is_known = match member.image {
            None => !look::has_launched(stat),
            Some(told) if image.is_readable() => told == image,
            // A stranger's image can't be told from the next one but by its name.
            Some(_) => member.called == stat.comm,
        };
        if is_known {
            return;
        }
        let Some(launch) = look::launch(key.pid, &self.environment) else { return };
        // All of it has to be of one image; else the next look tells.
        let is_whole = look::stat(key.pid)
            .is_ok_and(|now| look::key(&now) == key && Image::of(&now) == image && !look::is_ending(&now));
        if !is_whole {
            return;
        }
        if !image.is_readable() {
            self.unreadable.insert(key);
        }
        let is_new = member.launch.as_ref() != Some(&launch) || image.is_readable();
        member.image = Some(image);
        member.called.clone_from(&stat.comm);
        member.launch = Some(launch.clone());
        if is_new {
            self.tell(key, Activity::Launch(launch), events);
        }
    }

    /// Tells what was opened since the last look and still is.
    fn files(&mut self, key: ProcessKey, events: &mut Vec<Event>) {
        let Ok(descriptors) = look::descriptors(key.pid) else {
            // It may have ended just now, which the next look tells.
            if look::stat(key.pid).is_ok_and(|stat| look::key(&stat) == key && !look::is_ending(&stat)) {
                self.unreadable.insert(key);
            }
            return;
        };
        let Some(member) = self.job.get_mut(&key.pid) else { return };
        let before = std::mem::take(&mut member.descriptors);
        let known: HashSet<&String> = before.values().collect();
        let mut opened = Vec::new();
        for (number, link) in &descriptors {
            if let Some(inode) = sockets::inode(link) {
                self.links.note(inode, key);
            } else if before.get(number) != Some(link) && !known.contains(link) {
                opened.push((*number, link.clone()));
            }
        }
        member.descriptors = descriptors.into_iter().collect();
        for (number, link) in opened {
            if let Some(activity) = self.open(key.pid, number, link) {
                self.tell(key, activity, events);
            }
        }
    }

    fn open(&mut self, pid: u32, number: u32, link: String) -> Option<Activity> {
        if let Some(name) = link.strip_prefix("/memfd:") {
            let name = name.strip_suffix(" (deleted)").unwrap_or(name).to_owned();
            return Some(Activity::Memfd { name });
        }
        if !link.starts_with('/') {
            return None;
        }
        let opened = look::opened(pid, number)?;
        // A descriptor that only names the file reads nothing; a folder is no file.
        if opened.flags & (nix::libc::O_PATH | nix::libc::O_DIRECTORY) != 0 {
            return None;
        }
        let mode = opened.flags & nix::libc::O_ACCMODE;
        let access = Access {
            read: mode != nix::libc::O_WRONLY,
            write: mode != nix::libc::O_RDONLY,
            ..Access::default()
        };
        if !self.mounts.contains_key(&opened.mount) {
            self.mounts.extend(look::mounts(pid));
        }
        let device = self.mounts.get(&opened.mount).copied().unwrap_or(0);
        let (path, deleted) = look::without_mark(link);
        let inode = if device == 0 { 0 } else { opened.inode };
        let file = File { path, device, inode, deleted, ..File::default() };
        Some(Activity::Open { file, access })
    }

    /// Takes a tree that is there already: nothing it did before is told as new.
    pub(super) fn adopt(&mut self, root: u32) -> Vec<Running> {
        let stats: HashMap<u32, Stat> =
            sockets::processes().filter_map(|pid| Some((pid, look::stat(pid).ok()?))).collect();
        let is_below = |pid: u32| {
            let mut seen = HashSet::new();
            let mut next = pid;
            while next != root {
                if next == self.guard.pid || !seen.insert(next) {
                    return false;
                }
                let Some(stat) = stats.get(&next) else { return false };
                next = key_pid(stat.ppid);
            }
            true
        };
        let mut members: Vec<&Stat> = stats
            .iter()
            .filter(|(pid, stat)| is_below(**pid) && !look::is_over(stat))
            .map(|(_, stat)| stat)
            .collect();
        members.sort_by_key(|stat| (stat.starttime, stat.pid));
        self.others = stats.keys().copied().filter(|pid| *pid != self.guard.pid).collect();
        let mut running = Vec::new();
        for stat in members {
            let key = look::key(stat);
            let launch = look::launch(key.pid, &self.environment);
            let descriptors: HashMap<u32, String> =
                look::descriptors(key.pid).unwrap_or_default().into_iter().collect();
            let held: Vec<u64> = descriptors.values().filter_map(|link| sockets::inode(link)).collect();
            self.links.seed(key, &held);
            let member = Member {
                key,
                image: Some(Image::of(stat)),
                launch: launch.clone(),
                called: stat.comm.clone(),
                descriptors,
                is_over: false,
            };
            let parent = self.job.get(&key_pid(stat.ppid)).map(|above| above.key);
            self.others.remove(&key.pid);
            self.job.insert(key.pid, member);
            // The root's own session and group may be the host's as well.
            if key.pid != root {
                self.leaders.insert(key.pid, key);
            }
            self.root.get_or_insert(key);
            running.push(Running { process: key, parent: parent.filter(|_| key.pid != root), launch });
        }
        running
    }

    /// What this run showed that it could not see.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if let (Some(before), Some(now)) = (self.made_before, made()) {
            let all = now.saturating_sub(before);
            let missed = all.saturating_sub(self.met);
            if missed > 0 {
                gaps.push(format!(
                    "{missed} of the {all} processes and threads that this host started meanwhile, the job's and others, were gone before they could be looked at, or are hidden"
                ));
            }
        }
        if !self.unreadable.is_empty() {
            gaps.push(format!(
                "{} processes of the job could not be looked into: they have other rights than the guard, or their first thread has ended",
                self.unreadable.len()
            ));
        }
        gaps
    }
}

fn key_pid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

/// Processes and threads that this host made since it was started.
fn made() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()
}
