//! Paths as a policy writes them: gitignore-style globs, always anchored.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::Places;
use super::problem::{Complaint, shown};

/// An anchored glob, as written and known to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathGlob(String);

impl PathGlob {
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let refuse = |why: &str| Complaint::new(format!("`{}` is not a path: {why}", shown(text)));
        if text.starts_with('!') {
            return Err(refuse("`!` is not used here").hint("write `deny: [{match: …, except: […]}]`"));
        }
        if text.len() > 4096 || text.chars().any(char::is_control) {
            return Err(refuse("it is too long or holds a control character"));
        }
        if !["/", "~/", "./", "**/"].iter().any(|anchor| text.starts_with(anchor)) && text != "~" {
            let hint = if text.starts_with('~') {
                "`~/` is the step's home; another user's home needs its full path".to_owned()
            } else {
                format!("write `./{0}` for the workspace, or `**/{0}` for anywhere", shown(text))
            };
            return Err(refuse("it must start with `/`, `~/`, `./` or `**/`").hint(hint));
        }
        let body = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
        let body = body.strip_suffix('/').unwrap_or(body);
        if body.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(refuse("`.` and `..` are not used inside it").hint("write the path it leads to"));
        }
        if !body.is_empty() && body.split('/').any(str::is_empty) {
            return Err(refuse("it has `//` in it"));
        }
        glob(text).build().map_err(|error| {
            Complaint::new(format!("`{}` is not a glob: {}", shown(text), error.kind()))
                .hint("`*` and `?` stay within one folder, `**` crosses folders, `\\` takes the next letter as it is")
        })?;
        Ok(Self(text.to_owned()))
    }

    /// Whether each path of `other` is one of this, as far as the two texts say.
    pub fn covers(&self, other: &Self) -> bool {
        let is_plain = |text: &str| !text.contains(['*', '?', '[', '{', '\\']);
        let within = self.0.strip_suffix("/**").filter(|folder| is_plain(folder));
        self == other
            || within.is_some_and(|folder| {
                let rest = other.0.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
                folder.is_empty() || rest.is_some_and(|rest| !rest.is_empty())
            })
    }

    /// The glob with `~` and `./` resolved; `None` when this machine told us no such folder.
    fn expand(&self, places: &Places) -> Option<String> {
        let within = |folder: &str, rest: &str| {
            // A home such as `/` is no folder a rule could mean.
            let folder = folder.trim_end_matches('/');
            (!folder.is_empty()).then(|| format!("{}/{rest}", globset::escape(folder)))
        };
        let expanded = if self.0 == "~" {
            within(&places.home, "")?
        } else if let Some(rest) = self.0.strip_prefix("~/") {
            within(&places.home, rest)?
        } else if let Some(rest) = self.0.strip_prefix("./") {
            within(&places.workspace, rest)?
        } else {
            self.0.clone()
        };
        Some(expanded)
    }

    /// The part that names something, for a rule that must hold although its anchor is unknown.
    fn anywhere(&self) -> String {
        let rest = self.0.trim_start_matches('~').trim_start_matches('.').trim_start_matches('/');
        if rest.is_empty() { "/**".to_owned() } else { format!("**/{rest}") }
    }
}

fn glob(text: &str) -> GlobBuilder<'_> {
    let mut builder = GlobBuilder::new(text);
    builder.literal_separator(true).backslash_escape(true);
    builder
}

/// How much of a folder a glob speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Just what matches.
    Exact,
    /// Also the folder of `folder/**`: who may fill it may make it. For allows of writing.
    Filling,
    /// What matches, and everything below it: for denies of reading.
    Below,
    /// Also the folder of `folder/**`: who renames or deletes it changes all that is in it.
    Around,
}

/// Many globs at once; each matches to the number it was added with.
#[derive(Debug)]
pub(super) struct PathSet {
    set: Option<GlobSet>,
    owners: Vec<usize>,
}

impl PathSet {
    pub fn new<'g>(
        globs: impl Iterator<Item = (usize, &'g PathGlob)>,
        reach: Reach,
        places: &Places,
    ) -> Self {
        let mut builder = GlobSetBuilder::new();
        let mut owners = Vec::new();
        let mut is_whole = true;
        for (owner, path) in globs {
            let expanded = match path.expand(places) {
                Some(expanded) => expanded,
                None if matches!(reach, Reach::Exact | Reach::Filling) => continue,
                None => path.anywhere(),
            };
            for pattern in spread(&expanded, reach) {
                match glob(&pattern).build() {
                    Ok(glob) => {
                        builder.add(glob);
                        owners.push(owner);
                    }
                    Err(_) => is_whole = false,
                }
            }
        }
        Self { set: builder.build().ok().filter(|_| is_whole), owners }
    }

    /// The lowest number whose glob matches. A set that would not compile matches nothing here.
    pub fn first_match(&self, path: &str) -> Option<usize> {
        let matches = self.set.as_ref()?.matches(path);
        matches.into_iter().filter_map(|index| self.owners.get(index).copied()).min()
    }

    pub fn all_matches(&self, path: &str) -> Vec<usize> {
        let Some(set) = &self.set else { return Vec::new() };
        let mut owners: Vec<usize> =
            set.matches(path).into_iter().filter_map(|index| self.owners.get(index).copied()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// True when the globs were too much to compile, so that a deny has to hold for everything.
    pub fn is_broken(&self) -> bool {
        self.set.is_none()
    }
}

fn spread(expanded: &str, reach: Reach) -> Vec<String> {
    let folder = expanded.strip_suffix('/').filter(|rest| !rest.is_empty());
    let mut patterns = match folder {
        // `build/` is the folder and all in it.
        Some(folder) => vec![folder.to_owned(), format!("{folder}/**")],
        None if expanded == "/" => vec!["/".to_owned(), "/**".to_owned()],
        None => vec![expanded.to_owned()],
    };
    if matches!(reach, Reach::Below | Reach::Around)
        && folder.is_none()
        && !expanded.ends_with("/**")
        && expanded != "/"
    {
        patterns.push(format!("{expanded}/**"));
    }
    if matches!(reach, Reach::Filling | Reach::Around)
        && let Some(folder) = expanded.strip_suffix("/**").filter(|rest| !rest.is_empty() && *rest != "**")
    {
        patterns.push(folder.to_owned());
    }
    patterns
}

/// A path in one spelling: no `//`, `/./`, `/../` and no slash at the end.
pub(super) fn normal(path: &str) -> std::borrow::Cow<'_, str> {
    if !path.starts_with('/') || !path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return path.into();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/")).into()
}

/// Objects that no list has to name: device nodes every program uses, a process's own `/proc`
/// entries but its memory, and what has no name in the file system.
pub(super) fn is_always_allowed(path: &str) -> bool {
    const DEVICES: &[&str] = &[
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/console",
        "/dev/pts/ptmx",
    ];
    if DEVICES.contains(&path) {
        return true;
    }
    if let Some(terminal) = path.strip_prefix("/dev/pts/") {
        return !terminal.is_empty() && terminal.bytes().all(|byte| byte.is_ascii_digit());
    }
    if let Some(descriptor) = path.strip_prefix("/dev/fd/") {
        return !descriptor.is_empty() && descriptor.bytes().all(|byte| byte.is_ascii_digit());
    }
    for own in ["/proc/self", "/proc/thread-self"] {
        if let Some(rest) = path.strip_prefix(own) {
            // `root`, `cwd` and `task/N/root` lead out of /proc; the object's own path is judged then.
            return rest.is_empty() || (rest.starts_with('/') && rest.split('/').all(|part| part != "mem"));
        }
    }
    ["pipe:[", "socket:[", "anon_inode:", "memfd:"].iter().any(|prefix| path.starts_with(prefix))
        || (path.starts_with("/memfd:") && path.ends_with(" (deleted)") && path.matches('/').count() == 1)
}

/// What every program reads to start and to find its way: installed software, the configuration of
/// the loader and the C library, and the kernel's plain facts about the machine. None of it is a secret.
pub(super) fn is_systems_own(path: &str) -> bool {
    const FOLDERS: &[&str] = &[
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc/alternatives",
        "/etc/ca-certificates",
        "/etc/ld.so.conf.d",
        "/etc/pki/ca-trust",
        "/etc/pki/tls/certs",
        "/etc/ssl/certs",
        "/etc/terminfo",
        "/proc/sys",
        "/sys/devices/system",
        "/sys/fs/cgroup",
        "/sys/kernel/mm",
    ];
    const FILES: &[&str] = &[
        "/etc/bash.bashrc",
        "/etc/ca-certificates.conf",
        "/etc/debian_version",
        "/etc/gai.conf",
        "/etc/group",
        "/etc/host.conf",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/inputrc",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.preload",
        "/etc/locale.alias",
        "/etc/locale.conf",
        "/etc/localtime",
        "/etc/magic",
        "/etc/mime.types",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/passwd",
        "/etc/profile",
        "/etc/protocols",
        "/etc/resolv.conf",
        "/etc/services",
        "/etc/shells",
        "/etc/ssl/openssl.cnf",
        "/etc/timezone",
        "/proc/cgroups",
        "/proc/cpuinfo",
        "/proc/devices",
        "/proc/diskstats",
        "/proc/filesystems",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/version",
        "/proc/vmstat",
    ];
    FILES.contains(&path)
        || FOLDERS.iter().any(|folder| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { home: "/home/r[x]".to_owned(), workspace: "/work/app/".to_owned(), ..Places::default() }
    }

    fn matches(glob: &str, reach: Reach, path: &str) -> bool {
        let glob = PathGlob::parse(glob).unwrap_or_else(|error| panic!("{glob}: {error:?}"));
        PathSet::new([(0, &glob)].into_iter(), reach, &places()).first_match(path).is_some()
    }

    #[test]
    fn matches_anchored_globs() {
        for (glob, path, expected) in [
            ("./**", "/work/app/src/a.rs", true),
            ("./**", "/work/app", false),
            ("./**", "/work/application/a", false),
            ("./*.md", "/work/app/a.md", true),
            ("./*.md", "/work/app/docs/a.md", false),
            ("./build/", "/work/app/build/x/y", true),
            ("./build/", "/work/app/build", true),
            ("./build", "/work/app/build/x", false),
            ("~/.ssh/**", "/home/r[x]/.ssh/id", true),
            ("~/.ssh/**", "/home/rx/.ssh/id", false),
            ("/tmp/**", "/tmp/a/b", true),
            ("/tmp/?", "/tmp/a", true),
            ("/tmp/?", "/tmp/ab", false),
            ("**/.env", "/work/app/.env", true),
            ("**/.env", "/.env", true),
            ("**/.env", "/work/x.env", false),
            ("/**", "/etc/passwd", true),
            ("/a/**/b", "/a/x/y/b", true),
            ("/a/**/b", "/a/b", true),
            ("/tmp/\\*", "/tmp/*", true),
            ("/tmp/\\*", "/tmp/a", false),
        ] {
            assert_eq!(matches(glob, Reach::Exact, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn a_deny_covers_the_folder_and_what_is_in_it() {
        assert!(matches("~/.ssh", Reach::Below, "/home/r[x]/.ssh/id"));
        assert!(matches("~/.ssh", Reach::Below, "/home/r[x]/.ssh"));
        assert!(!matches("~/.ssh/**", Reach::Below, "/home/r[x]/.ssh"));
        assert!(matches("~/.ssh/**", Reach::Around, "/home/r[x]/.ssh"));
        assert!(matches("~/.npm/**", Reach::Filling, "/home/r[x]/.npm"));
        assert!(!matches("~/.npm", Reach::Filling, "/home/r[x]/.npm/a"));
        assert!(!matches("~/.npm/**", Reach::Filling, "/home/r[x]"));
        assert!(!matches("~/.ssh/**", Reach::Around, "/home/r[x]"));
    }

    #[test]
    fn an_unknown_home_allows_nothing_and_denies_everywhere() {
        let glob = PathGlob::parse("~/.ssh/**").expect("a path");
        let nowhere = Places::default();
        assert_eq!(
            PathSet::new([(0, &glob)].into_iter(), Reach::Exact, &nowhere).first_match("/.ssh/id"),
            None
        );
        let denied = PathSet::new([(0, &glob)].into_iter(), Reach::Below, &nowhere);
        assert_eq!(denied.first_match("/home/x/.ssh/id"), Some(0));
    }

    #[test]
    fn refuses_what_is_no_anchored_glob() {
        for (text, message, hint) in [
            ("src/**", "must start with", "./src/**"),
            ("*.md", "must start with", "**/*.md"),
            ("~root/.ssh", "must start with", "full path"),
            ("!/etc", "`!` is not used", "except"),
            ("/a/../b", "`..`", ""),
            ("/a//b", "`//`", ""),
            ("/a/[b", "is not a glob", "**"),
            ("/a/{b", "is not a glob", ""),
            ("/a\0", "control character", ""),
            ("", "must start with", ""),
        ] {
            let complaint = PathGlob::parse(text).expect_err(text);
            assert!(complaint.message.contains(message), "{text}: {}", complaint.message);
            assert!(complaint.hint.unwrap_or_default().contains(hint), "{text}");
        }
    }

    #[test]
    fn knows_objects_that_need_no_rule() {
        for (path, expected) in [
            ("/dev/null", true),
            ("/dev/pts/3", true),
            ("/dev/pts/x", false),
            ("/dev/sda", false),
            ("/dev/mem", false),
            ("/proc/self/status", true),
            ("/proc/self/mem", false),
            ("/proc/self/task/7/mem", false),
            ("/proc/thread-self/maps", true),
            ("/proc/selfish", false),
            ("/proc/1/environ", false),
            ("pipe:[123]", true),
            ("/memfd:x (deleted)", true),
            ("/memfd:x", false),
            ("/memfd:x/y (deleted)", false),
        ] {
            assert_eq!(is_always_allowed(path), expected, "{path}");
        }
        for (path, expected) in [
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", true),
            ("/lib64/ld-linux-x86-64.so.2", true),
            ("/etc/ld.so.cache", true),
            ("/etc/ssl/certs/ca-certificates.crt", true),
            ("/proc/meminfo", true),
            ("/proc/sys/vm/overcommit_memory", true),
            ("/etc/shadow", false),
            ("/etc/ssl/private/key.pem", false),
            ("/etc/ssh/ssh_host_ed25519_key", false),
            ("/usrlocal", false),
            ("/proc/1/status", false),
            ("/proc/kcore", false),
            ("/opt/app/secret", false),
        ] {
            assert_eq!(is_systems_own(path), expected, "{path}");
        }
        assert_eq!(normal("/a/./b//c/../d/"), "/a/b/d");
        assert_eq!(normal("/../.."), "/");
        assert_eq!(normal("pipe:[1]"), "pipe:[1]");
    }
}
