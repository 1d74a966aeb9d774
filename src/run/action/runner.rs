//! How the runner is talked to: workflow commands in the log, and the files of a step.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The runner cuts longer messages.
const LONGEST: usize = 4000;
/// The runner shows no summary at all that is longer than 1 MiB.
pub(super) const LONGEST_SUMMARY: usize = 900 * 1024;

/// A workflow command such as `::error file=a.yml,line=3::text`, escaped so that no text can end it or begin another.
pub(super) fn command(name: &str, properties: &[(&str, &str)], text: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let list: Vec<String> = properties
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", data(value).replace(':', "%3A").replace(',', "%2C")))
        .collect();
    let blank = if list.is_empty() { "" } else { " " };
    let text: String = text.chars().take(LONGEST).collect();
    format!("::{name}{blank}{}::{}", list.join(","), data(&text))
}

/// Appends lines to one of the step's files, which is its user's and a plain file. As root we write through no link.
pub(super) fn append(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(file)?;
    let about = file.metadata()?;
    let owners = [Some(nix::unistd::geteuid().as_raw()), super::person().map(|(user, _)| user)];
    if !about.is_file() || about.nlink() != 1 || !owners.contains(&Some(about.uid())) {
        return Err(io::Error::other("it is not a plain file of the step's user"));
    }
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_command_or_begins_another() {
        let text = command(
            "error",
            &[("file", "a,b:c\n::x.yml"), ("line", "3"), ("title", "")],
            "1\r\n::error::2 %0A",
        );
        assert_eq!(text, "::error file=a%2Cb%3Ac%0A%3A%3Ax.yml,line=3::1%0D%0A::error::2 %250A");
        assert!(!text.contains('\n'));
        assert_eq!(command("notice", &[], "a"), "::notice::a");
        assert!(command("error", &[], &"x".repeat(10_000)).len() < 4096);
    }

    #[test]
    fn a_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        append(&file, "a=b\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a=b\n");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(append(&link, "c=d\n").is_err());
        let hard = folder.path().join("hard");
        std::fs::hard_link(&file, &hard).unwrap();
        assert!(append(&hard, "c=d\n").is_err());
        assert!(append(&folder.path().join("none"), "c=d\n").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a=b\n");
    }
}
