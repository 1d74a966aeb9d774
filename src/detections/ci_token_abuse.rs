//! The job's own token is read by something that should not hold it.
//!
//! ## What it sees
//! The file in which the checkout leaves the job's git credential, the runner's and GitLab runner's own credentials; by other people's code at
//! once, by anybody else as part of a theft. A repository's `.git/config`, which may hold that credential, read by other people's code, by a
//! command below an agent or by a plain reader of the project's, that then connects to something nothing explains; git asked for that
//! credential likewise, and the files that GitLab makes of variables. The service that gives out the job's identity, asked by code that
//! then connects elsewhere; the service for caches and artifacts, asked by code that is no action. On GitHub: git, gh and the clients of
//! its registries that change something on the server, with a connection to it, though the job's `permissions:` give the token no right to.
//!
//! ## Why it matters
//! With that token code is pushed, releases are changed and caches are poisoned in the name of the repository.
//!
//! ## What to do
//! End the run: the token dies with it. Set `persist-credentials: false`, and give the job the least permissions.
//!
//! ## Known limits
//! What contradicts `permissions:` may be done with a credential of the user's own: it is a note, and more only where other
//! people's code does it. Without `permissions:` in the workflow's file nothing is compared. Tokens in a step's environment (`GITHUB_TOKEN`, `CI_JOB_TOKEN`) are no file: using them is seen as a connection only. Which
//! services are the runner's is known from its variables, and by GitHub's names.

use super::{
    Act, Detection, Ground, Hit, attack, carried, could_carry, follows_arguments, ground, is_nameless,
    is_near, is_work, named, runs_code, sends,
};
use crate::catalogue::permissions::{self, Change};
use crate::divergence::{self, Effect};
use crate::event::Activity;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::workflow::Access;
use crate::lineage::{Process, Touch};

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

/// The runner's services by the variables that say where they are, and what is asked for there.
const SERVICES: &[(&str, &str)] = &[
    ("ACTIONS_ID_TOKEN_REQUEST_URL", IDENTITY),
    ("ACTIONS_RESULTS_URL", RUNTIME),
    ("ACTIONS_CACHE_URL", RUNTIME),
    ("ACTIONS_RUNTIME_URL", RUNTIME),
];
const IDENTITY: &str = "identity";
const RUNTIME: &str = "runtime";

/// Whether a read of this file is put before the rules: one that GitLab makes of a variable.
pub(super) fn is_variable_file(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let is_name = |name: &str| {
        name.len() > 2
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    parts.next().is_some_and(is_name)
        && parts.next().is_some_and(|folder| {
            folder.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && end == "tmp")
        })
}

/// What a strand remembers: who may hold the job's token now.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    match (act.effect, act.activity) {
        (Effect::Other, Activity::Open { file, .. }) if super::is_repository_settings(&file.path) => {
            if act.process.tool == Some("git") || act.process.is_agent {
                return None;
            }
            let kind = match ground(act) {
                Ground::Foreign => "git-settings",
                _ if act.process.agent.is_some() => "git-settings",
                Ground::Project if is_plain_reader(act.process) => "git-settings",
                Ground::Project => "git-settings-read",
                Ground::Named => return None,
            };
            Some((kind, file.path.clone()))
        }
        (Effect::Other, Activity::Open { file, .. }) => {
            let is_gitlabs = is_variable_file(&file.path)
                && ground(act) != Ground::Named
                && (variable(act, "GITLAB_CI").is_some() || variable(act, "CI_PROJECT_DIR").is_some());
            is_gitlabs.then(|| ("ci-variable", file.path.clone()))
        }
        // git prints the credential that it was told to use.
        (Effect::Launch { .. }, Activity::Launch(launch)) => {
            let is_asked = act.process.tool == Some("git")
                && (ground(act) != Ground::Named || act.process.agent.is_some())
                && launch.arguments.iter().any(|word| word == "config");
            let has = |is: fn(&str) -> bool| launch.arguments.iter().any(|word| is(word));
            let object = if has(|word| word.to_ascii_lowercase().ends_with("extraheader")) {
                ASKED
            } else if has(|word| matches!(word, "-l" | "--list" | "list" | "--get-regexp")) {
                LISTED
            } else {
                return None;
            };
            is_asked.then(|| ("git-settings", object.to_owned()))
        }
        (Effect::Connect { .. }, _) => {
            let is_asked = service(act) == Some(IDENTITY) && is_unexplained(act);
            is_asked.then(|| ("token-asked", String::new()))
        }
        _ => None,
    }
}

/// A program that only prints what is in a file, or a shell: no library of a build tool that asks which repository this is.
fn is_plain_reader(process: &Process) -> bool {
    let launch = process.launch.as_deref();
    let is_interpreted =
        process.tool == Some("interpreters") || launch.is_some_and(|launch| launch.script.is_some());
    let is_of_the_system = launch.is_some_and(|launch| {
        ["/usr/bin/", "/bin/"].iter().any(|folder| launch.executable.path.starts_with(folder))
    });
    !is_interpreted && is_of_the_system && matches!(process.tool, None | Some("shells"))
}

/// The value of a variable that this process, or the nearest above it that launched something, was started with.
fn variable<'a>(act: &'a Act<'_>, name: &str) -> Option<&'a str> {
    std::iter::once(act.process)
        .chain(act.lineage.ancestors(act.process.key))
        .filter_map(|process| process.launch.as_deref())
        .find_map(|launch| launch.environment.get(name))
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

/// The host and the port, if there is one, of an address with a scheme.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// Which of the runner's own services a connection goes to.
fn service(act: &Act<'_>) -> Option<&'static str> {
    let Effect::Connect { object, address, .. } = act.effect else { return None };
    let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
    let is_at = |url: &str| {
        let authority = authority(url);
        let (name, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        (name == host || name == address.ip().to_string())
            && (port.is_empty() || port == address.port().to_string())
    };
    let told = SERVICES.iter().find(|(name, _)| variable(act, name).is_some_and(is_at));
    told.map(|(_, what)| *what).or_else(|| {
        let name = host.strip_suffix(".actions.githubusercontent.com")?;
        (name != "token").then_some(if name.starts_with("run-actions") { IDENTITY } else { RUNTIME })
    })
}

/// Nothing explains the connection, and it is no client whose work it is, nor an action.
fn is_unexplained(act: &Act<'_>) -> bool {
    let program = act.process.launch.as_deref();
    let is_action = program.is_some_and(|launch| {
        let mut names = launch.arguments.iter().map(String::as_str).chain([launch.program().path.as_str()]);
        ground(act) != Ground::Foreign
            && names.any(|name| name.starts_with('/') && name.contains("/_actions/"))
    });
    act.explanation.reason().is_none()
        && !is_action
        && !is_work(act, "token-clients")
        && !act.process.is_agent
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let mut hits = taken(act);
    hits.extend(not_permitted(act));
    hits.extend(asked_service(act));
    hits
}

/// The runner's services, asked by code that is no action.
fn asked_service(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Connect { object, .. } = act.effect else { return Vec::new() };
    if !is_unexplained(act) || ground(act) == Ground::Named {
        return Vec::new();
    }
    let who = || named(act.lineage, act.process.key);
    let confidence = if ground(act) == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    match service(act) {
        Some(RUNTIME) => {
            let title = format!("{} talked to the runner's own service for caches and artifacts", who());
            attack(act, &DETECTION, (Severity::High, confidence), title, object)
        }
        Some(_) => {
            let severity = if ground(act) == Ground::Foreign { Severity::High } else { Severity::Low };
            let title = format!("{} asked for a token in the job's name", who());
            attack(act, &DETECTION, (severity, Confidence::Medium), title, object)
        }
        None => {
            let strand = act.lineage.strand(act.process.key);
            let asked =
                strand.noted("token-asked").find(|note| is_near(act.lineage, note.process, act.process.key));
            let Some(asked) = asked else { return Vec::new() };
            let title = format!(
                "{} connected to {object} after {} asked for a token in the job's name",
                who(),
                named(act.lineage, asked.process)
            );
            let mut hits = attack(act, &DETECTION, (Severity::High, confidence), title, object);
            hits[0].evidence.push(asked.sequence);
            hits
        }
    }
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
    if act.explanation.reason().is_some() {
        return Vec::new();
    }
    match act.effect {
        Effect::Read { path, store, by_owner: false } if store.id == STORE => {
            if ground(act) == Ground::Foreign {
                let title = format!("{} read the job's own token", who());
                return attack(act, &DETECTION, (Severity::High, Confidence::High), title, path);
            }
            // A connection that was open before the read can carry it just as well.
            let strand = act.lineage.strand(act.process.key);
            let Some(contact) = strand.contacts.iter().find(|contact| could_carry(act, contact.process))
            else {
                return Vec::new();
            };
            let title =
                format!("{} read the job's own token, beside a connection to {}", who(), contact.object);
            let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::High), title, path);
            hits[0].evidence.push(contact.sequence);
            hits
        }
        Effect::Connect { object, .. } if !act.process.is_agent => {
            let strand = act.lineage.strand(act.process.key);
            let token = carried(strand, act).into_iter().find(|read| read.store == STORE);
            // A neighbour may have read it: what one install script reads is not yet another one's.
            let near =
                |kind| strand.noted(kind).find(|note| is_near(act.lineage, note.process, act.process.key));
            let read = settings(act, near("git-settings")).or(token).or_else(|| near("ci-variable"));
            // A library that asks which repository this is has its service by name.
            let read = read.or_else(|| near("git-settings-read").filter(|_| is_nameless(act)));
            let Some(read) = read else { return Vec::new() };
            let what = match read.store {
                STORE => "the job's own token",
                "ci-variable" => "a file that holds a variable of the job",
                _ => "the repository's settings, which may hold the job's token",
            };
            let title = format!(
                "{} connected to {object} after {} read {what}",
                who(),
                named(act.lineage, read.process)
            );
            let confidence = if read.store == STORE { Confidence::High } else { Confidence::Medium };
            let mut hits = attack(act, &DETECTION, (Severity::High, confidence), title, &read.object);
            hits[0].evidence.push(read.sequence);
            hits
        }
        _ => Vec::new(),
    }
}

/// What a strand remembers when git itself was asked for the credential.
const ASKED: &str = "the repository's settings";

/// And when it was asked for all of them.
const LISTED: &str = "all of the repository's settings";

/// The settings that were read, if this connection can be about them: not every tool that runs beside a `grep` of them.
fn settings<'a>(act: &Act<'_>, read: Option<&'a Touch>) -> Option<&'a Touch> {
    let read = read?;
    if ground(act) == Ground::Foreign || is_nameless(act) {
        return Some(read);
    }
    let is_sent = if read.object == ASKED {
        // It fits into a header as well; with the server itself it is at home.
        follows_arguments(act.process) && !is_at_server(act)
    } else {
        sends(act.process) || act.process.agent.is_some()
    };
    (is_sent && (act.process.agent.is_some() || !runs_code(act.process))).then_some(read)
}

/// Whether the connection goes to the server that the job's repository is on.
fn is_at_server(act: &Act<'_>) -> bool {
    let Effect::Connect { object, .. } = act.effect else { return false };
    let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
    let server = act.context.job.pipeline.as_ref().and_then(|pipeline| pipeline.server.as_deref());
    server.map(authority).is_some_and(|server| {
        host == server || host.strip_suffix(server).is_some_and(|below| below.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

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

    #[test]
    fn the_projects_own_code_hands_the_credential_on() {
        let build = "1 > 2 launch /usr/bin/make make build\n";
        for reader in [
            "2 > 3 launch /usr/bin/git git config --get-all http.https://forge.example/.extraheader\n3 read /w/.git/config",
            "2 > 3 launch /usr/bin/cat cat .git/config\n3 read /w/.git/config",
            "2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 read /w/.git/config",
            "2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 read /srv/temp/git-credentials-1f.config",
        ] {
            let sent =
                format!("{build}{reader}\n2 > 4 launch /usr/bin/curl curl x\n4 connect 203.0.113.7:443");
            let lines = findings("make build\n", "", &sent);
            assert!(
                lines.iter().any(|line| line.starts_with("!ci-token-abuse attack high")),
                "{reader}: {lines:?}"
            );
            // The twin: nobody is talked to.
            let lines = findings("make build\n", "", &format!("{build}{reader}"));
            assert!(lines.iter().all(|line| line.contains(" low ")), "{reader}: {lines:?}");
        }
    }

    #[test]
    fn a_tool_that_asks_which_repository_this_is_and_talks_to_its_service_by_name_stays_quiet() {
        expect(
            "make build\n",
            "answer scans.example 203.0.113.20
             1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/git git describe
             3 read /w/.git/config
             2 > 4 launch /usr/bin/node node scanner.js
             4 read /w/.git/config
             4 connect 203.0.113.20:443
             2 > 5 launch /usr/bin/grep grep url .git/config
             5 read /w/.git/config
             2 > 6 launch /usr/bin/curl curl -o x https://scans.example/x
             6 connect 203.0.113.20:443",
            &[
                "egress-undeclared divergence low scans.example:443",
                "egress-undeclared divergence low scans.example:443",
            ],
        );
    }

    #[test]
    fn below_an_agent_any_reader_counts() {
        let lines = findings(
            "codex exec x\n",
            "",
            "1 > 2 agent codex
             2 launch /usr/local/bin/codex codex exec x
             2 > 3 launch /usr/bin/bash bash -c x
             3 > 4 launch /usr/bin/cat cat .git/config
             4 read /w/.git/config
             3 > 5 launch /usr/bin/curl curl x
             5 connect 203.0.113.7:443",
        );
        assert!(lines.contains(&"!ci-token-abuse attack high /w/.git/config".to_owned()), "{lines:?}");
    }

    const SERVICES: &str = "answer tokens.example 203.0.113.8
         answer results.example 203.0.113.9
         1 > 2 launch /usr/bin/make make test ^ACTIONS_ID_TOKEN_REQUEST_URL=https://tokens.example/x?v=2 ^ACTIONS_RESULTS_URL=https://results.example:8080/
         2 > 3 launch /usr/bin/node node t.js\n";

    #[test]
    fn the_runners_services_are_asked_by_code_that_is_no_action() {
        let lines = findings(
            "make test\n",
            "",
            &format!(
                "{SERVICES}3 connect 203.0.113.8:443\n3 connect 203.0.113.7:443\n3 connect 203.0.113.9:8080"
            ),
        );
        for wanted in [
            "ci-token-abuse attack low tokens.example:443",
            "!ci-token-abuse attack high 203.0.113.7:443",
            "!ci-token-abuse attack high results.example:8080",
        ] {
            assert!(lines.contains(&wanted.to_owned()), "{wanted}: {lines:?}");
        }
    }

    #[test]
    fn an_action_and_a_text_that_names_the_service_stay_quiet() {
        let lines = findings(
            "curl https://tokens.example/x\nnode /srv/_actions/a/cache/v4/index.js\n",
            "",
            "answer tokens.example 203.0.113.8
             answer results.example 203.0.113.9
             1 > 2 launch /usr/bin/curl curl https://tokens.example/x ^ACTIONS_ID_TOKEN_REQUEST_URL=https://tokens.example/x
             2 connect 203.0.113.8:443
             1 > 3 launch /usr/bin/node node /srv/_actions/a/cache/v4/index.js ^ACTIONS_RESULTS_URL=https://results.example/
             3 connect 203.0.113.9:443
             3 connect 203.0.113.7:443",
        );
        assert!(lines.iter().all(|line| !line.contains("ci-token-abuse")), "{lines:?}");
    }

    #[test]
    fn a_variable_that_gitlab_made_a_file_of_is_sent() {
        let trace = |file: &str, variable: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make build {variable}
                 2 > 3 launch /usr/bin/python3.11 python3 x.py
                 3 read {file}
                 3 connect 203.0.113.7:443"
            )
        };
        let lines = findings("make build\n", "", &trace("/builds/g/app.tmp/DEPLOY_KEY", "^GITLAB_CI=true"));
        assert!(
            lines.contains(&"!ci-token-abuse attack high /builds/g/app.tmp/DEPLOY_KEY".to_owned()),
            "{lines:?}"
        );
        for (file, variable) in [("/w/a.tmp/Makefile", "^GITLAB_CI=true"), ("/w/a.tmp/NOTES", "^CI=true")] {
            let lines = findings("make build\n", "", &trace(file, variable));
            assert!(lines.iter().all(|line| !line.contains("ci-token-abuse")), "{lines:?}");
        }
    }
}
