//! Hooks of ours in the settings of a user's agents: put in when a session asks for it, taken out at its end.
//!
//! The files are the user's, and so is everything on the way to them. So they are read and written with that user's
//! rights, by this program called once more, never with ours.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::Error;
use super::hook::LONGEST;
use crate::agents::hooks::{self, Hook};
use crate::agents::settings;
use crate::session::Session;

/// The word by which this program handles the files with a user's rights; not for people.
pub const HANDLE: &str = "__hooks";
/// Where a session's backup lies in its folder.
const BACKUP: &str = "hooks.json";
/// A larger settings file is left alone.
const LARGEST: u64 = 1 << 20;
/// Texts that wait to be taken in; more are dropped, and the record of the agent stands for them.
const WAITING: usize = 1024;
/// Bytes that hooks may hand over in one session.
const MOST: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_millis(500);
/// Where hooks hand over to a recorder that is root.
const FOLDER: &str = "/run/edamame-guard-hooks";

/// What a file was before, and what we made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    agent: String,
    file: PathBuf,
    /// In base64; `None`: there was none.
    before: Option<String>,
    written: String,
    /// Folders that were made for it, the topmost first.
    made: Vec<PathBuf>,
}

/// Said where hooks handed over too much.
pub(crate) const CUT: &str = "hooks of coding agents handed over more than is taken in";

/// What a hook handed over: the agent that called it, and the agent's own text.
pub(crate) fn message(text: &str) -> Option<(String, serde_json::Value)> {
    let mut message: serde_json::Value = serde_json::from_str(text).ok()?;
    let agent = message["agent"].as_str().unwrap_or_default().to_owned();
    Some((agent, message["payload"].take()))
}

/// A session's hooks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Installed {
    home: PathBuf,
    socket: PathBuf,
    kept: Vec<Kept>,
}

/// What an agent calls.
fn command(agent: &str, socket: &Path) -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let (program, socket) = (program.to_str()?, socket.to_str()?);
    let is_plain = |text: &str| !text.contains(['\'', '\n', '"', '\\']);
    (is_plain(program) && is_plain(socket))
        .then(|| format!("'{program}' hook --agent {agent} --to '{socket}'"))
}

/// Whether a hook of an agent's settings is one of ours.
pub(crate) fn is_own(socket: &Path, agent: &str, text: &str) -> bool {
    command(agent, socket).is_some_and(|own| settings::short(&own) == text)
}

/// Puts the hooks in. `keep` is given first what is needed to take them out again; what can't be put back is not touched.
/// What can't be put in is said on the standard error, and the session goes on without.
pub(crate) fn install(
    home: &Path,
    socket: &Path,
    keep: impl FnOnce(&Installed) -> io::Result<()>,
) -> Option<Installed> {
    let installed = match handle("read", home, socket, "") {
        Ok(text) => serde_json::from_str::<Vec<Kept>>(&text).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    let kept = match installed {
        Ok(kept) => kept,
        Err(error) => {
            eprintln!("warning: no hooks were put into agents' settings: {error}");
            return None;
        }
    };
    let installed = Installed { home: home.to_owned(), socket: socket.to_owned(), kept };
    let text = serde_json::to_string(&installed.kept).unwrap_or_default();
    let written = keep(&installed).and_then(|()| handle("write", home, socket, &text));
    if let Err(error) = written {
        eprintln!("warning: hooks could not be put into agents' settings: {error}");
        let _ = handle("restore", home, socket, &text);
        return None;
    }
    Some(installed)
}

/// Puts the hooks of a session in; its folder keeps what they stand in the place of.
pub(crate) fn install_for(session: &Session, home: &Path, socket: &Path) -> Option<Installed> {
    install(home, socket, |installed| session.save(BACKUP, installed))
}

/// Takes the hooks of a session out again, whoever put them in.
pub(crate) fn remove(session: &Session) {
    let Ok(bytes) = fs::read(session.file(BACKUP)) else { return };
    let Ok(installed) = serde_json::from_slice::<Installed>(&bytes) else { return };
    if installed.take_out() {
        let _ = fs::remove_file(session.file(BACKUP));
    }
}

impl Installed {
    /// Takes the hooks out again; says what could not be as it was. False: they are still there.
    pub(crate) fn take_out(&self) -> bool {
        let text = serde_json::to_string(&self.kept).unwrap_or_default();
        let restored = handle("restore", &self.home, &self.socket, &text);
        let _ = fs::remove_file(&self.socket);
        match restored {
            Ok(said) => {
                for line in said.lines() {
                    eprintln!("warning: {line}");
                }
                true
            }
            Err(error) => {
                eprintln!(
                    "warning: hooks could not be taken out of agents' settings in {}: {error}",
                    self.home.display()
                );
                false
            }
        }
    }
}

/// Does one of these things with the rights of whose home it is.
fn handle(what: &str, home: &Path, socket: &Path, input: &str) -> io::Result<String> {
    let owner = fs::metadata(home)?;
    if nix::unistd::geteuid().as_raw() == owner.uid() {
        return done(what, home, socket, input);
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args([HANDLE, what])
        .args([home, socket])
        .uid(owner.uid())
        .gid(owner.gid())
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This program called once more.
pub fn main(arguments: &[std::ffi::OsString]) -> Result<u8, Error> {
    let [what, home, socket] = arguments else { return Err(Error::Usage("not for people".to_owned())) };
    let mut input = String::new();
    let host = |source| Error::Host { what: "agents' settings".to_owned(), source };
    io::stdin().read_to_string(&mut input).map_err(host)?;
    let text = done(&what.to_string_lossy(), Path::new(home), Path::new(socket), &input).map_err(host)?;
    super::print(&text);
    Ok(0)
}

fn done(what: &str, home: &Path, socket: &Path, input: &str) -> io::Result<String> {
    match what {
        "read" => Ok(serde_json::to_string(&plan(home, socket))?),
        "write" => {
            for kept in serde_json::from_str::<Vec<Kept>>(input)? {
                write(&kept)?;
            }
            Ok(String::new())
        }
        "restore" => {
            let kept: Vec<Kept> = serde_json::from_str(input)?;
            let said: Vec<String> = kept.iter().filter_map(|kept| restore(kept, socket)).collect();
            Ok(said.join("\n"))
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// What each file is and what it would become. A file that can't be read, or that is not plain JSON, is left out.
fn plan(home: &Path, socket: &Path) -> Vec<Kept> {
    hooks::HOOKS.iter().filter_map(|hook| plan_of(hook, home, socket)).collect()
}

fn plan_of(hook: &Hook, home: &Path, socket: &Path) -> Option<Kept> {
    let file = home.join(hook.file.trim_start_matches("~/"));
    let before = match content(&file) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let text = before.as_deref().map(std::str::from_utf8).transpose().ok()?.map(str::to_owned);
    let fresh = text.as_deref().and_then(|text| without_orphans(hook, text));
    let before = fresh.as_ref().map(|text| text.clone().into_bytes()).or(before);
    let written =
        hook.put_into(fresh.as_ref().or(text.as_ref()).map(String::as_str), &command(hook.agent, socket)?)?;
    let made = file.ancestors().skip(1).take_while(|folder| *folder != home && !folder.exists());
    let mut made: Vec<PathBuf> = made.map(Path::to_owned).collect();
    made.reverse();
    let before = before.map(|bytes| BASE64_STANDARD.encode(bytes));
    Some(Kept { agent: hook.agent.to_owned(), file, before, written, made })
}

/// The text without hooks that a guard left behind when it was killed: where they hand over nobody is any more.
fn without_orphans(hook: &Hook, text: &str) -> Option<String> {
    let begin = format!("' hook --agent {} --to '", hook.agent);
    let is_orphan = |command: &String| {
        let socket = command.split_once(&begin).and_then(|(_, socket)| socket.strip_suffix('\''));
        socket.is_some_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_err())
    };
    let mut clean: Option<String> = None;
    for command in hooks::commands(text).iter().filter(|command| is_orphan(command)) {
        let taken = hook.take_out(clean.as_deref().unwrap_or(text), command);
        clean = taken.or(clean);
    }
    clean
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(file)?;
    let about = opened.metadata()?;
    if !about.is_file() || about.len() > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes into the same file: its owner, its rights and the links to it stay.
fn write(kept: &Kept) -> io::Result<()> {
    for folder in &kept.made {
        fs::create_dir(folder).or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })?;
    }
    put(&kept.file, kept.written.as_bytes())
}

fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut opened = File::options().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    opened.write_all(bytes)
}

/// Puts a file back; says what could not be as it was.
fn restore(kept: &Kept, socket: &Path) -> Option<String> {
    let shown = kept.file.display();
    let now = match content(&kept.file) {
        Ok(now) => now,
        Err(error) if error.kind() == io::ErrorKind::NotFound && kept.before.is_none() => return None,
        Err(error) => return Some(format!("{shown} can't be put back: {error}")),
    };
    let before = kept.before.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
    if now == kept.written.as_bytes() {
        let put_back = match &before {
            Some(bytes) => put(&kept.file, bytes),
            None => fs::remove_file(&kept.file),
        };
        // A folder that somebody else put something into stays.
        for folder in kept.made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
        return put_back.err().map(|error| format!("{shown} can't be put back: {error}"));
    }
    if before.as_deref() == Some(&now[..]) {
        return None;
    }
    let hook = hooks::HOOKS.iter().find(|hook| hook.agent == kept.agent)?;
    let text = String::from_utf8_lossy(&now);
    let without = hook.take_out(&text, &command(hook.agent, socket)?)?;
    match put(&kept.file, without.as_bytes()) {
        Ok(()) => Some(format!("{shown} was changed meanwhile; only our hooks were taken out of it")),
        Err(error) => Some(format!("{shown} can't be put back: {error}")),
    }
}

/// Takes in what hooks hand over, on a thread of its own: whoever connects may say nothing for ever.
#[derive(Debug)]
pub(crate) struct Ears {
    texts: Receiver<String>,
    /// Bytes that are still taken in.
    left: usize,
}

impl Ears {
    /// Listens where the user's programs can reach it.
    pub(crate) fn at(socket: &Path) -> io::Result<Self> {
        if let Some(folder) = socket.parent()
            && !folder.exists()
        {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
        }
        let listener = UnixListener::bind(socket)?;
        // Anybody may claim something; what is claimed explains nothing.
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
        let (tell, texts) = sync_channel(WAITING);
        std::thread::spawn(move || listen(&listener, &tell));
        Ok(Self { texts, left: MOST })
    }

    /// What was handed over since the last time; once it was too much, nothing any more.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        let heard = self.texts.try_iter().take(WAITING);
        let left = &mut self.left;
        heard
            .filter(|text| {
                let is_taken = text.len() <= *left;
                *left = if is_taken { *left - text.len() } else { 0 };
                is_taken
            })
            .collect()
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.left == 0
    }
}

fn listen(listener: &UnixListener, tell: &SyncSender<String>) {
    for stream in listener.incoming().flatten() {
        let mut text = Vec::new();
        let is_read = stream.set_read_timeout(Some(PATIENCE)).is_ok()
            && stream.take(2 * LONGEST).read_to_end(&mut text).is_ok();
        if let (true, Ok(text)) = (is_read, String::from_utf8(text)) {
            let _ = tell.try_send(text);
        }
    }
}

/// Where the hooks of `run`, which has no session, hand over.
pub(crate) fn socket_of_run() -> PathBuf {
    let name = format!("run-{}.sock", std::process::id());
    if nix::unistd::geteuid().is_root() {
        return Path::new(FOLDER).join(name);
    }
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    folder.join(format!("edamame-guard-{name}"))
}

/// Where a session's hooks hand over: its own folder is closed to the user where the recorder is root.
pub(crate) fn socket_of(session: &Session) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return Path::new(FOLDER).join(format!("{}.sock", session.id));
    }
    session.file("hooks.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(home: &Path, what: &str, input: &str) -> String {
        done(what, home, Path::new("/run/x.sock"), input).unwrap()
    }

    #[test]
    fn files_are_put_back_byte_for_byte() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        fs::create_dir(home.join(".claude")).unwrap();
        let claude = home.join(".claude/settings.json");
        let odd = b"{ \"model\":\t\"x\",\r\n  \"a\": 1e2 }";
        fs::write(&claude, odd).unwrap();
        fs::set_permissions(&claude, fs::Permissions::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&claude).unwrap().ino();
        let plan = all(home, "read", "");
        assert_eq!(fs::read(&claude).unwrap(), odd, "to look changes nothing");
        all(home, "write", &plan);
        assert!(fs::read_to_string(&claude).unwrap().contains("--agent claude-code"));
        assert!(home.join(".copilot/hooks/edamame-guard.json").is_file());
        assert_eq!(all(home, "restore", &plan), "");
        assert_eq!(fs::read(&claude).unwrap(), odd);
        let about = fs::metadata(&claude).unwrap();
        assert_eq!((about.ino(), about.mode() & 0o777), (inode, 0o640));
        let left: Vec<_> = fs::read_dir(home).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [".claude"], "what was made is gone");
    }

    #[test]
    fn hooks_that_a_killed_guard_left_are_taken_out_and_those_of_a_living_one_stay() {
        let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let claude = home.path().join(".claude/settings.json");
        let living = folder.path().join("living.sock");
        let _ears = Ears::at(&living).unwrap();
        let kept = |socket: &Path| {
            let plan = done("read", home.path(), socket, "").unwrap();
            done("write", home.path(), socket, &plan).unwrap();
            plan
        };
        let count = |word: &str| fs::read_to_string(&claude).unwrap().matches(word).count();
        kept(&living);
        kept(Path::new("/run/killed.sock"));
        assert_eq!((count("killed.sock"), count("living.sock")), (2, 2));
        let plan = kept(Path::new("/run/new.sock"));
        assert_eq!((count("killed.sock"), count("living.sock"), count("new.sock")), (0, 2, 2));
        assert_eq!(done("restore", home.path(), Path::new("/run/new.sock"), &plan).unwrap(), "");
        assert_eq!((count("killed.sock"), count("living.sock"), count("new.sock")), (0, 2, 0));
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let plan = all(home, "read", "");
        all(home, "write", &plan);
        let claude = home.join(".claude/settings.json");
        let with = fs::read_to_string(&claude).unwrap();
        fs::write(&claude, with.replacen('{', "{\"theme\": \"dark\",", 1)).unwrap();
        fs::write(home.join(".gemini/other"), "x").unwrap();
        let said = all(home, "restore", &plan);
        assert!(said.contains("was changed meanwhile"), "{said}");
        let now: serde_json::Value = serde_json::from_slice(&fs::read(&claude).unwrap()).unwrap();
        assert_eq!(now, serde_json::json!({"theme": "dark"}));
        assert!(home.join(".gemini/other").is_file() && !home.join(".gemini/settings.json").exists());
    }

    #[test]
    fn what_is_no_plain_file_of_json_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for folder in [".claude", ".gemini", ".cursor"] {
            fs::create_dir(home.join(folder)).unwrap();
        }
        fs::write(home.join(".claude/settings.json"), "{ not json").unwrap();
        nix::unistd::mkfifo(&home.join(".gemini/settings.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("hooks.json", home.join(".cursor/hooks.json")).unwrap();
        let kept: Vec<Kept> = serde_json::from_str(&all(home, "read", "")).unwrap();
        let agents: Vec<&str> = kept.iter().map(|kept| kept.agent.as_str()).collect();
        assert_eq!(agents, ["codex", "copilot"]);
    }

    #[test]
    fn whoever_connects_and_says_nothing_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ears/x.sock");
        let mut ears = Ears::at(&socket).unwrap();
        let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"agent\": \"x\"}\n").unwrap();
        drop(stream);
        assert!(ears.heard().is_empty());
        let until = std::time::Instant::now() + Duration::from_secs(5);
        let mut heard = Vec::new();
        while heard.is_empty() && std::time::Instant::now() < until {
            heard = ears.heard();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(heard, ["{\"agent\": \"x\"}\n"]);
    }
}
