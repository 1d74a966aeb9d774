//! The recorder for kernels without trampolines: tracepoints and cgroup hooks (tier T2).
//!
//! ```text
//!  sensor.bpf.c --> two rings --> record.rs --> a queue, in the order of the boot clock --> drain()
//! ```
//! The kernel half decides on scope, the reader thread empties the rings every tick, and
//! `drain` hands out what can no longer be overtaken.

mod adopt;
mod canary;
mod record;
mod ring;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libbpf_rs::{Link, MapCore as _, MapFlags, Object, ObjectBuilder, PrintLevel, ProgramInput};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};

use super::Sensor;
use crate::event::{Activity, Event, Plane, ProcessKey, Reach, Sight, Timestamp};
use record::{Clock, Hook, Settings};
use ring::Ring;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sensor.bpf.o"));

/// How often the rings are emptied, and how long an event is held back for older ones that
/// another processor has not handed over yet.
const TICK: Duration = Duration::from_millis(20);
const TICK_NANOSECONDS: u64 = 20_000_000;
/// Thousands of launches; a launch takes some 400 bytes.
const LINEAGE_RING_BYTES: u32 = 4 << 20;
/// Past this many waiting events the rings fill up instead, and the kernel counts what is lost.
const QUEUE_LIMIT: usize = 500_000;
const PENDING: u32 = 128;
const CANARY_DEADLINE: Duration = Duration::from_millis(400);

/// How to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring for files and egress: a power of two of at least a page.
    pub ring_bytes: u32,
    /// Environment variables to keep at exec: at most 32, each name at most 47 bytes.
    pub environment: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, environment: Vec::new() }
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
    #[error("cannot reach the kernel's tracepoints: {0}\nhint: `mount -t tracefs none /sys/kernel/tracing`")]
    NoTracepoints(std::io::Error),
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
    links: Vec<Link>,
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
    /// Hooks seen in order, until the canaries are through.
    proof: Option<Vec<(Hook, Option<ProcessKey>)>>,
    unreadable: u64,
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
        let tracepoints = Tracepoints::find().map_err(SensorError::NoTracepoints)?;
        let (object, links) = with_log(|| {
            let object = load(options)?;
            let links = attach(&object, &cgroup, &tracepoints)?;
            Ok::<_, SensorError>((object, links))
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
        let mut sensor =
            Self { sight, guard, shared, reader: Some(reader), object, links, lost: [0; 3], looked };
        // What was lost before there was anything to watch is no loss.
        sensor.lost = sensor.lost_so_far();
        Ok(sensor)
    }

    /// This process, as the kernel names it: what it forks is the job.
    pub fn guard(&self) -> ProcessKey {
        self.guard
    }

    /// Whether the reader is still there to empty the rings.
    pub fn is_watching(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
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

    fn drain(&mut self, to_the_end: bool) -> Vec<Event> {
        let now = self.shared.clock.timestamp(nanoseconds(ClockId::CLOCK_BOOTTIME));
        self.shared.empty_rings();
        let horizon = Timestamp(if to_the_end { u64::MAX } else { now.0 - TICK_NANOSECONDS });
        let mut queue = locked(&self.shared.queue);
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
            for link in self.links.drain(..) {
                scope.spawn(move || drop(link));
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
                self.empty_rings();
            }
        }
    }

    fn empty_rings(&self) {
        if !self.is_paused.load(Ordering::Relaxed) {
            for ring in locked(&self.rings).iter_mut() {
                ring.consume(|bytes| {
                    let decoded = record::decode(bytes, self.clock);
                    locked(&self.queue).take(decoded);
                });
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
    let object = open.load().map_err(|error| refused("recorder", error))?;
    if let Some(map) = object.maps().find(|map| map.name() == "vacant") {
        for slot in 0..PENDING {
            map.update(&[], &slot.to_ne_bytes(), MapFlags::ANY).map_err(|error| refused("vacant", error))?;
        }
    }
    if let Some(program) = object.progs_mut().find(|program| program.name() == "whoami") {
        program.test_run(ProgramInput::default()).map_err(|error| refused("whoami", error))?;
    }
    Ok(object)
}

fn attach(object: &Object, cgroup: &File, tracepoints: &Tracepoints) -> Result<Vec<Link>, SensorError> {
    let mut links = Vec::new();
    // Forks last: nothing is in scope, and so nothing is recorded, before the first fork is.
    for program in object.progs_mut().filter(|program| program.name() != "on_fork") {
        let name = program.name().to_string_lossy().into_owned();
        let refused = |error| refused(name.clone(), error);
        match program.section().to_string_lossy().as_ref() {
            "syscall" | "iter/task" => {}
            "tracepoint" => {
                // `on_exit_openat` goes to `sys_exit_openat`.
                let tracepoint = name.replacen("on_", "sys_", 1);
                // Missing where the architecture has no such call.
                if let Some(event) = tracepoints.open(&tracepoint)? {
                    links.push(program.attach_perf_event(event).map_err(refused)?);
                }
            }
            section if section.starts_with("cgroup") => {
                links.push(program.attach_cgroup(cgroup.as_raw_fd()).map_err(refused)?);
            }
            _ => links.push(program.attach().map_err(refused)?),
        }
    }
    if let Some(program) = object.progs_mut().find(|program| program.name() == "on_fork") {
        links.push(program.attach().map_err(|error| refused("on_fork", error))?);
    }
    Ok(links)
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
    fn take(&mut self, record: Option<(Hook, Option<Event>)>) {
        let Some((hook, event)) = record else {
            self.unreadable += 1;
            return;
        };
        if let Some(proof) = &mut self.proof {
            proof.push((hook, event.as_ref().map(|event| event.actor)));
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

/// The tracing file system, which names each tracepoint by a number.
struct Tracepoints {
    root: PathBuf,
    _private: Option<File>,
}

impl Tracepoints {
    fn find() -> std::io::Result<Self> {
        for root in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            if Path::new(root).join("events").exists() {
                return Ok(Self { root: PathBuf::from(root), _private: None });
            }
        }
        // Not mounted, as in many containers: a mount of our own that no path leads to.
        let mount = detached::tracefs()?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Self { root, _private: Some(mount) })
    }

    /// An event descriptor for a tracepoint, which belongs to the link made from it.
    fn open(&self, tracepoint: &str) -> std::io::Result<Option<i32>> {
        let file = self.root.join("events/syscalls").join(tracepoint).join("id");
        match std::fs::read_to_string(file) {
            Ok(number) => detached::event(number.trim().parse().map_err(std::io::Error::other)?).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Two raw system calls without a wrapper of their own.
#[expect(unsafe_code, reason = "system calls that neither the standard library nor nix wraps")]
mod detached {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};

    use nix::libc;

    fn checked(result: libc::c_long) -> io::Result<RawFd> {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            RawFd::try_from(result).map_err(io::Error::other)
        }
    }

    /// A mount of tracefs that is in no tree and goes away with its descriptor.
    pub(super) fn tracefs() -> io::Result<File> {
        const CLOEXEC: libc::c_uint = 1; // FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC.
        const CREATE: libc::c_uint = 6; // FSCONFIG_CMD_CREATE.
        // SAFETY: The name is a C string; each descriptor is checked, new and owned by nobody else.
        unsafe {
            let system =
                File::from_raw_fd(checked(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC))?);
            let null = std::ptr::null::<libc::c_char>();
            checked(libc::syscall(libc::SYS_fsconfig, system.as_raw_fd(), CREATE, null, null, 0))?;
            Ok(File::from_raw_fd(checked(libc::syscall(libc::SYS_fsmount, system.as_raw_fd(), CLOEXEC, 0))?))
        }
    }

    pub(super) fn event(tracepoint: u64) -> io::Result<RawFd> {
        const TRACEPOINT: u64 = 2;
        const SIZE: u64 = 64; // The first version of struct perf_event_attr.
        const CLOEXEC: libc::c_ulong = 8;
        // Type and size share the first word; then the number, and one sample per event.
        let attributes = [TRACEPOINT | SIZE << 32, tracepoint, 1, 0, 0, 0, 0, 0];
        // SAFETY: The kernel reads SIZE bytes, which is the size of the array.
        checked(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, CLOEXEC) })
    }
}

// ---- proof ---------------------------------------------------------------------

/// Fires every hook once, waits for the records, and takes them out of the queue again.
fn prove(shared: &Shared) -> Result<(Sight, ProcessKey), SensorError> {
    let bird = canary::Canary::new()?;
    bird.run()?;
    let answered = canary::answer();
    let deadline = Instant::now() + CANARY_DEADLINE;
    let (mut hooks, mut guard);
    loop {
        shared.empty_rings();
        let actor = canary_key(&locked(&shared.queue), bird.port()?);
        hooks = seen(&locked(&shared.queue), actor);
        guard = locked(&shared.queue).events.iter().find_map(|event| match event.activity {
            Activity::Fork { child } if Some(child) == actor => Some(event.actor),
            _ => None,
        });
        let is_whole = hooks.iter().all(|(hook, is_seen)| {
            *is_seen || (*hook == Hook::Answer && answered.is_err()) || is_ipv6(*hook)
        });
        if is_whole || Instant::now() >= deadline {
            let mut queue = locked(&shared.queue);
            queue.proof = None;
            if let Some(actor) = actor {
                queue.events.retain(|event| {
                    event.actor != actor
                        && !matches!(event.activity, Activity::Fork { child } if child == actor)
                });
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let sight = sight(&hooks, answered.is_ok())?;
    Ok((sight, guard.ok_or(SensorError::Unproved { hook: Hook::Fork.name() })?))
}

fn is_ipv6(hook: Hook) -> bool {
    matches!(hook, Hook::Connect6 | Hook::Sendmsg6)
}

/// Old calls, which newer architectures never had.
fn is_here(hook: Hook) -> bool {
    cfg!(target_arch = "x86_64")
        || !matches!(hook, Hook::Open | Hook::Creat | Hook::Rename | Hook::Unlink | Hook::Rmdir)
}

fn canary_key(queue: &Queue, port: u16) -> Option<ProcessKey> {
    queue.events.iter().find_map(|event| match &event.activity {
        Activity::Connect { to, .. } if to.port() == port && to.ip().is_loopback() => Some(event.actor),
        _ => None,
    })
}

fn seen(queue: &Queue, canary: Option<ProcessKey>) -> Vec<(Hook, bool)> {
    let proof = queue.proof.as_deref().unwrap_or_default();
    let is_forked = queue
        .events
        .iter()
        .any(|event| matches!(event.activity, Activity::Fork { child } if Some(child) == canary));
    let is_seen = |hook| match hook {
        Hook::Fork => is_forked,
        Hook::Answer => proof.iter().any(|(seen, _)| *seen == hook),
        _ => canary.is_some() && proof.iter().any(|(seen, actor)| *seen == hook && *actor == canary),
    };
    Hook::ALL.into_iter().filter(|hook| is_here(*hook)).map(|hook| (hook, is_seen(hook))).collect()
}

fn sight(hooks: &[(Hook, bool)], is_answered: bool) -> Result<Sight, SensorError> {
    let mut gaps: Vec<String> = GAPS.iter().map(ToString::to_string).collect();
    for (hook, _) in hooks.iter().filter(|(_, is_seen)| !is_seen) {
        match hook {
            Hook::Rename
            | Hook::Renameat
            | Hook::Renameat2
            | Hook::Unlink
            | Hook::Unlinkat
            | Hook::Rmdir
            | Hook::Sendmsg4 => gaps.push(format!("`{}` was tried at the start and not seen", hook.name())),
            Hook::Connect6 | Hook::Sendmsg6 => {
                let text = if ipv6_is_on() {
                    format!("`{}` was tried at the start and not seen", hook.name())
                } else {
                    "IPv6 is switched off on this host".to_owned()
                };
                if !gaps.contains(&text) {
                    gaps.push(text);
                }
            }
            Hook::Answer if is_answered => {
                gaps.push("a DNS answer was sent at the start and not seen".to_owned());
            }
            Hook::Answer => gaps.push(
                "whether DNS answers are seen could not be tried: port 53 is taken on this host".to_owned(),
            ),
            hook => return Err(SensorError::Unproved { hook: hook.name() }),
        }
    }
    Ok(Sight {
        sensor: "ebpf".to_owned(),
        tier: "T2 (tracepoints and cgroup hooks)".to_owned(),
        process: Reach::Full,
        file: Reach::Full,
        egress: Reach::Full,
        hooks: hooks
            .iter()
            .map(|(hook, is_seen)| (hook.name().to_owned(), *is_seen))
            .collect::<BTreeMap<_, _>>(),
        gaps,
    })
}

fn ipv6_is_on() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

/// What this tier does not see anywhere, for people.
const GAPS: &[&str] = &[
    "files opened, renamed or removed through io_uring (connections through it are seen)",
    "files opened, renamed or removed by 32-bit system calls",
    "files opened with open_by_handle_at, and descriptors received from another process",
    "reads and writes after an open; memory maps; what is written through a descriptor from before the start",
    "chmod, chown, truncate, link, symlink, mkdir, mknod and extended attributes",
    "raw, ping and packet sockets, and protocols other than TCP and UDP",
    "sends on a socket that was connected before the start, or by a process outside the job",
    "names resolved over TCP, TLS, HTTPS or QUIC",
    "forged answers that carry the address of the host's own name server",
    "unix sockets, and work handed to a daemon that was running before (docker, systemd, cron, a build server)",
    "processes alive before the start, and what outlives the end",
    "environment variables and arguments past the recorder's limits (64 KiB of arguments)",
    "files on btrfs carry the file system's device number, not the subvolume's",
];
