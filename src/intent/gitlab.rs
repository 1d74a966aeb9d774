//! A GitLab CI file: what a job's shell is told to do, in which lines that is written, and which files the job hands over.
//!
//! Only this file is read, not what it includes. What stands elsewhere is unknown, which is not nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A larger file is not read: 1 MiB.
const LARGEST: usize = 1 << 20;
/// GitLab follows `extends` and `!reference` no further.
const DEEPEST: usize = 11;
/// Look-ups for one job; a file that wants more was written to take our time.
const MOST: u32 = 10_000;
/// The component's own job: its lines run before anything is watched.
const OWN: &str = ".guard";
/// Stands for code that is written in another file.
const UNKNOWN: &str = "eval \"$written_in_another_file\"";

/// What a job's shell is told, in the order in which it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub parts: Vec<Part>,
    /// Line of the job's `script`, else of the first part.
    pub line: Option<u32>,
}

/// Text whose lines are those of the file from `line` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub line: u32,
    pub text: String,
}

/// The files that a job hands to GitLab at its end, as they are written: with variables and globs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// `artifacts: paths:` and the files of `reports:`.
    pub paths: Vec<String>,
    pub exclude: Vec<String>,
    /// `reports: dotenv:`, which becomes variables of later jobs.
    pub variables: Vec<String>,
    /// All that git does not know as well.
    pub has_untracked: bool,
    /// Some of it is written in another file.
    pub is_partial: bool,
}

/// What this file says that a job hands over; `None` when the job is not in the file.
pub fn handed(text: &str, job: &str) -> Result<Option<Handed>, String> {
    let file = File::read(text)?;
    let Some(job) = file.named(job) else { return Ok(None) };
    let mut layers = Vec::new();
    file.layers(job, &mut layers, 0);
    if layers.is_empty() {
        // A default holds as a whole, for jobs that say nothing themselves.
        let default = file.job("default").and_then(|default| default.artifacts.as_ref());
        layers.extend(default.map(Layer::Here));
    }
    let mut handed = Handed::default();
    let is_partial = &mut handed.is_partial;
    handed.paths = file.texts(&layers, "paths", is_partial);
    handed.exclude = file.texts(&layers, "exclude", is_partial);
    handed.has_untracked = file.texts(&layers, "untracked", is_partial).iter().any(|text| text == "true");
    for layer in &layers {
        let Layer::Here(artifacts) = layer else { continue };
        let Some(Tree::Map(reports)) = file.part(artifacts, "reports", 0).map(|tree| &tree.value) else {
            continue;
        };
        for (kind, files) in reports {
            let mut texts = Vec::new();
            file.flatten(files, &mut texts, is_partial, 0);
            if kind == "dotenv" { handed.variables.extend(texts) } else { handed.paths.extend(texts) }
        }
    }
    Ok(Some(handed))
}

/// What this file says of a job; `None` when it is not in the file.
pub fn declared(text: &str, job: &str) -> Result<Option<Declared>, String> {
    let file = File::read(text)?;
    let Some(job) = file.named(job) else { return Ok(None) };
    let mut declared = Declared::default();
    file.add(file.before_script(job), &mut declared.parts);
    let mut script = Vec::new();
    file.add(file.field(job, "script", 0), &mut script);
    declared.line = script.first().or(declared.parts.first()).map(|part| part.line);
    declared.parts.append(&mut script);
    Ok(Some(declared))
}

struct File<'a> {
    entries: BTreeMap<String, Entry>,
    lines: Vec<&'a str>,
    /// Look-ups that may still be made.
    left: Cell<u32>,
}

/// A field of a job, as far as this file tells.
#[derive(Clone, Copy)]
enum Found<'a> {
    Here(&'a Script),
    /// In another file; the line says so.
    Elsewhere(u32),
    /// The component's own.
    Own,
    Nowhere,
}

/// What a job or one that it extends says of its artifacts, the nearest first.
enum Layer<'a> {
    Here(&'a Spanned<Tree>),
    /// In another file.
    Elsewhere,
}

impl<'a> File<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        if text.len() > LARGEST {
            return Err(format!("it has more than {LARGEST} bytes"));
        }
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        let entries: BTreeMap<String, Entry> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        Ok(Self { entries, lines: text.lines().collect(), left: Cell::new(MOST) })
    }
}

impl File<'_> {
    /// What a job says of its artifacts, then what those say that it extends; a later one of these wins.
    fn layers<'s>(&'s self, name: &str, layers: &mut Vec<Layer<'s>>, depth: usize) {
        let Some(job) = self.job(name) else {
            if name != OWN {
                layers.push(Layer::Elsewhere);
            }
            return;
        };
        layers.extend(job.artifacts.as_ref().map(Layer::Here));
        for parent in job.extends.iter().rev() {
            if depth < DEEPEST && self.may_look() {
                self.layers(&parent.value, layers, depth + 1);
            } else {
                layers.push(Layer::Elsewhere);
            }
        }
    }

    /// The texts of one field of the artifacts: of the nearest who has it.
    fn texts(&self, layers: &[Layer<'_>], field: &str, is_partial: &mut bool) -> Vec<String> {
        let mut texts = Vec::new();
        for layer in layers {
            match layer {
                Layer::Elsewhere => *is_partial = true,
                Layer::Here(artifacts) => {
                    if !matches!(artifacts.value, Tree::Map(_)) && !self.is_reference(artifacts) {
                        *is_partial = true;
                    }
                    if let Some(part) = self.part(artifacts, field, 0) {
                        self.flatten(part, &mut texts, is_partial, 0);
                        break;
                    }
                }
            }
        }
        texts
    }

    /// One field of the artifacts, which may stand for those of another job.
    fn part<'s>(
        &'s self,
        artifacts: &'s Spanned<Tree>,
        field: &str,
        depth: usize,
    ) -> Option<&'s Spanned<Tree>> {
        match &artifacts.value {
            Tree::Map(map) => map.get(field),
            Tree::List(_) if depth < DEEPEST && self.may_look() => {
                let referred = self.referred(artifacts)?;
                self.part(referred, field, depth + 1)
            }
            Tree::List(_) | Tree::Text(_) => None,
        }
    }

    /// What `!reference [NAME, artifacts, …]` means.
    fn referred<'s>(&'s self, item: &'s Spanned<Tree>) -> Option<&'s Spanned<Tree>> {
        let Tree::List(words) = &item.value else { return None };
        if !self.is_reference(item) {
            return None;
        }
        let mut words = words.iter().map(|word| match &word.value {
            Tree::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let job = self.job(words.next()??)?;
        if words.next()?? != "artifacts" {
            return None;
        }
        let mut at = job.artifacts.as_ref()?;
        for word in words {
            let Tree::Map(map) = &at.value else { return None };
            at = map.get(word?)?;
        }
        Some(at)
    }

    fn flatten(&self, tree: &Spanned<Tree>, texts: &mut Vec<String>, is_partial: &mut bool, depth: usize) {
        match &tree.value {
            Tree::Text(text) => texts.push(text.clone()),
            Tree::List(_) if self.is_reference(tree) => match self.referred(tree) {
                Some(referred) if depth < DEEPEST && self.may_look() => {
                    self.flatten(referred, texts, is_partial, depth + 1);
                }
                _ => *is_partial = true,
            },
            Tree::List(items) if depth < DEEPEST => {
                for item in items {
                    self.flatten(item, texts, is_partial, depth + 1);
                }
            }
            // `coverage_report: {coverage_format: cobertura, path: coverage.xml}`
            Tree::Map(map) => {
                if let Some(path) = map.get("path").filter(|_| depth < DEEPEST) {
                    self.flatten(path, texts, is_partial, depth + 1);
                }
            }
            Tree::List(_) => *is_partial = true,
        }
    }

    /// The job's entry: `test 2/3` and `test: [a, b]` are legs of `test`.
    fn named<'a>(&'a self, job: &'a str) -> Option<&'a str> {
        let of_matrix = job.split_once(": [").map(|(name, _)| name);
        let of_parallel = job.rsplit_once(' ').and_then(|(name, leg)| {
            let (index, total) = leg.split_once('/')?;
            (index.parse::<u32>().is_ok() && total.parse::<u32>().is_ok()).then_some(name)
        });
        [Some(job), of_matrix, of_parallel].into_iter().flatten().find(|name| self.job(name).is_some())
    }

    /// Whether one more look-up may be made.
    fn may_look(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// Whether the list that starts here is the words of a `!reference`.
    fn is_reference<T>(&self, item: &Spanned<T>) -> bool {
        const TAG: &str = "!reference";
        let source = self.lines.get(line(item) as usize - 1).copied().unwrap_or_default();
        let column = usize::try_from(item.defined.column()).unwrap_or(1).saturating_sub(1);
        let before: String = source.chars().take(column).collect();
        let after: String = source.chars().skip(column).collect();
        after.starts_with(TAG) || before.trim_end().ends_with(TAG)
    }

    fn job(&self, name: &str) -> Option<&JobText> {
        match self.entries.get(name)? {
            Entry::Job(job) => Some(job),
            Entry::Script(_) | Entry::Other => None,
        }
    }

    fn before_script(&self, job: &str) -> Found<'_> {
        match self.field(job, "before_script", 0) {
            Found::Nowhere => {}
            found => return found,
        }
        let default = self.job("default").and_then(|default| default.before_script.as_ref());
        match (default, self.entries.get("before_script")) {
            (Some(script), _) | (None, Some(Entry::Script(script))) => Found::Here(script),
            _ => Found::Nowhere,
        }
    }

    fn field(&self, name: &str, field: &str, depth: usize) -> Found<'_> {
        let Some(job) = self.job(name) else {
            return if name == OWN { Found::Own } else { Found::Elsewhere(1) };
        };
        let own = if field == "script" { &job.script } else { &job.before_script };
        if let Some(script) = own {
            return Found::Here(script);
        }
        // A later one wins.
        for parent in job.extends.iter().rev() {
            let found = if depth < DEEPEST && self.may_look() {
                self.field(&parent.value, field, depth + 1)
            } else {
                Found::Elsewhere(1)
            };
            match found {
                Found::Nowhere => {}
                // The component's job has no script.
                Found::Own if field == "script" => {}
                Found::Elsewhere(_) => return Found::Elsewhere(line(parent)),
                found => return found,
            }
        }
        Found::Nowhere
    }

    fn add(&self, found: Found<'_>, parts: &mut Vec<Part>) {
        match found {
            Found::Here(script) => self.add_items(&script.0, parts, 0),
            Found::Elsewhere(line) => put(parts, line, UNKNOWN),
            Found::Own | Found::Nowhere => {}
        }
    }

    fn add_items(&self, items: &[Spanned<Item>], parts: &mut Vec<Part>, depth: usize) {
        for item in items {
            let line = line(item);
            let source = self.lines.get(line as usize - 1).copied().unwrap_or_default();
            match &item.value {
                Item::Text(text) => {
                    let mark = source.trim_end().rsplit([':', ' ']).next().unwrap_or_default();
                    // The text of a block begins below its mark.
                    let is_block = mark.starts_with(['|', '>']) && mark.len() <= 3;
                    put(parts, if is_block { line + 1 } else { line }, text.trim_end());
                }
                Item::List(list) if self.is_reference(item) => {
                    let words: Vec<&str> = list.iter().filter_map(|item| item.value.text()).collect();
                    let found = match words.as_slice() {
                        [name, field @ ("script" | "before_script")]
                            if depth < DEEPEST && self.may_look() =>
                        {
                            self.field(name, field, depth)
                        }
                        [OWN, _] => Found::Own,
                        _ => Found::Elsewhere(line),
                    };
                    match found {
                        Found::Here(script) => self.add_items(&script.0, parts, depth + 1),
                        Found::Own => {}
                        Found::Elsewhere(_) | Found::Nowhere => put(parts, line, UNKNOWN),
                    }
                }
                Item::List(list) if depth < DEEPEST => self.add_items(list, parts, depth + 1),
                Item::List(_) => put(parts, line, UNKNOWN),
            }
        }
    }
}

/// Adds text below what is there already, or as a part of its own where it stands above that.
fn put(parts: &mut Vec<Part>, line: u32, text: &str) {
    if let Some(last) = parts.last_mut() {
        let lines = u32::try_from(last.text.lines().count()).unwrap_or(u32::MAX);
        let end = last.line.saturating_add(lines);
        if line >= end {
            let gap = usize::try_from(line - end).unwrap_or(0) + 1;
            last.text.push_str(&"\n".repeat(gap));
            last.text.push_str(text);
            return;
        }
    }
    parts.push(Part { line, text: text.to_owned() });
}

fn line<T>(item: &Spanned<T>) -> u32 {
    u32::try_from(item.defined.line()).unwrap_or(u32::MAX).max(1)
}

/// A top-level entry.
enum Entry {
    Job(JobText),
    /// `before_script` of all jobs, as old files have it.
    Script(Script),
    Other,
}

#[derive(Default, serde::Deserialize)]
struct JobText {
    #[serde(default)]
    extends: Names,
    #[serde(default)]
    before_script: Option<Script>,
    #[serde(default)]
    script: Option<Script>,
    #[serde(default)]
    artifacts: Option<Spanned<Tree>>,
}

/// Any value.
enum Tree {
    Text(String),
    List(Vec<Spanned<Tree>>),
    Map(BTreeMap<String, Spanned<Tree>>),
}

/// One name or several.
#[derive(Default)]
struct Names(Vec<Spanned<String>>);

impl std::ops::Deref for Names {
    type Target = [Spanned<String>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// One line or several.
struct Script(Vec<Spanned<Item>>);

enum Item {
    Text(String),
    /// Lines in a list of their own, or the words of a `!reference`.
    List(Vec<Spanned<Item>>),
}

impl Item {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Entry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Entry, M::Error> {
                JobText::deserialize(MapAccessDeserializer::new(map)).map(Entry::Job)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Entry, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Spanned<Item>>()? {
                    items.push(item);
                }
                Ok(Entry::Script(Script(items)))
            }

            fn visit_str<E>(self, _: &str) -> Result<Entry, E> {
                Ok(Entry::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Entry, E> {
                Ok(Entry::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Entry, E> {
                Ok(Entry::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Entry, E> {
                Ok(Entry::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Entry, E> {
                Ok(Entry::Other)
            }

            fn visit_unit<E>(self) -> Result<Entry, E> {
                Ok(Entry::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let one_or_more = Spanned::<Item>::deserialize(deserializer)?;
        let name = |item: Spanned<Item>| match item.value {
            Item::Text(text) => {
                Some(Spanned { value: text, referenced: item.referenced, defined: item.defined })
            }
            Item::List(_) => None,
        };
        Ok(Self(match one_or_more.value {
            Item::List(items) => items.into_iter().filter_map(name).collect(),
            Item::Text(_) => name(one_or_more).into_iter().collect(),
        }))
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let one_or_more = Spanned::<Item>::deserialize(deserializer)?;
        Ok(Self(vec![one_or_more]))
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Item;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text or a list")
            }

            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Item, E> {
                Ok(Item::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
                Ok(Item::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
                Ok(Item::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
                Ok(Item::Text(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item::Text(String::new()))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Item, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Item::List(items))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Item, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                // `include` has such entries; no shell line is one.
                Ok(Item::List(Vec::new()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::List(Vec::new()))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Tree, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Tree, M::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Tree::Map)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Handed {
        handed(text, "a").unwrap().unwrap()
    }

    #[test]
    fn what_a_job_hands_over_is_the_nearest_that_is_said() {
        let text = "default:
  artifacts: {paths: [from-default]}
.base:
  artifacts:
    exclude: ['**/*.tmp']
    paths: [base/]
    reports: {junit: base.xml, dotenv: build.env}
.second:
  artifacts: {untracked: true}
a:
  extends: [.guard, .base, .second]
  script: x
  artifacts:
    paths: [dist/, \"$OUT/*.js\", !reference [.base, artifacts, paths]]
    reports:
      coverage_report: {coverage_format: cobertura, path: cov.xml}
b: {script: x}
c: {script: x, extends: .base}
d: {script: x, artifacts: !reference [.base, artifacts]}
";
        let a = told(text);
        assert_eq!(a.paths, ["dist/", "$OUT/*.js", "base/", "cov.xml", "base.xml"]);
        assert_eq!((a.exclude, a.variables), (vec!["**/*.tmp".to_owned()], vec!["build.env".to_owned()]));
        assert!(a.has_untracked && !a.is_partial);
        let of = |job| handed(text, job).unwrap().unwrap();
        assert_eq!(of("b").paths, ["from-default"]);
        assert_eq!(of("c").paths, ["base/", "base.xml"]);
        assert_eq!(of("d").paths, ["base/", "base.xml"]);
        assert_eq!(handed(text, "nobody").unwrap(), None);
    }

    #[test]
    fn what_is_handed_over_by_another_file_is_unknown_and_not_nothing() {
        assert!(told("a: {extends: .elsewhere, script: x}").is_partial);
        assert!(told("a: {script: x, artifacts: {paths: [!reference [.b, artifacts, paths]]}}").is_partial);
        assert!(told("a: {script: x, artifacts: odd}").is_partial);
        // The component's own reports are none of the job's.
        assert_eq!(told("a: {extends: .guard, script: x}"), Handed::default());
        assert!(told("a: {extends: a, script: x, artifacts: !reference [a, artifacts]}").paths.is_empty());
    }

    const FILE: &str = "include:
  - component: example/guard@1
stages: [build]
variables: {A: '1'}
.base:
  before_script: [make base]
.mine:
  script: &lines
    - make mine
build/all:
  extends: .guard
  script:
    - npm ci
    - |
      npm test
      npm run build
own:
  extends: [.guard, .base]
  before_script:
    - !reference [.guard, before_script]
    - !reference [.base, before_script]
    - !reference [.other, before_script]
    - [echo a, echo b]
  script: make \"$TARGET\"
inherits:
  extends: .mine
included:
  extends: .elsewhere
aliased:
  script: *lines
";

    fn parts(job: &str) -> Vec<(u32, String)> {
        let declared = declared(FILE, job).unwrap().unwrap();
        declared.parts.into_iter().map(|part| (part.line, part.text)).collect()
    }

    #[test]
    fn each_line_keeps_its_place() {
        assert_eq!(parts("build/all"), [(13, "npm ci\n\nnpm test\nnpm run build".to_owned())]);
        assert_eq!(declared(FILE, "build/all").unwrap().unwrap().line, Some(13));
        assert_eq!(parts("inherits"), [(9, "make mine".to_owned())]);
        assert_eq!(parts("aliased"), [(9, "make mine".to_owned())]);
    }

    #[test]
    fn what_stands_in_another_file_is_unknown_and_not_nothing() {
        let own = parts("own");
        let first = format!("make base{}{UNKNOWN}\necho a", "\n".repeat(16));
        assert_eq!(own[0], (6, first));
        assert_eq!(declared(FILE, "own").unwrap().unwrap().line, Some(24));
        assert!(own.iter().any(|(_, text)| text.ends_with("make \"$TARGET\"")), "{own:?}");
        assert_eq!(parts("included").iter().filter(|(_, text)| text == UNKNOWN).count(), 2);
    }

    #[test]
    fn legs_of_a_matrix_are_their_job() {
        for name in ["own", "own 2/3", "own: [a, b/c]"] {
            assert!(declared(FILE, name).unwrap().is_some(), "{name}");
        }
        for name in ["nobody", "own: x", "variables 1/x", "stages"] {
            assert!(declared(FILE, name).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn odd_files_are_no_end() {
        for text in
            ["", "[]", "a: !x {", "a:\n  extends: a\n", "a:\n  script: !reference [a, script]\n", "- b"]
        {
            let _ = declared(text, "a");
        }
        assert!(declared(&"#".repeat(LARGEST + 1), "a").is_err());
        // Each level would double the work.
        let mut text = String::from("j0:\n  script: [make]\n");
        for level in 1..11 {
            let parents = vec![format!("j{}", level - 1); 40].join(", ");
            text.push_str(&["j", &level.to_string(), ":\n  extends: [", &parents, "]\n"].concat());
        }
        text += "last:\n  extends: j10\n";
        assert!(declared(&text, "last").unwrap().is_some());
    }
}
