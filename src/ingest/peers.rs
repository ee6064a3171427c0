//! Who sends to a UDP socket: a session for each source address, in a table that forgets who was silent for longest.

use std::hash::RandomState;
use std::net::SocketAddr;

use hashlink::LinkedHashMap;

use super::admit::Bucket;
use super::offence::Delay;
use super::session::Session;
use super::silence::Mark;
use super::sources::Sources;

/// One source address.
#[derive(Debug)]
pub struct Peer {
    /// What its bytes mean. No bytes are kept: a datagram is read whole.
    pub session: Session,
    /// Messages published whose answer is held back.
    pub awaiting: u32,
    /// That its silence is watched, which ends its epoch.
    pub silence: Option<Mark>,
    /// How long it is not read, for its rubbish.
    pub delay: Delay,
    /// What it may send.
    pub bucket: Bucket,
    /// Its number, never used again by this process.
    pub stream: u64,
    /// When its last datagram was read, milliseconds of the monotonic clock.
    heard_ms: u64,
}

/// The peers of one sensor.
#[derive(Debug)]
pub struct Peers {
    /// In the order in which they were heard last. Senders choose the keys, so their hash is a keyed one.
    peers: LinkedHashMap<SocketAddr, Peer, RandomState>,
    peers_max: usize,
    idle_ms: u64,
    sources: Sources,
    /// Peers that were entered so far.
    entered: u64,
}

impl Peers {
    /// Nobody was heard.
    pub fn new(peers_max: u32, idle_ms: u64, sources: Sources) -> Peers {
        Peers {
            peers: LinkedHashMap::with_hasher(RandomState::new()),
            peers_max: peers_max as usize,
            idle_ms,
            sources,
            entered: 0,
        }
    }

    /// Whether datagrams from there are read at all.
    pub fn may_come(&self, from: SocketAddr) -> bool {
        self.sources.may_come(from.ip())
    }

    /// Peers known.
    pub fn known(&self) -> u32 {
        self.peers.len() as u32
    }

    /// The peer at this address, if it is known.
    pub fn get(&mut self, from: SocketAddr) -> Option<&mut Peer> {
        self.peers.get_mut(&from)
    }

    /// Notes that a known peer was heard; whether it is known.
    pub fn heard(&mut self, from: SocketAddr, now_ms: u64) -> bool {
        match self.peers.to_back(&from) {
            Some(peer) => {
                peer.heard_ms = now_ms;
                true
            }
            None => false,
        }
    }

    /// Enters a peer that is not known. Returns whom the table forgets for it: the one that was silent for longest.
    pub fn enter(
        &mut self,
        from: SocketAddr,
        session: Session,
        now_ms: u64,
    ) -> Option<(SocketAddr, Peer)> {
        let full = self.peers.len() >= self.peers_max;
        let forgotten = full.then(|| self.forget_first()).flatten();
        self.entered += 1;
        let peer = Peer {
            session,
            awaiting: 0,
            silence: None,
            delay: Delay::default(),
            bucket: Bucket::default(),
            stream: self.entered,
            heard_ms: now_ms,
        };
        self.peers.insert(from, peer);
        forgotten
    }

    /// Forgets the next peer that was silent for too long, and returns it.
    pub fn forget_idle(&mut self, now_ms: u64) -> Option<(SocketAddr, Peer)> {
        let (_, first) = self.peers.front()?;
        let idle = now_ms >= first.heard_ms.saturating_add(self.idle_ms);
        idle.then(|| self.peers.pop_front()).flatten()
    }

    /// Forgets the peer that was silent for longest, and returns it.
    pub fn forget_first(&mut self) -> Option<(SocketAddr, Peer)> {
        self.peers.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Admission;
    use crate::protocol::{Protocol, Settings};

    fn session() -> Session {
        Session::new(Protocol::H02, &Settings::default())
    }

    fn anywhere() -> Sources {
        Sources::new(&Admission::default())
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_full_table_forgets_who_was_silent_for_longest() {
        let mut peers = Peers::new(2, 1_000, anywhere());
        assert!(peers.enter(address(1), session(), 0).is_none());
        assert!(peers.enter(address(2), session(), 1).is_none());
        assert!(peers.heard(address(1), 2));
        let (forgotten, _) = peers.enter(address(3), session(), 3).unwrap();
        assert_eq!((forgotten, peers.known()), (address(2), 2));
        assert!(!peers.heard(address(2), 4));
    }

    #[test]
    fn who_is_silent_for_too_long_is_forgotten() {
        let mut peers = Peers::new(9, 1_000, anywhere());
        peers.enter(address(1), session(), 0);
        peers.enter(address(2), session(), 500);
        assert!(peers.forget_idle(999).is_none());
        assert_eq!(
            peers.forget_idle(1_000).map(|(from, _)| from),
            Some(address(1))
        );
        assert!(peers.forget_idle(1_499).is_none());
        assert!(peers.get(address(2)).is_some());
    }
}
