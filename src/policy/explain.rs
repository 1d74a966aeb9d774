//! Which lines of a policy speak of one step, for a reader.

use crate::job::{Location, StepKey};

use super::rules::{Allow, Block, Entry, FileItem, Grant, Lists, Parts, restricts_verb};
use super::{Exception, Policy, RuleOwner, RuleRef, Verb, wild};

/// What a policy says to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The blocks that apply, with their places: `defaults`, then each of `steps` that matches.
    pub blocks: Vec<RuleRef>,
    /// The block that shuts the allow lists of `defaults` out.
    pub closed: Option<RuleRef>,
    /// Network, reading, writing, programs, in this order.
    pub planes: Vec<Said>,
    /// What each agent's block adds: an act below that agent must pass it as well.
    pub agents: Vec<(String, Vec<Said>)>,
    /// Exceptions that speak of this step.
    pub exceptions: Vec<Exception>,
}

/// What it says of one plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `network`, `files read`, `files write` or `run`.
    pub plane: &'static str,
    pub deny: Vec<RuleRef>,
    pub allow: Vec<RuleRef>,
    pub rest: Rest,
}

/// What becomes of an act that no line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// No list speaks of it.
    Unrestricted,
    /// `allow: any` lifts every restriction.
    Lifted(RuleRef),
    /// There is a list, and what is not on it is a finding.
    Unlisted(RuleRef),
}

impl Policy {
    /// Which lines speak of this step, and what becomes of an act that none of them names.
    pub fn explain(&self, step: &StepKey) -> Explained {
        let named = |block: &Block, owner| {
            let location = block.location.clone().unwrap_or_else(|| self.place());
            RuleRef { text: block.name.clone(), location, owner }
        };
        let matching: Vec<&Block> = self.matching(step).map(|(_, block)| block).collect();
        let closed = matching.iter().find(|block| block.is_closed).map(|block| named(block, RuleOwner::Step));
        let defaults = self.defaults.as_ref();
        let of_agent = |id: &String, block: &Block| {
            let parts = Parts { defaults, blocks: vec![block], owner: RuleOwner::Agent, grant: Grant::All };
            (id.clone(), planes(&parts))
        };
        let covers =
            |exception: &&Exception| exception.step.as_deref().is_none_or(|glob| wild::wild(glob, &step.0));
        Explained {
            blocks: (defaults.iter().map(|block| named(block, RuleOwner::Defaults)))
                .chain(matching.iter().map(|block| named(block, RuleOwner::Step)))
                .collect(),
            planes: planes(&Parts { defaults, blocks: matching, owner: RuleOwner::Step, grant: Grant::All }),
            agents: self.agents.iter().map(|(id, block)| of_agent(id, block)).collect(),
            exceptions: self.exceptions.iter().filter(covers).cloned().collect(),
            closed,
        }
    }

    /// Keys of `steps`, as the policy writes them.
    pub fn step_keys(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|(key, _)| key.as_str())
    }

    fn place(&self) -> Location {
        Location { path: self.origin().unwrap_or_default().to_owned(), line: 1 }
    }
}

fn planes(parts: &Parts<'_>) -> Vec<Said> {
    let of_verb = |verb: Verb| {
        move |item: &FileItem| match item {
            FileItem::Path(own, _) => *own == verb,
            FileItem::Group(_) => true,
        }
    };
    let files = |plane, verb| {
        let restricts = |entries: &[Entry<FileItem>]| restricts_verb(entries, verb);
        said(plane, parts, |block| &block.files, of_verb(verb), restricts)
    };
    vec![
        said("network", parts, |block| &block.network, |_| true, |_| true),
        files("files read", Verb::Read),
        files("files write", Verb::Write),
        said("run", parts, |block| &block.run, |_| true, |_| true),
    ]
}

/// What one plane's lists come to. `counts` tells whether an item is of this plane, `restricts` whether
/// a list that allows makes everything else a finding.
fn said<'p, T: 'p>(
    plane: &'static str,
    parts: &'p Parts<'p>,
    lists: impl Fn(&'p Block) -> &'p Lists<T>,
    counts: impl Fn(&T) -> bool,
    restricts: impl Fn(&[Entry<T>]) -> bool,
) -> Said {
    let key = plane.split(' ').next().unwrap_or(plane);
    let merged = parts.merge(key, &lists, restricts);
    let lifted = parts.allowing().find_map(|(block, owner)| match &lists(block).allow {
        Allow::Any(location) => {
            let text = format!("{}.{key}.allow", block.name);
            Some(RuleRef { text, location: location.clone(), owner })
        }
        Allow::Unsaid | Allow::List(..) => None,
    });
    let deny = parts.denying().flat_map(|(block, owner)| {
        let entries = lists(block).deny.iter().filter(|entry| counts(&entry.item));
        entries.map(move |entry| entry.reference(owner)).collect::<Vec<_>>()
    });
    let allow = merged.entries.iter().filter(|(entry, _)| counts(&entry.item));
    Said {
        plane,
        deny: deny.collect(),
        allow: allow.map(|(entry, owner)| entry.reference(*owner)).collect(),
        rest: match (lifted, merged.list) {
            (Some(list), _) => Rest::Lifted(list),
            (None, Some(list)) => Rest::Unlisted(list),
            (None, None) => Rest::Unrestricted,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, step: &str) -> Explained {
        Policy::parse(text, "p.yml").expect("a policy").explain(&StepKey(step.to_owned()))
    }

    const TEXT: &str = "version: 1\n\
        defaults:\n  run: {allow: [git], deny: [sudo]}\n  files: {allow: [\"write ./**\"]}\n\
        steps:\n  \"build/*\":\n    run: {allow: [npm]}\n  \"build/deploy\":\n    inherit: false\n    run: {allow: [terraform]}\n\
        \x20 \"j/free\":\n    run: {allow: any}\n";

    fn lines(lines: &[RuleRef]) -> Vec<String> {
        lines.iter().map(|line| format!("{} {} {:?}", line.text, line.location, line.owner)).collect()
    }

    #[test]
    fn a_step_has_its_own_lines_and_those_of_defaults() {
        let explained = explained(TEXT, "build/test");
        let run = &explained.planes[3];
        assert_eq!(lines(&run.allow), ["npm p.yml:7 Step", "git p.yml:3 Defaults"]);
        assert_eq!(lines(&run.deny), ["sudo p.yml:3 Defaults"]);
        assert!(matches!(&run.rest, Rest::Unlisted(list) if list.location.line == 7), "{:?}", run.rest);
        assert_eq!(explained.planes[0].rest, Rest::Unrestricted);
        assert_eq!(explained.planes[1].rest, Rest::Unrestricted, "only writing is listed");
        assert_eq!(lines(&explained.planes[2].allow), ["write ./** p.yml:4 Defaults"]);
    }

    #[test]
    fn a_closed_block_shuts_allows_of_defaults_out_and_keeps_denies() {
        let explained = explained(TEXT, "build/deploy");
        let run = &explained.planes[3];
        assert_eq!(lines(&run.allow), ["npm p.yml:7 Step", "terraform p.yml:10 Step"]);
        assert_eq!(lines(&run.deny), ["sudo p.yml:3 Defaults"]);
        assert!(explained.closed.is_some_and(|block| block.text.contains("build/deploy")));
        // `defaults` restricts writing, and this block is closed to it: nothing is allowed.
        assert!(
            matches!(&explained.planes[2].rest, Rest::Unlisted(list) if list.text.contains("inherit: false"))
        );
    }

    #[test]
    fn any_lifts_the_list_of_defaults() {
        assert!(matches!(&explained(TEXT, "j/free").planes[3].rest, Rest::Lifted(_)));
    }
}
