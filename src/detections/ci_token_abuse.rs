//! The job's own token is read by something that should not hold it.
//!
//! ## What it sees
//! The file in which the checkout leaves the job's git credential, the runner's and GitLab runner's own credentials; by other people's code at
//! once, by the project's own code as part of a theft. A repository's `.git/config`, which may hold that credential, read by other
//! people's code that then connects to something nothing explains. On GitHub: git, gh and the clients of its registries that
//! change something on the server, with a connection to it, though the job's `permissions:` give the token no right to.
//!
//! ## Why it matters
//! With that token code is pushed, releases are changed and caches are poisoned in the name of the repository.
//!
//! ## What to do
//! End the run: the token dies with it. Set `persist-credentials: false`, and give the job the least permissions.
//!
//! ## Known limits
//! What contradicts `permissions:` may be done with a credential of the user's own: it is a note, and more only where other
//! people's code does it. Without `permissions:` in the workflow's file nothing is compared. Tokens in a step's environment (`GITHUB_TOKEN`, `ACTIONS_RUNTIME_TOKEN`, `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, `CI_JOB_TOKEN`) are no
//! file: using them is seen as a connection only.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::catalogue::permissions::{self, Change};
use crate::divergence::{self, Effect};
use crate::event::Activity;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::workflow::Access;
use crate::lineage::Process;

pub const DETECTION: Detection = Detection {
    id: RuleId("ci-token-abuse"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1528"), Technique("T1550.001")],
    references: &["CVE-2026-45321", "GHSA-wpqr-6v78-jr5g"],
    frameworks: &["CICD-SEC-2", "CICD-SEC-6", "ASI03"],
    remedy: "End the run so that the token dies, set `persist-credentials: false`, and remove what read it.",
    source: include_str!("ci_token_abuse.rs"),
    check,
};

/// The store of `catalogue/credentials.yml` that this rule is about.
const STORE: &str = "ci-tokens";

/// What a strand remembers: a repository's configuration was read by other people's code.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    let (Effect::Other, Activity::Open { file, .. }) = (act.effect, act.activity) else { return None };
    let is_foreign = ground(act) == Ground::Foreign && act.process.tool != Some("git");
    (is_foreign && super::is_repository_settings(&file.path)).then(|| ("git-settings", file.path.clone()))
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let mut hits = taken(act);
    hits.extend(not_permitted(act));
    hits
}

/// A change on the server that the job's `permissions:` leave out.
fn not_permitted(act: &Act<'_>) -> Option<Hit> {
    let Effect::Connect { object, address, .. } = act.effect else { return None };
    let (path, permissions) = act.context.permissions?;
    let server = act.context.job.pipeline.as_ref()?.server.as_deref()?;
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    let server = server.split(['/', ':']).next().unwrap_or_default();
    let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
    let is_at = |name: &str| {
        host == name
            || address.ip().to_string() == name
            || host.strip_suffix(name).is_some_and(|below| below.ends_with('.'))
    };
    // The program itself, or one that it started for this: git's transport, ssh.
    let above = act.lineage.ancestors(act.process.key);
    let mut doers = std::iter::once(act.process).chain(above).take_while(|process| process.step.is_real());
    let (doer, change) = doers.find_map(|process| Some((process, changes(act, process)?)))?;
    // What a hook of git's downloads is not what git pushes.
    let is_its_transport = doer.key == act.process.key
        || ["git", "ssh"].iter().any(|name| act.process.tool.is_some_and(|tool| tool == *name))
        || act.process.name.starts_with("git-");
    if !is_its_transport || !is_at(change.only.as_deref().unwrap_or(server)) {
        return None;
    }
    let access = permissions.of(&change.scope).filter(|access| *access < Access::Write)?;
    let is_foreign = ground(act) == Ground::Foreign;
    // Whoever wrote the text has a credential of their own, or will see it fail.
    let is_said = act.explanation.reason().is_some() && doer.command.is_some() && !is_foreign;
    let title = format!(
        "{} {} at {host}, though `permissions:` ({path}:{}) leave the job's token `{}: {}`",
        named(act.lineage, doer.key),
        change.verb,
        permissions.line,
        change.scope,
        access.as_str()
    );
    Some(Hit {
        rule: &DETECTION,
        kind: Kind::Divergence,
        severity: if is_foreign { Severity::High } else { Severity::Low },
        confidence: if is_said { Confidence::Low } else { Confidence::Medium },
        title,
        process: doer.key,
        object: object.clone(),
        evidence: vec![doer.evidence],
        replaces: None,
        remedy: Some(
            "If it is meant, say so in `permissions:` and use the job's token; else find out with whose credential it was done.",
        ),
    })
}

/// What this process changes on a server, by who it is and what it was told.
fn changes(act: &Act<'_>, process: &Process) -> Option<&'static Change> {
    let launch = process.launch.as_deref()?;
    let identity = divergence::identify(launch, act.context, act.lineage);
    let words: Vec<&str> = match identity.tool.map(|tool| tool.verb(identity.arguments)) {
        Some(Some(verb)) => {
            identity.arguments.iter().map(String::as_str).skip_while(|word| *word != verb).collect()
        }
        _ => identity.arguments.iter().map(String::as_str).collect(),
    };
    let words: Vec<&str> = words.into_iter().filter(|word| !word.starts_with('-')).collect();
    permissions::change(&identity.trusted_names, &words)
}

/// The token itself, read by something that should not hold it.
fn taken(act: &Act<'_>) -> Vec<Hit> {
    let who = || named(act.lineage, act.process.key);
    match act.effect {
        Effect::Read { path, store, by_owner: false }
            if store.id == STORE && act.explanation.reason().is_none() && ground(act) == Ground::Foreign =>
        {
            let title = format!("{} read the job's own token", who());
            attack(act, &DETECTION, (Severity::High, Confidence::High), title, path)
        }
        Effect::Connect { object, .. }
            if act.explanation.reason().is_none() && ground(act) == Ground::Foreign =>
        {
            let strand = act.lineage.strand(act.process.key);
            // A neighbour may have read it: what one install script reads is not yet another one's.
            let is_near = |reader| {
                act.lineage.is_at_or_below(reader, act.process.key)
                    || act.lineage.is_at_or_below(act.process.key, reader)
                    || act.lineage.get(reader).is_some_and(|reader| reader.parent == act.process.parent)
            };
            let Some(read) = strand.noted("git-settings").find(|note| is_near(note.process)) else {
                return Vec::new();
            };
            let title = format!(
                "{} connected to {object} after {} read the repository's settings, which may hold the job's token",
                who(),
                named(act.lineage, read.process)
            );
            let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, &read.object);
            hits[0].evidence.push(read.sequence);
            hits
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    #[test]
    fn the_checkouts_credential_in_both_places() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read /srv/a/_temp/git-credentials-1f.config
             2 > 4 launch /usr/bin/node node y.js
             4 read /w/.git/config
             4 connect 203.0.113.7:443",
            &[
                "!ci-token-abuse attack high /srv/a/_temp/git-credentials-1f.config",
                "!ci-token-abuse attack high /w/.git/config",
                "!cred-file-access attack high /srv/a/_temp/git-credentials-1f.config",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
    }

    #[test]
    fn git_itself_and_tools_that_ask_what_repository_this_is_stay_quiet() {
        expect(
            "git fetch\nnpm ci\nmake test\n",
            "1 > 2 launch /usr/bin/git git fetch
             2 read /srv/a/_temp/git-credentials-1f.config
             2 read /w/.git/config
             1 > 3 launch /usr/bin/node node /usr/bin/npm ci
             3 > 4 launch /usr/bin/node node husky.js
             4 read /w/.git/config
             1 > 5 launch /usr/bin/make make test
             5 > 6 launch /usr/bin/python3.11 python3 version.py
             6 read /w/.git/config",
            &[],
        );
    }
}
