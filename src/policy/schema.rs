//! The keys of a policy, told once: the parser knows no others, and editors learn them from the JSON Schema.

use serde_json::{Map, Value, json};

use super::groups::BUILT_IN;
use super::parse::RULES;

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    about: &'static str,
    shape: Shape,
    is_required: bool,
}

#[derive(Debug)]
enum Shape {
    Version,
    OneOf(&'static [&'static str]),
    Bool,
    Text,
    Rule,
    StepKey,
    Date,
    Percent,
    /// Another definition.
    One(&'static str),
    List(&'static str),
    Map {
        key: &'static str,
        value: &'static str,
    },
    /// A list, or the word that lifts the restriction.
    ListOrAny(&'static str),
}

const fn key(name: &'static str, about: &'static str, shape: Shape) -> Key {
    Key { name, about, shape, is_required: false }
}

const fn required(name: &'static str, about: &'static str, shape: Shape) -> Key {
    Key { name, about, shape, is_required: true }
}

pub(super) const MODES: &[&str] = &["audit", "block"];
pub(super) const FAIL_ON: &[&str] = &["none", "low", "medium", "high", "critical"];

pub(super) const POLICY: &[Key] = &[
    required("version", "Of this format: 1.", Shape::Version),
    key("mode", "`audit` detects and reports; `block` also stops.", Shape::OneOf(MODES)),
    key("fail-on", "Findings fail the job from this severity on; `none` never fails.", Shape::OneOf(FAIL_ON)),
    key(
        "intent",
        "Ids of the sources that may declare what a step means to do; default: all.",
        Shape::List("id"),
    ),
    key("defaults", "Holds for every step.", Shape::One("block")),
    key(
        "steps",
        "Holds for the steps whose \"job/step\" matches; `*` and `?` match within one segment. A wrapped command is \"local/run\".",
        Shape::Map { key: "step", value: "step-block" },
    ),
    key(
        "agents",
        "Holds for a coding agent and all below it, wherever it runs.",
        Shape::Map { key: "id", value: "step-block" },
    ),
    key("secrets", "Files that count as credentials, beside the built-in ones.", Shape::List("path")),
    key(
        "except",
        "Known findings that are held back, each with a reason and an end.",
        Shape::List("exception"),
    ),
];

pub(super) const BLOCK: &[Key] = &[
    key("network", "Where connections and datagrams may go.", Shape::One("network")),
    key("files", "Which files may be read and written.", Shape::One("files")),
    key("run", "Which programs may be started.", Shape::One("run")),
    key(
        "posture",
        "Expected changes of the machine's security, and checks that must hold.",
        Shape::One("posture"),
    ),
];

/// What a step's or an agent's block has besides.
pub(super) const STEP: &[Key] = &[
    key("inherit", "False leaves the allow lists of `defaults` out; its denies still hold.", Shape::Bool),
    key("task", "What this is for, in a sentence; shown in the report.", Shape::Text),
];

const ALLOW: &str =
    "What is not on this list is a finding; an empty list allows nothing; `any` lifts the restriction.";
const DENY: &str = "Always wins over `allow`.";

pub(super) const NETWORK: &[Key] =
    &[key("allow", ALLOW, Shape::ListOrAny("destination")), key("deny", DENY, Shape::List("destination"))];
pub(super) const FILES: &[Key] =
    &[key("allow", ALLOW, Shape::ListOrAny("file")), key("deny", DENY, Shape::List("file-deny"))];
pub(super) const RUN: &[Key] =
    &[key("allow", ALLOW, Shape::ListOrAny("program")), key("deny", DENY, Shape::List("program"))];
pub(super) const POSTURE: &[Key] = &[
    key(
        "allow",
        "Changes that are expected: a check's id, or \"group:object\" with wildcards.",
        Shape::List("text"),
    ),
    key("require", "Checks that must hold: their results are findings.", Shape::List("text")),
    key("minimum-score", "What the host has to score before the job: 0 to 100.", Shape::Percent),
];
pub(super) const FILE_DENY: &[Key] = &[
    required("match", "What is denied: `read GLOB`, `write GLOB` or a group.", Shape::One("file")),
    key("except", "What is taken out of it.", Shape::List("path")),
];
pub(super) const EXCEPTION: &[Key] = &[
    required("rule", "Id of the finding's rule.", Shape::Rule),
    key("step", "Of these steps only, as in `steps`.", Shape::StepKey),
    key("object", "About these objects only; `*` stays within a segment, `**` crosses.", Shape::Text),
    required("reason", "Why this is held back.", Shape::Text),
    key("until", "The last day on which it holds, in UTC.", Shape::Date),
];

pub(super) fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

const STEP_PATTERN: &str = r"^(?!.*\*\*)[^/\u0000-\u001f]+(/[^/\u0000-\u001f]+)+$";
const PATH: &str = r"^(~$|(/|~/|\./|\*\*/))";

/// The JSON Schema of a policy file, in draft 2020-12, with a line break at its end.
pub fn schema() -> String {
    let groups: Vec<&str> = BUILT_IN.keys().map(String::as_str).collect();
    let group = json!({"description": "A group: what it stands for is in policies/groups/.", "enum": groups});
    let step_block: Vec<&Key> = STEP.iter().chain(BLOCK).collect();
    let all = |keys: &'static [Key]| keys.iter().collect::<Vec<_>>();
    let mut schema = object(&all(POLICY));
    let definitions = json!({
        "text": {"type": "string"},
        "id": {"type": "string", "maxLength": 64, "pattern": "^[a-z0-9._-]+$"},
        "step": {"type": "string", "pattern": STEP_PATTERN},
        "path": {
            "description": "A glob that starts with `/`, `~/` (the step's home), `./` (the workspace) or `**/`.",
            "type": "string", "maxLength": 4096, "pattern": PATH
        },
        "destination": {"anyOf": [group, {
            "description": "A name, `*.name`, an address or a network, each with a port or without; `udp://` for UDP.",
            "type": "string", "pattern": r"^(udp://|tcp://)?[^\s/]*[.:][^\s/]*(/[0-9]+)?(:[0-9]+|\]:[0-9]+|\])?$",
            "not": {"const": "any"}
        }]},
        "file": {"anyOf": [group, {
            "description": "`read GLOB` or `write GLOB`; the glob starts with `/`, `~/`, `./` or `**/`.",
            "type": "string", "pattern": r"^(read|write) +(~$|(/|~/|\./|\*\*/))"
        }]},
        "file-deny": {"anyOf": [{"$ref": "#/$defs/file"}, object(&all(FILE_DENY))]},
        "program": {
            "description": "A name, a path or `sha256:` and a digest; a name or path may have words after it.",
            "type": "string", "maxLength": 4096, "pattern": r"[^ ]",
            "not": {"pattern": r"^ *(\*+( .*)?$|sha256:(?![0-9a-fA-F]{64}( |$)))"}
        },
        "block": object(&all(BLOCK)),
        "step-block": object(&step_block),
        "network": object(&all(NETWORK)),
        "files": object(&all(FILES)),
        "run": object(&all(RUN)),
        "posture": object(&all(POSTURE)),
        "exception": object(&all(EXCEPTION))
    });
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("edamame-guard policy");
    schema["$defs"] = definitions;
    format!("{schema:#}\n")
}

fn object(keys: &[&Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut shape = key.shape.schema();
            shape["description"] = json!(key.about);
            (key.name.to_owned(), shape)
        })
        .collect();
    let needed: Vec<&str> = keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
    let mut object = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !needed.is_empty() {
        object["required"] = json!(needed);
    }
    object
}

impl Shape {
    fn schema(&self) -> Value {
        let to = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
        match self {
            Self::Version => json!({"const": 1}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Bool => json!({"type": "boolean"}),
            Self::Text => json!({"type": "string", "pattern": r"\S"}),
            Self::Rule => {
                json!({"anyOf": [{"enum": RULES}, {"type": "string", "pattern": "^(posture|coverage)-"}]})
            }
            Self::StepKey => to("step"),
            Self::Date => json!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
            Self::Percent => json!({"type": "integer", "minimum": 0, "maximum": 100}),
            Self::One(name) => to(name),
            Self::List(name) => json!({"type": "array", "items": to(name)}),
            Self::ListOrAny(name) => {
                json!({"anyOf": [{"const": "any"}, {"type": "array", "items": to(name)}]})
            }
            Self::Map { key, value } => {
                json!({"type": "object", "propertyNames": to(key), "additionalProperties": to(value)})
            }
        }
    }
}
