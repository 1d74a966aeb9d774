//! Standard output and error of a command or a job, searched for secrets on their way.
//!
//! A pipe is put before them only where there is something to look for and where the output goes to no terminal. Where both go
//! to one place they share one pipe, so that their order stays. Bytes are passed on first and searched then.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::secrets::{Found, Matcher};

/// The word that makes this program pass its input on; not for people.
pub const PASS_ON: &str = "__pass-on";

/// The word that makes this program wait beside a recorder and pass a stream on when that is gone; not for people.
pub const STAND_BY: &str = "__stand-by";

/// A stream's name in the record, and what was found in it.
pub type Leak = (&'static str, Found);

/// How long the end of the command's output is waited for in one go.
const PATIENCE_MS: u16 = 20;
const PIECE: usize = 1 << 16;
/// How long what others still write is passed on by ourselves, once the command is over.
const LAST: Duration = Duration::from_secs(2);

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
    /// Bytes that were passed on, and how often nothing came of each stream for a moment.
    passed: Arc<AtomicU64>,
    pauses: Vec<Arc<AtomicU64>>,
}

/// A stream of a job that somebody else runs: its name in the record, where it comes from and where it goes.
#[derive(Debug)]
pub struct Between {
    pub name: &'static str,
    pub from: OwnedFd,
    pub to: OwnedFd,
}

/// Who passes a stream on when the recorder is gone. It sees that by the end of a pipe, which goes with this value.
#[derive(Debug)]
pub struct StandBy {
    _life: OwnedFd,
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

/// What a stream leads to that a job may write to, and which object that is.
pub fn outlet(stream: &impl std::os::fd::AsFd) -> Option<(OwnedFd, (u64, u64))> {
    let flags = nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_GETFL).ok()?;
    let is_for_reading = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY;
    if is_for_reading { None } else { target(stream) }
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
        let (sender, mut streams) = Self::none();
        let matcher = Arc::new(matcher);
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

    /// Passes on what comes from pipes that are there.
    pub fn between(all: Vec<Between>, matcher: Matcher) -> io::Result<Self> {
        let (sender, mut streams) = Self::none();
        let matcher = Arc::new(matcher);
        for stream in all {
            streams.pass(stream, &matcher, &sender)?;
        }
        Ok(streams)
    }

    fn none() -> (Sender<Leak>, Self) {
        let (sender, leaks) = channel();
        let streams = Self {
            threads: Vec::new(),
            is_over: Arc::default(),
            leaks,
            passed: Arc::default(),
            pauses: Vec::new(),
        };
        (sender, streams)
    }

    fn add(
        &mut self,
        name: &'static str,
        to: OwnedFd,
        matcher: &Arc<Matcher>,
        leaks: &Sender<Leak>,
    ) -> io::Result<OwnedFd> {
        let (from, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        self.pass(Between { name, from, to }, matcher, leaks)?;
        Ok(end)
    }

    fn pass(&mut self, stream: Between, matcher: &Arc<Matcher>, leaks: &Sender<Leak>) -> io::Result<()> {
        let pauses = Arc::default();
        self.pauses.push(Arc::clone(&pauses));
        let passing = Passing {
            name: stream.name,
            matcher: Arc::clone(matcher),
            leaks: leaks.clone(),
            is_over: Arc::clone(&self.is_over),
            passed: Arc::clone(&self.passed),
            pauses,
        };
        let thread = std::thread::Builder::new()
            .name("guard-stream".to_owned())
            .spawn(move || passing.run(stream.from, stream.to))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Bytes that were passed on.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// Waits until all that was written before is passed on, as long as it may last.
    pub fn settle(&self, patience: Duration) -> bool {
        // The first pause may have begun before that; what is written before the second began is passed on.
        const ENOUGH: u64 = 2;
        let end = Instant::now() + patience;
        let count = |pauses: &Arc<AtomicU64>| pauses.load(Ordering::Acquire);
        let before: Vec<u64> = self.pauses.iter().map(count).collect();
        let is_done = |(at, before): (usize, &u64)| {
            count(&self.pauses[at]) >= before + ENOUGH || self.threads[at].is_finished()
        };
        while !before.iter().enumerate().all(is_done) {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
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

impl StandBy {
    /// Starts one for a stream. It has to be there before anything is recorded: it is no part of the job.
    pub fn start(stream: &Between) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let (end, life) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(STAND_BY).stdin(stream.from.try_clone()?).stdout(stream.to.try_clone()?).stderr(end);
        command.current_dir("/").process_group(0).spawn()?;
        Ok(Self { _life: life })
    }
}

/// Waits until the pipe in standard error ends, then passes standard input on until its end.
///
/// Whoever holds the other end of a stream must not wait for us: it ends with the last who writes, and with who reads.
pub fn stand_by() {
    use nix::sys::signal::{SigSet, Signal};
    let _ = nix::unistd::setsid();
    // A runner's clean-up is for the job.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    let _ = SigSet::from_iter(signals).thread_block();
    super::stay_when_memory_is_short();
    let (from, to, life) = (io::stdin(), io::stdout(), io::stderr());
    loop {
        let mut descriptors = [from.as_fd(), to.as_fd(), life.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::empty()));
        match poll(&mut descriptors, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let is_over = |at: usize| descriptors[at].any().unwrap_or(true);
        if is_over(2) {
            break;
        }
        if is_over(0) || is_over(1) {
            return;
        }
    }
    pass_on();
}

/// Passes standard input on until its end.
pub fn pass_on() {
    let ends =
        io::stdin().as_fd().try_clone_to_owned().ok().zip(io::stdout().as_fd().try_clone_to_owned().ok());
    let Some((from, to)) = ends else { return };
    let (mut input, mut output) = (std::fs::File::from(from), std::fs::File::from(to));
    let mut piece = vec![0; PIECE];
    loop {
        match wait(&input, PollFlags::POLLIN) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => return,
        }
        match input.read(&mut piece) {
            Ok(0) => return,
            Ok(read) if write(&mut output, &piece[..read]).is_err() => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// What passes one stream on.
struct Passing {
    name: &'static str,
    matcher: Arc<Matcher>,
    leaks: Sender<Leak>,
    is_over: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    pauses: Arc<AtomicU64>,
}

impl Passing {
    /// Passes the stream on until its end; when the command is over, until nothing more comes.
    fn run(self, from: OwnedFd, to: OwnedFd) -> Option<Rest> {
        let mut scanner = self.matcher.scanner();
        let mut input = std::fs::File::from(from);
        let mut output = std::fs::File::from(to);
        let mut piece = vec![0; PIECE];
        let mut over = None;
        loop {
            let was_over = self.is_over.load(Ordering::Acquire);
            let is_late = was_over && over.get_or_insert_with(Instant::now).elapsed() > LAST;
            match wait(&input, PollFlags::POLLIN) {
                // Somebody writes without an end.
                Ok(true) if is_late => return Some(Rest { from: input.into(), to: output.into() }),
                Ok(true) => {}
                // Nothing comes, and the command ended before we asked: who has the pipe now is no part of it.
                Ok(false) if was_over => return Some(Rest { from: input.into(), to: output.into() }),
                Ok(false) => {
                    self.pauses.fetch_add(1, Ordering::AcqRel);
                    continue;
                }
                Err(_) => return None,
            }
            let read = match input.read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            };
            // Whoever read this is gone. Without our end of the pipe the command is told in the same way.
            if write(&mut output, &piece[..read]).is_err() {
                return None;
            }
            self.passed.fetch_add(read as u64, Ordering::AcqRel);
            for found in scanner.feed(&piece[..read]) {
                let _ = self.leaks.send((self.name, found));
            }
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
