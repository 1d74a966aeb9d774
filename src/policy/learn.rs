//! A policy from what runs did, to read, shorten and keep.
//!
//! It lists what was done and not found fault with. What a finding named is left out and said in a comment. Hosts
//! stand as they were called, never their domain; a home is never listed as a whole.

mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::lock::quote;
use crate::event::Timestamp;
use crate::finding::{Finding, Kind, Needs, Report};
use crate::job::StepKey;

pub use merge::{Merged, merge};

/// One list of one step: item to what is known of it.
type Items = BTreeMap<String, Item>;

#[derive(Clone, Debug, Default)]
struct Item {
    reasons: BTreeSet<String>,
    /// In how many runs it was needed, and when last.
    runs: usize,
    last: Timestamp,
}

impl Item {
    fn needed(&mut self, reasons: &BTreeSet<String>, at: Timestamp) {
        self.reasons.extend(reasons.iter().cloned());
        self.runs += 1;
        self.last = self.last.max(at);
    }
}

#[derive(Default)]
struct Lists {
    network: Items,
    writes: Items,
    runs: Items,
    seen_in: usize,
    is_cut: bool,
}

/// Programs that run whatever text they are given, or start any program.
const OPEN_PROGRAMS: &[&str] = &[
    "ash", "bash", "busybox", "bun", "bunx", "cargo", "dash", "deno", "docker", "env", "find", "gh", "git",
    "go", "lua", "make", "node", "npm", "npx", "perl", "php", "pip", "pip3", "pnpm", "podman", "python",
    "python3", "ruby", "sh", "ssh", "sudo", "uv", "uvx", "xargs", "yarn", "zsh",
];
/// Hosts where anybody may have an account: what is allowed to go there may go to anybody.
const SHARED_HOSTS: &[&str] = &[
    "github",
    "gitlab",
    "github.com",
    "api.github.com",
    "gist.github.com",
    "uploads.github.com",
    "gitlab.com",
    "bitbucket.org",
];

/// The text of a policy that explains these runs, in whatever order they come.
pub fn learn(runs: &[&Report]) -> String {
    let steps = steps(runs);
    let mut names: BTreeSet<&StepKey> = BTreeSet::new();
    for report in runs {
        names.extend(report.job.steps.iter().map(|step| &step.key));
    }
    let unseen: Vec<&str> =
        names.iter().filter(|key| !steps.contains_key(*key)).map(|key| key.0.as_str()).collect();
    let mut text = format!(
        "# Rests on {}; steps never seen: {}.\n# Read it before you keep it: what a run did is not yet what it should do.\nversion: 1\n",
        rests_on(runs),
        if unseen.is_empty() { "none".to_owned() } else { unseen.join(", ") },
    );
    match steps.iter().next() {
        Some((_, lists)) if steps.len() == 1 => {
            text.push_str("defaults:\n");
            lists.write(&mut text, "  ");
        }
        _ => {
            text.push_str(if steps.is_empty() { "" } else { "steps:\n" });
            for (key, lists) in &steps {
                let _ = writeln!(text, "  {}:", quote(&key.0));
                lists.write(&mut text, "    ");
            }
        }
    }
    let open = open(&steps);
    if !open.is_empty() {
        text.push_str("# What stays open with it:\n");
        for line in open {
            let _ = writeln!(text, "#   {line}");
        }
    }
    let left_out: BTreeSet<String> = runs
        .iter()
        .flat_map(|report| &report.findings)
        .filter(|finding| is_about_an_act(finding))
        .map(told)
        .collect();
    if !left_out.is_empty() {
        text.push_str("# Left out, because it was found:\n");
        for line in left_out {
            let _ = writeln!(text, "#   {line}");
        }
    }
    text
}

/// What each step needed that did anything.
fn steps<'r>(runs: &[&'r Report]) -> BTreeMap<&'r StepKey, Lists> {
    let mut steps: BTreeMap<&StepKey, Lists> = BTreeMap::new();
    for report in runs {
        for step in report.steps.iter().filter(|step| step.key.is_real()) {
            if step.events.process + step.events.file + step.events.egress > 0 {
                steps.entry(&step.key).or_default().add(&step.needs, report.started);
            }
        }
    }
    steps
}

/// `1 run of 2026-11-25`, `3 runs, 2026-11-01 to 2026-11-25`.
fn rests_on(runs: &[&Report]) -> String {
    let days: BTreeSet<String> = runs.iter().map(|report| day(report.started)).collect();
    let days: Vec<&String> = days.iter().collect();
    let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    match days.as_slice() {
        [] => count,
        [one] => format!("{count} of {one}"),
        [first, .., last] => format!("{count}, {first} to {last}"),
    }
}

fn day(time: Timestamp) -> String {
    time.rfc3339().chars().take(10).collect()
}

/// What a tight list still lets through, each thing once.
fn open(steps: &BTreeMap<&StepKey, Lists>) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    let names = |of: fn(&Lists) -> &Items, known: &[&str]| -> Vec<String> {
        let items: BTreeSet<&String> = steps.values().flat_map(|lists| of(lists).keys()).collect();
        let is_known = |item: &&String| {
            let plain = item.rsplit('/').next().unwrap_or(item);
            let plain = plain.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
            known.contains(&item.as_str()) || known.contains(&plain)
        };
        items.into_iter().filter(is_known).map(|item| comment(item)).collect()
    };
    let programs = names(|lists| &lists.runs, OPEN_PROGRAMS);
    if !programs.is_empty() {
        open.insert(format!("run: {} run any text or program that they are given", programs.join(", ")));
    }
    let shared = names(|lists| &lists.network, SHARED_HOSTS);
    if !shared.is_empty() {
        open.insert(format!(
            "network: anybody may have an account at {}, and data can go there",
            shared.join(", ")
        ));
    }
    let all = || steps.values().flat_map(|lists| lists.network.keys());
    let is_address = |item: &&String| {
        let host = item.trim_start_matches("udp://").rsplit_once(':').map_or(item.as_str(), |(host, _)| host);
        host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
    };
    let addresses: BTreeSet<&String> = all().filter(is_address).collect();
    if !addresses.is_empty() {
        let addresses: Vec<String> = addresses.into_iter().map(|item| comment(item)).collect();
        open.insert(format!("network: {} may be somebody else's tomorrow", addresses.join(", ")));
    }
    if steps.values().any(|lists| lists.writes.contains_key("write ./**") || lists.writes.is_empty()) {
        open.insert(
            "files: everything in the workspace may be changed, .git and the workflows too".to_owned(),
        );
    }
    open
}

fn is_about_an_act(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::Attack | Kind::Policy | Kind::Divergence)
}

/// A word as it is where YAML takes it for a text.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quote(text) }
}

/// One line, whatever the names in it hold.
fn told(finding: &Finding) -> String {
    format!("{}: {}", finding.rule, comment(&finding.title))
}

fn comment(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect()
}

impl Lists {
    fn add(&mut self, needs: &Needs, at: Timestamp) {
        self.seen_in += 1;
        self.is_cut |= needs.is_cut;
        for (item, reasons) in &needs.network {
            self.network.entry(item.clone()).or_default().needed(reasons, at);
        }
        for (items, lists) in [(&needs.writes, &mut self.writes), (&needs.runs, &mut self.runs)] {
            for item in items {
                lists.entry(item.clone()).or_default().needed(&BTreeSet::new(), at);
            }
        }
    }

    fn write(&self, text: &mut String, indent: &str) {
        if self.network.is_empty() {
            let _ = writeln!(text, "{indent}network: {{allow: []}}  # it talked to nobody");
        } else {
            self.list(text, indent, "network", &self.network);
        }
        if self.writes.is_empty() {
            let _ = writeln!(text, "{indent}files: {{allow: [\"write ./**\"]}}  # it changed nothing");
        } else {
            self.list(text, indent, "files", &self.writes);
        }
        if !self.runs.is_empty() {
            self.list(text, indent, "run", &self.runs);
        }
        if self.is_cut {
            let _ = writeln!(text, "{indent}# More than fits was needed; the lists above are cut.");
        }
    }

    fn list(&self, text: &mut String, indent: &str, plane: &str, items: &Items) {
        let _ = writeln!(text, "{indent}{plane}:\n{indent}  allow:");
        for (name, item) in items {
            let remark = self.remark(item);
            let _ = writeln!(text, "{indent}    - {}{remark}", scalar(name));
        }
    }

    /// Why an item is there, and on how many runs it rests.
    fn remark(&self, item: &Item) -> String {
        let mut remarks: Vec<String> = item.reasons.iter().map(|reason| comment(reason)).collect();
        if self.seen_in > 1 {
            remarks.push(format!("in {} of {} runs, last {}", item.runs, self.seen_in, day(item.last)));
        }
        if remarks.is_empty() { String::new() } else { format!("  # {}", remarks.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::finding::FailOn;
    use crate::policy::Policy;
    use crate::trace;

    /// What a policy learned from a trace finds when it judges that trace: rule and object.
    fn judged(step: &str, trace: &str) -> (String, Vec<String>) {
        let learned = super::learn(&[&trace::report(step, "", trace)]);
        let policy =
            Policy::parse(&learned, "learned.yml").unwrap_or_else(|error| panic!("{error}\n{learned}"));
        assert_eq!(policy.fail_on(), None::<FailOn>);
        let mut found = trace::findings(step, &learned, trace);
        found.retain(|finding| finding.contains(" policy ") || finding.contains(" attack "));
        (learned, found)
    }

    #[test]
    fn what_was_learned_covers_the_run_and_nothing_that_was_found() {
        let (learned, found) = judged(
            "npm ci\n./tool.sh\n",
            "answer packages.example 203.0.113.9
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 connect 203.0.113.9:443
             2 create ~/.npm/_cacache/x
             2 create /w/node_modules/a
             2 > 3 launch /usr/bin/node node setup.js
             3 connect 203.0.113.7:8443
             1 > 4 launch /w/tool.sh ./tool.sh
             4 create /tmp/x/y",
        );
        for line in [
            "    - node  # npm: packages.example",
            "    - \"write ~/.npm/**\"",
            "    - \"./tool.sh\"",
            "    - node",
        ] {
            assert!(
                learned.lines().any(|known| known.trim_start() == line.trim_start()),
                "{line}\n{learned}"
            );
        }
        assert!(learned.contains("#   egress-undeclared: node connected to 203.0.113.7:8443"), "{learned}");
        // Only what was left out is found.
        assert_eq!(found, ["!egress-undeclared attack high 203.0.113.7:8443"], "{learned}");
    }

    #[test]
    fn a_step_that_did_nothing_special_gets_short_lists() {
        let (learned, found) = judged("true\n", "1 > 2 launch /usr/bin/true true");
        assert_eq!(
            learned,
            "# Rests on 1 run of 2027-01-15; steps never seen: none.\n# Read it before you keep it: what a run did is not yet what it should do.\nversion: 1\ndefaults:\n  network: {allow: []}  # it talked to nobody\n  files: {allow: [\"write ./**\"]}  # it changed nothing\n  run:\n    allow:\n      - \"true\"\n# What stays open with it:\n#   files: everything in the workspace may be changed, .git and the workflows too\n"
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn runs_are_joined_and_what_not_all_needed_is_marked() {
        let one = trace::report("true\n", "", "1 > 2 launch /usr/bin/true true");
        let two =
            trace::report("true\nid\n", "", "1 > 2 launch /usr/bin/true true\n1 > 3 launch /usr/bin/id id");
        let learned = super::learn(&[&one, &two]);
        assert!(learned.starts_with("# Rests on 2 runs"), "{learned}");
        for line in ["      - id  # in 1 of 2 runs, last ", "      - \"true\"  # in 2 of 2 runs, last "] {
            assert!(learned.contains(line), "{line}\n{learned}");
        }
        assert_eq!(learned, super::learn(&[&two, &one]), "in whatever order they come");
    }

    #[test]
    fn what_a_tight_list_still_lets_through_is_said() {
        let (learned, found) = judged(
            "npm ci\ncurl https://api.github.com/x https://203.0.113.9/\n",
            "answer api.github.com 203.0.113.8
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             1 > 3 launch /usr/bin/curl curl https://api.github.com/x https://203.0.113.9/
             3 connect 203.0.113.8:443
             3 connect 203.0.113.9:443",
        );
        for line in [
            "#   run: node run any text",
            "#   network: anybody may have an account at api.github.com",
            "#   network: 203.0.113.9:443 may be somebody else's tomorrow",
        ] {
            assert!(learned.contains(line), "{line}\n{learned}");
        }
        assert!(!learned.contains("*.github.com") && found.is_empty(), "{learned} {found:?}");
    }
}
