//! The process of a delegate: its start, what it is given, and what it writes.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The longest output of a delegate, in octets on each stream. A result has some hundred.
const MAX_OUTPUT: usize = 1 << 20;

/// A process that waits for its stdin. If it is dropped before it has ended, it is killed: it must
/// not go on while another call undoes what it does.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Spawns the process, with a pipe for each of its standard streams.
    pub(super) fn start(command: &mut Command) -> io::Result<Process> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        retry_while_busy(|| command.spawn(), thread::sleep).map(Process)
    }

    /// Writes its stdin, and reads its output until it exits.
    pub(super) fn finish(mut self, stdin: &[u8]) -> io::Result<Output> {
        /// Every pipe buffers at least a page, so writing this much never blocks.
        const MIN_PIPE_CAPACITY: usize = 4096;
        let pipe = self.0.stdin.take();
        // A delegate that does not read its stdin (EPIPE) may still give a valid answer.
        let write = move || {
            let _ = pipe.map(|mut pipe| pipe.write_all(stdin));
        };
        thread::scope(|scope| {
            // Writing more can block until the delegate reads, which may itself wait until its
            // output is read.
            match stdin.len() {
                ..=MIN_PIPE_CAPACITY => write(),
                _ => drop(thread::Builder::new().spawn_scoped(scope, write)?),
            }
            // On failure the process must end before the scope does, which waits for the thread.
            read_output(&mut self.0).inspect_err(|_| self.kill())
        })
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Spawns a process, and tries again for some seconds if the executable is busy (ETXTBSY). It is
/// while an upgrade replaces the plugin.
fn retry_while_busy<T>(
    mut spawn: impl FnMut() -> io::Result<T>,
    sleep: impl Fn(Duration),
) -> io::Result<T> {
    /// Each pause is twice as long as the one before, so these add up to five seconds. Copying a
    /// plugin to a slow disk takes less.
    const MAX_RETRIES: u32 = 9;
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    let mut pauses = (0..MAX_RETRIES).map(|n| FIRST_PAUSE * (1 << n));
    loop {
        match spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => match pauses.next() {
                Some(pause) => sleep(pause),
                None => return Err(error),
            },
            other => return other,
        }
    }
}

/// Reads both streams until the delegate has closed them, and waits for its end. (The standard
/// library's `wait_with_output` panics if they cannot be read, and reads without a limit.)
fn read_output(child: &mut Child) -> io::Result<Output> {
    let mut streams = [
        Stream::new("stdout", child.stdout.take().map(OwnedFd::from)),
        Stream::new("stderr", child.stderr.take().map(OwnedFd::from)),
    ];
    while streams.iter().any(|stream| stream.pipe.is_some()) {
        for index in readable(&streams)? {
            streams[index].read()?;
        }
    }
    let [stdout, stderr] = streams.map(|stream| stream.octets);
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr,
    })
}

/// A stream of the delegate's: `pipe` until its end, and what was read from it.
struct Stream {
    name: &'static str,
    pipe: Option<File>,
    octets: Vec<u8>,
}

impl Stream {
    fn new(name: &'static str, pipe: Option<OwnedFd>) -> Stream {
        Stream {
            name,
            pipe: pipe.map(File::from),
            octets: Vec::new(),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.octets.extend(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if self.octets.len() > MAX_OUTPUT {
            let problem = format!("it wrote more than {MAX_OUTPUT} octets to {}", self.name);
            return Err(io::Error::other(problem));
        }
        Ok(())
    }
}

/// Waits until a stream can be read without blocking, or is at its end; returns which.
fn readable(streams: &[Stream]) -> io::Result<Vec<usize>> {
    let open = streams.iter().enumerate().filter_map(|(index, stream)| {
        let pipe = stream.pipe.as_ref()?;
        Some((index, PollFd::new(pipe.as_fd(), PollFlags::POLLIN)))
    });
    let (indices, mut watched): (Vec<usize>, Vec<PollFd<'_>>) = open.unzip();
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready = indices.into_iter().zip(watched);
    let ready = ready.filter(|(_, fd)| fd.any() == Some(true));
    Ok(ready.map(|(index, _)| index).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_busy_executable_is_retried_for_five_seconds_and_other_errors_are_not() {
        let busy = || io::Error::from(ErrorKind::ExecutableFileBusy);
        let slept = RefCell::new(Vec::new());
        let sleep = |pause| slept.borrow_mut().push(pause);

        let mut answers = vec![Ok("ran"), Err(busy()), Err(busy())];
        assert_eq!(
            retry_while_busy(|| answers.pop().unwrap(), sleep).unwrap(),
            "ran"
        );
        assert_eq!(
            slept.take(),
            [Duration::from_millis(10), Duration::from_millis(20)]
        );

        assert!(retry_while_busy(|| Err::<(), _>(busy()), sleep).is_err());
        let total: Duration = slept.take().iter().sum();
        assert!(
            total > Duration::from_secs(5) && total < Duration::from_secs(6),
            "{total:?}"
        );

        assert!(retry_while_busy(|| Err::<(), _>(ErrorKind::NotFound.into()), sleep).is_err());
        assert_eq!(slept.take(), []);
    }
}
