//! Why TLS with a device came to nothing, as counters and operators name it (pure).

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a connection ended by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device speaks something else.
    PlainText,
    /// No version, cipher or key exchange in common.
    Incompatible,
    /// It showed no certificate, and has to.
    NoCertificate,
    /// None of our authorities signed its certificate.
    UnknownAuthority,
    /// Its certificate is not valid any more, or not yet.
    Expired,
    /// Its certificate is wrong in another way.
    Certificate,
    /// It reports for another device than its certificate names, or that names none.
    Identity,
    /// It says that it goes no further, such as with our certificate.
    Alert(AlertDescription),
    /// What it sent breaks the rules of TLS, or was changed on the way.
    Broken,
    /// Its part of the handshake is longer than one can be.
    TooLong,
    /// It did not finish the handshake in time.
    Late,
    /// It left in the middle of the handshake.
    Left,
}

impl Failure {
    /// From what the TLS library says; `first`: of the first thing that a device sent.
    pub fn of(error: &Error, first: bool) -> Failure {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) if first => Failure::PlainText,
            Error::NoCertificatesPresented => Failure::NoCertificate,
            Error::PeerIncompatible(
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
            ) => Failure::Certificate,
            Error::PeerIncompatible(_) => Failure::Incompatible,
            Error::InvalidCertificate(wrong) => match wrong {
                // An authority that was made anew under its old name is another one: its name fits, its key does not.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Failure::UnknownAuthority
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Failure::Expired,
                _ => Failure::Certificate,
            },
            Error::AlertReceived(alert) => Failure::Alert(*alert),
            _ => Failure::Broken,
        }
    }

    /// Whether it is held against where the connection came from, as rubbish is: a handshake is the dearest thing that a
    /// stranger can ask for. Who only left, or was cut off or slow, asked for nothing.
    pub fn is_offence(self) -> bool {
        !matches!(self, Failure::Late | Failure::Left)
    }

    /// For an operator: what it is, and what can be done.
    pub fn words(self) -> &'static str {
        match self {
            Failure::PlainText => {
                "plain text on a TLS port: the device is not set to TLS, or belongs on another port"
            }
            Failure::Incompatible => {
                "no version or cipher in common: TLS 1.3, or TLS 1.2 with ECDHE, is needed"
            }
            Failure::NoCertificate => "the device shows no certificate, and client = \"required\"",
            Failure::UnknownAuthority => {
                "the device's certificate is signed by none of client_authorities"
            }
            Failure::Expired => "the device's certificate has expired or is not valid yet",
            Failure::Certificate => {
                "the device's certificate is not one for a client, or not in order"
            }
            Failure::Identity => "the device's id is not the common name of its certificate",
            Failure::Alert(AlertDescription::UnknownCA) => {
                "the device does not know who signed our certificate: give it the authority, or add the chain"
            }
            Failure::Alert(AlertDescription::CertificateExpired) => {
                "the device finds our certificate expired: renew it, or set the device's clock"
            }
            Failure::Alert(_) => {
                "the device refuses to go on, most often because of our certificate"
            }
            Failure::Broken => "what the device sent breaks the rules of TLS",
            Failure::TooLong => "the device's part of the handshake has no end",
            Failure::Late => "the handshake did not end in time",
            Failure::Left => "the device left in the middle of the handshake",
        }
    }
}
