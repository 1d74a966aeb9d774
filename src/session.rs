//! A sidecar's place on the host: its folder, its control socket, and how it is found again.
//!
//! ```text
//! /run/edamame-guard/<id>/session.json     who records, since when; written before the job's first step
//!                         evidence.jsonl   the record, growing
//!                         control.sock     status, load, finish: one JSON line each way
//!                         policy.yml       what `load` brought
//!                         finished.json    what `finish` said, so that it can say it again
//! ```
//! Everything is readable by root alone.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// A sidecar that does not answer for this long is not watching.
const PATIENCE: Duration = Duration::from_secs(5);
const ROOT: &str = "/run/edamame-guard";

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
    /// `client` is the pid of the asker, which outlives the record.
    Finish {
        client: u32,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
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
        DirBuilder::new().recursive(true).mode(0o700).create(ROOT).map_err(failed(Path::new(ROOT)))?;
        let folder = tempfile::Builder::new()
            .prefix("s-")
            .rand_bytes(6)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(ROOT)
            .map_err(failed(Path::new(ROOT)))?;
        let folder = folder.keep();
        let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { id, folder })
    }

    /// The session with this id; without one the only live session, else the last that was finished.
    pub fn find(id: Option<&str>) -> Result<Self, NoSession> {
        if let Some(id) = id {
            let folder = Path::new(ROOT).join(id);
            let is_plain = !id.contains('/') && !id.starts_with('.');
            return if is_plain && folder.join("session.json").exists() {
                Ok(Self { id: id.to_owned(), folder })
            } else {
                Err(NoSession::Unknown(id.to_owned()))
            };
        }
        let mut all: Vec<Self> = fs::read_dir(ROOT)
            .into_iter()
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
