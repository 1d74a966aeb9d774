//! Compares what the guard reported with what the demo knows to have happened.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

/// One thing that has to hold, and whether it did.
#[derive(Debug)]
pub struct Claim {
    pub text: String,
    /// What was seen instead.
    pub miss: Option<String>,
}

impl Claim {
    pub fn new(text: impl Into<String>, holds: bool, seen: impl FnOnce() -> String) -> Self {
        Self { text: text.into(), miss: (!holds).then(seen) }
    }
}

/// The findings of a report directory.
#[derive(Debug)]
pub struct Findings(Vec<Value>);

impl Findings {
    pub fn read(report: &Path) -> Result<Self, String> {
        let path = report.join("findings.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut report: Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        match report["findings"].take() {
            Value::Array(findings) => Ok(Self(findings)),
            _ => Err(format!("{}: no list `findings`", path.display())),
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether a finding that fails the job, with at least so many ancestors, is about this path or address.
    pub fn has_failing(&self, subject: &str, ancestors: usize) -> bool {
        self.0.iter().any(|finding| {
            finding["fails"] == Value::Bool(true)
                && finding["process"]["ancestry"].as_array().map_or(0, Vec::len) >= ancestors
                // The arguments would name it whoever did it, so they don't count.
                && ["object", "title"].iter().any(|field| names(finding[field].as_str(), subject))
        })
    }

    /// One line for each finding.
    pub fn listing(&self) -> String {
        if self.0.is_empty() {
            return "no finding".to_owned();
        }
        let line = |finding: &Value| {
            let text = |field: &str| finding[field].as_str().unwrap_or("?").to_owned();
            let ancestors = finding["process"]["ancestry"].as_array().map_or(0, Vec::len);
            format!(
                "{} on `{}` (fails: {}, ancestors: {ancestors}): {}",
                text("rule"),
                text("object"),
                finding["fails"],
                text("title")
            )
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n    ")
    }
}

/// `203.0.113.7:80` is not named by `203.0.113.7:8080`, nor `/a/b` by `/a/bc`.
fn names(text: Option<&str>, subject: &str) -> bool {
    let Some(text) = text else { return false };
    let is_word = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
    text.match_indices(subject).any(|(start, _)| {
        !text[..start].ends_with(is_word) && !text[start + subject.len()..].starts_with(is_word)
    })
}

/// The files below `folder` that hold a secret, as it is or in base64.
pub fn leaks(folder: &Path, secrets: &[String]) -> io::Result<Vec<String>> {
    let needles: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| spellings(secret)).collect();
    let mut leaking = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let contents = fs::read(entry.path())?;
                if needles.iter().any(|needle| contains(&contents, needle)) {
                    leaking.push(entry.path().display().to_string());
                }
            }
        }
    }
    Ok(leaking)
}

pub fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// The secret, and what of its base64 doesn't depend on the bytes around it, at each of the three offsets.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let mut spellings = vec![secret.as_bytes().to_vec()];
    for (offset, unsure) in [(0, 0), (1, 2), (2, 3)] {
        let mut padded = vec![0; offset];
        padded.extend(secret.as_bytes());
        let whole_groups = padded.len() / 3 * 4;
        let encoded = base64(&padded);
        let sure = encoded[unsure..whole_groups].to_vec();
        spellings.push(sure.iter().map(|byte| url_safe(*byte)).collect());
        spellings.push(sure);
    }
    spellings
}

fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for shift in [18, 12, 6, 0] {
            encoded.push(ALPHABET[(bits >> shift & 63) as usize]);
        }
    }
    encoded
}
