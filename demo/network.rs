//! A network of its own for the demo, and the place the stolen credential is sent to.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A network namespace with one documentation address on its loopback device. It has no way out, and it goes away
/// with the last process in it.
#[derive(Debug)]
pub struct Network {
    pub address: Ipv4Addr,
    /// What `/proc/PID/ns/net` says of a process inside.
    identity: PathBuf,
}

impl Network {
    /// Moves the calling thread, and all it starts from now on, into a new network. Call it before the first thread.
    pub fn enter(address: Ipv4Addr) -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| io::Error::other(format!("cannot make a network namespace: {error}")))?;
        let identity = fs::read_link("/proc/thread-self/ns/net")?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
        Ok(Self { address, identity })
    }

    /// Ends what is left of a job. Nothing but this process and what it started can be in the namespace it made.
    pub fn clear(&self) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let pid = Pid::from_raw(pid);
            let is_inside =
                fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link == self.identity);
            if is_inside && pid != Pid::this() && kill(pid, Signal::SIGKILL).is_ok() {
                ended += 1;
            }
        }
        Ok(ended)
    }
}

fn ip(words: &[&str]) -> io::Result<()> {
    let mut command = Command::new("ip");
    let status = command
        .args(words)
        .status()
        .map_err(|error| io::Error::other(format!("cannot start `ip`: {error}; `make setup` installs it")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

/// A web server that keeps what is posted to it.
#[derive(Debug)]
pub struct Sink {
    pub address: SocketAddrV4,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Sink {
    /// Port 0 asks for any free one.
    pub fn start(address: SocketAddrV4) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = SocketAddrV4::new(*address.ip(), listener.local_addr()?.port());
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(body) = read_request(&stream) {
                    // Kept before the answer: the client ends on it, and then the job does.
                    shared.lock().unwrap_or_else(PoisonError::into_inner).extend(body);
                    // A client may close before it reads this; what it sent counts all the same.
                    let _ = (&stream).write_all(OK);
                }
            }
        });
        Ok(Self { address, received })
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const LONGEST_REQUEST: u64 = 1 << 20;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn read_request(stream: &TcpStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = BufReader::new(stream.take(LONGEST_REQUEST));
    let mut length = 0;
    loop {
        let mut line = String::new();
        if request.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = Vec::new();
    request.take(length).read_to_end(&mut body)?;
    Ok(body)
}
