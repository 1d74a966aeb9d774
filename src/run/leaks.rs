//! Which secrets of the job are known, and the files in which they may come out.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::event::{Fact, Timestamp};
use crate::intent::gitlab::Handed;
use crate::intent::workflow::Workflow;
use crate::job::Job;
use crate::redact::is_secret_name;
use crate::secrets::{Matcher, Vault};

/// A larger credential file is a database.
const LARGEST_STORE: u64 = 1 << 16;
/// Of one file that is searched, and of files of one artifact.
const LARGEST: u64 = 64 << 20;
const MOST_FILES: usize = 2000;
/// Files and folders that are looked at for one path of artifacts.
const MOST_PLACES: usize = 200_000;

/// The values of secret-like variables, of the credential files that there are, and of those that the policy adds.
pub(super) fn vault(
    variables: impl Iterator<Item = (String, String)>,
    facts: &[Fact],
    own: &[PathBuf],
) -> Vault {
    /// Stores full of words that are no secrets.
    const WORDY: &[&str] =
        &["_history", "/.mozilla/", "/google-chrome/", "/chromium/", "/BraveSoftware/", "/.config/op/"];
    let mut vault = Vault::default();
    for (name, value) in variables.filter(|(name, _)| is_secret_name(name)) {
        vault.add_variable(&name, &value);
    }
    let known = facts.iter().filter_map(|fact| match fact {
        Fact::Credential { file } => Some(Path::new(&file.path)),
        _ => None,
    });
    for path in known.chain(own.iter().map(PathBuf::as_path)) {
        let name = path.to_string_lossy();
        if WORDY.iter().any(|part| name.contains(part)) {
            continue;
        }
        if let Ok(content) = read(path, LARGEST_STORE) {
            vault.add_file(&name, &content);
        }
    }
    vault
}

/// The files that the policy's `secrets` name, as far as it says where they begin.
pub(super) fn own(globs: &[String], job: &Job) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for glob in globs {
        let (folder, rest) = match (glob.strip_prefix("~/"), glob.strip_prefix("./")) {
            (Some(rest), _) => (&job.home, rest),
            (_, Some(rest)) => (&job.workspace, rest),
            _ => continue,
        };
        let plain: PathBuf =
            rest.split('/').take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
        let mut files = Vec::new();
        if !plain.as_os_str().is_empty() {
            below(&Path::new(folder).join(plain), Path::new(folder), &mut files);
        }
        found.extend(files.into_iter().map(|(_, path)| path).take(64));
    }
    found
}

/// A plain file's content, if it is no larger.
fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut content = Vec::new();
    file.take(largest + 1).read_to_end(&mut content)?;
    if content.len() as u64 > largest { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
}

/// Neither follows a link nor waits for a pipe's other end.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// A file to search, and what a report calls it.
pub(super) type Named = (String, PathBuf);

/// The files by which a step tells the runner something: those that these variables name, and their neighbours.
pub(super) fn command_files(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Named> {
    const FILES: &[(&str, &str, &str)] = &[
        ("GITHUB_STEP_SUMMARY", "step_summary_", "the job's summary"),
        ("GITHUB_OUTPUT", "set_output_", "outputs of the step"),
        ("GITHUB_ENV", "set_env_", "variables of later steps"),
    ];
    let mut found: Vec<Named> = Vec::new();
    for (name, start, title) in FILES {
        let Some(path) = variable(name).map(PathBuf::from) else { continue };
        let folder = path.parent().map(std::fs::read_dir);
        let others = folder.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
        let is_kin =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        let mut paths: Vec<PathBuf> = others.filter(is_kin).take(MOST_FILES).chain([path.clone()]).collect();
        paths.sort();
        paths.dedup();
        found.extend(paths.into_iter().map(|path| ((*title).to_owned(), path)));
    }
    found
}

/// What the steps of this job hand to the action that uploads artifacts.
pub(super) fn artifacts(workflow: &str, job: &str, workspace: &Path) -> Vec<Named> {
    let Ok(workflow) = Workflow::parse(workflow) else { return Vec::new() };
    let is_upload = |uses: &str| {
        uses.starts_with("actions/upload-artifact@") || uses.starts_with("actions/upload-pages-artifact@")
    };
    let steps = workflow.steps(job).iter().filter(|step| step.uses.as_deref().is_some_and(is_upload));
    let lines = steps.filter_map(|step| step.with.get("path")).flat_map(|path| path.lines());
    let mut found = Vec::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('!')) {
        // Up to the first part that is only known to the action.
        let plain: PathBuf = line
            .split('/')
            .take_while(|part| !part.contains(['*', '?', '[', '$', '~']))
            .collect::<Vec<_>>()
            .join("/")
            .into();
        let place = workspace.join(plain);
        if place != workspace {
            below(&place, workspace, &mut found);
        }
    }
    found
}

/// What a GitLab job hands over below its project; the rest of it that there are too many of.
pub(super) fn handed(handed: &Handed, workspace: &Path) -> (Vec<Named>, Vec<String>) {
    let mut gaps = Vec::new();
    let excluded = globs(&handed.exclude);
    let mut found = Vec::new();
    for path in &handed.paths {
        found.extend(matching(path, workspace));
    }
    found.sort();
    found.dedup();
    found.retain(|path| {
        let shown = path.strip_prefix(workspace).unwrap_or(path);
        !excluded.is_match(shown)
    });
    if found.len() > MOST_FILES {
        found.truncate(MOST_FILES);
        gaps.push(format!("secrets in more than {MOST_FILES} files of artifacts"));
    }
    let named = |path: PathBuf| {
        let shown = path.strip_prefix(workspace).unwrap_or(&path).display().to_string();
        (format!("artifact {shown}"), path)
    };
    let mut files: Vec<Named> = found.into_iter().map(named).collect();
    let variables = handed.variables.iter().flat_map(|path| matching(path, workspace));
    files.extend(variables.map(|path| ("variables of later jobs".to_owned(), path)));
    (files, gaps)
}

/// The files that a path of artifacts means: of a folder all that is below, of a glob what it fits.
fn matching(path: &str, workspace: &Path) -> Vec<PathBuf> {
    // A path from the root may lie in the project all the same.
    let relative = Path::new(path).strip_prefix(workspace).ok().and_then(Path::to_str).unwrap_or(path);
    let path = relative.trim_start_matches("./").trim_end_matches('/');
    let plain: PathBuf = path.split('/').take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !is_inside {
        return Vec::new();
    }
    let is_plain = plain.as_os_str() == path;
    let wanted = globs(&[path.to_owned(), format!("{path}/**")]);
    let (mut found, mut open, mut seen) = (Vec::new(), vec![workspace.join(plain)], 0);
    while let Some(place) = open.pop().filter(|_| seen < MOST_PLACES && found.len() <= MOST_FILES) {
        seen += 1;
        let Ok(metadata) = place.symlink_metadata() else { continue };
        if metadata.is_dir() {
            let inside = std::fs::read_dir(&place).into_iter().flatten().flatten();
            open.extend(inside.map(|entry| entry.path()).take(MOST_PLACES));
        } else if metadata.is_file()
            && (is_plain || wanted.is_match(place.strip_prefix(workspace).unwrap_or(&place)))
        {
            found.push(place);
        }
    }
    found
}

fn globs(texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        if let Ok(glob) = GlobBuilder::new(text).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

/// The files a user names as artifacts.
pub(super) fn given(files: &[PathBuf]) -> Vec<Named> {
    files.iter().map(|path| (format!("artifact {}", path.display()), path.clone())).collect()
}

fn below(place: &Path, workspace: &Path, found: &mut Vec<Named>) {
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if metadata.is_file() && found.len() < MOST_FILES {
            let shown = path.strip_prefix(workspace).unwrap_or(&path);
            found.push((format!("artifact {}", shown.display()), path.clone()));
        }
    }
}

/// What these files hold of the secrets.
pub(super) fn search(matcher: &Matcher, files: &[Named], time: Timestamp) -> Vec<Fact> {
    let mut leaks = Vec::new();
    for (place, path) in files.iter().filter(|_| !matcher.is_empty()) {
        let Ok(file) = open(path) else { continue };
        let mut file = file.take(LARGEST);
        let mut scanner = matcher.scanner();
        let mut piece = vec![0; 1 << 16];
        while let Ok(read @ 1..) = file.read(&mut piece) {
            for found in scanner.feed(&piece[..read]) {
                let (secret, encoding) = (found.secret, found.encoding.as_str().to_owned());
                leaks.push(Fact::Leak { secret, encoding, place: place.clone(), time });
            }
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gitlab_job_hands_over_is_found_by_its_globs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in
            ["dist/a.js", "dist/deep/b.js", "dist/c.tmp", "x/y/z.log", "x/z.txt", "build.env", "other.js"]
        {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.join("dist/link")).unwrap();
        let told = |paths: &[&str]| {
            let text = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
            let handed = Handed {
                paths: text(paths),
                exclude: text(&["**/*.tmp"]),
                variables: text(&["build.env"]),
                ..Handed::default()
            };
            let (files, gaps) = super::handed(&handed, root);
            assert_eq!(gaps, [""; 0]);
            files.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let env = "variables of later jobs";
        let whole = ["artifact dist/a.js", "artifact dist/deep/b.js", env];
        for path in ["dist/", "dist", "./dist/**", "dist/**/*", &root.join("dist").to_string_lossy()] {
            assert_eq!(told(&[path]), whole, "{path}");
        }
        assert_eq!(told(&["dist/*.js", "dist/a.js"]), ["artifact dist/a.js", env]);
        assert_eq!(told(&["**/*.log"]), ["artifact x/y/z.log", env]);
        assert_eq!(told(&["*/y"]), ["artifact x/y/z.log", env]);
        assert_eq!(told(&["../", "/etc", "none", ""]), [env]);
    }

    #[test]
    fn files_of_steps_and_artifacts_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("dist/deep")).unwrap();
        std::fs::write(at("dist/deep/app.map"), "6b3846712d32 78577a374c6d50").unwrap();
        std::fs::write(at("dist/other.js"), "nothing").unwrap();
        std::fs::write(at("step_summary_1"), "Build k8Fq-2xWz7LmP").unwrap();
        std::os::unix::fs::symlink(at("step_summary_1"), at("step_summary_2")).unwrap();
        let matcher =
            vault([("A_TOKEN".to_owned(), "k8Fq-2xWz7LmP".to_owned())].into_iter(), &[], &[]).matcher();
        let summary = at("step_summary_9").to_string_lossy().into_owned();
        let mut files = command_files(&|name| (name == "GITHUB_STEP_SUMMARY").then(|| summary.clone()));
        let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/upload-artifact@v4\n        with:\n          path: |\n            dist/**\n            !dist/x\n";
        files.extend(artifacts(workflow, "a", folder.path()));
        let leaks = search(&matcher, &files, Timestamp(1));
        let told: Vec<String> = leaks
            .iter()
            .map(|leak| match leak {
                Fact::Leak { secret, encoding, place, .. } => format!("{secret} {encoding} {place}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["A_TOKEN plain the job's summary", "A_TOKEN hex artifact dist/deep/app.map"]);
    }
}
