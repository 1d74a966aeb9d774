//! `posture --harden`: sets right what can be set right safely and undone again, and lists it before anything changes.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::posture::safe;
use super::{Error, counted, print};
use crate::catalogue::posture::{self, Harden, Place};
use crate::posture::Camera;

/// Where it stands what was changed, so that it can be undone.
const KEPT: &str = "/var/lib/edamame-guard/hardened.json";

/// One object and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    check: String,
    object: String,
    kind: Kind,
    before: String,
    after: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// A setting of the kernel: its text.
    Text,
    /// Permission bits, in octal.
    Mode,
}

/// Lists what is weak and can be set right, then does it.
pub(super) fn harden(camera: &Camera, is_dry: bool) -> Result<u8, Error> {
    if matches!(camera.place(), Place::Hosted | Place::Container) {
        return Err(Error::Refused(format!(
            "this is a {} machine, which is made anew for each job: harden its image or its host",
            camera.place().as_str()
        )));
    }
    let changes = changes(camera);
    for change in &changes {
        print(&format!(
            "{} {}: {} -> {}  ({})\n",
            if is_dry { "would set" } else { "set" },
            safe(&change.object),
            safe(&change.before),
            change.after,
            change.check
        ));
    }
    if is_dry || changes.is_empty() {
        print(&format!("{} to make\n", counted(changes.len(), "change")));
        return Ok(0);
    }
    // What can't be written down can't be undone, so that comes first.
    let mut kept = kept(camera)?;
    kept.extend(changes.iter().cloned());
    keep(camera, &kept)?;
    let mut failed = Vec::new();
    for change in &changes {
        if let Err(error) = set(camera, change, &change.after) {
            eprintln!("warning: {} was not changed: {error}", safe(&change.object));
            failed.push(change.clone());
        }
    }
    if !failed.is_empty() {
        kept.retain(|change| !failed.contains(change));
        keep(camera, &kept)?;
    }
    print(&format!(
        "{} made; settings of the kernel hold until the next start. `posture --harden --undo` takes them back\n",
        counted(changes.len() - failed.len(), "change")
    ));
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Error::Refused(format!("{} could not be made", counted(failed.len(), "change"))))
}

/// Takes back what was changed, newest first; what somebody changed since is left alone.
pub(super) fn undo(camera: &Camera) -> Result<u8, Error> {
    let mut kept = kept(camera)?;
    let mut left = 0;
    let mut count = 0;
    while let Some(change) = kept.pop() {
        match now(camera, &change) {
            Ok(value) if value == change.after => {
                set(camera, &change, &change.before)
                    .map_err(|source| Error::Host { what: change.object.clone(), source })?;
                count += 1;
                print(&format!(
                    "set {}: {} -> {}\n",
                    safe(&change.object),
                    change.after,
                    safe(&change.before)
                ));
            }
            Ok(value) => {
                left += 1;
                print(&format!(
                    "left {}: it is {} now, and was made {}\n",
                    safe(&change.object),
                    safe(&value),
                    change.after
                ));
            }
            Err(error) => {
                left += 1;
                print(&format!("left {}: {error}\n", safe(&change.object)));
            }
        }
        keep(camera, &kept)?;
    }
    print(&format!("{} undone, {left} left alone\n", counted(count, "change")));
    Ok(0)
}

/// One change per object; of several checks the last one's.
fn changes(camera: &Camera) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let states = camera.shoot();
    for check in posture::checks() {
        let (Some(harden), Some(state)) = (&check.harden, states.get(&check.id)) else { continue };
        for item in state.items.iter().filter(|item| check.is_weak(&item.value)) {
            let (kind, before, after) = match harden {
                Harden::Write(text) => (Kind::Text, item.value.clone(), text.clone()),
                Harden::Take(bits) => {
                    let number = |text: &str| u32::from_str_radix(text, 8).ok();
                    let mode = item.value.split_whitespace().find_map(|word| Some((word, number(word)?)));
                    let (Some((word, mode)), Some(bits)) = (mode, number(bits)) else { continue };
                    (Kind::Mode, word.to_owned(), format!("{:o}", mode & !bits))
                }
            };
            changes.retain(|known| known.object != item.object || known.kind != kind);
            changes.push(Change {
                check: check.id.clone(),
                object: item.object.clone(),
                kind,
                before,
                after,
            });
        }
    }
    changes
}

/// The object itself, through no link in its last place.
fn opened(camera: &Camera, change: &Change) -> io::Result<File> {
    let flags = nix::libc::O_PATH | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags).open(camera.real(&change.object))?;
    if file.metadata()?.is_symlink() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link"));
    }
    Ok(file)
}

fn now(camera: &Camera, change: &Change) -> io::Result<String> {
    let file = opened(camera, change)?;
    match change.kind {
        Kind::Mode => Ok(format!("{:o}", file.metadata()?.mode() & 0o7777)),
        Kind::Text => {
            let mut text = String::new();
            File::open(by_descriptor(&file))?.take(4096).read_to_string(&mut text)?;
            Ok(text.trim().to_owned())
        }
    }
}

fn set(camera: &Camera, change: &Change, value: &str) -> io::Result<()> {
    let file = opened(camera, change)?;
    match change.kind {
        Kind::Text => {
            let mut file = File::options().write(true).truncate(true).open(by_descriptor(&file))?;
            file.write_all(format!("{value}\n").as_bytes())
        }
        Kind::Mode => {
            let mode = u32::from_str_radix(value, 8).map_err(io::Error::other)?;
            fs::set_permissions(by_descriptor(&file), fs::Permissions::from_mode(mode))
        }
    }
}

/// A name for what is open, whatever its path leads to by now.
fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn kept(camera: &Camera) -> Result<Vec<Change>, Error> {
    let path = camera.real(KEPT);
    let failed = |source| Error::Host { what: path.display().to_string(), source };
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn keep(camera: &Camera, changes: &[Change]) -> Result<(), Error> {
    let path = camera.real(KEPT);
    let failed = |source| Error::Host { what: path.display().to_string(), source };
    if changes.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        };
    }
    let folder = path.parent().unwrap_or(&path);
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let text = serde_json::to_vec_pretty(changes).map_err(|error| failed(error.into()))?;
    file.write_all(&text).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}
