//! The sockets of this host: who is connected to whom, who waits for others, and which process holds which.
//!
//! TCP of our own network namespace comes from the kernel's socket diagnosis (netstat2). It gives nothing,
//! and no error either, where the kernel lacks it, so it has to prove itself on a socket of ours. UDP, whose
//! other end it does not tell, and other namespaces come from `/proc/net` (procfs).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, iterate_sockets_info_without_pids};
use procfs::net::TcpState;

use crate::event::{Fact, Owner, Socket, Transport};

/// Sockets told in a recording, connected ones first; a server farm's tables would fill it.
const MOST: usize = 1000;
/// Owners told of one socket.
const OWNERS: usize = 8;

/// One line of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub transport: Transport,
    pub local: SocketAddr,
    /// `None` for a socket that is not connected.
    pub remote: Option<SocketAddr>,
    /// It takes connections (TCP).
    pub listens: bool,
    pub inode: u64,
    pub uid: u32,
}

/// Reads the tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// The kernel's socket diagnosis showed a socket that we know is there.
    is_proved: bool,
}

impl Tables {
    /// Tries the kernel's socket diagnosis on a socket of ours.
    pub fn new() -> Self {
        let is_proved =
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].iter().any(|address| {
                let Ok(listener) = TcpListener::bind((*address, 0)) else { return false };
                let Ok(own) = listener.local_addr() else { return false };
                diagnosed()
                    .is_some_and(|entries| entries.iter().any(|entry| entry.listens && entry.local == own))
            });
        Self { is_proved }
    }

    /// Whether TCP comes from the kernel's socket diagnosis, not from `/proc/net`.
    pub fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Everything in the network namespace of this thread.
    pub fn own(&self) -> Vec<Entry> {
        let here = Path::new("/proc/thread-self/net");
        let mut entries = match self.is_proved.then(diagnosed).flatten() {
            Some(entries) => entries,
            None => tcp(here),
        };
        entries.extend(udp(here));
        entries
    }

    /// The number of the socket at this end of a TCP connection in the network namespace of this thread.
    pub fn inode(&self, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
        let tables = self.is_proved.then(diagnosed).flatten();
        let entries = tables.unwrap_or_else(|| tcp(Path::new("/proc/thread-self/net")));
        let is_it = |entry: &&Entry| entry.local == local && entry.remote == Some(remote);
        entries.iter().find(is_it).map(|entry| entry.inode).filter(|inode| *inode != 0)
    }

    /// Everything in the network namespace of a process.
    pub fn of(pid: u32) -> Vec<Entry> {
        let there = Path::new("/proc").join(pid.to_string()).join("net");
        let mut entries = tcp(&there);
        entries.extend(udp(&there));
        entries
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// TCP by the kernel's socket diagnosis; `None` when it is not to be had.
fn diagnosed() -> Option<Vec<Entry>> {
    let sockets = iterate_sockets_info_without_pids(
        AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6,
        ProtocolFlags::TCP,
    );
    let entries = sockets.ok()?.filter_map(|socket| {
        let socket = socket.ok()?;
        let ProtocolSocketInfo::Tcp(tcp) = &socket.protocol_socket_info else { return None };
        let remote = SocketAddr::new(tcp.remote_addr, tcp.remote_port);
        Some(Entry {
            transport: Transport::Tcp,
            local: SocketAddr::new(tcp.local_addr, tcp.local_port),
            remote: other_end(remote),
            listens: tcp.state == netstat2::TcpState::Listen,
            inode: socket.inode.into(),
            uid: socket.uid,
        })
    });
    Some(entries.collect())
}

fn tcp(folder: &Path) -> Vec<Entry> {
    use procfs::FromReadSI as _;
    let read =
        |name| procfs::net::TcpNetEntries::from_file(folder.join(name), procfs::current_system_info()).ok();
    let entries = ["tcp", "tcp6"].into_iter().filter_map(read).flat_map(|entries| entries.0);
    let entry = |entry: procfs::net::TcpNetEntry| Entry {
        transport: Transport::Tcp,
        local: entry.local_address,
        remote: other_end(entry.remote_address),
        listens: entry.state == TcpState::Listen,
        inode: entry.inode,
        uid: entry.uid,
    };
    entries.map(entry).collect()
}

fn udp(folder: &Path) -> Vec<Entry> {
    use procfs::FromReadSI as _;
    let read =
        |name| procfs::net::UdpNetEntries::from_file(folder.join(name), procfs::current_system_info()).ok();
    let entries = ["udp", "udp6"].into_iter().filter_map(read).flat_map(|entries| entries.0);
    let entry = |entry: procfs::net::UdpNetEntry| Entry {
        transport: Transport::Udp,
        local: entry.local_address,
        remote: other_end(entry.remote_address),
        listens: false,
        inode: entry.inode,
        uid: entry.uid,
    };
    entries.map(entry).collect()
}

fn other_end(remote: SocketAddr) -> Option<SocketAddr> {
    (remote.port() != 0 && !remote.ip().is_unspecified()).then_some(remote)
}

/// The number of a socket, from what a descriptor of it is called: `socket:[4711]`.
pub fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The processes of this host, by number.
pub fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What is there now, as facts for the recording: connected sockets first.
///
/// A socket that is closing and has no owner any more is left out.
pub fn inventory() -> Vec<Fact> {
    let mut entries: Vec<Entry> = Tables::new().own();
    entries.retain(|entry| entry.inode != 0);
    entries.sort_by_key(|entry| (entry.remote.is_none(), entry.transport, entry.local, entry.remote));
    entries.dedup();
    let left_out = entries.len().saturating_sub(MOST);
    entries.truncate(MOST);
    let owners = owners(&entries.iter().map(|entry| entry.inode).collect());
    let mut facts: Vec<Fact> = entries
        .iter()
        .map(|entry| {
            Fact::Socket(Socket {
                transport: entry.transport,
                local: entry.local,
                remote: entry.remote,
                uid: entry.uid,
                owners: owners.get(&entry.inode).cloned().unwrap_or_default(),
            })
        })
        .collect();
    if left_out > 0 {
        let text = format!("{left_out} more sockets were there before the start and are not listed");
        facts.push(Fact::Gap { text });
    }
    facts
}

/// Who holds each of these sockets, of the processes that we may look into.
fn owners(wanted: &BTreeSet<u64>) -> BTreeMap<u64, Vec<Owner>> {
    let mut owners: BTreeMap<u64, Vec<Owner>> = BTreeMap::new();
    if wanted.is_empty() {
        return owners;
    }
    for pid in processes() {
        let held: BTreeSet<u64> = held(pid).filter(|inode| wanted.contains(inode)).collect();
        if held.is_empty() {
            continue;
        }
        let owner = Owner { pid, program: program(pid) };
        for inode in held {
            let owners = owners.entry(inode).or_default();
            if owners.len() < OWNERS {
                owners.push(owner.clone());
            }
        }
    }
    owners
}

/// The sockets that a process holds, if we may look.
fn held(pid: u32) -> impl Iterator<Item = u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| inode(fs::read_link(entry.path()).ok()?.to_str()?))
}

/// The processes that hold this socket, of those that we may look into.
pub fn holders(wanted: u64) -> Vec<u32> {
    processes().filter(|pid| held(*pid).any(|inode| inode == wanted)).collect()
}

fn program(pid: u32) -> String {
    let name = |path: std::path::PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    let by_file = fs::read_link(format!("/proc/{pid}/exe")).ok().and_then(name);
    by_file.unwrap_or_else(|| {
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
    })
}

/// The network namespace of a process, or of this thread.
pub fn namespace(pid: Option<u32>) -> Option<u64> {
    let folder = pid.map_or_else(|| "thread-self".to_owned(), |pid| pid.to_string());
    fs::metadata(format!("/proc/{folder}/ns/net")).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};

    #[test]
    fn both_sources_tell_our_own_sockets_alike() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let here = listener.local_addr().unwrap();
        let client = TcpStream::connect(here).unwrap();
        let there = client.local_addr().unwrap();
        let by_files = Tables { is_proved: false }.own();
        let by_tables = Tables::new();
        for entries in [by_files, by_tables.own()] {
            let of = |local: SocketAddr, remote| {
                entries.iter().find(|entry| entry.local == local && entry.remote == remote).copied()
            };
            assert!(of(here, None).is_some_and(|entry| entry.listens));
            assert!(of(there, Some(here)).is_some_and(|entry| !entry.listens && entry.inode != 0));
        }
    }

    #[test]
    fn the_holder_of_one_end_of_a_connection_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let here = listener.local_addr().unwrap();
        let client = TcpStream::connect(here).unwrap();
        let there = client.local_addr().unwrap();
        for tables in [Tables::new(), Tables { is_proved: false }] {
            let inode = tables.inode(there, here).unwrap();
            assert!(holders(inode).contains(&std::process::id()));
            assert_eq!(tables.inode(there, (Ipv4Addr::LOCALHOST, 1).into()), None);
        }
        assert!(holders(u64::MAX).is_empty());
    }

    #[test]
    fn the_inventory_names_the_owner_and_both_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
        let facts = inventory();
        let socket = |local: SocketAddr| {
            facts.iter().find_map(|fact| match fact {
                Fact::Socket(socket) if socket.local == local => Some(socket.clone()),
                _ => None,
            })
        };
        let waiting = socket(listener.local_addr().unwrap()).unwrap();
        assert_eq!((waiting.transport, waiting.remote), (Transport::Tcp, None));
        assert!(waiting.owners.iter().any(|owner| owner.pid == std::process::id()), "{waiting:?}");
        let connected = socket(udp.local_addr().unwrap()).unwrap();
        assert_eq!(connected.remote, Some((Ipv4Addr::LOCALHOST, 9).into()));
    }

    #[test]
    fn a_descriptor_of_something_else_is_no_socket() {
        assert_eq!(inode("socket:[4711]"), Some(4711));
        for link in ["pipe:[1]", "socket:[x]", "socket:[1", "/socket:[1]", ""] {
            assert_eq!(inode(link), None, "{link}");
        }
    }
}
