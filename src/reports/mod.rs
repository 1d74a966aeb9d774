//! What a run is told as: one file per format, each a pure function of the [`Report`].
//!
//! [`terminal`] is for the person who waits; the members of [`Format`] are files.

mod code_quality;
mod findings_json;
mod gl_sast;
mod html;
mod junit;
pub mod ocsf;
mod place;
#[cfg(test)]
pub(crate) mod sample;
mod sarif;
pub mod statement;
mod summary;
pub mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod words;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};
use sha2::{Digest as _, Sha256};

use crate::detections::Detection;
use crate::event::hex;
use crate::evidence::parts::is_part;
use crate::finding::{Finding, Report};
use crate::job::Location;

/// A file of the report directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Everything, for programs.
    FindingsJson,
    /// For code scanning.
    Sarif,
    /// For the test tab.
    Junit,
    /// For the job's page: Markdown.
    Summary,
    /// For a person with questions: one self-contained page.
    Html,
    /// For GitLab's merge requests.
    CodeQuality,
    /// For GitLab's vulnerability pages.
    GlSast,
}

impl Format {
    pub const ALL: [Self; 7] = [
        Self::FindingsJson,
        Self::Sarif,
        Self::Junit,
        Self::Summary,
        Self::Html,
        Self::CodeQuality,
        Self::GlSast,
    ];

    /// Its name in the report directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::FindingsJson => "findings.json",
            Self::Sarif => "results.sarif",
            Self::Junit => "junit.xml",
            Self::Summary => "summary.md",
            Self::Html => "report.html",
            Self::CodeQuality => "codequality.json",
            Self::GlSast => "gl-sast-report.json",
        }
    }
}

/// A socket in a line: `tcp 127.0.0.1:631 waits, held by cupsd (812)`.
pub fn socket(socket: &crate::event::Socket) -> String {
    words::socket(socket)
}

/// A text that somebody else chose, in one line that moves no cursor.
pub fn line(text: &str) -> String {
    text::line(text)
}

/// The result in one clause: `Attack: 2 findings fail the job, 1 note`.
pub fn verdict(report: &Report) -> String {
    words::verdict(report)
}

/// Where in the repository a finding stands: its line or its step's.
pub(crate) fn place(report: &Report, finding: &Finding) -> Option<Location> {
    place::of(report, finding)
}

/// Where a finding stands that has no line of its own.
pub(crate) fn place_of_answers(report: &Report) -> Location {
    place::of_answers(report)
}

/// The job's page in less than `limit` bytes.
pub(crate) fn summary_within(report: &Report, limit: usize) -> String {
    summary::render(report, limit)
}

/// Writes one format. `rules` are all rules that were looked for, also those that found nothing.
pub fn write(
    format: Format,
    report: &Report,
    rules: &[&Detection],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    match format {
        Format::FindingsJson => findings_json::write(report, out),
        Format::Sarif => sarif::write(report, rules, out),
        Format::Junit => junit::write(report, rules, out),
        Format::Summary => summary::write(report, out),
        Format::Html => html::write(report, out),
        Format::CodeQuality => code_quality::write(report, out),
        Format::GlSast => gl_sast::write(report, out),
    }
}

/// The fingerprint, with a number from the second finding on that has the same: readers keep one of each.
fn distinct<'a>(finding: &'a Finding, occurrences: &mut BTreeMap<&'a str, u32>) -> String {
    let nth = occurrences.entry(finding.fingerprint.as_str()).or_default();
    *nth += 1;
    match nth {
        1 => finding.fingerprint.clone(),
        nth => format!("{}-{nth}", finding.fingerprint),
    }
}

/// The report directory, held open.
///
/// Each file is there whole or not at all. A symbolic link in place of the directory or of
/// a file is refused: the job under watch may have put it there, and the writer may be root.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Everything goes through this descriptor, so a swap of the name comes too late.
    handle: OwnedFd,
    /// Whose the files are, where sudo made us root.
    owner: Option<(Uid, Gid)>,
    /// What was written, by name, with its SHA-256.
    written: RefCell<BTreeMap<String, String>>,
}

/// Who called sudo: reports are theirs to read, move and delete.
fn caller() -> Option<(Uid, Gid)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let owner = number("SUDO_UID").map(Uid::from_raw).zip(number("SUDO_GID").map(Gid::from_raw));
    owner.filter(|_| geteuid().is_root())
}

/// Passes bytes on and takes their digest.
struct Digesting<'a> {
    content: &'a mut dyn io::Read,
    digest: Sha256,
}

impl io::Read for Digesting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

impl Directory {
    /// Opens the directory, which is made if need be.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without this, `link/` would be followed whatever the flags say.
        let path: PathBuf = path.components().collect();
        let is_new = !path.exists();
        std::fs::create_dir_all(&path).map_err(|error| at(&path, &error))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let handle = open(&path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR => refused(&path, "is a symbolic link, not a directory"),
            other => at(&path, &other.into()),
        })?;
        let owner = caller();
        if let Some((uid, gid)) = owner.filter(|_| is_new) {
            fchown(&handle, Some(uid), Some(gid)).map_err(|errno| at(&path, &errno.into()))?;
        }
        Ok(Self { path, handle, owner, written: RefCell::default() })
    }

    /// Whether somebody removed the directory that is held open.
    pub fn is_gone(&self) -> bool {
        nix::sys::stat::fstat(&self.handle).is_ok_and(|status| status.st_nlink == 0)
    }

    /// Makes it again where nothing took its place; false if something did.
    pub fn again(&mut self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *self = Self::open(&self.path)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Goes to a new directory beside the old name, for what is written from now on.
    pub fn elsewhere(&mut self) -> io::Result<()> {
        let beside = self.path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("/tmp"));
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("report");
        // Made anew, with a name that nobody could foresee, and readable by whom the old one was.
        let made = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(beside)
            .map_err(|error| at(beside, &error))?;
        *self = Self { owner: self.owner, ..Self::open(&made.keep())? };
        if let Some((uid, gid)) = self.owner {
            fchown(&self.handle, Some(uid), Some(gid)).map_err(|errno| at(&self.path, &errno.into()))?;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes away what an earlier run left, so that a run that fails can't pass for it.
    pub fn clear(&self) -> io::Result<()> {
        let names = Format::ALL.map(Format::file_name).into_iter();
        let names = names.chain(["policy.lock.yml", "statement.json", "evidence.sig"]).map(str::to_owned);
        // A recording may have had several parts.
        let entries = std::fs::read_dir(&self.path).map_err(|error| at(&self.path, &error))?;
        let parts = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.chain(parts.filter(|name| is_part(name))) {
            match unlinkat(self.handle.as_fd(), name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(at(&self.path.join(name), &errno.into())),
            }
        }
        Ok(())
    }

    /// What was written so far: names and SHA-256, sorted.
    pub fn written(&self) -> Vec<(String, String)> {
        self.written.borrow().clone().into_iter().collect()
    }

    /// Writes every format.
    pub fn write_all(&self, report: &Report, rules: &[&Detection]) -> io::Result<()> {
        for format in Format::ALL {
            let mut content = Vec::new();
            write(format, report, rules, &mut content)?;
            self.replace(format.file_name(), &mut content.as_slice())?;
        }
        Ok(())
    }

    /// Puts a whole file in place of what has this name.
    pub fn replace(&self, name: &str, content: &mut dyn io::Read) -> io::Result<()> {
        let directory = self.handle.as_fd();
        let path = self.path.join(name);
        let fail = |errno: Errno| at(&path, &errno.into());
        match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(status) if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG => {
                return Err(refused(&path, "is not a regular file"));
            }
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let temporary = format!(".{name}.part");
        // What an interrupted run left behind. `O_EXCL` below refuses whatever comes after.
        match unlinkat(directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        let mut file = std::fs::File::from(openat(directory, temporary.as_str(), flags, mode).map_err(fail)?);
        let given = |file: &std::fs::File| match self.owner {
            Some((uid, gid)) => fchown(file, Some(uid), Some(gid)).map_err(io::Error::from),
            None => Ok(()),
        };
        let mut content = Digesting { content, digest: Sha256::new() };
        let written = io::copy(&mut content, &mut file)
            .and_then(|_| file.sync_all())
            .and_then(|()| given(&file))
            .map_err(|error| at(&path, &error))
            .and_then(|()| renameat(directory, temporary.as_str(), directory, name).map_err(fail));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        } else {
            self.written.borrow_mut().insert(name.to_owned(), hex(&content.digest.finalize()));
        }
        written
    }
}

/// The same error, with the path it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write `{}`: {error}", path.display()))
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot write `{}`: it {why}", path.display()))
}
