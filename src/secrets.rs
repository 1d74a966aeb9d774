//! Values that must not get out, and a search for them in every form in which they usually do.
//!
//! The values live in memory alone: nothing here is written, shown or recorded but their names.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// A value with the name of the variable or file that holds it.
struct Secret {
    name: String,
    value: Vec<u8>,
}

/// A form in which a value gets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    Plain,
    /// With something between its characters, or over several lines.
    Split,
    Base64,
    DoubleBase64,
    TripleBase64,
    Base64OfHex,
    Base64OfReversed,
    Base32,
    Hex,
    HexOfBase64,
    Url,
    Reversed,
    /// By 13 letters.
    Rotated,
}

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Split => "split",
            Self::Base64 => "base64",
            Self::DoubleBase64 => "base64 of base64",
            Self::TripleBase64 => "base64 three times",
            Self::Base64OfHex => "base64 of hex",
            Self::Base64OfReversed => "base64 of the reversed value",
            Self::Base32 => "base32",
            Self::HexOfBase64 => "hex of base64",
            Self::Hex => "hex",
            Self::Url => "URL-encoded",
            Self::Reversed => "reversed",
            Self::Rotated => "rotated by 13 letters",
        }
    }
}

/// The secrets that are known.
#[derive(Default)]
pub struct Vault {
    secrets: Vec<Secret>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.secrets.iter().map(|secret| &secret.name)).finish()
    }
}

impl Vault {
    /// More would cost more than it finds.
    const MOST: usize = 256;
    /// Lines of one value that are searched for.
    const LINES: usize = 8;

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// A variable's value; each line of a long one, such as a key, counts for itself.
    pub fn add_variable(&mut self, name: &str, value: &str) {
        let is_address = value.starts_with('/') || (value.contains("://") && !value.contains('@'));
        if is_address {
            return;
        }
        let lines =
            value.lines().map(str::trim).filter(|line| is_worth(line.as_bytes()) && !line.contains(' '));
        for line in lines.take(Self::LINES) {
            self.add(name, line.as_bytes());
        }
    }

    /// The words of a credential file that look made up.
    pub fn add_file(&mut self, name: &str, content: &[u8]) {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`,;=:(){}[]<>@|&?".contains(byte);
        let is_public = |line: &[u8]| {
            let line = line.to_ascii_lowercase();
            ["certificate", "key_id", "client_id", "arn:", "-----", "ssh-"]
                .iter()
                .any(|word| line.windows(word.len()).any(|part| part == word.as_bytes()))
        };
        let words = content
            .split(|byte| *byte == b'\n')
            .filter(|line| !is_public(line))
            .flat_map(|line| line.split(is_end))
            .filter(|word| is_random(word));
        for word in words.take(Self::LINES) {
            self.add(name, word);
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        let is_known = self.secrets.iter().any(|secret| secret.value == value);
        if !is_known && self.secrets.len() < Self::MOST {
            self.secrets.push(Secret { name: name.to_owned(), value: value.to_owned() });
        }
    }

    /// What finds these values in a stream.
    pub fn matcher(&self) -> Matcher {
        let mut matcher = Matcher::default();
        for (number, secret) in self.secrets.iter().enumerate() {
            matcher.names.push(secret.name.clone());
            for (encoding, form) in forms(&secret.value) {
                let stripped: Vec<u8> = form.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
                if stripped.len() >= Table::SHORTEST {
                    matcher.table.insert(&stripped, (number, encoding));
                    matcher.lengths.push(form.len());
                }
            }
        }
        matcher
    }

    /// What finds these values in a text, to take them out; plain ones as well.
    pub fn forms(&self) -> impl Iterator<Item = Vec<u8>> {
        self.secrets.iter().flat_map(|secret| forms(&secret.value)).map(|(_, form)| form)
    }
}

/// A value long and mixed enough that it stands in no text by chance.
pub fn is_worth(value: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| value.iter().any(kind);
    let different: BTreeSet<u8> = value.iter().copied().collect();
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    let known = value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    known >= Table::SHORTEST && value.len() <= 4096 && different.len() >= 6 && (is_mixed || value.len() >= 20)
}

/// The same of a word of a file, which may be anything else as well.
fn is_random(word: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| word.iter().any(kind);
    let is_hex = word.len() >= 32 && word.iter().all(u8::is_ascii_hexdigit);
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let is_name = word.contains(&b'.') && word.contains(&b'/');
    word.len() >= 16 && has(u8::is_ascii_digit) && (is_mixed || is_hex) && !is_name && is_worth(word)
}

/// A value in each form, as far as the form is the same whatever stands around it.
fn forms(value: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
    let mut forms = vec![
        (Encoding::Plain, value.to_owned()),
        (Encoding::Reversed, value.iter().rev().copied().collect()),
        (Encoding::Rotated, value.iter().copied().map(rotated).collect()),
    ];
    let digits = crate::event::hex(value);
    let reversed: Vec<u8> = value.iter().rev().copied().collect();
    for start in 0..3 {
        for digits in [digits.clone(), digits.to_ascii_uppercase()] {
            forms.push((Encoding::Base64OfHex, base64(digits.as_bytes(), start)));
        }
        forms.push((Encoding::Base64OfReversed, base64(&reversed, start)));
    }
    for start in 0..5 {
        let text = base32(value, start);
        forms.push((Encoding::Base32, text.to_ascii_lowercase()));
        forms.push((Encoding::Base32, text));
    }
    forms.push((Encoding::Hex, digits.to_ascii_uppercase().into_bytes()));
    forms.push((Encoding::Hex, digits.into_bytes()));
    for lower in [false, true] {
        forms.push((Encoding::Url, url(value, lower)));
    }
    for start in 0..3 {
        let inner = base64(value, start);
        for start in 0..3 {
            let twice = base64(&inner, start);
            forms.extend((0..3).map(|start| (Encoding::TripleBase64, base64(&twice, start))));
            forms.push((Encoding::DoubleBase64, twice));
        }
        let digits = crate::event::hex(&inner);
        forms.push((Encoding::HexOfBase64, digits.to_ascii_uppercase().into_bytes()));
        forms.push((Encoding::HexOfBase64, digits.into_bytes()));
        forms.push((Encoding::Reversed, inner.iter().rev().copied().collect()));
        let safe = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        };
        forms.push((Encoding::Base64, inner.iter().map(safe).collect()));
        forms.push((Encoding::Base64, inner));
    }
    // A value without letters is the same rotated, one without signs the same in a URL: the first counts.
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    forms.retain(|(_, form)| seen.insert(form.clone()));
    forms
}

fn rotated(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => (byte - b'a' + 13) % 26 + b'a',
        b'A'..=b'Z' => (byte - b'A' + 13) % 26 + b'A',
        other => other,
    }
}

fn url(value: &[u8], lower: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(*byte);
        } else {
            let digits = if lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
            text.extend(digits.into_bytes());
        }
    }
    text
}

/// The characters that stand for `value` alone where it begins `start` bytes behind a multiple of three.
fn base64(value: &[u8], start: usize) -> Vec<u8> {
    letters(value, start, 6, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}

/// The same of base32, behind a multiple of five.
fn base32(value: &[u8], start: usize) -> Vec<u8> {
    letters(value, start, 5, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

/// What stands for `value` alone where each letter is `width` bits and `start` bytes are before it.
fn letters(value: &[u8], start: usize, width: usize, letters: &[u8]) -> Vec<u8> {
    let bit = |number: usize| (value[number / 8] >> (7 - number % 8)) & 1;
    // The first bits belong to a character that holds other bytes too.
    let first = (width - (start * 8) % width) % width;
    let whole = (value.len() * 8).saturating_sub(first) / width;
    (0..whole)
        .map(|letter| {
            let bits = (0..width)
                .fold(0_usize, |bits, at| bits << 1 | usize::from(bit(first + letter * width + at)));
            letters[bits]
        })
        .collect()
}

/// Texts, found by their last eight bytes.
#[derive(Clone, Debug, Default)]
struct Table {
    /// By those bytes: the texts, and what each stands for.
    by_end: HashMap<u64, Vec<usize>>,
    texts: Vec<(Vec<u8>, usize, Encoding)>,
    /// Bits of a hash of those bytes: most places in a stream need no further look.
    sieve: Vec<u64>,
    longest: usize,
}

impl Table {
    /// A shorter text stands anywhere.
    const SHORTEST: usize = 8;
    const SIEVE_BITS: u32 = 18;

    fn insert(&mut self, text: &[u8], meaning: (usize, Encoding)) {
        let Some(end) = text.last_chunk::<8>() else { return };
        let end = u64::from_be_bytes(*end);
        if self.sieve.is_empty() {
            self.sieve = vec![0; 1 << (Self::SIEVE_BITS - 6)];
        }
        let bit = Self::bit(end);
        self.sieve[bit / 64] |= 1 << (bit % 64);
        self.longest = self.longest.max(text.len());
        self.by_end.entry(end).or_default().push(self.texts.len());
        self.texts.push((text.to_owned(), meaning.0, meaning.1));
    }

    fn bit(end: u64) -> usize {
        usize::try_from(end.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::SIEVE_BITS))
            .unwrap_or_default()
    }

    /// The texts that end with what `seen` ends with; `end` are its last eight bytes.
    fn at(&self, end: u64, seen: &[u8]) -> impl Iterator<Item = usize> {
        let bit = Self::bit(end);
        let is_possible = self.sieve.get(bit / 64).is_some_and(|word| word & 1 << (bit % 64) != 0);
        let candidates = if is_possible { self.by_end.get(&end) } else { None };
        candidates.into_iter().flatten().copied().filter(|text| seen.ends_with(&self.texts[*text].0))
    }
}

/// Finds secrets in streams.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    names: Vec<String>,
    /// Of letters and digits alone, so that what stands between them hides nothing.
    table: Table,
    /// How long each text is with everything in it.
    lengths: Vec<usize>,
}

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Name of the variable or file that holds it.
    pub secret: String,
    pub encoding: Encoding,
}

/// One stream, read piece by piece.
#[derive(Debug)]
pub struct Scanner<'a> {
    matcher: &'a Matcher,
    end: u64,
    /// The letters and digits so far, and where each one stood.
    seen: Vec<u8>,
    places: Vec<u64>,
    place: u64,
    told: BTreeSet<(usize, Encoding)>,
}

impl Matcher {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn scanner(&self) -> Scanner<'_> {
        Scanner {
            matcher: self,
            end: 0,
            seen: Vec::new(),
            places: Vec::new(),
            place: 0,
            told: BTreeSet::new(),
        }
    }
}

impl Scanner<'_> {
    /// Letters and digits that are kept at least, for texts that go over two pieces.
    const KEPT: usize = 1 << 16;

    /// What this piece completes and was not told before.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        for byte in piece {
            self.place += 1;
            if !byte.is_ascii_alphanumeric() {
                continue;
            }
            self.seen.push(*byte);
            self.places.push(self.place);
            self.end = self.end << 8 | u64::from(*byte);
            let table = &self.matcher.table;
            for text in table.at(self.end, &self.seen) {
                let (stripped, secret, encoding) = &table.texts[text];
                let first = self.places[self.places.len() - stripped.len()];
                let is_split = self.place - first >= 2 + self.matcher.lengths[text] as u64;
                let encoding =
                    if *encoding == Encoding::Plain && is_split { Encoding::Split } else { *encoding };
                if self.told.insert((*secret, encoding)) {
                    found.push(Found { secret: self.matcher.names[*secret].clone(), encoding });
                }
            }
            if self.seen.len() >= 2 * Self::KEPT.max(table.longest) {
                let gone = self.seen.len() - table.longest;
                self.seen.drain(..gone);
                self.places.drain(..gone);
            }
        }
        found
    }
}

/// Takes texts out of others.
#[derive(Clone, Debug, Default)]
pub struct Eraser {
    table: Table,
}

impl Eraser {
    pub fn add(&mut self, form: &[u8]) {
        self.table.insert(form, (0, Encoding::Plain));
    }

    /// Adds every form of a value but the plain one.
    pub fn add_forms(&mut self, value: &[u8]) {
        if is_worth(value) {
            for (_, form) in forms(value).into_iter().skip(1) {
                self.add(&form);
            }
        }
    }

    /// Puts `mask` in place of each text.
    pub fn erase(&self, text: &mut String, mask: &str) {
        if self.table.texts.is_empty() || text.len() < Table::SHORTEST {
            return;
        }
        let bytes = text.as_bytes();
        let mut end = 0_u64;
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            end = end << 8 | u64::from(*byte);
            let longest = self.table.at(end, &bytes[..=at]).map(|text| self.table.texts[text].0.len()).max();
            if let Some(length) = longest {
                let first = at + 1 - length;
                while found.last().is_some_and(|(_, last)| *last > first) {
                    found.pop();
                }
                found.push((first, at + 1));
            }
        }
        for (first, last) in found.into_iter().rev() {
            if text.is_char_boundary(first) && text.is_char_boundary(last) {
                text.replace_range(first..last, mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "k8Fq-2xWz/7LmP0tRb4Y+Hn6";

    fn vault() -> Vault {
        let mut vault = Vault::default();
        vault.add_variable("DEPLOY_TOKEN", VALUE);
        vault
    }

    fn found(pieces: &[&[u8]]) -> Vec<&'static str> {
        let matcher = vault().matcher();
        let mut scanner = matcher.scanner();
        pieces.iter().flat_map(|piece| scanner.feed(piece)).map(|found| found.encoding.as_str()).collect()
    }

    fn encode(text: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        text.chunks(3)
            .flat_map(|part| {
                let bits = part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                    << (8 * (3 - part.len()));
                let letter = move |at| char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]);
                (0..4).map(move |at| if at <= part.len() { letter(at) } else { '=' })
            })
            .collect()
    }

    fn encode32(text: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let bits = text.iter().fold(String::new(), |bits, byte| bits + &format!("{byte:08b}"));
        let letters = bits.as_bytes().chunks(5).map(|five| {
            let five = format!("{:0<5}", String::from_utf8_lossy(five));
            char::from(LETTERS[usize::from_str_radix(&five, 2).expect("bits")])
        });
        letters.collect()
    }

    #[test]
    fn every_form_is_found_whatever_stands_around_it() {
        for before in ["", "a", "ab", "token="] {
            let text = format!("{before}{VALUE}\n");
            assert_eq!(found(&[text.as_bytes()]), ["plain"]);
            let once = encode(text.as_bytes());
            assert_eq!(found(&[once.as_bytes()]), ["base64"], "{once}");
            assert_eq!(found(&[once.replace('+', "-").replace('/', "_").as_bytes()]), ["base64"]);
            assert_eq!(found(&[encode(once.as_bytes()).as_bytes()]), ["base64 of base64"]);
            assert_eq!(
                found(&[encode(encode(once.as_bytes()).as_bytes()).as_bytes()]),
                ["base64 three times"]
            );
            let reversed: String = text.chars().rev().collect();
            assert_eq!(found(&[reversed.as_bytes()]), ["reversed"]);
            assert_eq!(found(&[encode(reversed.as_bytes()).as_bytes()]), ["base64 of the reversed value"]);
            let base32 = encode32(text.as_bytes());
            assert_eq!(found(&[base32.as_bytes()]), ["base32"], "{base32}");
            assert_eq!(found(&[base32.to_lowercase().as_bytes()]), ["base32"]);
            assert_eq!(found(&[crate::event::hex(once.as_bytes()).as_bytes()]), ["hex of base64"]);
            for digits in
                [crate::event::hex(text.as_bytes()), crate::event::hex(text.as_bytes()).to_uppercase()]
            {
                assert_eq!(found(&[encode(digits.as_bytes()).as_bytes()]), ["base64 of hex"]);
            }
            let digits = crate::event::hex(text.as_bytes());
            assert_eq!(found(&[digits.as_bytes()]), ["hex"]);
            assert_eq!(found(&[digits.to_uppercase().as_bytes()]), ["hex"]);
        }
        assert_eq!(found(&[b"k8Fq-2xWz%2F7LmP0tRb4Y%2BHn6"]), ["URL-encoded"]);
        assert_eq!(found(&[b"x8Sd-2kJm/7YzC0gEo4L+Ua6"]), ["rotated by 13 letters"]);
    }

    #[test]
    fn pieces_lines_and_separators_hide_nothing() {
        let lines: String = VALUE.chars().flat_map(|letter| [letter, '\n']).collect();
        assert_eq!(found(&[lines.as_bytes()]), ["split"]);
        let bytes: Vec<&[u8]> = VALUE.as_bytes().chunks(1).collect();
        assert_eq!(found(&bytes), ["plain"]);
        let digits = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        assert_eq!(found(&[digits.as_bytes()]), ["hex"]);
        // A long way into a stream, and told once.
        let filler = vec![b'x'; 300_000];
        assert_eq!(found(&[&filler, VALUE.as_bytes(), &filler, VALUE.as_bytes()]), ["plain"]);
    }

    #[test]
    fn parts_other_values_and_poor_ones_are_not_found() {
        assert_eq!(found(&[&VALUE.as_bytes()[..20]]), [""; 0]);
        assert_eq!(found(&[b"k8Fq-2xWz/7LmP0tRb4Y+Hn7"]), [""; 0]);
        let mut vault = Vault::default();
        for value in [
            "true",
            "postgres",
            "/home/u/.token",
            "https://login.example/x1y2z3",
            "aaaaaaaa1",
            "a b c d 1 2 3 4 5",
        ] {
            vault.add_variable("X_TOKEN", value);
        }
        assert!(vault.is_empty(), "{vault:?}");
    }

    #[test]
    fn files_give_their_made_up_words() {
        let mut vault = Vault::default();
        vault.add_file(
            "~/.aws/credentials",
            b"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\nregion = eu-central-1\n",
        );
        assert_eq!(vault.secrets.len(), 1);
        let matcher = vault.matcher();
        let found = matcher.scanner().feed(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        assert_eq!(found, [Found { secret: "~/.aws/credentials".into(), encoding: Encoding::Plain }]);
        assert!(!format!("{vault:?}{matcher:?}").is_empty());
        assert!(!format!("{vault:?}").contains("wJalr"));
    }

    #[test]
    fn texts_are_erased_in_every_form() {
        let mut eraser = Eraser::default();
        eraser.add_forms(VALUE.as_bytes());
        let mut text =
            format!("a {} b {}", encode(VALUE.as_bytes()), VALUE.chars().rev().collect::<String>());
        eraser.erase(&mut text, "***");
        assert_eq!(text, "a *** b ***");
        let mut other = "nothing of it ä".to_owned();
        eraser.erase(&mut other, "***");
        assert_eq!(other, "nothing of it ä");
    }
}
