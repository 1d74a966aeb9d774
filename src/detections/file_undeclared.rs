//! A process touches a sensitive or lasting file that nothing in its step explains.
//!
//! ## What it sees
//! A credential store read by a program that does not own it; a file outside the workspace, the
//! home and the scratch folders that is made, changed or deleted; a place that runs again later
//! (shell start-up, cron, services, sudoers …). With a policy: a file outside its `files` list.
//!
//! ## Why it matters
//! Reading a credential is the first half of a theft, and a change outside the workspace outlives
//! the step that made it. Alone it is a note; both in one strand are worth failing the job.
//!
//! ## What to do
//! If it is part of the work, allow the path for this step in `.github/guard.yml`.
//!
//! ## Known limits
//! Changes of mode and owner, links and truncation by path are not recorded by every sensor tier;
//! the report's coverage says so.

use super::{Act, Detection, Hit, named};
use crate::divergence::Effect;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("file-undeclared"),
    severity: Severity::Low,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1552.001"), Technique("T1546")],
    references: &[],
    frameworks: &["CICD-SEC-6", "ASI02"],
    remedy: "Allow the path for this step if it is part of the work; else remove what touches it.",
    source: include_str!("file_undeclared.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    if !act.explanation.is_undeclared() {
        return Vec::new();
    }
    let who = named(act.lineage, act.process.key);
    let hit = |severity, confidence, title, object: &str, evidence| {
        vec![Hit {
            rule: &DETECTION,
            kind: Kind::Divergence,
            severity,
            confidence,
            title,
            process: act.process.key,
            object: object.to_owned(),
            evidence,
            replaces: None,
            remedy: None,
        }]
    };
    match act.effect {
        Effect::Read { path, store, by_owner: false } => hit(
            DETECTION.severity,
            DETECTION.confidence,
            format!("{who} read {}, which nothing in this step explains", store.title),
            path,
            Vec::new(),
        ),
        Effect::Write { path, store } => {
            let stolen = act.lineage.strand(act.process.key).reads.iter().find(|read| !read.by_owner);
            match (store, stolen) {
                (Some(store), Some(read)) => hit(
                    Severity::High,
                    Confidence::High,
                    format!(
                        "{who} changed {} after {} read {}",
                        store.title,
                        named(act.lineage, read.process),
                        read.title
                    ),
                    path,
                    vec![read.sequence],
                ),
                (Some(store), None) => hit(
                    DETECTION.severity,
                    DETECTION.confidence,
                    format!("{who} changed {}, which nothing in this step explains", store.title),
                    path,
                    Vec::new(),
                ),
                (None, _) => hit(
                    DETECTION.severity,
                    DETECTION.confidence,
                    format!("{who} wrote outside the workspace, which nothing in this step explains"),
                    path,
                    Vec::new(),
                ),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn the_cache_of_fonts_is_anybodys_and_what_lies_beside_it_is_not() {
        let trace = |path: &str| {
            format!("1 > 2 launch /usr/bin/make make test\n2 > 3 launch /usr/bin/chromium x\n3 create {path}")
        };
        expect("make test\n", &trace("/var/cache/fontconfig/3830d5-le64.cache-8.NEW"), &[]);
        for path in ["/var/cache/fontconfig2/x", "/var/cache/ldconfig/aux-cache"] {
            let note = format!("file-undeclared divergence low {path}");
            expect("make test\n", &trace(path), &[&note]);
        }
    }

    #[test]
    fn ordinary_places_and_tools_stay_quiet() {
        expect(
            "npm ci\nmake install\napt-get install -y jq\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 create /w/node_modules/a/index.js
             2 create ~/.npm/_cacache/x
             2 create /tmp/npm-1/x
             1 > 3 launch /usr/bin/make make install
             3 > 4 launch /usr/bin/install install x /usr/local/bin/x
             4 create /usr/local/bin/x
             1 > 5 launch /usr/bin/apt-get apt-get install -y jq
             5 > 6 launch /usr/bin/dpkg dpkg --unpack jq.deb
             6 rename /usr/bin/jq.dpkg-new /usr/bin/jq
             6 write /var/lib/dpkg/status",
            &[],
        );
    }

    #[test]
    fn places_that_run_again_are_named() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 write ~/.bashrc
             3 create /etc/cron.d/job
             3 create /usr/lib/x.so",
            &[
                "!persistence attack high /etc/cron.d/job",
                "!startup-hijack attack high /home/u/.bashrc",
                "file-undeclared divergence low /etc/cron.d/job",
                "file-undeclared divergence low /home/u/.bashrc",
                "file-undeclared divergence low /usr/lib/x.so",
            ],
        );
    }

    #[test]
    fn after_a_credential_was_read_a_lasting_change_fails_the_job() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 read ~/.aws/credentials
             3 write ~/.bashrc",
            &[
                "!file-undeclared divergence high /home/u/.bashrc",
                "!startup-hijack attack high /home/u/.bashrc",
                "file-undeclared divergence low /home/u/.aws/credentials",
            ],
        );
    }

    #[test]
    fn the_policy_judges_every_file() {
        let policy = "version: 1\ndefaults:\n  files:\n    allow: [\"write ./out/**\"]\n    deny: [\"read ~/.ssh/**\"]\n";
        let trace = "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/cp cp a b
             3 create /w/out/a
             3 create /w/src/a
             3 read ~/.ssh/config
             3 read /w/src/b";
        assert_eq!(
            findings("make\n", policy, trace),
            ["!file-undeclared policy high /home/u/.ssh/config", "file-undeclared policy low /w/src/a"]
        );
    }

    #[test]
    fn a_list_of_reads_needs_no_entry_for_what_every_program_reads() {
        let policy = "version: 1\ndefaults:\n  files:\n    allow: [\"read ./**\", \"write ./out/**\"]\n";
        let trace = "1 > 2 launch /usr/bin/make make
             2 read /etc/ld.so.cache
             2 read /usr/lib/x86_64-linux-gnu/libc.so.6
             2 read /proc/2/status
             2 read /proc/meminfo
             2 create /w/out
             2 create /w/out/a
             2 read /w/src/b";
        assert_eq!(findings("make\n", policy, trace), [""; 0]);
        let trace = "1 > 2 launch /usr/bin/make make
             2 read /proc/1/status
             2 read /srv/data";
        assert_eq!(
            findings("make\n", policy, trace),
            ["file-undeclared policy low /proc/1/status", "file-undeclared policy low /srv/data"]
        );
    }

    #[test]
    fn a_storm_over_new_files_is_one_finding_with_its_count() {
        let mut trace =
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n"
                .to_owned();
        for file in 0..3000 {
            trace += &["3 create /srv/data/", &file.to_string(), "\n"].concat();
        }
        let report = crate::trace::report("npm ci\n", "", &trace);
        assert_eq!(report.findings.len(), 1);
        assert_eq!(report.findings[0].count, 3000);
        assert_eq!(report.findings[0].more_objects.len(), 19);
    }
}
