//! The JSON Schema of a policy: it is what the parser takes, and an independent validator agrees.

use std::fs;
use std::path::{Path, PathBuf};

use edamame_guard::policy::{Policy, schema};
use jsonschema::Validator;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "the schema is one");
    jsonschema::validator_for(&schema).expect("it compiles")
}

fn tree(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Policies of the repository: those we ship, and those of the recorded jobs.
fn written() -> Vec<PathBuf> {
    let files = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let jobs =
        files(root().join("fixtures")).into_iter().map(|job| job.join("job/workspace/.github/guard.yml"));
    let shipped = files(root().join("policies"));
    let shipped =
        shipped.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yml"));
    jobs.filter(|path| path.exists()).chain(shipped).collect()
}

#[test]
fn the_committed_schema_is_the_parsers() {
    let path = root().join("policies/schema.json");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, schema()).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema(),
        "policies/schema.json is out of date: UPDATE_GOLDENS=1 cargo test --test schema"
    );
}

#[test]
fn every_policy_of_the_repository_is_valid_and_names_the_schema() {
    let validator = validator();
    let policies = written();
    assert!(policies.len() >= 8, "{policies:?}");
    for path in policies {
        let text = fs::read_to_string(&path).expect("a policy");
        Policy::parse(&text, "x").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let told: Vec<String> = validator.iter_errors(&tree(&text)).map(|error| error.to_string()).collect();
        assert!(told.is_empty(), "{}: {told:?}", path.display());
        if path.parent().is_some_and(|folder| folder.ends_with("policies")) {
            assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{}", path.display());
        }
    }
}

/// Every block of the documentation is a policy that both take.
#[test]
fn the_documented_policies_are_valid() {
    let validator = validator();
    let page = fs::read_to_string(root().join("docs/policy.md")).expect("the page");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    for block in blocks.filter(|block| block.starts_with("version:")) {
        Policy::parse(block, "x").unwrap_or_else(|error| panic!("{error}"));
        assert!(validator.is_valid(&tree(block)), "{block}");
    }
}

#[test]
fn parser_and_schema_refuse_alike() {
    let validator = validator();
    let good = [
        "defaults: {network: {allow: [github, \"*.a.example:8443\", \"10.0.0.0/8:5432\", \"2001:db8::1\", \"[2001:db8::/32]:443\", \"udp://ntp.example:123\"], deny: []}}",
        "defaults: {files: {allow: any, deny: [{match: \"read ~/.ssh/**\", except: [\"~/.ssh/config\"]}, \"write /etc/**\"]}}",
        "defaults: {run: {allow: [git, \"git push origin *\", ./tools/*, \"git*\"]}}",
        "steps: {\"*/test\": {inherit: false, task: Tests}, \"a/b/c\": {run: {allow: []}}}",
        "agents: {claude-code: {run: {deny: [\"npm publish *\"]}}}",
        "except: [{rule: posture-sudoers, reason: known, until: 2027-01-31}]",
    ];
    let bad = [
        "mode: enforce",
        "mode: [audit]",
        "fail-on: severe",
        "intent: [\"Not An Id\"]",
        "odd: 1",
        "defaults: {network: {alow: []}}",
        "defaults: {network: {allow: everything}}",
        "defaults: {network: {allow: [any]}}",
        "defaults: {network: {allow: [githib]}}",
        "defaults: {network: {allow: [\"https://a.example/\"]}}",
        "defaults: {network: {allow: [\"a.example b.example\"]}}",
        "defaults: {files: {allow: [./out]}}",
        "defaults: {files: {allow: [\"delete ./out\"]}}",
        "defaults: {files: {allow: [\"write out/**\"]}}",
        "defaults: {files: {allow: [{match: \"read ./**\"}]}}",
        "defaults: {files: {deny: [{except: [\"~/x\"]}]}}",
        "defaults: {run: {allow: [\"*\"]}}",
        "defaults: {run: {allow: [\"sha256:12\"]}}",
        "defaults: {run: {allow: [1]}}",
        "defaults: {inherit: false}",
        "steps: {test: {}}",
        "steps: {\"a/**\": {}}",
        "steps: {\"a/b\": {inherit: maybe}}",
        "agents: {\"Claude Code\": {}}",
        "secrets: [vault/**]",
        "except: [{rule: egress-undeclared}]",
        "except: [{rule: egress-undeclard, reason: x}]",
        "except: [{rule: egress-undeclared, reason: x, until: soon}]",
        "except: {rule: egress-undeclared}",
    ];
    for (bodies, is_good) in [(&good[..], true), (&bad[..], false)] {
        for body in bodies {
            let text = format!("version: 1\n{body}\n");
            assert_eq!(Policy::parse(&text, "x").is_ok(), is_good, "the parser on {body}");
            assert_eq!(validator.is_valid(&tree(&text)), is_good, "the schema on {body}");
        }
    }
    for text in ["mode: audit\n", "version: 2\n", "- version: 1\n"] {
        assert!(Policy::parse(text, "x").is_err() && !validator.is_valid(&tree(text)), "{text}");
    }
}
