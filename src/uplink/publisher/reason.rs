//! The broker's word on a message: MQTT 5 PUBACK reason codes, and what each says about trying again.

use std::fmt;

/// A reason code (MQTT 5, section 3.4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 0x00: delivered, as far as the broker can say.
    Success,
    /// 0x10: taken, but nobody subscribes; it reached no one.
    NoSubscriber,
    /// 0x80: refused without a reason.
    Unspecified,
    /// 0x83: refused for a reason of this broker's own.
    Implementation,
    /// 0x87: we may not.
    NotAuthorized,
    /// 0x90: no such topic can be.
    TopicInvalid,
    /// 0x91: packet ids are out of step.
    PacketIdInUse,
    /// 0x95: larger than the broker takes.
    PacketTooLarge,
    /// 0x97: a quota is used up.
    QuotaExceeded,
    /// 0x99: the payload is not what it says.
    PayloadInvalid,
}

impl Reason {
    /// The code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Reason::Success => 0x00,
            Reason::NoSubscriber => 0x10,
            Reason::Unspecified => 0x80,
            Reason::Implementation => 0x83,
            Reason::NotAuthorized => 0x87,
            Reason::TopicInvalid => 0x90,
            Reason::PacketIdInUse => 0x91,
            Reason::PacketTooLarge => 0x95,
            Reason::QuotaExceeded => 0x97,
            Reason::PayloadInvalid => 0x99,
        }
    }

    /// Whether the message itself is at fault, so that it may never be taken. The other refusals speak of rights,
    /// quotas and the broker, which an operator mends: then a message waits for as long as it takes.
    pub fn blames_message(self) -> bool {
        matches!(
            self,
            Reason::TopicInvalid | Reason::PacketTooLarge | Reason::PayloadInvalid
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Success => "delivered",
            Reason::NoSubscriber => "nobody subscribes to it",
            Reason::Unspecified => "the broker does not say why",
            Reason::Implementation => "the broker has a reason of its own",
            Reason::NotAuthorized => "we are not authorized to publish",
            Reason::TopicInvalid => "the broker does not accept the topic",
            Reason::PacketIdInUse => "the packet id is in use",
            Reason::PacketTooLarge => "the message is larger than the broker takes",
            Reason::QuotaExceeded => "a quota of the broker is used up",
            Reason::PayloadInvalid => "the broker does not accept the payload",
        })
    }
}
