//! What an ingest counts, in its own terms.

use super::connection::Closed;
use super::connections::Accepted;
use super::pending::Ending;
use super::publishing::{Figures, Stall};
use super::tls::Failure;
use crate::config::Unknown;
use crate::protocol::{Protocol, Reject};
use crate::role::FeedEnd;
use crate::stats::{IngestMetric, Stats};
use crate::sys::clock;

/// The statistics page of an ingest, as its loops fill it.
pub struct Tally {
    stats: Stats<IngestMetric>,
    published: Figures,
}

/// Why an answer was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is longer than what it answers.
    Longer,
    /// The kernel did not take it.
    Unsent,
}

impl Tally {
    /// Counts on `stats` for a sensor that speaks `protocol`.
    pub fn new(stats: Stats<IngestMetric>, protocol: Protocol) -> Tally {
        let speaks = match protocol {
            Protocol::Jt808 => IngestMetric::SpeaksJt808,
            Protocol::Teltonika => IngestMetric::SpeaksTeltonika,
            Protocol::Gt06 => IngestMetric::SpeaksGt06,
            Protocol::H02 => IngestMetric::SpeaksH02,
            Protocol::Nmea => IngestMetric::SpeaksNmea,
            Protocol::Ubx => IngestMetric::SpeaksUbx,
            Protocol::Gpsd => IngestMetric::SpeaksGpsd,
            Protocol::Osmand => IngestMetric::SpeaksOsmand,
            Protocol::Gl200 => IngestMetric::SpeaksGl200,
            Protocol::Tk103 => IngestMetric::SpeaksTk103,
            Protocol::Gps103 => IngestMetric::SpeaksGps103,
            Protocol::Meitrack => IngestMetric::SpeaksMeitrack,
            Protocol::Ruptela => IngestMetric::SpeaksRuptela,
            Protocol::Json => IngestMetric::SpeaksJson,
            Protocol::Auto => IngestMetric::SpeaksAuto,
        };
        stats.set(speaks, 1);
        Tally {
            stats,
            published: Figures::default(),
        }
    }

    /// Connections were accepted.
    pub fn accepted(&self, count: u32) {
        self.stats
            .add(IngestMetric::ConnectionsAccepted, u64::from(count));
    }

    /// Connections were accepted in one go, others not.
    pub fn came(&self, came: &Accepted) {
        for (metric, count) in [
            (IngestMetric::ConnectionsAccepted, came.all),
            (IngestMetric::ConnectionsDelayed, came.delayed),
            (IngestMetric::TurnedAwaySource, came.from_elsewhere),
            (IngestMetric::TurnedAwayPerSource, came.too_many),
            (IngestMetric::AcceptPauses, came.no_room.into()),
        ] {
            self.stats.add(metric, u64::from(count));
        }
    }

    /// So many connections have not shown yet that a known device is there.
    pub fn unproven(&self, count: usize) {
        self.stats
            .set(IngestMetric::ConnectionsUnproven, count as u64);
    }

    /// So many devices are on the list.
    pub fn listed(&self, count: u32) {
        self.stats.set(IngestMetric::DevicesListed, count.into());
    }

    /// A message of a device that is not on the list came.
    pub fn unknown(&self, what_becomes: Unknown) {
        let metric = match what_becomes {
            Unknown::Reject => IngestMetric::UnknownReject,
            Unknown::Quarantine => IngestMetric::UnknownQuarantine,
            Unknown::Accept => IngestMetric::UnknownAccept,
        };
        self.stats.add(metric, 1);
    }

    /// A session went from one connection to another.
    pub fn taken_over(&self) {
        self.stats.add(IngestMetric::SessionsTakenOver, 1);
    }

    /// A take-over has to wait.
    pub fn contested(&self) {
        self.stats.add(IngestMetric::SessionsContested, 1);
    }

    /// A connection is not read for a while because it sent too much.
    pub fn rests(&self) {
        self.stats.add(IngestMetric::Rests, 1);
    }

    /// A datagram was dropped for where it came from.
    pub fn datagram_from_elsewhere(&self) {
        self.stats.add(IngestMetric::DatagramsSource, 1);
    }

    /// A message was dropped because its sender, or its device, sent too much.
    pub fn over_rate(&self) {
        self.stats.add(IngestMetric::DroppedRate, 1);
    }

    /// A connection was closed.
    pub fn closed(&self, why: Closed) {
        let metric = match why {
            Closed::Peer => IngestMetric::ClosedByPeer,
            Closed::Idle => IngestMetric::ClosedIdle,
            Closed::Errors => IngestMetric::ClosedErrors,
            Closed::Unread => IngestMetric::ClosedUnread,
            Closed::Refused => IngestMetric::ClosedRefused,
            Closed::Displaced => IngestMetric::ClosedDisplaced,
            Closed::NoMessage => IngestMetric::ClosedNoMessage,
            Closed::Slow => IngestMetric::ClosedSlow,
            Closed::GaveWay => IngestMetric::ClosedGaveWay,
            Closed::Unknown => IngestMetric::ClosedUnknown,
            Closed::TakenOver => IngestMetric::ClosedTakenOver,
            Closed::Occupied => IngestMetric::ClosedOccupied,
            Closed::Tls(failure) => {
                self.stats.add(failure_metric(failure), 1);
                IngestMetric::ClosedTls
            }
            Closed::Drain => IngestMetric::ClosedDrain,
        };
        self.stats.add(metric, 1);
    }

    /// A device has finished its TLS handshake.
    pub fn established(&self) {
        self.stats.add(IngestMetric::TlsHandshakes, 1);
    }

    /// New connections are shown a certificate that ends then.
    pub fn certificate(&self, expires_s: u64) {
        self.stats.set(IngestMetric::TlsExpires, expires_s);
    }

    /// A feed was taken.
    pub fn feed_opened(&self) {
        self.stats.add(IngestMetric::FeedsOpened, 1);
    }

    /// A feed is of no use any more.
    pub fn feed_ended(&self, why: FeedEnd) {
        let metric = match why {
            FeedEnd::Closed => IngestMetric::FeedClosed,
            FeedEnd::Broken => IngestMetric::FeedBroken,
            FeedEnd::Unreadable => IngestMetric::FeedUnreadable,
            FeedEnd::Stalled => IngestMetric::FeedStalled,
        };
        self.stats.add(metric, 1);
    }

    /// Whether a feed is open.
    pub fn feed_open(&self, open: bool) {
        self.stats.set(IngestMetric::FeedOpen, open.into());
    }

    /// Bytes came in.
    pub fn bytes(&self, bytes: usize) {
        self.stats.add(IngestMetric::Bytes, bytes as u64);
    }

    /// A message was read; `refused`: sound, but not taken.
    pub fn message(&self, refused: Option<Reject>) {
        self.stats.add(IngestMetric::Messages, 1);
        if let Some(reason) = refused {
            self.refused(reason);
        }
    }

    /// A message, or bytes that are none, was not taken.
    pub fn refused(&self, reason: Reject) {
        self.stats.add(refused_metric(reason), 1);
    }

    /// Reading stopped because a message found no room.
    pub fn stalled(&self, why: Stall) {
        let metric = match why {
            Stall::Ring => IngestMetric::StalledRing,
            Stall::Answers => IngestMetric::StalledAnswers,
        };
        self.stats.add(metric, 1);
    }

    /// A message that found no room was dropped.
    pub fn dropped(&self, why: Stall) {
        let metric = match why {
            Stall::Ring => IngestMetric::DroppedRing,
            Stall::Answers => IngestMetric::DroppedAnswers,
        };
        self.stats.add(metric, 1);
    }

    /// A datagram came in.
    pub fn datagram(&self) {
        self.stats.add(IngestMetric::Datagrams, 1);
    }

    /// A datagram was dropped unread for what its sender sent before.
    pub fn delayed_datagram(&self) {
        self.stats.add(IngestMetric::DatagramsDelayed, 1);
    }

    /// The kernel has dropped so many datagrams, as it counts: all since the socket was made, modulo 2^32.
    pub fn lost_datagrams(&self, count: u32) {
        // The socket is as old as the page, whatever processes came and went.
        let counted = self.stats.get(IngestMetric::DatagramsKernel) as u32;
        let more = count.wrapping_sub(counted);
        self.stats.add(IngestMetric::DatagramsKernel, more.into());
    }

    /// An answer was not sent.
    pub fn withheld(&self, why: Withheld) {
        let metric = match why {
            Withheld::Longer => IngestMetric::WithheldLonger,
            Withheld::Unsent => IngestMetric::WithheldUnsent,
        };
        self.stats.add(metric, 1);
    }

    /// A message has come to its end; `here`: its sender is still connected.
    pub fn settled(&self, ending: Ending, here: bool) {
        let metric = match (here, ending) {
            (false, _) => IngestMetric::AnswersAbandoned,
            (true, Ending::Accepted) => IngestMetric::AnswersAccepted,
            (true, Ending::Refused) => IngestMetric::AnswersRefused,
            (true, Ending::Lapsed) => IngestMetric::AnswersLapsed,
        };
        self.stats.add(metric, 1);
    }

    /// Records were taken into a recording, or found no room there.
    pub fn captured(&self, kept: u64, lost: u64) {
        self.stats.add(IngestMetric::CaptureKept, kept);
        self.stats.add(IngestMetric::CaptureLost, lost);
    }

    /// A recording ended because its file cannot be written.
    pub fn capture_failed(&self) {
        self.stats.add(IngestMetric::CapturesFailed, 1);
    }

    /// The process serves.
    pub fn ready(&self) {
        self.stats.heartbeat(clock::monotonic_ns());
        self.stats.set_ready(true);
    }

    /// The process is alive at the monotonic time `now_ns`, with so many connections and messages that await their
    /// outcome.
    pub fn beat(&mut self, now_ns: u64, open: u32, awaited: usize, published: Figures) {
        let before = std::mem::replace(&mut self.published, published);
        let frames = published.frames - before.frames;
        let cut = published.attributes_cut - before.attributes_cut;
        self.stats.add(IngestMetric::FramesPublished, frames);
        self.stats.add(IngestMetric::AttributesCut, cut);
        self.stats
            .set(IngestMetric::ConnectionsOpen, u64::from(open));
        self.stats.set(IngestMetric::AnswersPending, awaited as u64);
        self.stats.heartbeat(now_ns);
    }

    /// The process ends.
    pub fn ends(&self) {
        self.stats.set_ready(false);
    }
}

fn failure_metric(failure: Failure) -> IngestMetric {
    match failure {
        Failure::PlainText => IngestMetric::TlsPlainText,
        Failure::Incompatible => IngestMetric::TlsIncompatible,
        Failure::NoCertificate => IngestMetric::TlsNoCertificate,
        Failure::UnknownAuthority => IngestMetric::TlsUnknownAuthority,
        Failure::Expired => IngestMetric::TlsExpired,
        Failure::Certificate => IngestMetric::TlsCertificate,
        Failure::Identity => IngestMetric::TlsIdentity,
        Failure::Alert(_) => IngestMetric::TlsAlert,
        Failure::Broken => IngestMetric::TlsBroken,
        Failure::TooLong => IngestMetric::TlsTooLong,
        Failure::Late => IngestMetric::TlsLate,
        Failure::Left => IngestMetric::TlsLeft,
    }
}

fn refused_metric(reason: Reject) -> IngestMetric {
    match reason {
        Reject::Checksum => IngestMetric::RefusedChecksum,
        Reject::Length => IngestMetric::RefusedLength,
        Reject::TooLong => IngestMetric::RefusedTooLong,
        Reject::Rubbish => IngestMetric::RefusedRubbish,
        Reject::Escape => IngestMetric::RefusedEscape,
        Reject::UnknownKind => IngestMetric::RefusedUnknownKind,
        Reject::Device => IngestMetric::RefusedDevice,
        Reject::Field => IngestMetric::RefusedField,
        Reject::Encrypted => IngestMetric::RefusedEncrypted,
        Reject::Part => IngestMetric::RefusedPart,
        Reject::Incomplete => IngestMetric::RefusedIncomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Metric;

    #[test]
    fn each_reason_has_a_counter_with_its_name() {
        for &reason in Reject::ALL {
            let entry = IngestMetric::TABLE[refused_metric(reason).index()];
            assert_eq!(entry.name, "ringway_messages_refused_total");
            assert_eq!(entry.label, Some(("reason", reason.name())));
        }
        let names = IngestMetric::TABLE.iter().map(|entry| entry.name);
        let counters = names.filter(|name| *name == "ringway_messages_refused_total");
        assert_eq!(counters.count(), Reject::ALL.len());
    }
}
