//! The scripts of the action, tested by node's own runner. Without a node that has one this says so and passes.

use std::path::Path;
use std::process::Command;

/// The first version whose `--test` takes a file and whose modules do all we use.
const OLDEST: u32 = 20;

#[test]
fn the_scripts_of_the_action_do_as_they_say() {
    let version = Command::new("node").arg("--version").output();
    let version = version.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()
    });
    if version.is_none_or(|version| version < OLDEST) {
        println!("skipped: the_scripts_of_the_action_do_as_they_say needs node {OLDEST} or newer");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("node")
        .args(["--test", "--test-reporter=tap", "tests/action.test.mjs"])
        .current_dir(root)
        .output()
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\n# fail 0\n") && !text.contains("\n# pass 0\n"), "{text}");
}
