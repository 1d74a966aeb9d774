//! The policy as a whole: one table for each thing the design promises.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// The page that the design shows, whole.
const FULL: &str = r#"version: 1
mode: audit
fail-on: medium
intent: [workflow, claude-code]
defaults:
  network: {allow: [github, node, "api.example.com:443", "*.internal.example", "10.0.0.0/8:5432", "udp://ntp.example:123"], deny: []}
  files:
    allow: ["write ./**", "write /tmp/**", node]
    deny: [{match: "read ~/.ssh/**", except: ["~/.ssh/known_hosts", "~/.ssh/config"]}, "write /etc/**"]
  run:     {allow: [npm, node, git, sh, "git push origin *"], deny: [docker, sudo]}
  posture: {allow: [sudoers, "services:/etc/systemd/system/*.timer"], require: [docker-socket]}
steps:
  "review/claude":
    inherit: false
    task: "Review the change; write one comment"
    network: {allow: [claude, github]}
    files: {allow: ["write ./review.md"]}
    run: {allow: any}
agents:
  claude-code: {run: {deny: ["npm publish *"]}}
secrets: ["~/.vault/**"]
except:
  - {rule: egress-undeclared, step: "build/test", object: "telemetry.example.com:443", reason: "vendor ticket 12", until: 2027-01-31}
"#;

fn places() -> Places {
    Places {
        home: "/home/runner".to_owned(),
        workspace: "/work".to_owned(),
        hosts: BTreeMap::from([("node".to_owned(), vec!["mirror.example:4873".to_owned()])]),
        resolvers: vec!["192.0.2.53".parse().expect("an address")],
    }
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, "guard.yml").unwrap_or_else(|error| panic!("{error}"))
}

fn rules(text: &str, step: &str, agent: Option<&str>) -> Rules {
    policy(text).rules(&StepKey(step.to_owned()), agent, &places())
}

/// `Unrestricted`, `Allowed`, `Denied`, `Unlisted`.
fn word(ruling: &Ruling) -> &'static str {
    match ruling {
        Ruling::Unrestricted => "unrestricted",
        Ruling::Allowed(_) => "allowed",
        Ruling::Denied(_) => "denied",
        Ruling::Unlisted(_) => "unlisted",
    }
}

/// `name=address:port`, `address:port`, and `udp ` before either.
fn connect(rules: &Rules, to: &str) -> Ruling {
    let (transport, to) = match to.strip_prefix("udp ") {
        Some(to) => (Transport::Udp, to),
        None => (Transport::Tcp, to),
    };
    let (names, address) = match to.split_once('=') {
        Some((name, address)) => (vec![name.to_owned()], address),
        None => (Vec::new(), to),
    };
    rules.network(&Peer { address: address.parse().expect("a test address"), names: &names, transport })
}

fn launch(rules: &Rules, path: &str, line: &str) -> Ruling {
    let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    rules.run(&Program { path, aliases: &[], arguments: &arguments, placed_by_job: false, sha256: None })
}

/// One act in a line: `connect TO`, `read PATH`, `write PATH`, `run PATH WORDS…`.
fn judge(rules: &Rules, act: &str) -> Ruling {
    let (verb, rest) = act.split_once(' ').expect("a verb");
    match verb {
        "connect" => connect(rules, rest),
        "read" => rules.file(Verb::Read, rest),
        "write" => rules.file(Verb::Write, rest),
        "run" => launch(rules, rest.split(' ').next().expect("a path"), rest),
        other => panic!("unknown verb {other}"),
    }
}

/// Each line: act `=>` what the rules say.
fn expect(text: &str, step: &str, agent: Option<&str>, table: &str) {
    let rules = rules(text, step, agent);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (act, expected) = line.split_once(" => ").expect("an expectation");
        assert_eq!(word(&judge(&rules, act.trim())), expected, "{act} in {step}\n{text}");
    }
}

/// A policy with these lines below `version: 1`.
fn with(lines: &str) -> String {
    format!("version: 1\n{lines}\n")
}

fn problems(text: &str) -> Vec<Problem> {
    Policy::parse(text, "guard.yml").expect_err("is refused").problems
}

#[test]
fn the_page_of_the_design_reads_and_judges() {
    let full = policy(FULL);
    assert_eq!(full.mode(), Some(Mode::Audit));
    assert_eq!(full.fail_on(), Some(FailOn::From(crate::finding::Severity::Medium)));
    assert_eq!(full.intent(), Some(&["workflow".to_owned(), "claude-code".to_owned()][..]));
    assert_eq!(full.groups_used(), ["claude", "github", "node"]);
    assert_eq!(full.package_groups_used(), ["node"]);
    assert_eq!(full.secrets(), ["~/.vault/**"]);
    assert_eq!(full.task(&StepKey("review/claude".to_owned())), Some("Review the change; write one comment"));
    assert_eq!(full.task(&StepKey("build/test".to_owned())), None);
    assert_eq!(full.posture_required(), ["docker-socket"]);
    assert_eq!(full.origin(), Some("guard.yml"));
    assert_eq!(full.digest().expect("a digest").len(), 64);
    expect(
        FULL,
        "build/test",
        None,
        "
        connect github.com=203.0.113.1:443          => allowed
        connect mirror.example=203.0.113.1:4873     => allowed
        connect mirror.example=203.0.113.1:443      => unlisted
        connect api.example.com=203.0.113.1:443     => allowed
        connect a.b.internal.example=203.0.113.1:80 => allowed
        connect internal.example=203.0.113.1:443    => unlisted
        connect 10.1.2.3:5432                       => allowed
        connect 10.1.2.3:5433                       => unlisted
        connect udp ntp.example=203.0.113.1:123     => allowed
        connect 203.0.113.7:443                     => unlisted
        write /work/src/a.rs                        => allowed
        write /tmp/x                                => allowed
        write /home/runner/.npm/_cacache/x          => allowed
        write /home/runner/.bashrc                  => unlisted
        write /etc/passwd                           => denied
        read /etc/passwd                            => unrestricted
        read /home/runner/.ssh/id_rsa               => denied
        read /home/runner/.ssh/known_hosts          => unrestricted
        write /home/runner/.ssh/known_hosts         => unlisted
        run /usr/bin/git push origin main           => allowed
        run /usr/bin/docker ps                      => denied
        run /usr/bin/curl x                         => unlisted
        ",
    );
    expect(
        FULL,
        "review/claude",
        None,
        "
        connect api.anthropic.com=203.0.113.1:443   => allowed
        connect api.example.com=203.0.113.1:443     => unlisted
        write /work/review.md                       => allowed
        write /work/src/a.rs                        => unlisted
        read /home/runner/.ssh/id_rsa               => denied
        run /usr/bin/curl x                         => unrestricted
        run /usr/bin/docker ps                      => denied
        run /usr/bin/npm publish                    => unrestricted
        ",
    );
    expect(FULL, "review/claude", Some("claude-code"), "run /usr/bin/npm publish --tag x => denied");
    expect(FULL, "review/claude", Some("codex"), "run /usr/bin/npm publish --tag x => unrestricted");
}

#[test]
fn without_a_policy_nothing_is_restricted() {
    let rules = Policy::absent().rules(&StepKey::local(), Some("codex"), &places());
    for act in
        ["connect 203.0.113.7:443", "connect 169.254.169.254:80", "write /etc/passwd", "run /usr/bin/sudo"]
    {
        assert_eq!(judge(&rules, act), Ruling::Unrestricted, "{act}");
    }
    assert!(Policy::absent().is_absent());
}

#[test]
fn lists_merge_in_any_order_and_deny_wins() {
    let one = with(
        "defaults: {run: {allow: [a], deny: [b]}}\nsteps: {\"j/*\": {run: {allow: [b, c]}}, \"j/s\": {run: {allow: [d], deny: [c]}}}",
    );
    let two = with(
        "steps: {\"j/s\": {run: {deny: [c], allow: [d]}}, \"j/*\": {run: {allow: [c, b]}}}\ndefaults: {run: {deny: [b], allow: [a]}}",
    );
    let table =
        "run /a => allowed\nrun /b => denied\nrun /c => denied\nrun /d => allowed\nrun /e => unlisted";
    expect(&one, "j/s", None, table);
    expect(&two, "j/s", None, table);
    expect(&one, "j/other", None, "run /c => allowed\nrun /d => unlisted\nrun /b => denied");
    expect(&one, "k/s", None, "run /a => allowed\nrun /c => unlisted");
}

#[test]
fn an_empty_list_allows_nothing_and_no_list_restricts_nothing() {
    let text = with("defaults: {network: {allow: []}, files: {allow: []}, run: {deny: [sudo]}}");
    expect(
        &text,
        "j/s",
        None,
        "connect 203.0.113.1:443 => unlisted\nread /x => unlisted\nwrite /x => unlisted\nrun /x => unrestricted\nrun /usr/bin/sudo => denied",
    );
    expect(
        &with("defaults: {}"),
        "j/s",
        None,
        "connect 203.0.113.1:443 => unrestricted\nwrite /x => unrestricted",
    );
}

#[test]
fn a_closed_step_is_empty_where_defaults_restrict() {
    let text = with(
        "defaults: {network: {allow: [\"a.example\"]}, files: {allow: [\"write ./**\"]}, run: {deny: [sudo]}}\n\
         steps:\n  j/s: {inherit: false, files: {allow: [\"read /r\"]}}\n  j/any: {inherit: false, network: {allow: any}}",
    );
    expect(
        &text,
        "j/s",
        None,
        "connect a.example=203.0.113.1:443 => unlisted\nwrite /work/x => unlisted\nread /r => allowed\nread /q => unlisted\nrun /x => unrestricted\nrun /usr/bin/sudo => denied",
    );
    expect(
        &text,
        "j/any",
        None,
        "connect 203.0.113.1:1 => unrestricted\nwrite /work/x => unlisted\nread /q => unrestricted",
    );
    let Ruling::Unlisted(Some(list)) = connect(&rules(&text, "j/s", None), "203.0.113.1:1") else { panic!() };
    assert_eq!(list.text, "steps.\"j/s\" (inherit: false) has no network.allow");
    assert_eq!(list.location.line, 4);
}

#[test]
fn one_closed_key_of_several_closes_the_step() {
    let text = with(
        "defaults: {run: {allow: [a]}}\nsteps: {\"j/*\": {run: {allow: [b]}}, \"*/s\": {inherit: false, run: {allow: [c]}}}",
    );
    expect(&text, "j/s", None, "run /a => unlisted\nrun /b => allowed\nrun /c => allowed");
    expect(&text, "j/t", None, "run /a => allowed\nrun /b => allowed\nrun /c => unlisted");
}

#[test]
fn an_agent_gets_what_both_lists_allow() {
    let text = with(
        "defaults: {run: {allow: [a, b]}}\nagents:\n  x: {run: {allow: [b, c], deny: [d]}}\n  y: {network: {allow: [\"n.example\"]}}\n  z: {run: {allow: any}}",
    );
    expect(
        &text,
        "j/s",
        Some("x"),
        "run /a => unlisted\nrun /b => allowed\nrun /c => unlisted\nrun /d => denied",
    );
    expect(
        &text,
        "j/s",
        Some("y"),
        "run /a => allowed\nconnect n.example=203.0.113.1:443 => allowed\nconnect 203.0.113.1:443 => unlisted",
    );
    expect(&text, "j/s", Some("z"), "run /a => allowed\nrun /c => unlisted");
    expect(&text, "j/s", Some("unknown"), "run /a => allowed\nrun /c => unlisted");
    let Ruling::Allowed(by) = launch(&rules(&text, "j/s", Some("x")), "/b", "b") else { panic!() };
    assert_eq!(by.owner, RuleOwner::Agent);
    let Ruling::Allowed(by) = launch(&rules(&text, "j/s", Some("y")), "/b", "b") else { panic!() };
    assert_eq!(by.owner, RuleOwner::Defaults);
}

#[test]
fn a_closed_agent_is_empty_where_defaults_restrict() {
    let text = with("defaults: {run: {allow: [a]}}\nagents: {x: {inherit: false, network: {allow: []}}}");
    expect(
        &text,
        "j/s",
        Some("x"),
        "run /a => unlisted\nconnect 203.0.113.1:443 => unlisted\nwrite /x => unrestricted",
    );
    expect(&text, "j/s", None, "run /a => allowed\nconnect 203.0.113.1:443 => unrestricted");
}

#[test]
fn a_group_in_files_widens_only_what_a_plain_entry_restricts() {
    let cache = "write /home/runner/.npm/x";
    let expects =
        |text: &str, expected: &str| expect(&with(text), "j/s", None, &format!("{cache} => {expected}"));
    expects("defaults: {files: {allow: [node]}}", "unrestricted");
    expects("defaults: {files: {allow: [node, \"read ./**\"]}}", "unrestricted");
    expects("defaults: {files: {allow: [node, \"write ./x\"]}}", "allowed");
    expects("defaults: {files: {allow: [\"write ./x\"]}}\nsteps: {j/s: {files: {allow: [node]}}}", "allowed");
    expects("defaults: {files: {allow: []}}\nsteps: {j/s: {files: {allow: [node]}}}", "unlisted");
    expects("defaults: {files: {deny: [node]}}", "denied");
}

#[test]
fn resolvers_loopback_and_metadata() {
    let text = with("defaults: {network: {allow: [\"meta.example\", \"0.0.0.0/0\"], deny: [\"127.0.0.1\"]}}");
    expect(
        &text,
        "j/s",
        None,
        "
        connect udp 192.0.2.53:53                        => unrestricted
        connect 192.0.2.53:53                            => unrestricted
        connect udp 192.0.2.53:54                        => unlisted
        connect udp 192.0.2.54:53                        => unlisted
        connect 127.0.0.1:80                             => unrestricted
        connect [::1]:80                                 => unrestricted
        connect [::ffff:127.0.0.2]:80                    => unrestricted
        connect 169.254.169.254:80                       => denied
        connect meta.example=169.254.169.254:80          => denied
        connect [fd00:ec2::254]:80                       => denied
        connect 168.63.129.16:80                         => denied
        connect 168.63.129.16:53                         => allowed
        connect 203.0.113.1:80                           => allowed
        ",
    );
    expect(&with("defaults: {network: {allow: any}}"), "j/s", None, "connect 169.254.169.254:80 => denied");
    expect(&with("defaults: {run: {allow: [a]}}"), "j/s", None, "connect 169.254.169.254:80 => denied");
    let text = with(
        "defaults: {network: {allow: [\"169.254.169.254:80\"]}}\nagents: {x: {network: {allow: [\"a.example\"]}}}",
    );
    expect(&text, "j/s", None, "connect 169.254.169.254:80 => allowed\nconnect 169.254.169.254:81 => denied");
    expect(&text, "j/s", Some("x"), "connect 169.254.169.254:80 => denied");
}

#[test]
fn objects_that_need_no_rule_can_still_be_denied() {
    let text = with("defaults: {files: {allow: [], deny: [\"write /dev/tty\"]}}");
    expect(
        &text,
        "j/s",
        None,
        "write /dev/null => unrestricted\nread /proc/self/status => unrestricted\nread /proc/self/mem => unlisted\nwrite pipe:[7] => unrestricted\nwrite /dev/tty => denied\nread /dev/tty => unrestricted",
    );
}

#[test]
fn a_path_is_judged_in_one_spelling() {
    expect(
        &with("defaults: {files: {allow: [\"write ./**\"], deny: [\"write ./.git\"]}}"),
        "j/s",
        None,
        "write /work/a/../../etc/x => unlisted\nwrite /tmp/../work/x => allowed\nwrite /work//x => allowed\nwrite /work/.git/hooks/x => denied\nwrite …/work/x => unlisted",
    );
}

#[test]
fn findings_name_the_entry_or_the_list() {
    let rules = rules(FULL, "build/test", None);
    let Ruling::Unlisted(Some(near)) = connect(&rules, "api.example.com=203.0.113.1:8443") else { panic!() };
    assert_eq!(
        (near.text.as_str(), near.location.to_string().as_str()),
        ("api.example.com:443", "guard.yml:6")
    );
    let Ruling::Unlisted(Some(list)) = launch(&rules, "/usr/bin/curl", "curl") else { panic!() };
    assert_eq!((list.text.as_str(), list.location.line), ("defaults.run.allow", 10));
    let Ruling::Denied(by) = rules.file(Verb::Read, "/home/runner/.ssh/id") else { panic!() };
    assert_eq!((by.text.as_str(), by.location.line), ("read ~/.ssh/**", 9));
    let Ruling::Allowed(by) = connect(&rules, "github.com=203.0.113.1:443") else { panic!() };
    assert_eq!((by.text.as_str(), by.owner), ("github", RuleOwner::Defaults));
}

#[test]
fn exceptions_cover_and_end() {
    let full = policy(FULL);
    let [exception] = full.exceptions() else { panic!() };
    let covers =
        |step: &str, object| exception.covers("egress-undeclared", &StepKey(step.to_owned()), object);
    assert!(covers("build/test", "telemetry.example.com:443"));
    assert!(!covers("build/other", "telemetry.example.com:443"));
    assert!(!covers("build/test", "telemetry.example.com:80"));
    let at = |text| {
        let moment = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .expect("a time");
        Timestamp(u64::try_from(moment.unix_timestamp_nanos()).expect("after 1970"))
    };
    assert!(!exception.is_over(at("2027-01-31T23:59:59Z")));
    assert!(exception.is_over(at("2027-02-01T00:00:00Z")));
}

#[test]
fn posture_changes_that_are_expected() {
    let rules = rules(FULL, "build/test", None);
    assert!(rules.posture("sudoers", "accounts", "x").is_some());
    assert!(rules.posture("services", "services", "/etc/systemd/system/x.timer").is_some());
    assert!(rules.posture("services", "services", "/etc/systemd/system/x.service").is_none());
}

#[test]
fn a_problem_points_at_its_place() {
    let text = "version: 1\ndefaults:\n  netwrok: {allow: []}\n  network:\n    allow: [\"a.example\", \"b.example:99999\"]\n";
    let error = Policy::parse(text, ".github/guard.yml").expect_err("is refused");
    assert_eq!(
        error.to_string(),
        "\
.github/guard.yml:3:3: unknown key `netwrok` in `defaults`
 3 |   netwrok: {allow: []}
   |   ^
 hint: did you mean `network`?

.github/guard.yml:5:26: `99999` is not a port (1 to 65535)
 5 |     allow: [\"a.example\", \"b.example:99999\"]
   |                          ^
 hint: write one item for each port; without a port a name means 443 and 80"
    );
}

#[test]
fn a_caret_stands_under_wide_lines_and_tabs_and_escapes_nothing() {
    let text = "version: 1\nsecrets: [\"~/ü/**\",\t\"nö\"]\n";
    let shown = Policy::parse(text, "inline").expect_err("is refused").to_string();
    assert!(shown.contains(" 2 | secrets: [\"~/ü/**\",\t\"nö\"]\n   |                    \t^"), "{shown}");
    let shown = Policy::parse("version: 1\n\"\\e[31m\\n::error::x\": 1\n", "a\u{1b}b")
        .expect_err("is refused")
        .to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains("\n::error"), "{shown}");
}

#[test]
fn every_mistake_has_a_place_and_a_hint() {
    for (lines, line, column, message, hint) in [
        ("mode: enforce", 2, 7, "not one of audit or block", "`block`"),
        ("mode: adit", 2, 7, "not one of", "`audit`"),
        ("mode: [audit]", 2, 7, "must be audit or block, not a list", ""),
        ("fail-on: hihg", 2, 10, "not one of none", "`high`"),
        ("fail-on: 3", 2, 10, "not a number", ""),
        ("fail_on: high", 2, 1, "unknown key", "`fail-on`"),
        ("mode: audit\nmode: block", 3, 1, "duplicate key `mode`", "line 2"),
        ("defaults: {run: {allow: [a], allow: [b]}}", 2, 30, "duplicate key `allow`", "line 2"),
        ("defaults: {network: {allow: [githb]}}", 2, 30, "unknown group `githb`", "`github`"),
        ("defaults: {network: {allow: [localhost]}}", 2, 30, "unknown group", "loopback"),
        ("defaults: {network: {allow: [redis]}}", 2, 30, "unknown group", "`redis:443`"),
        ("defaults: {files: {allow: [noed]}}", 2, 28, "unknown group", "`node`"),
        ("defaults: {files: {allow: [\"./x\"]}}", 2, 28, "has no verb", "write ./x"),
        ("defaults: {files: {allow: [\"delete ./x\"]}}", 2, 28, "not read or write", "`write`"),
        ("defaults: {files: {allow: [\"write x\"]}}", 2, 28, "must start with", "./x"),
        ("defaults: {files: {allow: [{match: \"read /x\"}]}}", 2, 28, "must be text", "`deny`"),
        (
            "defaults: {files: {deny: [{match: \"read /x\", excpt: []}]}}",
            2,
            46,
            "unknown key `excpt`",
            "`except`",
        ),
        ("defaults: {files: {deny: [{except: [/x]}]}}", 2, 27, "no `match`", "{match"),
        ("defaults: {network: {allow: github}}", 2, 29, "must be a list", "[github]"),
        ("defaults: {network: {allow: }}", 2, 0, "has no value", "any"),
        ("defaults: {network: {allow: [any]}}", 2, 30, "stands alone", "allow: any"),
        ("defaults: {network: {deny: any}}", 2, 28, "must be a list", ""),
        ("defaults: {network: {allow: [7]}}", 2, 30, "not a number", "quote"),
        ("defaults: {network: [github]}", 2, 21, "must be a mapping", ""),
        ("defaults: {inherit: false}", 2, 12, "unknown key `inherit`", ""),
        ("steps: {build: {}}", 2, 9, "does not name a step", "*/build"),
        ("steps: {a//b: {}}", 2, 9, "does not name a step", ""),
        ("steps: {a/b: {inherit: no}}", 2, 24, "must be true or false", ""),
        ("steps: {a/b: {tsk: x}}", 2, 15, "unknown key `tsk`", "`task`"),
        ("agents: {Claude Code: {}}", 2, 10, "is not an id", "claude-code"),
        ("intent: workflow", 2, 9, "must be a list", ""),
        ("secrets: [vault]", 2, 11, "must start with", "**/vault"),
        ("except: [{rule: egress-undeclard, reason: x}]", 2, 17, "unknown rule", "`egress-undeclared`"),
        ("except: [{rule: egress-undeclared}]", 2, 10, "no `reason`", ""),
        ("except: [{rule: persistence, reason: x, until: 2027-02-30}]", 2, 48, "not a date", "2027-01-31"),
        ("except: {rule: x}", 2, 9, "must be a list", ""),
        ("version: 2", 2, 1, "duplicate key `version`", ""),
    ] {
        let found = problems(&with(lines));
        let [problem] = found.as_slice() else { panic!("{lines}: {found:?}") };
        assert!(problem.message.contains(message), "{lines}: {problem:?}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{lines}: {problem:?}");
        let place = (problem.line, if column == 0 { 0 } else { problem.column });
        assert_eq!(place, (line, column), "{lines}: {problem:?}");
    }
}

#[test]
fn what_is_no_policy_at_all() {
    for (text, message) in [
        ("", "is empty"),
        ("# nothing\n---\n", "is empty"),
        ("mode: audit\n", "`version` is missing"),
        ("version: 2\n", "version is not known"),
        ("version: \"1\"\n", "version is not known"),
        ("- version: 1\n", "must be a mapping"),
        ("just text\n", "must be a mapping"),
        ("version: 1\ndefaults: {network: {allow: [\n", "unclosed bracket"),
        ("version: 1\nmode: audit: x\n", "mapping values are not allowed"),
        ("version: 1\n---\nversion: 1\n", "more than one YAML document"),
        ("version: 1\nintent: &a [x]\nsecrets: *a\n", "anchors"),
        ("version: 1\ndefaults: {<<: {run: {allow: []}}}\n", "merge keys"),
        ("version: 1\ndefaults: {network: {allow: [*.example.com]}}\n", "leading `*`"),
        ("version: 1\nmode: !x audit\n", "tags"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.message.contains(message)), "{text}: {found:?}");
        assert!(found.iter().all(|problem| problem.line > 0 && problem.column > 0), "{text}: {found:?}");
    }
    let large = format!("version: 1\n{}", "# x\n".repeat(70_000));
    assert!(problems(&large)[0].message.contains("limit is 262144"));
    let quoted = "aliases are not used here";
    assert!(problems("version: 1\nsecrets: *a\n")[0].message.contains(quoted));
    let deep = format!("version: 1\nx: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    assert!(!problems(&deep).is_empty());
    let mut laughs = String::from("version: 1\na: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, last) in ('b'..='i').zip('a'..) {
        let _ = writeln!(
            laughs,
            "{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]"
        );
    }
    assert!(!problems(&laughs).is_empty());
}

#[test]
fn all_problems_come_at_once_and_no_more_than_fifty() {
    let found =
        problems(&with("mode: x\nfail-on: y\ndefaults: {run: {alow: [], deny: [\"*\"]}}\nsteps: {x: {}}"));
    assert_eq!(found.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4, 4, 5]);
    let many = (0..80).fold(String::new(), |text, number| format!("{text}k{number}: 1\n"));
    let error = Policy::parse(&with(&many), "guard.yml").expect_err("is refused");
    assert_eq!((error.problems.len(), error.omitted), (50, 30));
    assert!(error.to_string().ends_with("and 30 more"));
}

#[test]
fn warns_of_what_is_probably_not_meant() {
    let text = with(
        "defaults:\n  network: {allow: any}\n  files: {allow: [node]}\nsteps:\n  \"j/*\": {network: {allow: [\"*.com\", \"0.0.0.0/0\"]}}\n  j/s: {}\nexcept:\n  - {rule: persistence, reason: x}",
    );
    let warnings = policy(&text).warnings();
    let said: Vec<String> =
        warnings.iter().map(|warning| format!("{} {}", warning.location.line, warning.message)).collect();
    for expected in [
        "3 `allow: any` lifts every restriction of network in defaults",
        "4 `node` allows nothing more",
        "6 this list restricts nothing",
        "6 `*.com`: `*.com` covers a whole top-level domain",
        "6 `0.0.0.0/0`: this network is the whole internet",
        "6 \"j/*\" and \"j/s\" match the same steps",
        "9 the exception for `persistence` never ends",
    ] {
        assert!(said.iter().any(|line| line.starts_with(expected)), "{expected}: {said:#?}");
    }
    assert_eq!(warnings.len(), 7, "{said:#?}");
    let full = policy(FULL).warnings();
    let lasting: Vec<_> = full.iter().filter(|warning| !warning.message.contains(" nothing yet")).collect();
    assert_eq!(lasting.len(), 1, "`allow: any` of the review step: {full:#?}");
}

#[test]
fn a_lock_says_what_was_applied_and_refuses_edits() {
    let full = policy(FULL);
    let lock = full.lock();
    for part in [
        "origin: \"guard.yml\"",
        &full.digest().expect("a digest"),
        "api.github.com:443",
        "kind: package",
        "policy: |2+\n  version: 1\n",
    ] {
        assert!(lock.contains(part), "{part}\n{lock}");
    }
    let back = Policy::parse(&lock, "policy.lock.yml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((back.origin(), back.digest()), (full.origin(), full.digest()));
    assert_eq!(back.lock(), lock);
    let error =
        Policy::parse(&lock.replace("deny: [docker, sudo]", "deny: []"), "l").expect_err("is refused");
    assert!(error.problems[0].message.contains("digest differs"));
    // What the groups stood for is the lock's, not this version's.
    let older = lock.replace("api.github.com:443", "old.github.example:443");
    expect(
        &older,
        "build/test",
        None,
        "connect old.github.example=203.0.113.1:443 => allowed\nconnect api.github.com=203.0.113.1:443 => unlisted",
    );
    assert!(Policy::parse(&Policy::absent().lock(), "l").expect("a lock").is_absent());
}

#[test]
fn a_lock_keeps_any_text() {
    for tail in [
        "",
        "\n\n\n",
        "# ünïcode ✓\n",
        "# tab\there\n",
        "# cr\r\n",
        "\n  \n",
        "# \u{85}\u{2028} x",
        "# no newline",
    ] {
        for head in ["", "\n", "  \n", "# first\n"] {
            let text = format!("{head}version: 1\n{tail}");
            let Ok(one) = Policy::parse(&text, "x") else { continue };
            let back = Policy::parse(&one.lock(), "l").unwrap_or_else(|error| panic!("{text:?}\n{error}"));
            assert_eq!(back.digest(), one.digest(), "{text:?}");
        }
    }
}

const ACTS: &[&str] = &[
    "connect a.example=203.0.113.1:443",
    "connect b.a.example=203.0.113.1:8443",
    "connect 10.0.0.1:5432",
    "connect github.com=203.0.113.9:443",
    "connect mirror.example=203.0.113.9:4873",
    "connect udp a.example=203.0.113.1:123",
    "connect 169.254.169.254:80",
    "read /home/runner/.ssh/id",
    "write /work/src/x",
    "write /home/runner/.npm/x",
    "write /etc/passwd",
    "run /usr/bin/git push origin main",
    "run /usr/bin/dash -c x",
    "run /work/tool",
];

#[derive(Clone, Debug)]
struct Draft {
    is_closed: bool,
    allow: [Option<Vec<&'static str>>; 3],
    deny: [Vec<&'static str>; 3],
}

const PLANES: [&str; 3] = ["network", "files", "run"];
const HOSTS: &[&str] = &[
    "a.example",
    "*.a.example:8443",
    "10.0.0.0/8",
    "github",
    "node",
    "udp://a.example:123",
    "0.0.0.0/0",
    "169.254.169.254",
];
const FILES: &[&str] = &["read ~/.ssh/**", "write ./**", "node", "write /etc/**", "read /**", "write **/x"];
const RUNS: &[&str] = &["git", "git push origin *", "sh", "/usr/bin/*", "./tool", "npm"];

fn draft() -> impl Strategy<Value = Draft> {
    let some = |items: &'static [&'static str]| proptest::sample::subsequence(items, 0..=items.len());
    let allow = (
        proptest::option::of(some(HOSTS)),
        proptest::option::of(some(FILES)),
        proptest::option::of(some(RUNS)),
    );
    (any::<bool>(), allow, (some(HOSTS), some(FILES), some(RUNS))).prop_map(|(is_closed, allow, deny)| {
        Draft { is_closed, allow: [allow.0, allow.1, allow.2], deny: [deny.0, deny.1, deny.2] }
    })
}

impl Draft {
    fn text(&self, may_close: bool) -> String {
        let mut parts = Vec::new();
        if may_close {
            parts.push(format!("inherit: {}", !self.is_closed));
        }
        for ((plane, allow), deny) in PLANES.iter().zip(&self.allow).zip(&self.deny) {
            let allow = allow.as_ref().map(|items| format!("allow: {items:?}, ")).unwrap_or_default();
            parts.push(format!("{plane}: {{{allow}deny: {deny:?}}}"));
        }
        format!("{{{}}}", parts.join(", "))
    }
}

fn written(drafts: &[Draft; 3]) -> String {
    let [defaults, step, agent] = drafts;
    with(&format!(
        "defaults: {}\nsteps:\n  j/s: {}\nagents:\n  x: {}",
        defaults.text(false),
        step.text(true),
        agent.text(true)
    ))
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_an_error(text in "\\PC{0,200}") {
        let _ = Policy::parse(&text, "x").map_err(|error| error.to_string());
    }

    #[test]
    fn any_bytes_are_a_policy_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Policy::parse(&String::from_utf8_lossy(&bytes), "x").map_err(|error| error.to_string());
    }

    #[test]
    fn a_damaged_policy_is_a_policy_or_an_error(at in 0..FULL.len(), bytes in proptest::collection::vec(any::<u8>(), 0..6), cut in 0..20_usize) {
        let mut text = FULL.as_bytes().to_vec();
        let end = (at + cut).min(text.len());
        text.splice(at..end, bytes);
        let _ = Policy::parse(&String::from_utf8_lossy(&text), "x").map_err(|error| error.to_string());
    }

    #[test]
    fn any_item_is_a_rule_or_an_error(item in "\\PC{0,60}") {
        for plane in PLANES {
            let text = with(&format!("defaults: {{{plane}: {{allow: [{item:?}], deny: [{item:?}]}}}}"));
            let Ok(policy) = Policy::parse(&text, "x") else { continue };
            let rules = policy.rules(&StepKey::local(), None, &places());
            for act in ACTS {
                let _ = judge(&rules, act);
            }
        }
    }
}

proptest! {
    // Each case compiles dozens of globs.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_lock_judges_the_same(drafts in [draft(), draft(), draft()]) {
        let text = written(&drafts);
        let policy = policy(&text);
        let lock = Policy::parse(&policy.lock(), "lock").expect("reads back");
        for agent in [None, Some("x")] {
            let step = StepKey("j/s".to_owned());
            let (one, two) = (policy.rules(&step, agent, &places()), lock.rules(&step, agent, &places()));
            for act in ACTS {
                prop_assert_eq!(judge(&one, act), judge(&two, act), "{} {}", act, text);
            }
        }
    }

    #[test]
    fn no_act_is_judged_otherwise_without_a_line_of_the_diff(
        before in [draft(), draft(), draft()],
        block in 0..3_usize,
        other in draft(),
    ) {
        let mut after = before.clone();
        after[block] = other;
        let (old, new) = (policy(&written(&before)), policy(&written(&after)));
        let lines = diff(&old, &new).lines;
        prop_assert!(diff(&old, &old).is_empty() && diff(&new, &new).is_empty());
        let strict = |ruling: &Ruling| matches!(ruling, Ruling::Denied(_) | Ruling::Unlisted(_));
        for (step, agent) in [("j/s", None), ("j/s", Some("x")), ("k/t", None)] {
            let key = StepKey(step.to_owned());
            let of = |policy: &Policy| policy.rules(&key, agent, &places());
            let (old, new) = (of(&old), of(&new));
            for act in ACTS {
                let (was, is) = (judge(&old, act), judge(&new, act));
                if strict(&was) == strict(&is) {
                    continue;
                }
                let list = match act.split(' ').next() {
                    Some("connect") => "network",
                    Some("read") => "files read",
                    Some("write") => "files write",
                    _ => "run",
                };
                let holds = |line: &&Difference| {
                    let in_step = match line.step.as_deref() {
                        None => true,
                        Some(OTHERS) => step == "k/t",
                        Some(named) => named == step,
                    };
                    in_step && line.list == list && (line.agent.is_none() || line.agent.as_deref() == agent)
                };
                let told = lines.iter().filter(holds).any(|line| line.change.is_tighter() == strict(&is));
                prop_assert!(told, "{}: {:?} became {:?}, {:#?}", act, was, is, lines);
            }
        }
    }

    #[test]
    fn a_stricter_policy_never_allows_more(
        drafts in [draft(), draft(), draft()],
        block in 0..3_usize,
        plane in 0..3_usize,
        extra in 0..6_usize,
        fewer in any::<bool>(),
    ) {
        let mut stricter = drafts.clone();
        let items = [HOSTS, FILES, RUNS][plane];
        if fewer {
            let Some(allow) = &mut stricter[block].allow[plane] else { return Ok(()) };
            if allow.is_empty() {
                return Ok(());
            }
            let removed = allow.remove(extra % allow.len());
            // The last entry of a verb is what restricts it, so taking that away is no stricter policy.
            let verb = removed.split_once(' ').map(|(verb, _)| verb);
            if plane == 1 && !allow.is_empty() && verb.is_none_or(|verb| !allow.iter().any(|item| item.starts_with(verb))) {
                return Ok(());
            }
        } else {
            stricter[block].deny[plane].push(items[extra]);
        }
        let strict = |ruling: &Ruling| matches!(ruling, Ruling::Denied(_) | Ruling::Unlisted(_));
        for agent in [None, Some("x")] {
            let (loose, tight) = (written(&drafts), written(&stricter));
            let (loose, tight) = (rules(&loose, "j/s", agent), rules(&tight, "j/s", agent));
            for act in ACTS {
                let (before, after) = (judge(&loose, act), judge(&tight, act));
                prop_assert!(!strict(&before) || strict(&after), "{}: {:?} became {:?}", act, before, after);
            }
        }
    }
}

#[test]
fn an_address_without_a_name_may_be_a_host_of_the_list_on_its_ports() {
    let rules = rules(
        "version: 1\ndefaults:\n  network: {allow: [\"api.example\", \"10.0.0.0/8:5432\"]}\n",
        "local/run",
        None,
    );
    let may = |address: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let address = address.parse().expect("a test address");
        rules.may_be_named(&Peer { address, names: &names, transport: Transport::Tcp })
    };
    assert!(may("203.0.113.7:443", &[]) && may("203.0.113.7:80", &[]));
    assert!(!may("203.0.113.7:8443", &[]), "no name stands for that port");
    assert!(!may("203.0.113.7:443", &["other.example"]), "its name is known, and is another");
    assert!(!may("169.254.169.254:80", &[]), "the metadata service has no name");
}

/// The lines of a diff: step, list, change, text.
fn differences(before: &str, after: &str) -> Vec<String> {
    let found = diff(&policy(before), &policy(after));
    let settings = found.settings.iter().map(|Setting { what, before, after }| {
        format!("{what}: {} > {}", before.as_deref().unwrap_or("-"), after.as_deref().unwrap_or("-"))
    });
    let lines = found.lines.iter().map(|line| {
        let step = line.step.as_deref().unwrap_or("*");
        let agent = line.agent.as_deref().map_or(String::new(), |agent| format!("@{agent}"));
        format!("{step}{agent} {} {:?} {}", line.list, line.change, line.text)
    });
    settings.chain(lines).collect()
}

#[test]
fn a_diff_tells_what_is_newly_allowed_and_no_longer() {
    for (before, after, expected) in [
        // Written otherwise, and the same.
        (
            "defaults: {network: {allow: [b.example, a.example], deny: []}}",
            "defaults: {network: {allow: [\"A.example\", \"b.example.\"]}}",
            &[][..],
        ),
        ("defaults: {run: {allow: [git]}}", "defaults: {run: {allow: [git, npm]}}", &["* run Allowed npm"]),
        (
            "defaults: {run: {allow: [git, npm]}}",
            "defaults: {run: {allow: [git]}}",
            &["* run NotAllowed npm"],
        ),
        // Covered by what was there.
        (
            "defaults: {network: {allow: [\"*.a.example\", \"10.0.0.0/8\"]}, files: {allow: [\"write ./**\"]}}",
            "defaults: {network: {allow: [\"*.a.example\", x.a.example, \"10.0.0.0/8\", \"10.1.2.3:22\"]}, \
             files: {allow: [\"write ./**\", \"write ./out/*\"]}}",
            &[],
        ),
        (
            "defaults: {network: {allow: [x.a.example]}}",
            "defaults: {network: {allow: [\"*.a.example\", \"x.a.example:8443\"]}}",
            &["* network Allowed *.a.example", "* network Allowed x.a.example:8443"],
        ),
        // A list appears, and is lifted.
        ("", "defaults: {network: {allow: [a.example]}}", &["* network NotAllowed anything but a.example"]),
        (
            "defaults: {network: {allow: [a.example]}}",
            "defaults: {network: {allow: any}}",
            &["* network Allowed anything: `allow: any` of defaults"],
        ),
        ("", "defaults: {network: {allow: []}}", &["* network NotAllowed anything"]),
        // The metadata service is denied where nothing is restricted.
        (
            "",
            "defaults: {network: {allow: [169.254.169.254]}}",
            &["* network Allowed 169.254.169.254", "* network NotAllowed anything but 169.254.169.254"],
        ),
        ("", "defaults: {run: {deny: [sudo]}}", &["* run Denied sudo"]),
        ("defaults: {run: {deny: [sudo]}}", "", &["* run NotDenied sudo"]),
        ("defaults: {run: {deny: [npm]}}", "defaults: {run: {deny: [npm, \"npm publish\"]}}", &[]),
        (
            "defaults: {files: {deny: [\"read ~/.ssh/**\"]}}",
            "defaults: {files: {deny: [{match: \"read ~/.ssh/**\", except: [\"~/.ssh/config\"]}]}}",
            &["* files read NotDenied read ~/.ssh/**"],
        ),
        // Only where it holds.
        (
            "defaults: {run: {allow: [git]}}\nsteps: {\"a/b\": {inherit: false, run: {allow: [npm]}}}",
            "defaults: {run: {allow: [git, make]}}\nsteps: {\"a/b\": {inherit: false, run: {allow: [npm]}}}",
            &["any other step run Allowed make"],
        ),
        (
            "defaults: {run: {allow: [git]}}",
            "defaults: {run: {allow: [git]}}\nsteps: {\"a/b\": {run: {allow: [npm]}}}",
            &["a/b run Allowed npm"],
        ),
        (
            "agents: {codex: {network: {allow: [openai]}}}",
            "",
            &["*@codex network Allowed anything: no list restricts it"],
        ),
        (
            "defaults: {posture: {allow: [sudoers]}}",
            "defaults: {posture: {allow: [hosts], require: [docker-socket], minimum-score: 50}}",
            &[
                "posture.minimum-score: - > 50",
                "posture.require: - > docker-socket",
                "* posture Allowed hosts",
                "* posture NotAllowed sudoers",
            ],
        ),
        (
            "mode: audit\nfail-on: high\nsecrets: [\"~/.vault/**\"]",
            "fail-on: low\nintent: []\nexcept: [{rule: env-harvest, reason: x, until: 2030-01-01}]",
            &[
                "fail-on: high > low",
                "intent: all > []",
                "secrets: ~/.vault/** > -",
                "except: - > env-harvest in every step: any object until 2030-01-01",
            ],
        ),
    ] {
        let (before, after) = (with(before), with(after));
        assert_eq!(differences(&before, &after), expected, "{before}---\n{after}");
    }
}

#[test]
fn a_diff_tells_what_an_organisation_changes() {
    let own = policy("version: 1\n");
    let with = |text: &str| own.clone().beside(Role::Organisation, "acme/guard.yml@v1", policy(text));
    let found = diff(
        &with("version: 1\ndefaults: {run: {deny: [sudo]}}\n"),
        &with("version: 1\nfail-on: low\ndefaults: {run: {deny: [sudo, docker]}}\n"),
    );
    let [line] = found.lines.as_slice() else { panic!("{found:#?}") };
    assert_eq!((line.change, line.text.as_str()), (Change::Denied, "docker"));
    assert_eq!(line.beside, Some((Role::Organisation, "acme/guard.yml@v1".to_owned())));
    assert_eq!(found.settings.len(), 1, "{found:#?}");
    assert_eq!(
        diff(
            &own,
            &own.clone().beside(
                Role::Proposed,
                "guard.yml",
                policy("version: 1\ndefaults: {run: {allow: [x]}}\n")
            )
        )
        .lines,
        []
    );
}

#[test]
fn a_diff_tells_what_of_a_group_is_new() {
    // The lock of an older version, whose group had one host less.
    let text = "version: 1\ndefaults: {network: {allow: [gemini]}}\n";
    let lock = policy(text).lock();
    let item = lock.lines().find(|line| line.trim_start().starts_with("- ")).expect("a host of the group");
    let older = Policy::parse(&lock.replacen(&format!("{item}\n"), "", 1), "lock").expect("a lock");
    let lines: Vec<String> = diff(&older, &policy(text)).lines.into_iter().map(|line| line.text).collect();
    let host = item.trim_start().trim_start_matches("- ").trim_matches('"');
    assert_eq!(lines, [format!("of gemini: {host}")]);
}

#[test]
fn what_is_quoted_for_people_to_paste_reads_back_on_one_line() {
    for odd in [
        "build/Deploy \"it\" \\ now",
        "a\n::error file=x::y",
        "\r\n##[error]x ##vso[task]y",
        "\u{202e}gpj.\u{1b}[31m\u{0}",
        "jöb/日本 — 🚀\t#x: {a}, [b]",
    ] {
        let quoted = quoted(odd);
        let is_safe = |letter: char| letter.is_ascii_graphic() || letter == ' ' || letter.is_alphanumeric();
        assert!(
            quoted.chars().all(is_safe) && !quoted.contains("##[") && !quoted.contains("##vso["),
            "{quoted}"
        );
        let step = StepKey(format!("build/{odd}**"));
        let key = quoted_step(&step);
        let text =
            with(&format!("except: [{{rule: env-harvest, step: {key}, object: {quoted}, reason: x}}]"));
        let policy = Policy::parse(&text, "x").unwrap_or_else(|error| panic!("{error}"));
        let exception = &policy.exceptions()[0];
        assert_eq!(exception.object.as_deref(), Some(odd));
        assert!(exception.covers("env-harvest", &step, odd), "{text}");
        assert!(!exception.covers("env-harvest", &StepKey("build/other".to_owned()), odd), "{text}");
    }
}
