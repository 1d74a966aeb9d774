//! What a run made of the host's security state: the snapshots compared, each change with its writer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Engine, Group, GroupKey, Start};
use crate::agents;
use crate::catalogue::posture::{self, Check, Score, Watched};
use crate::catalogue::setup;
use crate::detections;
use crate::divergence::Explanation;
use crate::event::{Activity, Event, Fact, PostureItem, ProcessKey, Timestamp};
use crate::finding::{
    Confidence, Disposition, Drift, FailOn, Finding, Kind, Posture, RuleId, Severity, Weakness,
};
use crate::job::{Job, StepKey};
use crate::lineage::{Process, Standing};
use crate::policy::{Policy, quoted_step};

/// Checks whose change by the project's own code weighs as that by others'.
const GRAVE: &[&str] =
    &["sudoers", "passwordless-sudo", "second-root", "unasked-sudo", "sudoers-rights", "root-by-group"];

/// Checks that are told although they only look at how things are: it came to be so in this job.
const TURNED: &[&str] = &["second-root"];

/// What the facts said so far, and who wrote what any check looks at.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    start: BTreeMap<String, Seen>,
    end: BTreeMap<String, Seen>,
    watched: Watched,
    writers: HashMap<String, Writer>,
    /// Writes that nothing explains, until the end tells whether they stay.
    foreseen: BTreeMap<GroupKey, Foreseen>,
}

/// A change that is likely, told while the job goes on.
#[derive(Debug)]
pub(super) struct Foreseen {
    check: &'static Check,
    writer: Writer,
    pub severity: Severity,
    pub title: String,
}

#[derive(Debug, Default)]
struct Seen {
    unchanged: bool,
    /// Object and file to value.
    items: BTreeMap<(String, Option<String>), String>,
    problem: Option<String>,
    looked_at: u64,
}

/// Of the policy's minimum.
static SCORE: RuleId = RuleId("posture-minimum-score");

/// The last process that changed a file, unless one that nothing explains did before.
#[derive(Clone, Debug)]
struct Writer {
    process: ProcessKey,
    /// Kept here, since the lineage forgets a process that is over and did nothing of note.
    name: Arc<str>,
    step: StepKey,
    agent: Option<Arc<str>>,
    sequence: u64,
    time: Timestamp,
    /// Why that was expected.
    explained: Option<String>,
}

impl Snapshots {
    /// Writers that are kept; explained ones make room for others.
    const WRITERS: usize = 16_384;
    /// Likely changes that are kept.
    const FORESEEN: usize = 1000;

    pub(super) fn watch(&mut self, homes: &[String], workspace: &str) {
        self.watched = Watched::new(homes, workspace);
    }

    pub(super) fn foreseen(&self) -> impl Iterator<Item = (&GroupKey, &Foreseen)> {
        self.foreseen.iter()
    }

    pub(super) fn take(&mut self, fact: &Fact) {
        let Fact::Posture { check, at_end, unchanged, items, problem, looked_at } = fact else { return };
        let seen = Seen {
            unchanged: *unchanged,
            items: items
                .iter()
                .map(|PostureItem { object, value, file }| ((object.clone(), file.clone()), value.clone()))
                .collect(),
            problem: problem.clone(),
            looked_at: *looked_at,
        };
        if *at_end { &mut self.end } else { &mut self.start }.insert(check.clone(), seen);
    }

    fn wrote(&mut self, path: &str, writer: Writer) {
        if self.writers.len() >= Self::WRITERS {
            self.writers.retain(|_, writer| writer.explained.is_none());
        }
        let has_room = self.writers.len() < Self::WRITERS;
        match self.writers.get_mut(path) {
            Some(known) if known.explained.is_none() && writer.explained.is_some() => {}
            Some(known) => *known = writer,
            None if has_room => {
                self.writers.insert(path.to_owned(), writer);
            }
            None => {}
        }
    }
}

/// Why the action of a step changes this: it is what the action is for. What others' code does in it is not.
fn set_up(check: &Check, process: &Process, start: &Start) -> Option<String> {
    let step = start.job.steps.iter().find(|step| step.key == process.step)?;
    let is_others_code = matches!(process.standing, Standing::Script | Standing::Undeclared);
    let reason = setup::reason(&step.declared, &check.id).filter(|_| !is_others_code)?;
    Some(format!("{}: {reason}", step.declared))
}

/// What a policy asks of the host before the job and this one does not keep, each in a sentence. `facts` are
/// those of the start; only what would fail the job counts, and what an exception holds back does not.
pub fn unmet<'f>(
    policy: &Policy,
    facts: impl Iterator<Item = &'f Fact>,
    fail_on: Option<FailOn>,
    job: &Job,
    time: Timestamp,
) -> Vec<String> {
    let mut snapshots = Snapshots::default();
    facts.for_each(|fact| snapshots.take(fact));
    let fail_on = policy.fail_on_of(fail_on);
    let is_excepted = |finding: &Finding| {
        let shown = super::ending::relative(&finding.object, job);
        policy.exceptions().iter().filter(|exception| !exception.is_over(time)).any(|exception| {
            let covers = |object: &str| exception.covers(finding.rule.0, &finding.step, object);
            covers(&finding.object) || covers(&shown)
        })
    };
    let mut found = required(policy, &snapshots.start, time);
    found.retain(|finding| fail_on.fails(finding.severity, finding.confidence) && !is_excepted(finding));
    found.into_iter().map(|finding| finding.title).collect()
}

/// A finding for each weak object of a check that the policy requires, and for a score below its minimum.
fn required(policy: &Policy, start: &BTreeMap<String, Seen>, time: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for id in policy.posture_required() {
        let (Some(check), Some(seen)) = (posture::check(id), start.get(id)) else { continue };
        let weak = seen.items.iter().filter(|(_, value)| check.is_weak(value));
        let mut failed: Vec<(String, String)> =
            weak.map(|((object, _), _)| (object.clone(), format!("{object}: {}", check.title))).collect();
        if let Some(problem) = &seen.problem {
            let title = format!("the required check {} could not be made: {problem}", check.id);
            failed.push((check.id.clone(), title));
        }
        found.extend(failed.into_iter().map(|(object, title)| Finding {
            severity: check.severity,
            confidence: Confidence::High,
            declared: Some(format!("`posture.require: {}`", check.id)),
            remedy: check.remedy.clone(),
            ..plain(RuleId(&check.rule), title, object, time)
        }));
    }
    if let (Some(minimum), Some(score)) = (policy.minimum_score(), score(start).percent())
        && score < minimum
    {
        found.push(Finding {
            severity: Severity::High,
            confidence: Confidence::High,
            declared: Some(format!("`posture.minimum-score: {minimum}`")),
            remedy: "`edamame-guard posture` lists what is weak and what to do about it.".to_owned(),
            ..plain(
                SCORE,
                format!("the host's posture scores {score} of 100, and the policy asks for {minimum}"),
                "score".to_owned(),
                time,
            )
        });
    }
    found
}

fn score(start: &BTreeMap<String, Seen>) -> Score {
    let mut score = Score::default();
    for check in posture::checks() {
        if let Some(seen) = start.get(&check.id) {
            let values = seen.items.values().map(String::as_str);
            score
                .add(check.severity, posture::outcome(check, values, seen.looked_at, seen.problem.is_some()));
        }
    }
    score
}

/// How much a change counts.
struct Weight {
    severity: Severity,
    confidence: Confidence,
    /// What was read before it, for the title.
    after: String,
    /// The record of that.
    stolen: Option<u64>,
}

/// Of a file whose state at the end is not known.
const WROTE: &str = "wrote";

/// Whether it makes a program run as its owner or group.
fn gives_rights(activity: &Activity) -> bool {
    matches!(activity, Activity::Chmod { mode, .. } if mode & 0o6000 != 0)
}

/// What makes two changes the same finding.
fn drift_key(process: &Process, object: String) -> GroupKey {
    GroupKey {
        rule: detections::POSTURE.id.0,
        step: process.step.clone(),
        agent: process.agent.clone(),
        program: process.name.to_string(),
        object,
    }
}

/// One object that differs between start and end.
struct Change {
    object: String,
    file: Option<String>,
    /// `added`, `changed`, `removed`; [`WROTE`]
    how: &'static str,
    before: Option<String>,
    after: Option<String>,
}

impl Engine {
    /// Notes who changed a file that a check looks at.
    pub(super) fn note_writer(
        &mut self,
        sequence: u64,
        event: &Event,
        path: &str,
        explanation: &Explanation,
        start: &Start,
    ) {
        if !self.posture.watched.has(path) {
            return;
        }
        let Some(process) = self.lineage.get(event.actor) else { return };
        // Any program may write in its home and in /proc; that alone explains no change of these.
        let is_plain = self.catalogue.as_ref().is_none_or(|catalogue| catalogue.persistence(path).is_none())
            && crate::divergence::is_ordinary_place(path, &self.context(start))
            && matches!(explanation, Explanation::Derived(_));
        let is_steered =
            matches!(process.standing, Standing::Script | Standing::Undeclared | Standing::Recipe);
        // That a client puts programs there is no reason for others' code to make one root's.
        let is_raised = gives_rights(&event.activity)
            && matches!(explanation, Explanation::Derived(_))
            && matches!(process.standing, Standing::Script | Standing::Undeclared);
        let is_excused = !(is_plain && is_steered || is_raised);
        let explained = explanation.reason().filter(|_| is_excused).map(ToOwned::to_owned);
        let agent = process.agent.as_deref().and_then(agents::by_id).filter(|_| process.is_agent);
        let explained = explained.or_else(|| {
            agent.filter(|agent| agent.is_kept(path)).map(|agent| format!("{} keeps it", agent.title))
        });
        // A runner may check out by itself.
        let explained = explained
            .or_else(|| self.stepping.is_runner(event.actor).then(|| "the runner's own work".to_owned()));
        let writer = Writer {
            process: event.actor,
            name: Arc::clone(&process.name),
            step: process.step.clone(),
            agent: process.agent.clone(),
            sequence,
            time: event.time,
            explained,
        };
        if writer.explained.is_none()
            && let Some(process) = self.lineage.get_mut(event.actor)
        {
            process.has_touched = true;
        }
        if writer.explained.is_none() {
            self.foresee(&event.activity, path, &writer, start);
        }
        self.posture.wrote(path, writer);
    }

    /// Tells of a write that nothing explains at once; the end's snapshot says whether anything came of it.
    fn foresee(&mut self, activity: &Activity, path: &str, writer: &Writer, start: &Start) {
        let Some(process) = self.lineage.get(writer.process).cloned() else { return };
        let how = if matches!(activity, Activity::Delete { .. }) { "removed" } else { "wrote" };
        for check in self.posture.watched.checks(path) {
            let can_change = check.read != posture::Reading::SetId || gives_rights(activity);
            if !can_change || !self.posture.start.contains_key(&check.id) {
                continue;
            }
            // Which of the names in a file is changed is known at the end.
            let has_names = matches!(check.read, posture::Reading::Lines | posture::Reading::Names);
            let rules = self.rules(&writer.step, writer.agent.clone());
            if has_names && rules.posture_speaks_of(&check.group) {
                continue;
            }
            if self.expected(check, path, Some(writer), Some(&process), start).is_some() {
                continue;
            }
            let Weight { severity, after, .. } = self.weight(check, &process);
            let title = format!(
                "{} {how} {path} ({}), which nothing in this step explains{after}; the end tells whether it stays",
                process.name, check.title
            );
            let key = drift_key(&process, path.to_owned());
            let is_news = self.posture.foreseen.get(&key).is_none_or(|known| known.severity < severity);
            if is_news && self.posture.foreseen.len() < Snapshots::FORESEEN {
                let foreseen = Foreseen { check, writer: writer.clone(), severity, title };
                self.posture.foreseen.insert(key, foreseen);
            }
        }
    }

    /// Why a change of this object is fine: the policy, the writer's command, or the step's action.
    fn expected(
        &mut self,
        check: &Check,
        object: &str,
        writer: Option<&Writer>,
        process: Option<&Process>,
        start: &Start,
    ) -> Option<String> {
        let step = writer.map_or_else(StepKey::unattributed, |writer| writer.step.clone());
        let rules = self.rules(&step, writer.and_then(|writer| writer.agent.clone()));
        let shown = super::ending::relative(object, &start.job);
        let groups = [Some(&check.group), check.also_group.as_ref()];
        let allowed = [object, shown.as_str()].into_iter().find_map(|object| {
            groups.into_iter().flatten().find_map(|group| rules.posture(&check.id, group, object))
        });
        allowed
            .map(|rule| format!("allowed by `{}` ({})", rule.text, rule.location))
            .or_else(|| writer.and_then(|writer| writer.explained.clone()))
            .or_else(|| set_up(check, process?, start))
    }

    /// How much a change by this process counts.
    fn weight(&self, check: &Check, process: &Process) -> Weight {
        let stolen = self.lineage.strand(process.key).reads.iter().find(|read| !read.by_owner).cloned();
        let is_others_code = matches!(process.standing, Standing::Script | Standing::Undeclared);
        // Who may become root is no part of anybody's build.
        let is_grave = GRAVE.contains(&check.id.as_str())
            && matches!(process.standing, Standing::Recipe | Standing::Tool | Standing::Helper)
            && !self.is_installing(process);
        let (severity, confidence) = match (&stolen, is_others_code || is_grave) {
            (Some(_), _) => (Severity::High, Confidence::High),
            (None, true) => (check.severity, Confidence::Medium),
            (None, false) => (Severity::Low, Confidence::Medium),
        };
        Weight {
            severity,
            confidence,
            after: stolen.as_ref().map(|read| format!(", after {} was read", read.title)).unwrap_or_default(),
            stolen: stolen.map(|read| read.sequence),
        }
    }

    /// Compares the snapshots, puts findings into the groups, and says what there was to see.
    /// The texts are gaps: what could not be read.
    pub(super) fn posture(&mut self, start: &Start, is_watching: bool) -> (Option<Posture>, Vec<String>) {
        if self.posture.start.is_empty() {
            return (None, Vec::new());
        }
        let mut gaps = Vec::new();
        for (moment, seen) in [("start", &self.posture.start), ("end", &self.posture.end)] {
            gaps.extend(seen.iter().filter_map(|(check, seen)| {
                let problem = seen.problem.as_ref()?;
                Some(format!("the host's {check} could not be read whole at the {moment}: {problem}"))
            }));
        }
        if is_watching && self.posture.end.is_empty() {
            gaps.push("the host's posture was not read at the end: changes of it are unknown".to_owned());
        }
        let mut weak = Vec::new();
        let mut drift = Vec::new();
        for check in posture::checks() {
            weak.extend(self.weaknesses(check));
            for change in self.changes(check) {
                drift.push(self.drift(check, change, start));
            }
        }
        self.unsettled(start);
        for finding in required(&self.policy, &self.posture.start, start.time) {
            let key = GroupKey {
                rule: finding.rule.0,
                step: finding.step.clone(),
                agent: None,
                program: String::new(),
                object: finding.object.clone(),
            };
            self.groups.insert(key, Group { finding, last_sequence: 0, sent: None });
        }
        let checks = self.posture.start.len();
        (Some(Posture { checks, weak, drift }), gaps)
    }

    /// What is weak at the start.
    fn weaknesses(&self, check: &'static Check) -> Vec<Weakness> {
        let Some(seen) = self.posture.start.get(&check.id) else { return Vec::new() };
        let objects: Vec<(String, String)> = seen
            .items
            .iter()
            .filter(|(_, value)| check.is_weak(value))
            .map(|((object, _), value)| (object.clone(), value.clone()))
            .collect();
        objects
            .into_iter()
            .map(|(object, value)| Weakness {
                check: check.id.clone(),
                title: check.title.clone(),
                severity: check.severity,
                object,
                value,
            })
            .collect()
    }

    fn changes(&self, check: &Check) -> Vec<Change> {
        let (Some(before), Some(after)) =
            (self.posture.start.get(&check.id), self.posture.end.get(&check.id))
        else {
            return Vec::new();
        };
        let has_turned = TURNED.contains(&check.id.as_str());
        if (check.is_static && !has_turned) || after.unchanged {
            return Vec::new();
        }
        let keys =
            before.items.keys().chain(after.items.keys().filter(|key| !before.items.contains_key(*key)));
        keys.filter_map(|key| {
            let (old, new) = (before.items.get(key), after.items.get(key));
            let how = match (old, new) {
                // What was not read whole would all look added or removed; the rest is compared all the
                // same, or a job could hide a change behind something unreadable.
                (None, _) if before.problem.is_some() => return None,
                (_, None) if after.problem.is_some() => return None,
                (None, _) => "added",
                (_, None) => "removed",
                (Some(old), Some(new)) if old != new => "changed",
                _ => return None,
            };
            let is_weak = |value: Option<&String>| value.is_some_and(|value| check.is_weak(value));
            if has_turned && (is_weak(old) || !is_weak(new)) {
                return None;
            }
            let (object, file) = key.clone();
            Some(Change { object, file, how, before: old.cloned(), after: new.cloned() })
        })
        .collect()
    }

    /// A write that was told, and of which the end's snapshot can't say whether it stayed, is a note.
    fn unsettled(&mut self, start: &Start) {
        for (key, Foreseen { check, writer, .. }) in std::mem::take(&mut self.posture.foreseen) {
            let is_settled =
                self.posture.end.get(&check.id).is_some_and(|seen| seen.unchanged || seen.problem.is_none());
            let process = self.lineage.get(writer.process).cloned();
            // The write itself may be a finding already.
            let written = GroupKey { rule: detections::FILE.id.0, ..key.clone() };
            if is_settled || self.groups.contains_key(&key) || self.groups.contains_key(&written) {
                continue;
            }
            if let Some(process) = process {
                let change = Change { object: key.object, file: None, how: WROTE, before: None, after: None };
                self.drift_by(check, change, &writer, &process, start);
            }
        }
    }

    /// Lists a change, and makes it a finding unless something explains it.
    fn drift(&mut self, check: &'static Check, change: Change, start: &Start) -> Drift {
        let path = change.file.as_ref().unwrap_or(&change.object);
        let writer = self.posture.writers.get(path).cloned();
        let process = writer.as_ref().and_then(|writer| self.lineage.get(writer.process)).cloned();
        let explained = self.expected(check, &change.object, writer.as_ref(), process.as_ref(), start);
        let drift = Drift {
            check: check.id.clone(),
            object: change.object.clone(),
            how: change.how,
            by: writer.as_ref().map(|writer| writer.name.to_string()),
            step: writer.as_ref().map(|writer| writer.step.clone()),
            explained,
        };
        if drift.explained.is_none() {
            match (writer, process) {
                (Some(writer), Some(process)) => self.drift_by(check, change, &writer, &process, start),
                _ => self.drift_by_nobody(check, change),
            }
        }
        drift
    }

    /// A change of a file that no process of the job was seen to write.
    fn drift_by_nobody(&mut self, check: &'static Check, change: Change) {
        let title = format!(
            "{} was {}{} ({}); nobody in the job was seen to do it",
            change.what(check),
            change.how,
            change.values(check),
            check.title
        );
        let finding = Finding {
            // The kernel and its daemons change their own settings; that is nobody's doing here.
            severity: if check.group == "kernel" { Severity::Low } else { check.severity },
            confidence: Confidence::Low,
            remedy: check.remedy.clone(),
            techniques: detections::POSTURE.techniques.to_vec(),
            silence: self.silence_drift("defaults:\n  ", check),
            ..plain(detections::POSTURE.id, title, change.object.clone(), self.last)
        };
        let key = GroupKey {
            rule: detections::POSTURE.id.0,
            step: finding.step.clone(),
            agent: None,
            program: String::new(),
            object: change.object,
        };
        self.groups.insert(key, Group { finding, last_sequence: 0, sent: None });
    }

    fn drift_by(
        &mut self,
        check: &'static Check,
        change: Change,
        writer: &Writer,
        process: &Process,
        start: &Start,
    ) {
        let Weight { severity, confidence, after, stolen } = self.weight(check, process);
        let title = format!(
            "{} {} {}{} ({}), which nothing in this step explains{after}",
            process.name,
            change.how,
            change.what(check),
            change.values(check),
            check.title
        );
        let (confidence, title) = match change.how {
            WROTE => (Confidence::Low, format!("{title}; what it was at the end could not be read")),
            _ => (confidence, title),
        };
        let step = &process.step;
        let key = drift_key(process, change.object.clone());
        let mut finding = Finding {
            severity,
            confidence,
            step: step.clone(),
            agent: process.agent.as_deref().map(ToOwned::to_owned),
            process: self.lineage.view(process.key),
            ancestry: self.lineage.ancestry(process.key),
            declared: process.command.as_deref().map(ToOwned::to_owned),
            techniques: detections::POSTURE.techniques.to_vec(),
            evidence: vec![process.evidence, writer.sequence],
            location: start.job.steps.iter().find(|it| it.key == *step).and_then(|it| it.location.clone()),
            remedy: check.remedy.clone(),
            silence: self.silence_drift(&format!("steps:\n  {}:\n    ", quoted_step(step)), check),
            ..plain(detections::POSTURE.id, title, change.object.clone(), writer.time)
        };
        finding.evidence.extend(stolen);
        // The write itself may be a finding already: one act, one finding, and the policy's comes first.
        let path = change.file.unwrap_or(change.object);
        let written = GroupKey { rule: detections::FILE.id.0, object: path, ..key.clone() };
        if let Some(known) = self.groups.get_mut(&written) {
            let known = &mut known.finding;
            known.severity = known.severity.max(severity);
            known.confidence = known.confidence.max(confidence);
            if known.kind == Kind::Policy {
                return;
            }
            finding.severity = known.severity;
            finding.confidence = known.confidence;
            finding.count = known.count;
            finding.evidence.append(&mut known.evidence);
            self.groups.remove(&written);
        }
        finding.evidence.sort_unstable();
        finding.evidence.dedup();
        finding.evidence.truncate(Self::EVIDENCE);
        self.groups.insert(key, Group { finding, last_sequence: writer.sequence, sent: None });
    }

    /// Whether a package manager is at work above it.
    fn is_installing(&self, process: &Process) -> bool {
        std::iter::once(process)
            .chain(self.lineage.ancestors(process.key))
            .any(|process| process.tool == Some("system-packages"))
    }

    /// The lines that would expect a change of this check; `place` is where in the file.
    fn silence_drift(&self, place: &str, check: &Check) -> String {
        format!(
            "# {}\n{}{place}posture: {{allow: [{}]}}",
            self.policy.origin().unwrap_or(".github/guard.yml"),
            if self.policy.is_absent() { "version: 1\nfail-on: high\n" } else { "" },
            check.id,
        )
    }
}

impl Change {
    /// The object as a sentence names it.
    fn what(&self, check: &Check) -> String {
        match &self.file {
            Some(file) if check.read == posture::Reading::Lines => format!("{} in {file}", self.object),
            _ => self.object.clone(),
        }
    }

    /// For a setting: what it was and is.
    fn values(&self, check: &Check) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if check.read == posture::Reading::Text => {
                format!(" from {before} to {after}")
            }
            _ => String::new(),
        }
    }
}

/// A posture finding of nobody's.
fn plain(rule: RuleId, title: String, object: String, time: Timestamp) -> Finding {
    Finding {
        rule,
        kind: Kind::Posture,
        severity: Severity::Low,
        confidence: Confidence::Low,
        fails: false,
        title,
        step: StepKey::unattributed(),
        agent: None,
        tool_call: None,
        process: None,
        ancestry: Vec::new(),
        object,
        more_objects: Vec::new(),
        disposition: Disposition::Detected,
        declared: None,
        techniques: Vec::new(),
        references: Vec::new(),
        evidence: Vec::new(),
        first_seen: time,
        reported_at: time,
        count: 1,
        location: None,
        fingerprint: String::new(),
        remedy: String::new(),
        silence: String::new(),
    }
}
