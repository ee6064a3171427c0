//! Addresses to listen on, each by one listener only.

use std::net::SocketAddr;

use toml::Spanned;

use super::ConfigError;
use super::check::Source;

/// What has ports of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// The addresses taken so far, with where.
#[derive(Default)]
pub struct Ports(Vec<(Transport, SocketAddr, String)>);

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
        let address: SocketAddr = text.parse().map_err(|_| {
            let reason = format!("{text:?} is not an address: expected ip:port");
            source.error(&listen.span(), reason)
        })?;
        match self.enter(transport, address, at) {
            Ok(()) => Ok(text.clone()),
            Err(first) => {
                let reason = format!("{address} is listened on already, at {first}");
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
        let address = default.parse().expect("a default is an address");
        let at = format!("the default of {section}.listen");
        match self.enter(Transport::Tcp, address, at) {
            Ok(()) => Ok(default.to_string()),
            Err(first) => Err(ConfigError {
                file: source.path.clone(),
                line: None,
                reason: format!(
                    "{first} listens on {address}, the default of {section}.listen: set either"
                ),
            }),
        }
    }

    /// Enters an address, or says where it was taken. Port 0 takes a free one each time.
    fn enter(
        &mut self,
        transport: Transport,
        address: SocketAddr,
        at: String,
    ) -> Result<(), String> {
        let mut taken = self.0.iter();
        let taken = taken.find(|(by, other, _)| *by == transport && overlap(*other, address));
        if let Some((_, _, first)) = taken {
            return Err(first.clone());
        }
        if address.port() != 0 {
            self.0.push((transport, address, at));
        }
        Ok(())
    }
}

/// Whether two listeners would get in each other's way: the address of all interfaces takes each of them, and that of
/// IPv6 takes IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_take_the_port_of_each() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlaps("0.0.0.0:9000", "127.0.0.1:9000"));
        assert!(overlaps("127.0.0.1:9000", "[::]:9000"));
        assert!(!overlaps("0.0.0.0:9000", "[::1]:9000"));
        assert!(!overlaps("127.0.0.2:9000", "127.0.0.1:9000"));
        assert!(!overlaps("0.0.0.0:9000", "0.0.0.0:9001"));
    }
}
