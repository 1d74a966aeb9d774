//! The recorder for kernels without trampolines: tracepoints and cgroup hooks (tier T2).
//!
//! ```text
//!  sensor.bpf.c --> two rings --> record.rs --> a queue, in the order of the boot clock --> drain()
//! ```
//! The kernel half decides on scope, the reader thread empties the rings every tick, and
//! `drain` hands out what can no longer be overtaken.

mod adopt;
mod canary;
mod health;
mod hooks;
mod record;
mod ring;
mod still_open;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, PrintLevel, ProgramInput};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};

use super::{Sensor, Unavailable};
use crate::event::{Activity, Event, Plane, ProcessKey, Reach, Running, Sight, Timestamp};
use health::Anchor;
use hooks::{Hook, Tells};
use record::{Clock, Decoded, Settings};
use ring::Ring;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sensor.bpf.o"));

/// How often the rings are emptied, and how long an event is held back for older ones that
/// another processor has not handed over yet.
const TICK: Duration = Duration::from_millis(20);
const TICK_NANOSECONDS: u64 = 20_000_000;
/// Thousands of launches; a launch takes some 400 bytes.
const LINEAGE_RING_BYTES: u32 = 4 << 20;
/// Past this many waiting events the ring of files and egress fills up instead, and the kernel counts what is
/// lost. Some 20 MiB; lineage is always taken.
const QUEUE_LIMIT: usize = 65_536;
/// Taken at once however many wait: time then passes in the records, and the oldest can be handed out.
const LEAST_TAKEN: usize = 4_096;
/// How often the kernel is asked whether each hook is still there.
const HEALTH_TICK: Duration = Duration::from_secs(1);
/// How many folders the kernel half keeps in mind: `FAMILIAR` in `sensor.h`.
const FAMILIAR: usize = 2;
const CANARY_DEADLINE: Duration = Duration::from_millis(400);

/// How to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring for files and egress: a power of two of at least a page.
    pub ring_bytes: u32,
    /// Environment variables to keep at exec: at most 32, each name at most 47 bytes.
    pub environment: Vec<String>,
    /// Folders below which a file that is read is told by its own path alone, not also by the name it was asked for by:
    /// the first two that can be opened.
    pub familiar: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, environment: Vec::new(), familiar: Vec::new() }
    }
}

/// Why the recorder cannot watch here.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error(
        "not permitted to load kernel programs\nhint: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    )]
    NotPermitted,
    #[error(
        "the kernel does not tell its types (no /sys/kernel/btf/vmlinux)\nhint: use a kernel built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoTypes,
    #[error("no cgroup2 file system is mounted\nhint: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup,
    #[error(
        "{ring_bytes} bytes is not a ring size, or too many variables are to be kept\nhint: a power of two of at least a page; at most 32 names of 47 bytes"
    )]
    Options { ring_bytes: u32 },
    #[error(
        "the kernel refused `{what}`: {error}\n{log}hint: this tier needs Linux 5.17 or later, with tracepoints and cgroup hooks"
    )]
    Refused { what: String, error: libbpf_rs::Error, log: String },
    #[error(
        "the canary of hook `{hook}` was not seen\nhint: something on this host keeps the hook from firing"
    )]
    Unproved { hook: &'static str },
    #[error(
        "a running job cannot be taken into scope from inside a pid namespace\nhint: start the guard outside the container, or wrap the command with `run`"
    )]
    PidNamespace,
    #[error("there is no process {root} to watch")]
    NoTree { root: u32 },
    #[error("the recorder could not set itself up: {0}")]
    System(#[from] std::io::Error),
}

/// A recorder at work; it stops watching when dropped.
#[derive(Debug)]
pub struct Ebpf {
    sight: Sight,
    guard: ProcessKey,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    object: Object,
    /// The kernel half knows them by address, so they must stay.
    _familiar: Vec<File>,
    anchors: Vec<Anchor>,
    checked: Instant,
    lost: [u64; Plane::ALL.len()],
    looked: Timestamp,
}

#[derive(Debug)]
struct Shared {
    rings: Mutex<Vec<Ring>>,
    queue: Mutex<Queue>,
    clock: Clock,
    is_ending: AtomicBool,
    is_paused: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    events: Vec<Event>,
    /// The newest time that was read from a ring in which records were left.
    behind: Option<Timestamp>,
    /// Hooks seen in order, until the canaries are through.
    proof: Option<Vec<Seen>>,
    unreadable: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    hook: Hook,
    is_compat: bool,
    actor: ProcessKey,
}

impl Ebpf {
    /// Watches every process that this one forks from now on, and all that descend from them.
    pub fn start(options: &Options) -> Result<Self, SensorError> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(SensorError::NoTypes);
        }
        if !is_permitted() {
            return Err(SensorError::NotPermitted);
        }
        let cgroup = File::open(cgroup_root().ok_or(SensorError::NoCgroup)?)?;
        let (object, familiar, anchors) = with_log(|| {
            let object = load(options)?;
            let familiar = settle(&object, &options.familiar)?;
            let anchors = attach(&object, &cgroup)?;
            Ok::<_, SensorError>((object, familiar, anchors))
        })?;

        let clock = Clock {
            boot_in_unix: nanoseconds(ClockId::CLOCK_REALTIME) - nanoseconds(ClockId::CLOCK_BOOTTIME),
        };
        let queue = Mutex::new(Queue { proof: Some(Vec::new()), ..Queue::default() });
        let rings = Mutex::new(rings(&object)?);
        let shared = Arc::new(Shared {
            rings,
            queue,
            clock,
            is_ending: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
        });
        let (sight, guard) = prove(&shared)?;
        let epoll = edges(&object)?;
        let reader = std::thread::Builder::new().name("guard-reader".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.read(&epoll)
        })?;
        let looked = clock.timestamp(nanoseconds(ClockId::CLOCK_BOOTTIME));
        let mut sensor = Self {
            sight,
            guard,
            shared,
            reader: Some(reader),
            object,
            _familiar: familiar,
            anchors,
            checked: Instant::now(),
            lost: [0; 3],
            looked,
        };
        // What was lost before there was anything to watch is no loss.
        sensor.lost = sensor.lost_so_far();
        if sensor.still_open().is_err() {
            sensor.sight.gaps.push("how much a connection carried that is still open at the end".to_owned());
        }
        Ok(sensor)
    }

    /// Hooks that were taken away since the start.
    pub fn lost_hooks(&self) -> Vec<&str> {
        self.anchors.iter().filter(|anchor| anchor.is_gone()).map(|anchor| anchor.name.as_str()).collect()
    }

    /// Asks the kernel for every hook, and names those that have gone since the last look.
    pub fn health(&mut self) -> Vec<String> {
        self.checked = Instant::now();
        self.anchors
            .iter_mut()
            .filter_map(|anchor| anchor.is_newly_gone().then(|| anchor.name.clone()))
            .collect()
    }

    /// Each hook with the kernel's number for what holds it there.
    pub fn hooks(&self) -> impl Iterator<Item = (&str, u32)> {
        self.anchors.iter().filter_map(|anchor| Some((anchor.name.as_str(), anchor.id()?)))
    }

    /// Stops or resumes emptying the rings, to test what an overwhelmed reader loses.
    #[doc(hidden)]
    pub fn set_paused(&self, is_paused: bool) {
        self.shared.is_paused.store(is_paused, Ordering::Relaxed);
    }

    fn lost_so_far(&self) -> [u64; Plane::ALL.len()] {
        let mut lost = [0; Plane::ALL.len()];
        let Some(map) = self.object.maps().find(|map| map.name() == "lost") else { return lost };
        for (plane, sum) in (0_u32..).zip(&mut lost) {
            if let Ok(Some(counts)) = map.lookup_percpu(&plane.to_ne_bytes(), MapFlags::ANY) {
                *sum = counts
                    .iter()
                    .filter_map(|count| count.first_chunk())
                    .map(|count| u64::from_ne_bytes(*count))
                    .sum();
            }
        }
        lost
    }
}

impl Sensor for Ebpf {
    fn sight(&self) -> &Sight {
        &self.sight
    }

    fn guard(&self) -> ProcessKey {
        self.guard
    }

    /// Whether every hook was in place at the last look, and the reader is there to empty the rings.
    fn lost_hooks(&self) -> Vec<&str> {
        Self::lost_hooks(self)
    }

    fn is_watching(&self) -> bool {
        self.lost_hooks().is_empty() && self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
    }

    fn is_behind(&self) -> bool {
        locked(&self.shared.queue).behind.is_some()
    }

    fn adopt(&mut self, root: u32) -> Result<Vec<Running>, Unavailable> {
        Ok(self.take_over(root)?)
    }

    fn drain(&mut self, to_the_end: bool) -> Vec<Event> {
        let now = self.shared.clock.timestamp(nanoseconds(ClockId::CLOCK_BOOTTIME));
        self.shared.empty_rings(if to_the_end { usize::MAX } else { QUEUE_LIMIT });
        let mut queue = locked(&self.shared.queue);
        // What is left in a ring may be as old as the newest record that was taken from it.
        let newest = queue.behind.unwrap_or(now).min(now);
        let horizon =
            Timestamp(if to_the_end { u64::MAX } else { newest.0.saturating_sub(TICK_NANOSECONDS) });
        queue.events.sort_by_key(|event| (event.time, rank(&event.activity)));
        let ready = queue.events.partition_point(|event| event.time < horizon);
        let mut events: Vec<Event> = queue.events.drain(..ready).collect();
        // A record we cannot read is lost too; it can only be our own mistake.
        let unreadable = std::mem::take(&mut queue.unreadable);
        drop(queue);

        let lost = self.lost_so_far();
        for (index, plane) in Plane::ALL.into_iter().enumerate() {
            let extra = if plane == Plane::Process { unreadable } else { 0 };
            let count = lost[index].saturating_sub(self.lost[index]) + extra;
            if count > 0 {
                let activity = Activity::Lost { plane, count, since: self.looked };
                events.push(Event { time: now, actor: ProcessKey::HOST, activity });
            }
        }
        self.lost = lost;
        self.looked = now;
        if to_the_end {
            // A host that refuses the walk has told less of what is open, not wrong things.
            events.extend(self.still_open().unwrap_or_default());
        }
        if to_the_end || self.checked.elapsed() >= HEALTH_TICK {
            for hook in self.health() {
                let activity = Activity::HookLost { hook };
                events.push(Event { time: now, actor: ProcessKey::HOST, activity });
            }
        }
        events
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        // Each hook waits for the kernel's grace period when it goes; together they wait once.
        std::thread::scope(|scope| {
            for anchor in self.anchors.drain(..) {
                scope.spawn(move || drop(anchor));
            }
        });
    }
}

/// In one nanosecond a process begins before it acts and ends after.
fn rank(activity: &Activity) -> u8 {
    match activity {
        Activity::Fork { .. } => 0,
        Activity::Launch(_) => 1,
        Activity::Exit { .. } => 3,
        _ => 2,
    }
}

impl Shared {
    fn read(&self, epoll: &Epoll) {
        let mut woken = [EpollEvent::empty(); 2];
        let tick = EpollTimeout::try_from(TICK).unwrap_or(EpollTimeout::ZERO);
        while !self.is_ending.load(Ordering::Relaxed) {
            // Whether by the tick or by a full ring does not matter.
            let _ = epoll.wait(&mut woken, tick);
            if locked(&self.queue).events.len() < QUEUE_LIMIT {
                self.empty_rings(QUEUE_LIMIT);
            }
        }
    }

    /// Takes lineage whole, and of the rest what fits into a queue of this many events.
    fn empty_rings(&self, limit: usize) {
        if self.is_paused.load(Ordering::Relaxed) {
            return;
        }
        for (is_lineage, ring) in [true, false].into_iter().zip(locked(&self.rings).iter_mut()) {
            let room = limit.saturating_sub(locked(&self.queue).events.len()).max(LEAST_TAKEN);
            let mut newest = None;
            let is_empty = ring.consume(if is_lineage { usize::MAX } else { room }, |bytes| {
                let decoded = record::decode(bytes, self.clock);
                let time =
                    decoded.as_ref().and_then(|decoded| decoded.event.as_ref()).map(|event| event.time);
                newest = newest.max(time);
                locked(&self.queue).take(decoded);
            });
            if !is_lineage {
                let mut queue = locked(&self.queue);
                // Where nothing read so far has a time, nothing may be handed out yet.
                queue.behind = (!is_empty).then(|| newest.or(queue.behind).unwrap_or_default());
            }
        }
    }
}

/// A reader that panicked leaves its data whole: every change is one push.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Both clocks exist on every kernel this tier loads on.
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

// ---- loading -------------------------------------------------------------------

/// libbpf has one logger for the whole program; starts therefore take turns.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static TURN: Mutex<()> = Mutex::new(());

fn refused(what: impl Into<String>, error: libbpf_rs::Error) -> SensorError {
    let lines = locked(&LOG);
    let tail = lines.iter().skip(lines.len().saturating_sub(20)).map(String::as_str).collect();
    SensorError::Refused { what: what.into(), error, log: tail }
}

fn with_log<T>(work: impl FnOnce() -> T) -> T {
    let _turn = locked(&TURN);
    let previous = libbpf_rs::set_print(Some((PrintLevel::Warn, |_, line| locked(&LOG).push(line))));
    let result = work();
    libbpf_rs::set_print(previous);
    locked(&LOG).clear();
    result
}

fn load(options: &Options) -> Result<Object, SensorError> {
    let ring_bytes = options.ring_bytes;
    let processors = libbpf_rs::num_possible_cpus().map_err(|error| refused("count of processors", error))?;
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let settings = Settings::new(LINEAGE_RING_BYTES, ring_bytes, &options.environment)
        .filter(|_| ring_bytes.is_power_of_two() && ring_bytes >= 4096)
        .ok_or(SensorError::Options { ring_bytes })?;
    // Older kernels lack a tracepoint of io_uring, and refuse the whole object for it.
    let object = load_object(&settings, ring_bytes, processors, true)
        .or_else(|_| load_object(&settings, ring_bytes, processors, false))?;
    if let Some(program) = object.progs_mut().find(|program| program.name() == "whoami") {
        program.test_run(ProgramInput::default()).map_err(|error| refused("whoami", error))?;
    }
    Ok(object)
}

/// Makes folders known to the kernel half, and returns what holds them in place.
fn settle(object: &Object, folders: &[PathBuf]) -> Result<Vec<File>, SensorError> {
    let open = |folder: &PathBuf| {
        let flags = nix::libc::O_PATH | nix::libc::O_DIRECTORY;
        File::options().read(true).custom_flags(flags).open(folder).ok()
    };
    let files: Vec<File> = folders.iter().filter_map(open).take(FAMILIAR).collect();
    let descriptors =
        files.iter().map(std::os::fd::AsRawFd::as_raw_fd).chain(std::iter::repeat(-1)).take(FAMILIAR);
    let mut context: Vec<u8> = descriptors.flat_map(i32::to_ne_bytes).collect();
    let program = object.progs_mut().find(|program| program.name() == "settle");
    let program = program.ok_or(SensorError::Options { ring_bytes: 0 })?;
    let input = ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
    program.test_run(input).map_err(|error| refused("settle", error))?;
    Ok(files)
}

fn load_object(
    settings: &Settings,
    ring_bytes: u32,
    processors: u32,
    with_optional: bool,
) -> Result<Object, SensorError> {
    let mut open =
        ObjectBuilder::default().open_memory(OBJECT).map_err(|error| refused("recorder", error))?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let sized = match name.as_str() {
            "processes" => map.set_max_entries(LINEAGE_RING_BYTES),
            "activity" => map.set_max_entries(ring_bytes),
            "launches" => map.set_max_entries(processors),
            name if name.ends_with(".rodata") => map.set_initial_value(settings.bytes()),
            _ => Ok(()),
        };
        sized.map_err(|error| refused(name, error))?;
    }
    for mut program in open.progs_mut().filter(|program| is_optional(&program.name().to_string_lossy())) {
        program.set_autoload(with_optional);
    }
    open.load().map_err(|error| refused("recorder", error))
}

fn is_optional(program: &str) -> bool {
    program.starts_with("on_ring") || program == "on_signal"
}

fn attach(object: &Object, cgroup: &File) -> Result<Vec<Anchor>, SensorError> {
    let mut anchors = Vec::new();
    // Forks last: nothing is in scope, and so nothing is recorded, before the first fork is.
    for program in object.progs_mut().filter(|program| program.name() != "on_fork") {
        let name = program.name().to_string_lossy().into_owned();
        let section = program.section().to_string_lossy().into_owned();
        let link = match section.as_str() {
            "syscall" | "iter/task" | "iter/bpf_sk_storage_map" => continue,
            section if section.starts_with("cgroup") => program.attach_cgroup(cgroup.as_raw_fd()),
            _ => program.attach(),
        };
        match link {
            Ok(link) => anchors.push(Anchor::new(&name, link)),
            // Not loaded; it shows as a hook without proof.
            Err(_) if is_optional(&name) => {}
            Err(error) => return Err(refused(name, error)),
        }
    }
    if let Some(program) = object.progs_mut().find(|program| program.name() == "on_fork") {
        let link = program.attach().map_err(|error| refused("on_fork", error))?;
        anchors.push(Anchor::new("on_fork", link));
    }
    Ok(anchors)
}

/// Both rings, lineage first.
fn rings(object: &Object) -> std::io::Result<Vec<Ring>> {
    let map = |name: &str| object.maps().find(|map| map.name() == name);
    let rings = [map("processes"), map("activity")];
    rings.iter().flatten().map(|map| Ring::new(map.as_fd(), map.max_entries() as usize)).collect()
}

/// Wakes on each signal of a full ring, once. A level-triggered wait would return at once as
/// long as there is anything in the ring, tick or not.
fn edges(object: &Object) -> Result<Epoll, SensorError> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(std::io::Error::from)?;
    for map in object.maps().filter(|map| map.name() == "processes" || map.name() == "activity") {
        epoll
            .add(map.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))
            .map_err(std::io::Error::from)?;
    }
    Ok(epoll)
}

impl Queue {
    fn take(&mut self, record: Option<Decoded>) {
        let Some(Decoded { hook, is_compat, event, actor }) = record else {
            self.unreadable += 1;
            return;
        };
        if let Some(proof) = &mut self.proof {
            proof.push(Seen { hook, is_compat, actor });
        }
        let Some(event) = event else { return };
        if !matches!(&event.activity, Activity::Answer { name, .. } if name == canary::NAME) {
            self.events.push(event);
        }
    }
}

fn is_permitted() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability| effective & capability != 0;
    has(SYS_ADMIN) || (has(BPF) && has(PERFMON)) && has(NET_ADMIN)
}

/// The first cgroup2 mount: /sys/fs/cgroup, or a folder below it in the hybrid layout.
fn cgroup_root() -> Option<PathBuf> {
    cgroup_in(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn cgroup_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let target = mount.split(' ').nth(4)?;
        (system.split(' ').next() == Some("cgroup2")).then(|| {
            PathBuf::from(
                target
                    .replace("\\040", " ")
                    .replace("\\011", "\t")
                    .replace("\\012", "\n")
                    .replace("\\134", "\\"),
            )
        })
    })
}

// ---- proof ---------------------------------------------------------------------

/// How `sight` names the proof that 32-bit system calls are seen.
const COMPAT: &str = "32-bit-calls";

/// Fires every hook once, waits for the records, and takes them out of the queue again.
fn prove(shared: &Shared) -> Result<(Sight, ProcessKey), SensorError> {
    let bird = canary::Canary::new()?;
    bird.run()?;
    let answered = canary::answer();
    let deadline = Instant::now() + CANARY_DEADLINE;
    let (mut hooks, mut guard);
    loop {
        shared.empty_rings(usize::MAX);
        let mut queue = locked(&shared.queue);
        let actors = canary_keys(&queue, bird.port()?);
        let is_canary = |event: &Event| match event.activity {
            Activity::Fork { child } => actors.contains(&child),
            _ => false,
        };
        guard = queue.events.iter().find(|event| is_canary(event)).map(|event| event.actor);
        hooks = seen(&queue, &actors, guard);
        let is_whole = hooks.iter().all(|(_, is_seen)| *is_seen);
        // What can be missing for a reason of the host's own is not waited for to the last.
        let is_done = actors.len() == canary::Canary::CHILDREN
            && hooks.iter().all(|(hook, is_seen)| *is_seen || !is_vital(*hook));
        if is_whole || is_done || Instant::now() >= deadline {
            queue.proof = None;
            queue.events.retain(|event| !actors.contains(&event.actor) && !is_canary(event));
            break;
        }
        drop(queue);
        std::thread::sleep(Duration::from_millis(1));
    }
    let sight = sight(&hooks, answered.is_ok())?;
    Ok((sight, guard.ok_or(SensorError::Unproved { hook: Hook::FORK.name() })?))
}

/// Hooks by name that a host can have good reasons not to fire.
fn is_vital(hook: Option<Hook>) -> bool {
    hook.is_some_and(|hook| {
        matches!(hook.tells(), Tells::Fork | Tells::Exec | Tells::Exit | Tells::Open | Tells::Connect)
            && !["connect6", "open_by_handle_at", "pidfd_getfd", "recvmsg", "io_uring-open"]
                .contains(&hook.name())
    })
}

/// The canaries are those that connected to a port which nobody else knows.
fn canary_keys(queue: &Queue, port: u16) -> Vec<ProcessKey> {
    let is_ours = |event: &&Event| matches!(&event.activity, Activity::Connect { to, .. } if to.port() == port && to.ip().is_loopback());
    let keys: BTreeSet<ProcessKey> = queue.events.iter().filter(is_ours).map(|event| event.actor).collect();
    keys.into_iter().collect()
}

/// Each hook, and `None` for 32-bit calls; and whether its canary was seen.
fn seen(queue: &Queue, canaries: &[ProcessKey], guard: Option<ProcessKey>) -> Vec<(Option<Hook>, bool)> {
    let proof = queue.proof.as_deref().unwrap_or_default();
    let is_seen = |hook| match hook {
        Hook::FORK => guard.is_some(),
        Hook::ANSWER => proof.iter().any(|seen| seen.hook == hook),
        _ => proof.iter().any(|seen| seen.hook == hook && !seen.is_compat && canaries.contains(&seen.actor)),
    };
    let mut hooks: Vec<_> = Hook::all().map(|hook| (Some(hook), is_seen(hook))).collect();
    if cfg!(target_arch = "x86_64") {
        hooks.push((None, proof.iter().any(|seen| seen.is_compat && canaries.contains(&seen.actor))));
    }
    hooks
}

fn sight(hooks: &[(Option<Hook>, bool)], is_answered: bool) -> Result<Sight, SensorError> {
    let mut gaps: Vec<String> = GAPS.iter().map(ToString::to_string).collect();
    let mut unseen = Vec::new();
    for hook in hooks.iter().filter(|(_, is_seen)| !is_seen).map(|(hook, _)| hook) {
        let name = hook.map_or(COMPAT, Hook::name);
        match name {
            _ if is_vital(*hook) => return Err(SensorError::Unproved { hook: name }),
            "connect6" | "sendmsg6" if !ipv6_is_on() => {
                let text = "IPv6 is switched off on this host".to_owned();
                if !gaps.contains(&text) {
                    gaps.push(text);
                }
            }
            "dns-answer" if is_answered => {
                gaps.push("a DNS answer was sent at the start and not seen".to_owned());
            }
            "dns-answer" => gaps.push(
                "whether DNS answers are seen could not be tried: port 53 is taken on this host".to_owned(),
            ),
            name => unseen.push(name),
        }
    }
    if !unseen.is_empty() {
        gaps.push(format!("tried at the start and not seen, or refused by this host: {}", unseen.join(", ")));
    }
    Ok(Sight {
        sensor: "ebpf".to_owned(),
        tier: "T2 (tracepoints and cgroup hooks)".to_owned(),
        process: Reach::Full,
        file: Reach::Full,
        egress: Reach::Full,
        hooks: hooks
            .iter()
            .map(|(hook, is_seen)| (hook.map_or(COMPAT, Hook::name).to_owned(), *is_seen))
            .collect::<BTreeMap<_, _>>(),
        gaps,
    })
}

fn ipv6_is_on() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

/// What this tier does not see anywhere, for people.
const GAPS: &[&str] = &[
    "what io_uring renames, removes or links is told as it was asked for, whether it succeeded or not",
    "extended attributes, modes and lengths set through io_uring, and files it opens into slots of its own by another ring's registration",
    "descriptors received through io_uring or recvmmsg",
    "reads and writes after an open; memory maps; what is written through a descriptor from before the start",
    "on 64-bit ARM: 32-bit system calls",
    "how much a UDP socket carried that sent to more than one destination",
    "sends on a socket that was connected before the start, or by a process outside the job",
    "names resolved over TLS, HTTPS or QUIC, and the answers over TCP; DNS questions and TLS greetings that come in pieces; names that a greeting encrypts, and QUIC's",
    "forged answers that carry the address of the host's own name server",
    "what is said over unix sockets (connections to them are seen), and work handed to a daemon that was running before (docker, systemd, cron, a build server)",
    "processes alive before the start, and what outlives the end",
    "environment variables and arguments past the recorder's limits (64 KiB of arguments)",
    "files on btrfs carry the file system's device number, not the subvolume's",
];
