//! `edamame-guard run`: one command on any machine is the job and its only step.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::intent::{Declaration, Text, basename, is_launcher, is_shell};
use crate::job::{Job, Location, Provider, Step, StepKey};

/// A longer script is not read: nobody writes a step of a quarter megabyte.
const LONGEST_SCRIPT: u64 = 256 * 1024;

/// The job that this command is, and what it declares: its own words and the script it names.
pub fn job(command: &[String], directory: &Path, home: &Path, uid: u32) -> (Job, Vec<Declaration>) {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = real(directory);
    let workspace = workspace(&directory);
    let home = real(home);
    let step = StepKey::local();
    let mut declarations =
        vec![Declaration { step: step.clone(), text: Text::Command { words: command.to_vec() } }];
    let mut location = None;
    if let Some((file, text)) = script(command, &directory) {
        let shown = file.strip_prefix(&workspace).unwrap_or(&file).to_string_lossy().into_owned();
        let start = Location { path: shown, line: 1 };
        location = Some(start.clone());
        declarations.push(Declaration {
            step: step.clone(),
            text: Text::Script { file: file.to_string_lossy().into_owned(), location: start, text },
        });
    }
    let job = Job {
        provider: Provider::Local,
        name: "local".to_owned(),
        workspace: workspace.to_string_lossy().into_owned(),
        home: home.to_string_lossy().into_owned(),
        uid,
        steps: vec![Step { key: step, name: "run".to_owned(), declared: command.join(" "), location }],
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
fn script(command: &[String], directory: &Path) -> Option<(PathBuf, String)> {
    let mut words = command
        .iter()
        .skip_while(|word| is_launcher(basename(word)) || word.starts_with('-') || word.contains('='));
    let mut named = words.next()?;
    if is_shell(basename(named)) {
        // `-c` text is part of the command line itself; `-o pipefail` takes a word.
        let mut skip_next = false;
        named = words.find(|word| {
            let is_option = word.starts_with('-') || word.starts_with('+');
            let is_value = std::mem::replace(&mut skip_next, is_option && word.ends_with('o'));
            !is_option && !is_value
        })?;
        if command.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('c')) {
            return None;
        }
    }
    let file = fs::canonicalize(directory.join(named)).ok()?;
    let mut text = String::new();
    let mut bytes = Vec::new();
    fs::File::open(&file).ok()?.take(LONGEST_SCRIPT).read_to_end(&mut bytes).ok()?;
    text.push_str(std::str::from_utf8(&bytes).ok()?);
    let first = text.lines().next().unwrap_or_default();
    let is_for_shell =
        first.strip_prefix("#!").is_none_or(|interpreter| interpreter.split([' ', '/', '\t']).any(is_shell));
    let is_shell_script =
        is_for_shell && (first.starts_with("#!") || command.iter().any(|word| is_shell(basename(word))));
    is_shell_script.then_some((file, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(command: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("build.sh"), "#!/bin/sh\nmake\n").unwrap();
        fs::write(folder.path().join("tool.py"), "#!/usr/bin/env python3\nprint()\n").unwrap();
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        script(&command, folder.path()).map(|(_, text)| text)
    }

    #[test]
    fn the_script_a_command_names_is_read() {
        for command in [
            &["./build.sh"][..],
            &["bash", "build.sh"],
            &["bash", "-e", "-o", "pipefail", "./build.sh", "arg"],
            &["sudo", "-E", "bash", "build.sh"],
            &["env", "A=1", "./build.sh"],
        ] {
            assert!(declared(command).is_some(), "{command:?}");
        }
        for command in
            [&["./tool.py"][..], &["bash", "-c", "./build.sh"], &["npm", "ci"], &["bash", "missing.sh"]]
        {
            assert!(declared(command).is_none(), "{command:?}");
        }
    }
}
