//! What git says is checked out: the files of an index, with the ids of their contents.
//!
//! Only the parts of the format that are needed: versions 2 to 4, entries of no conflict that are plain files.

use std::path::{Path, PathBuf};

/// A plain file that is tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the work tree.
    pub path: Vec<u8>,
    /// Git's id of its content, in hex.
    pub blob: String,
    /// What git found when it looked last; the kernel's numbers cut to 32 bits.
    pub inode: u32,
    pub size: u32,
    pub changed: (u32, u32),
}

/// The entries, and whether some are kept elsewhere.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub entries: Vec<Entry>,
    pub is_partial: bool,
}

/// The index of a work tree: that of `.git`, or of the folder that a file `.git` names.
pub(super) fn place(tree: &Path) -> Option<PathBuf> {
    let git = tree.join(".git");
    if git.is_dir() {
        return Some(git.join("index"));
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let folder = text.strip_prefix("gitdir:")?.trim();
    Some(tree.join(folder).join("index"))
}

/// Reads an index whose ids have this many bytes; `None` where it is none.
pub(super) fn parse(bytes: &[u8], id_length: usize, most: usize) -> Option<Index> {
    let mut rest = bytes.strip_prefix(b"DIRC")?;
    let version = number(&mut rest)?;
    let count = usize::try_from(number(&mut rest)?).ok()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let mut index = Index::default();
    let mut path: Vec<u8> = Vec::new();
    for _ in 0..count {
        let start = rest.len();
        let mut fields = [0; 10];
        for field in &mut fields {
            *field = number(&mut rest)?;
        }
        let [changed, changed_nanoseconds, _, _, _, inode, mode, _, _, size] = fields;
        let id = take(&mut rest, id_length)?;
        let flags = short(&mut rest)?;
        let extended = if version > 2 && flags & 0x4000 != 0 { short(&mut rest)? } else { 0 };
        if version == 4 {
            let cut = varint(&mut rest)?;
            path.truncate(path.len().checked_sub(cut)?);
        } else {
            path.clear();
        }
        let end = rest.iter().position(|byte| *byte == 0)?;
        path.extend(take(&mut rest, end)?);
        if version == 4 {
            take(&mut rest, 1)?;
        } else {
            // One to eight NULs, up to a whole number of eight bytes.
            let length = start - rest.len();
            take(&mut rest, 8 - length % 8)?;
        }
        let is_plain = mode & 0o170_000 == 0o100_000;
        let is_there = flags & 0x3000 == 0 && extended & 0x6000 == 0;
        if !is_plain || !is_there {
            continue;
        }
        if index.entries.len() >= most {
            index.is_partial = true;
            break;
        }
        let (path, blob) = (path.clone(), crate::event::hex(id));
        let changed = (changed, changed_nanoseconds);
        index.entries.push(Entry { path, blob, inode, size, changed });
    }
    // The entries of a split index lie in another file.
    index.is_partial |= rest.starts_with(b"link");
    Some(index)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn short(rest: &mut &[u8]) -> Option<u16> {
    take(rest, 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// Git's own numbers of any length: each further byte adds one to what came before.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    loop {
        let byte = take(rest, 1)?[0];
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value = value.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn git(folder: &Path, words: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(folder)
            .env("HOME", folder)
            .args(["-c", "user.name=Test", "-c", "user.email=test@project.example"])
            .args(words)
            .output()
            .expect("git starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    #[test]
    fn every_version_tells_the_files_that_git_lists() {
        for (version, format) in [("2", "sha1"), ("3", "sha1"), ("4", "sha1"), ("4", "sha256")] {
            let folder = tempfile::tempdir().expect("a folder");
            let at = folder.path();
            git(at, &["init", "-q", &format!("--object-format={format}")]);
            std::fs::create_dir_all(at.join("src/deep")).expect("a folder");
            for name in ["Makefile", "src/a.c", "src/deep/a-longer-name.c", "src/deep/b.h", "z"] {
                std::fs::write(at.join(name), name).expect("written");
            }
            std::os::unix::fs::symlink("z", at.join("link")).expect("a link");
            git(at, &["add", "."]);
            if version == "3" {
                std::fs::write(at.join("later"), "").expect("written");
                git(at, &["add", "-N", "later"]);
            }
            git(at, &["update-index", &format!("--index-version={version}")]);
            let bytes = std::fs::read(place(at).expect("an index")).expect("readable");
            let length = if format == "sha1" { 20 } else { 32 };
            let index = parse(&bytes, length, 100).expect("an index");
            let told: Vec<String> = (index.entries.iter())
                .map(|entry| format!("{} {}", entry.blob, String::from_utf8_lossy(&entry.path)))
                .collect();
            let listed = git(at, &["ls-files", "-s"]);
            let listed: Vec<String> = listed
                .lines()
                .filter(|line| line.starts_with("100644") && !line.ends_with("later"))
                .map(|line| line[7..].replace(" 0\t", " "))
                .collect();
            assert_eq!(told, listed, "version {version}");
            assert!(!index.is_partial);
            assert!(parse(&bytes, length, 2).expect("an index").is_partial);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_entries_or_none_but_never_panic(version in 1_u8..6, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"DIRC\0\0\0".to_vec();
            bytes.push(version);
            bytes.extend(b"\0\0\0\x02");
            bytes.extend(rest);
            let _ = parse(&bytes, 20, 10);
        }
    }
}
