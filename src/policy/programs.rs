//! Programs as a policy writes them: a name, a path, a digest, or a name with words after it.

use super::Program;
use super::paths::PathGlob;
use super::problem::{Complaint, shown};
use super::wild::wild;
use crate::commands::beginnings;
use crate::event::is_multi_call;

/// One program of an allow or deny list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunRule {
    pub image: Image,
    /// Words after the program; `None` when it may have any.
    words: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// A basename, `*` and `?` allowed.
    Name(String),
    Path(PathGlob),
    Digest(String),
}

impl RunRule {
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        if text.chars().any(char::is_control) || text.len() > 4096 {
            return Err(Complaint::new(format!(
                "`{}` is not a program: it is too long or holds a control character",
                shown(text)
            )));
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let Some(first) = words.next() else {
            return Err(Complaint::new("a program's name is empty"));
        };
        let words: Vec<String> = words.map(str::to_owned).collect();
        Ok(Self { image: Image::parse(first)?, words: (!words.is_empty()).then_some(words) })
    }

    /// Whether an allow list with this rule names the program. A name says nothing about a file that
    /// the job itself put there; a path or digest does.
    pub fn allows(&self, program: &Program<'_>, is_path: impl Fn(&str) -> bool) -> bool {
        let image = match &self.image {
            Image::Name(name) => !program.placed_by_job && names(program).any(|known| is_name(name, known)),
            Image::Path(_) => is_at(program, is_path),
            Image::Digest(digest) => program.sha256.is_some_and(|known| known.eq_ignore_ascii_case(digest)),
        };
        image
            && self.words.as_deref().is_none_or(|words| {
                let is_whole = matches!(&self.image, Image::Name(name) if is_multi_call(name));
                let rest = if is_whole { program.arguments.get(1..) } else { starts(program).next() };
                rest.is_some_and(|rest| covers(words, rest, true))
            })
    }

    /// Whether each program that `other` names is one that this names.
    pub fn covers(&self, other: &Self) -> bool {
        let image = match (&self.image, &other.image) {
            (Image::Name(own), Image::Name(name)) => {
                // A name of `SAME` means other files as well.
                let is_one = !name.contains(['*', '?']) && !SAME.iter().any(|(same, _)| same == name);
                own == name || (is_one && wild(own, name))
            }
            (Image::Path(own), Image::Path(other)) => own.covers(other),
            (own, other) => own == other,
        };
        image && (self.words.is_none() || self.words == other.words)
    }

    /// Whether a deny list with this rule names the program, whoever placed it. Words are a beginning:
    /// `npm publish` also denies `npm publish --tag next`.
    pub fn denies(&self, program: &Program<'_>, is_path: impl Fn(&str) -> bool) -> bool {
        let image = match &self.image {
            Image::Name(name) => names(program).any(|known| is_name(name, known)),
            Image::Path(_) => is_at(program, is_path),
            Image::Digest(digest) => program.sha256.is_some_and(|known| known.eq_ignore_ascii_case(digest)),
        };
        image
            && self.words.as_deref().is_none_or(|words| {
                starts(program).any(|rest| {
                    // `git push` is `git -C app push` too.
                    covers(words, rest, false)
                        || names(program)
                            .flat_map(|name| beginnings(name, rest))
                            .any(|at| covers(words, rest.get(at..).unwrap_or_default(), false))
                })
            })
    }
}

impl Image {
    fn parse(text: &str) -> Result<Self, Complaint> {
        if let Some(digest) = text.strip_prefix("sha256:") {
            return if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                Ok(Self::Digest(digest.to_ascii_lowercase()))
            } else {
                Err(Complaint::new(format!("`{}` is not a digest", shown(text)))
                    .hint("`sha256:` and 64 hex digits"))
            };
        }
        if text.contains('/') {
            return PathGlob::parse(text).map(Self::Path);
        }
        if text.bytes().all(|byte| byte == b'*') {
            return Err(Complaint::new(format!("`{}` would name every program", shown(text)))
                .hint("to lift the restriction write `allow: any`"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// Names that lead to another file on common systems, where the link was not looked up.
const SAME: &[(&str, &[&str])] = &[
    ("sh", &["dash"]),
    ("awk", &["mawk", "gawk"]),
    ("python", &["python3", "python3.*"]),
    ("python3", &["python3.*"]),
    ("npm", &["npm-cli.js"]),
    ("npx", &["npx-cli.js"]),
    ("yarn", &["yarn.js"]),
    ("pnpm", &["pnpm.cjs"]),
];

fn is_name(pattern: &str, known: &str) -> bool {
    wild(pattern, known)
        || SAME.iter().any(|(name, real)| *name == pattern && real.iter().any(|real| wild(real, known)))
}

fn is_at(program: &Program<'_>, is_path: impl Fn(&str) -> bool) -> bool {
    is_path(program.path) || program.aliases.iter().any(|alias| is_path(alias))
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn names<'p>(program: &'p Program<'_>) -> impl Iterator<Item = &'p str> {
    std::iter::once(program.path).chain(program.aliases.iter().map(String::as_str)).map(basename)
}

/// Where the words after the program may begin, likeliest first. For a `#!` file the kernel puts the
/// interpreter (and its argument) before it.
fn starts<'p>(program: &'p Program<'_>) -> impl Iterator<Item = &'p [String]> {
    let is_program = |word: &String| names(program).any(|name| name == basename(word));
    let shebang = match program.arguments {
        // `busybox wget`: the applet is the program.
        [first, second, ..] if is_program(first) && is_multi_call(basename(first)) && is_program(second) => {
            Some(1)
        }
        [first, ..] if is_program(first) => None,
        arguments => arguments.iter().take(5).position(is_program),
    };
    shebang
        .into_iter()
        .chain(std::iter::once(0))
        .map(|index| program.arguments.get(index + 1..).unwrap_or_default())
}

/// Words against patterns: `*` and `?` within a word; a last `*` alone is any number of further words.
fn covers(patterns: &[String], words: &[String], is_whole: bool) -> bool {
    let (patterns, is_open) = match patterns.split_last() {
        Some((last, rest)) if last == "*" => (rest, true),
        _ => (patterns, !is_whole),
    };
    words.len() >= patterns.len()
        && (is_open || words.len() == patterns.len())
        && patterns.iter().zip(words).all(|(pattern, word)| wild(&pattern.replace('*', "**"), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rule: &str, path: &str, arguments: &str, placed_by_job: bool) -> (bool, bool) {
        let rule = RunRule::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error:?}"));
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let program = Program { path, aliases: &[], arguments: &arguments, placed_by_job, sha256: None };
        let is_path = |path: &str| matches!(&rule.image, Image::Path(glob) if *glob == PathGlob::parse(path).expect("a path"));
        (rule.allows(&program, is_path), rule.denies(&program, is_path))
    }

    #[test]
    fn matches_programs_and_words() {
        for (rule, path, arguments, placed, allows, denies) in [
            ("git", "/usr/bin/git", "git push", false, true, true),
            ("git", "/usr/bin/git", "git push", true, false, true),
            ("git", "/usr/bin/gitk", "gitk", false, false, false),
            ("git", "/usr/bin/curl", "git push", false, false, false),
            ("git*", "/usr/bin/gitk", "gitk", false, true, true),
            ("sh", "/usr/bin/dash", "sh -c x", false, true, true),
            ("npm", "/usr/lib/node_modules/npm/bin/npm-cli.js", "node /usr/bin/npm ci", false, true, true),
            ("python3", "/usr/bin/python3.11", "python3 x.py", false, true, true),
            ("/usr/bin/git", "/usr/bin/git", "git push", true, true, true),
            ("/usr/bin/git", "/tmp/git", "git push", true, false, false),
            ("git push origin *", "/usr/bin/git", "git push origin main", false, true, true),
            ("git push origin *", "/usr/bin/git", "git push origin main --force", false, true, true),
            ("git push origin *", "/usr/bin/git", "git push origin", false, true, true),
            ("git push origin *", "/usr/bin/git", "git push other main", false, false, false),
            ("git push origin", "/usr/bin/git", "git push origin main", false, false, true),
            ("git push * main", "/usr/bin/git", "git push origin main", false, true, true),
            ("git push * main", "/usr/bin/git", "git push a b main", false, false, false),
            ("npm publish *", "/opt/npm", "node /opt/npm publish --tag x", false, true, true),
            ("npm publish *", "/opt/npm", "/usr/bin/env node /opt/npm publish", false, true, true),
            ("npm publish *", "/opt/npm", "node /opt/npm ci publish", false, false, false),
            ("curl https://a.example/*", "/usr/bin/curl", "curl https://a.example/b/c", false, true, true),
            ("npm publish *", "/opt/npm", "x npm publish", false, true, true),
            ("git push", "/usr/bin/git", "git -C app push", false, false, true),
            ("git push", "/usr/bin/git", "git -c a=b --no-pager -C x push origin", false, false, true),
            ("git push", "/usr/bin/git", "git --unheard-of x push", false, false, true),
            ("git push", "/usr/bin/git", "git -C push status", false, false, false),
            ("git push", "/usr/bin/git", "git commit -m push", false, false, false),
        ] {
            assert_eq!(
                judge(rule, path, arguments, placed),
                (allows, denies),
                "{rule} | {path} | {arguments} | {placed}"
            );
        }
    }

    #[test]
    fn a_digest_names_the_very_file() {
        let digest = "ab".repeat(32);
        let rule = RunRule::parse(&format!("sha256:{}", digest.to_uppercase())).expect("a digest");
        let program =
            |sha256| Program { path: "/x", aliases: &[], arguments: &[], placed_by_job: true, sha256 };
        assert!(rule.allows(&program(Some(&digest)), |_| false));
        assert!(!rule.allows(&program(None), |_| false));
    }

    #[test]
    fn refuses_what_is_no_program() {
        for (text, message) in [
            ("", "empty"),
            ("*", "every program"),
            ("sha256:12", "not a digest"),
            ("bin/tool", "must start with"),
            ("a\nb", "control character"),
        ] {
            let complaint = RunRule::parse(text).expect_err(text);
            assert!(complaint.message.contains(message), "{text}: {}", complaint.message);
        }
    }
}
