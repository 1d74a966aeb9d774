//! A program starts that nothing in its step explains.
//!
//! ## What it sees
//! The step's shell launches a program its text does not name, or a tool that only ever starts its
//! own helpers starts something else. With a policy: a program outside its `run` list, or one that
//! the list denies anywhere below the step.
//!
//! ## Why it matters
//! A declared command that starts something foreign has been told to by somebody else.
//!
//! ## What to do
//! Name the program in the step, or allow it in `.github/guard.yml`.
//!
//! ## Known limits
//! A text with `eval`, `source` or a command in a variable is open: what its shell starts is then
//! taken for the project's own.

use super::{Act, Detection, Hit, named};
use crate::divergence::Effect;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("run-undeclared"),
    severity: Severity::Low,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1059")],
    references: &[],
    frameworks: &["CICD-SEC-4", "ASI02"],
    remedy: "Name the program in the step or allow it in the policy; else find who started it.",
    source: include_str!("run_undeclared.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Launch { program } = act.effect else { return Vec::new() };
    if !act.explanation.is_undeclared() {
        return Vec::new();
    }
    let parent =
        act.process.parent.map_or_else(|| "the step".to_owned(), |parent| named(act.lineage, parent));
    vec![Hit {
        rule: &DETECTION,
        kind: Kind::Divergence,
        severity: DETECTION.severity,
        confidence: DETECTION.confidence,
        title: format!(
            "{parent} started {}, which nothing in this step explains",
            crate::intent::basename(program)
        ),
        process: act.process.key,
        object: program.clone(),
        evidence: Vec::new(),
        replaces: None,
        remedy: None,
    }]
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn what_the_text_names_and_what_follows_from_it_stays_quiet() {
        expect(
            "set -e\nmake all | tee log\nfind . -name '*.c' -exec cc -c {} +\nsudo -n true\n./configure\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/gcc gcc x.c
             4 > 5 launch /usr/lib/gcc/x86_64-linux-gnu/12/cc1 cc1 x.c
             4 > 6 launch /usr/bin/as as x.s
             1 > 7 launch /usr/bin/tee tee log
             1 > 8 launch /usr/bin/find find .
             8 > 9 launch /usr/bin/cc cc -c a.c
             1 > 10 launch /usr/bin/sudo sudo -n true
             10 launch /usr/bin/true true
             1 > 11 launch /w/configure ./configure
             11 > 12 launch /usr/bin/sed sed x",
            &[],
        );
    }

    #[test]
    fn an_extension_of_a_forges_client_is_its_own_and_other_programs_are_not() {
        let trace = |path: &str| format!("1 > 2 launch /usr/bin/gh gh notes\n2 > 3 launch {path} {path}");
        let extension = trace("/home/u/.local/share/gh/extensions/gh-notes/gh-notes");
        expect("gh notes\n", &extension, &[]);
        let stranger = trace("/home/u/.local/share/gh/gh-notes");
        expect("gh notes\n", &stranger, &["run-undeclared divergence low /home/u/.local/share/gh/gh-notes"]);
        // It is somebody else's code all the same.
        let theft = format!("{extension}\n3 read ~/.config/gh/hosts.yml\n3 connect 203.0.113.7:443");
        expect(
            "gh notes\n",
            &theft,
            &[
                "!cred-file-access attack high /home/u/.config/gh/hosts.yml",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
    }

    #[test]
    fn a_program_nobody_named_is_a_note() {
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/nmap nmap 203.0.113.0/24",
            &["run-undeclared divergence low /usr/bin/nmap"],
        );
        expect(
            "gcc x.c\n",
            "1 > 2 launch /usr/bin/gcc gcc x.c
             2 > 3 launch /usr/bin/wget wget x",
            &["run-undeclared divergence low /usr/bin/wget"],
        );
    }

    #[test]
    fn a_launcher_that_is_listed_excuses_nothing_below_it() {
        let text = "sh -c 'nmap x'\nmake all\nnpm run scan\nenv nmap x\n./tools/deploy\n";
        let trace = "1 > 2 launch /usr/bin/dash sh -c x
             2 > 3 launch /usr/bin/nmap nmap x
             1 > 4 launch /usr/bin/make make all
             4 > 5 launch /usr/bin/ncat ncat x
             1 > 6 launch /usr/bin/node node /usr/bin/npm run scan
             6 > 7 launch /usr/bin/dash sh -c x
             7 > 8 launch /usr/bin/socat socat x
             1 > 9 launch /usr/bin/env env telnet x
             9 launch /usr/bin/telnet telnet x
             1 > 10 launch /usr/bin/git git fetch
             10 > 11 launch /usr/bin/ssh ssh x";
        let unlisted = ["ncat", "nmap", "socat", "telnet"]
            .map(|name| format!("!run-undeclared policy medium /usr/bin/{name}"));
        let policy = "version: 1\ndefaults: {run: {allow: [sh, bash, make, npm, node, env, git]}}\n";
        assert_eq!(findings(text, policy, trace), unlisted);
        // The same when nothing but git is listed, and nothing when what they start is.
        let policy = "version: 1\ndefaults: {run: {allow: [git]}}\n";
        assert_eq!(findings(text, policy, trace), unlisted);
        let policy = "version: 1\ndefaults: {run: {allow: [git, ncat, nmap, socat, telnet]}}\n";
        assert_eq!(findings(text, policy, trace), [""; 0]);
    }

    #[test]
    fn the_policy_sees_through_launchers_and_denies_everywhere() {
        let policy = "version: 1\ndefaults:\n  run: {allow: [npm, node, make], deny: [docker]}\n";
        let trace = "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/docker docker ps
             1 > 5 launch /usr/bin/env env A=1 gcc x.c
             5 launch /usr/bin/gcc gcc x.c";
        assert_eq!(
            findings("npm ci\nenv A=1 gcc x.c\n", policy, trace),
            ["!run-undeclared policy high /usr/bin/docker", "!run-undeclared policy medium /usr/bin/gcc"]
        );
    }

    #[test]
    fn a_digest_in_the_policy_names_the_very_program() {
        let digest = "ab".repeat(32);
        let policy = format!(
            "version: 1\ndefaults: {{run: {{allow: [\"sha256:{digest}\"], deny: [\"sha256:{}\"]}}}}",
            "cd".repeat(32)
        );
        let with = |content: &str| {
            let trace = format!("digest /opt/tool {}\n1 > 2 launch /opt/tool tool", content.repeat(32));
            findings("/opt/tool\n", &policy, &trace)
        };
        assert_eq!(with("ab"), [""; 0]);
        assert_eq!(with("ef"), ["!run-undeclared policy medium /opt/tool"]);
        assert_eq!(with("cd"), ["!run-undeclared policy high /opt/tool"]);
        // Nobody could read it: a digest can't speak for it.
        assert_eq!(
            findings("/opt/tool\n", &policy, "1 > 2 launch /opt/tool tool"),
            ["!run-undeclared policy medium /opt/tool"]
        );
    }

    #[test]
    fn an_agents_block_holds_for_everything_below_the_agent() {
        let policy = "version: 1\nagents: {codex: {run: {deny: [\"npm publish *\"]}}}";
        let below = "1 > 2 agent codex
             2 launch /opt/codex codex exec
             2 > 3 launch /usr/bin/bash bash -c x
             3 > 4 launch /usr/bin/npm npm publish --tag x";
        let report = crate::trace::report("/opt/codex exec\n", policy, below);
        let [finding] = &report.findings[..] else { panic!("{:#?}", report.findings) };
        assert_eq!((finding.rule.0, finding.agent.as_deref()), ("run-undeclared", Some("codex")));
        assert_eq!(report.coverage.agents, ["codex"]);
        // The step itself may.
        let beside = "1 > 2 agent codex
             2 launch /opt/codex codex exec
             1 > 4 launch /usr/bin/npm npm publish --tag x";
        assert_eq!(findings("/opt/codex exec\nnpm publish\n", policy, beside), [""; 0]);
    }
}
