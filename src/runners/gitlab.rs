//! GitLab CI/CD: from the runner's variables to a [`Job`], and what its file declares.
//!
//! `before_script` and `script` are one shell and one step. `after_script` is another shell, which starts when the
//! guard has finished; it is not watched.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::intent::gitlab::{Declared, Handed, declared, handed};
use crate::intent::{Declaration, Text};
use crate::job::{Job, Location, Pipeline, Provider, Step, StepKey};

/// Where GitLab looks for the file when the project says nothing else.
const FILE: &str = ".gitlab-ci.yml";
/// A larger file is not read: 1 MiB.
const LARGEST: u64 = 1 << 20;

/// Whether these variables are those of a job on GitLab.
pub fn is_here(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    variable("GITLAB_CI").is_some() && said(variable, "CI_JOB_NAME").is_some()
}

/// The commit that a merge request's change is compared with.
pub fn base(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    said(variable, "CI_MERGE_REQUEST_DIFF_BASE_SHA")
}

/// The job that these variables tell of, and what its file declares, as far as it is in the project itself.
pub fn job(
    directory: &Path,
    home: &Path,
    uid: u32,
    variable: &dyn Fn(&str) -> Option<String>,
) -> (Job, Vec<Declaration>) {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let workspace =
        said(variable, "CI_PROJECT_DIR").map_or_else(|| real(directory), |path| real(path.as_ref()));
    let name = said(variable, "CI_JOB_NAME").unwrap_or_else(|| "job".to_owned());
    let key = StepKey(format!("{name}/script"));
    let file = said(variable, "CI_CONFIG_PATH").unwrap_or_else(|| FILE.to_owned());
    let told = configuration(&workspace, &file)
        .and_then(|text| declared(&text, &name).ok().flatten())
        .unwrap_or_default();
    let absolute = workspace.join(&file).to_string_lossy().into_owned();
    let at = |line| Location { path: file.clone(), line };
    let declarations = told
        .parts
        .iter()
        .map(|part| Declaration {
            step: key.clone(),
            text: Text::Script { file: absolute.clone(), location: at(part.line), text: part.text.clone() },
        })
        .collect();
    let job = Job {
        provider: Provider::Gitlab,
        name,
        workspace: workspace.to_string_lossy().into_owned(),
        home: real(home).to_string_lossy().into_owned(),
        uid,
        pipeline: Some(pipeline(variable, &file)),
        steps: vec![Step {
            key,
            name: "script".to_owned(),
            declared: in_one_line(&told),
            location: told.line.map(at),
        }],
    };
    (job, declarations)
}

/// The job's configuration, if it lies in the project.
fn configuration(workspace: &Path, file: &str) -> Option<String> {
    is_plain(file).then(|| regular(&workspace.join(file))).flatten()
}

/// The files that this job hands to GitLab when it is over, and what of it is not known.
///
/// GitLab has read them before the job began, so this is asked before the job can change the file.
pub fn artifacts(job: &Job, variable: &dyn Fn(&str) -> Option<String>) -> (Handed, Vec<String>) {
    let file = said(variable, "CI_CONFIG_PATH").unwrap_or_else(|| FILE.to_owned());
    let text = configuration(Path::new(&job.workspace), &file);
    let told = text.and_then(|text| handed(&text, &job.name).ok().flatten());
    let mut gaps = Vec::new();
    let is_partial = told.as_ref().is_none_or(|told| told.is_partial);
    if is_partial {
        gaps.push(format!("secrets in artifacts of the job that are not named in {file}"));
    }
    let mut told = told.unwrap_or_default();
    if told.has_untracked {
        gaps.push("secrets in artifacts that are named by `untracked: true` alone".to_owned());
    }
    for paths in [&mut told.paths, &mut told.exclude, &mut told.variables] {
        let (known, unknown): (Vec<_>, Vec<_>) =
            paths.iter().map(|path| expanded(path, variable).ok_or(path)).partition(Result::is_ok);
        gaps.extend(
            unknown.into_iter().filter_map(Result::err).map(|path| {
                format!("secrets in artifacts at {path}: it has a variable that is not set here")
            }),
        );
        *paths = known.into_iter().flatten().collect();
    }
    (told, gaps)
}

/// A path with its variables put in; `None` where one of them is not set.
fn expanded(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (name, behind) = match after.strip_prefix('{') {
            Some(after) => after.split_once('}')?,
            None => after.split_at(after.find(|letter| !is_name(letter)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            text.push('$');
        } else {
            text.push_str(&variable(name)?);
        }
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

fn pipeline(variable: &dyn Fn(&str) -> Option<String>, file: &str) -> Pipeline {
    let said = |name| said(variable, name);
    let commit = said("CI_COMMIT_SHA").filter(|sha| {
        (sha.len() == 40 || sha.len() == 64) && sha.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    Pipeline {
        repository: said("CI_PROJECT_PATH"),
        workflow: Some(file.to_owned()),
        workflow_commit: commit.clone(),
        reference: said("CI_COMMIT_REF_NAME"),
        commit,
        event: said("CI_PIPELINE_SOURCE"),
        run: said("CI_PIPELINE_ID"),
        attempt: said("CI_JOB_ID"),
        pull_request: said("CI_MERGE_REQUEST_IID").and_then(|number| number.parse().ok()),
        server: said("CI_SERVER_URL").map(|url| url.trim_end_matches('/').to_owned()),
        ..Pipeline::default()
    }
}

/// The lines of the script, as one.
fn in_one_line(told: &Declared) -> String {
    let lines = told.parts.iter().flat_map(|part| part.text.lines());
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" && ")
}

fn said(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

/// A path in the project. The setting may also name a file of another project or an address, which is not here.
fn is_plain(path: &str) -> bool {
    !path.starts_with('/') && !path.contains(['@', ':']) && path.split('/').all(|part| part != "..")
}

/// A file's text, if it is a regular one and not too long.
fn regular(path: &Path) -> Option<String> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path).ok()?;
    let about = file.metadata().ok()?;
    (about.is_file() && about.len() <= LARGEST).then_some(())?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_path_are_put_in() {
        let variable = |name: &str| (name == "OUT").then(|| "dist".to_owned());
        for (path, wanted) in [
            ("a/b", Some("a/b")),
            ("$OUT/a", Some("dist/a")),
            ("x/${OUT}a", Some("x/dista")),
            ("$OUTER/a", None),
            ("a$/b", Some("a$/b")),
            ("a/${OUT", None),
        ] {
            assert_eq!(expanded(path, &variable).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn the_job_has_its_script_and_its_line() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(FILE), "ünï/\"x\":\n  script:\n    - npm ci\n    - npm test\n")
            .unwrap();
        let variable = |name: &str| {
            Some(match name {
                "GITLAB_CI" => "true".to_owned(),
                "CI_JOB_NAME" => "ünï/\"x\"".to_owned(),
                "CI_PROJECT_DIR" => place.path().to_string_lossy().into_owned(),
                "CI_PROJECT_PATH" => "group/project".to_owned(),
                "CI_COMMIT_SHA" => "not a commit".to_owned(),
                _ => return None,
            })
        };
        assert!(is_here(&variable) && !is_here(&|_| None));
        let (job, declarations) = job(Path::new("/"), Path::new("/root"), 0, &variable);
        let step = &job.steps[0];
        assert_eq!(step.key.0, "ünï/\"x\"/script");
        assert_eq!(step.declared, "npm ci && npm test");
        assert_eq!(step.location.as_ref().unwrap().to_string(), ".gitlab-ci.yml:3");
        let pipeline = job.pipeline.unwrap();
        assert_eq!((pipeline.repository.as_deref(), pipeline.commit), (Some("group/project"), None));
        assert_eq!(declarations.len(), 1);
    }

    #[test]
    fn a_file_that_is_not_here_declares_nothing() {
        for path in ["https://a.example/x.yml", "x.yml@group/other", "../x.yml", "/etc/passwd"] {
            assert!(!is_plain(path), "{path}");
        }
        let (job, declarations) = job(Path::new("/nowhere"), Path::new("/root"), 0, &|name| {
            (name == "CI_JOB_NAME").then(|| "a".to_owned())
        });
        assert!(
            declarations.is_empty() && job.steps[0].declared.is_empty() && job.steps[0].location.is_none()
        );
    }
}
