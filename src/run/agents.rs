//! `agents`: the coding agents of this host, what they are told they may do, and what of it to set right.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::posture::safe;
use super::{Error, counted, now, print};
use crate::finding::PermissionReport;
use crate::inventory::{self, Inventory, Issue, Program, Server, Told, User};
use crate::runners;

const SCHEMA: &str = "edamame-guard/agents/v1";

/// The whole inventory for programs.
#[derive(Serialize)]
struct Document<'i> {
    schema: &'static str,
    /// RFC 3339
    time: String,
    agents: &'i [Program],
    /// Agents of which a file of whoever manages this host says something.
    managed: Vec<&'i str>,
    settings: &'i [Told],
    servers: &'i [Server],
    issues: &'i [Issue],
    /// Homes that could not be looked into.
    unread: &'i [String],
}

pub(super) fn agents(json: bool) -> Result<u8, Error> {
    let directory = std::env::current_dir()
        .map_err(|source| Error::Host { what: "the working folder".to_owned(), source })?;
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let path: Vec<PathBuf> = path.into_iter().filter(|folder| folder.is_absolute()).collect();
    let inventory = inventory::take(&users(), &path, &directory);
    if json {
        let document = Document {
            schema: SCHEMA,
            time: now().rfc3339(),
            agents: &inventory.programs,
            managed: inventory.managed(),
            settings: &inventory.told,
            servers: &inventory.servers,
            issues: &inventory.issues,
            unread: &inventory.unread,
        };
        let text = serde_json::to_string_pretty(&document).map_err(|error| Error::Report(error.into()))?;
        print(&format!("{text}\n"));
    } else {
        print(&table(&inventory));
    }
    Ok(0)
}

/// Everybody with a home of their own, and whoever asks.
fn users() -> Vec<User> {
    let names: BTreeMap<u32, String> = std::fs::read_to_string("/etc/passwd")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some((fields.get(2)?.parse().ok()?, (*fields.first()?).to_owned()))
        })
        .collect();
    let name = |uid: u32| names.get(&uid).cloned().unwrap_or_else(|| uid.to_string());
    let mut users: Vec<User> = runners::homes().map(|(uid, home)| User { name: name(uid), home }).collect();
    if let Some(home) = std::env::var_os("HOME").and_then(|home| std::fs::canonicalize(home).ok()) {
        let home = home.to_string_lossy().into_owned();
        if !users.iter().any(|user| user.home == home) {
            users.push(User { name: name(nix::unistd::geteuid().as_raw()), home });
        }
    }
    users
}

/// Entries that differ by their agent alone, each once with all its agents.
fn grouped<T>(entries: &[T], agent: fn(&T) -> &String, is_same: fn(&T, &T) -> bool) -> Vec<(&T, Vec<&str>)> {
    let mut groups: Vec<(&T, Vec<&str>)> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|(known, _)| is_same(known, entry)) {
            Some((_, agents)) => agents.push(agent(entry)),
            None => groups.push((entry, vec![agent(entry)])),
        }
    }
    groups
}

fn table(inventory: &Inventory) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "agents");
    if inventory.programs.is_empty() {
        let _ = writeln!(text, "  none of those that are known is installed in a usual place");
    }
    for program in &inventory.programs {
        let digest = program.sha256.as_deref().map_or("no digest", |digest| &digest[..16]);
        let version = program.version.as_deref().unwrap_or("?");
        let _ = writeln!(
            text,
            "  {:<15} {:<12} {}  sha256 {digest}",
            program.title,
            safe(version),
            safe(&program.path)
        );
    }
    let _ = writeln!(text, "what they are told");
    if inventory.told.is_empty() {
        let _ = writeln!(text, "  nothing: each has its own defaults");
    }
    for (told, agents) in grouped(
        &inventory.told,
        |told| &told.said.agent,
        |a, b| {
            (&a.user, &a.said.file, &a.said.items, &a.said.problem)
                == (&b.user, &b.said.file, &b.said.items, &b.said.problem)
        },
    ) {
        let report = PermissionReport {
            level: told.said.level,
            file: told.said.file.clone(),
            settings: told.said.items.clone(),
            problem: told.said.problem.clone(),
        };
        let _ = writeln!(text, "  {}", safe(&report.in_words()));
        for line in told.said.problem.iter().flat_map(|problem| problem.lines().skip(1)) {
            let _ = writeln!(text, "    {}", safe(line));
        }
        let who = told.user.as_ref().map_or_else(String::new, |user| format!(" of {}", safe(user)));
        let _ = writeln!(text, "      for {}{who}", agents.join(", "));
    }
    if !inventory.servers.is_empty() {
        let _ = writeln!(text, "tool servers");
    }
    let servers = grouped(
        &inventory.servers,
        |server| &server.agent,
        |a, b| (&a.name, &a.start, &a.file, a.line) == (&b.name, &b.start, &b.file, b.line),
    );
    for (server, agents) in &servers {
        let _ = writeln!(text, "  {:<15} {}", safe(&server.name), safe(&server.start));
        let _ = writeln!(text, "      {}:{}, for {}", safe(&server.file), server.line, agents.join(", "));
    }
    if !inventory.issues.is_empty() {
        let _ = writeln!(text, "to set right");
    }
    for issue in &inventory.issues {
        let check = issue.check.map_or_else(String::new, |check| format!(" [{check}]"));
        let place = if issue.line == 0 { String::new() } else { format!(":{}", issue.line) };
        let _ = writeln!(text, "  {:<8} {}{check}", issue.severity, safe(&issue.what));
        let _ = writeln!(text, "           {}{place}", safe(&issue.file));
        let _ = writeln!(text, "           do: {}", issue.remedy);
    }
    for home in &inventory.unread {
        let _ = writeln!(text, "not looked into: {}", safe(home));
    }
    let managed = match inventory.managed().as_slice() {
        [] => "no agent is managed by a policy of this host".to_owned(),
        some => format!("managed by this host: {}", some.join(", ")),
    };
    let _ = writeln!(
        text,
        "{}, {}, {} to set right; {managed}",
        counted(inventory.programs.len(), "agent"),
        counted(servers.len(), "tool server"),
        counted(inventory.issues.len(), "thing"),
    );
    text
}
