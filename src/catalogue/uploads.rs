//! What carries data away with an account of its user's.

use std::sync::LazyLock;

use serde::Deserialize;

/// One way to do so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// File name of the program.
    pub program: String,
    /// Words behind its name, each with its equals.
    words: Vec<String>,
    /// Where only some options make it an upload, those; a `*` at the end stands for any rest.
    #[serde(default)]
    options: Vec<String>,
    /// Others install what is sent.
    #[serde(default)]
    pub publishes: bool,
    /// What it did, as a sentence says it.
    pub verb: String,
}

static UPLOADS: LazyLock<Vec<Upload>> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("uploads.yml"))
        .unwrap_or_else(|error| panic!("catalogue/uploads.yml: {error}"))
});

impl Upload {
    /// As a finding names it, the same tomorrow: the program, its words, and where git pushes.
    pub fn named(&self, words: &[&str]) -> String {
        let to = |word: &str| {
            let target = word.rsplit_once(':').filter(|(_, to)| !to.starts_with("//"));
            target.map_or(word, |(_, to)| to).to_owned()
        };
        let more = if self.program == "git" { 3 } else { 0 };
        let words = words.iter().take(self.words.len() + more).enumerate();
        let shown = words.map(|(at, word)| if at > 1 { to(word) } else { (*word).to_owned() });
        std::iter::once(self.program.clone()).chain(shown).collect::<Vec<_>>().join(" ")
    }
}

/// What a program called like one of these names does with these words, which are `arguments` without options.
pub fn upload(names: &[&str], words: &[&str], arguments: &[String]) -> Option<&'static Upload> {
    let is_option = |wanted: &String| {
        arguments.iter().any(|argument| match wanted.strip_suffix('*') {
            Some(start) => argument.starts_with(start),
            // `-d@file` and `--json=…` as well.
            None => {
                argument == wanted
                    || (wanted.len() == 2 && argument.starts_with(wanted.as_str()))
                    || argument.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('='))
            }
        })
    };
    UPLOADS.iter().find(|upload| {
        let fits = |(wanted, word): (&String, &&str)| wanted.split('|').any(|known| known == *word);
        names.contains(&upload.program.as_str())
            && words.len() >= upload.words.len()
            && upload.words.iter().zip(words).all(fits)
            && (upload.options.is_empty() || upload.options.iter().any(is_option))
    })
}

#[test]
fn words_and_options_make_an_upload() {
    let verb = |name, line: &str| {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with('-')).collect();
        upload(&[name], &words, &arguments).map(|upload| upload.verb.as_str())
    };
    assert_eq!(verb("git", "push origin main"), Some("pushed"));
    assert_eq!(verb("gh", "gist create -"), Some("put up a note"));
    assert_eq!(verb("gh", "api /gists -f files=x"), Some("wrote to the forge"));
    assert_eq!(verb("curl", "-sd@x https://h.example"), None, "bundled options are not taken apart");
    assert_eq!(verb("curl", "-d@x https://h.example"), Some("sent data"));
    assert_eq!(verb("curl", "--data-binary @- https://h.example"), Some("sent data"));
    for (name, line) in [
        ("git", "fetch"),
        ("gh", "api /user"),
        ("gh", "pr view 1"),
        ("curl", "-fsSL https://h.example"),
        ("npm", "ci"),
    ] {
        assert_eq!(verb(name, line), None, "{name} {line}");
    }
}
