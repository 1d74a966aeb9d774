//! What is watched: each hook by name, and which arguments of a system call mean what.

use std::mem::size_of;

use nix::libc;

/// How many numbers a table of system calls has, and what a 32-bit call adds to its own.
pub(super) const CALLS: usize = 600;
pub(super) const TABLES: usize = 2;
pub(super) const SOCKETCALLS: usize = 32;

/// A hook of the kernel half, by its number in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hook(u16);

/// What a record says; this also names its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    Fork,
    Exec,
    Exit,
    Connect,
    Send,
    Answer,
    Question,
    Hello,
    Packet,
    Request,
    Signal,
    Title,
    Ring,
    Open,
    OpenRequest,
    Rename,
    Delete,
    Link,
    Symlink,
    Chmod,
    Chown,
    Truncate,
    Mkdir,
    Mknod,
    Setxattr,
    Mount,
    Unmount,
    PivotRoot,
    Memfd,
    Module,
    UnixConnect,
    Listen,
    Closed,
    Socket,
    Ptrace,
    /// Memory of another process read, or written.
    Memory(&'static str),
    Bpf,
    Setns,
    Unshare,
    Credentials,
    /// One entry to several other calls.
    Nothing,
}

/// The kind of a system call, by its number in `sensor.h`.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Open = 1,
    Receive,
    Change,
    Act,
    Socket,
    Trace,
    Credentials,
    Connect,
    Title,
    Socketcall,
    Listen,
}

const HERE: i8 = -1;
const TEXT: i8 = -2;
const NONE: i8 = -3;
const NO: i8 = -1;
const TRIED: u8 = 128;

/// One system call: its numbers, and which of its arguments are folders, texts and values.
#[derive(Clone, Copy, Debug)]
struct Call {
    native: i64,
    ia32: &'static [usize],
    kind: Kind,
    folder: [i8; 2],
    text: [i8; 2],
    value: [i8; 2],
    is_told_when_tried: bool,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    tells: Tells,
    call: Option<Call>,
}

const fn hook(name: &'static str, tells: Tells) -> Row {
    Row { name, tells, call: None }
}

const fn call(name: &'static str, tells: Tells, native: i64, ia32: &'static [usize], kind: Kind) -> Row {
    let call = Call {
        native,
        ia32,
        kind,
        folder: [NONE; 2],
        text: [NO; 2],
        value: [NO; 2],
        is_told_when_tried: false,
    };
    Row { name, tells, call: Some(call) }
}

impl Row {
    const fn from(mut self, folder: i8, text: i8) -> Self {
        if let Some(call) = &mut self.call {
            call.folder[0] = folder;
            call.text[0] = text;
        }
        self
    }

    const fn to(mut self, folder: i8, text: i8) -> Self {
        if let Some(call) = &mut self.call {
            call.folder[1] = folder;
            call.text[1] = text;
        }
        self
    }

    const fn with(mut self, first: i8, second: i8) -> Self {
        if let Some(call) = &mut self.call {
            call.value = [first, second];
        }
        self
    }
}

impl Row {
    /// Trying is telling, even where the kernel refuses.
    const fn tried(mut self) -> Self {
        if let Some(call) = &mut self.call {
            call.is_told_when_tried = true;
        }
        self
    }
}

/// A call that newer architectures never had.
const fn old(number: i64) -> i64 {
    if cfg!(target_arch = "x86_64") { number } else { -1 }
}

const SETXATTRAT: i64 = 463;
const FCHMODAT2: i64 = 452;

/// First those with a number of their own in `sensor.h`, in its order; then system calls.
static HOOKS: &[Row] = &[
    hook("fork", Tells::Fork),
    hook("exec", Tells::Exec),
    hook("exit", Tells::Exit),
    hook("connect4", Tells::Connect),
    hook("connect6", Tells::Connect),
    hook("sendmsg4", Tells::Send),
    hook("sendmsg6", Tells::Send),
    hook("dns-answer", Tells::Answer),
    hook("dns-question", Tells::Question),
    hook("tls-hello", Tells::Hello),
    hook("tcp-close", Tells::Closed),
    hook("udp-close", Tells::Closed),
    hook("io_uring", Tells::Ring),
    hook("io_uring-open", Tells::Open),
    hook("io_uring-open-direct", Tells::OpenRequest),
    hook("io_uring-rename", Tells::Rename),
    hook("io_uring-unlink", Tells::Delete),
    hook("io_uring-mkdir", Tells::Mkdir),
    hook("io_uring-symlink", Tells::Symlink),
    hook("io_uring-link", Tells::Link),
    hook("packet", Tells::Packet),
    hook("signal", Tells::Signal),
    hook("http-request", Tells::Request),
    // Descriptors.
    call("open", Tells::Open, old(2), &[5], Kind::Open).from(HERE, 0),
    call("openat", Tells::Open, libc::SYS_openat, &[295], Kind::Open).from(0, 1),
    call("openat2", Tells::Open, libc::SYS_openat2, &[437], Kind::Open).from(0, 1),
    call("creat", Tells::Open, old(85), &[8], Kind::Open).from(HERE, 0),
    call("open_by_handle_at", Tells::Open, libc::SYS_open_by_handle_at, &[342], Kind::Open),
    call("pidfd_getfd", Tells::Open, libc::SYS_pidfd_getfd, &[438], Kind::Open),
    call("recvmsg", Tells::Open, libc::SYS_recvmsg, &[372], Kind::Receive),
    // Names.
    call("rename", Tells::Rename, old(82), &[38], Kind::Change).from(HERE, 0).to(HERE, 1),
    call("renameat", Tells::Rename, libc::SYS_renameat, &[302], Kind::Change).from(0, 1).to(2, 3),
    call("renameat2", Tells::Rename, libc::SYS_renameat2, &[353], Kind::Change).from(0, 1).to(2, 3),
    call("unlink", Tells::Delete, old(87), &[10], Kind::Change).from(HERE, 0),
    call("unlinkat", Tells::Delete, libc::SYS_unlinkat, &[301], Kind::Change).from(0, 1),
    call("rmdir", Tells::Delete, old(84), &[40], Kind::Change).from(HERE, 0),
    call("link", Tells::Link, old(86), &[9], Kind::Change).from(HERE, 0).to(HERE, 1),
    call("linkat", Tells::Link, libc::SYS_linkat, &[303], Kind::Change).from(0, 1).to(2, 3),
    call("symlink", Tells::Symlink, old(88), &[83], Kind::Change).from(HERE, 1).to(TEXT, 0),
    call("symlinkat", Tells::Symlink, libc::SYS_symlinkat, &[304], Kind::Change).from(1, 2).to(TEXT, 0),
    call("mkdir", Tells::Mkdir, old(83), &[39], Kind::Change).from(HERE, 0),
    call("mkdirat", Tells::Mkdir, libc::SYS_mkdirat, &[296], Kind::Change).from(0, 1),
    call("mknod", Tells::Mknod, old(133), &[14], Kind::Change).from(HERE, 0).with(1, NO),
    call("mknodat", Tells::Mknod, libc::SYS_mknodat, &[297], Kind::Change).from(0, 1).with(2, NO),
    // What is written about a file, and its length.
    call("chmod", Tells::Chmod, old(90), &[15], Kind::Change).from(HERE, 0).with(1, NO),
    call("fchmod", Tells::Chmod, libc::SYS_fchmod, &[94], Kind::Change).from(0, NO).with(1, NO),
    call("fchmodat", Tells::Chmod, libc::SYS_fchmodat, &[306], Kind::Change).from(0, 1).with(2, NO),
    call("fchmodat2", Tells::Chmod, FCHMODAT2, &[452], Kind::Change).from(0, 1).with(2, NO),
    call("chown", Tells::Chown, old(92), &[182, 212], Kind::Change).from(HERE, 0).with(1, 2),
    call("fchown", Tells::Chown, libc::SYS_fchown, &[95, 207], Kind::Change).from(0, NO).with(1, 2),
    call("lchown", Tells::Chown, old(94), &[16, 198], Kind::Change).from(HERE, 0).with(1, 2),
    call("fchownat", Tells::Chown, libc::SYS_fchownat, &[298], Kind::Change).from(0, 1).with(2, 3),
    call("truncate", Tells::Truncate, libc::SYS_truncate, &[92, 193], Kind::Change).from(HERE, 0),
    call("ftruncate", Tells::Truncate, libc::SYS_ftruncate, &[93, 194], Kind::Change).from(0, NO),
    call("setxattr", Tells::Setxattr, libc::SYS_setxattr, &[226], Kind::Change).from(HERE, 0).to(TEXT, 1),
    call("lsetxattr", Tells::Setxattr, libc::SYS_lsetxattr, &[227], Kind::Change).from(HERE, 0).to(TEXT, 1),
    call("fsetxattr", Tells::Setxattr, libc::SYS_fsetxattr, &[228], Kind::Change).from(0, NO).to(TEXT, 1),
    call("setxattrat", Tells::Setxattr, SETXATTRAT, &[463], Kind::Change).from(0, 1).to(TEXT, 3),
    // Mounts, and what has no file.
    call("mount", Tells::Mount, libc::SYS_mount, &[21], Kind::Change).from(HERE, 1).to(TEXT, 0),
    call("move_mount", Tells::Mount, libc::SYS_move_mount, &[429], Kind::Change).from(2, 3).to(0, 1),
    call("umount2", Tells::Unmount, libc::SYS_umount2, &[22, 52], Kind::Change).from(HERE, 0),
    call("pivot_root", Tells::PivotRoot, libc::SYS_pivot_root, &[217], Kind::Change).from(HERE, 0),
    call("memfd_create", Tells::Memfd, libc::SYS_memfd_create, &[356], Kind::Change).from(TEXT, 0),
    call("finit_module", Tells::Module, libc::SYS_finit_module, &[350], Kind::Change).from(0, NO).tried(),
    call("init_module", Tells::Module, libc::SYS_init_module, &[128], Kind::Act).tried(),
    // Sockets.
    call("socket", Tells::Socket, libc::SYS_socket, &[359], Kind::Socket),
    call("connect-unix", Tells::UnixConnect, libc::SYS_connect, &[362], Kind::Connect),
    call("listen", Tells::Listen, libc::SYS_listen, &[363], Kind::Listen),
    call("socketcall", Tells::Nothing, -1, &[102], Kind::Socketcall),
    // Other processes, and the kernel itself.
    call("ptrace", Tells::Ptrace, libc::SYS_ptrace, &[26], Kind::Trace).tried(),
    call("process_vm_readv", Tells::Memory("read-memory"), libc::SYS_process_vm_readv, &[347], Kind::Act)
        .with(0, NO)
        .tried(),
    call("process_vm_writev", Tells::Memory("write-memory"), libc::SYS_process_vm_writev, &[348], Kind::Act)
        .with(0, NO)
        .tried(),
    call("bpf", Tells::Bpf, libc::SYS_bpf, &[357], Kind::Act).with(0, NO).tried(),
    call("setns", Tells::Setns, libc::SYS_setns, &[346], Kind::Act).with(1, NO),
    call("unshare", Tells::Unshare, libc::SYS_unshare, &[310], Kind::Act).with(0, NO),
    call("setuid", Tells::Credentials, libc::SYS_setuid, &[23, 213], Kind::Credentials),
    call("setgid", Tells::Credentials, libc::SYS_setgid, &[46, 214], Kind::Credentials),
    call("setreuid", Tells::Credentials, libc::SYS_setreuid, &[70, 203], Kind::Credentials),
    call("setregid", Tells::Credentials, libc::SYS_setregid, &[71, 204], Kind::Credentials),
    call("setresuid", Tells::Credentials, libc::SYS_setresuid, &[164, 208], Kind::Credentials),
    call("setresgid", Tells::Credentials, libc::SYS_setresgid, &[170, 210], Kind::Credentials),
    call("prctl-name", Tells::Title, libc::SYS_prctl, &[172], Kind::Title).from(TEXT, 1),
    call("capset", Tells::Credentials, libc::SYS_capset, &[185], Kind::Credentials),
];

impl Hook {
    pub(super) const FORK: Self = Self(0);
    pub(super) const ANSWER: Self = Self(7);

    /// The hook with this number, if there is one.
    pub(super) fn new(number: u16) -> Option<Self> {
        (usize::from(number) < HOOKS.len()).then_some(Self(number))
    }

    /// Every hook that this architecture has.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..)
            .zip(HOOKS)
            .filter(|(_, row)| row.call.is_none_or(|call| call.native >= 0))
            .map(|(number, _)| Self(number))
    }

    fn row(self) -> &'static Row {
        &HOOKS[usize::from(self.0)]
    }

    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) fn tells(self) -> Tells {
        self.row().tells
    }
}

/// One entry of the kernel half's table: hook, kind, folders, texts, values.
pub(super) type Entry = [u8; 8];

/// The table that the kernel half looks system calls up in: native numbers, then 32-bit ones.
pub(super) fn table() -> [Entry; TABLES * CALLS] {
    let mut table = [[0; size_of::<Entry>()]; TABLES * CALLS];
    for (number, row) in (0_u8..).zip(HOOKS) {
        let Some(call) = row.call else { continue };
        let signed = [call.folder, call.text, call.value].concat();
        let tried = if call.is_told_when_tried { TRIED } else { 0 };
        let mut entry = [number, call.kind as u8 | tried, 0, 0, 0, 0, 0, 0];
        for (byte, value) in entry[2..].iter_mut().zip(signed) {
            *byte = value.cast_unsigned();
        }
        let native = usize::try_from(call.native).ok();
        // The other 32-bit tables are not told apart yet.
        let ia32 = if cfg!(target_arch = "x86_64") { call.ia32 } else { &[] };
        for place in native.into_iter().chain(ia32.iter().map(|number| CALLS + number)) {
            table[place] = entry;
        }
    }
    table
}

/// Which hooks the calls behind socketcall(2) belong to, by their number there.
pub(super) fn socketcalls() -> [u8; SOCKETCALLS] {
    let mut hooks = [0; SOCKETCALLS];
    for (number, name) in [(1, "socket"), (3, "connect-unix"), (4, "listen"), (17, "recvmsg")] {
        let place = HOOKS.iter().position(|row| row.name == name);
        hooks[number] = place.and_then(|place| u8::try_from(place).ok()).unwrap_or_default();
    }
    hooks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_calls_share_a_number() {
        let mut places: Vec<usize> = Vec::new();
        for call in HOOKS.iter().filter_map(|row| row.call) {
            places.extend(usize::try_from(call.native));
            places.extend(call.ia32.iter().map(|number| CALLS + number));
        }
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), count);
        assert!(places.iter().all(|place| *place < TABLES * CALLS));
        assert!(socketcalls()[17] > 0);
    }
}
