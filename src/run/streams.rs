//! Standard output and error of the command, searched for secrets on their way.
//!
//! A pipe is put before them only where there is something to look for and where the output goes to no terminal. Where both go
//! to one place they share one pipe, so that their order stays. Bytes are passed on first and searched then.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::secrets::{Found, Matcher};

/// The word that makes this program pass its input on; not for people.
pub const PASS_ON: &str = "__pass-on";

/// A stream's name in the record, and what was found in it.
pub type Leak = (&'static str, Found);

/// How long the end of the command's output is waited for in one go.
const PATIENCE_MS: u16 = 20;
const PIECE: usize = 1 << 16;

/// What the command gets for its output.
#[derive(Debug, Default)]
pub struct Outlets {
    pub output: Option<OwnedFd>,
    pub error: Option<OwnedFd>,
}

/// The pipes at work.
#[derive(Debug)]
pub struct Streams {
    threads: Vec<JoinHandle<Option<Rest>>>,
    is_over: Arc<AtomicBool>,
    leaks: Receiver<Leak>,
}

/// A pipe that somebody still writes to, and where it leads.
#[derive(Debug)]
pub struct Rest {
    from: OwnedFd,
    to: OwnedFd,
}

/// Says which of the streams go to a terminal, so that they are left alone.
pub fn terminals() -> Vec<&'static str> {
    let streams =
        [(io::stdout().is_terminal(), "standard output"), (io::stderr().is_terminal(), "standard error")];
    streams.into_iter().filter(|(is_terminal, _)| *is_terminal).map(|(_, name)| name).collect()
}

/// What a stream leads to, and which object that is; a terminal and what swallows everything are left alone.
fn target(stream: &impl std::os::fd::AsFd) -> Option<(OwnedFd, (u64, u64))> {
    let status = nix::sys::stat::fstat(stream.as_fd()).ok()?;
    let is_device = status.st_mode & nix::libc::S_IFMT == nix::libc::S_IFCHR;
    let own = if is_device { None } else { stream.as_fd().try_clone_to_owned().ok() };
    own.map(|own| (own, (status.st_dev, status.st_ino)))
}

impl Streams {
    /// Puts pipes before the streams; `None` where there is nothing to look for or no stream to look into.
    pub fn open(matcher: Matcher) -> io::Result<Option<(Self, Outlets)>> {
        if matcher.is_empty() {
            return Ok(None);
        }
        let (output, error) = (target(&io::stdout()), target(&io::stderr()));
        let (sender, leaks) = channel();
        let (matcher, is_over) = (Arc::new(matcher), Arc::new(AtomicBool::new(false)));
        let mut streams = Self { threads: Vec::new(), is_over, leaks };
        let mut outlets = Outlets::default();
        let is_one = output.as_ref().zip(error.as_ref()).is_some_and(|(one, other)| one.1 == other.1);
        if let Some((to, _)) = output {
            let name = if is_one { "the output" } else { "standard output" };
            let from = streams.add(name, to, &matcher, &sender)?;
            if is_one {
                outlets.error = Some(from.try_clone()?);
            }
            outlets.output = Some(from);
        }
        if let Some((to, _)) = error.filter(|_| !is_one) {
            outlets.error = Some(streams.add("standard error", to, &matcher, &sender)?);
        }
        Ok((!streams.threads.is_empty()).then_some((streams, outlets)))
    }

    fn add(
        &mut self,
        name: &'static str,
        to: OwnedFd,
        matcher: &Arc<Matcher>,
        leaks: &Sender<Leak>,
    ) -> io::Result<OwnedFd> {
        let (from, end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (matcher, leaks, is_over) = (Arc::clone(matcher), leaks.clone(), Arc::clone(&self.is_over));
        let thread = std::thread::Builder::new()
            .name("guard-stream".to_owned())
            .spawn(move || pass(name, from, to, &matcher, &leaks, &is_over))?;
        self.threads.push(thread);
        Ok(end)
    }

    /// What was found since the last time.
    pub fn found(&self) -> Vec<Leak> {
        self.leaks.try_iter().collect()
    }

    /// Passes on what is left of the command's output; what others still write to is given back.
    pub fn finish(mut self) -> (Vec<Leak>, Vec<Rest>) {
        self.is_over.store(true, Ordering::Release);
        let rest =
            std::mem::take(&mut self.threads).into_iter().filter_map(|thread| thread.join().ok().flatten());
        let rest = rest.collect();
        (self.found(), rest)
    }
}

impl Rest {
    /// Leaves a process behind that passes on what a background process still writes, as if we had never stood between.
    pub fn hand_over(self) {
        use std::os::unix::process::CommandExt as _;
        let Ok(program) = std::env::current_exe() else { return };
        let mut command = Command::new(program);
        command.arg(PASS_ON).stdin(Stdio::from(self.from)).stdout(Stdio::from(self.to)).stderr(Stdio::null());
        let _ = command.process_group(0).spawn();
    }
}

/// Passes standard input on until its end.
pub fn pass_on() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::stdout().lock());
}

/// Passes one stream on until its end; when the command is over, until nothing more comes.
fn pass(
    name: &'static str,
    from: OwnedFd,
    to: OwnedFd,
    matcher: &Matcher,
    leaks: &Sender<Leak>,
    is_over: &AtomicBool,
) -> Option<Rest> {
    let mut scanner = matcher.scanner();
    let mut input = std::fs::File::from(from);
    let mut output = std::fs::File::from(to);
    let mut piece = vec![0; PIECE];
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        match wait(&input, PollFlags::POLLIN) {
            Ok(true) => {}
            // Nothing comes, and the command ended before we asked: who has the pipe now is no part of it.
            Ok(false) if was_over => return Some(Rest { from: input.into(), to: output.into() }),
            Ok(false) => continue,
            Err(_) => return None,
        }
        let read = match input.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => read,
        };
        // Whoever read this is gone. Without our end of the pipe the command is told in the same way.
        if write(&mut output, &piece[..read]).is_err() {
            return None;
        }
        for found in scanner.feed(&piece[..read]) {
            let _ = leaks.send((name, found));
        }
    }
}

fn wait(file: &std::fs::File, flags: PollFlags) -> nix::Result<bool> {
    let mut descriptors = [PollFd::new(file.as_fd(), flags)];
    match poll(&mut descriptors, PollTimeout::from(PATIENCE_MS)) {
        Err(Errno::EINTR) => Ok(false),
        ready => ready.map(|count| count > 0),
    }
}

/// Writes all of it, also to a pipe that somebody set not to wait.
fn write(output: &mut std::fs::File, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match output.write(piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => piece = &piece[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = wait(output, PollFlags::POLLOUT);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
