//! MQTT 3.1.1 of the hop that the chain is compared with: devices publish at QoS 1 and get PUBACKs, one subscriber
//! takes everything at QoS 0, the cheapest that mosquitto can do for them.

use super::Wire;

/// Bytes of a payload: device, number and filling; with topic and framing a packet has about 60.
const PAYLOAD_BYTES: usize = 40;

/// Publishers of a fleet.
#[derive(Debug)]
pub struct Mqtt;

impl Wire for Mqtt {
    fn hello(&self, device: u32, out: &mut Vec<u8>) {
        connect(&format!("d{device}"), out);
    }

    fn message(&self, device: u32, number: u32, out: &mut Vec<u8>) {
        let topic = format!("pos/{device:08}");
        let remaining = 2 + topic.len() + 2 + PAYLOAD_BYTES;
        // PUBLISH, QoS 1; a remaining length below 128 is one byte.
        out.extend_from_slice(&[0x32, remaining as u8, 0, topic.len() as u8]);
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&(number as u16).max(1).to_be_bytes());
        out.extend_from_slice(&device.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        out.resize(out.len() + PAYLOAD_BYTES - 8, 0x55);
    }

    /// Bytes: CONNACK and PUBACK have four each.
    fn answer_units(&self, bytes: &[u8]) -> u32 {
        bytes.len() as u32
    }

    fn units_an_answer(&self) -> u32 {
        4
    }
}

/// Appends a CONNECT with a clean session and no keep-alive.
pub fn connect(client_id: &str, out: &mut Vec<u8>) {
    let remaining = 10 + 2 + client_id.len();
    out.extend_from_slice(&[0x10, remaining as u8]);
    out.extend_from_slice(b"\0\x04MQTT\x04\x02\0\0");
    out.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
    out.extend_from_slice(client_id.as_bytes());
}

/// Appends a SUBSCRIBE to everything at QoS 0. Its answer has five bytes.
pub fn subscribe_all(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x82\x06\0\x01\0\x01#\0");
}

/// Takes the next PUBLISH of QoS 0 off the front of `bytes`: device, number and what is left.
pub fn next_message(bytes: &[u8]) -> Option<(u32, u32, &[u8])> {
    let [_, remaining, rest @ ..] = bytes else {
        return None;
    };
    let (packet, rest) = rest.split_at_checked(usize::from(*remaining))?;
    let payload = packet.get(packet.len().checked_sub(PAYLOAD_BYTES)?..)?;
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| payload[at + i]));
    Some((word(0), word(4), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_from_what_the_broker_passes_on() {
        let mut out = Vec::new();
        Mqtt.message(77, 5, &mut out);
        assert_eq!(out.len(), 2 + usize::from(out[1]));
        // At QoS 0 the broker leaves the packet id out.
        let mut passed_on = vec![0x30, out[1] - 2];
        passed_on.extend_from_slice(&out[2..16]);
        passed_on.extend_from_slice(&out[18..]);
        passed_on.push(0x30);
        assert_eq!(next_message(&passed_on), Some((77, 5, &[0x30][..])));
        assert_eq!(next_message(&passed_on[..20]), None);
    }
}
