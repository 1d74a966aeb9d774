//! A policy from what runs did, to read, shorten and keep.
//!
//! It lists what was done and not found fault with. What a finding named is left out and said in a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::lock::quote;
use crate::finding::{Finding, Kind, Needs, Report};
use crate::job::StepKey;

/// One list of one step: item, then its reasons, and in how many runs it was needed.
type Items = BTreeMap<String, (BTreeSet<String>, usize)>;

#[derive(Default)]
struct Lists {
    network: Items,
    writes: Items,
    runs: Items,
    seen_in: usize,
    is_cut: bool,
}

/// The text of a policy that explains these runs. The same runs in the same order give the same text.
pub fn learn(runs: &[&Report]) -> String {
    let mut steps: BTreeMap<&StepKey, Lists> = BTreeMap::new();
    let mut names: BTreeSet<&StepKey> = BTreeSet::new();
    for report in runs {
        names.extend(report.job.steps.iter().map(|step| &step.key));
        for step in report.steps.iter().filter(|step| step.key.is_real()) {
            if step.events.process + step.events.file + step.events.egress > 0 {
                steps.entry(&step.key).or_default().add(&step.needs);
            }
        }
    }
    let unseen: Vec<&str> =
        names.iter().filter(|key| !steps.contains_key(*key)).map(|key| key.0.as_str()).collect();
    let mut text = format!(
        "# Rests on {}; steps never seen: {}.\n# Read it before you keep it: what a run did is not yet what it should do.\nversion: 1\n",
        if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) },
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
    fn add(&mut self, needs: &Needs) {
        self.seen_in += 1;
        self.is_cut |= needs.is_cut;
        for (item, reasons) in &needs.network {
            let entry = self.network.entry(item.clone()).or_default();
            entry.0.extend(reasons.iter().cloned());
            entry.1 += 1;
        }
        for (items, lists) in [(&needs.writes, &mut self.writes), (&needs.runs, &mut self.runs)] {
            for item in items {
                lists.entry(item.clone()).or_default().1 += 1;
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
        for (item, (reasons, runs)) in items {
            let mut remarks: Vec<String> = reasons.iter().map(|reason| comment(reason)).collect();
            if *runs < self.seen_in {
                remarks.push(format!("in {runs} of {} runs", self.seen_in));
            }
            let remark =
                if remarks.is_empty() { String::new() } else { format!("  # {}", remarks.join(", ")) };
            let _ = writeln!(text, "{indent}    - {}{remark}", scalar(item));
        }
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
        found.retain(|finding| finding.contains(" policy "));
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
        assert_eq!(found, ["!egress-undeclared policy medium 203.0.113.7:8443"], "{learned}");
    }

    #[test]
    fn a_step_that_did_nothing_special_gets_short_lists() {
        let (learned, found) = judged("true\n", "1 > 2 launch /usr/bin/true true");
        assert_eq!(
            learned,
            "# Rests on 1 run; steps never seen: none.\n# Read it before you keep it: what a run did is not yet what it should do.\nversion: 1\ndefaults:\n  network: {allow: []}  # it talked to nobody\n  files: {allow: [\"write ./**\"]}  # it changed nothing\n  run:\n    allow:\n      - \"true\"\n"
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
        assert!(learned.contains("      - id  # in 1 of 2 runs\n      - \"true\"\n"), "{learned}");
    }
}
