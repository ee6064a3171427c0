//! Where connections come from: a range of this machine's addresses, such as all of loopback (pure).

use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::random::Random;

/// A range of IPv4 addresses, written as `127.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: u32,
    count: u32,
}

impl Sources {
    /// One of them.
    pub fn pick(&self, random: &mut Random) -> Ipv4Addr {
        Ipv4Addr::from(self.first + random.below(self.count as usize) as u32)
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Sources, String> {
        let wrong = || format!("{text:?} is no range of addresses, such as 127.0.0.0/8");
        let (network, length) = text.split_once('/').ok_or_else(wrong)?;
        let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
        let length: u32 = length.parse().map_err(|_| wrong())?;
        let size = match length {
            8..=32 => 1_u32 << (32 - length),
            _ => return Err(format!("{text:?} has a length that is not within 8 to 32")),
        };
        let network = u32::from(network) & !(size - 1);
        Ok(match size {
            1 | 2 => Sources {
                first: network,
                count: size,
            },
            // The first and the last address of a network are nobody's.
            _ => Sources {
                first: network + 1,
                count: size - 2,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_range_but_its_ends_is_picked() {
        let sources: Sources = "127.1.2.9/29".parse().unwrap();
        let mut random = Random::new(1);
        let mut picked: Vec<u8> = (0..500)
            .map(|_| sources.pick(&mut random).octets()[3])
            .collect();
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked, [9, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn one_address_is_a_range() {
        let sources: Sources = "127.0.0.5/32".parse().unwrap();
        let picked = sources.pick(&mut Random::new(1));
        assert_eq!(picked, Ipv4Addr::new(127, 0, 0, 5));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "127.0.0.1",
            "127.0.0.0/33",
            "0.0.0.0/0",
            "::1/128",
            "/8",
            "",
        ] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
