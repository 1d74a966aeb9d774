//! Walks shell text and notes down which programs, hosts and paths it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use brush_parser::ast::{
    AndOr, AssignmentName, AssignmentValue, Command as Node, CommandPrefixOrSuffixItem, CompoundCommand,
    CompoundList, IoFileRedirectKind, IoFileRedirectTarget, IoRedirect, RedirectList, SimpleCommand,
    SourceLocation, Word as ShellWord,
};
use brush_parser::word::{Parameter, ParameterExpr, TildeExpr, WordPiece, WordPieceWithSource};
use brush_parser::{Parser, ParserOptions};

use super::{By, Command, Mention, StepIntent, Word, basename, is_launcher, is_shell};
use crate::event::normal_path;
use crate::job::Location;

/// Texts inside texts (`sh -c`, `$(…)`) are followed this deep.
const NESTING: usize = 8;
/// Longer texts are not read; a `run:` block has some hundred bytes.
const LONGEST: usize = 256 * 1024;
/// The parser is recursive: text with more open brackets than this could exhaust the stack.
const BRACKETS: usize = 48;

pub(super) struct Reader<'a> {
    step: &'a mut StepIntent,
    home: &'a str,
    workspace: &'a str,
    /// Variables with one literal value; `None` once they have two, or one we can't know.
    variables: BTreeMap<String, Option<String>>,
    options: ParserOptions,
    depth: usize,
    /// The command at hand goes into a pipe or a file.
    is_passed_on: bool,
    /// The command whose words are being read.
    inside: Option<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(step: &'a mut StepIntent, home: &'a str, workspace: &'a str) -> Self {
        let options = ParserOptions::default();
        Self {
            step,
            home,
            workspace,
            variables: BTreeMap::new(),
            options,
            depth: 0,
            is_passed_on: false,
            inside: None,
        }
    }

    /// Reads a whole text whose first line stands at `location`.
    pub(super) fn script(&mut self, text: &str, location: Option<&Location>) {
        if self.depth >= NESTING || text.len() > LONGEST {
            self.unreadable();
            return;
        }
        self.depth += 1;
        if !self.parse(text, location) {
            // One odd line must not hide the others.
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let here = location.map(|start| start.below(index));
                if !self.parse(line, here.as_ref()) {
                    self.unreadable();
                }
            }
        }
        self.depth -= 1;
    }

    fn unreadable(&mut self) {
        self.step.unreadable += 1;
        self.step.is_open = true;
    }

    fn parse(&mut self, text: &str, location: Option<&Location>) -> bool {
        let open = text.bytes().filter(|byte| matches!(byte, b'(' | b'{' | b'[')).count();
        if open > BRACKETS && deepest(text) > BRACKETS {
            return false;
        }
        let Ok(program) = Parser::new(text.as_bytes(), &self.options).parse_program() else { return false };
        for list in &program.complete_commands {
            self.list(list, location);
        }
        true
    }

    fn list(&mut self, list: &CompoundList, start: Option<&Location>) {
        for item in &list.0 {
            self.pipeline(&item.0.first.seq, start);
            for more in &item.0.additional {
                let (AndOr::And(pipeline) | AndOr::Or(pipeline)) = more;
                self.pipeline(&pipeline.seq, start);
            }
        }
    }

    fn pipeline(&mut self, commands: &[Node], start: Option<&Location>) {
        for (index, command) in commands.iter().enumerate() {
            self.is_passed_on = index + 1 < commands.len();
            match command {
                Node::Simple(simple) => self.simple(simple, start),
                Node::Compound(compound, redirects) => {
                    self.compound(compound, start);
                    self.redirects(redirects.as_ref(), start);
                }
                Node::Function(function) => {
                    self.compound(&function.body.0, start);
                    self.redirects(function.body.1.as_ref(), start);
                }
                Node::ExtendedTest(_, redirects) => self.redirects(redirects.as_ref(), start),
            }
        }
    }

    fn compound(&mut self, compound: &CompoundCommand, start: Option<&Location>) {
        match compound {
            CompoundCommand::Arithmetic(_) => {}
            CompoundCommand::ArithmeticForClause(clause) => self.list(&clause.body.list, start),
            CompoundCommand::BraceGroup(group) => self.list(&group.list, start),
            CompoundCommand::Subshell(subshell) => self.list(&subshell.list, start),
            CompoundCommand::ForClause(clause) => {
                self.variables.insert(clause.variable_name.clone(), None);
                for value in clause.values.iter().flatten() {
                    let word = self.word(value, start);
                    self.mentions(&word, &By::Shell, start);
                }
                self.list(&clause.body.list, start);
            }
            CompoundCommand::CaseClause(clause) => {
                for list in clause.cases.iter().filter_map(|case| case.cmd.as_ref()) {
                    self.list(list, start);
                }
            }
            CompoundCommand::IfClause(clause) => {
                self.list(&clause.condition, start);
                self.list(&clause.then, start);
                for other in clause.elses.iter().flatten() {
                    if let Some(condition) = &other.condition {
                        self.list(condition, start);
                    }
                    self.list(&other.body, start);
                }
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(&clause.0, start);
                self.list(&clause.1.list, start);
            }
            CompoundCommand::Coprocess(coprocess) => {
                self.pipeline(std::slice::from_ref(coprocess.body.as_ref()), start);
            }
        }
    }

    fn redirects(&mut self, redirects: Option<&RedirectList>, start: Option<&Location>) {
        for redirect in redirects.iter().flat_map(|list| &list.0) {
            self.redirect(redirect, start);
        }
    }

    fn redirect(&mut self, redirect: &IoRedirect, start: Option<&Location>) {
        match redirect {
            IoRedirect::File(
                _,
                kind,
                IoFileRedirectTarget::Filename(word) | IoFileRedirectTarget::Duplicate(word),
            ) => {
                let by = if matches!(kind, IoFileRedirectKind::Read) { By::Shell } else { By::ShellOutput };
                let word = self.word(word, start);
                self.mentions(&word, &by, start);
            }
            IoRedirect::OutputAndError(word, _) => {
                let word = self.word(word, start);
                self.mentions(&word, &By::ShellOutput, start);
            }
            IoRedirect::File(_, _, IoFileRedirectTarget::ProcessSubstitution(_, subshell)) => {
                self.list(&subshell.list, start);
            }
            IoRedirect::File(_, _, IoFileRedirectTarget::Fd(_)) => {}
            IoRedirect::HereDocument(_, document) => {
                for word in document.doc.value.split_whitespace() {
                    self.mentions(&Word { text: word.to_owned(), known: true }, &By::Setting, start);
                }
            }
            IoRedirect::HereString(_, word) => {
                let word = self.word(word, start);
                self.mentions(&word, &By::Setting, start);
            }
        }
    }

    fn simple(&mut self, command: &SimpleCommand, start: Option<&Location>) {
        let line = command.location().map_or(0, |span| span.start.line.saturating_sub(1));
        let here = start.map(|start| start.below(line));
        let here = here.as_ref();
        let mut words = Vec::new();
        for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
            self.item(item, here, true, &mut words);
        }
        if let Some(name) = &command.word_or_name {
            words.push(self.word(name, here));
        }
        let outer = self.inside.clone();
        if let Some(first) = words.last().filter(|_| command.word_or_name.is_some()) {
            self.inside = Some(basename(&first.text).to_owned());
        }
        for item in command.suffix.iter().flat_map(|suffix| &suffix.0) {
            self.item(item, here, false, &mut words);
        }
        self.inside = outer;
        if command.word_or_name.is_some() {
            self.command(words, here.cloned());
        }
    }

    fn item(
        &mut self,
        item: &CommandPrefixOrSuffixItem,
        here: Option<&Location>,
        prefix: bool,
        words: &mut Vec<Word>,
    ) {
        match item {
            CommandPrefixOrSuffixItem::IoRedirect(redirect) => {
                self.is_passed_on |= matches!(
                    redirect,
                    IoRedirect::File(_, _, IoFileRedirectTarget::Filename(_))
                        | IoRedirect::OutputAndError(..)
                );
                self.redirect(redirect, here);
            }
            CommandPrefixOrSuffixItem::Word(word) => {
                let word = self.word(word, here);
                words.push(word);
            }
            CommandPrefixOrSuffixItem::AssignmentWord(assignment, word) => {
                if !prefix {
                    let word = self.word(word, here);
                    words.push(word);
                }
                let AssignmentValue::Scalar(value) = &assignment.value else { return };
                let value = self.word(value, here);
                self.mentions(&value, &By::Setting, here);
                if let AssignmentName::VariableName(name) = &assignment.name {
                    let value = (value.known && !assignment.append).then_some(value.text);
                    self.variables
                        .entry(name.clone())
                        .and_modify(|known| {
                            if *known != value {
                                *known = None;
                            }
                        })
                        .or_insert(value);
                }
            }
            CommandPrefixOrSuffixItem::ProcessSubstitution(_, subshell) => self.list(&subshell.list, here),
        }
    }

    /// Renders a word as the shell would see it, unknown parts as `*`.
    fn word(&mut self, word: &ShellWord, here: Option<&Location>) -> Word {
        let mut out = Word { text: String::new(), known: true };
        match brush_parser::word::parse(&word.value, &self.options) {
            Ok(pieces) => self.pieces(&pieces, here, &mut out),
            Err(_) => out = Word { text: word.value.clone(), known: false },
        }
        out
    }

    fn pieces(&mut self, pieces: &[WordPieceWithSource], here: Option<&Location>, out: &mut Word) {
        for piece in pieces {
            match &piece.piece {
                WordPiece::Text(text)
                | WordPiece::SingleQuotedText(text)
                | WordPiece::AnsiCQuotedText(text) => {
                    out.text.push_str(text);
                }
                WordPiece::EscapeSequence(text) => out.text.push_str(text.strip_prefix('\\').unwrap_or(text)),
                WordPiece::DoubleQuotedSequence(inner) | WordPiece::GettextDoubleQuotedSequence(inner) => {
                    self.pieces(inner, here, out);
                }
                WordPiece::TildeExpansion(TildeExpr::Home) => out.text.push_str(self.home),
                WordPiece::ParameterExpansion(ParameterExpr::Parameter {
                    parameter: Parameter::Named(name),
                    indirect: false,
                }) => match self.variable(name) {
                    Some(value) => out.text.push_str(&value),
                    None => out.unknown(),
                },
                WordPiece::CommandSubstitution(text) | WordPiece::BackquotedCommandSubstitution(text) => {
                    out.unknown();
                    self.script(text, here);
                }
                _ => out.unknown(),
            }
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        match self.variables.get(name) {
            Some(value) => value.clone(),
            None => match name {
                "HOME" => Some(self.home.to_owned()),
                "PWD" | "GITHUB_WORKSPACE" | "CI_PROJECT_DIR" => Some(self.workspace.to_owned()),
                _ => None,
            },
        }
    }

    /// Takes in one command, already in words.
    pub(super) fn command(&mut self, words: Vec<Word>, location: Option<Location>) {
        let Some(first) = words.first() else { return };
        let name = basename(&first.text).to_owned();
        if !first.known || matches!(name.as_str(), "eval" | "source" | "." | "alias") {
            self.step.is_open = true;
        }
        let command = Command { words, location, within: self.inside.clone() };
        let label: Arc<str> = command.to_string().into();
        // What is only printed is not done; further down a pipe, or in a file, it may be.
        if !matches!(name.as_str(), "echo" | "printf" | ":") || self.is_passed_on {
            for word in &command.words {
                self.mentions(word, &By::Command(Arc::clone(&label)), command.location.as_ref());
            }
        }
        let Command { words, location, within } = command;
        // Text inside text: `bash -c '…'`, `eval '…'`, also behind launchers.
        let is_text_taker = |word: &Word| is_shell(basename(&word.text)) || word.text == "eval";
        if let Some(at) = words.iter().position(is_text_taker).filter(|at| *at == 0 || is_launcher(&name)) {
            let rest = &words[at + 1..];
            let is_flag = |word: &Word| {
                word.text.starts_with('-') && !word.text.starts_with("--") && word.text.contains('c')
            };
            let inner = if words[at].text == "eval" {
                rest.first()
            } else {
                rest.iter().position(is_flag).and_then(|flag| rest.get(flag + 1))
            };
            if let Some(inner) = inner.cloned() {
                self.step.is_open |= !inner.known;
                self.script(&inner.text, location.as_ref());
            }
        }
        self.step.commands.push(Command { words, location, within });
    }

    /// Notes down every host and path a word names.
    fn mentions(&mut self, word: &Word, by: &By, location: Option<&Location>) {
        let text = word.text.as_str();
        let mention =
            |text: String| Mention { text, known: word.known, location: location.cloned(), by: by.clone() };
        let mut rest = text;
        while let Some(at) = rest.find("://") {
            let authority = &rest[at + 3..];
            let end = authority
                .find(['/', '?', '#', '"', '\'', ' ', ')', '>', ',', ';', '\n'])
                .unwrap_or(authority.len());
            self.step.hosts.extend(host(&authority[..end]).map(mention));
            rest = &authority[end..];
        }
        if text.contains("://") {
            return;
        }
        // `--option=value`, `NAME=value`, `@file` as curl reads it.
        let value = text.split_once('=').map_or(text, |(_, value)| value).trim_start_matches('@');
        if let Some((user_host, _)) = value.split_once(':').filter(|(before, _)| before.contains('@')) {
            self.step.hosts.extend(host(user_host).map(mention));
        } else if looks_like_host(value) {
            self.step.hosts.extend(host(value).map(mention));
        }
        if !value.is_empty() && !value.starts_with('-') {
            // A bare word may be a file of the working folder.
            let absolute = match value.strip_prefix("~/") {
                Some(rest) => format!("{}/{rest}", self.home),
                None if value.starts_with('/') => value.to_owned(),
                None => format!("{}/{value}", self.workspace),
            };
            self.step.paths.push(mention(normal_path(&absolute)));
        }
    }
}

/// The host of `user@host:port`; `None` for what would explain every destination.
fn host(authority: &str) -> Option<String> {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => host.split(':').next().unwrap_or(host),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host.chars().filter(char::is_ascii_alphanumeric).count() >= 3 || host == "::1").then_some(host)
}

impl Word {
    fn unknown(&mut self) {
        self.known = false;
        self.text.push('*');
    }
}

/// How many brackets are open at once, quoting aside.
fn deepest(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Whether a bare word reads as `host.tld`, `host.tld:port` or an address.
fn looks_like_host(word: &str) -> bool {
    let host = word.rsplit('@').next().unwrap_or(word);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    if host.parse::<std::net::IpAddr>().is_ok() || word.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-*".contains(&byte))
    };
    host.contains('.') && !host.starts_with('-') && host.split('.').all(is_label)
}
