//! Addresses to listen on, each by one listener only.

use std::net::{SocketAddr, SocketAddrV6};

use toml::Spanned;

use super::ConfigError;
use super::check::Source;

/// What has ports of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// An address as it is written: `ip:port`, or `[ip%interface]:port` for an address that only one link has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Without the number of the interface.
    pub address: SocketAddr,
    /// The interface.
    pub interface: Option<String>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Address, String> {
        let wrong = |why: &str| format!("{text:?} is not an address: {why}");
        let (plain, interface) = match text.split_once('%') {
            None => (text.to_owned(), None),
            Some((ip, rest)) => {
                let parts = rest
                    .split_once(']')
                    .filter(|(interface, _)| !interface.is_empty());
                let (interface, port) =
                    parts.ok_or_else(|| wrong("expected [ip%interface]:port"))?;
                (format!("{ip}]{port}"), Some(interface.to_owned()))
            }
        };
        let address: SocketAddr = plain.parse().map_err(|_| match text.contains("::") {
            true => wrong("expected [ip]:port"),
            false => wrong("expected ip:port"),
        })?;
        let of_link = |six: &SocketAddrV6| six.ip().is_unicast_link_local();
        match (&address, &interface) {
            (SocketAddr::V6(six), None) if of_link(six) => Err(wrong(
                "each link has such a one: say which interface, as in [fe80::1%eth0]:5000",
            )),
            (SocketAddr::V6(six), Some(_)) if !of_link(six) => {
                Err(wrong("an interface belongs to addresses of fe80::/10 only"))
            }
            (SocketAddr::V4(_), Some(_)) => Err(wrong("an interface belongs to fe80::/10 only")),
            _ => Ok(Address { address, interface }),
        }
    }
}

/// The addresses taken so far, with where.
#[derive(Default)]
pub struct Ports(Vec<(Transport, Address, String)>);

impl Ports {
    /// Takes the address that stands in a file.
    ///
    /// # Errors
    /// When it is no `ip:port`, or somebody listens there already.
    pub fn take(
        &mut self,
        source: &Source,
        transport: Transport,
        listen: &Spanned<String>,
    ) -> Result<String, ConfigError> {
        let text = listen.get_ref();
        let at = source.error(&listen.span(), "");
        let at = format!("{}:{}", at.file.display(), at.line.unwrap_or(0));
        let address = Address::parse(text).map_err(|why| source.error(&listen.span(), why))?;
        match self.enter(transport, address, at) {
            Ok(()) => Ok(text.clone()),
            Err(first) => {
                let reason = format!("{text} is listened on already, at {first}");
                Err(source.error(&listen.span(), reason))
            }
        }
    }

    /// Takes the TCP address that stands in a file, or the default of `section`.
    ///
    /// # Errors
    /// As [`Ports::take`].
    pub fn take_or(
        &mut self,
        source: &Source,
        listen: Option<&Spanned<String>>,
        default: &str,
        section: &str,
    ) -> Result<String, ConfigError> {
        if let Some(listen) = listen {
            return self.take(source, Transport::Tcp, listen);
        }
        let address = Address::parse(default).expect("a default is an address");
        let at = format!("the default of {section}.listen");
        match self.enter(Transport::Tcp, address, at) {
            Ok(()) => Ok(default.to_string()),
            Err(first) => Err(ConfigError {
                file: source.path.clone(),
                line: None,
                reason: format!(
                    "{first} listens on {default}, the default of {section}.listen: set either"
                ),
            }),
        }
    }

    /// Enters an address, or says where it was taken. Port 0 takes a free one each time.
    fn enter(&mut self, transport: Transport, address: Address, at: String) -> Result<(), String> {
        let mut taken = self.0.iter();
        let taken = taken.find(|(by, other, _)| *by == transport && overlap(other, &address));
        if let Some((_, _, first)) = taken {
            return Err(first.clone());
        }
        if address.address.port() != 0 {
            self.0.push((transport, address, at));
        }
        Ok(())
    }
}

/// Whether two listeners would get in each other's way: the address of all interfaces takes each of them, and that of
/// IPv6 takes IPv4 too.
fn overlap(a: &Address, b: &Address) -> bool {
    if a.interface.is_some() && b.interface.is_some() && a.interface != b.interface {
        return false;
    }
    let (a, b) = (a.address, b.address);
    let covers =
        |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_take_the_port_of_each() {
        let address = |text: &str| Address::parse(text).unwrap();
        let overlaps = |a: &str, b: &str| overlap(&address(a), &address(b));
        assert!(overlaps("0.0.0.0:9000", "127.0.0.1:9000"));
        assert!(overlaps("127.0.0.1:9000", "[::]:9000"));
        assert!(!overlaps("0.0.0.0:9000", "[::1]:9000"));
        assert!(!overlaps("127.0.0.2:9000", "127.0.0.1:9000"));
        assert!(!overlaps("0.0.0.0:9000", "0.0.0.0:9001"));
        assert!(overlaps("[::]:9000", "[fe80::1%eth0]:9000"));
        assert!(!overlaps("[fe80::1%eth1]:9000", "[fe80::1%eth0]:9000"));
    }

    #[test]
    fn an_address_of_a_link_says_of_which() {
        let parsed = Address::parse("[fe80::1%wlan0.5]:5000").unwrap();
        assert_eq!(parsed.address, "[fe80::1]:5000".parse().unwrap());
        assert_eq!(parsed.interface.as_deref(), Some("wlan0.5"));
        let wrong = |text: &str| Address::parse(text).unwrap_err();
        assert!(wrong("[fe80::1]:5000").contains("[fe80::1%eth0]:5000"));
        assert!(wrong("[2001:db8::1%eth0]:5000").contains("fe80::/10 only"));
        assert!(wrong("10.0.0.1%eth0:5000").contains("expected [ip%interface]:port"));
        assert!(wrong("[fe80::1%]:5000").contains("expected [ip%interface]:port"));
        assert!(wrong("::1:5000").contains("expected [ip]:port"));
        assert!(wrong("localhost:5000").contains("expected ip:port"));
    }
}
