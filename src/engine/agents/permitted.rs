//! What an agent's own settings say that it may do: told, compared with what it ran, and with what was reviewed.
//!
//! Settings are read when an agent starts. They are the agent's to keep, so a call that they deny and that ran all the
//! same says that something went past them. A file of the repository that gives the agent more than the reviewed one
//! did is a change that nobody has read yet.

use std::collections::BTreeMap;

use globset::GlobBuilder;

use super::{Call, Deed, Effect, Errand, Told, Work};
use crate::agents::{self, settings};
use crate::detections::{self, Hit};
use crate::engine::ending::relative;
use crate::engine::{Engine, Start};
use crate::event::{AgentSettings, Level, Permission, Scope, Setting};
use crate::finding::{Confidence, Finding, Kind, PermissionReport, Severity};
use crate::intent::{Command, StepIntent, basename, wildcard};
use crate::job::{Job, Location};
use crate::lineage::Lineage;

/// What was told of one source.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    sequence: u64,
    said: AgentSettings,
}

/// A rule of the settings, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub sequence: u64,
    pub text: String,
    pub place: String,
}

impl Rule {
    fn of(stated: &Stated, setting: &Setting, text: &str, job: &Job) -> Self {
        Self {
            sequence: stated.sequence,
            text: text.to_owned(),
            place: place(&stated.said, setting.line, job),
        }
    }

    /// `` `Read(~/.aws/**)` (~/.claude/settings.json:6) ``
    pub(super) fn words(&self) -> String {
        format!("`{}` ({})", self.text, self.place)
    }
}

fn place(said: &AgentSettings, line: u32, job: &Job) -> String {
    let file = relative(&said.file, job);
    let file = file.strip_prefix("./").unwrap_or(&file);
    match (file.is_empty(), line) {
        (true, _) => "the command line".to_owned(),
        (_, 0) => file.to_owned(),
        (_, line) => format!("{file}:{line}"),
    }
}

impl Work {
    const SOURCES: usize = 512;

    /// Notes what a source says; a file that is read again says the newest.
    pub(in crate::engine) fn settings(&mut self, sequence: u64, said: &AgentSettings) {
        let is_same = |known: &Stated| {
            let is_process = said.level != Level::CommandLine || known.said.process == said.process;
            (known.said.level, &known.said.agent, &known.said.file) == (said.level, &said.agent, &said.file)
                && is_process
        };
        let stated = Stated { sequence, said: said.clone() };
        if let Some(at) = self.stated.iter().position(is_same) {
            self.stated[at] = stated;
        } else if self.stated.len() < Self::SOURCES {
            self.stated.push(stated);
        } else {
            self.uncompared += 1;
        }
    }

    /// Whether a text is a hook of the agent's settings, which it runs by itself.
    pub(super) fn is_hook(&self, agent: &str, text: &str) -> bool {
        let text = settings::short(text);
        self.sources(agent)
            .iter()
            .flat_map(|stated| &stated.said.items)
            .any(|item| matches!(&item.what, Permission::Hook { command, .. } if *command == text))
    }

    /// The sources that hold for an agent, the weakest first.
    fn sources(&self, agent: &str) -> Vec<&Stated> {
        let mut of_agent: Vec<&Stated> = self
            .stated
            .iter()
            .filter(|stated| stated.said.agent == agent && stated.said.level != Level::Reviewed)
            .collect();
        of_agent.sort_by_key(|stated| (std::cmp::Reverse(stated.said.level), stated.said.file.clone()));
        of_agent
    }

    /// The sources that hold for this errand: of command lines only those of the agent above it.
    fn sources_of(&self, errand: &Errand, lineage: &Lineage) -> Vec<&Stated> {
        let mut sources = self.sources(errand.agent.id);
        sources.retain(|stated| {
            stated.said.level != Level::CommandLine
                || stated.said.process.is_some_and(|process| {
                    Some(process) == errand.parent
                        || lineage.ancestors(errand.process).any(|above| above.key == process)
                })
        });
        sources
    }

    /// The rule that forbids something of which `fits` knows whether a scope means it.
    fn forbidding(
        &self,
        errand: &Errand,
        lineage: &Lineage,
        job: &Job,
        fits: impl Fn(&Scope) -> bool,
    ) -> Option<Rule> {
        let mut last = None;
        for stated in self.sources_of(errand, lineage) {
            for setting in &stated.said.items {
                let (text, is_deny) = match &setting.what {
                    Permission::Deny { text, scope } if fits(scope) => (text, true),
                    Permission::Allow { scope, .. } | Permission::Ask { scope, .. } if fits(scope) => {
                        last = None;
                        continue;
                    }
                    _ => continue,
                };
                if is_deny {
                    let rule = Rule::of(stated, setting, text, job);
                    if !errand.agent.settings.is_last_holding {
                        return Some(rule);
                    }
                    last = Some(rule);
                }
            }
        }
        last
    }

    /// The rule that forbids a command of this text.
    pub(super) fn forbidden_command(
        &self,
        errand: &Errand,
        intent: &StepIntent,
        lineage: &Lineage,
        job: &Job,
    ) -> Option<(Rule, String)> {
        intent.commands.iter().find_map(|command| {
            let rule = self.forbidding(errand, lineage, job, |scope| match scope {
                Scope::Command(pattern) => is_command(pattern, command),
                _ => false,
            })?;
            Some((rule, command.words.first().map_or_else(String::new, |word| word.text.clone())))
        })
    }

    /// The rule that forbids this effect.
    pub(super) fn forbidden(
        &self,
        errand: &Errand,
        deed: &Deed,
        lineage: &Lineage,
        job: &Job,
    ) -> Option<Rule> {
        self.forbidding(errand, lineage, job, |scope| match (scope, &deed.effect) {
            (Scope::Read(glob), Effect::Read { path, .. })
            | (Scope::Write(glob), Effect::Write { path, .. }) => is_below(glob, path),
            (Scope::Host(host), Effect::Connect { object, .. }) => {
                let own = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
                host != "*"
                    && deed.names.iter().map(String::as_str).chain([own]).any(|name| is_host(host, name))
            }
            _ => false,
        })
    }

    /// The mode of the strongest source that names one, if it makes the agent act without asking.
    pub(super) fn unasked_by_settings(&self, agent: &str, job: &Job) -> Option<String> {
        let sources = self.sources(agent);
        let has_mode = |stated: &&&Stated| {
            stated.said.items.iter().any(|item| matches!(item.what, Permission::Mode { .. }))
        };
        let strongest = sources.iter().rev().find(has_mode)?;
        strongest.said.items.iter().find_map(|item| match &item.what {
            Permission::Mode { text, unasked: true } => Some(match strongest.said.level {
                Level::CommandLine => text.clone(),
                _ => format!("{text}, {}", place(&strongest.said, item.line, job)),
            }),
            _ => None,
        })
    }

    /// Every source of an agent, the strongest first.
    pub(super) fn permissions(&self, agent: &str, job: &Job) -> Vec<PermissionReport> {
        const MOST: usize = 64;
        let mut reports: Vec<PermissionReport> = Vec::new();
        for stated in self.sources(agent).into_iter().rev() {
            let file = relative(&stated.said.file, job);
            let report = PermissionReport {
                level: stated.said.level,
                file: file.strip_prefix("./").unwrap_or(&file).to_owned(),
                settings: stated
                    .said
                    .items
                    .iter()
                    .filter(|item| !is_left_out(item))
                    .take(MOST)
                    .cloned()
                    .collect(),
                problem: stated.said.problem.clone(),
            };
            // An agent that starts itself again has the same options.
            let is_empty = report.settings.is_empty() && report.problem.is_none();
            if !is_empty && !reports.contains(&report) {
                reports.push(report);
            }
        }
        reports
    }

    /// Sources that could not be read, and files of which nobody could say what was reviewed.
    pub(in crate::engine) fn unread_settings(&self, job: &Job) -> Vec<String> {
        let told = |stated: &Stated| {
            let problem = stated.said.problem.as_ref()?.lines().next()?.to_owned();
            let file = place(&stated.said, 0, job);
            let title = agents::by_id(&stated.said.agent).map_or(stated.said.agent.as_str(), |it| it.title);
            Some(match stated.said.level {
                Level::Reviewed => {
                    format!("whether {file} gives {title} more than the reviewed one is not known: {problem}")
                }
                _ => format!("what {file} lets {title} do is not known: {problem}"),
            })
        };
        self.stated.iter().filter_map(told).collect()
    }
}

/// Our own hooks, and what permits nothing.
fn is_left_out(item: &Setting) -> bool {
    matches!(item.what, Permission::Hook { own: true, .. } | Permission::Secret { .. })
}

/// Whether a command begins with, or is, what the pattern says; its program by path or by name.
fn is_command(pattern: &str, command: &Command) -> bool {
    let known: Vec<&str> =
        command.words.iter().take_while(|word| word.known).map(|word| word.text.as_str()).collect();
    let Some((program, rest)) = known.split_first() else { return false };
    let is_whole = known.len() == command.words.len();
    [*program, basename(program)].iter().any(|program| {
        let text = std::iter::once(program).chain(rest).copied().collect::<Vec<_>>().join(" ");
        match pattern.strip_suffix(" *") {
            Some(begin) => wildcard(begin, &text, false) || wildcard(pattern, &text, false),
            None => pattern == "*" || (is_whole && wildcard(pattern, &text, false)),
        }
    })
}

/// Whether a path is meant by the glob, or lies in a folder that is.
fn is_below(glob: &str, path: &str) -> bool {
    let Ok(glob) = GlobBuilder::new(glob).literal_separator(true).build() else { return false };
    let matcher = glob.compile_matcher();
    std::path::Path::new(path).ancestors().any(|path| matcher.is_match(path))
}

fn is_host(pattern: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => name == *pattern,
    }
}

impl Engine {
    /// A command that the agent's own settings deny, and that ran all the same.
    pub(super) fn against_settings(
        &self,
        work: &Work,
        errand: &Errand,
        call: Option<(&Call, &'static str)>,
        start: &Start,
    ) -> Option<Told> {
        let declared = Work::declared(errand, call, &start.job.home, &start.job.workspace);
        declared.text.as_ref()?;
        let (rule, program) = work.forbidden_command(errand, &declared.intent, &self.lineage, &start.job)?;
        let hit = Hit {
            rule: &detections::AGENT_CONTRADICTED,
            kind: Kind::Divergence,
            severity: Severity::Medium,
            confidence: declared.confidence().min(Confidence::Medium),
            title: format!(
                "{}, which its own settings deny: {}",
                declared.ran(errand, &self.lineage),
                rule.words()
            ),
            process: errand.process,
            object: program,
            evidence: declared.call.iter().map(|(call, _)| call.sequence).chain([rule.sequence]).collect(),
            replaces: None,
            remedy: Some(
                "Find out what let the agent run what its settings deny: another way to write it, an option, a defect.",
            ),
        };
        Some(Told {
            sequence: self.lineage.get(errand.process)?.evidence,
            time: errand.time,
            hit,
            declared: declared.words(),
            acts: Vec::new(),
        })
    }
}

/// Something that the repository's file gives and the reviewed one did not.
struct Gain<'s> {
    setting: &'s Setting,
    words: String,
    severity: Severity,
    is_used: bool,
}

impl Engine {
    /// Files of the repository that give an agent more than their reviewed copies, with what of it was used.
    pub(in crate::engine) fn widened(&self, start: &Start) -> Vec<Finding> {
        let mut reviewed: BTreeMap<(&str, &str), &Stated> = BTreeMap::new();
        for stated in self.work.stated.iter().filter(|stated| stated.said.level == Level::Reviewed) {
            reviewed.insert((&stated.said.agent, &stated.said.file), stated);
        }
        let of_tree = self.work.stated.iter().filter(|stated| stated.said.level.is_repository());
        of_tree
            .filter_map(|stated| {
                let before = reviewed.get(&(stated.said.agent.as_str(), stated.said.file.as_str()))?;
                if before.said.problem.is_some() {
                    return None;
                }
                self.gains(stated, before, start)
            })
            .collect()
    }

    fn gains(&self, stated: &Stated, before: &Stated, start: &Start) -> Option<Finding> {
        const MOST: usize = 4;
        let agent = agents::by_id(&stated.said.agent)?;
        // Lines move when something is written above them.
        let has = |items: &[Setting], what: &Permission| items.iter().any(|item| item.what == *what);
        let mut gains: Vec<Gain<'_>> = Vec::new();
        for setting in stated.said.items.iter().filter(|item| !has(&before.said.items, &item.what)) {
            let (words, severity, is_used) = match &setting.what {
                Permission::Mode { text, unasked: true } => {
                    (format!("mode {text}"), Severity::Medium, self.is_freed_by(stated))
                }
                Permission::Allow { text, scope } => {
                    (format!("allows {text}"), Severity::Low, self.is_used(agent.id, scope))
                }
                Permission::Hook { event, command, own: false } => {
                    (format!("hook {event}"), Severity::Medium, self.has_run(agent.id, command))
                }
                Permission::Server { name, start } => {
                    (format!("tool server {name}"), Severity::Medium, self.has_run(agent.id, start))
                }
                _ => continue,
            };
            gains.push(Gain { setting, words, severity, is_used });
        }
        let lifted: Vec<&str> = before
            .said
            .items
            .iter()
            .filter(|item| !has(&stated.said.items, &item.what))
            .filter_map(|item| match &item.what {
                Permission::Deny { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let severity =
            gains.iter().map(|gain| if gain.is_used { Severity::High } else { gain.severity }).max();
        let severity = severity.or_else(|| (!lifted.is_empty()).then_some(Severity::Low))?;
        let mut words: Vec<String> = gains
            .iter()
            .map(|gain| format!("{}{}", gain.words, if gain.is_used { ", which this run used" } else { "" }))
            .collect();
        words.extend(lifted.iter().map(|text| format!("no longer denies {text}")));
        let more = words.len().saturating_sub(MOST);
        words.truncate(MOST);
        if more > 0 {
            words.push(format!("{more} more"));
        }
        let file = relative(&stated.said.file, &start.job);
        let file = file.strip_prefix("./").unwrap_or(&file).to_owned();
        let line = gains.first().map_or(1, |gain| gain.setting.line.max(1));
        let left = if stated.said.items.is_empty() { ", of which it leaves nothing" } else { "" };
        let title = format!(
            "this change lets {} do more than the reviewed {file}{left}: {}",
            agent.title,
            words.join("; ")
        );
        Some(Finding {
            kind: Kind::Divergence,
            severity,
            agent: Some(agent.id.to_owned()),
            evidence: vec![before.sequence, stated.sequence],
            location: Some(Location { path: file.clone(), line }),
            remedy:
                "Review this file like a change of the workflow; run the agent on the reviewed one meanwhile."
                    .to_owned(),
            ..super::super::ending::coverage_finding(
                &detections::AGENT_CONFIG,
                title,
                stated.said.file.clone(),
                start.time,
            )
        })
    }

    /// Whether the agent acted without asking because of this file alone, and did act.
    fn is_freed_by(&self, stated: &Stated) -> bool {
        let agent = &stated.said.agent;
        let is_by_others = self.work.flags.contains_key(agent)
            || self.work.sources(agent).iter().any(|other| {
                let is_mode = |item: &Setting| matches!(item.what, Permission::Mode { .. });
                other.said.level < stated.said.level && other.said.items.iter().any(is_mode)
            });
        let has_acted =
            self.work.errands.values().any(|errand| errand.agent.id == *agent && !errand.commands.is_empty());
        !is_by_others && has_acted
    }

    /// Whether a command of the agent, or a call of a tool server, fits this.
    fn is_used(&self, agent: &str, scope: &Scope) -> bool {
        match scope {
            Scope::Command(pattern) => {
                self.work.errands.values().filter(|errand| errand.agent.id == agent).any(|errand| {
                    errand.commands.iter().any(|text| {
                        let call =
                            crate::intent::ToolCall { commands: vec![text.clone()], ..Default::default() };
                        call.intent("/", "/").commands.iter().any(|command| is_command(pattern, command))
                    })
                })
            }
            Scope::Server(name) => self.work.calls.iter().any(|known| {
                known.call.agent == agent
                    && known.call.server.as_ref().is_some_and(|server| name == "*" || server == name)
            }),
            _ => false,
        }
    }

    /// Whether the agent started this by itself: a hook, a server.
    fn has_run(&self, agent: &str, command: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = plain(command);
        self.work
            .errands
            .values()
            .filter(|errand| errand.agent.id == agent && errand.commands.is_empty())
            .any(|errand| {
                let is_text = errand.texts.iter().any(|text| plain(text) == wanted);
                let words = || {
                    let launch = self.lineage.get(errand.process)?.launch.clone()?;
                    Some(launch.arguments.join(" "))
                };
                is_text
                    || words().is_some_and(|words| {
                        plain(&words) == wanted || plain(&words).ends_with(&format!("/{wanted}"))
                    })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{expect, report};

    fn command(text: &str) -> Command {
        let call = crate::intent::ToolCall { commands: vec![text.to_owned()], ..Default::default() };
        call.intent("/home/u", "/w").commands[0].clone()
    }

    #[test]
    fn a_pattern_means_the_commands_that_the_agents_mean_by_it() {
        for (pattern, text, wanted) in [
            ("curl *", "curl http://x.example", true),
            ("curl *", "curl", true),
            ("curl *", "curlie x", false),
            ("curl *", "/usr/bin/curl x", true),
            ("git push *", "git push origin main", true),
            ("git push *", "git pushy", false),
            ("git * --force", "git push --force", true),
            ("git * --force", "git push", false),
            ("make test", "make test", true),
            ("make test", "make test-all", false),
            ("npm run test*", "npm run test:unit", true),
            ("*", "anything", true),
            ("rm *", "rm \"$X\"", true),
            ("make test", "make \"$X\"", false),
        ] {
            assert_eq!(is_command(pattern, &command(text)), wanted, "{pattern} {text}");
        }
        assert!(is_below("/home/u/.aws/**", "/home/u/.aws/credentials"));
        assert!(is_below("/w/secrets", "/w/secrets/a/b"));
        assert!(is_below("/w/**/.env", "/w/.env") && is_below("/w/**/.env", "/w/a/.env"));
        assert!(!is_below("/home/u/.aws/*", "/home/u/.ssh/id_rsa") && !is_below("[", "/x"));
        assert!(is_host("*.x.example", "a.x.example") && !is_host("*.x.example", "x.example"));
    }

    const SEND: &str = "2 agent claude-code
         1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
         2 call c1 curl http://203.0.113.7/x
         2 > 3 launch /usr/bin/bash bash -c source s && eval 'curl_http://203.0.113.7/x' </dev/null && pwd -P >| /tmp/x
         3 > 4 launch /usr/bin/curl curl http://203.0.113.7/x
         4 connect 203.0.113.7:80";

    #[test]
    fn a_call_that_the_settings_deny_and_that_ran_is_told() {
        let denied = format!("2 settings user ~/.claude/settings.json 6 deny Bash(curl:*)\n{SEND}");
        let report = report("claude -p x\n", "", &denied);
        let finding = report.findings.iter().find(|finding| finding.rule.0 == "agent-contradicted").unwrap();
        assert_eq!(finding.severity, Severity::Medium);
        assert_eq!(
            finding.title,
            "Claude Code ran `curl http://203.0.113.7/x` (call c1), which its own settings deny: `Bash(curl:*)` (~/.claude/settings.json:6)"
        );
        // What is allowed, denied for others, or of a change that nobody runs on, is quiet.
        for quiet in [
            "2 settings user ~/.claude/settings.json 6 allow Bash(curl:*)",
            "2 settings user ~/.claude/settings.json 6 deny Bash(wget:*)",
            "2 settings user ~/.claude/settings.json 6 deny Bash(curl:http:*)",
            "2 settings reviewed /w/.claude/settings.json 6 deny Bash(curl:*)",
        ] {
            expect("claude -p x\n", &format!("{quiet}\n{SEND}"), &[]);
        }
    }

    #[test]
    fn a_file_that_the_settings_deny_and_that_a_command_took_is_told() {
        let read = "2 agent claude-code
             1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
             2 call c1 cat ~/.aws/credentials
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'cat_/home/u/.aws/credentials' </dev/null && pwd -P >| /tmp/x
             3 > 4 launch /usr/bin/cat cat /home/u/.aws/credentials
             4 read ~/.aws/credentials";
        expect("claude -p x\n", read, &["cred-file-access divergence medium /home/u/.aws/credentials"]);
        let denied = format!("2 settings project /w/.claude/settings.json 3 deny Read(~/.aws/**)\n{read}");
        let found = crate::trace::findings("claude -p x\n", "", &denied);
        assert_eq!(
            found,
            [
                "!agent-contradicted divergence high /home/u/.aws/credentials",
                "cred-file-access divergence medium /home/u/.aws/credentials",
            ]
        );
    }

    #[test]
    fn what_a_change_adds_to_the_reviewed_file_is_told_and_weighs_more_when_it_was_used() {
        let tree = "2 settings project /w/.claude/settings.json";
        let reviewed = "2 settings reviewed /w/.claude/settings.json";
        let one = "2 settings-none reviewed /w/.claude/settings.json";
        let expect = |facts: String, wanted: &[&str]| {
            expect("claude -p x\n", &format!("{facts}\n{SEND}"), wanted);
        };
        let finding =
            |severity: &str| format!("agent-config-tamper divergence {severity} /w/.claude/settings.json");
        expect(format!("{tree} 3 allow Bash(make:*)\n{one}"), &[&finding("low")]);
        expect(format!("{tree} 3 allow Bash(curl:*)\n{one}"), &[&format!("!{}", finding("high"))]);
        expect(format!("{tree} 3 mode bypassPermissions\n{one}"), &[&format!("!{}", finding("high"))]);
        expect(format!("{tree} 3 hook PreToolUse ./x.sh\n{one}"), &[&finding("medium")]);
        expect(format!("{tree} 3 allow Bash(ls:*)\n{reviewed} 9 deny Bash(wget:*)"), &[&finding("low")]);
        // A file that is gone, or says nothing any more, denies nothing; if it never did, nothing is lost.
        let none = "2 settings-none project /w/.claude/settings.json";
        expect(format!("{none}\n{reviewed} 9 deny Bash(wget:*)"), &[&finding("low")]);
        expect(format!("{none}\n{reviewed} 9 allow Bash(wget:*)"), &[]);
        expect(format!("{none}\n{one}"), &[]);
        let gone = report("claude -p x\n", "", &format!("{none}\n{reviewed} 9 deny Bash(wget:*)\n{SEND}"));
        assert_eq!(
            gone.findings[0].title,
            "this change lets Claude Code do more than the reviewed .claude/settings.json, of which it leaves nothing: no longer denies Bash(wget:*)"
        );
        // The same at another line, less than before, and without anything to compare with.
        expect(format!("{tree} 3 hook PreToolUse ./x.sh\n{reviewed} 1 hook PreToolUse ./x.sh"), &[]);
        expect(format!("{tree} 3 deny Bash(wget:*)\n{one}"), &[]);
        expect(format!("{tree} 3 mode bypassPermissions"), &[]);
        expect(format!("2 settings user ~/.claude/settings.json 3 mode bypassPermissions\n{one}"), &[]);
    }

    #[test]
    fn a_hook_of_the_settings_is_no_command_that_the_record_lacks() {
        let hook = "2 agent copilot
             1 > 2 launch /n/@github/copilot-linux-x64/copilot copilot -p x
             2 call c1 ls
             2 > 3 launch /usr/bin/bash bash --norc --noprofile -c ls
             2 > 4 launch /usr/bin/bash bash --norc --noprofile -c ./h.sh";
        // Copilot CLI hands its hooks to a shell like its commands.
        let calls = hook.replace("call c1", "call copilot:c1");
        expect("copilot -p x\n", &calls, &["!agent-record-lost divergence high ./h.sh"]);
        let told =
            format!("2 settings copilot:user ~/.copilot/hooks/x.json 1 hook preToolUse ./h.sh\n{calls}");
        expect("copilot -p x\n", &told, &[]);
    }

    #[test]
    fn a_session_states_its_sources_the_strongest_first() {
        let trace = format!(
            "2 settings user ~/.claude/settings.json 6 deny Bash(wget:*)\n2 settings project /w/.claude/settings.json 3 mode bypassPermissions\n{SEND}"
        );
        let report = report("claude -p x\n", "", &trace);
        let session = &report.sessions[0];
        assert!(session.unasked);
        assert_eq!(session.flag.as_deref(), Some("bypassPermissions, .claude/settings.json:3"));
        assert_eq!(
            session.permitted_in_words().as_deref(),
            Some(
                "project .claude/settings.json: mode bypassPermissions (line 3); user ~/.claude/settings.json: 1 denied"
            )
        );
    }
}
