//! Which lines of a policy speak of one step, for a reader.

use crate::job::{Location, StepKey};

use super::beside::{Beside, Role};
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
    /// What holds beside the policy: whose text, where it is from, and what it says; it only tightens.
    pub beside: Vec<(Role, String, Explained)>,
}

impl Explained {
    /// Whether it has a line or a list that speaks of the step.
    pub fn says_something(&self) -> bool {
        self.planes.iter().chain(self.agents.iter().flat_map(|(_, planes)| planes)).any(Said::says_something)
    }
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

impl Said {
    pub fn says_something(&self) -> bool {
        !self.deny.is_empty() || !self.allow.is_empty() || self.rest != Rest::Unrestricted
    }
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
        let beside = self.beside.iter().map(|Beside { role, origin, policy }| {
            let said = policy.alone(step, role.grant());
            (*role, origin.clone(), Explained { exceptions: Vec::new(), ..said })
        });
        Explained { beside: beside.collect(), ..self.alone(step, Grant::All) }
    }

    /// What this text says, without those beside it.
    fn alone(&self, step: &StepKey, grant: Grant) -> Explained {
        let named = |block: &Block, owner| {
            let location = block.location.clone().unwrap_or_else(|| self.place());
            RuleRef { text: block.name.clone(), location, owner }
        };
        let matching: Vec<&Block> = self.matching(step).map(|(_, block)| block).collect();
        let closed = matching.iter().find(|block| block.is_closed).map(|block| named(block, RuleOwner::Step));
        let defaults = self.defaults.as_ref();
        let of_agent = |id: &String, block: &Block| {
            let parts = Parts { defaults, blocks: vec![block], owner: RuleOwner::Agent, grant };
            (id.clone(), planes(&parts))
        };
        let covers =
            |exception: &&Exception| exception.step.as_deref().is_none_or(|glob| wild::wild(glob, &step.0));
        Explained {
            blocks: (defaults.iter().map(|block| named(block, RuleOwner::Defaults)))
                .chain(matching.iter().map(|block| named(block, RuleOwner::Step)))
                .collect(),
            planes: planes(&Parts { defaults, blocks: matching, owner: RuleOwner::Step, grant }),
            agents: self.agents.iter().map(|(id, block)| of_agent(id, block)).collect(),
            exceptions: self.exceptions.iter().filter(covers).cloned().collect(),
            beside: Vec::new(),
            closed,
        }
    }

    /// Keys of `steps`, as the policy and those beside it write them.
    pub fn step_keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self)
            .chain(self.beside.iter().map(|beside| &beside.policy))
            .flat_map(|policy| policy.steps.iter().map(|(key, _)| key.as_str()))
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

    #[test]
    fn what_stands_beside_it_is_told_with_its_file() {
        let parse = |text: &str, origin: &str| Policy::parse(text, origin).expect("a policy");
        let policy = parse(TEXT, "p.yml")
            .beside(
                Role::Organisation,
                "acme/guard.yml@v1",
                parse("version: 1\ndefaults:\n  run: {allow: [git, npm], deny: [curl]}\nexcept: [{rule: env-harvest, reason: x}]\n", "acme/guard.yml@v1"),
            )
            .beside(
                Role::Proposed,
                "p.yml",
                parse("version: 1\ndefaults:\n  run: {allow: [wget], deny: [ssh]}\n", "p.yml"),
            );
        let explained = policy.explain(&StepKey("build/test".to_owned()));
        let [(organisation, _, theirs), (proposed, _, heads)] = explained.beside.as_slice() else {
            panic!("{:#?}", explained.beside)
        };
        assert_eq!((*organisation, *proposed), (Role::Organisation, Role::Proposed));
        assert_eq!(
            lines(&theirs.planes[3].allow),
            ["git acme/guard.yml@v1:3 Defaults", "npm acme/guard.yml@v1:3 Defaults"]
        );
        assert_eq!(lines(&theirs.planes[3].deny), ["curl acme/guard.yml@v1:3 Defaults"]);
        assert!(matches!(theirs.planes[3].rest, Rest::Unlisted(_)) && theirs.exceptions.is_empty());
        // What a pull request allows does not count.
        assert_eq!(lines(&heads.planes[3].deny), ["ssh p.yml:3 Defaults"]);
        assert!(heads.planes[3].allow.is_empty() && heads.planes[3].rest == Rest::Unrestricted);
        assert!(theirs.says_something() && heads.says_something());
        assert!(!parse("version: 1\n", "x").explain(&StepKey::local()).says_something());
    }
}
