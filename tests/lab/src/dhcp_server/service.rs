use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Packet, Shared, packet,
    pool::{Answer, answer_of},
    socket::Socket,
};
use crate::Result;

/// The server's thread: receives, consults the rules and the pool, answers now or later.
pub(super) struct Service {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    /// Readable (end of file) once the server has been dropped.
    alive: UnixStream,
    late: Vec<Late>,
}

/// A frame to be sent at its time.
struct Late {
    at: Instant,
    frame: Vec<u8>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, socket: Arc<Socket>, alive: UnixStream) -> Service {
        Service {
            shared,
            socket,
            alive,
            late: Vec::new(),
        }
    }

    /// Serves until the server is dropped. A system error is printed and ends the service.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            eprintln!("the DHCP server stops: {error:#}");
        }
    }

    fn serve(&mut self) -> Result {
        while self.wait()? {
            while let Some(frame) = self.socket.recv()? {
                if let Some(packet) = Packet::parse(frame).filter(Packet::is_for_a_server) {
                    self.handle(packet)?;
                }
            }
            self.send_due()?;
        }
        Ok(())
    }

    /// Waits for a frame or the time of a late answer. False when the server has been dropped.
    fn wait(&self) -> Result<bool> {
        let timeout = self
            .late
            .iter()
            .map(|late| late.at)
            .min()
            .map_or(PollTimeout::NONE, |at| {
                // Rounded up: poll counts in milliseconds, and waking early would be waking twice.
                let wait =
                    at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            });
        let mut ready = [&self.socket.as_fd(), &self.alive.as_fd()]
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
        match poll(&mut ready, timeout) {
            Ok(_) => Ok(ready[1].any() != Some(true)),
            Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn handle(&mut self, packet: Packet) -> Result {
        let mut state = self.shared.lock();
        let answer = match &packet.message {
            Ok(message) if !packet.is_martian() && packet.is_for_station(self.socket.mac()) => {
                let reaction = state.react(&packet).unwrap_or_default();
                let now = packet.at;
                answer_of(&reaction, &mut state.pool, message, now).map(|answer| (answer, reaction))
            }
            // A server without packet sockets would not have been given it, or would not have
            // understood it.
            _ => None,
        };
        if let Some((answer, reaction)) = answer {
            let frame = self.frame(&packet, answer, &reaction, state.pool.settings.address)?;
            let at = packet.at + reaction.delay();
            for _ in 0..reaction.copy_count() {
                if reaction.delay().is_zero() {
                    state.transmit(&self.socket, frame.clone())?;
                } else {
                    self.late.push(Late {
                        at,
                        frame: frame.clone(),
                    });
                }
            }
        }
        state.received.push(packet);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn frame(
        &self,
        request: &Packet,
        answer: Answer,
        reaction: &super::Reaction,
        from: std::net::Ipv4Addr,
    ) -> Result<Vec<u8>> {
        let (ethernet, address) = answer.destination(request.ethernet_source);
        let payload = reaction.payload(answer.message)?;
        let frame = packet::frame((self.socket.mac(), ethernet), (from, address), &payload)?;
        Ok(reaction.frame(frame))
    }

    fn send_due(&mut self) -> Result {
        let now = Instant::now();
        for late in self.late.extract_if(.., |late| late.at <= now) {
            self.shared.lock().transmit(&self.socket, late.frame)?;
        }
        Ok(())
    }
}
