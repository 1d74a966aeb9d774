//! The inputs of action.yml, parsed once; a word that nobody knows is refused.

use std::path::{Path, PathBuf};

use crate::cli::{ModeArgument, UnsupportedArgument};
use crate::finding::FailOn;

/// What the workflow asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an input of its own that says true or false")]
pub(super) struct Inputs {
    /// A path or the text itself.
    pub policy: Option<String>,
    /// `owner/repo/path@ref`
    pub organisation_policy: Option<String>,
    pub mode: Option<ModeArgument>,
    /// `egress-policy: audit` and nothing else about failing: never fail, and tell what would have failed.
    pub is_audit_alone: bool,
    /// Hosts as harden-runner takes them.
    pub allowed_endpoints: Vec<String>,
    pub fail_on: Option<FailOn>,
    pub on_unsupported: UnsupportedArgument,
    pub report_dir: PathBuf,
    pub sarif_file: Option<PathBuf>,
    pub junit_file: Option<PathBuf>,
    /// `None`: when the token may.
    pub upload_sarif: Option<bool>,
    /// Whether agents are to call us before and after they use a tool.
    pub agent_hooks: bool,
    /// Files that the job makes, for the statement.
    pub artifacts: Vec<PathBuf>,
    pub job_summary: bool,
    pub pr_comment: bool,
    pub token: Option<String>,
    pub is_verbose: bool,
}

impl Inputs {
    /// Reads `INPUT_…` variables; relative paths are below `workspace`.
    pub(super) fn read(
        environment: impl Fn(&str) -> Option<String>,
        workspace: &Path,
        temporary: &Path,
    ) -> Result<Self, String> {
        let text = |name: &str| {
            environment(&format!("INPUT_{}", name.to_uppercase()))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let path = |name: &str| text(name).map(|value| workspace.join(value));
        let flag = |name: &str, without: bool| match text(name).as_deref() {
            None => Ok(without),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(unknown(name, other, "true, false")),
        };
        let mode = |name: &str| match text(name).as_deref() {
            None => Ok(None),
            Some("audit" | "log") => Ok(Some(ModeArgument::Audit)),
            Some("block" | "enforce") => Ok(Some(ModeArgument::Block)),
            Some(other) => Err(unknown(name, other, "audit, block, enforce, log")),
        };
        let (own, egress) = (mode("mode")?, mode("egress-policy")?);
        if let (Some(own), Some(egress)) = (own, egress)
            && own != egress
        {
            return Err("`mode` and `egress-policy` say different things; leave one out".to_owned());
        }
        let fail_on = text("fail-on")
            .map(|word| word.parse::<FailOn>().map_err(|_| unknown("fail-on", &word, FAIL_ON)))
            .transpose()?;
        let mode = own.or(egress);
        let on_unsupported = match text("on-unsupported").as_deref() {
            Some("fail") => UnsupportedArgument::Fail,
            Some("skip") => UnsupportedArgument::Skip,
            None if mode == Some(ModeArgument::Block) => UnsupportedArgument::Fail,
            Some("warn") | None => UnsupportedArgument::Warn,
            Some(other) => return Err(unknown("on-unsupported", other, "fail, warn, skip")),
        };
        for name in ["disable-sudo", "disable-sudo-and-containers"] {
            if flag(name, false)? {
                return Err(format!("`{name}: true` is not available yet; leave the input out"));
            }
        }
        Ok(Self {
            policy: text("policy"),
            organisation_policy: text("organisation-policy"),
            is_audit_alone: own.is_none() && egress == Some(ModeArgument::Audit) && fail_on.is_none(),
            mode,
            allowed_endpoints: text("allowed-endpoints").as_deref().map(words).unwrap_or_default(),
            fail_on,
            on_unsupported,
            report_dir: path("report-dir").unwrap_or_else(|| temporary.join("edamame-guard-report")),
            sarif_file: path("sarif-file"),
            junit_file: path("junit-file"),
            upload_sarif: match text("upload-sarif").as_deref() {
                None | Some("auto") => None,
                Some("true") => Some(true),
                Some("false") => Some(false),
                Some(other) => return Err(unknown("upload-sarif", other, "auto, true, false")),
            },
            agent_hooks: flag("agent-hooks", false)?,
            artifacts: text("artifact")
                .as_deref()
                .map(lines)
                .unwrap_or_default()
                .iter()
                .map(|path| workspace.join(path))
                .collect(),
            job_summary: flag("job-summary", true)?,
            pr_comment: flag("pr-comment", false)?,
            token: text("token"),
            is_verbose: match text("log-level").as_deref() {
                None | Some("info") => false,
                Some("debug") => true,
                Some(other) => return Err(unknown("log-level", other, "info, debug")),
            },
        })
    }

    /// What the recorder is started with.
    pub(super) fn recorded_fail_on(&self) -> Option<FailOn> {
        self.fail_on.or(self.is_audit_alone.then_some(FailOn::Never))
    }
}

/// `test (22, linux)`: the job's id, and the values that tell apart the legs of its matrix.
pub(super) fn job_and_leg(job: &str, matrix: &str) -> String {
    let matrix: serde_json::Value = serde_json::from_str(matrix).unwrap_or_default();
    let values: Vec<String> = matrix
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::values)
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    if values.is_empty() { job.to_owned() } else { format!("{job} ({})", values.join(", ")) }
}

const FAIL_ON: &str = "none, low, medium, high, critical";

fn unknown(name: &str, word: &str, known: &str) -> String {
    format!("{name}: `{word}` is not one of {known}")
}

/// harden-runner's list: blanks or line breaks between, `#` begins a remark.
fn words(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(',').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// One path a line, blanks within it included.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inputs: &[(&str, &str)]) -> Result<Inputs, String> {
        Inputs::read(
            |name| {
                let found = inputs.iter().find(|(own, _)| format!("INPUT_{}", own.to_uppercase()) == name);
                found.map(|(_, value)| (*value).to_owned())
            },
            Path::new("/w"),
            Path::new("/t"),
        )
    }

    #[test]
    fn nothing_said_is_the_default() {
        let inputs = read(&[("policy", ""), ("upload-sarif", "auto"), ("token", "")]).unwrap();
        assert_eq!(inputs.policy, None);
        assert_eq!(inputs.mode, None);
        assert_eq!(inputs.on_unsupported, UnsupportedArgument::Warn);
        assert_eq!(inputs.report_dir, Path::new("/t/edamame-guard-report"));
        assert_eq!(inputs.recorded_fail_on(), None);
        assert!(inputs.job_summary && !inputs.pr_comment && inputs.upload_sarif.is_none());
        assert!(!inputs.agent_hooks && read(&[("agent-hooks", "true")]).unwrap().agent_hooks);
    }

    #[test]
    fn the_incumbents_words_are_understood() {
        let inputs = read(&[
            ("egress-policy", "audit"),
            ("allowed-endpoints", "api.example.com:443 *.example.net:443 # ours\n  files.example:8443\n"),
        ])
        .unwrap();
        assert!(inputs.is_audit_alone);
        assert_eq!(inputs.recorded_fail_on(), Some(FailOn::Never));
        assert_eq!(
            inputs.allowed_endpoints,
            ["api.example.com:443", "*.example.net:443", "files.example:8443"]
        );
        // Who says from when on to fail means it.
        let inputs = read(&[("egress-policy", "audit"), ("fail-on", "error")]).unwrap();
        assert!(!inputs.is_audit_alone);
        assert_eq!(inputs.recorded_fail_on().unwrap().as_str(), "high");
        let inputs = read(&[("egress-policy", "block")]).unwrap();
        assert_eq!(inputs.mode, Some(ModeArgument::Block));
        assert_eq!(inputs.on_unsupported, UnsupportedArgument::Fail);
    }

    #[test]
    fn legs_of_a_matrix_are_told_apart() {
        assert_eq!(job_and_leg("test", ""), "test");
        assert_eq!(job_and_leg("test", "null"), "test");
        assert_eq!(job_and_leg("test", r#"{"node": 22, "os": "linux"}"#), "test (22, linux)");
    }

    #[test]
    fn paths_are_below_the_workspace() {
        let inputs = read(&[("report-dir", "out"), ("sarif-file", "/abs/x.sarif")]).unwrap();
        assert_eq!(inputs.report_dir, Path::new("/w/out"));
        assert_eq!(inputs.sarif_file.as_deref(), Some(Path::new("/abs/x.sarif")));
        let inputs = read(&[("artifact", "dist/a b.tgz\n\n  /abs/c\n")]).unwrap();
        assert_eq!(inputs.artifacts, [Path::new("/w/dist/a b.tgz"), Path::new("/abs/c")]);
        assert!(read(&[]).unwrap().artifacts.is_empty());
    }

    #[test]
    fn words_that_nobody_knows_are_refused_by_name() {
        for (name, value) in [
            ("mode", "strict"),
            ("egress-policy", "deny"),
            ("fail-on", "sometimes"),
            ("on-unsupported", "ignore"),
            ("upload-sarif", "yes"),
            ("job-summary", "1"),
            ("pr-comment", "on"),
            ("agent-hooks", "yes"),
            ("log-level", "loud"),
            ("disable-sudo", "maybe"),
        ] {
            let message = read(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{name}: `{value}` is not one of ")), "{message}");
        }
        assert!(read(&[("disable-sudo", "true")]).unwrap_err().contains("not available yet"));
        let message = read(&[("mode", "audit"), ("egress-policy", "block")]).unwrap_err();
        assert!(message.contains("different things"), "{message}");
        assert!(read(&[("mode", "block"), ("egress-policy", "enforce")]).is_ok());
    }
}
