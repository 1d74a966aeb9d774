//! JSON and TOML texts as a tree that knows its lines. What agents take is taken: comments, further commas, bare keys.
//!
//! A text may be anything, and a link may lead to somebody's secrets: a problem shows where it is, and of the text only
//! the shape.

/// A value, and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub line: u32,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Null, a number, a date: what no setting of ours looks into.
    Other,
    Bool(bool),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text. A key that comes twice: the last one holds.
    Table(Vec<(String, Node)>),
}

impl Node {
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().rev().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Down a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        self.value == Value::Bool(true)
    }

    pub fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => &[],
        }
    }

    /// The keys and values of a table; none of anything else.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }
}

/// Where a text stops being what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    pub message: &'static str,
}

impl Problem {
    /// `line 3, column 12: a comma is missing`, then the shape of the line with a caret below.
    pub fn shown(&self, text: &str) -> String {
        const BEFORE: usize = 50;
        const MOST: usize = 70;
        let line = text.lines().nth(self.line.saturating_sub(1) as usize).unwrap_or_default();
        let column = self.column.saturating_sub(1) as usize;
        let skipped = column.saturating_sub(BEFORE);
        // Letters and digits could be anybody's secret.
        let shape: String = line
            .chars()
            .skip(skipped)
            .take(MOST)
            .map(|letter| match letter {
                _ if letter.is_ascii_punctuation() => letter,
                '\t' | ' ' => ' ',
                _ => 'x',
            })
            .collect();
        let caret = " ".repeat(column - skipped);
        format!("line {}, column {}: {}\n  {shape}\n  {caret}^", self.line, self.column, self.message)
    }
}

const DEEPEST: usize = 64;
const MOST_NODES: usize = 100_000;

/// Reads JSON.
pub fn json(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader::new(text);
    let node = reader.value(0)?;
    reader.blank()?;
    if reader.peek().is_some() { Err(reader.problem("the text goes on behind its end")) } else { Ok(node) }
}

/// Reads TOML.
pub fn toml(text: &str) -> Result<Node, Problem> {
    let mut root = Node { line: 1, value: Value::Table(Vec::new()) };
    let mut reader = Reader { is_toml: true, ..Reader::new(text) };
    let mut table: Vec<String> = Vec::new();
    loop {
        reader.blank()?;
        match reader.peek() {
            None => return Ok(root),
            Some('[') => {
                reader.next();
                let is_list = reader.take('[');
                table = reader.dotted_key()?;
                if !reader.take(']') || (is_list && !reader.take(']')) {
                    return Err(reader.problem("`]` is missing"));
                }
                if !enter(&mut root, &table, is_list, reader.line) {
                    return Err(reader.problem("this name stands for something else already"));
                }
            }
            Some(_) => {
                let key = reader.dotted_key()?;
                if !reader.take('=') {
                    return Err(reader.problem("`=` is missing"));
                }
                reader.spaces();
                let node = reader.value(0)?;
                let Some((last, above)) = key.split_last() else {
                    return Err(reader.problem("a name is missing"));
                };
                let path: Vec<String> = table.iter().chain(above).cloned().collect();
                let line = reader.line;
                match find(&mut root, &path, line).map(|node| &mut node.value) {
                    Some(Value::Table(entries)) => entries.push((last.clone(), node)),
                    _ => return Err(reader.problem("this name stands for something else already")),
                }
            }
        }
        reader.spaces();
        if !matches!(reader.peek(), None | Some('\n' | '\r' | '#')) {
            return Err(reader.problem("the line goes on behind its end"));
        }
    }
}

/// The table at this path, made where it is missing; of a list of tables the last.
fn find<'n>(root: &'n mut Node, path: &[String], line: u32) -> Option<&'n mut Node> {
    let Some((name, rest)) = path.split_first() else { return Some(root) };
    let Value::Table(entries) = &mut root.value else { return None };
    let at = entries.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
        entries.push((name.clone(), Node { line, value: Value::Table(Vec::new()) }));
        entries.len() - 1
    });
    let node = &mut entries[at].1;
    if matches!(node.value, Value::List(_)) {
        let Value::List(nodes) = &mut node.value else { return None };
        return find(nodes.last_mut()?, rest, line);
    }
    find(node, rest, line)
}

/// Opens a table, or the next one of a list of tables.
fn enter(root: &mut Node, path: &[String], is_list: bool, line: u32) -> bool {
    if !is_list {
        return find(root, path, line).is_some_and(|node| matches!(node.value, Value::Table(_)));
    }
    let Some((last, above)) = path.split_last() else { return false };
    let Some(Value::Table(entries)) = find(root, above, line).map(|node| &mut node.value) else {
        return false;
    };
    let new = Node { line, value: Value::Table(Vec::new()) };
    match entries.iter_mut().find(|(key, _)| key == last).map(|(_, node)| &mut node.value) {
        Some(Value::List(nodes)) => nodes.push(new),
        Some(_) => return false,
        None => entries.push((last.clone(), Node { line, value: Value::List(vec![new]) })),
    }
    true
}

struct Reader<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
    column: u32,
    nodes: usize,
    is_toml: bool,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.chars().peekable(), line: 1, column: 1, nodes: 0, is_toml: false }
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(letter)
    }

    fn problem(&self, message: &'static str) -> Problem {
        Problem { line: self.line, column: self.column, message }
    }

    /// Takes this letter, if it is the next behind blanks.
    fn take(&mut self, wanted: char) -> bool {
        self.spaces();
        let is_it = self.peek() == Some(wanted);
        if is_it {
            self.next();
        }
        is_it
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
    }

    /// Blanks, ends of lines and comments.
    fn blank(&mut self) -> Result<(), Problem> {
        loop {
            match self.peek() {
                Some(letter) if letter.is_whitespace() => {
                    self.next();
                }
                Some('#') if self.is_toml => self.rest_of_line(),
                Some('/') if !self.is_toml => {
                    self.next();
                    match self.next() {
                        Some('/') => self.rest_of_line(),
                        Some('*') => {
                            let mut last = ' ';
                            loop {
                                match self.next() {
                                    Some('/') if last == '*' => break,
                                    Some(letter) => last = letter,
                                    None => return Err(self.problem("this comment has no end")),
                                }
                            }
                        }
                        _ => return Err(self.problem("a value or a name is missing")),
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn rest_of_line(&mut self) {
        while self.peek().is_some_and(|letter| letter != '\n') {
            self.next();
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        self.blank()?;
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            return Err(self.problem("this is nested too deep, or has too many parts"));
        }
        let line = self.line;
        let value = match self.peek() {
            Some('{') => self.table(depth)?,
            Some('[') => self.items(depth)?,
            Some('"' | '\'') => Value::Text(self.text()?),
            Some(letter) if is_bare(letter) => {
                let mut word = String::new();
                // Dates, numbers and words alike; what they say is of no interest but for two.
                while let Some(letter) =
                    self.peek().filter(|letter| is_bare(*letter) || matches!(letter, ':' | '+'))
                {
                    word.push(letter);
                    self.next();
                }
                match word.as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    _ => Value::Other,
                }
            }
            Some(_) => return Err(self.problem("this is no value")),
            None => return Err(self.problem("the text ends where a value is missing")),
        };
        Ok(Node { line, value })
    }

    fn table(&mut self, depth: usize) -> Result<Value, Problem> {
        self.next();
        let mut entries = Vec::new();
        loop {
            self.blank()?;
            if self.take('}') {
                return Ok(Value::Table(entries));
            }
            let mut key = if self.is_toml { self.dotted_key()? } else { vec![self.key()?] };
            self.blank()?;
            if !self.take(if self.is_toml { '=' } else { ':' }) {
                return Err(self.problem("`:` is missing behind this name"));
            }
            let mut node = self.value(depth + 1)?;
            let name = key.drain(..1).next().unwrap_or_default();
            for inner in key.into_iter().rev() {
                node = Node { line: node.line, value: Value::Table(vec![(inner, node)]) };
            }
            entries.push((name, node));
            self.blank()?;
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.problem("a comma or `}` is missing"));
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<Value, Problem> {
        self.next();
        let mut nodes = Vec::new();
        loop {
            self.blank()?;
            if self.take(']') {
                return Ok(Value::List(nodes));
            }
            nodes.push(self.value(depth + 1)?);
            self.blank()?;
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.problem("a comma or `]` is missing"));
            }
        }
    }

    fn dotted_key(&mut self) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        loop {
            self.spaces();
            names.push(self.key()?);
            if names.len() > DEEPEST {
                return Err(self.problem("this is nested too deep, or has too many parts"));
            }
            if !self.take('.') {
                return Ok(names);
            }
        }
    }

    fn key(&mut self) -> Result<String, Problem> {
        if matches!(self.peek(), Some('"' | '\'')) {
            return self.text();
        }
        let mut name = String::new();
        while let Some(letter) =
            self.peek().filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '$'))
        {
            name.push(letter);
            self.next();
        }
        if name.is_empty() { Err(self.problem("a name is missing")) } else { Ok(name) }
    }

    fn text(&mut self) -> Result<String, Problem> {
        let Some(quote) = self.next() else { return Err(self.problem("a text is missing")) };
        let mut text = String::new();
        // `"""` and `'''` of TOML.
        let mut is_long = false;
        if self.is_toml && self.peek() == Some(quote) {
            self.next();
            if self.peek() != Some(quote) {
                return Ok(text);
            }
            self.next();
            is_long = true;
        }
        let mut run = 0;
        loop {
            let Some(letter) = self.peek() else { return Err(self.problem("this text has no end")) };
            if letter == '\n' && !is_long {
                return Err(self.problem("this text has no end on its line"));
            }
            self.next();
            if letter == quote {
                run += 1;
                if !is_long {
                    return Ok(text);
                }
                if run == 3 {
                    text.truncate(text.len() - 2);
                    return Ok(text);
                }
                text.push(letter);
                continue;
            }
            run = 0;
            if letter == '\\' && !(self.is_toml && quote == '\'') {
                self.escaped(&mut text)?;
            } else {
                text.push(letter);
            }
        }
    }

    fn escaped(&mut self, text: &mut String) -> Result<(), Problem> {
        let problem = "this escape is not known";
        match self.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('\n') => {}
            Some(letter @ ('u' | 'U')) => {
                let mut code = self.hex(if letter == 'u' { 4 } else { 8 })?;
                if (0xd800..0xdc00).contains(&code) && self.peek() == Some('\\') {
                    self.next();
                    if self.next() != Some('u') {
                        return Err(self.problem(problem));
                    }
                    let low = self.hex(4)?;
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
                }
                text.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            Some(letter) => text.push(letter),
            None => return Err(self.problem(problem)),
        }
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Result<u32, Problem> {
        let mut code: u32 = 0;
        for _ in 0..digits {
            let digit = self.next().and_then(|letter| letter.to_digit(16));
            let digit = digit.ok_or_else(|| self.problem("four hex digits are needed"))?;
            code = (code << 4) | digit;
        }
        Ok(code)
    }
}

fn is_bare(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_with_its_lines_and_with_what_agents_let_pass() {
        let node = json("{\n  // why\n  \"a\": {\"b\": [\"x\", 'y',],},\n  /* or\n */ c: true, n: -1.5e3,\n  \"u\": \"\\u00e4\\ud83d\\ude00\"}").unwrap();
        let list = node.at(&["a", "b"]).unwrap().list();
        assert_eq!(
            list.iter().map(|node| (node.line, node.text().unwrap())).collect::<Vec<_>>(),
            [(3, "x"), (3, "y")]
        );
        assert!(node.get("c").unwrap().is_true() && node.get("c").unwrap().line == 5);
        assert_eq!(node.get("u").unwrap().text(), Some("ä😀"));
    }

    #[test]
    fn toml_is_read_with_its_lines() {
        let text = "approval_policy = \"never\" # why\n[mcp_servers.\"a b\"]\ncommand = 'np\\x'\nargs = [\n  \"-y\", # no\n  \"p@1\",\n]\nenv = { K = \"v\", a.b = 1 }\n\n[[hooks]]\nrun = \"\"\"a\n\"b\" \\\"c\\\"\"\"\"\n[[hooks]]\nrun = 2026-01-01T00:00:00Z\n[projects.\"/w\"]\ntrust_level = \"trusted\"\n";
        let node = toml(text).unwrap();
        let server = node.at(&["mcp_servers", "a b"]).unwrap();
        assert_eq!(server.get("command").unwrap().text(), Some("np\\x"));
        let args: Vec<u32> = server.get("args").unwrap().list().iter().map(|node| node.line).collect();
        assert_eq!(args, [5, 6]);
        assert_eq!(server.at(&["env", "K"]).unwrap().text(), Some("v"));
        assert_eq!(node.get("hooks").unwrap().list()[0].get("run").unwrap().text(), Some("a\n\"b\" \"c\""));
        assert_eq!(node.at(&["projects", "/w", "trust_level"]).unwrap().line, 16);
    }

    #[test]
    fn a_problem_shows_where_it_is_and_nothing_of_the_text() {
        let text = "{\n  \"key\": \"topsecret\" \"more\": 1\n}";
        let problem = json(text).unwrap_err();
        let shown = problem.shown(text);
        assert_eq!(
            shown,
            "line 2, column 22: a comma or `}` is missing\n    \"xxx\": \"xxxxxxxxx\" \"xxxx\": x\n                       ^"
        );
        let shadow = "root:$6$abcdefgh:19000:0\n";
        assert!(!json(shadow).unwrap_err().shown(shadow).contains("abcdefgh"));
        for text in ["", "{", "{\"a\"}", "[1", "\"x", "{\"a\": \"x\ny\"}", "/*", "nul l", "{'a': /}", "\u{0}"]
        {
            assert!(json(text).is_err(), "{text:?}");
        }
        for text in ["a", "a =", "[a", "a = 1 b = 2", "a = 1\na.b = 2", "[[a]]\n[a.b]\n[[a.b]]", "= 1"] {
            assert!(toml(text).is_err(), "{text:?}");
        }
        assert!(json(&"[".repeat(10_000)).is_err());
        assert!(toml(&format!("a = {}", "[".repeat(10_000))).is_err());
        assert!(json(&format!("[{}]", "1,".repeat(200_000))).is_err());
    }

    fn same(node: &Node, value: &serde_json::Value) -> bool {
        match (&node.value, value) {
            (Value::Table(entries), serde_json::Value::Object(fields)) => {
                entries.len() >= fields.len()
                    && fields.iter().all(|(name, value)| node.get(name).is_some_and(|node| same(node, value)))
            }
            (Value::List(nodes), serde_json::Value::Array(values)) => {
                nodes.len() == values.len() && nodes.iter().zip(values).all(|(node, value)| same(node, value))
            }
            (Value::Text(text), serde_json::Value::String(other)) => text == other,
            (Value::Bool(flag), serde_json::Value::Bool(other)) => flag == other,
            (Value::Other, serde_json::Value::Null | serde_json::Value::Number(_)) => true,
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            if let Err(problem) = json(&text) { problem.shown(&text); }
            if let Err(problem) = toml(&text) { problem.shown(&text); }
        }

        #[test]
        fn what_looks_like_json_is_read_as_others_read_it(text in r#"[\[\]{}:,"a-c\\nu0-9 \n.-]{0,40}"#) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let node = json(&text).expect("valid JSON");
                proptest::prop_assert!(same(&node, &value), "{node:?} {value}");
            }
        }
    }
}
