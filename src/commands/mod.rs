//! What common tools plausibly do: data, one file per tool, the same for people and agents.
//!
//! An entry explains effects; it never allows what the policy denies. A tool is known by
//! the file it runs from, and only when the job did not put that file there.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

/// What may start below a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    /// Whatever the project's own files say.
    Project,
    /// Only its helpers.
    Helpers,
}

/// Whom a tool talks to by its nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nobody.
    None,
    /// Its own service: registry, forge, cloud; the client chooses.
    Client,
    /// The hosts its declared arguments name, and wherever those send it on.
    Arguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    programs: Vec<String>,
    #[serde(default)]
    group: Option<String>,
    runs: Runs,
    #[serde(default)]
    scripts_when: Vec<String>,
    #[serde(default)]
    scripts_by_default: Vec<String>,
    #[serde(default)]
    scripts_in: Vec<String>,
    #[serde(default)]
    helpers: Vec<String>,
    #[serde(default)]
    options_with_value: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
    network: Network,
    #[serde(default)]
    writes: Vec<String>,
}

/// One tool of the folder.
#[derive(Debug)]
pub struct Tool {
    /// The file's name: `npm`.
    pub id: &'static str,
    /// The policy's group of this client's configured hosts: `node`.
    pub group: Option<String>,
    pub runs: Runs,
    pub network: Network,
    /// Absolute globs, with `~`, of what it writes outside the workspace.
    pub writes: Vec<String>,
    programs: GlobSet,
    helpers: GlobSet,
    scripts_in: GlobSet,
    scripts_when: Vec<String>,
    scripts_by_default: Vec<String>,
    options_with_value: Vec<String>,
    options: GlobSet,
}

impl Tool {
    /// The sub-command among a tool's arguments: `run` of `npm --prefix app run build`.
    ///
    /// `None` when there is none, or an option stands before it of which we don't know whether
    /// the next word is its value.
    pub fn verb<'a>(&self, arguments: &'a [String]) -> Option<&'a str> {
        let mut words = arguments.iter();
        loop {
            let word = words.next()?.as_str();
            if !word.starts_with('-') {
                return Some(word);
            }
            if takes_next(&self.options_with_value, word) {
                words.next();
            } else if !word.contains('=') && !self.options.is_match(word) {
                return None;
            }
        }
    }

    /// Whether a child called `name` acts for the tool itself.
    pub fn has_helper(&self, name: &str) -> bool {
        self.helpers.is_match(name)
    }

    /// Whether a child is other people's code: an install script, a build script.
    ///
    /// `arguments` are the tool's own, behind its name; `child` is the child's absolute path.
    pub fn runs_others_code(&self, name: &str, arguments: &[String], child: &str) -> bool {
        if self.scripts_in.is_match(child) {
            return true;
        }
        let verb = self
            .verb(arguments)
            .or_else(|| arguments.iter().map(String::as_str).find(|argument| !argument.starts_with('-')));
        match verb {
            Some(verb) => self.scripts_when.iter().any(|known| known == verb),
            None => self.scripts_by_default.iter().any(|program| program == name),
        }
    }
}

macro_rules! tools {
    ($($id:literal),* $(,)?) => {
        const SOURCES: &[(&str, &str)] = &[$(($id, include_str!(concat!($id, ".yml")))),*];
    };
}

tools![
    "cargo",
    "clouds",
    "compilers",
    "containers",
    "forges",
    "git",
    "go",
    "interpreters",
    "make",
    "npm",
    "pip",
    "shells",
    "ssh",
    "system-packages",
    "tests",
    "transfer",
];

static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .map(|(id, text)| {
            let entry: Entry =
                serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{id}.yml: {error}"));
            Tool {
                id,
                group: entry.group,
                runs: entry.runs,
                network: entry.network,
                writes: entry.writes,
                programs: globs(&entry.programs),
                helpers: globs(&entry.helpers),
                scripts_in: globs(&entry.scripts_in),
                scripts_when: entry.scripts_when,
                scripts_by_default: entry.scripts_by_default,
                options_with_value: entry.options_with_value,
                options: globs(&entry.options),
            }
        })
        .collect()
});

/// Compiles globs of ours; a bad one is a mistake in the data that every test run meets.
pub(crate) fn globs(patterns: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(path_glob(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")));
    }
    builder.build().unwrap_or_else(|error| panic!("{patterns:?}: {error}"))
}

/// A glob in which `*` stays inside one folder and `**` does not.
pub(crate) fn path_glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

impl Tool {
    /// Whether a program of this name is the tool, not the interpreter that it runs on.
    pub fn is_called(&self, name: &str) -> bool {
        self.programs.is_match(name)
    }
}

/// The tool that runs from a file of this name.
pub fn tool(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.programs.is_match(name))
}

/// The tool with this id.
pub fn by_id(id: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.id == id)
}

/// Where the sub-command may stand among the arguments of this program: behind each option, and behind
/// the value that it takes. An option we don't know may or may not take one, so there can be several.
pub fn beginnings(program: &str, arguments: &[String]) -> BTreeSet<usize> {
    let with_value = tool(program).map_or(&[][..], |tool| &tool.options_with_value);
    let known = |word: &str| tool(program).is_some_and(|tool| tool.options.is_match(word));
    let mut found = BTreeSet::new();
    let mut next = vec![0];
    while let Some(at) = next.pop() {
        if !found.insert(at) {
            continue;
        }
        let Some(word) = arguments.get(at).filter(|word| word.starts_with('-')) else { continue };
        if takes_next(with_value, word) {
            next.push(at + 2);
        } else if word.contains('=') || known(word) {
            next.push(at + 1);
        } else {
            next.extend([at + 1, at + 2]);
        }
    }
    found
}

fn takes_next(options: &[String], word: &str) -> bool {
    options.iter().any(|option| option == word)
}

/// Every tool.
pub fn all() -> &'static [Tool] {
    &TOOLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_and_reads() {
        let mut files: Vec<String> = std::fs::read_dir("src/commands")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".yml").map(str::to_owned))
            .collect();
        files.sort();
        assert_eq!(files, all().iter().map(|tool| tool.id).collect::<Vec<_>>());
    }

    #[test]
    fn an_install_runs_others_code_and_a_test_the_projects() {
        let npm = tool("npm-cli.js").unwrap();
        assert!(npm.runs_others_code("npm", &["ci".into()], "/bin/sh"));
        assert!(!npm.runs_others_code("npm", &["--silent".into(), "test".into()], "/bin/sh"));
        assert!(tool("yarn").unwrap().runs_others_code("yarn", &[], "/bin/sh"));
        let verb = |words: &str| {
            npm.verb(&words.split(' ').map(str::to_owned).collect::<Vec<_>>()).map(str::to_owned)
        };
        assert_eq!(verb("--silent --prefix app run build").as_deref(), Some("run"));
        assert_eq!(verb("install run").as_deref(), Some("install"));
        assert_eq!(verb("--prefix run install").as_deref(), Some("install"));
        assert_eq!(verb("--unheard-of run install"), None);
        let cargo = tool("cargo").unwrap();
        assert!(cargo.runs_others_code(
            "cargo",
            &["build".into()],
            "/w/target/debug/build/x-1/build-script-build"
        ));
        assert!(!cargo.runs_others_code("cargo", &["test".into()], "/w/target/debug/deps/x-1"));
        let gh = tool("gh").unwrap();
        assert!(gh.runs_others_code(
            "gh",
            &["notes".into()],
            "/home/u/.local/share/gh/extensions/gh-notes/gh-notes"
        ));
        assert!(!gh.runs_others_code("gh", &["notes".into()], "/home/u/.local/share/gh/gh-notes"));
    }
}
