//! Which sockets of the job are connected, and to whom.
//!
//! A descriptor gives a socket's number, and the tables of its network namespace give the other end. The tables
//! are read only while the job holds a socket whose other end is not known, and less and less often for one that
//! stays without (a unix socket is in no table).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::event::{Activity, Event, ProcessKey, Timestamp, Transport};
use crate::sockets::{self, Entry, Tables};

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);
/// A socket that nobody was seen with for so long is closed.
const FORGET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Links {
    tables: Tables,
    held: HashMap<u64, Held>,
    /// Ports that take connections, by network namespace.
    listening: HashMap<u64, HashSet<u16>>,
}

#[derive(Debug)]
struct Held {
    /// Who was seen with it first.
    holder: ProcessKey,
    told: Option<std::net::SocketAddr>,
    is_settled: bool,
    due: Instant,
    wait: Duration,
    seen: Instant,
}

impl Links {
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, held: HashMap::new(), listening: HashMap::new() }
    }

    /// A process has a descriptor for this socket.
    pub(super) fn note(&mut self, inode: u64, holder: ProcessKey) {
        let now = Instant::now();
        let held = self.held.entry(inode).or_insert_with(|| Held {
            holder,
            told: None,
            is_settled: false,
            due: now,
            wait: SHORTEST,
            seen: now,
        });
        held.seen = now;
    }

    /// These sockets were there before: who they are connected to now is no act of the job.
    pub(super) fn seed(&mut self, holder: ProcessKey, inodes: &[u64]) {
        if inodes.is_empty() {
            return;
        }
        for inode in inodes {
            self.note(*inode, holder);
        }
        // What this finds is remembered as told, and is told to nobody.
        self.resolve(Timestamp::default(), &mut Vec::new());
    }

    /// Looks up the other end of every socket that is due, and tells what is new.
    pub(super) fn resolve(&mut self, time: Timestamp, events: &mut Vec<Event>) {
        let now = Instant::now();
        self.held.retain(|_, held| now.duration_since(held.seen) < FORGET);
        let due: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, held)| !held.is_settled && held.due <= now)
            .map(|(inode, _)| *inode)
            .collect();
        if due.is_empty() {
            return;
        }
        let own = sockets::namespace(None);
        let mut spaces: HashMap<u64, HashMap<u64, Entry>> = HashMap::new();
        let mut space_of: HashMap<u32, Option<u64>> = HashMap::new();
        for inode in due {
            let Some(held) = self.held.get_mut(&inode) else { continue };
            let pid = held.holder.pid;
            let space = *space_of.entry(pid).or_insert_with(|| sockets::namespace(Some(pid)).or(own));
            let Some(space) = space else { continue };
            let listening = self.listening.entry(space).or_default();
            let entries = spaces.entry(space).or_insert_with(|| {
                let entries = if Some(space) == own { self.tables.own() } else { Tables::of(pid) };
                listening
                    .extend(entries.iter().filter(|entry| entry.listens).map(|entry| entry.local.port()));
                entries.into_iter().map(|entry| (entry.inode, entry)).collect()
            });
            held.due = now + held.wait;
            held.wait = (held.wait * 2).min(LONGEST);
            let Some(entry) = entries.get(&inode) else { continue };
            if entry.listens {
                held.is_settled = true;
                continue;
            }
            let Some(remote) = entry.remote else { continue };
            // TCP has one other end for good; UDP may get another.
            held.is_settled = entry.transport == Transport::Tcp;
            let came_in = entry.transport == Transport::Tcp && listening.contains(&entry.local.port());
            if held.told != Some(remote) && !came_in {
                held.told = Some(remote);
                let activity = Activity::Connect { to: remote, transport: entry.transport };
                events.push(Event { time, actor: held.holder, activity });
            }
        }
    }
}
