//! YAML text to a tree that knows where each piece stands; anchors, aliases and merge keys are refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, Spanned};

use super::problem::{Complaint, Problems, nearest, shown};

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A value and where it starts, both from 1; a column counts characters.
#[derive(Debug)]
pub(super) struct Node {
    pub value: Value,
    pub line: u32,
    pub column: u32,
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What this is, for a message.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// The whole text as one tree, or the first place where it is not the YAML we take.
pub(super) fn read(text: &str) -> Result<Node, (u32, u32, Complaint)> {
    // Far above what a policy needs, far below what could hurt.
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = 32;
    budget.flow_nesting_limit = 32;
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_merge_keys = 0;
    budget.max_documents = 1;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    // Duplicates come through, so that each is reported with its own place.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::Error;
    options.reject_unsupported_tags = true;
    options.strict_booleans = true;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let place = error.location();
        let at = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(1).max(1);
        let (line, column) = (at(place.map(|place| place.line())), at(place.map(|place| place.column())));
        let starts_with = |mark| {
            let source = text.lines().nth(line as usize - 1).unwrap_or_default();
            source.chars().nth(column as usize - 1) == Some(mark)
        };
        (line, column, complaint(&error, starts_with('*')))
    })
}

/// The library's error in our words where they help more.
fn complaint(error: &Error, is_star: bool) -> Complaint {
    let repeat = "write the value again: what stands in a policy is what holds";
    match error.without_snippet() {
        Error::UnknownAnchor { .. } | Error::Budget { breach: BudgetBreach::Aliases { .. }, .. }
            if is_star =>
        {
            Complaint::new("YAML reads a leading `*` as an alias, and aliases are not used here")
                .hint("quote a text that starts with `*`, as in \"*.example.com\"")
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. } => {
            Complaint::new("YAML anchors (`&name`) and aliases (`*name`) are not used here").hint(repeat)
        }
        Error::MergeKeyNotAllowed { .. } | Error::Budget { breach: BudgetBreach::MergeKeys { .. }, .. } => {
            Complaint::new("YAML merge keys (`<<`) are not used here").hint(repeat)
        }
        Error::UnsupportedTag { .. } => Complaint::new("YAML tags (`!name`) are not used here")
            .hint("quote a text that starts with `!`; a path is taken out of a deny by `except`"),
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            Complaint::new("there is more than one YAML document")
                .hint("a policy is one; remove the `---` line")
        }
        Error::Budget { .. } => Complaint::new("this is nested too deeply or too large for a policy"),
        other => {
            // The place is said apart.
            let message = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let message = message.lines().next().unwrap_or_default();
            Complaint::new(message.split(" at line ").next().unwrap_or(message).to_owned())
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).max(1);
        Ok(Self {
            line: at(spanned.referenced.line()),
            column: at(spanned.referenced.column()),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Node>()? {
            map.push((key, entries.next_value::<Node>()?));
        }
        Ok(Value::Map(map))
    }
}

/// One `key: value` of a mapping.
#[derive(Clone, Copy)]
pub(super) struct Field<'n> {
    pub key: &'n Node,
    pub value: &'n Node,
}

/// The entries of a mapping by name; what is no mapping, no text key or a duplicate is reported.
pub(super) fn entries<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> Vec<(&'n str, Field<'n>)> {
    let Value::Map(map) = &node.value else {
        problems.at(
            node,
            Complaint::new(format!("{what} must be a mapping, not {}", node.kind()))
                .hint("write `key: value` lines below it, or `{}` for nothing"),
        );
        return Vec::new();
    };
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, value) in map {
        let Some(name) = key.text() else {
            problems.at(
                key,
                Complaint::new(format!("a key of {what} must be text, not {}", key.kind())).hint("quote it"),
            );
            continue;
        };
        if let Some(line) = seen.get(name) {
            problems.at(
                key,
                Complaint::new(format!("duplicate key `{}` in {what}", shown(name)))
                    .hint(format!("it stands on line {line} already; join the two")),
            );
            continue;
        }
        seen.insert(name, key.line);
        found.push((name, Field { key, value }));
    }
    found
}

/// Like [`entries`], for a mapping with a closed list of keys.
pub(super) fn fields<'n>(
    node: &'n Node,
    what: &str,
    known: &[&str],
    problems: &mut Problems,
) -> BTreeMap<&'n str, Field<'n>> {
    let mut found = BTreeMap::new();
    for (name, field) in entries(node, what, problems) {
        if known.contains(&name) {
            found.insert(name, field);
        } else {
            let hint = nearest(name, known.iter().copied()).map_or_else(
                || format!("{what} takes {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            problems
                .at(field.key, Complaint::new(format!("unknown key `{}` in {what}", shown(name))).hint(hint));
        }
    }
    found
}
