//! Who answers for which address: asks by ARP all the time, and notes each answer.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockProtocol, send},
};

use crate::{Node, Result, packet_socket};

/// How often all addresses are asked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// The offsets of the fields in a frame with an ARP packet (RFC 826).
const ETHERTYPE: usize = 12;
const OPERATION: usize = 20;
const SENDER_MAC: usize = 22;
const SENDER: usize = 28;
const TARGET_MAC: usize = 32;

/// A thread that asks for addresses. It stops when this is dropped.
#[derive(Debug)]
pub struct ArpWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Answer>>>>,
}

/// A station has answered that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked, at the earliest. The station had the address after that.
    pub asked: Instant,
    /// The address.
    pub address: Ipv4Addr,
    /// The station's hardware address.
    pub mac: [u8; 6],
}

impl ArpWatch {
    /// Asks for each of these addresses on `node`'s link, every few milliseconds.
    ///
    /// # Errors
    /// When the node has no such link or packet sockets are not allowed there.
    pub fn start(node: &Node, link: &str, addresses: Vec<Ipv4Addr>) -> Result<ArpWatch> {
        let (socket, _) = node.run(|| packet_socket::open(link, SockProtocol::EthAll))??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            let (mut rounds, mut answers) = (Vec::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                ask(&socket, &addresses, &mut rounds)?;
                listen(&socket, &rounds, &mut answers)?;
            }
            Ok(answers)
        };
        let thread = thread::Builder::new()
            .name("arp-watch".to_owned())
            .spawn(watch)
            .context("start a thread")?;
        Ok(ArpWatch {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops, and returns all answers in order.
    ///
    /// # Errors
    /// When the thread has failed.
    pub fn finish(mut self) -> Result<Vec<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a watch ends once")?;
        thread
            .join()
            .map_err(|_| anyhow!("the ARP watch panicked"))?
    }
}

impl Drop for ArpWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks for each address once.
fn ask(socket: &OwnedFd, addresses: &[Ipv4Addr], rounds: &mut Vec<Instant>) -> Result {
    let round = rounds.len();
    rounds.push(Instant::now());
    for address in addresses {
        let question = question(round, *address);
        match send(socket.as_raw_fd(), &question, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno).context("send an ARP request"),
        }
    }
    Ok(())
}

/// Notes what is answered within the interval. An answer names the round of its question, however
/// late it comes.
fn listen(socket: &OwnedFd, rounds: &[Instant], answers: &mut Vec<Answer>) -> Result {
    let began = Instant::now();
    while let Some(left) = INTERVAL.checked_sub(began.elapsed()) {
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Some(frame) = packet_socket::receive(socket)? {
            answers.extend(answer(&frame, rounds));
        }
    }
    Ok(())
}

/// The hardware address that the questions of a round come from. A station repeats it in its
/// answer.
fn asker(round: usize) -> [u8; 6] {
    let mut mac = [2, 0xa9, 0, 0, 0, 0];
    mac[2..].copy_from_slice(&(round as u32).to_be_bytes());
    mac
}

/// A broadcast question that claims no address (an ARP probe of RFC 5227).
fn question(round: usize, address: Ipv4Addr) -> Vec<u8> {
    let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let asker = asker(round);
    let mut frame = [&[0xff; 6][..], &asker, &head, &asker, &[0; 10]].concat();
    frame.extend(address.octets());
    frame
}

/// The answer in a frame, if it is one to a question of ours.
fn answer(frame: &[u8], rounds: &[Instant]) -> Option<Answer> {
    let is_arp = frame.get(ETHERTYPE..)?.starts_with(&[8, 6]);
    let is_answer = frame.get(OPERATION..SENDER_MAC)? == [0, 2];
    let mac: &[u8; 6] = frame.get(SENDER_MAC..SENDER)?.first_chunk()?;
    let sender: &[u8; 4] = frame.get(SENDER..TARGET_MAC)?.first_chunk()?;
    let asker: &[u8; 6] = frame.get(TARGET_MAC..)?.first_chunk()?;
    let [2, 0xa9, a, b, c, d] = *asker else {
        return None;
    };
    let round = u32::from_be_bytes([a, b, c, d]) as usize;
    (is_arp && is_answer).then_some(())?;
    Some(Answer {
        asked: *rounds.get(round)?,
        address: (*sender).into(),
        mac: *mac,
    })
}
