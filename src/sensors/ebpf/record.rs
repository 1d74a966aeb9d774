//! Turns the kernel half's records into events.
//!
//! The structs mirror `sensor.h`, field by field; `layouts_match` compares both.
#![expect(unsafe_code, reason = "a record is read as the C struct it is")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use hickory_proto::op::{Header, MessageType, Query};
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use tls_parser::{TlsExtension, TlsMessageHandshake};

use super::hooks::{self, CALLS, Entry, Hook, SOCKETCALLS, TABLES, Tells};
use crate::event::{Access, Activity, Event, ExitStatus, File, Launch, ProcessKey, Timestamp, Transport};

const NAMES: usize = 32;
const NAME_WORDS: usize = 6;

const FLAG_CUT: u32 = 1;
const FLAG_NOWHERE: u32 = 2;
const FLAG_UNREAD: u32 = 4;
const FLAG_ELSEWHERE: u32 = 8;
const FLAG_TEXT: u32 = 16;
const FLAG_DELETED: u16 = 32;

const HEAD_COMPAT: u16 = 1;
const HEAD_RECEIVED: u16 = 2;
const HEAD_OPEN: u16 = 4;

/// Since 6.13 the kernel keeps a mark of its own in the top bit.
const NANOSECONDS: u32 = 0x7fff_ffff;

const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 1 << 1;
const FMODE_CREATED: u32 = 1 << 20;

/// # Safety
/// The type is `repr(C)`, made of integers only and without padding, so that any bytes are a value.
unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($(#[$comment:meta])* struct $name:ident { $($field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$comment])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub(super) struct $name { $(pub(super) $field: $kind,)* }
            // SAFETY: The macro's users list integers, arrays of integers and other such structs;
            // `layouts_match` checks that every byte belongs to a field.
            unsafe impl Plain for $name {}
            #[cfg(test)]
            impl $name {
                const FIELDS: &'static [(&'static str, usize, usize)] =
                    &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$kind>()),)*];
            }
        )*
    };
}

plain! {
    struct Head {
        time: u64,
        start: u64,
        pid: u32,
        hook: u16,
        flags: u16,
    }
    struct Object {
        inode: u64,
        changed_seconds: i64,
        changed_nanoseconds: u32,
        device: u32,
        mode: u32,
        bytes: u16,
        flags: u16,
    }
    struct ForkRecord {
        head: Head,
        child_start: u64,
        child: u32,
        padding: u32,
    }
    struct ExitRecord {
        head: Head,
        status: u32,
        padding: u32,
    }
    /// Followed by `data`.
    struct ExecRecord {
        head: Head,
        executable: Object,
        uid: u32,
        argument_bytes: u32,
        variable_bytes: u32,
        argument_flags: u16,
        directory_flags: u16,
        directory_bytes: u16,
        requested_bytes: u16,
        is_script: u32,
    }
    /// Followed by `data`.
    struct OpenRecord {
        head: Head,
        file: Object,
        file_mode: u32,
        asked_bytes: u32,
    }
    struct Side {
        text: u64,
        inode: u64,
        device: u32,
        folder: i32,
        text_bytes: u16,
        base_bytes: u16,
        flags: u32,
    }
    /// Followed by `data`.
    struct ChangeRecord {
        head: Head,
        values: [u64; 2],
        from: Side,
        to: Side,
    }
    struct ActRecord {
        head: Head,
        values: [u64; 3],
    }
    struct ConnectionRecord {
        head: Head,
        address: [u8; 16],
        port: u16,
        is_ipv6: u16,
        protocol: u32,
    }
    struct ClosedRecord {
        head: Head,
        address: [u8; 16],
        port: u16,
        is_ipv6: u16,
        protocol: u32,
        sent: u64,
        received: u64,
        since: u64,
    }
    struct TaskRecord {
        start: u64,
        pid: u32,
        parent: u32,
    }
    /// Followed by `data`.
    struct AnswerRecord {
        head: Head,
        server: [u8; 16],
        is_ipv6: u32,
        bytes: u32,
        flags: u32,
        padding: u32,
    }
    /// Followed by `data`.
    struct SpeechRecord {
        head: Head,
        address: [u8; 16],
        port: u16,
        is_ipv6: u16,
        protocol: u32,
        bytes: u32,
        padding: u32,
    }
    struct Name {
        words: [u64; NAME_WORDS],
        masks: [u64; NAME_WORDS],
    }
    struct Settings {
        process_threshold: u64,
        activity_threshold: u64,
        names: u32,
        padding: u32,
        name: [Name; NAMES],
        calls: [Entry; TABLES * CALLS],
        socketcalls: [u8; SOCKETCALLS],
    }
}

impl Settings {
    /// `None` when a variable's name is too long or there are too many of them.
    pub(super) fn new(process_bytes: u32, activity_bytes: u32, environment: &[String]) -> Option<Self> {
        let mut settings = Self {
            process_threshold: u64::from(process_bytes / 4),
            activity_threshold: u64::from(activity_bytes / 4),
            names: u32::try_from(environment.len()).ok()?,
            padding: 0,
            name: [Name { words: [0; NAME_WORDS], masks: [0; NAME_WORDS] }; NAMES],
            calls: hooks::table(),
            socketcalls: hooks::socketcalls(),
        };
        if environment.len() > NAMES {
            return None;
        }
        for (slot, name) in settings.name.iter_mut().zip(environment) {
            let text = [name.as_bytes(), b"="].concat();
            if text.len() > NAME_WORDS * size_of::<u64>() {
                return None;
            }
            for (index, chunk) in text.chunks(size_of::<u64>()).enumerate() {
                let (mut word, mut mask) = ([0; 8], [0; 8]);
                word[..chunk.len()].copy_from_slice(chunk);
                mask[..chunk.len()].fill(0xff);
                slot.words[index] = u64::from_ne_bytes(word);
                slot.masks[index] = u64::from_ne_bytes(mask);
            }
        }
        Some(settings)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `Settings` is `Plain`: it has no padding, so all its bytes are initialised.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

impl TaskRecord {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        split(bytes).map(|(record, _)| record)
    }
}

/// The struct at the front of `bytes`, and what follows it.
fn split<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (front, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: `front` has the size of `T`, `T` is `Plain`, and the read needs no alignment.
    Some((unsafe { front.as_ptr().cast::<T>().read_unaligned() }, rest))
}

fn take<'data>(data: &mut &'data [u8], length: usize) -> Option<&'data [u8]> {
    let (front, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(front)
}

/// Boot clock to Unix clock, fixed at the start so that order is kept if the wall clock is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) boot_in_unix: u64,
}

impl Clock {
    pub(super) fn timestamp(self, since_boot: u64) -> Timestamp {
        Timestamp(self.boot_in_unix.saturating_add(since_boot))
    }
}

/// What a record says.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) hook: Hook,
    /// Whether a 32-bit system call did it.
    pub(super) is_compat: bool,
    /// `None` when there is nothing to tell.
    pub(super) event: Option<Event>,
    pub(super) actor: ProcessKey,
}

pub(super) fn decode(bytes: &[u8], clock: Clock) -> Option<Decoded> {
    let (head, _) = split::<Head>(bytes)?;
    let hook = Hook::new(head.hook)?;
    let actor = ProcessKey { pid: head.pid, start: head.start };
    let tells = hook.tells();
    let activity = match tells {
        Tells::Fork => {
            let (record, _) = split::<ForkRecord>(bytes)?;
            Some(Activity::Fork { child: ProcessKey { pid: record.child, start: record.child_start } })
        }
        Tells::Exec => Some(Activity::Launch(launch(bytes)?)),
        Tells::Exit => {
            let (record, _) = split::<ExitRecord>(bytes)?;
            let [low, high, ..] = record.status.to_le_bytes();
            let status = match low & 0x7f {
                0 => ExitStatus::Code(high),
                signal => ExitStatus::Signal(signal),
            };
            Some(Activity::Exit { status })
        }
        Tells::Open => {
            let (record, data) = split::<OpenRecord>(bytes)?;
            open(&record, data, hook.name() == "pidfd_getfd")
        }
        Tells::Connect | Tells::Send => Some(connection(tells, bytes)?),
        Tells::Answer => {
            let (record, mut data) = split::<AnswerRecord>(bytes)?;
            let server = address(record.server, record.is_ipv6 != 0);
            answer(server, take(&mut data, usize::try_from(record.bytes).ok()?)?)
        }
        Tells::Closed => {
            let (record, _) = split::<ClosedRecord>(bytes)?;
            Some(Activity::Closed {
                to: SocketAddr::new(address(record.address, record.is_ipv6 != 0), record.port),
                sent: record.sent,
                received: record.received,
                transport: transport(record.protocol),
                is_open: record.head.flags & HEAD_OPEN != 0,
                duration: record.head.time.saturating_sub(record.since),
            })
        }
        Tells::Question | Tells::Hello | Tells::Request => {
            let (record, mut data) = split::<SpeechRecord>(bytes)?;
            let to = SocketAddr::new(address(record.address, record.is_ipv6 != 0), record.port);
            let data = take(&mut data, usize::try_from(record.bytes).ok()?)?;
            if tells == Tells::Hello {
                Some(Activity::Hello { to, name: server_name(data) })
            } else if tells == Tells::Request {
                asked_by_http(to, data)
            } else {
                question(to, transport(record.protocol), data)
            }
        }
        Tells::Packet => {
            let (record, mut data) = split::<SpeechRecord>(bytes)?;
            let data = take(&mut data, usize::try_from(record.bytes).ok()?)?;
            let now = clock.timestamp(head.time).0 / 1_000_000_000;
            Some(Activity::Packet {
                to: address(record.address, record.is_ipv6 != 0),
                protocol: record.protocol,
                pattern: pattern(record.protocol, data, now),
            })
        }
        Tells::Ring
        | Tells::Signal
        | Tells::Socket
        | Tells::Listen
        | Tells::Ptrace
        | Tells::Memory(_)
        | Tells::Bpf
        | Tells::Setns
        | Tells::Unshare
        | Tells::Credentials => Some(act(tells, bytes)?),
        Tells::Module if bytes.len() == size_of::<ActRecord>() => Some(Activity::Module { file: None }),
        Tells::Nothing => return None,
        _ => Some(change(tells, bytes)?),
    };
    let event = activity.map(|activity| Event { time: clock.timestamp(head.time), actor, activity });
    Some(Decoded { hook, is_compat: head.flags & HEAD_COMPAT != 0, event, actor })
}

fn launch(bytes: &[u8]) -> Option<Launch> {
    let (record, mut data) = split::<ExecRecord>(bytes)?;
    let executable = take(&mut data, record.executable.bytes.into())?;
    let directory = take(&mut data, record.directory_bytes.into())?;
    let asked = take(&mut data, record.requested_bytes.into())?;
    let arguments = take(&mut data, usize::try_from(record.argument_bytes).ok()?)?;
    let variables = take(&mut data, usize::try_from(record.variable_bytes).ok()?)?;

    let directory_flags = u32::from(record.directory_flags);
    let asked = asked.strip_suffix(b"\0").unwrap_or(asked);
    let base: &[u8] = if asked.starts_with(b"/") { b"" } else { directory };
    let script = (record.is_script != 0).then(|| requested(base, asked, directory_flags));
    let asked = normalised(&[&joined(base, directory_flags), b"/".as_slice(), asked].concat());
    Some(Launch {
        executable: file(&record.executable, executable),
        script,
        requested: escape(&asked),
        arguments: strings(arguments).map(escape).collect(),
        arguments_truncated: u32::from(record.argument_flags) & FLAG_CUT != 0,
        directory: path(directory, directory_flags),
        environment: strings(variables)
            .filter_map(|variable| {
                let split = variable.iter().position(|byte| *byte == b'=')?;
                Some((escape(&variable[..split]), escape(&variable[split + 1..])))
            })
            // The first one counts, as it does for getenv(3).
            .rev()
            .collect::<BTreeMap<_, _>>(),
        uid: record.uid,
    })
}

/// The NUL-ended strings of an argument vector; empty ones count.
fn strings(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let text = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let is_something = !bytes.is_empty();
    text.split(|byte| *byte == 0).filter(move |_| is_something)
}

fn open(record: &OpenRecord, mut data: &[u8], is_taken: bool) -> Option<Activity> {
    let names = take(&mut data, record.file.bytes.into())?;
    let text = take(&mut data, usize::try_from(record.asked_bytes).ok()?)?;
    // Pipes, sockets and anonymous inodes opened again through /proc/PID/fd have no place and
    // hold nothing that outlives them. A memfd can be run, so it is told.
    let is_placed = u32::from(record.file.flags) & FLAG_NOWHERE == 0;
    if !is_placed && !names.starts_with(b"memfd:") {
        return None;
    }
    let access = Access {
        read: record.file_mode & FMODE_READ != 0,
        write: record.file_mode & FMODE_WRITE != 0,
        create: record.file_mode & FMODE_CREATED != 0,
        directory: is_directory(record.file.mode),
        received: record.head.flags & HEAD_RECEIVED != 0,
        taken: is_taken,
    };
    let mut file = file(&record.file, names);
    file.asked = other_name(text.strip_suffix(b"\0").unwrap_or(text), &file.path, access.write);
    Some(Activity::Open { file, access })
}

/// The caller's text where it is another path than the object's own. Links in system folders are made by packages, and
/// what is written by way of `x/../..` may be meant to leave `x`.
fn other_name(text: &[u8], path: &str, is_write: bool) -> Option<String> {
    const SYSTEM: &[&str] = &["/usr/", "/lib", "/opt/", "/snap/", "/nix/store/", "/proc/", "/sys/", "/dev/"];
    let text = escape(text);
    if text.is_empty() || path.starts_with('…') {
        return None;
    }
    if text.starts_with("/proc/") {
        return (!["/proc/", "/dev/"].iter().any(|folder| path.starts_with(folder))).then_some(text);
    }
    if SYSTEM.iter().any(|folder| path.starts_with(folder)) {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    let mut is_leaving = false;
    for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
        if name == ".." {
            is_leaving |= names.pop().is_some();
        } else {
            names.push(name);
        }
    }
    if names.is_empty() {
        return None;
    }
    // In a chroot, or from a working folder, the object's own path has more in front.
    let rest = path.strip_suffix(&names.join("/"));
    let is_own = rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    (!is_own || (is_write && is_leaving)).then_some(text)
}

fn is_directory(mode: u32) -> bool {
    mode & nix::libc::S_IFMT == nix::libc::S_IFDIR
}

fn change(tells: Tells, bytes: &[u8]) -> Option<Activity> {
    let (record, mut data) = split::<ChangeRecord>(bytes)?;
    let mut side = |side: &Side| {
        let text = take(&mut data, side.text_bytes.into())?;
        let base = take(&mut data, side.base_bytes.into())?;
        Some((text, base, side.flags))
    };
    let (text, base, flags) = side(&record.from)?;
    let (to_text, to_base, to_flags) = side(&record.to)?;
    // The text of a unix socket's name may hold NUL anywhere.
    if tells == Tells::UnixConnect && flags & FLAG_TEXT != 0 {
        let name = text.split_first().map(|(_, rest)| rest).unwrap_or_default();
        let outside = record.values[0] != 0;
        return Some(Activity::UnixConnect { file: File::at(format!("@{}", escape(name))), outside });
    }
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let to_text = to_text.strip_suffix(b"\0").unwrap_or(to_text);
    let file = || named(&record.from, base, text, flags);
    let target = || named(&record.to, to_base, to_text, to_flags);
    let [first, second] = record.values.map(low);
    let known = |id: u32| (id != u32::MAX).then_some(id);
    Some(match tells {
        Tells::Rename => Activity::Rename { from: file(), to: target() },
        Tells::Link => Activity::Link { from: file(), to: target() },
        Tells::Delete => Activity::Delete { file: file() },
        Tells::Symlink => Activity::Symlink { target: escape(to_text), file: file() },
        Tells::Chmod => Activity::Chmod { file: file(), mode: first & 0o7777 },
        Tells::Chown => Activity::Chown { file: file(), uid: known(first), gid: known(second) },
        Tells::Truncate => Activity::Truncate { file: file() },
        Tells::Mkdir => Activity::Mkdir { file: file() },
        Tells::Mknod => Activity::Mknod { file: file(), mode: first },
        Tells::Setxattr => Activity::Setxattr { file: file(), name: escape(to_text) },
        Tells::Mount if to_flags & FLAG_TEXT != 0 => {
            Activity::Mount { source: escape(to_text), target: file() }
        }
        Tells::Mount => Activity::Mount { source: target().path, target: file() },
        Tells::Unmount => Activity::Unmount { target: file() },
        Tells::PivotRoot => Activity::PivotRoot { root: file() },
        Tells::Memfd => Activity::Memfd { name: escape(text) },
        Tells::Module => Activity::Module { file: Some(file()) },
        Tells::Title => Activity::Title { name: escape(text) },
        Tells::UnixConnect => Activity::UnixConnect { file: file(), outside: first != 0 },
        Tells::OpenRequest => {
            let mode = first & nix::libc::O_ACCMODE.cast_unsigned();
            let access = Access {
                read: mode != nix::libc::O_WRONLY.cast_unsigned(),
                write: mode != nix::libc::O_RDONLY.cast_unsigned(),
                ..Access::default()
            };
            Activity::Open { file: file(), access }
        }
        _ => return None,
    })
}

/// A file as the caller named it; or, where it named a descriptor, the object itself.
fn named(side: &Side, base: &[u8], text: &[u8], flags: u32) -> File {
    if side.inode == 0 {
        return requested(base, text, flags);
    }
    File { path: path(base, flags), device: device(side.device), inode: side.inode, ..File::default() }
}

#[expect(clippy::cast_possible_truncation, reason = "the caller's argument has 32 bits")]
fn low(value: u64) -> u32 {
    value as u32
}

fn act(tells: Tells, bytes: &[u8]) -> Option<Activity> {
    let (record, _) = split::<ActRecord>(bytes)?;
    let [first, second, third] = record.values;
    let [low_first, low_second, low_third] = record.values.map(low);
    let high = |value: u64| low(value >> 32);
    Some(match tells {
        Tells::Ring => Activity::Ring,
        Tells::Signal => Activity::Signal { signal: low_first, own_group: low_second != 0 },
        Tells::Socket => Activity::Socket {
            family: word(low_first, FAMILIES),
            kind: word(low_second, KINDS),
            protocol: low_third,
        },
        Tells::Listen => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&first.to_ne_bytes());
            bytes[8..].copy_from_slice(&second.to_ne_bytes());
            let [low, high, is_ipv6, ..] = third.to_le_bytes();
            let on = SocketAddr::new(address(bytes, is_ipv6 != 0), u16::from_le_bytes([low, high]));
            Activity::Listen { on }
        }
        Tells::Ptrace => Activity::Trace { request: word(low_first, REQUESTS), target: low_second },
        Tells::Memory(request) => Activity::Trace { request: request.to_owned(), target: low_first },
        Tells::Bpf => Activity::Bpf { command: word(low_first, COMMANDS) },
        Tells::Unshare | Tells::Setns => {
            Activity::Namespace { kinds: spaces(low_first), entered: tells == Tells::Setns }
        }
        Tells::Credentials => Activity::Credentials {
            uid: low(first),
            effective_uid: high(first),
            gid: low(second),
            effective_gid: high(second),
            capabilities: third,
        },
        _ => return None,
    })
}

/// The kernel's number as a word; one without a word of ours stays a number.
fn word(number: u32, words: &[(u32, &str)]) -> String {
    words
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

const FAMILIES: &[(u32, &str)] = &[
    (2, "ipv4"),
    (10, "ipv6"),
    (15, "key"),
    (16, "netlink"),
    (17, "packet"),
    (21, "rds"),
    (29, "can"),
    (30, "tipc"),
    (31, "bluetooth"),
    (38, "alg"),
    (40, "vsock"),
    (43, "smc"),
    (44, "xdp"),
    (45, "mctp"),
];

const KINDS: &[(u32, &str)] =
    &[(1, "stream"), (2, "datagram"), (3, "raw"), (4, "rdm"), (5, "seqpacket"), (10, "packet")];

const REQUESTS: &[(u32, &str)] = &[
    (0, "trace-me"),
    (1, "peek-text"),
    (2, "peek-data"),
    (4, "poke-text"),
    (5, "poke-data"),
    (6, "poke-user"),
    (13, "set-registers"),
    (16, "attach"),
    (0x4205, "set-registers"),
    (0x4206, "seize"),
];

const COMMANDS: &[(u32, &str)] = &[
    (0, "map-create"),
    (1, "map-lookup"),
    (2, "map-update"),
    (3, "map-delete"),
    (5, "program-load"),
    (6, "object-pin"),
    (7, "object-get"),
    (8, "program-attach"),
    (9, "program-detach"),
    (11, "next-program"),
    (12, "next-map"),
    (13, "program-by-id"),
    (14, "map-by-id"),
    (15, "object-info"),
    (17, "tracepoint-open"),
    (28, "link-create"),
    (29, "link-update"),
    (30, "link-by-id"),
    (31, "next-link"),
    (34, "link-detach"),
];

/// The kinds of namespace in the flags of unshare(2) and setns(2).
fn spaces(flags: u32) -> Vec<String> {
    const SPACES: &[(u32, &str)] = &[
        (0x80, "time"),
        (0x2_0000, "mount"),
        (0x200_0000, "cgroup"),
        (0x400_0000, "host-name"),
        (0x800_0000, "ipc"),
        (0x1000_0000, "user"),
        (0x2000_0000, "pid"),
        (0x4000_0000, "network"),
    ];
    SPACES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| (*word).to_owned()).collect()
}

fn address(bytes: [u8; 16], is_ipv6: bool) -> IpAddr {
    if is_ipv6 {
        // ::ffff:192.0.2.1 reaches 192.0.2.1 by IPv4, and is judged as that.
        let address = Ipv6Addr::from(bytes);
        address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
    } else {
        let [first, second, third, fourth, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(first, second, third, fourth))
    }
}

fn connection(tells: Tells, bytes: &[u8]) -> Option<Activity> {
    let (record, _) = split::<ConnectionRecord>(bytes)?;
    let address = address(record.address, record.is_ipv6 != 0);
    let to = SocketAddr::new(address, record.port);
    let transport = transport(record.protocol);
    Some(match tells {
        Tells::Connect => Activity::Connect { to, transport },
        _ => Activity::Send { to, transport },
    })
}

fn transport(protocol: u32) -> Transport {
    match protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => Transport::Other,
    }
}

/// What a packet carries, as a digest: equal for equal bytes, whatever time a ping wrote into them.
fn pattern(protocol: u32, data: &[u8], now: u64) -> String {
    const ICMP: [u32; 2] = [1, 58];
    const ICMP_HEADER: usize = 8;
    let body = if ICMP.contains(&protocol) { data.get(ICMP_HEADER..).unwrap_or_default() } else { data };
    let mut body = body.to_vec();
    let is_now = |seconds: u64| seconds.abs_diff(now) < 86_400;
    let first = body.first_chunk::<8>().copied().unwrap_or_default();
    let half = [first[0], first[1], first[2], first[3]];
    let (little, big) = (u64::from_le_bytes(first), u64::from_be_bytes(first));
    let (short, short_big) = (u32::from_le_bytes(half).into(), u32::from_be_bytes(half).into());
    let float = [f64::from_le_bytes(first), f64::from_be_bytes(first)]
        .into_iter()
        .any(|seconds| (seconds - f64::from(u32::try_from(now).unwrap_or(u32::MAX))).abs() < 86_400.0);
    let units = [1, 1_000, 1_000_000, 1_000_000_000];
    let is_time = float
        || is_now(short)
        || is_now(short_big)
        || units.iter().any(|unit| is_now(little / unit) || is_now(big / unit));
    if is_time {
        let length = body.len().min(16);
        body[..length].fill(0);
    }
    let digest = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{digest:016x}")
}

/// The first question of a message; `None` if it asks nothing.
fn question(to: SocketAddr, transport: Transport, bytes: &[u8]) -> Option<Activity> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    if header.metadata.message_type != MessageType::Query || header.counts.queries == 0 {
        return None;
    }
    let query = Query::read(&mut decoder).ok()?;
    Some(Activity::Query {
        to,
        transport,
        name: host(&query),
        kind: query.query_type().to_string(),
        more: header.counts.queries - 1,
    })
}

/// A question for a name that is asked by HTTP, as the services for it want it; `None` for any other request.
fn asked_by_http(to: SocketAddr, bytes: &[u8]) -> Option<Activity> {
    let text = String::from_utf8_lossy(bytes);
    let (line, rest) = text.split_once("\r\n")?;
    let target = line.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_question = path.ends_with("/dns-query") || rest.to_ascii_lowercase().contains("application/dns-");
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    is_question.then(|| Activity::Query {
        to,
        transport: Transport::Tcp,
        name: value("name").unwrap_or("by-http.invalid").to_ascii_lowercase(),
        kind: value("type").unwrap_or("A").to_ascii_uppercase(),
        more: 0,
    })
}

fn host(query: &Query) -> String {
    let name = query.name().to_ascii().to_ascii_lowercase();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

/// Whom a TLS hello asks for; of a hello that came in pieces, what the first one says.
fn server_name(bytes: &[u8]) -> Option<String> {
    const CLIENT_HELLO: u8 = 1;
    // Five bytes of record; then kind and length of the handshake's message.
    let (front, hello) = bytes.split_at_checked(5 + 4)?;
    if front[5] != CLIENT_HELLO {
        return None;
    }
    let (rest, hello) = tls_parser::parse_tls_handshake_msg_client_hello(hello).ok()?;
    let TlsMessageHandshake::ClientHello(hello) = hello else { return None };
    // Extensions that were cut off are left over, behind their length.
    let mut extensions = hello.ext.or_else(|| rest.get(2..))?;
    while let Ok((rest, extension)) = tls_parser::parse_tls_extension(extensions) {
        if let TlsExtension::SNI(names) = extension {
            let (_, name) = names.first()?;
            let name = escape(name).to_ascii_lowercase();
            return Some(name.strip_suffix('.').unwrap_or(&name).to_owned());
        }
        extensions = rest;
    }
    None
}

/// The addresses a name server's answer gives, or `None` if it gives none or is no answer.
///
/// Record by record, so that what precedes a cut or a broken record still counts.
fn answer(server: IpAddr, bytes: &[u8]) -> Option<Activity> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    if header.metadata.message_type != MessageType::Response || header.counts.queries != 1 {
        return None;
    }
    let query = Query::read(&mut decoder).ok()?;
    let mut addresses = Vec::new();
    for _ in 0..header.counts.answers {
        // CNAME records only lead to the addresses that stand in the same answer.
        match Record::read(&mut decoder).map(|record| record.data) {
            Ok(RData::A(address)) => addresses.push(IpAddr::V4(address.0)),
            Ok(RData::AAAA(address)) => addresses.push(IpAddr::V6(address.0)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let name = host(&query);
    (!addresses.is_empty()).then_some(Activity::Answer { server, name, addresses })
}

fn file(object: &Object, names: &[u8]) -> File {
    let changed = u64::try_from(object.changed_seconds).ok().and_then(|seconds| {
        seconds.checked_mul(1_000_000_000)?.checked_add(u64::from(object.changed_nanoseconds & NANOSECONDS))
    });
    File {
        path: path(names, object.flags.into()),
        device: device(object.device),
        inode: object.inode,
        changed: changed.map(Timestamp),
        deleted: object.flags & FLAG_DELETED != 0,
        ..File::default()
    }
}

/// stat(2)'s encoding: the kernel keeps 12 bits major and 20 bits minor side by side, user space
/// sees the minor split around the major, so that old 16-bit numbers keep their value.
fn device(kernel: u32) -> u64 {
    let (major, minor) = (kernel >> 20, kernel & 0xf_ffff);
    u64::from(minor & 0xff) | u64::from(major) << 8 | u64::from(minor & !0xff) << 12
}

/// Names from the last to the first, as a path.
fn path(names: &[u8], flags: u32) -> String {
    if flags & FLAG_NOWHERE != 0 {
        return strings(names).next().map(escape).unwrap_or_default();
    }
    escape(&joined(names, flags))
}

fn joined(names: &[u8], flags: u32) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 4);
    if flags & FLAG_CUT != 0 {
        path.extend("…".as_bytes());
    }
    for name in strings(names).rev() {
        path.push(b'/');
        path.extend(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The caller's text made absolute, its folder resolved if that needs no waiting.
fn requested(base: &[u8], text: &[u8], flags: u32) -> File {
    // An unread text has no base either.
    let flags = if flags & FLAG_UNREAD != 0 { flags | FLAG_CUT } else { flags };
    let mut whole = joined(base, flags);
    whole.push(b'/');
    whole.extend(text);
    let is_known_here = flags & (FLAG_CUT | FLAG_ELSEWHERE) == 0;
    let resolved = if is_known_here { resolve_folder(&whole) } else { None };
    File { path: escape(&resolved.unwrap_or_else(|| normalised(&whole))), requested: true, ..File::default() }
}

/// `path` with `.`, `..` and doubled slashes taken out, without looking at the file system.
fn normalised(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                // Above the cut of a path lies more, not the root.
                if names.last() != Some(&"…".as_bytes()) {
                    names.pop();
                }
            }
            name => names.push(name),
        }
    }
    let is_cut = names.first() == Some(&"…".as_bytes()) && !path.starts_with(b"/");
    let mut normal = Vec::with_capacity(path.len());
    for (index, name) in names.iter().enumerate() {
        if index > 0 || !is_cut {
            normal.push(b'/');
        }
        normal.extend(*name);
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    normal
}

/// The real path of the folder `path` names something in, with that name.
///
/// Only from the kernel's cache: a look-up may not wait, since the folder can lie on a file
/// system that the job serves itself.
fn resolve_folder(path: &[u8]) -> Option<Vec<u8>> {
    const CACHED: nix::libc::c_ulonglong = 0x20;
    let end = path.iter().rposition(|byte| *byte != b'/')?;
    let path = &path[..=end];
    let (folder, name) = path.split_at(path.iter().rposition(|byte| *byte == b'/')?);
    if matches!(name, b"/." | b"/..") {
        return None;
    }
    let folder = if folder.is_empty() { b"/" } else { folder };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY)
        .resolve(ResolveFlag::from_bits_retain(CACHED));
    let folder = openat2(AT_FDCWD, folder, how).ok()?;
    let real = std::fs::read_link(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string())).ok()?;
    let mut real = real.into_os_string().into_vec();
    // How /proc marks a folder that has no place any more.
    if real.ends_with(b" (deleted)") {
        return None;
    }
    if real == b"/" {
        real.clear();
    }
    real.extend(name);
    Some(real)
}

/// Text for people and for matching; bytes that are not UTF-8 stand as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use libbpf_rs::btf::types::Struct;
    use libbpf_rs::btf::{Btf, HasSize as _};
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { boot_in_unix: 1_000 };

    /// The C side's fields, as the object's own type information has them.
    fn fields(btf: &Btf<'_>, name: &str) -> (usize, Vec<(String, usize)>) {
        let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("struct {name}"));
        let fields = found.iter().map(|member| {
            let libbpf_rs::btf::types::MemberAttr::Normal { offset } = member.attr else {
                panic!("a bit field in {name}");
            };
            (member.name.expect("a name").to_string_lossy().into_owned(), offset as usize / 8)
        });
        (found.size(), fields.collect())
    }

    const CALL: &[(&str, usize, usize)] =
        &[("hook", 0, 1), ("kind", 1, 1), ("folder", 2, 2), ("text", 4, 2), ("value", 6, 2)];

    #[test]
    fn layouts_match() {
        let btf = Btf::from_raw("sensor", super::super::OBJECT).expect("readable").expect("there");
        let check = |name: &str, size: usize, ours: &[(&str, usize, usize)], is_followed: bool| {
            let (c_size, mut theirs) = fields(&btf, name);
            if is_followed {
                assert_eq!(theirs.pop(), Some(("data".to_owned(), size)), "{name}");
            } else {
                assert_eq!(c_size, size, "{name}");
            }
            let mine: Vec<_> = ours.iter().map(|(field, offset, _)| ((*field).to_owned(), *offset)).collect();
            assert_eq!(mine, theirs, "{name}");
            assert_eq!(ours.iter().map(|(_, _, size)| size).sum::<usize>(), size, "padding in {name}");
        };
        check("head", size_of::<Head>(), Head::FIELDS, false);
        check("object", size_of::<Object>(), Object::FIELDS, false);
        check("side", size_of::<Side>(), Side::FIELDS, false);
        check("name", size_of::<Name>(), Name::FIELDS, false);
        check("settings", size_of::<Settings>(), Settings::FIELDS, false);
        check("fork_record", size_of::<ForkRecord>(), ForkRecord::FIELDS, false);
        check("exit_record", size_of::<ExitRecord>(), ExitRecord::FIELDS, false);
        check("connection_record", size_of::<ConnectionRecord>(), ConnectionRecord::FIELDS, false);
        check("closed_record", size_of::<ClosedRecord>(), ClosedRecord::FIELDS, false);
        check("exec_record", size_of::<ExecRecord>(), ExecRecord::FIELDS, true);
        check("open_record", size_of::<OpenRecord>(), OpenRecord::FIELDS, true);
        check("act_record", size_of::<ActRecord>(), ActRecord::FIELDS, false);
        check("call", size_of::<Entry>(), CALL, false);
        check("change_record", size_of::<ChangeRecord>(), ChangeRecord::FIELDS, true);
        check("task_record", size_of::<TaskRecord>(), TaskRecord::FIELDS, false);
        check("speech_record", size_of::<SpeechRecord>(), SpeechRecord::FIELDS, true);
        check("answer_record", size_of::<AnswerRecord>(), AnswerRecord::FIELDS, true);
    }

    #[test]
    fn another_name_is_told_and_the_own_one_is_not() {
        let name = |text: &str, path, is_write| other_name(text.as_bytes(), path, is_write);
        for (text, path) in [
            ("/w/a", "/w/a"),
            ("a", "/w/a"),
            ("./x/../a", "/w/a"),
            ("../b//c", "/b/c"),
            ("/a", "/jail/a"),
            (".", "/w"),
            ("libx.so.1", "/usr/lib/libx.so.1.2"),
            ("/etc/alternatives/cc", "/usr/bin/gcc-12"),
            ("/proc/self/maps", "/proc/17/maps"),
            ("/proc/self/fd/3", "/dev/pts/0"),
        ] {
            assert_eq!(name(text, path, false), None, "{text} {path}");
        }
        for (text, path) in [
            ("notes.txt", "/home/u/.ssh/id_rsa"),
            ("/w/link/id_rsa", "/home/u/.ssh/id_rsa"),
            ("a", "/w/ba"),
            ("/proc/self/root/home/u/.netrc", "/home/u/.netrc"),
            ("/proc/1/root/usr/bin/x", "/usr/bin/x"),
        ] {
            assert_eq!(name(text, path, false).as_deref(), Some(text));
        }
        assert_eq!(name("out/../../.bashrc", "/home/u/.bashrc", true).as_deref(), Some("out/../../.bashrc"));
    }

    #[test]
    fn paths_are_put_together_from_the_end() {
        assert_eq!(path(b"c\0b\0a\0", 0), "/a/b/c");
        assert_eq!(path(b"", 0), "/");
        assert_eq!(path(b"c\0b\0", FLAG_CUT), "…/b/c");
        assert_eq!(path(b"memfd:x\0", FLAG_NOWHERE), "memfd:x");
        assert_eq!(path(b"\xff\0a\0", 0), "/a/\\xff");
    }

    #[test]
    fn requests_become_normal_paths() {
        let requested = |base, text| requested(base, text, FLAG_ELSEWHERE).path;
        assert_eq!(requested(b"b\0a\0", b"c"), "/a/b/c");
        assert_eq!(requested(b"b\0a\0", b"../../../c/./d//"), "/c/d");
        assert_eq!(requested(b"", b"/x/../y"), "/y");
        assert_eq!(requested(b"jail\0", b"/x"), "/jail/x");
        assert_eq!(super::requested(b"b\0", b"../../../c", FLAG_CUT).path, "…/c");
        assert_eq!(super::requested(b"", b"", FLAG_UNREAD).path, "…");
        assert!(super::requested(b"", b"/x", 0).requested);
    }

    #[test]
    fn devices_are_told_as_stat_tells_them() {
        assert_eq!(device(254 << 20), 65_024);
        assert_eq!(device(8 << 20 | 0x123), 0x10_0823);
    }

    #[test]
    fn argument_vectors_keep_empty_strings() {
        let all = |bytes| strings(bytes).map(escape).collect::<Vec<_>>();
        assert_eq!(all(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(all(b"\0"), [""]);
        assert!(all(b"").is_empty());
        assert_eq!(all(b"a\0cu"), ["a", "cu"]);
    }

    #[test]
    fn names_that_are_too_long_or_too_many_are_refused() {
        let settings = |names: &[String]| Settings::new(1, 1, names);
        assert!(settings(&vec!["N".repeat(47); 32]).is_some());
        assert!(settings(&["N".repeat(48)]).is_none());
        assert!(settings(&vec!["N".to_owned(); 33]).is_none());
    }

    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));

    #[test]
    fn a_question_is_no_answer() {
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        assert_eq!(answer(SERVER, question), None);
    }

    #[test]
    fn what_precedes_a_cut_still_counts() {
        let mut message = b"\0\x01\x81\x80\0\x01\0\x02\0\0\0\0\x01A\0\0\x01\0\x01".to_vec();
        message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07\xc0\x0c\0\x01");
        let addresses = vec![IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7))];
        let wanted = Activity::Answer { server: SERVER, name: "a".to_owned(), addresses };
        assert_eq!(answer(SERVER, &message), Some(wanted));
    }

    /// A hello with one name and something before it.
    fn hello(name: &str) -> Vec<u8> {
        let short = |number: usize| u16::try_from(number).expect("short").to_be_bytes();
        let mut extensions = vec![0xaa, 0xaa, 0, 1, 7];
        extensions.extend([0, 0]);
        extensions.extend(short(name.len() + 5));
        extensions.extend(short(name.len() + 3));
        extensions.push(0);
        extensions.extend(short(name.len()));
        extensions.extend(name.as_bytes());
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(short(extensions.len()));
        body.extend(extensions);
        let mut hello = vec![22, 3, 1];
        hello.extend(short(body.len() + 4));
        hello.extend([1, 0]);
        hello.extend(short(body.len()));
        hello.extend(body);
        hello
    }

    #[test]
    fn a_hello_says_whom_it_asks_for() {
        let whole = hello("Api.Example");
        assert_eq!(server_name(&whole).as_deref(), Some("api.example"));
        // What is missing behind the name does not matter.
        let mut longer = hello("api.example");
        longer[9 + 41 + 1] += 100;
        assert_eq!(server_name(&longer).as_deref(), Some("api.example"));
        assert_eq!(server_name(&whole[..whole.len() - 4]), None);
    }

    #[test]
    fn a_question_has_a_name_and_a_type() {
        let to = SocketAddr::new(SERVER, 53);
        let message = b"\0\x01\x01\0\0\x02\0\0\0\0\0\0\x06DaTa01\x07example\0\0\x10\0\x01";
        let told = question(to, Transport::Udp, message);
        let (name, kind) = ("data01.example".to_owned(), "TXT".to_owned());
        assert_eq!(told, Some(Activity::Query { to, transport: Transport::Udp, name, kind, more: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_not_but_never_panic(hook in 0_u16..90, rest in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = vec![0; 20];
            bytes.extend(hook.to_ne_bytes());
            bytes.extend([0, 0]);
            bytes.extend(rest);
            let _ = decode(&bytes, CLOCK);
        }

        #[test]
        fn any_answer_parses_or_not_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(SERVER, &bytes);
            let mut message = b"\0\x01\x81\x80\0\x01\0\xff\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
            message.extend(&bytes);
            let _ = answer(SERVER, &message);
        }

        #[test]
        fn any_hello_gives_a_name_or_not_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = server_name(&bytes);
            let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
            hello.extend([0; 32]);
            hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
            hello.extend(&bytes);
            let _ = server_name(&hello);
            let _ = question(SocketAddr::new(SERVER, 53), Transport::Udp, &bytes);
        }

        #[test]
        fn normal_paths_stay_as_they_are(path in "(/?[a-c.]{0,3}){0,6}") {
            let once = normalised(path.as_bytes());
            prop_assert!(once.starts_with(b"/"));
            prop_assert_eq!(normalised(&once), once);
        }
    }
}
