//! The rules' documentation: one page each, and what they cover, made of the rules themselves.
//!
//! `UPDATE_GOLDENS=1 cargo test --test rules` writes `docs/rules/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use edamame_guard::detections::{self, Detection};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/rules")
}

/// Every file of `docs/rules/`.
fn wanted() -> BTreeMap<String, String> {
    let pages = detections::all().iter().map(|rule| (format!("{}.md", rule.id), rule.document()));
    pages.chain([("README.md".to_owned(), overview())]).collect()
}

fn overview() -> String {
    let mut text = "# Rules\n\nMade from the rules themselves by `UPDATE_GOLDENS=1 cargo test --test rules`; don't edit it here. \
        `edamame-guard rules ID` prints the same pages.\n\n| rule | severity | confidence | finds |\n|---|---|---|---|\n"
        .to_owned();
    for rule in detections::all() {
        writeln!(
            text,
            "| [{0}]({0}.md) | {1} | {2} | {3} |",
            rule.id,
            rule.severity.as_str(),
            rule.confidence.as_str(),
            rule.summary()
        )
        .expect("text");
    }
    let techniques = |rule: &Detection| rule.techniques.iter().map(|technique| technique.0).collect();
    let items = |rule: &Detection| rule.frameworks.to_vec();
    let incidents = |rule: &Detection| rule.references.to_vec();
    text += "\nThe weights are where a rule begins; a finding says its own. What a rule covers is behaviour that such an attack shows on \
        the host. It is no claim that every variant is found: each page names its limits.\n";
    table(&mut text, "ATT&CK technique", techniques);
    table(&mut text, "CVE or GHSA", incidents);
    table(&mut text, "OWASP item (CICD-SEC, Agentic)", items);
    text
}

fn table(text: &mut String, title: &str, of: fn(&Detection) -> Vec<&'static str>) {
    let mut rows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in detections::all() {
        for item in of(rule) {
            rows.entry(item).or_default().insert(rule.id.0);
        }
    }
    write!(text, "\n## By {title}\n\n| {title} | rules |\n|---|---|\n").expect("text");
    for (item, rules) in rows {
        let links: Vec<String> = rules.iter().map(|rule| format!("[{rule}]({rule}.md)")).collect();
        writeln!(text, "| {item} | {} |", links.join(", ")).expect("text");
    }
}

#[test]
fn the_committed_pages_are_the_rules_own() {
    let wanted = wanted();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::create_dir_all(folder()).expect("docs/rules");
        for (name, text) in &wanted {
            fs::write(folder().join(name), text).expect("written");
        }
    }
    let hint = "UPDATE_GOLDENS=1 cargo test --test rules";
    let there: BTreeSet<String> = fs::read_dir(folder())
        .expect("docs/rules")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, wanted.keys().cloned().collect(), "{hint}");
    for (name, text) in &wanted {
        let committed = fs::read_to_string(folder().join(name)).expect("a page");
        assert!(committed == *text, "docs/rules/{name} is out of date: {hint}");
    }
}

#[test]
fn every_page_says_what_why_what_to_do_and_what_not() {
    for rule in detections::all().iter().filter(|rule| !rule.id.0.starts_with("coverage-")) {
        let page = rule.page();
        for section in ["## What it sees\n", "## Why it matters\n", "## What to do\n", "## Known limits\n"] {
            assert!(page.contains(section), "{} lacks {section}", rule.id);
        }
        assert!(
            !rule.remedy.is_empty() && rule.source.contains("mod tests")
                // The engine speaks for these, and has their tests.
                || rule.source.contains("check: nothing"),
            "{}",
            rule.id
        );
        for incident in rule.references {
            assert!(incident.starts_with("CVE-") || incident.starts_with("GHSA-"), "{}: {incident}", rule.id);
        }
    }
}
