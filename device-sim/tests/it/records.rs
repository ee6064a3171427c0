//! A server of Teltonika for the fleet to talk to, over TCP and UDP, with faults.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use device_sim::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Takes everybody's records. Each record is known by its IMEI and time.
#[derive(Clone, Default)]
pub struct Recorder {
    /// What was answered in full.
    pub taken: Arc<Mutex<HashSet<(String, u64)>>>,
    /// One packet in this many is not answered, one is answered with one record too few, and over TCP one ends the
    /// connection; 0: none.
    pub fault_one_in: usize,
}

impl Recorder {
    /// Listens on two free ports, for connections and for datagrams.
    pub async fn listen(self, seed: u64) -> (SocketAddr, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addresses = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        tokio::spawn(self.clone().answer_datagrams(socket, Random::new(seed)));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let random = Random::part(seed, connection);
                tokio::spawn(self.clone().serve(stream, random));
            }
        });
        addresses
    }

    /// Serves a connection until it ends, which the read tells by an error.
    async fn serve(self, mut stream: TcpStream, mut random: Random) -> std::io::Result<()> {
        let mut login = [0; 17];
        stream.read_exact(&mut login).await?;
        let imei = String::from_utf8(login[2..].to_vec()).unwrap();
        stream.write_all(&[1]).await?;
        loop {
            let first = stream.read_u8().await?;
            if first == 0xff {
                continue;
            }
            assert_eq!(first, 0);
            let mut rest = [0; 7];
            stream.read_exact(&mut rest).await?;
            let length = u32::from_be_bytes(rest[3..].try_into().unwrap());
            let mut data = vec![0; length as usize + 4];
            stream.read_exact(&mut data).await?;
            let count = u32::from(data[1]);
            match self.fault(&mut random) {
                Some(0) => {}
                Some(1) => stream.write_u32(count - 1).await?,
                Some(_) => return Ok(()),
                None => {
                    self.take(&imei, &data[..length as usize]);
                    stream.write_u32(count).await?;
                }
            }
        }
    }

    async fn answer_datagrams(self, socket: UdpSocket, mut random: Random) {
        let mut room = [0; 2048];
        loop {
            let (bytes, from) = socket.recv_from(&mut room).await.unwrap();
            let datagram = &room[..bytes];
            let length = u16::from_be_bytes([datagram[0], datagram[1]]);
            assert_eq!(bytes, usize::from(length) + 2, "one message each");
            let imei = std::str::from_utf8(&datagram[8..23]).unwrap();
            let mut answer = [0, 5, datagram[2], datagram[3], 1, datagram[5], datagram[24]];
            match self.fault(&mut random) {
                Some(1) => answer[6] -= 1,
                Some(_) => continue,
                None => self.take(imei, &datagram[23..]),
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    fn fault(&self, random: &mut Random) -> Option<usize> {
        let faulty = self.fault_one_in > 0 && random.one_in(self.fault_one_in);
        faulty.then(|| random.below(3))
    }

    /// Takes the records of codec, count, records, count.
    fn take(&self, imei: &str, data: &[u8]) {
        let extended = data[0] == 0x8e;
        let mut at = 2;
        for _ in 0..data[1] {
            let time = u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
            self.taken.lock().unwrap().insert((imei.into(), time));
            at += record_bytes(&data[at..], extended);
        }
        assert_eq!(data[at..], data[1..2], "the count again");
    }
}

/// Length of the first record.
fn record_bytes(record: &[u8], extended: bool) -> usize {
    let width = 1 + usize::from(extended);
    let count = |at: usize| usize::from(record[at + width - 1]);
    // Event and total count of elements.
    let mut at = 24 + 2 * width;
    for size in [1, 2, 4, 8] {
        at += width + count(at) * (width + size);
    }
    if extended {
        let elements = count(at);
        at += width;
        for _ in 0..elements {
            at += 4 + count(at + 2);
        }
    }
    at
}
