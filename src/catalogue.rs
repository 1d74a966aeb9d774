//! The objects that matter on every host: credential stores and places that run again later.
//!
//! Data in `catalogue/*.yml`; `~` stands for the home of every local user, so the globs are
//! compiled once the homes are known.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use globset::{GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::job::Job;

pub mod permissions;
pub mod posture;
pub mod setup;
pub mod uploads;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    id: String,
    title: String,
    paths: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    owners: Vec<String>,
    #[serde(default)]
    casual: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    not_services: Vec<String>,
    #[serde(default)]
    prints: bool,
    #[serde(default)]
    prints_with: Vec<String>,
    #[serde(default)]
    named: bool,
}

/// A kind of object: `aws` credentials, `ssh-access` …
#[derive(Debug)]
pub struct Store {
    pub id: String,
    /// As a sentence names it: `AWS credentials`.
    pub title: String,
    /// The owner's own command line can print what is in it: `gh auth token`.
    pub prints: bool,
    /// It prints it when it is told so with an argument that begins like this.
    prints_with: Vec<String>,
    /// Its services have names: a bare public address is none of them.
    pub is_named: bool,
    paths: Vec<String>,
    except: Vec<String>,
    owners: GlobSet,
    casual: GlobSet,
    services: GlobSet,
    not_services: GlobSet,
}

impl Store {
    /// Whether a program opens the store on every request, whomever it talks to: wget and ~/.netrc.
    pub fn is_opened_casually_by(&self, name: &str) -> bool {
        self.casual.is_match(name)
    }

    /// Whether these arguments make the store's own program print what is in it.
    pub fn is_printed_by(&self, arguments: &[String]) -> bool {
        let is_told = |argument: &String| self.prints_with.iter().any(|start| argument.starts_with(start));
        arguments.iter().any(is_told)
    }

    /// Whether a host, by a name that the host's name servers gave, is the service the store is for.
    pub fn is_for(&self, host: &str) -> bool {
        self.services.is_match(host) && !self.not_services.is_match(host)
    }

    /// Whether a program with this file name uses the store as part of its work.
    pub fn is_owned_by(&self, name: &str) -> bool {
        self.owners.is_match(name) || self.casual.is_match(name)
    }
}

static CREDENTIALS: LazyLock<Vec<Store>> = LazyLock::new(|| read(include_str!("catalogue/credentials.yml")));
static PERSISTENCE: LazyLock<Vec<Store>> = LazyLock::new(|| read(include_str!("catalogue/persistence.yml")));
/// The objects a policy adds under `secrets:`; nobody owns them.
static USERS_OWN: LazyLock<Store> = LazyLock::new(|| Store {
    id: "secrets".to_owned(),
    title: "a secret named by the policy".to_owned(),
    prints: false,
    prints_with: Vec::new(),
    is_named: false,
    paths: Vec::new(),
    except: Vec::new(),
    owners: GlobSet::empty(),
    casual: GlobSet::empty(),
    services: GlobSet::empty(),
    not_services: GlobSet::empty(),
});

fn read(text: &str) -> Vec<Store> {
    let entries: Vec<Entry> =
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("catalogue: {error}"));
    entries
        .into_iter()
        .map(|entry| Store {
            id: entry.id,
            title: entry.title,
            prints: entry.prints,
            prints_with: entry.prints_with,
            is_named: entry.named,
            paths: entry.paths,
            except: entry.except,
            owners: crate::commands::globs(&entry.owners),
            casual: crate::commands::globs(&entry.casual),
            services: crate::commands::globs(&entry.services),
            not_services: crate::commands::globs(&entry.not_services),
        })
        .collect()
}

/// Programs that may do what a rule looks for, because it is their work.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workers {
    id: String,
    /// Why it is their work; for people.
    reason: String,
    paths: Vec<String>,
}

static WORKERS: LazyLock<Vec<(String, GlobSet)>> = LazyLock::new(|| {
    let all: Vec<Workers> = serde_saphyr::from_str(include_str!("catalogue/workers.yml"))
        .unwrap_or_else(|error| panic!("catalogue/workers.yml: {error}"));
    all.into_iter()
        .map(|workers| {
            assert!(!workers.reason.is_empty(), "{} has no reason", workers.id);
            (workers.id, paths(&workers.paths))
        })
        .collect()
});

/// Objects that a rule looks for by their path.
static OBJECTS: LazyLock<BTreeMap<String, GlobSet>> = LazyLock::new(|| {
    let all: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(include_str!("catalogue/objects.yml"))
        .unwrap_or_else(|error| panic!("catalogue/objects.yml: {error}"));
    all.into_iter().map(|(id, globs)| (id, paths(&globs))).collect()
});

fn paths(globs: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        // `{var/,}` may be nothing, too.
        let glob = globset::GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build();
        set.add(glob.unwrap_or_else(|error| panic!("catalogue: {error}")));
    }
    set.build().unwrap_or_else(|error| panic!("catalogue: {error}"))
}

/// Whether the program at this path is one of those whose work `id` is. The caller has to know that the job did not put
/// it there.
pub fn is_work_of(id: &str, path: &str) -> bool {
    WORKERS.iter().any(|(known, globs)| known == id && globs.is_match(path))
}

/// Whether `path` is one of the objects that `id` stands for.
pub fn is_object(id: &str, path: &str) -> bool {
    OBJECTS.get(id).is_some_and(|globs| globs.is_match(path))
}

/// Every credential store.
pub fn credentials() -> &'static [Store] {
    &CREDENTIALS
}

/// The credential store with this id.
pub fn credential(id: &str) -> Option<&'static Store> {
    CREDENTIALS.iter().find(|store| store.id == id)
}

/// The folders and files below a home in which credentials can lie, without wildcards.
pub fn folders() -> impl Iterator<Item = &'static str> {
    CREDENTIALS.iter().flat_map(|store| &store.paths).filter_map(|path| {
        let below = path.strip_prefix("~/")?;
        let literal = below.split('*').next()?;
        // Up to the last whole component before a wildcard.
        if literal.len() == below.len() { Some(below) } else { Some(literal.rsplit_once('/')?.0) }
    })
}

/// The folder below one of these homes in which credentials lie and that this path is: `.aws`, `.config/gh`.
pub fn credential_folder<'p>(path: &'p str, homes: &[String]) -> Option<&'p str> {
    let below = homes.iter().find_map(|home| path.strip_prefix(home.as_str())?.strip_prefix('/'))?;
    let is_folder = |known: &'static str| {
        known == below || known.rsplit_once('/').is_some_and(|(folder, _)| folder == below)
    };
    let is_common = matches!(below, "" | ".config" | ".local" | ".local/share");
    (!is_common && folders().any(is_folder)).then_some(below)
}

/// The catalogue for one host: globs with each user's home put in.
#[derive(Debug, Default)]
pub struct Catalogue {
    credentials: Matcher,
    persistence: Matcher,
}

#[derive(Debug, Default)]
struct Matcher {
    set: GlobSet,
    stores: Vec<&'static Store>,
    except: GlobSet,
}

impl Matcher {
    fn new(stores: &'static [Store], homes: &[String], own: &[String], workspace: &str) -> Self {
        let (mut set, mut except) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut index = Vec::new();
        let add = |builder: &mut GlobSetBuilder, path: &str| {
            let mut added = 0;
            for place in places(path, homes, workspace) {
                if let Ok(glob) = crate::commands::path_glob(&place) {
                    builder.add(glob);
                    added += 1;
                }
            }
            added
        };
        for store in stores {
            for path in &store.paths {
                index.extend(std::iter::repeat_n(store, add(&mut set, path)));
            }
            for path in &store.except {
                add(&mut except, path);
            }
        }
        for path in own {
            index.extend(std::iter::repeat_n(&*USERS_OWN, add(&mut set, path)));
        }
        Self {
            set: set.build().unwrap_or_default(),
            stores: index,
            except: except.build().unwrap_or_default(),
        }
    }

    fn find(&self, path: &str) -> Option<&'static Store> {
        let index = self.set.matches(path).into_iter().next()?;
        if self.except.is_match(path) { None } else { self.stores.get(index).copied() }
    }
}

/// A glob with `~` once for each home, and `./` for the workspace.
fn places(path: &str, homes: &[String], workspace: &str) -> Vec<String> {
    if let Some(rest) = path.strip_prefix("./") {
        return vec![format!("{}/{rest}", globset::escape(workspace))];
    }
    match path.strip_prefix("~/") {
        Some(rest) => homes.iter().map(|home| format!("{}/{rest}", globset::escape(home))).collect(),
        None => vec![path.to_owned()],
    }
}

impl Catalogue {
    /// For a host with these homes by user id; `secrets` are the policy's own globs.
    pub fn new(homes: &BTreeMap<u32, String>, job: &Job, secrets: &[String]) -> Self {
        let mut all: Vec<String> = homes.values().cloned().collect();
        all.push(job.home.clone());
        all.retain(|home| home.len() > 1);
        all.sort();
        all.dedup();
        Self {
            credentials: Matcher::new(&CREDENTIALS, &all, secrets, &job.workspace),
            persistence: Matcher::new(&PERSISTENCE, &all, &[], &job.workspace),
        }
    }

    /// The credential store this real path belongs to.
    pub fn credential(&self, path: &str) -> Option<&'static Store> {
        self.credentials.find(path)
    }

    /// What writing to this real path would make run again later.
    pub fn persistence(&self, path: &str) -> Option<&'static Store> {
        self.persistence.find(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_stores_in_every_home() {
        let homes = BTreeMap::from([(0, "/root".to_owned()), (1000, "/home/u".to_owned())]);
        let job = Job {
            provider: crate::job::Provider::Local,
            name: "local".to_owned(),
            workspace: "/w".to_owned(),
            home: "/tmp/job-home".to_owned(),
            uid: 1000,
            pipeline: None,
            steps: Vec::new(),
        };
        let own = ["/srv/keys/**".to_owned(), "./keys/*.pem".to_owned()];
        let catalogue = Catalogue::new(&homes, &job, &own);
        for (path, id) in [
            ("/root/.aws/credentials", "aws"),
            ("/home/u/.ssh/id_ed25519", "ssh-keys"),
            ("/tmp/job-home/.config/gcloud/application_default_credentials.json", "google-cloud"),
            ("/srv/keys/a/b", "secrets"),
            ("/w/keys/release.pem", "secrets"),
        ] {
            assert_eq!(catalogue.credential(path).map(|store| store.id.as_str()), Some(id), "{path}");
        }
        for path in ["/home/u/.ssh/id_ed25519.pub", "/home/u/.ssh/known_hosts", "/w/.aws/credentials"] {
            assert!(catalogue.credential(path).is_none(), "{path}");
        }
        assert!(catalogue.persistence("/home/u/.bashrc").is_some());
        assert!(catalogue.credential("/root/.aws/credentials").unwrap().is_owned_by("aws"));
    }
}
