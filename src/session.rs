//! A sidecar's place on the host: its folder, its control socket, and how it is found again.
//!
//! ```text
//! /run/edamame-guard/<id>/session.json     who records, since when; written before the job's first step
//!                         evidence.jsonl   the record, growing; the parts before it are compressed
//!                         control.sock     status, load, finish: one JSON line each way
//!                         policy.yml       what `load` brought
//!                         finished.json    what `finish` said, so that it can say it again
//! ```
//! Without root it lies in `edamame-guard` below `$XDG_RUNTIME_DIR` or `/run/user/UID`, else in
//! `/tmp/edamame-guard-UID`. Everything is readable by its owner alone, and a folder that is a link or
//! somebody else's is not used.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;
use crate::evidence::{Ends, Seal};

/// A sidecar that does not answer for this long is not watching.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "edamame-guard";

/// One sidecar, running or ended.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub folder: PathBuf,
}

/// Written once by `start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub pid: u32,
    pub since: Timestamp,
    pub report_dir: PathBuf,
    #[serde(default)]
    pub fail_on: Option<String>,
    /// The port where agents' telemetry is taken in.
    #[serde(default)]
    pub telemetry: Option<u16>,
}

/// Written once by `finish`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub status: u8,
    pub report_dir: PathBuf,
}

/// What a client asks of a sidecar.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    Status,
    Load {
        policy: String,
        origin: String,
    },
    /// The workflow's file, as somebody other than the recorder read it.
    Workflow {
        path: String,
        text: String,
        origin: String,
    },
    /// The reviewed copy of a file that says what agents may do, read where the recorder could not; `None`: there is none.
    Reviewed {
        file: String,
        text: Option<String>,
    },
    /// `client` is the pid of the asker, which outlives the record.
    Finish {
        client: u32,
    },
    /// After the end: the statement that was made of it, to be signed. Then the recorder goes.
    Seal {
        statement: String,
    },
    /// After that, where the recorder passes the job's output on: answered when all of it went its way.
    Drain,
}

/// What it answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub watching: bool,
    pub since: Timestamp,
    /// Records so far.
    pub events: u64,
    pub lost: u64,
    /// Hooks that were taken away.
    #[serde(default)]
    pub lost_hooks: Vec<String>,
    /// Why the record can't be written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Digest of the lock of the policy that the recorder was given, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What the policy asks of this host and it does not keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<String>,
    /// Files whose reviewed copy it would like to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreviewed: Vec<String>,
    /// What it signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// What the recording is known by.
    #[serde(default)]
    pub ends: Ends,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why a request was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Why there is no session to talk to.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    #[error("no session is running")]
    None,
    #[error("there is no session `{0}`")]
    Unknown(String),
    #[error("several sessions are running: {0}")]
    Several(String),
    #[error("cannot use {path}: {source}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
}

impl Session {
    /// Makes a new session's folder. Ids are short, since people type them.
    pub fn create() -> Result<Self, NoSession> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| NoSession::Folder { path, source }
        };
        let root = roots().into_iter().next().unwrap_or_default();
        match DirBuilder::new().mode(0o700).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&root)(error)),
            _ => {}
        }
        if !is_ours(&root) {
            let text = "it is a link, or others may write to it";
            return Err(failed(&root)(io::Error::new(io::ErrorKind::PermissionDenied, text)));
        }
        let folder = tempfile::Builder::new()
            .prefix("s-")
            .rand_bytes(6)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&root)
            .map_err(failed(&root))?;
        let folder = folder.keep();
        let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { id, folder })
    }

    /// The session with this id; without one the only live session, else the last that was finished.
    pub fn find(id: Option<&str>) -> Result<Self, NoSession> {
        if let Some(id) = id {
            let is_plain = !id.contains('/') && !id.starts_with('.');
            let mut folders = roots().into_iter().filter(|root| is_ours(root)).map(|root| root.join(id));
            let folder = folders.find(|folder| is_plain && folder.join("session.json").exists());
            let unknown = || NoSession::Unknown(id.to_owned());
            return folder.map(|folder| Self { id: id.to_owned(), folder }).ok_or_else(unknown);
        }
        let mut all: Vec<Self> = roots()
            .iter()
            .filter(|root| is_ours(root))
            .filter_map(|root| fs::read_dir(root).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("session.json").exists())
            .map(|entry| Self { id: entry.file_name().to_string_lossy().into_owned(), folder: entry.path() })
            .collect();
        all.sort_by_key(|session| session.about().map(|about| about.since).unwrap_or_default());
        let live: Vec<&Self> = all.iter().filter(|session| session.finished().is_none()).collect();
        match live.as_slice() {
            [one] => Ok((*one).clone()),
            [] => all.pop().ok_or(NoSession::None),
            several => {
                let ids: Vec<&str> = several.iter().map(|session| session.id.as_str()).collect();
                Err(NoSession::Several(ids.join(", ")))
            }
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn about(&self) -> io::Result<About> {
        Ok(serde_json::from_slice(&fs::read(self.file("session.json"))?)?)
    }

    pub fn finished(&self) -> Option<Finished> {
        serde_json::from_slice(&fs::read(self.file("finished.json")).ok()?).ok()
    }

    /// Writes one of the session's small files.
    pub fn save(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.keep(name, &serde_json::to_vec(value)?)
    }

    /// Puts these bytes under a name, whole or not at all.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(bytes)?;
        file.flush()?;
        file.persist(self.file(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Asks the sidecar; an error means that it is not watching any more.
    pub fn ask(&self, request: &Request) -> io::Result<Answer> {
        let stream = UnixStream::connect(self.file("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Where this user's sessions may lie; new ones in the first. A later step may have lost a variable, so each is
/// looked at.
fn roots() -> Vec<PathBuf> {
    let user = nix::unistd::geteuid();
    if user.is_root() {
        return vec![Path::new("/run").join(NAME)];
    }
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let usual = PathBuf::from(format!("/run/user/{user}"));
    let own = runtime.into_iter().chain([usual]).filter(|folder| is_ours(folder));
    let mut roots: Vec<PathBuf> = own.map(|folder| folder.join(NAME)).collect();
    roots.push(PathBuf::from(format!("/tmp/{NAME}-{user}")));
    roots.dedup();
    roots
}

/// Whether it is a folder of this user, itself and no link, in which nobody else can put anything.
fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|about| {
        about.is_dir() && about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_folders_that_others_can_write_to_are_not_ours() {
        let place = tempfile::tempdir().expect("a folder");
        let [own, link, open, file] = ["own", "link", "open", "file"].map(|name| place.path().join(name));
        DirBuilder::new().mode(0o700).create(&own).expect("made");
        std::os::unix::fs::symlink(&own, &link).expect("made");
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).expect("set");
        fs::write(&file, "").expect("made");
        let missing = place.path().join("missing");
        assert!(is_ours(&own));
        assert!([link, open, file, missing].iter().all(|folder| !is_ours(folder)));
    }
}
