//! Where connections and datagrams come from: which networks may come in, and how many connections one address has.

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;

use ipnet::IpNet;

use super::offence::Source;
use crate::config::Admission;

/// Why somebody is turned away before a byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// It comes from a network that may not come in.
    Source,
    /// As many connections from there are open as one address may have.
    PerSource,
}

/// The sources of one sensor.
#[derive(Debug)]
pub struct Sources {
    networks: Vec<IpNet>,
    per_source_max: Option<u32>,
    /// Connections by source, where they have a limit; at most as many as are open. Its hash is a keyed one.
    open: HashMap<Source, u32, RandomState>,
}

impl Sources {
    /// Nobody is there yet.
    pub fn new(admission: &Admission) -> Sources {
        Sources {
            networks: admission.sources.clone(),
            per_source_max: admission.connections_per_source_max,
            open: HashMap::with_hasher(RandomState::new()),
        }
    }

    /// Whether this address may come in.
    pub fn may_come(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty()
            || self
                .networks
                .iter()
                .any(|network| network.contains(&address))
    }

    /// A connection came.
    ///
    /// # Errors
    /// Why it may not come in.
    pub fn enter(&mut self, address: IpAddr) -> Result<Source, TurnedAway> {
        if !self.may_come(address) {
            return Err(TurnedAway::Source);
        }
        let source = source(address);
        if let Some(max) = self.per_source_max {
            let open = self.open.entry(source).or_default();
            if *open >= max {
                return Err(TurnedAway::PerSource);
            }
            *open += 1;
        }
        Ok(source)
    }

    /// A connection that had come in is gone.
    pub fn left(&mut self, source: Source) {
        if let Some(open) = self.open.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }
}

/// The source of an address. One of IPv4 is the same whether the socket is one of IPv6 or not.
fn source(address: IpAddr) -> Source {
    Source::of(match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(networks: &[&str], per_source_max: Option<u32>) -> Sources {
        Sources::new(&Admission {
            sources: networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            connections_per_source_max: per_source_max,
            ..Admission::default()
        })
    }

    #[test]
    fn only_the_named_networks_may_come_in_also_mapped_into_ipv6() {
        let sources = sources(&["10.0.0.0/8", "2001:db8::/32"], None);
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.1", false),
            ("::ffff:11.0.0.1", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(
                sources.may_come(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn an_address_has_no_more_connections_than_its_limit_and_others_have_theirs() {
        let mut sources = sources(&[], Some(2));
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let source = sources.enter(here).unwrap();
        sources.enter(here).unwrap();
        assert_eq!(sources.enter(here), Err(TurnedAway::PerSource));
        sources.enter(there).unwrap();
        sources.left(source);
        assert_eq!(sources.enter(here), Ok(source));
        for _ in 0..2 {
            sources.left(source);
        }
        assert_eq!(sources.open.len(), 1);
    }
}
