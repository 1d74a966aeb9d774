//! One look at one process: what `/proc` says of it at this moment, or nothing once it is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use procfs::process::Stat;
use procfs::{FromRead as _, ProcError};

use crate::event::{File, Launch, ProcessKey, Timestamp, hex, normal_path};

/// More words, or longer ones, are cut.
const LONGEST_ARGUMENTS: usize = 64 << 10;
/// `PF_FORKNOEXEC`: it has run nothing of its own since the fork.
const FORKED_ONLY: u32 = 0x40;
/// `PF_EXITING`: its memory and descriptors may be gone already.
const EXITING: u32 = 0x4;
/// Where the kernel put the name that was asked for at the launch.
const AT_EXECFN: u64 = 31;

/// What tells one image from the next in the same process: the kernel puts each somewhere else.
///
/// All zero for a process that we may not look into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    stack: u64,
    code: u64,
    code_end: u64,
}

impl Image {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { stack: stat.startstack, code: stat.startcode, code_end: stat.endcode }
    }

    /// Whether the process lets us see where its image lies.
    pub(super) fn is_readable(self) -> bool {
        // To strangers the kernel says 0 or 1.
        self.stack > 1 || self.code > 1
    }
}

/// The state of a process or a thread.
pub(super) fn stat(pid: u32) -> Result<Stat, ProcError> {
    Stat::from_read(fs::File::open(format!("/proc/{pid}/stat"))?)
}

/// A process by number and start, which is known to a tick of 10 ms.
pub(super) fn key(stat: &Stat) -> ProcessKey {
    let tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
    ProcessKey { pid: u32::try_from(stat.pid).unwrap_or(0), start: stat.starttime.saturating_mul(tick) }
}

/// A thread that leads no process; only its number can be met.
pub(super) fn is_thread(stat: &Stat) -> bool {
    stat.exit_signal == Some(-1) && !is_over(stat)
}

/// It is ending, or has ended and its parent has not asked for its status yet.
///
/// A thread that leads its process may end before the others: then only its state tells.
pub(super) fn is_over(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1
}

/// Its memory and descriptors may be gone, so that nothing follows from not seeing them.
pub(super) fn is_ending(stat: &Stat) -> bool {
    stat.flags & EXITING != 0 || is_over(stat)
}

/// Whether it has launched an image of its own since it was forked.
pub(super) fn has_launched(stat: &Stat) -> bool {
    stat.flags & FORKED_ONLY == 0
}

/// The number of the newest process or thread of our pid namespace.
pub(super) fn newest() -> Option<u32> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().nth(4)?.parse().ok()
}

/// The image that a process runs; `None` when it is gone, or not to be understood just now.
pub(super) fn launch(pid: u32, environment: &[String]) -> Option<Launch> {
    let folder = format!("/proc/{pid}");
    let words = fs::read(format!("{folder}/cmdline")).ok()?;
    let is_cut = words.len() > LONGEST_ARGUMENTS;
    let words = &words[..words.len().min(LONGEST_ARGUMENTS)];
    let words = words.strip_suffix(b"\0").unwrap_or(words);
    // Between two images a process has no words at all.
    if words.is_empty() {
        return None;
    }
    let arguments: Vec<String> = words.split(|byte| *byte == 0).map(escape).collect();
    let directory = link(&format!("{folder}/cwd")).unwrap_or_default();
    let asked = asked_for(&folder);
    let absolute = |name: &str| {
        if name.starts_with('/') { normal_path(name) } else { normal_path(&format!("{directory}/{name}")) }
    };
    let executable = match link(&format!("{folder}/exe")) {
        Some(path) => {
            let metadata = fs::metadata(format!("{folder}/exe")).ok();
            File { changed: metadata.as_ref().and_then(changed), ..object(path, metadata.as_ref()) }
        }
        // Not ours to look into: its own word, and no more.
        None => File { requested: true, ..File::at(absolute(arguments.first()?)) },
    };
    let requested = asked.as_deref().map_or_else(|| executable.path.clone(), absolute);
    // What was asked for and is not what runs is a `#!` file, or a link to the program.
    let script = asked.as_deref().map(absolute).filter(|path| {
        let named = fs::metadata(format!("{folder}/root{path}")).ok();
        named.is_some_and(|named| {
            executable.inode != 0 && (named.dev(), named.ino()) != (executable.device, executable.inode)
        })
    });
    Some(Launch {
        executable,
        script: script.map(|path| File { requested: true, ..File::at(path) }),
        arguments,
        arguments_truncated: is_cut,
        requested,
        directory,
        environment: variables(&folder, environment),
        uid: fs::metadata(&folder).ok()?.uid(),
    })
}

/// The name that was given to the kernel, which lies in the process's own memory.
fn asked_for(folder: &str) -> Option<String> {
    const LONGEST: usize = 4096;
    let vector = fs::read(format!("{folder}/auxv")).ok()?;
    let (pairs, _) = vector.as_chunks::<16>();
    let at = pairs.iter().find_map(|pair| {
        let (name, value) = pair.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
        (number(name)? == AT_EXECFN).then(|| number(value))?
    })?;
    let memory = fs::File::open(format!("{folder}/mem")).ok()?;
    let mut name = vec![0; LONGEST];
    // The stack may end right behind the name.
    let length = memory.read_at(&mut name, at).ok()?;
    let end = name[..length].iter().position(|byte| *byte == 0)?;
    (end > 0).then(|| escape(&name[..end]))
}

fn variables(folder: &str, wanted: &[String]) -> BTreeMap<String, String> {
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let variables = fs::read(format!("{folder}/environ")).unwrap_or_default();
    let pairs = variables.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let name = escape(&variable[..at]);
        wanted.contains(&name).then(|| (name, escape(&variable[at + 1..])))
    });
    // The first one counts, as it does for getenv(3).
    pairs.collect::<Vec<_>>().into_iter().rev().collect()
}

fn object(path: String, metadata: Option<&fs::Metadata>) -> File {
    let (path, deleted) = without_mark(path);
    File {
        path,
        device: metadata.map_or(0, fs::Metadata::dev),
        inode: metadata.map_or(0, fs::Metadata::ino),
        deleted,
        ..File::default()
    }
}

/// The kernel marks what no folder names any more; a file may be called so by itself, which does no harm.
pub(super) fn without_mark(path: String) -> (String, bool) {
    match path.strip_suffix(" (deleted)") {
        Some(rest) => (rest.to_owned(), true),
        None => (path, false),
    }
}

fn changed(metadata: &fs::Metadata) -> Option<Timestamp> {
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let rest = u64::try_from(metadata.ctime_nsec()).ok()?;
    Some(Timestamp(seconds.checked_mul(1_000_000_000)?.checked_add(rest)?))
}

/// Where a link of `/proc` leads, as it reads.
pub(super) fn link(path: &str) -> Option<String> {
    fs::read_link(path).ok().map(|path| escape(path.as_os_str().as_bytes()))
}

/// Bytes that are not UTF-8 as `\xNN`, like every other name in the record.
fn escape(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str("\\x");
            text.push_str(&hex(&[*byte]));
        }
        text
    })
}

/// The descriptors of a process, by number, and what they lead to.
pub(super) fn descriptors(pid: u32) -> io::Result<Vec<(u32, String)>> {
    let folder = format!("/proc/{pid}/fd");
    let numbers =
        fs::read_dir(&folder)?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(|number: u32| Some((number, link(&format!("{folder}/{number}"))?))).collect())
}

/// How a descriptor was opened: the flags of `open`, the mount and the inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) flags: i32,
    pub(super) mount: i32,
    pub(super) inode: u64,
}

/// Asks the kernel's own note of a descriptor, so that no file system is asked that might never answer.
pub(super) fn opened(pid: u32, number: u32) -> Option<Opened> {
    Some(parse_opened(&fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?))
}

fn parse_opened(text: &str) -> Opened {
    let mut opened = Opened::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name {
            "flags" => opened.flags = i32::from_str_radix(value, 8).unwrap_or(0),
            "mnt_id" => opened.mount = value.parse().unwrap_or(0),
            "ino" => opened.inode = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    opened
}

/// The mounts that a process sees, by number, with the device as `stat` tells it.
pub(super) fn mounts(pid: u32) -> Vec<(i32, u64)> {
    let read = fs::File::open(Path::new("/proc").join(pid.to_string()).join("mountinfo"))
        .map_err(ProcError::from)
        .and_then(procfs::process::MountInfos::from_read);
    let mounts = read.map(|mounts| mounts.0).unwrap_or_default();
    let device = |numbers: &str| {
        let (major, minor) = numbers.split_once(':')?;
        Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.iter().filter_map(|mount| Some((mount.mnt_id, device(&mount.majmin)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_as_it_is() {
        let pid = std::process::id();
        let own = stat(pid).unwrap();
        assert_eq!(key(&own).pid, pid);
        assert!(has_launched(&own) && !is_over(&own) && !is_thread(&own) && Image::of(&own).is_readable());
        let told = launch(pid, &["PATH".to_owned()]).unwrap();
        let here = std::env::current_exe().unwrap();
        assert_eq!(told.executable.path, here.to_string_lossy());
        let metadata = fs::metadata(&here).unwrap();
        assert_eq!((told.executable.device, told.executable.inode), (metadata.dev(), metadata.ino()));
        assert_eq!(told.arguments, std::env::args().collect::<Vec<_>>());
        assert_eq!((told.script, told.uid), (None, nix::unistd::geteuid().as_raw()));
        assert_eq!(told.environment.get("PATH"), std::env::var("PATH").ok().as_ref());
    }

    #[test]
    fn a_script_is_told_beside_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("tool");
        fs::write(&path, "#!/bin/sh\nread line\n").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new("./tool")
            .current_dir(folder.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The child counts as started a moment before its words are in place.
        let told = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            launch(child.id(), &[])
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let told = told.unwrap();
        assert_eq!(told.script.unwrap().path, path.to_string_lossy());
        assert_eq!(told.requested, path.to_string_lossy());
        assert_eq!(told.executable.path, fs::canonicalize("/bin/sh").unwrap().to_string_lossy());
    }

    #[test]
    fn a_descriptor_is_told_with_its_object_and_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("file (deleted)");
        let file = fs::File::create(&path).unwrap();
        let pid = std::process::id();
        let (number, link) =
            descriptors(pid).unwrap().into_iter().find(|(_, link)| *link == path.to_string_lossy()).unwrap();
        assert_eq!(without_mark(link), (path.to_string_lossy().replace(" (deleted)", ""), true));
        let opened = opened(pid, number).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(
            (opened.flags & nix::libc::O_ACCMODE, opened.inode),
            (nix::libc::O_WRONLY, metadata.ino())
        );
        assert!(mounts(pid).contains(&(opened.mount, metadata.dev())));
    }

    #[test]
    fn what_is_gone_or_garbled_is_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let pid = child.id();
        assert!(stat(pid).is_err() && launch(pid, &[]).is_none() && descriptors(pid).is_err());
        assert!(opened(pid, 0).is_none() && mounts(pid).is_empty());
        assert_eq!(parse_opened("flags:\tx\nino\n:\nmnt_id: 99999999999\n"), Opened::default());
    }
}
