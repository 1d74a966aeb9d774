//! The host's security state is not what it was when the job began.
//!
//! ## What it sees
//! About a hundred checks (`edamame-guard posture` lists them) are read before the first step and after
//! the last: who may act as root, users and keys, kernel settings, loaded modules, set-id programs,
//! name resolution, trusted authorities, scheduled work, services, shell start-up, and the
//! configuration of git, package clients and coding agents. A difference is tied to the process that
//! was seen to write the file.
//!
//! Who may become root is nobody's build: there, and where a user comes to have root's number, a change by the project's own code weighs as
//! much as that by others'.
//!
//! A write that nothing explains is told at once by `run --watch`, with its program and step. The reading
//! after the last step says whether the change stayed; only then it is a finding of the report.
//!
//! ## Why it matters
//! A job that makes itself root, trusts another authority or leaves a service behind outlives its own
//! end, on a self-hosted runner for ever. After a credential was read in the same strand it is worth
//! failing the job by itself.
//!
//! ## What to do
//! Put the state back. If the step is meant to set it up, say so in its text, or allow the check in
//! `.github/guard.yml`: `posture: {allow: [sudoers]}`, or one object: `"accounts:/etc/sudoers.d/ci"`.
//!
//! ## Known limits
//! What is changed and put back within the run is no drift; the record has the writes. Where the end could not
//! be read, a write that nothing else tells is a note. A change that no
//! process of the job was seen to make has low confidence: the host's own daemons change things too.
//! Firewall rules and the token's permissions are not read.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("posture-drift"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1562"), Technique("T1548.003"), Technique("T1546")],
    references: &[],
    frameworks: &["CICD-SEC-7", "ASI10"],
    remedy: "Put the state back, or allow the check for this step if the step is meant to change it.",
    source: include_str!("posture_drift.rs"),
    check: nothing,
};

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, Settings};
    use crate::policy::Policy;
    use crate::trace::{drift_at_once, expect, findings, inputs, report};

    #[test]
    fn others_code_that_makes_itself_root_fails_the_job() {
        let trace = "before sudoers /etc/sudoers a
             after sudoers /etc/sudoers a
             after sudoers /etc/sudoers.d/x b
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 create /etc/sudoers.d/x";
        expect("npm ci\n", trace, &["!posture-drift posture high /etc/sudoers.d/x"]);
        let report = report("npm ci\n", "", trace);
        assert!(
            report.findings[0].title.starts_with("node added /etc/sudoers.d/x"),
            "{:#?}",
            report.findings
        );
        assert!(report.findings[0].silence.contains("posture: {allow: [sudoers]}"));
    }

    #[test]
    fn what_the_step_says_it_does_is_only_listed() {
        let trace = "before hosts /etc/hosts a
             after hosts /etc/hosts b
             1 write /etc/hosts";
        expect("echo 127.0.0.1 db >> /etc/hosts\n", trace, &[]);
        let drift = report("echo 127.0.0.1 db >> /etc/hosts\n", "", trace).posture.unwrap().drift;
        assert!(drift.len() == 1 && drift[0].explained.is_some(), "{drift:#?}");
    }

    #[test]
    fn a_package_manager_may_add_users_and_services() {
        expect(
            "apt-get install -y postgresql\n",
            "before users root a /etc/passwd
             after users root a /etc/passwd
             after users postgres b /etc/passwd
             after services /etc/systemd/system/multi-user.target.wants/pg.service c
             1 > 2 launch /usr/bin/apt-get apt-get install -y postgresql
             2 > 3 launch /usr/bin/dpkg dpkg --configure postgresql
             3 > 4 launch /usr/sbin/useradd useradd postgres
             4 rename /etc/passwd+ /etc/passwd
             3 > 5 launch /usr/bin/systemctl systemctl enable pg
             5 create /etc/systemd/system/multi-user.target.wants/pg.service",
            &[],
        );
    }

    #[test]
    fn a_policy_expects_a_check_or_one_object() {
        let trace = "before sudoers /etc/sudoers a
             after sudoers /etc/sudoers a
             after sudoers /etc/sudoers.d/x b
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 create /etc/sudoers.d/x";
        for item in ["sudoers", "\"accounts:/etc/sudoers.d/*\""] {
            let policy = format!("version: 1\ndefaults: {{posture: {{allow: [{item}]}}}}\n");
            // The write itself was not allowed by that.
            assert_eq!(
                findings("npm ci\n", &policy, trace),
                ["file-undeclared divergence low /etc/sudoers.d/x"],
                "{item}"
            );
        }
        let policy = "version: 1\ndefaults: {posture: {allow: [\"accounts:/etc/other\"]}}\n";
        assert_eq!(findings("npm ci\n", policy, trace), ["!posture-drift posture high /etc/sudoers.d/x"]);
    }

    #[test]
    fn registries_that_an_install_script_changes_are_told_and_ones_that_npm_sets_are_not() {
        let drift = "before package-configuration ~/.npmrc a
             after package-configuration ~/.npmrc b\n";
        expect(
            "npm ci\n",
            &format!(
                "{drift}1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/node node setup.js
                 3 write ~/.npmrc"
            ),
            &["!startup-hijack attack high /home/u/.npmrc", "posture-drift posture medium /home/u/.npmrc"],
        );
        expect(
            "npm config set fund false\n",
            &format!(
                "{drift}1 > 2 launch /usr/bin/node node /usr/bin/npm config set fund false
                 2 write ~/.npmrc"
            ),
            &[],
        );
    }

    #[test]
    fn another_user_with_roots_number_is_told_of_a_recipe_too() {
        let told = |before: &str, after: &str| {
            findings(
                "make\n",
                "",
                &format!(
                    "before second-root /etc/passwd a_644_0:0{before}
                     after second-root /etc/passwd b_644_0:0{after}
                     1 > 2 launch /usr/bin/make make
                     2 > 3 launch /usr/bin/perl perl x.pl
                     3 write /etc/passwd"
                ),
            )
        };
        assert_eq!(told("", "_weak"), ["!posture-drift posture high /etc/passwd"]);
        for (before, after) in [("", ""), ("_weak", "_weak"), ("_weak", "")] {
            assert_eq!(
                told(before, after),
                ["file-undeclared divergence low /etc/passwd"],
                "{before} {after}"
            );
        }
    }

    #[test]
    fn after_a_credential_was_read_any_change_fails_the_job() {
        expect(
            "npm ci\n",
            "before shell-start-up ~/.bashrc a
             after shell-start-up ~/.bashrc b
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 read ~/.aws/credentials
             3 write ~/.bashrc",
            &[
                "!posture-drift posture high /home/u/.bashrc",
                "!startup-hijack attack high /home/u/.bashrc",
                "file-undeclared divergence low /home/u/.aws/credentials",
            ],
        );
    }

    #[test]
    fn a_change_that_nobody_in_the_job_made_never_fails_it() {
        let found = findings(
            "make\n",
            "",
            "before ptrace-scope /proc/sys/kernel/yama/ptrace_scope 1
             after ptrace-scope /proc/sys/kernel/yama/ptrace_scope 0
             before resolver /etc/resolv.conf a
             after resolver /etc/resolv.conf b
             1 > 2 launch /usr/bin/make make",
        );
        assert_eq!(
            found,
            [
                "posture-drift posture high /etc/resolv.conf",
                "posture-drift posture low /proc/sys/kernel/yama/ptrace_scope"
            ]
        );
    }

    #[test]
    fn something_unreadable_hides_no_other_change() {
        let trace = "before sudoers /etc/sudoers a
             before sudoers /etc/sudoers.d/old a
             after sudoers /etc/sudoers a
             after sudoers /etc/sudoers.d/x b
             after sudoers unread x
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 create /etc/sudoers.d/x";
        expect("npm ci\n", trace, &["!posture-drift posture high /etc/sudoers.d/x"]);
        assert!(report("npm ci\n", "", trace).coverage.gaps.iter().any(|gap| gap.contains("sudoers")));
    }

    #[test]
    fn what_the_policy_requires_must_hold_at_the_start() {
        let trace = "before docker-socket /var/run/docker.sock socket_660
             after docker-socket /var/run/docker.sock socket_660
             1 > 2 launch /usr/bin/make make";
        let policy = "version: 1\ndefaults: {posture: {require: [docker-socket]}}\n";
        assert_eq!(
            findings("make\n", policy, trace),
            ["!posture-docker-socket posture medium /var/run/docker.sock"]
        );
        expect("make\n", trace, &[]);
        let other = "version: 1\ndefaults: {posture: {require: [ptrace-scope]}}\n";
        assert_eq!(findings("make\n", other, trace), [""; 0]);
    }

    fn at_once(step: &str, policy: &str, trace: &str) -> Vec<String> {
        let policy =
            if policy.is_empty() { Policy::absent() } else { Policy::parse(policy, "guard.yml").unwrap() };
        let mut engine = Engine::new(policy, Settings::default());
        drift_at_once(&mut engine, &inputs(step, trace)).into_iter().map(|(_, line)| line).collect()
    }

    const ROOT: &str = "before sudoers /etc/sudoers a
         1 > 2 launch /usr/bin/node node /usr/bin/npm ci
         2 > 3 launch /usr/bin/node node setup.js
         3 create /etc/sudoers.d/x
         3 write /etc/sudoers.d/x";

    #[test]
    fn a_write_that_nothing_explains_is_told_at_once_and_the_end_settles_it() {
        let stays = format!("{ROOT}\nafter sudoers /etc/sudoers a\nafter sudoers /etc/sudoers.d/x b");
        let told = at_once("npm ci\n", "", &stays);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].starts_with("high node wrote /etc/sudoers.d/x ("), "{told:#?}");
        expect("npm ci\n", &stays, &["!posture-drift posture high /etc/sudoers.d/x"]);
        // Told by the record of the write, not of anything later.
        let mut engine = Engine::new(Policy::absent(), Settings::default());
        let inputs = inputs("npm ci\n", &stays);
        let (sequence, _) = drift_at_once(&mut engine, &inputs)[0];
        let write = report("npm ci\n", "", &stays).findings[0].evidence.clone();
        assert!(write.contains(&sequence), "{sequence} in {write:?}");
        // It is as it was: the write remains what it was before.
        let back = format!("{ROOT}\n3 delete /etc/sudoers.d/x\nafter sudoers /etc/sudoers a");
        assert_eq!(at_once("npm ci\n", "", &back).len(), 1);
        expect("npm ci\n", &back, &["file-undeclared divergence low /etc/sudoers.d/x"]);
        // Nobody could read it: the write is told, and fails no job by this rule.
        let unread = format!("{ROOT}\nafter sudoers unread x");
        expect("npm ci\n", &unread, &["file-undeclared divergence low /etc/sudoers.d/x"]);
        let unread = "before package-configuration ~/.npmrc a
             after package-configuration unread x
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 write ~/.npmrc";
        let expected =
            ["!startup-hijack attack high /home/u/.npmrc", "posture-drift posture medium /home/u/.npmrc"];
        expect("npm ci\n", unread, &expected);
        let findings = report("npm ci\n", "", unread).findings;
        let title = &findings.iter().find(|finding| finding.rule.0 == "posture-drift").unwrap().title;
        assert!(title.ends_with("what it was at the end could not be read"), "{title}");
    }

    #[test]
    fn after_a_credential_was_read_it_is_told_again_and_higher() {
        let trace = "before shell-start-up ~/.bashrc a
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 write ~/.bashrc
             3 read ~/.aws/credentials
             3 write ~/.bashrc";
        let told = at_once("npm ci\n", "", trace);
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[1].starts_with("high node wrote /home/u/.bashrc") && told[1].contains(" was read"),
            "{told:#?}"
        );
    }

    #[test]
    fn what_is_expected_is_not_told() {
        for (step, policy, trace) in [
            ("echo 127.0.0.1 db >> /etc/hosts\n", "", "before hosts /etc/hosts a\n1 write /etc/hosts"),
            (
                "apt-get install -y postgresql\n",
                "",
                "before users root a /etc/passwd
                 before services /etc/systemd/system/x.service a
                 1 > 2 launch /usr/bin/apt-get apt-get install -y postgresql
                 2 > 3 launch /usr/bin/dpkg dpkg --configure postgresql
                 3 > 4 launch /usr/sbin/useradd useradd postgres
                 4 rename /etc/passwd+ /etc/passwd
                 3 > 5 launch /usr/bin/systemctl systemctl enable pg
                 5 create /etc/systemd/system/multi-user.target.wants/pg.service",
            ),
            (
                "apt-get install -y ping\n",
                "",
                "before privileged-programs /usr/bin/su 4755_0:0
                 1 > 2 launch /usr/bin/apt-get apt-get install -y ping
                 2 > 3 launch /usr/bin/dpkg dpkg --configure ping
                 3 chmod /usr/bin/ping.dpkg-new 4755
                 3 > 4 launch /usr/bin/dash sh /var/lib/dpkg/info/ping.postinst configure
                 4 > 5 launch /usr/bin/chmod chmod u+s /usr/bin/ping
                 5 chmod /usr/bin/ping 4755",
            ),
            (
                "npm config set fund false\n",
                "",
                "before package-configuration ~/.npmrc a
                 1 > 2 launch /usr/bin/node node /usr/bin/npm config set fund false
                 2 write ~/.npmrc",
            ),
            (
                "git config --global user.name x\n",
                "",
                "before git-configuration ~/.gitconfig a
                 1 > 2 launch /usr/bin/git git config --global user.name x
                 2 create ~/.gitconfig.lock
                 2 rename ~/.gitconfig.lock ~/.gitconfig",
            ),
            ("npm ci\n", "version: 1\ndefaults: {posture: {allow: [sudoers]}}\n", ROOT),
            ("npm ci\n", "version: 1\ndefaults: {posture: {allow: [\"accounts:/etc/sudoers.d/*\"]}}\n", ROOT),
            // Samples of hooks run nothing; a plain file among programs runs as nobody but its user.
            (
                "npm ci\n",
                "",
                "before git-hooks /w/.git/hooks/pre-push a
                 before privileged-programs /usr/bin/su 4755_0:0
                 1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/node node setup.js
                 3 create /w/.git/hooks/pre-commit.sample
                 3 create /usr/bin/tool
                 3 chmod /usr/bin/tool 755",
            ),
            // The check is not made on this machine.
            ("npm ci\n", "", &ROOT.replace("before sudoers /etc/sudoers a", "before hosts /etc/hosts a")),
        ] {
            assert_eq!(at_once(step, policy, trace), [""; 0], "{step}{policy}{trace}");
        }
        let rights = "before privileged-programs /usr/bin/su 4755_0:0
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 chmod /usr/bin/tool 4755";
        assert_eq!(at_once("npm ci\n", "", rights).len(), 1);
    }
}
