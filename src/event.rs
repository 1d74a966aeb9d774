//! What happened on the host: one [`Event`] per act, in kernel order.
//!
//! These types are the vocabulary of the whole program and, through serde, the
//! shape of a record in `evidence.jsonl` (design: one shape, so that a live job
//! and a recorded one cannot drift apart). They import nothing of ours.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use settings::{AgentSettings, Level, Permission, Scope, Setting};

/// A moment, in nanoseconds since the Unix epoch (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// RFC 3339 with milliseconds, as every report writes it: `2026-01-31T09:26:53.589Z`.
    pub fn rfc3339(self) -> String {
        const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .ok()
            .and_then(|moment| moment.format(FORMAT).ok())
            .unwrap_or_default()
    }
}

/// One process for good: a pid that is used again later has another start.
///
/// Known outside as OCSF `process.uid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the host's pid namespace.
    pub pid: u32,
    /// Start of the group leader, in nanoseconds since boot (`start_boottime`).
    pub start: u64,
}

impl ProcessKey {
    /// Acts of the host itself (an answer from the network, a count of lost records).
    pub const HOST: Self = Self { pid: 0, start: 0 };
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.pid)
    }
}

/// Who did one thing, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Timestamp,
    pub actor: ProcessKey,
    #[serde(flatten)]
    pub activity: Activity,
}

/// The closed list of things a process can be seen to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "activity", rename_all = "kebab-case")]
pub enum Activity {
    /// The actor made a new process. Threads are not processes.
    Fork {
        child: ProcessKey,
    },
    /// The actor replaced its image (OCSF Process Activity: Launch).
    Launch(Launch),
    /// The actor's last thread ended.
    Exit {
        status: ExitStatus,
    },
    /// The actor opened a file, or was given one, and has a descriptor.
    Open {
        file: File,
        access: Access,
    },
    /// The actor gave a file or folder another name.
    Rename {
        from: File,
        to: File,
    },
    /// The actor removed a name: a file, or an empty folder.
    Delete {
        file: File,
    },
    /// The actor asked for a connection (TCP, or a connected UDP socket).
    Connect {
        to: SocketAddr,
        transport: Transport,
    },
    /// A connection of the actor's is over, or never came about: one of TCP, or a UDP socket that sent to
    /// this destination alone.
    Closed {
        to: SocketAddr,
        #[serde(default = "tcp", skip_serializing_if = "is_tcp")]
        transport: Transport,
        /// Bytes of data; what TCP sent again counts once.
        sent: u64,
        received: u64,
        /// Nanoseconds since the connection was asked for.
        duration: u64,
        /// The recording ends before the connection does; the numbers are as of then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_open: bool,
    },
    /// The actor sent a datagram without connecting. Told once per process and destination.
    Send {
        to: SocketAddr,
        transport: Transport,
    },
    /// A name server's answer reached this host: the name stood for these addresses.
    /// Anybody can send one; the engine believes the host's own name servers.
    Answer {
        server: IpAddr,
        name: String,
        addresses: Vec<IpAddr>,
    },
    /// The actor gave the file `from` a second name.
    Link {
        from: File,
        to: File,
    },
    /// The actor made `file`, which leads to `target`, as it was written.
    Symlink {
        target: String,
        file: File,
    },
    /// The actor set the permission bits of a file.
    Chmod {
        file: File,
        mode: u32,
    },
    /// The actor gave a file to a user, a group or both.
    Chown {
        file: File,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// The actor cut a file, or made it longer.
    Truncate {
        file: File,
    },
    /// The actor made a folder.
    Mkdir {
        file: File,
    },
    /// The actor made a device, a pipe, a socket or a file, by its type and permission bits.
    Mknod {
        file: File,
        mode: u32,
    },
    /// The actor set an extended attribute.
    Setxattr {
        file: File,
        name: String,
    },
    /// The actor mounted something. `source` as it was written, or what a moved mount was.
    Mount {
        source: String,
        target: File,
    },
    Unmount {
        target: File,
    },
    /// The actor made `root` the root of its mount namespace.
    PivotRoot {
        root: File,
    },
    /// The actor made a file in memory, which no path leads to.
    Memfd {
        name: String,
    },
    /// The actor loaded a kernel module: from a file, or from its memory.
    Module {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<File>,
    },
    /// The actor connected to a unix socket. A name that is no path begins with `@`.
    UnixConnect {
        file: File,
        /// A process that is not the job's listens there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        outside: bool,
    },
    /// The actor sent a packet by hand: neither TCP nor UDP, or one that it made as a whole. `pattern` is a digest of
    /// what it carries, without the time that a ping writes into it.
    Packet {
        to: IpAddr,
        protocol: u32,
        pattern: String,
    },
    /// The actor sent the guard a signal; `own_group` when both are in one process group.
    Signal {
        signal: u32,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        own_group: bool,
    },
    /// The actor gave itself another name, as process lists show it.
    Title {
        name: String,
    },
    /// The actor made an unusual socket: raw, packet, vsock and the like. Not plain TCP and UDP,
    /// nor unix sockets.
    Socket {
        family: String,
        kind: String,
        protocol: u32,
    },
    /// The actor waits for TCP connections to this address of the host.
    Listen {
        on: SocketAddr,
    },
    /// The actor asked a name server for the records of type `kind` (`A`, `TXT`, …). `more` is how
    /// many other questions the same message held.
    Query {
        to: SocketAddr,
        transport: Transport,
        name: String,
        kind: String,
        #[serde(default, skip_serializing_if = "is_none_more")]
        more: u16,
    },
    /// The actor began a TLS connection; `name` is whom it asked for (SNI), if it said so in clear.
    Hello {
        to: SocketAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// The actor set up a ring (`io_uring`), whose requests are no system calls.
    Ring,
    /// The actor took hold of another process, or reached into its memory. `target` as the actor's
    /// pid namespace numbers it. Told once for each.
    Trace {
        request: String,
        target: u32,
    },
    /// The actor spoke to the kernel's program loader. Told once per process and command.
    Bpf {
        command: String,
    },
    /// The actor left a namespace for a new one, or for another process's (`entered`).
    Namespace {
        kinds: Vec<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        entered: bool,
    },
    /// Who the actor is now, after it asked for a change. `capabilities` as the kernel's bits.
    Credentials {
        uid: u32,
        effective_uid: u32,
        gid: u32,
        effective_gid: u32,
        capabilities: u64,
    },
    /// Records of one plane that could not be delivered since `since`.
    Lost {
        plane: Plane,
        count: u64,
        since: Timestamp,
    },
    /// A hook that was proved at the start is no longer in place.
    HookLost {
        hook: String,
    },
}

/// A new image, as it is once in place: these are the arguments that run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program the kernel runs; for a `#!` file that is the interpreter.
    pub executable: File,
    /// The `#!` file that was asked for, as an absolute path, when it is not `executable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<File>,
    /// The whole argument vector, redacted, `argv[0]` first.
    pub arguments: Vec<String>,
    /// True when the vector was longer than the recorder keeps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arguments_truncated: bool,
    /// The path that was asked for, absolute but with its links kept: `/usr/bin/cc`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requested: String,
    /// Working folder, absolute.
    pub directory: String,
    /// Only the variables that name the step or agent; never the whole environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Effective user.
    pub uid: u32,
}

impl Launch {
    /// The file that tells what runs: the script if there is one, else the executable.
    pub fn program(&self) -> &File {
        self.script.as_ref().unwrap_or(&self.executable)
    }

    /// What a multi-call program such as busybox runs, and the words behind it: the name it is called by
    /// chooses, else its first word.
    pub fn applet(&self) -> Option<(&str, &[String])> {
        if self.script.is_some() || !is_multi_call(last(&self.executable.path)) {
            return None;
        }
        let at = self.arguments.iter().position(|word| !is_multi_call(last(word)))?;
        let name = last(&self.arguments[at]);
        // A login shell is called `-sh`; any other dash is an option of busybox itself.
        let name = if at == 0 { name.trim_start_matches('-') } else { name };
        (!name.is_empty() && !name.starts_with('-')).then(|| (name, &self.arguments[at + 1..]))
    }
}

/// Whether a program of this name is many programs in one file.
pub fn is_multi_call(name: &str) -> bool {
    ["busybox", "toybox"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    })
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A file as an object: where it really is, and which one it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute real path. Bytes that are not UTF-8 stand as `\xNN`; a cut path starts with `…/`.
    pub path: String,
    /// Device and inode; both 0 when only the request is known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub device: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inode: u64,
    /// Last change of the inode (`ctime`), when the recorder has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// True when the path is the caller's request made absolute, not read from the object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// The name it was opened by, where that is another path than its own: a link led to it, or a process's
    /// root in `/proc`. Not told of what lies in a system folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// True when no folder names the object any more, or never did: a removed file, a memfd.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_none_more(value: &u16) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
pub(crate) fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl File {
    /// A file known by its path alone.
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// What a descriptor may do, from the flags of a successful open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one descriptor")]
pub struct Access {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write: bool,
    /// The file did not exist before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
    /// The descriptor stands for a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The descriptor came in a message from another process, which opened the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub received: bool,
    /// The actor took the descriptor out of another process (`pidfd_getfd`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    Code(u8),
    Signal(u8),
    /// It is gone; a sensor that only looks now and then cannot tell how.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
    /// ICMP, raw and everything else that has an address.
    Other,
}

/// Recordings tell only of TCP what was carried, unless they say otherwise.
fn tcp() -> Transport {
    Transport::Tcp
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_tcp(transport: &Transport) -> bool {
    *transport == Transport::Tcp
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Other => "other",
        })
    }
}

/// A plane of observation; coverage and losses are told for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    Process,
    File,
    Egress,
}

impl Activity {
    /// The plane it is counted under; `None` for what the recorder says about itself.
    pub fn plane(&self) -> Option<Plane> {
        Some(match self {
            Self::Fork { .. }
            | Self::Launch(_)
            | Self::Exit { .. }
            | Self::Ring
            | Self::Signal { .. }
            | Self::Title { .. }
            | Self::Trace { .. }
            | Self::Bpf { .. }
            | Self::Module { .. }
            | Self::Namespace { .. }
            | Self::Credentials { .. } => Plane::Process,
            Self::Open { .. }
            | Self::Rename { .. }
            | Self::Delete { .. }
            | Self::Link { .. }
            | Self::Symlink { .. }
            | Self::Chmod { .. }
            | Self::Chown { .. }
            | Self::Truncate { .. }
            | Self::Mkdir { .. }
            | Self::Mknod { .. }
            | Self::Setxattr { .. }
            | Self::Mount { .. }
            | Self::Unmount { .. }
            | Self::PivotRoot { .. }
            | Self::Memfd { .. } => Plane::File,
            Self::Connect { .. }
            | Self::Closed { .. }
            | Self::Send { .. }
            | Self::Answer { .. }
            | Self::Query { .. }
            | Self::Hello { .. }
            | Self::UnixConnect { .. }
            | Self::Listen { .. }
            | Self::Packet { .. }
            | Self::Socket { .. } => Plane::Egress,
            Self::Lost { .. } | Self::HookLost { .. } => return None,
        })
    }

    /// The files it names, in the order of its fields.
    pub fn files_mut(&mut self) -> Vec<&mut File> {
        match self {
            Self::Launch(launch) => {
                std::iter::once(&mut launch.executable).chain(&mut launch.script).collect()
            }
            Self::Rename { from, to } | Self::Link { from, to } => vec![from, to],
            Self::Open { file, .. }
            | Self::Delete { file }
            | Self::Symlink { file, .. }
            | Self::Chmod { file, .. }
            | Self::Chown { file, .. }
            | Self::Truncate { file }
            | Self::Mkdir { file }
            | Self::Mknod { file, .. }
            | Self::Setxattr { file, .. }
            | Self::UnixConnect { file, .. }
            | Self::Mount { target: file, .. }
            | Self::Unmount { target: file }
            | Self::PivotRoot { root: file } => vec![file],
            Self::Module { file } => file.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

impl Plane {
    pub const ALL: [Self; 3] = [Self::Process, Self::File, Self::Egress];
}

impl fmt::Display for Plane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Process => "process",
            Self::File => "file",
            Self::Egress => "egress",
        })
    }
}

/// Something looked up on the host, recorded so that a replay never has to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// A local user's home; `~` in the policy and in the catalogues.
    Home { uid: u32, path: String },
    /// A name server this host is configured to ask.
    Resolver { address: IpAddr },
    /// A name that the host itself has for an address, beside what its name servers say.
    HostName { name: String, address: IpAddr },
    /// Hosts a package client is configured to use, and the file that says so.
    Registry { group: String, hosts: Vec<String>, source: String },
    /// A process of the job that was there before the guard.
    Running(Running),
    /// A credential file that was there at the start, as an object.
    Credential { file: File },
    /// The content of a program as it was launched, told before its first launch. `sha256` in hex;
    /// `None` when it could not be read: gone or changed by then, too large, or no answer.
    Digest {
        file: File,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// A process that is a coding agent by its signature; told before its launch. Everything below
    /// it is that agent's work.
    Agent { process: ProcessKey, agent: String },
    /// What settings make a coding agent run: those of the project where it is about to be launched, and those that a
    /// process has written which is about to end.
    AgentCommands(AgentCommands),
    /// The text that a step of a runner is about to run; told before the launch of its shell.
    Script { process: ProcessKey, path: String, text: String },
    /// The workflow's file: names and lines of the steps. It may be known only after the steps began;
    /// whoever judges a recording looks for it first.
    Workflow {
        /// Its path in the repository.
        path: String,
        text: String,
        /// How it was read: `api`, `commit`, `tree`.
        origin: String,
    },
    /// Something is wrong with a coding agent's own record of its tool calls.
    AgentRecord { agent: String, file: String, problem: String, time: Timestamp },
    /// A file that a coding agent's output goes to, as the user says.
    AgentOutput { agent: String, file: String },
    /// What one source says that a coding agent may do; read when the agent starts.
    AgentSettings(AgentSettings),
    /// A socket that was there before the job's first step.
    Socket(Socket),
    /// A secret came out. Its value is never told.
    Leak {
        /// Name of the variable, or path of the file, that holds it.
        secret: String,
        /// In which form: `plain`, `base64`.
        encoding: String,
        /// `standard output`, `the job's summary`, `artifact dist/app.map`.
        place: String,
        time: Timestamp,
    },
    /// What a process told later steps to start with, by the file that the runner reads: the variable, and the file it names.
    StepVariables { process: ProcessKey, path: String, settings: Vec<(String, String)> },
    /// A source is not what it was, as somebody found it who builds of it.
    Source(SourceContent),
    /// Something that the recorder found out, while it watched, that it could not see.
    Gap { text: String },
    /// What one check of the host's security state found, at the start and again at the end.
    Posture {
        /// Its id: `sudoers`.
        check: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_end: bool,
        /// At the end: nothing differs from the start, so `items` is left out.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unchanged: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<PostureItem>,
        /// What could not be read, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
        /// How many objects there were to look at, also fine ones that `items` leaves out.
        #[serde(default, skip_serializing_if = "is_zero")]
        looked_at: u64,
    },
}

/// The content of a source that a program of a build has opened, where it is another one than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceContent {
    /// By the name that the source has in the project. Device, inode and change are those of the object that was opened.
    pub file: File,
    /// Who opened it, and when.
    pub reader: ProcessKey,
    pub time: Timestamp,
    /// What it was: `blob:` and git's id of what is checked in, `sha256:` and the digest of what was read before.
    pub was: String,
    /// A moment at which it was that, and who had it open for writing then.
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<ProcessKey>,
    /// SHA-256 of what was opened, in hex; `None` when that was gone, or another one again, before it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What one file of settings makes a coding agent run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCommands {
    /// The agent, or who wrote the file.
    pub process: ProcessKey,
    pub file: String,
    /// The words that start each tool server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Vec<String>>,
    /// The text of each hook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
}

/// A TCP or UDP socket of the host, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    pub transport: Transport,
    pub local: SocketAddr,
    /// The other end; `None` for a socket that waits for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// User id of the socket's maker.
    pub uid: u32,
    /// Processes that have a descriptor for it; empty when none of those we may look into has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
}

/// A process by number and program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Name of the program's file, else what the kernel calls the process.
    pub program: String,
}

/// One object of a check, with the value that is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PostureItem {
    /// A path, or a name within `file`: a user, a module.
    pub object: String,
    /// A setting's text, or a digest with permission bits and owner.
    pub value: String,
    /// The file it stands in, when `object` is not that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A process of the job that was there before the guard: what can still be known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub process: ProcessKey,
    /// `None` for the root of the tree.
    pub parent: Option<ProcessKey>,
    pub launch: Option<Launch>,
}

/// How well a plane was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// An event sensor whose canaries passed.
    Full,
    /// Sampled: short-lived things are missed.
    Polled,
    None,
}

impl fmt::Display for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "full",
            Self::Polled => "polled",
            Self::None => "none",
        })
    }
}

/// What a sensor can and cannot see on this machine, said before the job's first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The backend: `ebpf`.
    pub sensor: String,
    /// The tier in force, for people: `T2 (tracepoints and cgroup hooks)`.
    pub tier: String,
    pub process: Reach,
    pub file: Reach,
    pub egress: Reach,
    /// Each hook, and whether its canary was seen.
    pub hooks: BTreeMap<String, bool>,
    /// The text of each thing this tier does not see.
    pub gaps: Vec<String>,
}

impl Sight {
    pub fn of(&self, plane: Plane) -> Reach {
        match plane {
            Plane::Process => self.process,
            Plane::File => self.file,
            Plane::Egress => self.egress,
        }
    }
}

/// Makes an absolute path normal without asking the host: no `.`, no `..`, no doubled slash.
pub fn normal_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
