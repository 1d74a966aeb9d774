//! Known differences worth a finding: one file each, listed in [`all`].
//!
//! A rule sees behaviour (lineage, objects, order), never names of scenarios.
//! The `//!` comment that opens a rule's file is its page: `edamame-guard rules ID`.

use crate::finding::{Confidence, RuleId, Severity, Technique};

/// One rule: what it is called, how much it weighs, and its page.
#[derive(Debug)]
pub struct Detection {
    pub id: RuleId,
    pub severity: Severity,
    pub confidence: Confidence,
    pub techniques: &'static [Technique],
    /// CVE and GHSA ids of incidents with this behaviour.
    pub references: &'static [&'static str],
    /// OWASP CICD-SEC and Agentic items.
    pub frameworks: &'static [&'static str],
    /// What to do, in one sentence.
    pub remedy: &'static str,
    /// The rule's own file; the comment that opens it is the page.
    pub source: &'static str,
}

impl Detection {
    /// The rule's page as Markdown: the `//!` comment of its file.
    pub fn page(&self) -> String {
        let mut page = String::new();
        for line in self.source.lines().map_while(|line| line.strip_prefix("//!")) {
            page.push_str(line.strip_prefix(' ').unwrap_or(line));
            page.push('\n');
        }
        page
    }

    /// The page's first sentence, without its period.
    pub fn summary(&self) -> String {
        let page = self.page();
        let first = page.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        first.trim().trim_end_matches('.').to_owned()
    }
}
