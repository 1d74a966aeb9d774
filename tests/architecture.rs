//! Keeps the picture of the tree true: which way imports point, what the engine never touches, what each file opens with.
//!
//! It reads the sources as text. When it fails, usually a type lives one group too high.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use edamame_guard::detections;

/// The groups, from the edges inwards. A module imports from its own group and from later ones.
const GROUPS: &[&[&str]] = &[
    &["main"],
    &["cli", "run"],
    &[
        "sensors",
        "runners",
        "reports",
        "enforce",
        "evidence",
        "redact",
        "secrets",
        "session",
        "posture",
        "lookup",
        "inventory",
        "transcripts",
        "sockets",
        "action",
        "github",
    ],
    &["engine"],
    &["detections", "divergence"],
    &["policy", "intent", "lineage", "catalogue", "commands", "agents"],
    &["finding", "picture"],
    &["event", "job"],
];

/// Without a clock, a file, a socket, an environment, a thread or another process: time arrives in the event.
const PURE: &[&str] = &[
    "event",
    "job",
    "finding",
    "picture",
    "policy",
    "intent",
    "lineage",
    "catalogue",
    "commands",
    "agents",
    "divergence",
    "detections",
    "engine",
];
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::io::std",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "tokio",
    "nix::",
    "libc::",
    "println!",
    "eprintln!",
    "fastrand",
    "now_utc",
    "now_local",
    "tempfile",
];

/// The closed table of rules. `posture-…` and `coverage-…` stand for one rule per check and per kind of gap.
const RULES: &[&str] = &[
    "proc-memory-read",
    "env-harvest",
    "cred-file-access",
    "ci-token-abuse",
    "cloud-metadata",
    "egress-undeclared",
    "egress-allowed-host-exfil",
    "egress-covert-channel",
    "log-artifact-leak",
    "install-script",
    "startup-hijack",
    "build-tamper",
    "remote-control",
    "persistence",
    "runner-takeover",
    "container-escape",
    "posture-drift",
    "destructive",
    "agent-config-tamper",
    "agent-escalation",
    "agent-tool-divergence",
    "sandbox-path-escape",
    "fileless-obfuscated-exec",
    "sensor-evasion",
    "file-undeclared",
    "run-undeclared",
    "agent-undeclared",
    "agent-contradicted",
    "agent-record-lost",
    "policy-changed",
    "exception-expired",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file, with what only tests compile left out.
struct Source {
    /// `src/policy/parse.rs`
    path: String,
    /// `policy`
    module: String,
    /// Lines that the program is made of, with their number from 1.
    lines: Vec<(usize, String)>,
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let paths: Vec<PathBuf> = files_below(&root().join("src"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect();
    let sources: Vec<(PathBuf, String)> =
        paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("text"))).collect();
    let tests: BTreeSet<PathBuf> = sources.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    sources
        .into_iter()
        .filter(|(path, _)| !tests.contains(path) && !path.ends_with("build.rs"))
        .map(|(path, text)| {
            let path = path.strip_prefix(root()).expect("below the root").to_str().expect("plain").to_owned();
            let below = path.trim_start_matches("src/");
            let module = below.split(['/', '.']).next().unwrap_or_default().to_owned();
            let lines = program_lines(&text);
            Source { path, module, lines }
        })
        .collect()
}

/// The files of the modules that a file declares for tests alone.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("plain");
    let folder = path.parent().expect("a folder");
    let folder = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { folder.join(stem) };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| {
            let (_, rest) = pair[1].split_once("mod ")?;
            Some(folder.join(format!("{}.rs", rest.strip_suffix(';')?)))
        })
        .collect()
}

/// Without comments and without items behind `#[cfg(test)]` or `#[test]`.
fn program_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut all = (1..).zip(text.lines());
    while let Some((number, line)) = all.next() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[test]") {
            let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
            let mut is_first = true;
            for (_, line) in all.by_ref() {
                let is_attribute = line.trim_start().starts_with("#[");
                if line == end || (is_first && !is_attribute && line.ends_with([';', '}'])) {
                    break;
                }
                is_first &= is_attribute;
            }
        } else if !trimmed.starts_with("//") {
            let code = trimmed.split_once(" // ").map_or(trimmed, |(code, _)| code);
            lines.push((number, code.to_owned()));
        }
    }
    lines
}

fn rank(module: &str) -> Option<usize> {
    GROUPS.iter().position(|group| group.contains(&module))
}

/// The modules that a line names: `crate::policy::…`, `crate::{cli, run}`.
fn named_modules(line: &str, root: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
    };
    line.match_indices(root)
        .filter(|(at, _)| !line[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
        .flat_map(|(at, _)| {
            let rest = &line[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => list.split(", ").map(word).collect(),
                None => vec![word(rest)],
            }
        })
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn imports_point_inwards() {
    let mut wrong = Vec::new();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let own = rank(&source.module).unwrap_or_else(|| {
            panic!("{}: give the module `{}` a place in the groups of this test", source.path, source.module)
        });
        for (number, line) in &source.lines {
            for module in
                named_modules(line, "crate::").into_iter().chain(named_modules(line, "edamame_guard::"))
            {
                match rank(&module) {
                    Some(other) if other < own => {
                        wrong.push(format!("{}:{number}: {} imports {module}", source.path, source.module));
                    }
                    Some(_) => {
                        imports.entry(source.module.clone()).or_default().insert(module);
                    }
                    None => wrong.push(format!("{}:{number}: what is `{module}`?", source.path)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point outwards:\n{}", wrong.join("\n"));
    // Within a group one may import another, but not in a circle.
    for module in imports.keys() {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> =
            imports[module].iter().map(String::as_str).filter(|other| other != module).collect();
        while let Some(other) = next.pop() {
            assert_ne!(other, module, "`{module}` imports itself through {reached:?}");
            if reached.insert(other) {
                next.extend(
                    imports
                        .get(other)
                        .into_iter()
                        .flatten()
                        .map(String::as_str)
                        .filter(|third| *third != other),
                );
            }
        }
    }
}

#[test]
fn every_module_of_the_library_has_a_place() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let modules: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "{modules:?}");
    for module in modules {
        assert!(rank(module).is_some(), "give `{module}` a place in the groups of this test");
    }
}

#[test]
fn the_engine_side_is_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        for (number, line) in &source.lines {
            if let Some(name) = IMPURE.iter().find(|name| line.contains(**name)) {
                wrong.push(format!("{}:{number}: `{name}`: {line}", source.path));
            }
            // `use std::{fs, io};` names it in pieces.
            if let Some(list) = line.strip_prefix("use std::{") {
                for word in ["fs", "env", "thread", "process", "os"] {
                    if list.split([',', '}']).any(|item| item.trim() == word) {
                        wrong.push(format!("{}:{number}: `std::{word}`", source.path));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the engine side touches the world:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_in_the_sensors() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.module.as_str(), "sensors" | "enforce")) {
        for (number, line) in &source.lines {
            // A word of a text, such as an option of somebody else's, is none of ours.
            let code: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            if code
                .split(|character: char| !(character.is_alphanumeric() || character == '_'))
                .any(|word| word == "unsafe")
            {
                wrong.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    for path in files_below(&root().join("src")) {
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.strip_prefix("//! ").is_some_and(|rest| !rest.is_empty()),
            "{}: {first}",
            path.display()
        );
    }
}

#[test]
fn every_rule_is_listed_once_and_has_a_whole_page() {
    let files: BTreeSet<String> = files_below(&root().join("src/detections"))
        .iter()
        .filter(|path| !path.ends_with("mod.rs"))
        .map(|path| path.file_stem().and_then(|stem| stem.to_str()).expect("plain").replace('_', "-"))
        .collect();
    let ids: Vec<&str> = detections::all().iter().map(|rule| rule.id.0).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>(), files);
    assert_eq!(ids.len(), files.len(), "a rule is listed twice: {ids:?}");
    for rule in detections::all() {
        let file = format!("src/detections/{}.rs", rule.id.0.replace('-', "_"));
        let text = fs::read_to_string(root().join(&file)).expect("the rule's own file");
        assert!(rule.source == text, "{file}: the page comes from another file");
        let page = rule.page();
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for section in ["What it sees", "Why it matters", "What to do"] {
            assert!(headings.contains(&section), "{file}: no section \"{section}\": {headings:?}");
        }
        let summary = rule.summary();
        assert!(!summary.is_empty() && !summary.starts_with('#'), "{file}: {summary}");
        assert!(rule.remedy.ends_with('.'), "{file}: the remedy is a sentence: {}", rule.remedy);
        for technique in rule.techniques {
            // ATT&CK, or ATLAS for what is done to agents.
            let is_known = technique.0.starts_with('T') || technique.0.starts_with("AML.T");
            assert!(is_known && technique.0.len() >= 5, "{file}: {technique:?}");
        }
    }
}

fn is_in_the_table(id: &str) -> bool {
    RULES.contains(&id) || id.starts_with("posture-") || id.starts_with("coverage-")
}

#[test]
fn rule_ids_come_from_the_closed_table() {
    for rule in detections::all() {
        assert!(is_in_the_table(rule.id.0), "{} is not in the table", rule.id);
    }
    for source in sources() {
        for (number, line) in &source.lines {
            for (at, opening) in line.match_indices("RuleId(\"") {
                let id = line[at + opening.len()..].split('"').next().unwrap_or_default();
                assert!(is_in_the_table(id), "{}:{number}: {id} is not in the table", source.path);
            }
        }
    }
}

/// Hosts come from the configuration of the machine, so none stands in what we ship. Spelled in two pieces, because this
/// file is looked at as well.
const HOSTS: &[(&str, &str)] = &[
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("crates", "io"),
    ("debian", "org"),
    ("ubuntu", "com"),
    ("yarnpkg", "com"),
    ("rubygems", "org"),
    ("golang", "org"),
    ("nuget", "org"),
    ("packagist", "org"),
    ("maven", "org"),
];

#[test]
fn no_file_names_a_host_of_a_package_registry() {
    let hosts: Vec<String> = HOSTS.iter().map(|(name, end)| format!("{name}.{end}")).collect();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root()).expect("the root").flatten() {
        let name = entry.file_name();
        let name = name.to_str().expect("plain");
        // Not ours: what the build made, what git keeps, and what cargo writes.
        if ["target", ".git", "Cargo.lock", "demo-report", "edamame-guard-report"].contains(&name) {
            continue;
        }
        let files = if entry.path().is_dir() { files_below(&entry.path()) } else { vec![entry.path()] };
        for path in files {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a readable file")).to_lowercase();
            for host in hosts.iter().filter(|host| text.contains(host.as_str())) {
                wrong.push(format!("{}: {host}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn this_test_reads_code_as_it_should() {
    let text = "use crate::event::Event;\n\
                // crate::engine\n\
                #[cfg(test)]\n\
                mod tests {\n    use std::fs;\n}\n\
                fn after() {} // crate::run\n\
                #[test]\n\
                fn a_test() {\n    crate::engine::go();\n}\n\
                #[cfg(test)]\n\
                mod sample;\n\
                use crate::job;";
    let lines = program_lines(text);
    assert_eq!(
        lines,
        [(1, "use crate::event::Event;".into()), (7, "fn after() {}".into()), (14, "use crate::job;".into())]
    );
    assert_eq!(named_modules("use crate::{cli, run};", "crate::"), ["cli", "run"]);
    assert_eq!(
        named_modules("fn a(b: crate::job::Job, c: &crate::event::Event)", "crate::"),
        ["job", "event"]
    );
    assert_eq!(named_modules("use mycrate::engine;", "crate::"), [] as [&str; 0]);
    let files = test_modules(Path::new("src/policy.rs"), "#[cfg(test)]\nmod tests;\nmod wild;\n");
    assert_eq!(files, [PathBuf::from("src/policy/tests.rs")]);
    let files = test_modules(Path::new("src/lib.rs"), "pub mod job;\n#[cfg(test)]\nmod trace;\n");
    assert_eq!(files, [PathBuf::from("src/trace.rs")]);
}
