//! What the engine must know of the host: homes, name servers, configured registries, credentials.
//!
//! Read once before the job's first step; everything found enters the recording as a fact, so
//! that a replay never has to look.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::catalogue::{self, Catalogue};
use crate::event::{Fact, File, Timestamp};
use crate::job::Job;
use crate::sockets;

/// Homes beyond this many are left out; nobody has so many on a runner.
const HOMES: usize = 64;
/// Some block lists have a hundred thousand; they name nobody whom a job talks to.
const HOST_NAMES: usize = 1024;
/// Folders looked at below one home for credentials.
const LOOKED_AT: usize = 4096;

/// Everything looked up for this job.
pub fn facts(job: &Job) -> Vec<Fact> {
    let mut facts: Vec<Fact> = homes().map(|(uid, path)| Fact::Home { uid, path }).collect();
    facts.extend(resolvers());
    facts.extend(host_names());
    facts.extend(registries(job));
    facts.extend(credentials(&facts, job));
    facts.extend(sockets::inventory());
    facts
}

/// This very program as an object, so that another of its recorders is known in the record.
pub fn own_program() -> Option<File> {
    let metadata = fs::metadata("/proc/self/exe").ok()?;
    let path = fs::read_link("/proc/self/exe").ok()?;
    let nanoseconds = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    Some(File {
        inode: metadata.ino(),
        changed: u64::try_from(nanoseconds).ok().map(Timestamp),
        ..File::at(path.to_string_lossy())
    })
}

/// Homes of the local users, by user id.
pub fn homes() -> impl Iterator<Item = (u32, String)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes: Vec<(u32, String)> = users
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let uid: u32 = fields.get(2)?.parse().ok()?;
            let home = fs::canonicalize(fields.get(5)?).ok()?;
            // Daemons live in /, /bin and the like; their "home" holds no user's files.
            let is_personal = home.starts_with("/home") || home.starts_with("/root") || uid >= 1000;
            (is_personal && home.is_dir() && home.components().count() > 1)
                .then(|| (uid, home.to_string_lossy().into_owned()))
        })
        .take(HOMES)
        .collect();
    homes.into_iter()
}

fn resolvers() -> Vec<Fact> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
                .collect::<BTreeSet<_>>()
        })
        .map(|address| Fact::Resolver { address })
        .collect()
}

/// What `/etc/hosts` says; this machine's own addresses are nobody's destination.
fn host_names() -> Vec<Fact> {
    let text = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            let names: Vec<Fact> =
                words.map(|name| Fact::HostName { name: name.to_owned(), address }).collect();
            (!address.is_loopback() && !address.is_multicast()).then_some(names)
        })
        .flatten()
        .take(HOST_NAMES)
        .collect()
}

/// The clients' configuration, as files: where they are told to look for packages.
fn registries(job: &Job) -> Vec<Fact> {
    let home = &job.home;
    let workspace = &job.workspace;
    let mut apt: Vec<String> = vec!["/etc/apt/sources.list".to_owned()];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        if !["list", "sources"].iter().any(|kind| entry.path().extension().is_some_and(|end| end == *kind)) {
            continue;
        }
        apt.push(entry.path().to_string_lossy().into_owned());
    }
    apt.sort();
    let own = |names: &[&str]| names.iter().map(|name| format!("{home}/{name}")).collect::<Vec<_>>();
    let with = |names: &[&str], more: Vec<String>| {
        names.iter().map(|name| (*name).to_owned()).chain(more).collect::<Vec<_>>()
    };
    let clients = [
        (
            "node",
            with(
                &["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"],
                own(&[".npmrc", ".yarnrc", ".yarnrc.yml"]),
            ),
        ),
        (
            "python",
            with(&["/etc/pip.conf"], own(&[".pip/pip.conf", ".config/pip/pip.conf", ".config/uv/uv.toml"])),
        ),
        ("rust", with(&["/usr/local/cargo/config.toml"], own(&[".cargo/config.toml", ".cargo/config"]))),
        ("debian", apt),
    ];
    let mut facts = Vec::new();
    for (group, sources) in clients {
        for source in sources {
            // A file of the workspace belongs to the change under review, not to the machine.
            if source.starts_with(&format!("{workspace}/")) {
                continue;
            }
            let Ok(text) = fs::read_to_string(&source) else { continue };
            let hosts: BTreeSet<String> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with(['#', ';']))
                .flat_map(hosts_in)
                .collect();
            if !hosts.is_empty() {
                facts.push(Fact::Registry {
                    group: group.to_owned(),
                    hosts: hosts.into_iter().collect(),
                    source,
                });
            }
        }
    }
    let settings = [
        ("node", ["NPM_CONFIG_REGISTRY", "npm_config_registry", "YARN_NPM_REGISTRY_SERVER"].as_slice()),
        ("python", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"].as_slice()),
        ("rust", ["CARGO_REGISTRIES_CRATES_IO_INDEX"].as_slice()),
        ("go", ["GOPROXY"].as_slice()),
    ];
    for (group, names) in settings {
        for name in names {
            let hosts: Vec<String> =
                std::env::var(name).map(|value| hosts_in(&value).collect()).unwrap_or_default();
            if !hosts.is_empty() {
                facts.push(Fact::Registry { group: group.to_owned(), hosts, source: format!("${name}") });
            }
        }
    }
    facts
}

/// Host names in every URL of a line, lower case, without user and port.
fn hosts_in(line: &str) -> impl Iterator<Item = String> {
    line.split("://").skip(1).filter_map(|rest| {
        let end = rest.find(['/', '"', '\'', ' ', '?', '#', '\t', ',', '|']).unwrap_or(rest.len());
        let authority = rest.get(..end)?.rsplit('@').next()?;
        let host = if authority.starts_with('[') {
            authority.split(']').next()?.trim_start_matches('[')
        } else {
            authority.split(':').next()?
        };
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    })
}

/// Credential files that exist, as objects: a hard link or a mount can't hide them later.
fn credentials(facts: &[Fact], job: &Job) -> Vec<Fact> {
    let homes: BTreeSet<&str> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Home { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .chain([job.home.as_str()])
        .collect();
    let by_uid =
        homes.iter().enumerate().map(|(index, home)| (u32::try_from(index).unwrap_or(0), (*home).to_owned()));
    let catalogue = Catalogue::new(&by_uid.collect(), job, &[]);
    let mut found = Vec::new();
    let roots: BTreeSet<PathBuf> = homes
        .iter()
        .flat_map(|home| catalogue::folders().map(move |folder| Path::new(home).join(folder)))
        .chain(["/etc/shadow", "/etc/gshadow"].map(PathBuf::from))
        .collect();
    for root in roots {
        walk(&root, &mut |path, metadata| {
            let path = path.to_string_lossy();
            if catalogue.credential(&path).is_some() {
                found.push(Fact::Credential {
                    file: File {
                        path: path.into_owned(),
                        device: metadata.dev(),
                        inode: metadata.ino(),
                        ..File::default()
                    },
                });
            }
        });
    }
    found
}

/// Regular files at or below `root`, real paths only, bounded.
fn walk(root: &Path, each: &mut impl FnMut(&Path, &fs::Metadata)) {
    let Ok(root) = fs::canonicalize(root) else { return };
    let mut stack = vec![(root, 0_usize)];
    let mut seen = 0;
    while let Some((path, depth)) = stack.pop() {
        seen += 1;
        if seen > LOOKED_AT {
            return;
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_file() {
            each(&path, &metadata);
        } else if metadata.is_dir() && depth < 6 {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                stack.push((entry.path(), depth + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hosts_of_every_client_syntax() {
        let hosts = |line: &str| hosts_in(line).collect::<Vec<_>>();
        assert_eq!(hosts("registry=https://npm.internal.example:8443/x/"), ["npm.internal.example"]);
        assert_eq!(
            hosts("index-url = https://user:pw@pypi.internal.example/simple"),
            ["pypi.internal.example"]
        );
        assert_eq!(hosts("index = \"sparse+https://crates.internal.example/\""), ["crates.internal.example"]);
        assert_eq!(
            hosts("deb [arch=amd64] http://deb.internal.example/debian stable main"),
            ["deb.internal.example"]
        );
        assert!(hosts("no url here").is_empty());
    }
}
