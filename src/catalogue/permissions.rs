//! What changes a repository on the server, and the scope of a token that it needs.

use std::sync::LazyLock;

use serde::Deserialize;

/// One way to change something there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// File name of the program.
    pub program: String,
    /// Words behind its name, each with its equals.
    words: Vec<String>,
    /// As `permissions:` names it.
    pub scope: String,
    /// What it did, as a sentence says it.
    pub verb: String,
    /// The one host that the scope is about, where the program talks to others as well.
    #[serde(default)]
    pub only: Option<String>,
}

static CHANGES: LazyLock<Vec<Change>> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("permissions.yml"))
        .unwrap_or_else(|error| panic!("catalogue/permissions.yml: {error}"))
});

/// What a program called like one of these names does with these words, its options left out.
pub fn change(names: &[&str], words: &[&str]) -> Option<&'static Change> {
    CHANGES.iter().find(|change| {
        let fits = |(wanted, word): (&String, &&str)| wanted.split('|').any(|known| known == *word);
        names.contains(&change.program.as_str())
            && words.len() >= change.words.len()
            && change.words.iter().zip(words).all(fits)
    })
}

#[test]
fn words_choose_the_scope() {
    let scope = |name, words: &[&str]| change(&[name], words).map(|change| change.scope.as_str());
    assert_eq!(scope("git", &["push", "origin", "main"]), Some("contents"));
    assert_eq!(scope("gh", &["release", "upload", "v1"]), Some("contents"));
    assert_eq!(scope("gh", &["pr", "merge", "7"]), Some("pull-requests"));
    assert_eq!(scope("git", &["fetch"]), None);
    assert_eq!(scope("gh", &["release", "view"]), None);
    assert_eq!(scope("gh", &["release"]), None);
    assert_eq!(scope("other", &["push"]), None);
}
