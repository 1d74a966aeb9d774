//! What a policy may say, and probably does not mean.

use crate::job::Location;

use super::Policy;
use super::Verb;
use super::hosts::HostRule;
use super::rules::{Allow, Block, Entry, FileItem, Lists, NetworkItem, restricts_verb};
use super::wild::wild;

/// Something worth a look, though the policy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub location: Location,
    pub message: String,
}

/// Above this, comparing every key with every other is not worth the time.
const MOST_KEYS: usize = 500;

pub(super) fn all(policy: &Policy) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |location: &Location, message: String| {
        found.push(Warning { location: location.clone(), message });
    };
    let is_restricted = policy.blocks().any(|block| {
        matches!(&block.files.allow, Allow::List(entries, _)
                if [Verb::Read, Verb::Write].into_iter().any(|verb| restricts_verb(entries, verb)))
    });
    for block in policy.blocks() {
        lists(
            block,
            "network",
            &block.network,
            policy.defaults.as_ref().map(|block| &block.network),
            &mut warn,
        );
        lists(block, "files", &block.files, policy.defaults.as_ref().map(|block| &block.files), &mut warn);
        lists(block, "run", &block.run, policy.defaults.as_ref().map(|block| &block.run), &mut warn);
        for entry in entries(&block.network) {
            if let NetworkItem::Host(rule) = &entry.item
                && let Some(breadth) = HostRule::breadth(rule)
            {
                warn(&entry.location, format!("`{}`: {breadth}", entry.text));
            }
        }
        for entry in entries(&block.files) {
            if matches!(entry.item, FileItem::Group(_)) && !is_restricted {
                warn(
                    &entry.location,
                    format!(
                        "`{}` allows nothing more: no plain entry restricts reading or writing",
                        entry.text
                    ),
                );
            }
        }
    }
    if policy.steps.len() <= MOST_KEYS {
        for (index, (key, block)) in policy.steps.iter().enumerate() {
            for (other, _) in policy.steps.iter().skip(index + 1) {
                if wild(key, other) || wild(other, key) {
                    let Some(location) = &block.location else { continue };
                    warn(
                        location,
                        format!("\"{key}\" and \"{other}\" match the same steps: their lists are joined"),
                    );
                }
            }
        }
    }
    // Read and kept, but not acted on yet: a restriction that does nothing must not look like one.
    for exception in &policy.exceptions {
        if exception.until.is_none() {
            warn(
                &exception.location,
                format!("the exception for `{}` never ends: give it an `until`", exception.rule),
            );
        }
    }
    found.sort_by_key(|warning| warning.location.line);
    found
}

fn lists<T>(
    block: &Block,
    plane: &str,
    own: &Lists<T>,
    defaults: Option<&Lists<T>>,
    warn: &mut impl FnMut(&Location, String),
) {
    match &own.allow {
        Allow::Unsaid => {}
        Allow::Any(location) => {
            warn(location, format!("`allow: any` lifts every restriction of {plane} in {}", block.name));
        }
        Allow::List(_, location) => {
            let is_step = block.name.starts_with("steps.") && !block.is_closed;
            if is_step && let Some(Allow::Any(_)) = defaults.map(|lists| &lists.allow) {
                warn(
                    location,
                    format!(
                        "this list restricts nothing: `defaults` says `allow: any` for {plane}; add `inherit: false`"
                    ),
                );
            }
        }
    }
}

fn entries<T>(lists: &Lists<T>) -> &[Entry<T>] {
    match &lists.allow {
        Allow::List(entries, _) => entries,
        Allow::Unsaid | Allow::Any(_) => &[],
    }
}
