//! Did against meant: in which capacity a process runs, and what explains an effect of it.
//!
//! In this order: *own* housekeeping, *declared* by the text, *derived* from the nature of a
//! declared command, else *undeclared*. Knowledge about tools is data in `commands/`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use globset::GlobSet;

use crate::agents;
use crate::catalogue::{self, Catalogue, Store};
use crate::commands::{self, Network, Runs, Tool};
use crate::event::{Activity, AgentCommands, Launch, Timestamp, Transport};
use crate::intent::workflow::Permissions;
use crate::intent::{Asker, StepIntent, Verb, basename, is_launcher, is_shell};
use crate::job::Job;
use crate::lineage::{Lineage, Process, Standing, Touch};

/// Why an effect is expected, or that it isn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The program's own files and services: git reading its credential store.
    Own(String),
    /// The text names it.
    Declared(String),
    /// It follows from the nature of a declared command.
    Derived(String),
    /// Nothing explains it; the nearest declaration almost does.
    Undeclared { nearest: Option<String> },
    /// The step declared nothing, so there is nothing to compare with.
    Nothing,
}

impl Explanation {
    /// Whether a declaration was there and did not cover this.
    pub fn is_undeclared(&self) -> bool {
        matches!(self, Self::Undeclared { .. })
    }

    /// The reason in words; `None` when nothing explains it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Own(reason) | Self::Declared(reason) | Self::Derived(reason) => Some(reason),
            Self::Undeclared { .. } | Self::Nothing => None,
        }
    }
}

/// What a process did that can be compared.
#[derive(Clone, Debug)]
pub enum Effect {
    Launch {
        program: String,
    },
    /// A credential store was opened for reading.
    Read {
        path: String,
        store: &'static Store,
        by_owner: bool,
    },
    /// A file was made, changed, renamed or deleted; `store` says what it would run again.
    Write {
        path: String,
        store: Option<&'static Store>,
    },
    Connect {
        /// `name:port`, or `address:port`.
        object: String,
        address: std::net::SocketAddr,
        transport: Transport,
    },
    /// A connection is over; `explanation` is that of its beginning.
    Sent {
        /// As `Connect` has it.
        object: String,
        sent: u64,
        received: u64,
    },
    /// Anything else, as the event tells it: nothing that a text names or a policy lists.
    Other,
}

/// One effect, with who had it and what explains it: what a rule looks at.
#[derive(Debug)]
pub struct Act<'a> {
    pub sequence: u64,
    pub time: Timestamp,
    pub process: &'a Process,
    pub lineage: &'a Lineage,
    pub effect: &'a Effect,
    pub explanation: &'a Explanation,
    pub activity: &'a Activity,
    pub context: &'a Context<'a>,
}

/// What the comparison knows beside the lineage.
#[derive(Debug)]
pub struct Context<'a> {
    pub job: &'a Job,
    /// The guard itself.
    pub guard: crate::event::ProcessKey,
    pub started: Timestamp,
    /// Homes of the user the step runs as: `$HOME`, and the one in the user database.
    pub homes: &'a [String],
    /// Homes of every local user.
    pub all_homes: &'a [String],
    /// What each tool writes outside the workspace.
    pub writes: &'a BTreeMap<&'static str, GlobSet>,
    /// Configured registry hosts by tool group.
    pub registries: &'a BTreeMap<String, BTreeSet<String>>,
    /// Hosts that a package client itself chose, by tool id.
    pub chosen: &'a BTreeSet<(&'static str, String)>,
    /// The host's own name servers.
    pub resolvers: &'a [std::net::IpAddr],
    /// Whether the sensor sees what name servers answer.
    pub sees_names: bool,
    /// The stores of this host, once its homes are known.
    pub catalogue: Option<&'a Catalogue>,
    /// What the workflow leaves to the job's token, with the file that says so.
    pub permissions: Option<(&'a str, &'a Permissions)>,
    /// What settings of projects make agents run.
    pub settings: &'a [AgentCommands],
}

/// A program by identity: the file names it goes by, and the tool it is.
#[derive(Debug)]
pub struct Identity<'a> {
    /// As asked for, the script, the executable; the most telling first.
    pub names: Vec<&'a str>,
    pub tool: Option<&'static Tool>,
    /// The arguments behind the program's own name.
    pub arguments: &'a [String],
    /// For an interpreter: the program it runs; with `-m` the module's name.
    pub script: Option<&'a str>,
    /// `-m NAME`: which file that is depends on the working folder, so only the text can vouch for it.
    pub is_module: bool,
    /// Those of the names that the job can't have made up.
    pub trusted_names: Vec<&'a str>,
}

impl Identity<'_> {
    /// What people call it: `npm` for node running npm, `cc` for the compiler behind the link.
    pub fn name(&self, launch: &Launch) -> String {
        let by_script = self.script.filter(|script| {
            commands::tool(basename(script))
                .is_some_and(|tool| Some(tool.id) == self.tool.map(|tool| tool.id))
        });
        let name = match by_script {
            Some(script) => basename(script),
            None if launch.applet().is_some() => self.names.first().copied().unwrap_or_default(),
            None if !requested_name(launch).is_empty() => requested_name(launch),
            None => basename(&launch.executable.path),
        };
        name.trim_end_matches("-cli.js").trim_end_matches(".js").to_owned()
    }
}

/// Who a launched image is. Names given by arguments alone count only for interpreters,
/// and only when the named file is not the job's own work.
pub fn identify<'a>(launch: &'a Launch, context: &Context<'_>, lineage: &Lineage) -> Identity<'a> {
    let mut names = Vec::new();
    let program = launch.program();
    let applet = launch.applet();
    let executable = applet.map_or(basename(&launch.executable.path), |(applet, _)| applet);
    let words = applet.map_or(launch.arguments.get(1..).unwrap_or_default(), |(_, words)| words);
    let (mut arguments, mut script) = (words, None);
    let mut is_module = false;
    // With a `#!` file the kernel puts the interpreter's words first.
    if let Some(file) = &launch.script {
        let at = arguments.iter().position(|argument| basename(argument) == basename(&file.path));
        arguments = at.and_then(|at| arguments.get(at + 1..)).unwrap_or_default();
        script = Some(file.path.as_str());
    } else if is_interpreter(executable) {
        (script, arguments, is_module) = interpreted(executable, arguments);
    }
    let places_tools = |path: &str, changed: Option<Timestamp>| {
        !path.starts_with(&format!("{}/", context.job.workspace))
            && !["/tmp/", "/var/tmp/", "/dev/shm/"].iter().any(|folder| path.starts_with(folder))
            && !lineage.has_written(path)
            && changed.is_none_or(|changed| changed < context.started)
    };
    // pip in the environment that venv made a moment ago is pip.
    let placed_by_itself = |path: &str| {
        let tool = commands::tool(basename(path)).map(|tool| tool.id);
        tool.is_some() && lineage.placed_by(path) == tool
    };
    let script_is_tool = script.is_some_and(|path| {
        let path = absolute(path, launch);
        is_module || places_tools(&path, program.changed) || placed_by_itself(&path)
    });
    if let Some(script) = script {
        names.push(basename(script));
    }
    // A link in a system folder is a name the system gave: /usr/bin/cc. A link elsewhere is anybody's.
    let requested = requested_name(launch);
    let is_system_name = is_system_folder(&launch.requested) && !lineage.has_written(&launch.requested);
    if applet.is_some() {
        names.push(executable);
    } else if !requested.is_empty() {
        names.push(requested);
    }
    names.push(basename(&program.path));
    names.push(executable);
    names.dedup();
    let is_made_up = |name: &&str| {
        (*name == requested && !is_system_name && *name != basename(&program.path) && *name != executable)
            || (script.is_some_and(|script| basename(script) == *name) && !script_is_tool)
    };
    let trusted_names = names.iter().copied().filter(|name| !is_made_up(name)).collect();
    let is_placed = places_tools(&launch.executable.path, launch.executable.changed);
    let tool = match script {
        Some(script) if script_is_tool && is_placed => {
            commands::tool(basename(script)).or_else(|| commands::tool(executable))
        }
        Some(_) if is_placed => commands::tool(executable),
        None if is_placed => {
            let is_by_request = applet.is_none() && !is_interpreter(requested) && is_system_name;
            let by_request = is_by_request.then(|| commands::tool(requested)).flatten();
            by_request.or_else(|| commands::tool(executable))
        }
        _ => None,
    };
    Identity { names, tool, arguments, script, is_module, trusted_names }
}

/// The name an image was asked for by; empty where the path is the kernel's word for an open file.
///
/// A browser starts its own processes as `/proc/self/exe`, and `fexecve` asks for `/dev/fd/3`: neither names a program.
fn requested_name(launch: &Launch) -> &str {
    let is_kernels_word = ["/proc/", "/dev/fd/"].iter().any(|folder| launch.requested.starts_with(folder));
    if is_kernels_word { "" } else { basename(&launch.requested) }
}

/// A script's path as the process sees it.
fn absolute(script: &str, launch: &Launch) -> String {
    if script.starts_with('/') {
        script.to_owned()
    } else {
        crate::event::normal_path(&format!("{}/{script}", launch.directory))
    }
}

/// Folders whose links the system's packages make.
fn is_system_folder(path: &str) -> bool {
    ["/usr/", "/bin/", "/sbin/", "/opt/", "/snap/"].iter().any(|folder| path.starts_with(folder))
}

/// Whether a program of this name runs code that it is given; versions count: `ruby3.1`.
pub fn is_interpreter(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "node", "nodejs", "bun", "deno", "python", "pypy", "ruby", "perl", "php", "java", "tclsh", "wish",
        "expect", "lua", "luajit", "guile", "julia", "Rscript", "escript", "elixir", "raku",
    ];
    is_shell(name) || NAMES.iter().any(|interpreter| name.strip_prefix(interpreter).is_some_and(is_version))
}

fn is_version(rest: &str) -> bool {
    rest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
}

/// The program an interpreter was told to run, that program's arguments, and whether it is a module.
///
/// Any option we don't know for harmless may bring code of its own or take the next word as its
/// value, so that what follows no longer tells what this process is.
fn interpreted<'a>(interpreter: &str, arguments: &'a [String]) -> (Option<&'a str>, &'a [String], bool) {
    let unknown = (None, [].as_slice(), false);
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let rest = arguments.get(at + 1..).unwrap_or_default();
        match argument.as_str() {
            "-m" if interpreter.starts_with("python") || interpreter.starts_with("pypy") => {
                let module = rest.first().map(String::as_str);
                return (module, rest.get(1..).unwrap_or_default(), true);
            }
            "-o" | "+o" if is_shell(interpreter) => at += 2,
            option if option.starts_with('-') && option.len() > 1 => {
                if !is_harmless(interpreter, option) {
                    return unknown;
                }
                at += 1;
            }
            script => return (Some(script), rest, false),
        }
    }
    unknown
}

/// Options that neither bring code nor take a word.
fn is_harmless(interpreter: &str, option: &str) -> bool {
    let letters = |known: &str| {
        !option.starts_with("--") && option.bytes().skip(1).all(|letter| known.as_bytes().contains(&letter))
    };
    if is_shell(interpreter) {
        return letters("eux") || matches!(option, "--noprofile" | "--norc" | "--posix");
    }
    if interpreter.starts_with("python") || interpreter.starts_with("pypy") {
        return letters("uBEsSIOqvb");
    }
    if interpreter.starts_with("node") {
        let name = option.split('=').next().unwrap_or(option);
        return matches!(
            name,
            "--no-warnings"
                | "--no-deprecation"
                | "--enable-source-maps"
                | "--experimental-vm-modules"
                | "--trace-warnings"
                | "--trace-deprecation"
                | "--no-experimental-fetch"
                | "--expose-gc"
        ) || (name.starts_with("--max-") && option.contains('='));
    }
    if interpreter.starts_with("perl") || interpreter.starts_with("ruby") {
        return letters("wTU");
    }
    interpreter.starts_with("java") && (option.starts_with("-X") || option.starts_with("-D"))
}

/// What a launch makes of a process.
#[derive(Debug)]
pub struct Placement {
    pub standing: Standing,
    pub tool: Option<&'static str>,
    /// Set when the text names this command.
    pub command: Option<String>,
    /// A new strand starts here.
    pub new_strand: bool,
    /// `Undeclared` starts here and nowhere above.
    pub effect: bool,
}

/// Decides in which capacity the new image runs.
///
/// `process` still has what it had before: the parent's standing and tool right after a
/// fork, its own before a second launch in the same process.
pub fn place(
    process: &Process,
    launch: &Launch,
    step: Option<&StepIntent>,
    context: &Context<'_>,
    lineage: &Lineage,
) -> Placement {
    let identity = identify(launch, context, lineage);
    let name = identity.names.first().copied().unwrap_or_default();
    // A module's name says nothing unless the step's own text has it.
    let by_text =
        process.standing == Standing::Text || (process.standing == Standing::Command && process.launched);
    let vouched = identity.tool.filter(|_| !identity.is_module || by_text);
    let own_tool = vouched.map(|tool| tool.id);
    let placement =
        |standing| Placement { standing, tool: own_tool, command: None, new_strand: false, effect: false };
    let is_step_root = process.parent.is_none_or(|parent| lineage.get(parent).is_none()) && !process.launched;
    match process.standing {
        Standing::Text => {
            let Some(step) = step else { return placement(Standing::Recipe) };
            if is_text(launch, &identity, step) || is_launcher(name) {
                return placement(Standing::Text);
            }
            let named = step.command(&identity.names, &launch.arguments);
            if let Some(command) = named {
                return Placement {
                    command: Some(command.to_string()),
                    new_strand: true,
                    ..placement(Standing::Command)
                };
            }
            if is_step_root {
                return Placement { new_strand: true, ..placement(Standing::Command) };
            }
            if step.is_open {
                return Placement { new_strand: true, ..placement(Standing::Recipe) };
            }
            Placement { new_strand: true, effect: true, ..placement(Standing::Undeclared) }
        }
        // A wrapper that becomes the command itself: /usr/bin/npm, then node; a version manager's shim.
        Standing::Command | Standing::Tool | Standing::Helper if process.launched => {
            Placement { tool: own_tool, ..placement(process.standing.clone()) }
        }
        Standing::Command | Standing::Tool | Standing::Helper => {
            let Some(tool) = process.tool.and_then(commands::by_id) else {
                return recipe(&identity, placement);
            };
            // A plug-in that the tool itself fetched is its helper too.
            let is_its_own = lineage.placed_by(&launch.program().path) == Some(tool.id);
            if identity.trusted_names.iter().any(|name| tool.has_helper(name))
                && (is_its_own || !is_jobs_own(launch, context, lineage))
            {
                return placement(Standing::Helper);
            }
            let above = process.launch.as_deref().map(|launch| identify(launch, context, lineage));
            let (above_name, above_arguments) = above.as_ref().map_or(("", [].as_slice()), |above| {
                (above.names.first().copied().unwrap_or_default(), above.arguments)
            });
            if tool.runs_others_code(above_name, above_arguments, &launch.program().path) {
                return placement(Standing::Script);
            }
            if tool.runs == Runs::Helpers {
                return Placement { effect: true, ..placement(Standing::Undeclared) };
            }
            recipe(&identity, placement)
        }
        Standing::Recipe => recipe(&identity, placement),
        Standing::Script | Standing::Undeclared => placement(process.standing.clone()),
    }
}

/// Project code stays project code, but a known tool that it calls is that tool.
fn recipe(identity: &Identity<'_>, placement: impl Fn(Standing) -> Placement) -> Placement {
    match identity.tool.filter(|_| !identity.is_module) {
        Some(tool) if !matches!(tool.id, "interpreters" | "shells" | "tests" | "make") => {
            placement(Standing::Tool)
        }
        _ => placement(Standing::Recipe),
    }
}

/// Whether this image runs text that we have read: `sh -c …`, or a script the step names.
fn is_text(launch: &Launch, identity: &Identity<'_>, step: &StepIntent) -> bool {
    let program = launch.applet().map_or(basename(&launch.executable.path), |(applet, _)| applet);
    if !is_shell(program) {
        return false;
    }
    match identity.script {
        Some(script) => step.scripts.contains(&absolute(script, launch)),
        None => true,
    }
}

fn is_jobs_own(launch: &Launch, context: &Context<'_>, lineage: &Lineage) -> bool {
    let file = launch.program();
    // A client vouches for its own programs, not for whatever it unpacks under a known name.
    let own = commands::tool(basename(&file.path)).map(|tool| tool.id);
    if own.is_some() && lineage.placed_by(&file.path) == own {
        return false;
    }
    lineage.has_written(&file.path) || file.changed.is_some_and(|changed| changed >= context.started)
}

/// What explains an effect of this process.
pub fn explain(
    process: &Process,
    effect: &Effect,
    names: &[String],
    step: Option<&StepIntent>,
    context: &Context<'_>,
    lineage: &Lineage,
) -> Explanation {
    let Some(step) = step.filter(|step| is_comparable(step)) else { return Explanation::Nothing };
    let nearest = || process.command.as_deref().map(ToOwned::to_owned);
    let undeclared = || Explanation::Undeclared { nearest: nearest() };
    let tool = process.tool.and_then(commands::by_id);
    let asker = match (&process.standing, &process.command) {
        (Standing::Text, _) => Asker::Shell,
        (Standing::Command | Standing::Helper, Some(command)) => Asker::Command(command),
        (Standing::Script | Standing::Undeclared, _) => Asker::Stranger,
        _ => Asker::Project,
    };
    match effect {
        Effect::Launch { .. } | Effect::Sent { .. } | Effect::Other => undeclared(),
        Effect::Read { path, by_owner, .. } => {
            if let Some(mention) = step.secret(path, context.all_homes, asker, Verb::Read) {
                return Explanation::Declared(mention.place());
            }
            if *by_owner {
                return Explanation::Own(format!("{} uses it to do its work", process.name));
            }
            // A backup of a home reads what is in it. That is no leave to send it: the read counts for what comes later.
            if let (Asker::Command(command), None) = (asker, &process.agent)
                && !matches!(process.tool, Some("interpreters" | "shells" | "tests" | "make"))
                && process.launch.as_deref().is_some_and(|launch| !is_jobs_own(launch, context, lineage))
                && let Some(mention) = step.home(path, context.all_homes, command)
            {
                return Explanation::Derived(format!("a home is {} to {}", mention.place(), process.name));
            }
            undeclared()
        }
        Effect::Write { path, store } => {
            let mention = match store {
                Some(_) => step.secret(path, context.all_homes, asker, Verb::Write),
                None => step.path(path),
            };
            if let Some(mention) = mention {
                return Explanation::Declared(mention.place());
            }
            if store.is_none() && is_ordinary_place(path, context) {
                return Explanation::Derived("the work's own files".to_owned());
            }
            let owned = |process: &Process| match store {
                Some(store) => process.standing != Standing::Script && owns(process, store, context, lineage),
                None => process
                    .tool
                    .and_then(|tool| context.writes.get(tool))
                    .is_some_and(|globs| globs.is_match(path)),
            };
            if let Some(owner) =
                std::iter::once(process).chain(lineage.ancestors(process.key)).find(|process| owned(process))
            {
                return Explanation::Derived(format!("{} writes there", owner.name));
            }
            undeclared()
        }
        Effect::Connect { address, object, .. } => {
            // In a strand that took a credential a host counts only for the command that names it.
            let is_strict = lineage.strand(process.key).reads.iter().any(|read| !read.by_owner);
            if let Some(mention) = step.host(names, &address.ip().to_string(), asker, is_strict) {
                return Explanation::Declared(mention.place());
            }
            let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
            if let Some(tool) = tool {
                let configured = (tool.group.as_ref())
                    .and_then(|group| context.registries.get(group))
                    .is_some_and(|hosts| hosts.contains(host));
                if configured || context.chosen.contains(&(tool.id, host.to_owned())) {
                    return Explanation::Derived(format!("a host that {} is set up to use", tool.id));
                }
            }
            let is_stray = is_stray(process, names, address.ip(), context);
            if chooses(process, lineage).is_some() && !(is_stray && took_its_own(process, lineage)) {
                return Explanation::Derived(format!("chosen by {} itself", process.name));
            }
            match (&process.standing, tool.map(|tool| tool.network)) {
                // Once it took itself what nothing declared, only what the text names counts.
                (Standing::Command, Some(Network::Arguments)) if !has_taken(process, lineage) => {
                    Explanation::Derived(format!("{} follows its arguments", process.name))
                }
                (Standing::Helper, Some(Network::Arguments)) => {
                    Explanation::Derived(format!("{} acts for the command above it", process.name))
                }
                _ => undeclared(),
            }
        }
    }
}

/// Whether the step says anything to compare with: a text we read, or a tool we know.
///
/// A program of the user's own says nothing about what it will do.
pub fn is_comparable(step: &StepIntent) -> bool {
    let is_known = |name: &str| commands::tool(name).is_some_and(|tool| tool.id != "interpreters");
    !step.scripts.is_empty()
        || step.commands.len() > 1
        || step.commands.iter().flat_map(|command| &command.words).any(|word| is_known(basename(&word.text)))
}

/// The tool whose choice of a destination counts as the user's: a client at its own work.
///
/// A client that took what isn't its own no longer chooses on our behalf: a plug-in or a preloaded
/// library may be at work inside it.
pub fn chooses(process: &Process, lineage: &Lineage) -> Option<&'static Tool> {
    let is_itself = matches!(process.standing, Standing::Command | Standing::Tool | Standing::Helper);
    let tool = process.tool.and_then(commands::by_id)?;
    // A tool that the project's code calls may be handed anything its strand took.
    let is_called = lineage.helped(process.key).is_some_and(|helped| helped.standing == Standing::Tool);
    let is_foreign = |read: &Touch| !read.by_owner && (is_called || read.process == process.key);
    let is_tainted = lineage.strand(process.key).reads.iter().any(is_foreign);
    (is_itself && tool.network == Network::Client && !is_tainted).then_some(tool)
}

/// Whether a public address is one that no name server and no file of the host gave the process a name for.
pub fn is_stray(process: &Process, names: &[String], address: IpAddr, context: &Context<'_>) -> bool {
    names.is_empty() && context.sees_names && !process.asks_a_daemon && is_public(address)
}

/// Not loopback, private, of this link, for many, or for measurements.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared =
                (first == 100 && (64..128).contains(&second)) || (first == 198 && second & 0xfe == 18);
            let is_near = address.is_private() || address.is_link_local() || address.is_loopback();
            let is_for_many = address.is_multicast() || address.is_broadcast();
            !is_near && !is_for_many && !is_shared && !address.is_unspecified()
        }
        IpAddr::V6(address) => {
            let is_near =
                address.is_unique_local() || address.is_unicast_link_local() || address.is_loopback();
            !is_near && !address.is_multicast() && !address.is_unspecified()
        }
    }
}

/// Whether the process itself read a credential that is not its own and that nothing declares.
fn has_taken(process: &Process, lineage: &Lineage) -> bool {
    lineage.strand(process.key).reads.iter().any(|read| read.process == process.key && !read.by_owner)
}

/// Whether the process took its own credential, and one that is for services with names.
fn took_its_own(process: &Process, lineage: &Lineage) -> bool {
    let is_named = |read: &Touch| catalogue::credential(read.store).is_some_and(|store| store.is_named);
    (lineage.strand(process.key).reads.iter()).any(|read| read.process == process.key && is_named(read))
}

/// What each tool writes, with these homes in place of `~`.
pub fn writes(homes: &[String]) -> BTreeMap<&'static str, GlobSet> {
    let places = |pattern: &String| match pattern.strip_prefix("~/") {
        Some(rest) => homes.iter().map(|home| format!("{}/{rest}", globset::escape(home))).collect(),
        None => vec![pattern.clone()],
    };
    commands::all()
        .iter()
        .filter(|tool| !tool.writes.is_empty())
        .map(|tool| (tool.id, commands::globs(&tool.writes.iter().flat_map(places).collect::<Vec<_>>())))
        .collect()
}

/// Places where any work leaves files: the workspace, scratch folders, the user's own home.
pub fn is_ordinary_place(path: &str, context: &Context<'_>) -> bool {
    let below = |folder: &str| {
        folder.len() > 1
            && path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(&context.job.workspace)
        || context.homes.iter().any(|home| below(home))
        || ["/tmp", "/var/tmp", "/dev", "/proc", "/run/user", "/run/lock", "/var/lock"]
            .iter()
            .any(|folder| below(folder))
        // Whatever draws text renews the cache of fonts, a browser as well as Java.
        || below("/var/cache/fontconfig")
        || path.starts_with("memfd:")
}

/// Whether the program owns the store: matched by file name, on a file the job did not place.
pub fn owns(process: &Process, store: &Store, context: &Context<'_>, lineage: &Lineage) -> bool {
    let Some(launch) = process.launch.as_deref() else { return false };
    // A helper works with its tool's credentials: terraform's provider, git's transport.
    if process.standing == Standing::Helper
        && let Some(helped) = lineage.helped(process.key)
        && helped.standing != Standing::Helper
        && owns(helped, store, context, lineage)
    {
        return true;
    }
    if is_jobs_own(launch, context, lineage) {
        return false;
    }
    let identity = identify(launch, context, lineage);
    let is_vouched = |name: &str| {
        !identity.is_module || process.standing == Standing::Command || identity.script != Some(name)
    };
    // What any script of an interpreter may open says nothing of a package client that runs on it: pnpm on node. A
    // test runner on it runs the project's code, and a module by its name alone may be any script.
    let is_unvouched_module = identity.is_module && process.standing != Standing::Command;
    let is_its_own = |name: &str| {
        is_unvouched_module || identity.tool.is_none_or(|tool| tool.group.is_none() || tool.is_called(name))
    };
    identity.trusted_names.iter().any(|name| {
        is_vouched(name)
            && store.is_owned_by(name)
            && (is_its_own(name) || !store.is_opened_casually_by(name))
    })
}

/// Whether a coding agent opens its own login. Its program, and the script that it is, lay there before the job.
pub fn is_own_login(process: &Process, path: &str, context: &Context<'_>, lineage: &Lineage) -> bool {
    let agent = process.agent.as_deref().and_then(agents::by_id);
    let (Some(launch), Some(agent), true) = (process.launch.as_deref(), agent, process.is_agent) else {
        return false;
    };
    let workspace = format!("{}/", context.job.workspace.trim_end_matches('/'));
    let is_placed = |word: &&String| {
        agents::by_program(word).is_some() && (word.starts_with(&workspace) || lineage.has_written(word))
    };
    agent.is_login(path)
        && !is_jobs_own(launch, context, lineage)
        && !launch.arguments.iter().any(|word| is_placed(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::File;

    #[test]
    fn a_program_is_called_by_what_it_was_asked_for_unless_the_kernel_made_that_up() {
        let called = |requested: &str| {
            let launch = Launch {
                requested: requested.into(),
                executable: File::at("/usr/lib/chromium/chromium"),
                ..Launch::default()
            };
            requested_name(&launch).to_owned()
        };
        assert_eq!(called("/proc/self/exe"), "");
        assert_eq!(called("/proc/17/fd/3"), "");
        assert_eq!(called("/dev/fd/3"), "");
        assert_eq!(called("/usr/bin/chromium-browser"), "chromium-browser");
        assert_eq!(called("/w/proc/self/exe"), "exe");
    }
}
