//! The plain wildcards of step keys, exceptions and words.

/// `?` is one character and `*` any number, both but `/`; `**` crosses it. Nothing else is special.
pub(super) fn wild(pattern: &str, text: &str) -> bool {
    // One row per character of the pattern: no backtracking, so no pattern is slow.
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut pattern = pattern.chars().peekable();
    while let Some(letter) = pattern.next() {
        let mut next = vec![false; text.len() + 1];
        if letter == '*' {
            let crosses = pattern.next_if_eq(&'*').is_some();
            next[0] = reached[0];
            for (index, found) in text.iter().enumerate() {
                next[index + 1] = reached[index + 1] || (next[index] && (crosses || *found != '/'));
            }
        } else {
            for (index, found) in text.iter().enumerate() {
                next[index + 1] = reached[index] && (letter == *found || (letter == '?' && *found != '/'));
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[test]
fn stays_within_a_segment() {
    for (pattern, text, expected) in [
        ("build/test", "build/test", true),
        ("build/*", "build/test", true),
        ("build/*", "build/a/b", false),
        ("*/test", "build/test", true),
        ("*", "build/test", false),
        ("build/t?st", "build/test", true),
        ("build?test", "build/test", false),
        ("build/**", "build/a/b", true),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbY", false),
        ("[x]", "[x]", true),
        ("[x]", "x", false),
        ("", "", true),
        ("*", "", true),
    ] {
        assert_eq!(wild(pattern, text), expected, "{pattern} {text}");
    }
}
