//! Our own workflows and action.yml, read by the tools that others would read them with. A tool that is not there is said
//! and skipped; `make clients` installs them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs one of the tools of `.config/clients.sh`; it has to find nothing.
fn finds_nothing(test: &str, tool: &str, words: &[&str]) {
    let folder = Command::new(root().join(".config/clients.sh")).arg("--path").output().expect("a shell");
    let folder = PathBuf::from(String::from_utf8_lossy(&folder.stdout).trim());
    let program = folder.join("python/bin").join(tool);
    if !program.exists() {
        println!("skipped: {test} needs {tool}; `make clients` installs it");
        return;
    }
    let output = Command::new(program).args(words).current_dir(root()).output().expect("it runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn actionlint_finds_nothing() {
    let workflows = [".github/workflows/ci.yml", ".github/workflows/release.yml"];
    finds_nothing("actionlint_finds_nothing", "actionlint", &workflows);
}

#[test]
fn shellcheck_finds_nothing() {
    let scripts = std::fs::read_dir(root().join(".config")).expect("a folder");
    let scripts = scripts.map(|script| script.expect("an entry").path());
    let scripts = scripts.filter(|path| path.extension().is_some_and(|end| end == "sh"));
    let mut words: Vec<String> = scripts.map(|path| path.to_string_lossy().into_owned()).collect();
    assert!(words.len() >= 6, "{words:?}");
    words.push("--severity=info".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    finds_nothing("shellcheck_finds_nothing", "shellcheck", &words);
}

#[test]
fn zizmor_finds_nothing() {
    finds_nothing("zizmor_finds_nothing", "zizmor", &["--offline", "-q", ".github", "action.yml"]);
}

#[test]
fn workflows_and_action_fit_their_schemas() {
    let test = "workflows_and_action_fit_their_schemas";
    let workflows = [".github/workflows/ci.yml", ".github/workflows/release.yml"];
    let words = [&["--builtin-schema", "vendor.github-workflows"], &workflows[..]].concat();
    finds_nothing(test, "check-jsonschema", &words);
    finds_nothing(test, "check-jsonschema", &["--builtin-schema", "vendor.github-actions", "action.yml"]);
}
