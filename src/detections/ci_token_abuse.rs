//! The job's own token is read by something that should not hold it.
//!
//! ## What it sees
//! The file in which the checkout leaves the job's git credential, the runner's and GitLab runner's own credentials; by other people's code at
//! once, by the project's own code as part of a theft. A repository's `.git/config`, which may hold that credential, read by other
//! people's code that then connects to something nothing explains.
//!
//! ## Why it matters
//! With that token code is pushed, releases are changed and caches are poisoned in the name of the repository.
//!
//! ## What to do
//! End the run: the token dies with it. Set `persist-credentials: false`, and give the job the least permissions.
//!
//! ## Known limits
//! Tokens in a step's environment (`GITHUB_TOKEN`, `ACTIONS_RUNTIME_TOKEN`, `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, `CI_JOB_TOKEN`) are no
//! file: using them is seen as a connection only.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

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
