//! The sensor for everybody: it looks at `/proc` again and again, and needs no rights.
//!
//! ```text
//!  /proc/loadavg --> a new pid? --> tree.rs: whose child --> look.rs: image, files --> a queue --> drain()
//!  every few ms  --> each process of the job again       --> links.rs: sockets     -->
//! ```
//! What begins and ends between two looks is never seen, so all it reaches is `polled`, and a run with it
//! can't be `clean`. Its limits are told with the shares that were measured.
//!
//! The processes of a job whose parent ended fall to this process and not to init (a child subreaper), so a
//! double fork leads nowhere. The numbers of new processes are read from the kernel's own counter, which costs
//! next to nothing; the list of all processes is only read now and then, to be sure.

mod links;
mod look;
mod tree;

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Sensor, Unavailable};
use crate::event::{Event, ProcessKey, Reach, Running, Sight, Timestamp};
use crate::sockets::{self, Tables};
use tree::Tree;

/// How often the kernel's counter of process numbers is read.
const TICK: Duration = Duration::from_micros(500);
/// The least time between two looks at every process of the job.
const PASS: Duration = Duration::from_millis(2);
/// The most time between them; only thousands of processes come near it.
const LONGEST_PASS: Duration = Duration::from_secs(1);
/// Between two looks this many times as long as the last one took: the job keeps the machine.
const IDLE: u32 = 4;
/// How often the list of all processes is read.
const CENSUS: Duration = Duration::from_millis(250);
/// A sensor that has not come round for so long hangs, and sees nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A pause this long is told.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the sensor cannot watch here.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error("/proc cannot be read: {0}\nhint: mount it, for example with `mount -t proc proc /proc`")]
    NoProc(String),
    #[error("there is no process {root} to watch")]
    NoTree { root: u32 },
    #[error("the recorder could not set itself up: {0}")]
    System(#[from] std::io::Error),
}

/// A poller at work; it stops when dropped.
#[derive(Debug)]
pub struct Procfs {
    sight: Sight,
    guard: ProcessKey,
    shared: Arc<Shared>,
    poller: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    tree: Mutex<Tree>,
    queue: Mutex<Vec<Event>>,
    clock: Clock,
    is_ending: AtomicBool,
    /// When the poller last came round, and its longest pause: nanoseconds since the start.
    beat: AtomicU64,
    longest: AtomicU64,
}

/// The time of day, which no one can set back while we watch.
#[derive(Clone, Copy, Debug)]
struct Clock {
    unix: u64,
    since: Instant,
}

impl Clock {
    fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix: nanoseconds(unix), since: Instant::now() }
    }

    fn now(self) -> Timestamp {
        Timestamp(self.unix + self.elapsed())
    }

    fn elapsed(self) -> u64 {
        nanoseconds(self.since.elapsed())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Procfs {
    /// Watches every process that this one forks from now on, and all that descend from them.
    ///
    /// `environment` names the variables to keep at a launch.
    pub fn start(environment: &[String]) -> Result<Self, SensorError> {
        let clock = Clock::new();
        let own = look::stat(std::process::id()).map_err(|error| SensorError::NoProc(error.to_string()))?;
        let tables = Tables::new();
        let hooks = [
            ("descriptors", sees_descriptors()),
            ("processes", sockets::processes().any(|pid| pid == std::process::id())),
            ("process-numbers", look::newest().is_some()),
            ("tcp-sockets", tables.is_proved()),
            ("udp-sockets", sees_udp(tables)),
        ];
        if let Some((name, _)) = hooks.iter().find(|(name, is_seen)| !is_seen && *name != "tcp-sockets") {
            return Err(SensorError::NoProc(format!("{name} of our own are not there")));
        }
        // Orphans of the job become our children.
        nix::sys::prctl::set_child_subreaper(true).map_err(std::io::Error::from)?;
        let guard = look::key(&own);
        let sight = Sight {
            sensor: "procfs".to_owned(),
            tier: "polling (/proc and the socket tables)".to_owned(),
            process: Reach::Polled,
            file: Reach::Polled,
            egress: Reach::Polled,
            hooks: hooks.iter().map(|(name, is_seen)| ((*name).to_owned(), *is_seen)).collect(),
            gaps: gaps(tables),
        };
        let shared = Arc::new(Shared {
            tree: Mutex::new(Tree::new(&own, environment, tables, clock)),
            queue: Mutex::default(),
            clock,
            is_ending: AtomicBool::new(false),
            beat: AtomicU64::new(clock.elapsed()),
            longest: AtomicU64::new(0),
        });
        let poller = std::thread::Builder::new().name("guard-poller".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.poll()
        })?;
        Ok(Self { sight, guard, shared, poller: Some(poller) })
    }

    fn silence(&self) -> u64 {
        self.shared.clock.elapsed().saturating_sub(self.shared.beat.load(Ordering::Relaxed))
    }
}

impl Sensor for Procfs {
    fn sight(&self) -> &Sight {
        &self.sight
    }

    fn guard(&self) -> ProcessKey {
        self.guard
    }

    fn is_watching(&self) -> bool {
        self.silence() < nanoseconds(PATIENCE)
            && self.poller.as_ref().is_some_and(|poller| !poller.is_finished())
    }

    fn adopt(&mut self, root: u32) -> Result<Vec<Running>, Unavailable> {
        let running = locked(&self.shared.tree).adopt(root);
        if running.is_empty() { Err(SensorError::NoTree { root }.into()) } else { Ok(running) }
    }

    fn drain(&mut self, to_the_end: bool) -> Vec<Event> {
        if to_the_end {
            self.shared.last_look();
        }
        std::mem::take(&mut *locked(&self.shared.queue))
    }

    fn gaps(&mut self) -> Vec<String> {
        let mut gaps = match self.shared.tree.try_lock() {
            Ok(tree) => tree.gaps(),
            Err(_) => Vec::new(),
        };
        let longest = Duration::from_nanos(self.shared.longest.load(Ordering::Relaxed).max(self.silence()));
        if longest >= PAUSE {
            gaps.push(format!("the guard did not look at all for {} ms", longest.as_millis()));
        }
        gaps
    }
}

impl Drop for Procfs {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        if let Some(poller) = self.poller.take()
            && self.silence() < nanoseconds(PATIENCE)
        {
            let _ = poller.join();
        }
    }
}

impl Shared {
    fn poll(&self) {
        let mut next_pass = Instant::now();
        let mut next_census = next_pass;
        while !self.is_ending.load(Ordering::Relaxed) {
            let now = Instant::now();
            let mut events = Vec::new();
            {
                let mut tree = locked(&self.tree);
                let is_census = now >= next_census;
                if is_census {
                    next_census = now + CENSUS;
                }
                tree.meet(is_census, &mut events);
                if now >= next_pass {
                    tree.visit(&mut events);
                    next_pass = Instant::now() + (now.elapsed() * IDLE).clamp(PASS, LONGEST_PASS);
                }
            }
            self.hand_over(events);
            let elapsed = self.clock.elapsed();
            let pause = elapsed.saturating_sub(self.beat.swap(elapsed, Ordering::Relaxed));
            self.longest.fetch_max(pause, Ordering::Relaxed);
            std::thread::sleep(TICK);
        }
    }

    /// One more look by the caller, unless the poller hangs with the tree in its hands.
    fn last_look(&self) {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            let mut tree = match self.tree.try_lock() {
                Ok(tree) => tree,
                Err(TryLockError::Poisoned(error)) => error.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let mut events = Vec::new();
            tree.meet(true, &mut events);
            tree.visit(&mut events);
            self.hand_over(events);
            return;
        }
    }

    fn hand_over(&self, mut events: Vec<Event>) {
        if !events.is_empty() {
            locked(&self.queue).append(&mut events);
        }
    }
}

/// A thread that panicked leaves its data whole: every change is one push.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sees_descriptors() -> bool {
    let Ok(file) = std::fs::File::open("/proc/self/stat") else { return false };
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).is_ok()
}

fn sees_udp(tables: Tables) -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    let Ok(own) = socket.local_addr() else { return false };
    tables.own().iter().any(|entry| entry.local == own)
}

/// What this sensor does not see here, for people.
fn gaps(tables: Tables) -> Vec<String> {
    let mut gaps: Vec<String> = GAPS.iter().map(ToString::to_string).collect();
    if !tables.is_proved() {
        gaps.push("the kernel's socket diagnosis is not to be had here: TCP is read from /proc/net, which is slower".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        gaps.push("the guard runs without root: what programs with other rights open is not seen (sudo and other set-user-id programs), and a job of the same user can stop or end the guard".to_owned());
    }
    if look::stat(1).is_err() {
        gaps.push("/proc hides other users' processes here (hidepid): what the job runs as another user is not seen at all".to_owned());
    }
    gaps
}

const GAPS: &[&str] = &[
    "what is over between two looks; measured on two cores with Linux 6.18, debug build, load 1 to 8: of 1,000 runs of `true` 31 to 69 % were seen with their program; of files held open for 0, 1 and 10 ms 0, 80 to 95 and 99 to 100 %; of connections held for 0, 1 and 10 ms 5 to 25, 25 to 85 and 85 to 100 %; all files and connections that were held for 100 ms",
    "reads and writes themselves, and all that leaves no open descriptor: renaming, removing, linking, modes and owners of files, mounts, namespaces, reaching into other processes",
    "datagrams sent without connecting, DNS questions and answers, server names in TLS: destinations are known by address alone, so an allow list's host names are not compared (an entry for the port lets an address pass), and a denied host name stops nothing",
    "a connection that leaves from a port on which the job listens counts as one that came in",
    "how a process ended, and images that it ran before the one seen",
];
