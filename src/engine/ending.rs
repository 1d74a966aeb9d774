//! How a run ends: findings folded, weighed, excused and printed with their remedy; coverage told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{End, Engine, Group, LONGEST_SILENCE_NS, Start};
use crate::detections::{self, Detection, Hit};
use crate::divergence;
use crate::event::{Fact, Plane, ProcessKey, Reach, Sight, Timestamp, hex};
use crate::finding::{
    Confidence, Coverage, CoverageState, Destination, Disposition, ExitView, Finding, Kind, Report, Severity,
    StepReport, Suppressed, Verdict,
};
use crate::intent::{Asker, StepIntent, Verb, basename};
use crate::job::{Job, Location, Provider, StepKey};
use crate::lineage::{Process, Standing};
use crate::policy::{self, Exception, Policy, Role, quoted as quote, quoted_step};

/// More objects than this of one rule, step and program become one finding.
const FOLD: usize = 20;

/// Opens the policy that a run without one ends with.
const FIRST_RUN: &str =
    "No policy yet: each step was compared with its own text. A policy from this run, to start with:";

impl Engine {
    /// Ends the run: folds, weighs, and says what could not be seen.
    #[expect(clippy::too_many_lines, reason = "one report, part by part")]
    pub fn finish(mut self) -> Report {
        let start = self.start.take().map_or_else(unknown_start, Arc::unwrap_or_clone);
        let end = self.end.take();
        let recorded = start.fail_on.as_ref().and_then(|text| text.parse().ok());
        let fail_on = self.policy.fail_on_of(self.settings.fail_on.or(recorded));
        let sessions = self.judge_agents(&start);
        self.left_behind(end.as_ref());
        let (posture, unread) = self.posture(&start, end.as_ref().is_some_and(|end| end.watching));
        let mut coverage = self.coverage(&start, end.as_ref());
        coverage.gaps.extend(unread);
        let mut findings: Vec<Finding> =
            std::mem::take(&mut self.groups).into_values().map(Group::told).collect();
        findings.extend(
            self.losses().into_iter().chain(self.leaked(&start)).chain(self.policy_changed(start.time)),
        );
        findings.extend(self.lost_records());
        findings.extend(self.widened(&start));
        let mut findings = fold(findings);
        for finding in &mut findings {
            finding.fingerprint = fingerprint(finding, &start.job);
            if finding.silence.is_empty() {
                finding.silence = silence(finding, &start, &self.policy);
            }
        }
        let (mut findings, suppressed) = self.suppress(findings, &start);
        for finding in &mut findings {
            finding.fails = fail_on.fails(finding.severity, finding.confidence);
        }
        findings.sort_by(|a, b| {
            let weight = |finding: &Finding| {
                let worst = std::cmp::Reverse((finding.severity, finding.confidence));
                (!finding.fails, worst, finding.kind, finding.rule, finding.first_seen)
            };
            weight(a).cmp(&weight(b)).then_with(|| a.fingerprint.cmp(&b.fingerprint))
        });
        let picture = std::mem::take(&mut self.drawing).finish(
            findings
                .iter()
                .filter_map(|finding| Some((finding.process.as_ref()?.key, finding.fingerprint.as_str()))),
        );
        if let Some(problem) = self.stepping.problem.take() {
            coverage.gaps.push(format!("the workflow's file could not be read: {problem}"));
        }
        let verdict = verdict(&findings, coverage.state);
        let guard = if coverage.state == CoverageState::Blind {
            125
        } else if findings.iter().any(|finding| finding.fails) {
            86
        } else {
            0
        };
        let steps = self.step_reports(&start);
        let mut notices = Vec::new();
        if let Some((Role::Unreviewed, origin, _)) = self.policy.of_the_tree() {
            notices.push(format!(
                "Unreviewed policy: {origin} of this job's tree is the only one that could be had, so what it allows does not count, only what it denies."
            ));
        }
        notices.extend(steps.iter().filter(|step| !step.compared && step.key.is_real()).map(|step| {
            format!(
                "Nothing was declared for step {}; compared: nothing. Attack rules still apply.",
                step.key
            )
        }));
        for (step, unreadable) in start.job.steps.iter().filter_map(|step| {
            let unreadable = self.intent.of(&step.key)?.unreadable;
            (unreadable > 0).then_some((&step.key, unreadable))
        }) {
            notices
                .push(format!("{unreadable} parts of the text of step {step} could not be read as shell."));
        }
        // A run under attack, or one that was not seen, is nothing to start from.
        let is_first_run =
            self.policy.is_absent() && coverage.state != CoverageState::Blind && verdict != Verdict::Attack;
        let mut report = Report {
            verdict,
            exit: ExitView {
                guard,
                command: end.as_ref().and_then(|end| end.command),
                signal: end.as_ref().and_then(|end| end.signal),
            },
            mode: "audit",
            fail_on,
            coverage,
            sessions,
            posture,
            picture,
            steps,
            findings,
            suppressed,
            policy: self.policy.origin().map(ToOwned::to_owned),
            notices,
            sockets_before: std::mem::take(&mut self.sockets),
            started: start.time,
            ended: end.as_ref().map_or(self.last, |end| end.time),
            job: start.job,
        };
        if is_first_run {
            let learned = policy::learn(&[&report]);
            report.notices.insert(0, format!("{FIRST_RUN}\n{learned}"));
        } else if report.policy.is_none() {
            report.notices.insert(0, "No policy: each step was compared with its own text.".to_owned());
        }
        report
    }

    /// What a program of the project, or of others, forked off and left behind when it ended itself: it runs on when the
    /// job is over. A daemon that was started as a program of its own is told as a gap; many jobs leave some.
    fn left_behind(&mut self, end: Option<&End>) {
        let Some(end) = end.filter(|end| end.watching) else { return };
        let is_left = |process: &&Process| {
            let is_steered =
                matches!(process.standing, Standing::Recipe | Standing::Script | Standing::Undeclared);
            let above = self.lineage.ancestors(process.key).take_while(|above| {
                above.launch.as_ref().map(Arc::as_ptr) == process.launch.as_ref().map(Arc::as_ptr)
            });
            let kin: Vec<&Process> = above.collect();
            // Twice forked, as one does it who does not want to be found: a pool's worker has its master above it.
            let is_detached = kin.len() >= 2 && kin.iter().all(|above| above.ended);
            let is_fork = is_detached && !process.launched && process.tool == Some("interpreters");
            is_steered && (is_fork || (process.launched && self.lacks_mark(process)))
        };
        let left: Vec<(ProcessKey, u64, String, String)> = (self.lineage.survivors().iter())
            .filter(|process| !self.running.contains(&process.key) && process.step.is_real())
            .filter(|process| is_left(process))
            .filter_map(|process| {
                let program = process.launch.as_deref()?.program().path.clone();
                Some((process.key, process.evidence, process.name.to_string(), program))
            })
            .collect();
        for (process, sequence, name, program) in left {
            let hit = Hit {
                rule: &detections::TAKEOVER,
                kind: Kind::Attack,
                severity: Severity::High,
                confidence: Confidence::Medium,
                title: format!(
                    "{name} outlives the job, cut off from what started it and out of the runner's sight"
                ),
                process,
                object: program,
                evidence: Vec::new(),
                replaces: None,
                remedy: None,
            };
            self.record(sequence, end.time, vec![hit], None);
        }
    }

    /// Whether a process was started without the runner's mark, though it kept others of the runner's variables.
    fn lacks_mark(&self, process: &Process) -> bool {
        const MARK: &str = "RUNNER_TRACKING_ID";
        let of = |process: &Process| {
            let variables = process.launch.as_deref().map(|launch| &launch.environment);
            variables.filter(|variables| !variables.is_empty()).map(|variables| variables.contains_key(MARK))
        };
        of(process) == Some(false) && self.lineage.ancestors(process.key).any(|above| of(above) == Some(true))
    }

    fn step_reports(&self, start: &Start) -> Vec<StepReport> {
        let mut keys: Vec<StepKey> = start.job.steps.iter().map(|step| step.key.clone()).collect();
        keys.extend(self.steps.keys().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>());
        keys.into_iter()
            .map(|key| {
                let step = start.job.steps.iter().find(|step| step.key == key);
                let tally = self.steps.get(&key);
                StepReport {
                    name: step.map_or_else(|| key.to_string(), |step| step.name.clone()),
                    declared: step.map(|step| step.declared.clone()).unwrap_or_default(),
                    location: step.and_then(|step| step.location.clone()),
                    events: tally.map(|tally| tally.counts).unwrap_or_default(),
                    processes: tally.map_or(0, |tally| tally.processes),
                    destinations: tally
                        .iter()
                        .flat_map(|tally| &tally.destinations)
                        .map(|((host, program), explained)| Destination {
                            host: host.clone(),
                            program: program.clone(),
                            explained: explained.clone(),
                            carried: tally
                                .and_then(|tally| tally.carried.get(&(host.clone(), program.clone())))
                                .copied(),
                        })
                        .collect(),
                    needs: tally.map(|tally| tally.needs.clone()).unwrap_or_default(),
                    compared: self.intent.of(&key).is_some_and(divergence::is_comparable),
                    key,
                }
            })
            .collect()
    }

    #[expect(clippy::too_many_lines, reason = "each kind of gap in its order")]
    fn coverage(&self, start: &Start, end: Option<&End>) -> Coverage {
        let sight = &start.sight;
        let lost_events = self.lost.values().map(|(count, ..)| count).sum();
        let mut gaps = Vec::new();
        for (plane, (count, since, _)) in &self.lost {
            gaps.push(format!("{count} {plane} records were lost from {} on", since.rfc3339()));
        }
        if self.behind > LONGEST_SILENCE_NS {
            gaps.push(format!(
                "the guard was up to {} seconds behind what happened; it took everything in, later",
                self.behind / 1_000_000_000
            ));
        }
        for (since, nanoseconds) in &self.silences {
            gaps.push(format!(
                "the guard was silent for {} seconds from {} on",
                nanoseconds / 1_000_000_000,
                since.rfc3339()
            ));
        }
        for (hook, (since, _)) in &self.lost_hooks {
            gaps.push(format!(
                "nothing of `{hook}` was seen from {} on: the hook was taken away",
                since.rfc3339()
            ));
        }
        if !self.unnamed.is_empty() {
            let some = self.unnamed.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            gaps.push(format!(
                "{} destinations are known by address alone and could not be compared with the host names of the policy: {some}",
                self.unnamed.len()
            ));
        }
        gaps.extend(self.work.gaps());
        gaps.extend(self.own_removals().into_iter().chain(self.work.unread_settings(&start.job)));
        gaps.extend(self.told_gaps.iter().cloned());
        gaps.extend(self.sources.gap());
        gaps.extend(self.stepping.unseen_containers());
        if self.unattributed > 0 {
            gaps.push(format!("{} processes could not be tied to a step", self.unattributed));
        }
        let client = end.and_then(|end| end.client);
        let mut survivors = self.lineage.survivors();
        // Who asked for the end, and what started it, are no part of what the job left behind.
        let asked =
            survivors.iter().find(|process| Some(process.key.pid) == client).map(|process| process.key);
        let above: Vec<ProcessKey> = asked
            .iter()
            .flat_map(|asked| self.lineage.ancestors(*asked))
            .map(|process| process.key)
            .collect();
        let is_callers = |process: &Process| above.contains(&process.key) && !process.step.is_real();
        survivors.retain(|process| {
            !self.running.contains(&process.key) && Some(process.key.pid) != client && !is_callers(process)
        });
        if !survivors.is_empty() && end.is_some_and(|end| end.watching) {
            gaps.push(format!(
                "{} processes outlived the job and were not watched after it: {}",
                survivors.len(),
                survivors.iter().take(5).map(|process| &*process.name).collect::<Vec<_>>().join(", ")
            ));
        }
        if self.undigested > 0 {
            gaps.push(format!(
                "{} programs have no digest: gone or changed when they were to be read, or too large",
                self.undigested
            ));
        }
        if self.lineage.unremembered() > 0 {
            gaps.push(format!(
                "{} more files were written than are remembered: a program among them that runs under a known tool's name \
                 may have counted as that tool",
                self.lineage.unremembered()
            ));
        }
        let unlisted = self.steps.values().map(|tally| tally.unlisted).sum::<u64>();
        if unlisted > 0 {
            gaps.push(format!(
                "{unlisted} connections went to more destinations than are listed; all were judged"
            ));
        }
        let is_watching = end.is_some_and(|end| end.watching);
        if !is_watching {
            gaps.push("the recording has no end: what happened after its last record is unknown".to_owned());
        }
        let state = if !is_watching || sight.process == Reach::None {
            CoverageState::Blind
        } else if lost_events > 0
            || !self.silences.is_empty()
            || Plane::ALL.iter().any(|plane| sight.of(*plane) != Reach::Full)
        {
            CoverageState::Partial
        } else {
            CoverageState::Full
        };
        Coverage {
            state,
            sensor: sight.sensor.clone(),
            tier: sight.tier.clone(),
            since: start.time,
            process: sight.process,
            file: sight.file,
            egress: sight.egress,
            agents: self.agents_seen.iter().cloned().collect(),
            lost_events,
            gaps,
            limits: sight.gaps.clone(),
        }
    }

    /// Secrets that came out where they should not.
    fn leaked(&self, start: &Start) -> Vec<Finding> {
        let is_masked_later = start.job.provider == Provider::Gitlab;
        // On GitLab there is one step, whose log it is.
        let own = start.job.steps.first().filter(|_| is_masked_later).map(|step| step.key.clone());
        let own = own.unwrap_or_else(|| self.stepless());
        let told = self.leaks.iter().filter_map(|(sequence, fact)| {
            let Fact::Leak { secret, encoding, place, time } = fact else { return None };
            let (severity, confidence) = detections::leak_weight(secret, place, encoding, is_masked_later)?;
            // Whoever writes `cat ~/.netrc` wants to see it.
            let step = self.intent.of(&own);
            let is_meant =
                |step: &StepIntent| step.secret(secret, &self.all_homes, Asker::Shell, Verb::Read).is_some();
            if encoding == "plain" && step.is_some_and(is_meant) {
                return None;
            }
            let title = format!("the secret {secret} came out in {place}, {encoding}");
            let object = format!("{secret} in {place} ({encoding})");
            Some(Finding {
                kind: Kind::Attack,
                severity,
                confidence,
                step: own.clone(),
                references: detections::LEAK.references.to_vec(),
                evidence: vec![*sequence],
                ..coverage_finding(&detections::LEAK, title, object, *time)
            })
        });
        told.collect()
    }

    /// Losses during the run are findings; what a sensor can't see anywhere never is.
    fn losses(&self) -> Vec<Finding> {
        let lost = self.lost.iter().map(|(plane, (count, since, sequence))| {
            let rule = if *plane == Plane::Process { &detections::LINEAGE } else { &detections::RECORDS };
            let title = format!("{count} {plane} records were lost, so what they showed was not compared");
            Finding {
                evidence: vec![*sequence],
                count: *count,
                ..coverage_finding(rule, title, plane.to_string(), *since)
            }
        });
        let silences = self.silences.iter().map(|(since, nanoseconds)| {
            let title = format!("the guard was silent for {} seconds", nanoseconds / 1_000_000_000);
            coverage_finding(&detections::HEARTBEAT, title, "sidecar".to_owned(), *since)
        });
        let hooks = self.lost_hooks.iter().map(|(hook, (since, sequence))| {
            let title = format!("the recorder's hook `{hook}` was taken away during the run");
            Finding {
                evidence: vec![*sequence],
                ..coverage_finding(&detections::HOOK, title, hook.clone(), *since)
            }
        });
        lost.chain(silences).chain(hooks).collect()
    }

    /// The tree's copy of the policy differs from the one that holds.
    fn policy_changed(&self, since: Timestamp) -> Option<Finding> {
        let (Role::Proposed, origin, is_gone) = self.policy.of_the_tree()? else { return None };
        let title = if is_gone {
            format!("this change removes the policy {origin}; the reviewed one was applied")
        } else {
            format!(
                "this change edits the policy {origin}; the reviewed one was applied, and what the edit denies"
            )
        };
        let location = Location { path: origin.to_owned(), line: 1 };
        Some(Finding {
            kind: Kind::Policy,
            location: (!is_gone).then_some(location),
            ..coverage_finding(&detections::POLICY_CHANGED, title, origin.to_owned(), since)
        })
    }

    /// Exceptions whose last day is over, with how many findings they would have held back.
    fn expired(&self, findings: &[Finding], start: &Start) -> Vec<Finding> {
        let over = self.policy.exceptions().iter().filter(|exception| exception.is_over(start.time));
        let told = over.map(|exception| {
            let is_covered = |finding: &&Finding| {
                let shown = relative(&finding.object, &start.job);
                let mut objects = [&finding.object, &shown].into_iter();
                objects.any(|object| exception.covers(finding.rule.0, &finding.step, object))
            };
            let until = exception.until.map(|until| until.to_string()).unwrap_or_default();
            let back = match findings.iter().filter(is_covered).count() {
                0 => String::new(),
                1 => ", and 1 finding is back".to_owned(),
                count => format!(", and {count} findings are back"),
            };
            let title =
                format!("the exception for {} ({}) ended on {until}{back}", exception.rule, exception.reason);
            let parts = [Some(&exception.rule), exception.step.as_ref(), exception.object.as_ref()];
            let object = parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
            let mut finding = Finding {
                kind: Kind::Policy,
                location: Some(exception.location.clone()),
                ..coverage_finding(&detections::EXPIRED, title, object, start.time)
            };
            finding.fingerprint = fingerprint(&finding, &start.job);
            finding.silence = silence(&finding, start, &self.policy);
            finding
        });
        told.collect()
    }

    fn suppress(&self, findings: Vec<Finding>, start: &Start) -> (Vec<Finding>, Vec<Suppressed>) {
        let mut kept = self.expired(&findings, start);
        let mut suppressed = Vec::new();
        for finding in findings {
            let shown = relative(&finding.object, &start.job);
            let covers = |exception: &&Exception| {
                !exception.is_over(start.time)
                    && [&finding.object, &shown]
                        .iter()
                        .any(|object| exception.covers(finding.rule.0, &finding.step, object))
            };
            match self.policy.exceptions().iter().find(covers) {
                Some(exception) => suppressed.push(Suppressed {
                    rule: finding.rule.0.to_owned(),
                    object: finding.object,
                    step: finding.step,
                    reason: exception.reason.clone(),
                    until: exception.until.map(|until| until.to_string()),
                    count: finding.count,
                }),
                None => kept.push(finding),
            }
        }
        (kept, suppressed)
    }
}

impl Group {
    /// The finding, with how much went out where that is known.
    fn told(self) -> Finding {
        let mut finding = self.finding;
        if let Some(sent) = self.sent {
            let unit = if sent == 1 { "byte" } else { "bytes" };
            finding.title = format!("{}; {sent} {unit} sent", finding.title);
        }
        finding
    }
}

pub(super) fn coverage_finding(rule: &Detection, title: String, object: String, since: Timestamp) -> Finding {
    Finding {
        rule: rule.id,
        kind: Kind::Coverage,
        severity: rule.severity,
        confidence: rule.confidence,
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
        techniques: rule.techniques.to_vec(),
        references: Vec::new(),
        evidence: Vec::new(),
        first_seen: since,
        reported_at: since,
        count: 1,
        location: None,
        fingerprint: String::new(),
        remedy: rule.remedy.to_owned(),
        silence: String::new(),
    }
}

fn verdict(findings: &[Finding], state: CoverageState) -> Verdict {
    let has = |kinds: &[Kind]| findings.iter().any(|finding| kinds.contains(&finding.kind));
    if has(&[Kind::Attack]) {
        Verdict::Attack
    } else if has(&[Kind::Policy, Kind::Divergence, Kind::Posture]) {
        Verdict::Divergence
    } else {
        match state {
            CoverageState::Blind => Verdict::Blind,
            CoverageState::Partial => Verdict::Partial,
            CoverageState::Full => Verdict::Clean,
        }
    }
}

/// More than twenty objects of one rule, step and program become one finding.
fn fold(findings: Vec<Finding>) -> Vec<Finding> {
    let program =
        |finding: &Finding| finding.process.as_ref().map(|process| process.name.clone()).unwrap_or_default();
    let kin = |finding: &Finding| {
        let who = (finding.step.clone(), finding.agent.clone(), program(finding));
        (finding.rule.0, who, finding.kind)
    };
    let mut by_kin: BTreeMap<_, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        by_kin.entry(kin(&finding)).or_default().push(finding);
    }
    let mut folded = Vec::new();
    for mut kin in by_kin.into_values() {
        if kin.len() <= FOLD {
            folded.append(&mut kin);
            continue;
        }
        kin.sort_by_key(|finding| {
            (std::cmp::Reverse(finding.severity), finding.first_seen, finding.object.clone())
        });
        let mut kin = kin.into_iter();
        let Some(mut first) = kin.next() else { continue };
        for (index, other) in kin.enumerate() {
            if index + 1 < FOLD {
                first.more_objects.push(other.object);
            }
            first.count += other.count;
            first.confidence = first.confidence.max(other.confidence);
            first.evidence.extend(other.evidence);
        }
        first.evidence.sort_unstable();
        first.evidence.dedup();
        first.evidence.truncate(Engine::EVIDENCE);
        folded.push(first);
    }
    folded
}

/// A path as the policy would name it: `~/…`, `./…`.
pub(super) fn relative(object: &str, job: &Job) -> String {
    for (folder, short) in [(&job.workspace, "."), (&job.home, "~")] {
        if folder.len() > 1
            && let Some(rest) = object.strip_prefix(folder.as_str())
            && rest.starts_with('/')
        {
            return format!("{short}{rest}");
        }
    }
    object.to_owned()
}

/// The same tomorrow: no pid, time, or name that a program made up for the moment.
fn fingerprint(finding: &Finding, job: &Job) -> String {
    use sha2::{Digest, Sha256};
    let object: String = relative(&finding.object, job)
        .split('/')
        .map(|part| if is_made_up(part) { "*" } else { part })
        .collect::<Vec<_>>()
        .join("/");
    let program = finding.process.as_ref().map_or("", |process| process.name.as_str());
    let agent = finding.agent.as_deref();
    let mut hasher = Sha256::new();
    for part in [finding.rule.0, &job.name, &finding.step.0, program, &object].into_iter().chain(agent) {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hex(&hasher.finalize()[..16])
}

/// Whether a path component looks like `tmp.a8Xk2LqPz1`: made up for one run.
pub(super) fn is_made_up(part: &str) -> bool {
    let random = part.rsplit(['.', '-', '_']).next().unwrap_or(part);
    let digits = random.bytes().filter(u8::is_ascii_digit).count();
    let upper = random.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = random.bytes().filter(u8::is_ascii_lowercase).count();
    let all = random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    all && random.len() >= 6
        && ((digits >= 2 && upper + lower >= 2 && digits + upper >= 3) || (upper >= 2 && lower >= 2))
}

/// The lines that would allow or except a finding, and the file they belong in.
fn silence(finding: &Finding, start: &Start, policy: &Policy) -> String {
    let file = policy.origin().unwrap_or(".github/guard.yml");
    let object = quote(&relative(&finding.object, &start.job));
    // Without a policy findings fail from high on; with one from medium, unless it says so.
    let opening = if policy.is_absent() { "version: 1\nfail-on: high\n" } else { "" };
    // An allow entry where there is no list yet would make one, and everything else be missing from it.
    let is_missing = finding.kind == Kind::Policy && finding.severity < Severity::High;
    if !is_missing {
        return format!(
            "# {file}\n{opening}except:\n  - {{rule: {}, step: {}, object: {object}, reason: \"why this is fine\", until: {}}}",
            finding.rule,
            quoted_step(&finding.step),
            in_90_days(start.time),
        );
    }
    let entry = match finding.rule.0 {
        "egress-undeclared" => format!("network: {{allow: [{object}]}}"),
        "run-undeclared" => format!("run: {{allow: [{}]}}", quote(basename(&finding.object))),
        _ => {
            let verb = if finding.title.contains(" read ") { "read" } else { "write" };
            format!(
                "files: {{allow: [{}]}}",
                quote(&format!("{verb} {}", relative(&finding.object, &start.job)))
            )
        }
    };
    format!("# {file}\n{opening}steps:\n  {}:\n    {entry}", quoted_step(&finding.step))
}

fn in_90_days(from: Timestamp) -> String {
    const DAY_NS: u64 = 86_400_000_000_000;
    Timestamp(from.0.saturating_add(90 * DAY_NS)).rfc3339().get(..10).unwrap_or_default().to_owned()
}

/// For a recording whose first record is missing: nothing was watched.
fn unknown_start() -> Start {
    Start {
        schema: String::new(),
        version: String::new(),
        time: Timestamp::default(),
        guard: ProcessKey::HOST,
        program: None,
        fail_on: None,
        key: None,
        job: Job {
            provider: crate::job::Provider::Local,
            name: "local".to_owned(),
            workspace: "/".to_owned(),
            home: "/".to_owned(),
            uid: 0,
            pipeline: None,
            steps: Vec::new(),
        },
        sight: Sight {
            sensor: "none".to_owned(),
            tier: String::new(),
            process: Reach::None,
            file: Reach::None,
            egress: Reach::None,
            hooks: BTreeMap::new(),
            gaps: vec!["the recording does not say what was watched".to_owned()],
        },
    }
}
