//! Whether this runner is a place where a job can be watched, and how to say that it isn't.

use std::path::Path;

/// The title of the one annotation that says so.
pub(super) const TITLE: &str = "edamame-guard is not watching this job";

/// Why a job can't be watched here, and what would change that; `None` where it can.
pub(super) fn missing(
    environment: impl Fn(&str) -> Option<String>,
    root: &Path,
    is_root: bool,
) -> Option<String> {
    let there = |path: &str| root.join(path).exists();
    let has = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
    let found = if has("ACTIONS_RUNNER_CONTAINER_HOOKS") || has("KUBERNETES_SERVICE_HOST") {
        "This runner is a pod of a cluster (Actions Runner Controller): its steps run in containers that can't be seen from here. \
         Move the job to a runner that is a machine of its own, such as ubuntu-24.04."
    } else if is_container(root) {
        "This job runs inside a container (`container:`, or a runner such as ubuntu-slim), whose kernel belongs to somebody else. \
         Leave `container:` out, or start the container in a step with `docker run`; as `runs-on` take a machine of its own, such as ubuntu-24.04."
    } else if !is_root {
        "The runner's user is not root and may not use sudo without a password, so the kernel can't be asked. \
         Let the user run sudo, or move the job to a GitHub-hosted runner, such as ubuntu-24.04."
    } else if !there("sys/kernel/btf/vmlinux") {
        "This kernel has no type information (/sys/kernel/btf/vmlinux), so programs can't be loaded into it. \
         Use a kernel built with CONFIG_DEBUG_INFO_BTF=y: every current Ubuntu and Debian has it."
    } else {
        return None;
    };
    Some(found.to_owned())
}

/// Whether our processes are numbered apart from the host's.
///
/// `/.dockerenv` and `/run/.containerenv` are no proof: machines made from a container's image keep them, and some
/// containers have neither.
fn is_container(root: &Path) -> bool {
    /// The kernel gives the first pid namespace this number (`PROC_PID_INIT_INO`).
    const FIRST: &str = "pid:[4026531836]";
    std::fs::read_link(root.join("proc/self/ns/pid")).is_ok_and(|name| name != Path::new(FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], variables: &[&str], is_root: bool) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for file in files {
            match file.split_once(" -> ") {
                Some((link, target)) => std::os::unix::fs::symlink(target, place(link)).unwrap(),
                None => std::fs::write(place(file), "").unwrap(),
            }
        }
        missing(|name| variables.contains(&name).then(|| "yes".to_owned()), folder.path(), is_root)
    }

    const BTF: &str = "sys/kernel/btf/vmlinux";
    const HOST: &str = "proc/self/ns/pid -> pid:[4026531836]";
    const CONTAINER: &str = "proc/self/ns/pid -> pid:[4026532281]";

    #[test]
    fn each_unsupported_place_is_told_from_the_others() {
        assert_eq!(found(&[BTF], &[], true), None);
        // A machine made from a container's image.
        assert_eq!(found(&[BTF, HOST, ".dockerenv"], &[], true), None);
        let cases: &[(&[&str], &[&str], bool, &str)] = &[
            (&[BTF, CONTAINER], &[], true, "inside a container"),
            (&[BTF, CONTAINER, ".dockerenv"], &[], false, "inside a container"),
            (&[BTF, CONTAINER], &["KUBERNETES_SERVICE_HOST"], true, "pod of a cluster"),
            (&[BTF], &["ACTIONS_RUNNER_CONTAINER_HOOKS"], true, "pod of a cluster"),
            (&[BTF, HOST], &[], false, "sudo"),
            (&[HOST], &[], true, "CONFIG_DEBUG_INFO_BTF"),
        ];
        for (files, variables, is_root, part) in cases {
            let text = found(files, variables, *is_root).unwrap();
            assert!(text.contains(part), "{files:?}: {text}");
        }
    }
}
