//! Whether every hook is still where it was put: root can take one away without a word.

use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

/// A program's hold on a hook, as it was when it was made.
#[derive(Debug)]
pub(super) struct Anchor {
    /// The hook, for people.
    pub(super) name: String,
    link: Link,
    /// The kernel's numbers: of the link, of the program, of the cgroup if there is one.
    numbers: Option<Numbers>,
    is_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    link: u32,
    program: u32,
    cgroup: u64,
}

impl Numbers {
    fn of(link: &Link) -> Option<Self> {
        let info = link.info().ok()?;
        let cgroup = if let LinkTypeInfo::Cgroup(cgroup) = &info.info { cgroup.cgroup_id } else { 0 };
        Some(Self { link: info.id, program: info.prog_id, cgroup })
    }
}

impl Anchor {
    pub(super) fn new(program: &str, link: Link) -> Self {
        let name = match program.strip_prefix("on_").unwrap_or(program) {
            "call" => "system-calls",
            "answer" => "dns-answer",
            "speech" => "dns-question-and-tls-hello",
            "closed" => "tcp-close",
            "released" => "udp-close",
            "ring" => "io_uring",
            "ring_request" => "io_uring-requests",
            "ring_result" => "io_uring-results",
            name => name,
        };
        let numbers = Numbers::of(&link);
        Self { name: name.to_owned(), link, numbers, is_gone: false }
    }

    /// The kernel's number of the link.
    pub(super) fn id(&self) -> Option<u32> {
        self.numbers.map(|numbers| numbers.link)
    }

    /// Whether it was found gone just now. A detached link keeps its number as long as we hold
    /// it, but loses its cgroup; a replaced program shows by its own number.
    pub(super) fn is_newly_gone(&mut self) -> bool {
        if self.is_gone || Numbers::of(&self.link) == self.numbers {
            return false;
        }
        self.is_gone = true;
        true
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }
}
