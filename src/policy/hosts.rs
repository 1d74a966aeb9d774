//! Destinations as a policy writes them: names, names below a name, addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::event::Transport;

use super::Peer;
use super::problem::{Complaint, shown};

/// One destination of an allow or deny list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRule {
    target: Target,
    port: Option<u16>,
    transport: Option<Transport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Name(String),
    /// Any depth below this name, not the name itself.
    Below(String),
    Net(Net),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    prefix: u8,
}

/// A peer with its address and names in one spelling.
#[derive(Debug)]
pub(super) struct Destination {
    pub address: IpAddr,
    pub port: u16,
    pub transport: Transport,
    names: Vec<String>,
}

impl Destination {
    pub fn of(peer: &Peer<'_>) -> Self {
        Self {
            address: peer.address.ip().to_canonical(),
            port: peer.address.port(),
            transport: peer.transport,
            names: peer
                .names
                .iter()
                .map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
                .collect(),
        }
    }

    /// Loopback by address. Linux takes a connection to the unspecified address to loopback as well.
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback() || self.address.is_unspecified()
    }

    /// A cloud's metadata service, also when reached through the well-known NAT64 prefix.
    pub fn is_metadata(&self) -> bool {
        let address = match self.address {
            IpAddr::V6(address) if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
                let [.., a, b, c, d] = address.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            address => address,
        };
        match address {
            IpAddr::V4(address) => {
                address == Ipv4Addr::new(169, 254, 169, 254)
                    || (address == Ipv4Addr::new(168, 63, 129, 16) && self.port != 53)
            }
            IpAddr::V6(address) => address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        }
    }
}

impl HostRule {
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        if let Some(bad) = text.chars().find(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(Complaint::new(format!("`{}` is not a host: it holds {bad:?}", shown(text)))
                .hint("one destination per list item"));
        }
        let (transport, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("udp", rest)) => (Some(Transport::Udp), rest),
            Some(("tcp", rest)) => (Some(Transport::Tcp), rest),
            Some((scheme, rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let port = if scheme == "http" { 80 } else { 443 };
                let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
                return Err(Complaint::new(format!("`{}` is a URL, not a host", shown(text)))
                    .hint(format!("write `{}`", shown(&host))));
            }
        };
        let (host, port) = split_port(rest, text)?;
        let port = port.map(parse_port).transpose()?;
        Ok(Self { target: Target::parse(host, text)?, port, transport })
    }

    /// Whether an allow list with this rule lets the peer through: over TCP unless it says `udp://`,
    /// and for a name without a port on 443 and 80.
    pub fn allows(&self, to: &Destination) -> bool {
        let port = match (self.port, &self.target) {
            (Some(port), _) => port == to.port,
            (None, Target::Net(_)) => true,
            (None, _) => matches!(to.port, 443 | 80),
        };
        port && to.transport == self.transport.unwrap_or(Transport::Tcp) && self.is_host_of(to)
    }

    /// Whether a deny list with this rule stops the peer. What is not said is every port and transport:
    /// a deny that only held on two ports would be a trap.
    pub fn denies(&self, to: &Destination) -> bool {
        self.port.is_none_or(|port| port == to.port)
            && self.transport.is_none_or(|transport| transport == to.transport)
            && self.is_host_of(to)
    }

    /// Whether this rule names a host that the peer may be, for all we know of it: its address alone.
    pub fn could_be(&self, to: &Destination) -> bool {
        let port = self.port.map_or(matches!(to.port, 80 | 443), |port| port == to.port);
        let is_name = !matches!(self.target, Target::Net(_));
        is_name && to.names.is_empty() && port && to.transport == self.transport.unwrap_or(Transport::Tcp)
    }

    /// The same host, whatever the port: what a reader would look at first.
    pub fn is_host_of(&self, to: &Destination) -> bool {
        match &self.target {
            Target::Name(name) => to.names.iter().any(|candidate| candidate == name),
            Target::Below(name) => to.names.iter().any(|candidate| is_below(candidate, name)),
            Target::Net(net) => net.contains(to.address),
        }
    }

    /// Whether each peer that `other` speaks of is one that this speaks of, in lists of the same kind.
    pub fn covers(&self, other: &Self, is_deny: bool) -> bool {
        let port = match (self.port, other.port) {
            (Some(port), other) => other == Some(port),
            (None, Some(port)) if !is_deny && !matches!(self.target, Target::Net(_)) => {
                matches!(port, 443 | 80)
            }
            (None, _) => true,
        };
        let transport = if is_deny {
            self.transport.is_none() || self.transport == other.transport
        } else {
            self.transport.unwrap_or(Transport::Tcp) == other.transport.unwrap_or(Transport::Tcp)
        };
        // A wide network that is allowed does not mean the metadata service in it.
        let is_named = is_deny || self.is_narrow_address() || !other.means_metadata();
        port && transport && is_named && self.target.covers(&other.target)
    }

    /// Whether a rule of an allow list lets the job ask a cloud's metadata service.
    pub fn means_metadata(&self) -> bool {
        const SERVICES: [IpAddr; 4] = [
            IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
            IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
            IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
        ];
        self.is_narrow_address()
            && matches!(self.target, Target::Net(net) if SERVICES.iter().any(|service| net.contains(*service)))
    }

    /// Whether this speaks of an address or a small network, so that it can mean a metadata service.
    /// A name can't: whoever owns the name chooses the address.
    pub fn is_narrow_address(&self) -> bool {
        match self.target {
            Target::Net(Net { address: IpAddr::V4(_), prefix }) => prefix >= 16,
            Target::Net(Net { address: IpAddr::V6(_), prefix }) => prefix >= 32,
            Target::Name(_) | Target::Below(_) => false,
        }
    }

    /// What makes this rule wider than its author may think.
    pub fn breadth(&self) -> Option<String> {
        match &self.target {
            Target::Below(name) if !name.contains('.') => {
                Some(format!("`*.{name}` covers a whole top-level domain"))
            }
            Target::Net(net) if net.prefix == 0 => Some("this network is the whole internet".to_owned()),
            _ => None,
        }
    }
}

fn is_below(candidate: &str, name: &str) -> bool {
    let labels = candidate.strip_suffix(name).and_then(|labels| labels.strip_suffix('.'));
    labels.is_some_and(|labels| !labels.is_empty())
}

/// Splits `host:port`, `[v6]:port`, `v4/prefix:port`; a bare IPv6 address or network has no port.
fn split_port<'t>(rest: &'t str, text: &str) -> Result<(&'t str, Option<&'t str>), Complaint> {
    if let Some(inside) = rest.strip_prefix('[') {
        let Some((host, after)) = inside.split_once(']') else {
            return Err(Complaint::new(format!("`{}` has no closing bracket", shown(text)))
                .hint("write IPv6 as `[2001:db8::1]:443`"));
        };
        if !host.contains(':') {
            return Err(Complaint::new(format!("`{}`: brackets are for IPv6 addresses", shown(text))));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(Complaint::new(format!("`{}` has something after the bracket", shown(text)))
                .hint("write an IPv6 network with a port as `[2001:db8::/32]:443`")),
        };
    }
    // Two colons or more: a bare IPv6 address.
    match rest.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        _ => Ok((rest, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, Complaint> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && digits => Ok(port),
        _ => Err(Complaint::new(format!("`{}` is not a port (1 to 65535)", shown(text)))
            .hint("write one item for each port; without a port a name means 443 and 80")),
    }
}

impl Target {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(own), Self::Name(other)) => own == other,
            (Self::Below(own), Self::Name(name)) => is_below(name, own),
            (Self::Below(own), Self::Below(other)) => own == other || is_below(other, own),
            (Self::Net(own), Self::Net(other)) => own.prefix <= other.prefix && own.contains(other.address),
            _ => false,
        }
    }

    fn parse(host: &str, text: &str) -> Result<Self, Complaint> {
        let host = host.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(host);
        if host.contains('%') {
            return Err(Complaint::new(format!(
                "`{}` has an IPv6 zone, which only one machine knows",
                shown(text)
            ))
            .hint("write the address without `%` and what follows it"));
        }
        if let Some((address, prefix)) = host.split_once('/') {
            return Net::parse(address, prefix, text).map(Self::Net);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Ok(Self::Net(Net { address, prefix: if address.is_ipv4() { 32 } else { 128 } }));
        }
        if host.contains(':') {
            return Err(Complaint::new(format!("`{}` is not a host", shown(text)))
                .hint("write `name:port`, and IPv6 as `[2001:db8::1]:443`"));
        }
        if host == "*" {
            return Err(
                Complaint::new("`*` alone is not a host").hint("to lift the restriction write `allow: any`")
            );
        }
        match host.strip_prefix("*.") {
            Some(name) => domain(name, text).map(Self::Below),
            None => domain(host, text).map(Self::Name),
        }
    }
}

/// A DNS name in lower case.
fn domain(name: &str, text: &str) -> Result<String, Complaint> {
    let refuse = |why: &str| Complaint::new(format!("`{}` is not a host: {why}", shown(text)));
    if name.is_empty() {
        return Err(refuse("the name is empty"));
    }
    if name.contains('*') || name.contains('?') {
        return Err(refuse("`*` stands only for the whole left part").hint("write `*.example.com`"));
    }
    if !name.is_ascii() {
        return Err(
            refuse("it has letters outside ASCII").hint("write the form DNS uses, which starts with `xn--`")
        );
    }
    if name.len() > 253 {
        return Err(refuse("it is longer than 253 characters"));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(refuse("it has an empty part between dots"));
        }
        if label.len() > 63 {
            return Err(refuse("a part between dots is longer than 63 characters"));
        }
        if let Some(bad) =
            label.chars().find(|letter| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '_'))
        {
            return Err(refuse(&format!("it holds `{bad}`")));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(refuse("a part between dots starts or ends with `-`"));
        }
    }
    // `127.1`, `0x7f000001` and `010.0.0.1` are addresses to some programs and names to others.
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("it looks like an IPv4 address and is none")
            .hint("write four decimal numbers, as 192.0.2.1"));
    }
    Ok(name.to_ascii_lowercase())
}

impl Net {
    fn parse(address: &str, prefix: &str, text: &str) -> Result<Self, Complaint> {
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(Complaint::new(format!("`{}` is neither a host nor a network", shown(text)))
                .hint("write a host without a path, or a network as `10.0.0.0/8`"));
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let Some(prefix) = prefix.parse::<u8>().ok().filter(|prefix| digits && *prefix <= bits) else {
            return Err(Complaint::new(format!("`/{}` is not a prefix length (0 to {bits})", shown(prefix))));
        };
        let net = match (address, address.to_canonical()) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if prefix >= 96 => {
                Self { address: mapped, prefix: prefix - 96 }
            }
            _ => Self { address, prefix },
        };
        if net.start() != net.address {
            return Err(Complaint::new(format!("`{}` has bits set beyond its prefix", shown(text)))
                .hint(format!("write `{}/{}`", net.start(), net.prefix)));
        }
        Ok(net)
    }

    fn start(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self { address, ..self }.start() == self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn to(names: &[&str], address: &str, transport: Transport) -> Destination {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let address: SocketAddr = address.parse().expect("test address");
        Destination::of(&Peer { address, names: &names, transport })
    }

    #[test]
    fn allows_what_is_written_and_nothing_beside_it() {
        use Transport::{Tcp, Udp};
        let cases: &[(&str, &[&str], &str, Transport, bool)] = &[
            ("api.example.com", &["api.example.com"], "203.0.113.1:443", Tcp, true),
            ("api.example.com", &["api.example.com"], "203.0.113.1:80", Tcp, true),
            ("api.example.com", &["api.example.com"], "203.0.113.1:8443", Tcp, false),
            ("api.example.com", &["api.example.com"], "203.0.113.1:443", Udp, false),
            ("api.example.com", &["x.api.example.com"], "203.0.113.1:443", Tcp, false),
            ("api.example.com", &[], "203.0.113.1:443", Tcp, false),
            ("API.Example.COM.", &["api.example.com"], "203.0.113.1:443", Tcp, true),
            ("api.example.com", &["API.EXAMPLE.com."], "203.0.113.1:443", Tcp, true),
            ("api.example.com:22", &["api.example.com"], "203.0.113.1:22", Tcp, true),
            ("api.example.com:22", &["api.example.com"], "203.0.113.1:443", Tcp, false),
            ("redis:6379", &["redis"], "203.0.113.1:6379", Tcp, true),
            ("*.example.com", &["a.example.com"], "203.0.113.1:443", Tcp, true),
            ("*.example.com", &["a.b.example.com"], "203.0.113.1:443", Tcp, true),
            ("*.example.com", &["example.com"], "203.0.113.1:443", Tcp, false),
            ("*.example.com", &["notexample.com"], "203.0.113.1:443", Tcp, false),
            ("*.example.com", &[".example.com"], "203.0.113.1:443", Tcp, false),
            ("udp://ntp.example:123", &["ntp.example"], "203.0.113.1:123", Udp, true),
            ("udp://ntp.example:123", &["ntp.example"], "203.0.113.1:123", Tcp, false),
            ("10.0.0.0/8", &[], "10.255.0.1:9999", Tcp, true),
            ("10.0.0.0/8", &[], "11.0.0.1:9999", Tcp, false),
            ("10.0.0.0/8:5432", &[], "10.1.1.1:5432", Tcp, true),
            ("10.0.0.0/8:5432", &[], "10.1.1.1:5433", Tcp, false),
            ("10.0.0.0/8:5432", &[], "[::ffff:10.1.1.1]:5432", Tcp, true),
            ("0.0.0.0/0", &[], "203.0.113.1:1", Tcp, true),
            ("0.0.0.0/0", &[], "[2001:db8::1]:1", Tcp, false),
            ("203.0.113.7", &[], "203.0.113.7:9000", Tcp, true),
            ("203.0.113.7", &[], "203.0.113.8:9000", Tcp, false),
            ("2001:db8::1", &[], "[2001:db8::1]:9000", Tcp, true),
            ("[2001:db8::1]:443", &[], "[2001:db8::1]:443", Tcp, true),
            ("[2001:db8::1]:443", &[], "[2001:db8::1]:80", Tcp, false),
            ("2001:db8::/32", &[], "[2001:db8:ffff::1]:80", Tcp, true),
            ("[2001:db8::/32]:80", &[], "[2001:db9::1]:80", Tcp, false),
            ("::ffff:10.0.0.0/104", &[], "10.9.9.9:80", Tcp, true),
        ];
        for (rule, names, address, transport, expected) in cases {
            let parsed = HostRule::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error:?}"));
            assert_eq!(
                parsed.allows(&to(names, address, *transport)),
                *expected,
                "{rule} {names:?} {address}"
            );
        }
    }

    #[test]
    fn a_deny_without_a_port_holds_on_every_port_and_transport() {
        let rule = HostRule::parse("evil.example").expect("a host");
        for (address, transport) in
            [("203.0.113.1:8443", Transport::Tcp), ("203.0.113.1:443", Transport::Udp)]
        {
            assert!(rule.denies(&to(&["evil.example"], address, transport)));
        }
        let rule = HostRule::parse("evil.example:22").expect("a host");
        assert!(!rule.denies(&to(&["evil.example"], "203.0.113.1:443", Transport::Tcp)));
    }

    #[test]
    fn refuses_what_is_no_host() {
        for (text, message, hint) in [
            ("https://api.example.com/v1", "is a URL", "write `api.example.com:443`"),
            ("http://api.example.com", "is a URL", "write `api.example.com:80`"),
            ("api.example.com:99999", "`99999` is not a port", "443 and 80"),
            ("api.example.com:0", "is not a port", ""),
            ("api.example.com:+80", "is not a port", ""),
            ("api.example.com:", "is not a port", ""),
            ("api.example.com:*", "is not a port", ""),
            ("api.example.com/path", "neither a host nor a network", "without a path"),
            ("api..example.com", "empty part", ""),
            (".example.com", "empty part", ""),
            ("a*.example.com", "whole left part", "*.example.com"),
            ("*.*.example.com", "whole left part", ""),
            ("*", "alone", "allow: any"),
            ("bücher.example", "outside ASCII", "xn--"),
            ("api.example.com\0", "'\\0'", ""),
            ("a b.example", "' '", ""),
            ("127.1", "IPv4", ""),
            ("0x7f000001", "IPv4", ""),
            ("010.0.0.1", "IPv4", ""),
            ("1.2.3.4.5", "IPv4", ""),
            ("10.0.0.1/8", "bits set beyond", "write `10.0.0.0/8`"),
            ("10.0.0.0/33", "not a prefix length (0 to 32)", ""),
            ("10.0.0.0/+8", "not a prefix length", ""),
            ("fe80::1%eth0", "zone", ""),
            ("[fe80::1%eth0]:443", "zone", ""),
            ("[2001:db8::1", "no closing bracket", ""),
            ("[example.com]:443", "brackets are for IPv6", ""),
            ("2001:db8::zz", "is not a host", "[2001:db8::1]:443"),
            ("-x.example", "starts or ends with `-`", ""),
            ("x.example$", "holds `$`", ""),
            ("", "empty", ""),
        ] {
            let complaint = HostRule::parse(text).expect_err(text);
            assert!(complaint.message.contains(message), "{text}: {}", complaint.message);
            assert!(complaint.hint.unwrap_or_default().contains(hint), "{text}");
        }
    }

    #[test]
    fn knows_loopback_and_metadata_by_address() {
        for address in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "0.0.0.0:1", "[::]:1"]
        {
            assert!(to(&[], address, Transport::Tcp).is_loopback(), "{address}");
        }
        assert!(!to(&["localhost"], "203.0.113.1:1", Transport::Tcp).is_loopback());
        for (address, expected) in [
            ("169.254.169.254:80", true),
            ("[::ffff:169.254.169.254]:80", true),
            ("[64:ff9b::a9fe:a9fe]:80", true),
            ("[fd00:ec2::254]:80", true),
            ("168.63.129.16:80", true),
            ("168.63.129.16:53", false),
            ("169.254.169.253:80", false),
        ] {
            assert_eq!(to(&[], address, Transport::Tcp).is_metadata(), expected, "{address}");
        }
    }
}
