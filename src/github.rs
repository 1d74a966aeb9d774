//! What GitHub is told of a run, and the one file of a repository that it is asked for: the only use of the network.
//!
//! Nothing decides by it. The verdict and the exit status are made before anything is sent, and whatever
//! GitHub answers becomes a [`Notice`] at most.

mod annotations;
mod check_run;
mod client;
mod code_scanning;
mod comment;
mod contents;

use std::fmt;

pub use annotations::{quoted, workflow_commands};
pub use client::{Client, Error};

use crate::finding::Report;
use crate::reports::text;

/// Where on GitHub a run belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `owner/name`
    pub repository: String,
    /// `.github/workflows/ci.yml`, when it is known.
    pub workflow: Option<String>,
    /// The job's id, with what tells apart the legs of a matrix: `test (22, linux)`.
    pub job: String,
    /// The commit that was checked out: 40 hex digits.
    pub commit: String,
    /// `refs/heads/main`, `refs/pull/7/merge`
    pub reference: String,
    /// The pull request, with its own last commit: what its checks are shown for.
    pub pull_request: Option<PullRequest>,
    /// From 1; a later attempt replaces what an earlier one said.
    pub attempt: u32,
    /// The run's page.
    pub page: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    pub number: u64,
    /// 40 hex digits.
    pub head: String,
}

/// What to use besides the log, the summary and the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    pub check_run: bool,
    pub code_scanning: bool,
    pub comment: bool,
}

/// One thing that could not be told, and what it would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Tells GitHub about the run, by every channel that is wanted. What does not work is a notice.
pub fn publish(report: &Report, place: &Place, channels: Channels, client: &Client) -> Vec<Notice> {
    if !(channels.check_run || channels.code_scanning || channels.comment) {
        return Vec::new();
    }
    if !client.has_token() {
        return vec![Notice("nothing was sent to GitHub: there is no token".to_owned())];
    }
    let outcome = client.spend(async |connection| {
        let mut notices = Vec::new();
        let mut say = |channel: &str, permission: &str, result: Result<(), Error>| {
            if let Err(error) = result {
                notices.push(notice(channel, permission, &error));
            }
        };
        // The slowest comes last: it waits until GitHub has read the file.
        if channels.check_run && check_run::is_wanted(report, place) {
            say("no check run", "checks: write", check_run::publish(connection, report, place).await);
        }
        if channels.comment
            && let Some(pull_request) = &place.pull_request
        {
            let result = comment::publish(connection, report, place, pull_request.number).await;
            say("no comment", "pull-requests: write", result);
        }
        if channels.code_scanning {
            let result = code_scanning::publish(connection, report, place).await;
            say("nothing for code scanning", "security-events: write", result);
        }
        notices
    });
    outcome.unwrap_or_else(|error| vec![Notice(format!("nothing was sent to GitHub: {error}"))])
}

/// The proxy that the runner is told to use. We don't: what a step sets must not choose whom we talk to.
fn proxy() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    ["HTTPS_PROXY", "https_proxy"].into_iter().find_map(set)
}

fn notice(channel: &str, permission: &str, error: &Error) -> Notice {
    let hint = match error.status() {
        Some(401) => "; the token is not valid".to_owned(),
        Some(403) if error.is_limit() => String::new(),
        None if matches!(error, Error::Transport(_)) && proxy().is_some() => {
            "; HTTPS_PROXY is set, and GitHub is asked without it".to_owned()
        }
        Some(403 | 404) => {
            format!("; the job needs `permissions: {permission}`, which a pull request from a fork never has")
        }
        _ => String::new(),
    };
    Notice(format!("{channel}: {}{hint}", text::short(&error.to_string(), 400)))
}

/// The runner obeys nothing until it meets this word again, so it must be one that nobody can guess.
pub fn random_token() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold("edamame-guard-".to_owned(), |token, byte| format!("{token}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_the_permission_that_is_missing() {
        let refused = |status, message: &str| Error::Answered { status, message: message.to_owned() };
        let said = notice("no check run", "checks: write", &refused(403, "Resource not accessible")).0;
        assert_eq!(
            said,
            "no check run: GitHub answered 403: Resource not accessible; the job needs `permissions: checks: write`, which a pull request from a fork never has"
        );
        let limit = refused(403, "You have exceeded a secondary rate limit");
        assert!(!notice("no check run", "checks: write", &limit).0.contains("permissions"));
        assert!(!notice("x", "y", &refused(503, "a\n::error::b")).0.contains('\n'));
    }

    #[test]
    fn tokens_differ() {
        let token = random_token().unwrap();
        assert_ne!(token, random_token().unwrap());
        assert_eq!(token.len(), "edamame-guard-".len() + 32);
    }
}
