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

use crate::event::{Access, Activity, Event, ExitStatus, File, Launch, ProcessKey, Timestamp, Transport};

/// A hook of the kernel half, by its number in `sensor.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Fork,
    Exec,
    Exit,
    Open,
    Openat,
    Openat2,
    Creat,
    Rename,
    Renameat,
    Renameat2,
    Unlink,
    Unlinkat,
    Rmdir,
    Connect4,
    Connect6,
    Sendmsg4,
    Sendmsg6,
    Answer,
}

impl Hook {
    pub(super) const ALL: [Self; 18] = [
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Open,
        Self::Openat,
        Self::Openat2,
        Self::Creat,
        Self::Rename,
        Self::Renameat,
        Self::Renameat2,
        Self::Unlink,
        Self::Unlinkat,
        Self::Rmdir,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Answer,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Open => "open",
            Self::Openat => "openat",
            Self::Openat2 => "openat2",
            Self::Creat => "creat",
            Self::Rename => "rename",
            Self::Renameat => "renameat",
            Self::Renameat2 => "renameat2",
            Self::Unlink => "unlink",
            Self::Unlinkat => "unlinkat",
            Self::Rmdir => "rmdir",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Answer => "dns-answer",
        }
    }
}

const NAMES: usize = 32;
const NAME_WORDS: usize = 6;

const FLAG_CUT: u32 = 1;
const FLAG_NOWHERE: u32 = 2;
const FLAG_UNREAD: u32 = 4;
const FLAG_ELSEWHERE: u32 = 8;

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
        hook: u32,
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
        padding: u32,
    }
    struct Side {
        text: u64,
        folder: i32,
        text_bytes: u16,
        base_bytes: u16,
        flags: u32,
        padding: u32,
    }
    /// Followed by `data`.
    struct ChangeRecord {
        head: Head,
        from: Side,
        to: Side,
    }
    struct ConnectionRecord {
        head: Head,
        address: [u8; 16],
        port: u16,
        is_ipv6: u16,
        protocol: u32,
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

/// What a record says: its hook, and the event unless there is nothing to tell.
pub(super) fn decode(bytes: &[u8], clock: Clock) -> Option<(Hook, Option<Event>)> {
    let (head, _) = split::<Head>(bytes)?;
    let hook = *Hook::ALL.get(usize::try_from(head.hook).ok()?)?;
    let activity = match hook {
        Hook::Fork => {
            let (record, _) = split::<ForkRecord>(bytes)?;
            Some(Activity::Fork { child: ProcessKey { pid: record.child, start: record.child_start } })
        }
        Hook::Exec => Some(Activity::Launch(launch(bytes)?)),
        Hook::Exit => {
            let (record, _) = split::<ExitRecord>(bytes)?;
            let [low, high, ..] = record.status.to_le_bytes();
            let status = match low & 0x7f {
                0 => ExitStatus::Code(high),
                signal => ExitStatus::Signal(signal),
            };
            Some(Activity::Exit { status })
        }
        Hook::Open | Hook::Openat | Hook::Openat2 | Hook::Creat => {
            let (record, data) = split::<OpenRecord>(bytes)?;
            open(&record, data)
        }
        Hook::Rename | Hook::Renameat | Hook::Renameat2 | Hook::Unlink | Hook::Unlinkat | Hook::Rmdir => {
            Some(change(hook, bytes)?)
        }
        Hook::Connect4 | Hook::Connect6 | Hook::Sendmsg4 | Hook::Sendmsg6 => Some(connection(hook, bytes)?),
        Hook::Answer => {
            let (record, mut data) = split::<AnswerRecord>(bytes)?;
            let server = address(record.server, record.is_ipv6 != 0);
            answer(server, take(&mut data, usize::try_from(record.bytes).ok()?)?)
        }
    };
    let event = activity.map(|activity| Event {
        time: clock.timestamp(head.time),
        actor: ProcessKey { pid: head.pid, start: head.start },
        activity,
    });
    Some((hook, event))
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

fn open(record: &OpenRecord, mut data: &[u8]) -> Option<Activity> {
    let names = take(&mut data, record.file.bytes.into())?;
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
    };
    Some(Activity::Open { file: file(&record.file, names), access })
}

fn is_directory(mode: u32) -> bool {
    mode & nix::libc::S_IFMT == nix::libc::S_IFDIR
}

fn change(hook: Hook, bytes: &[u8]) -> Option<Activity> {
    let (record, mut data) = split::<ChangeRecord>(bytes)?;
    let mut side = |side: &Side| {
        let text = take(&mut data, side.text_bytes.into())?;
        let base = take(&mut data, side.base_bytes.into())?;
        Some(requested(base, text.strip_suffix(b"\0").unwrap_or(text), side.flags))
    };
    let from = side(&record.from)?;
    Some(match hook {
        Hook::Rename | Hook::Renameat | Hook::Renameat2 => Activity::Rename { from, to: side(&record.to)? },
        _ => Activity::Delete { file: from },
    })
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

fn connection(hook: Hook, bytes: &[u8]) -> Option<Activity> {
    let (record, _) = split::<ConnectionRecord>(bytes)?;
    let address = address(record.address, record.is_ipv6 != 0);
    let to = SocketAddr::new(address, record.port);
    let transport = match record.protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => Transport::Other,
    };
    Some(match hook {
        Hook::Connect4 | Hook::Connect6 => Activity::Connect { to, transport },
        _ => Activity::Send { to, transport },
    })
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
    let name = query.name().to_ascii().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
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
        requested: false,
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
        check("exec_record", size_of::<ExecRecord>(), ExecRecord::FIELDS, true);
        check("open_record", size_of::<OpenRecord>(), OpenRecord::FIELDS, true);
        check("change_record", size_of::<ChangeRecord>(), ChangeRecord::FIELDS, true);
        check("task_record", size_of::<TaskRecord>(), TaskRecord::FIELDS, false);
        check("answer_record", size_of::<AnswerRecord>(), AnswerRecord::FIELDS, true);
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

    proptest! {
        #[test]
        fn any_bytes_decode_or_not_but_never_panic(hook in 0_u32..20, rest in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = vec![0; 20];
            bytes.extend(hook.to_ne_bytes());
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
        fn normal_paths_stay_as_they_are(path in "(/?[a-c.]{0,3}){0,6}") {
            let once = normalised(path.as_bytes());
            prop_assert!(once.starts_with(b"/"));
            prop_assert_eq!(normalised(&once), once);
        }
    }
}
