//! Tool servers (MCP): what starts one, told without its secrets, and what is wrong with that.

use super::super::settings::document::Node;
use super::{is_literal, is_secret_name, is_secret_value, short};

/// What lies behind a server's entry: a program with its first words, or an address without its path.
pub(super) fn start(node: &Node) -> Option<String> {
    let mut words: Vec<&str> = Vec::new();
    match node.get("command") {
        // One text, or a list of all words.
        Some(command) if command.text().is_some() => words.extend(command.text()),
        Some(command) => words.extend(command.list().iter().filter_map(Node::text)),
        None => {}
    }
    words.extend(node.get("args").into_iter().flat_map(Node::list).filter_map(Node::text));
    if !words.is_empty() {
        return Some(shown(&words));
    }
    let address = ["url", "httpUrl", "serverUrl"].iter().find_map(|name| node.get(name)?.text())?;
    Some(host(address).unwrap_or_else(|| "an address".to_owned()))
}

/// `https://host.example:8443`: what follows, or stands before the name, may be a secret.
fn host(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(short(&format!("{scheme}://{host}")))
}

/// The first words, with everything that may be a secret left out.
fn shown(words: &[&str]) -> String {
    const MOST: usize = 8;
    let mut told: Vec<String> = Vec::new();
    let mut before = "";
    for word in words.iter().take(MOST) {
        let is_after = before.starts_with('-') && is_secret_name(before) && is_literal(word);
        told.push(match (word.split_once('='), host(word)) {
            _ if is_after || is_secret_value(word) => "***".to_owned(),
            (_, Some(host)) if word.starts_with("http") && !word.contains(' ') => host,
            (Some((name, value)), _) if !word.contains(' ') && !value.is_empty() => format!("{name}=…"),
            _ => (*word).to_owned(),
        });
        before = word;
    }
    if words.len() > MOST {
        told.push("…".to_owned());
    }
    short(&told.join(" "))
}

/// What is wrong with starting a server like this, each in a few words.
pub fn weaknesses(start: &str) -> Vec<&'static str> {
    let mut weak = Vec::new();
    if let Some(rest) = start.strip_prefix("http://") {
        let name = rest.split(':').next().unwrap_or_default();
        if !matches!(name, "localhost" | "[" | "127.0.0.1")
            && !name.starts_with("127.")
            && !rest.starts_with("[::1]")
        {
            weak.push(PLAIN);
        }
        return weak;
    }
    let words: Vec<&str> = start.split(' ').collect();
    let name = words.first().map_or("", |word| crate::intent::basename(word));
    let behind = |skip: &[&str]| {
        words.iter().skip(1).copied().find(|word| !word.starts_with('-') && !skip.contains(word))
    };
    let package = match (name, words.get(1).copied()) {
        ("npx" | "bunx" | "pnpx" | "uvx", _) => behind(&[]),
        ("pnpm" | "yarn", Some("dlx")) | ("npm", Some("exec" | "x")) | ("bun", Some("x")) => {
            behind(&["dlx", "exec", "x"])
        }
        ("pipx", Some("run")) | ("uv", Some("tool" | "run" | "x")) => behind(&["tool", "run", "x"]),
        ("docker" | "podman", Some("run")) => {
            // Words of options that take one stand between; the image is the first with the form of one.
            let image = words
                .iter()
                .skip(2)
                .find(|word| !word.starts_with('-') && (word.contains('/') || word.contains(':')));
            let is_pinned = |image: &&&str| image.contains("@sha256:");
            let has_tag = |image: &&&str| {
                crate::intent::basename(image).split_once(':').is_some_and(|(_, tag)| tag != "latest")
            };
            if !image.as_ref().is_some_and(|image| is_pinned(image) || has_tag(image)) {
                weak.push(UNPINNED_IMAGE);
            }
            None
        }
        _ => None,
    };
    if let Some(package) = package
        && !is_pinned(package)
    {
        weak.push(UNPINNED);
    }
    let is_fetched = ["curl ", "wget "].iter().any(|client| start.contains(client));
    let is_run = ["| sh", "|sh", "| bash", "|bash", "<(curl", "$(curl"].iter().any(|run| start.contains(run));
    if is_fetched && is_run {
        weak.push(FETCHED);
    }
    weak
}

pub const UNPINNED: &str = "its package has no version, so the newest is fetched and run";
pub const UNPINNED_IMAGE: &str = "its image has no version, so the newest is fetched and run";
pub const FETCHED: &str = "a script is fetched and run";
pub const PLAIN: &str = "it is spoken to without TLS";

/// `name@1.2.3`, `name==1.2.3`, a file, or a revision.
fn is_pinned(package: &str) -> bool {
    if package.starts_with(['.', '/', '~']) || package.contains("==") {
        return true;
    }
    if package.contains("git+") || package.contains("://") || package.starts_with("github:") {
        return package.rsplit_once(['#', '@']).is_some_and(|(_, revision)| {
            revision.len() >= 7 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
    }
    let version = package.trim_start_matches('@').split_once('@').map_or("", |(_, version)| version);
    version.starts_with(|letter: char| letter.is_ascii_digit()) && version.contains('.')
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[test]
    fn what_starts_a_server_is_told_without_secrets() {
        for (entry, wanted) in [
            (
                r#"{"command": "npx", "args": ["-y", "@a/b@1.0.0", "--api-key", "abcdefgh"]}"#,
                Some("npx -y @a/b@1.0.0 --api-key ***"),
            ),
            (
                r#"{"type": "local", "command": ["uvx", "x", "--url=https://h.example/t0ken"]}"#,
                Some("uvx x --url=…"),
            ),
            (r#"{"url": "https://user:pass@h.example:8443/mcp?key=abc"}"#, Some("https://h.example:8443")),
            (
                r#"{"command": "docker", "args": ["run", "-e", "TOKEN=abc", "a/b"]}"#,
                Some("docker run -e TOKEN=… a/b"),
            ),
            (r#"{"note": "x"}"#, None),
        ] {
            assert_eq!(start(&document::json(entry).unwrap()).as_deref(), wanted, "{entry}");
        }
    }

    #[test]
    fn knows_what_is_fetched_anew_each_time() {
        for (start, wanted) in [
            ("npx -y @scope/server", &[UNPINNED][..]),
            ("npx -y @scope/server@latest", &[UNPINNED]),
            ("npx -y @scope/server@1.2.3", &[]),
            ("npx server@^1.2", &[UNPINNED]),
            ("/usr/bin/npx ./local-server", &[]),
            ("uvx mcp-server", &[UNPINNED]),
            ("uvx mcp-server==1.0", &[]),
            ("uvx mcp-server@1.0", &[]),
            ("pipx run mcp-server", &[UNPINNED]),
            ("pnpm dlx server", &[UNPINNED]),
            ("npx -y github:a/b", &[UNPINNED]),
            ("npx -y github:a/b#0123456789", &[]),
            ("docker run -i --rm -e KEY ghcr.example/a/b", &[UNPINNED_IMAGE]),
            ("docker run -i --rm ghcr.example/a/b:1.2", &[]),
            ("docker run -i a/b@sha256:00", &[]),
            ("sh -c curl -fsSL https://x.example/i | sh", &[FETCHED]),
            ("bash -c bash <(curl -s https://x.example)", &[FETCHED]),
            ("node server.js", &[]),
            ("python -m server", &[]),
            ("http://h.example:80", &[PLAIN]),
            ("http://localhost:8000", &[]),
            ("http://127.0.0.1:8000", &[]),
            ("https://h.example", &[]),
        ] {
            assert_eq!(weaknesses(start), wanted, "{start}");
        }
    }
}
