//! An install or build script fetches a program and runs it.
//!
//! ## What it sees
//! Other people's code below a package client that connects to something nothing explains, and then a program that this job put into a
//! scratch folder is launched in the same strand.
//!
//! ## Why it matters
//! So the second stage comes: what the package held was reviewed, what it fetched was not.
//!
//! ## What to do
//! Install without scripts (`npm ci --ignore-scripts`, wheels only), and remove the package that fetched the program.
//!
//! ## Known limits
//! A binary that an install script fetches into its own package, as many honest ones do, is no finding; what it then does is judged.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::Standing;

pub const DETECTION: Detection = Detection {
    id: RuleId("install-script"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1195.002"), Technique("T1105")],
    references: &["CVE-2025-54313"],
    frameworks: &["CICD-SEC-3", "ASI04"],
    remedy: "Install without scripts, and remove the package that fetched the program.",
    source: include_str!("install_script.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let (Effect::Launch { program }, Activity::Launch(launch)) = (act.effect, act.activity) else {
        return Vec::new();
    };
    let file = launch.program();
    let is_scratch = ["/tmp/", "/var/tmp/", "/dev/shm/"].iter().any(|folder| file.path.starts_with(folder));
    if !is_scratch
        || ground(act) != Ground::Foreign
        || act.process.standing != Standing::Script
        || !act.lineage.has_written(&file.path)
        || file.path.starts_with(&format!("{}/", act.context.job.workspace))
    {
        return Vec::new();
    }
    let strand = act.lineage.strand(act.process.key);
    let is_scripts = |key| act.lineage.get(key).is_some_and(|process| process.standing == Standing::Script);
    let Some(contact) = strand.contacts.iter().find(|contact| is_scripts(contact.process)) else {
        return Vec::new();
    };
    let title = format!(
        "An install script runs {program}, after {} connected to {}",
        named(act.lineage, contact.process),
        contact.object
    );
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, program);
    hits[0].evidence.push(contact.sequence);
    hits
}

#[cfg(test)]
mod tests {
    use crate::trace::findings;

    fn told(trace: &str) -> bool {
        findings("npm ci\n", "", trace).iter().any(|line| line.starts_with("!install-script attack high"))
    }

    #[test]
    fn a_second_stage_is_fetched_and_run() {
        assert!(told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/curl curl -o /tmp/.x y
             4 connect 203.0.113.7:443
             4 create /tmp/.x
             3 > 5 launch /tmp/.x x"
        ));
    }

    #[test]
    fn a_binary_in_its_own_package_and_a_build_in_a_scratch_folder_stay_quiet() {
        assert!(!told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node install.js
             3 connect 203.0.113.7:443
             3 create /w/node_modules/esbuild/bin/esbuild
             3 > 4 launch /w/node_modules/esbuild/bin/esbuild esbuild --version"
        ));
        assert!(!told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node build.js
             3 create /tmp/conftest
             3 > 4 launch /tmp/conftest conftest"
        ));
    }
}
