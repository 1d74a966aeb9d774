//! `edamame-guard run`: one command on any machine is the job and its only step.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::event::hex;
use crate::intent::{Declaration, Text, basename, is_launcher, is_shell};
use crate::job::{Job, Location, Provider, Step, StepKey};

/// A longer script is not read: nobody writes a step of a quarter megabyte.
const LONGEST_SCRIPT: u64 = 256 * 1024;

/// The job that this command is, and what it declares: its own words and the script it names.
///
/// `command` may hold bytes that are not UTF-8; the job and the declarations have them as `\xNN`.
pub fn job(command: &[OsString], directory: &Path, home: &Path, uid: u32) -> (Job, Vec<Declaration>) {
    let words: Vec<String> = command.iter().map(|word| readable(word)).collect();
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = real(directory);
    let workspace = workspace(&directory);
    let home = real(home);
    let step = StepKey::local();
    let mut declarations =
        vec![Declaration { step: step.clone(), text: Text::Command { words: words.clone() } }];
    let mut location = None;
    if let Some((file, text)) = script(command, &words, &directory) {
        let shown = readable(file.strip_prefix(&workspace).unwrap_or(&file).as_os_str());
        let start = Location { path: shown, line: 1 };
        location = Some(start.clone());
        declarations.push(Declaration {
            step: step.clone(),
            text: Text::Script { file: readable(file.as_os_str()), location: start, text },
        });
    }
    let job = Job {
        provider: Provider::Local,
        name: "local".to_owned(),
        workspace: workspace.to_string_lossy().into_owned(),
        home: home.to_string_lossy().into_owned(),
        uid,
        pipeline: None,
        steps: vec![Step { key: step, name: "run".to_owned(), declared: words.join(" "), location }],
    };
    (job, declarations)
}

/// A job that somebody else runs: its steps are not known, and nothing is declared.
pub fn session(directory: &Path, home: &Path, uid: u32) -> (Job, Vec<Declaration>) {
    let (mut job, _) = job(&[], directory, home, uid);
    job.steps = vec![Step {
        key: StepKey("local/session".to_owned()),
        name: "session".to_owned(),
        declared: String::new(),
        location: None,
    }];
    (job, Vec::new())
}

/// The checkout this folder belongs to, else the folder itself.
pub fn workspace(directory: &Path) -> PathBuf {
    directory
        .ancestors()
        .find(|folder| folder.join(".git").exists() && folder.components().count() > 1)
        .unwrap_or(directory)
        .to_owned()
}

/// The shell script that a command names, behind launchers or not, with its text.
///
/// `command` are the very bytes, `words` the same as text.
fn script(command: &[OsString], words: &[String], directory: &Path) -> Option<(PathBuf, String)> {
    let mut rest = words
        .iter()
        .enumerate()
        .skip_while(|(_, word)| is_launcher(basename(word)) || word.starts_with('-') || word.contains('='));
    let (mut at, mut named) = rest.next()?;
    // `sudo -u runner bash x.sh`: behind a launcher's options their values may stand.
    if at > 0 && !is_shell(basename(named)) && !named.contains('/') {
        (at, named) = rest.by_ref().take(3).find(|(_, word)| is_shell(basename(word)))?;
    }
    let is_shells = is_shell(basename(named));
    if is_shells {
        // `-c` text is part of the command line itself; `-o pipefail` takes a word.
        let mut skip_next = false;
        (at, named) = rest.find(|(_, word)| {
            let is_option = word.starts_with('-') || word.starts_with('+');
            let is_value = std::mem::replace(&mut skip_next, is_option && word.ends_with('o'));
            !is_option && !is_value
        })?;
        if words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('c')) {
            return None;
        }
    }
    // Without a slash it is a program of the search path, not a file of the working folder.
    if !is_shells && !named.contains('/') {
        return None;
    }
    let file = fs::canonicalize(directory.join(command.get(at)?)).ok()?;
    let mut bytes = Vec::new();
    fs::File::open(&file).ok()?.take(LONGEST_SCRIPT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let first = text.lines().next().unwrap_or_default();
    let is_for_shell =
        first.strip_prefix("#!").is_none_or(|interpreter| interpreter.split([' ', '/', '\t']).any(is_shell));
    // A text without `#!` that is a program by its mode runs in `sh`.
    let is_run = first.starts_with("#!") || is_shells || is_plain_text(&file);
    (is_for_shell && is_run).then_some((file, text))
}

/// The file that the search path leads to, as `execvp` finds it.
pub fn found(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

/// Whether there is a program to start by this name: a text, or one that is for this machine.
pub fn can_start(program: &OsStr) -> bool {
    found(program).is_some_and(|file| {
        let mut begins = Vec::new();
        let _ = fs::File::open(&file).and_then(|file| file.take(2).read_to_end(&mut begins));
        is_executable(&file) && (begins == b"#!" || is_for_here(&file) || is_plain_text(&file))
    })
}

/// Whether a file is of the same class and for the same processor as this very program (ELF).
fn is_for_here(file: &Path) -> bool {
    const HEAD: u64 = 20;
    let head = |path: &Path| {
        let mut head = Vec::new();
        fs::File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
        let is_whole = head.len() as u64 == HEAD && head.starts_with(b"\x7fELF");
        is_whole.then(|| (head[4], head[5], head[18], head[19]))
    };
    head(file).is_some_and(|theirs| head(Path::new("/proc/self/exe")) == Some(theirs))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Whether a shell would run this file itself: an executable one whose first line is text without `#!`.
/// A program for another machine is none.
pub fn is_plain_text(file: &Path) -> bool {
    const LONGEST_LINE: u64 = 256;
    let mut bytes = Vec::new();
    let is_read =
        fs::File::open(file).is_ok_and(|file| file.take(LONGEST_LINE).read_to_end(&mut bytes).is_ok());
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    is_read && is_executable(file) && !first.starts_with(b"#!") && !first.contains(&0)
}

/// Bytes that are not UTF-8 as `\xNN`, like every other name in the record.
fn readable(word: &OsStr) -> String {
    word.as_bytes().utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str("\\x");
            text.push_str(&hex(&[*byte]));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(command: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("build.sh"), "#!/bin/sh\nmake\n").unwrap();
        fs::write(folder.path().join("tool.py"), "#!/usr/bin/env python3\nprint()\n").unwrap();
        fs::write(folder.path().join("plain"), "make\n").unwrap();
        fs::set_permissions(folder.path().join("plain"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"odd\xff.sh")), "#!/bin/sh\nmake\n").unwrap();
        let command: Vec<OsString> =
            command.iter().map(|word| OsStr::from_bytes(&bytes(word)).to_owned()).collect();
        let words: Vec<String> = command.iter().map(|word| readable(word)).collect();
        script(&command, &words, folder.path()).map(|(_, text)| text)
    }

    /// `?` stands for a byte that is not UTF-8.
    fn bytes(word: &str) -> Vec<u8> {
        word.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect()
    }

    #[test]
    fn the_script_a_command_names_is_read() {
        for command in [
            &["./build.sh"][..],
            &["bash", "build.sh"],
            &["bash", "-e", "-o", "pipefail", "./build.sh", "arg"],
            &["sudo", "-E", "bash", "build.sh"],
            &["env", "A=1", "./build.sh"],
            &["./plain"],
            &["sh", "plain"],
            &["./odd?.sh"],
            &["bash", "odd?.sh"],
        ] {
            assert!(declared(command).is_some(), "{command:?}");
        }
        for command in [
            &["./tool.py"][..],
            &["bash", "-c", "./build.sh"],
            &["npm", "ci"],
            &["bash", "missing.sh"],
            // The search path decides, not the working folder.
            &["plain"],
            &["build.sh"],
        ] {
            assert!(declared(command).is_none(), "{command:?}");
        }
    }
}
