//! A writer for log lines that neither blocks nor fails: a line that cannot be written is dropped
//! and counted.
//!
//! The daemon shares stderr with other processes, so it does not set O_NONBLOCK on it: the flag
//! would apply to their writes too. A pipe or a terminal is opened once more instead, with that
//! flag, and a socket is written to with MSG_DONTWAIT. Writing to a regular file waits for nothing
//! but the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::SystemTime;

use cni::printable;
use rustix::fs::OFlags;
use rustix::net::SendFlags;

/// Writes log lines. Each call of [`Write::write`] is one line.
#[derive(Debug)]
pub(super) struct LogWriter {
    sink: Sink,
    /// The rest of a line that was written in part. It must precede the next line.
    rest: Vec<u8>,
    /// How many lines were dropped since one was written.
    dropped: u64,
}

#[derive(Debug)]
enum Sink {
    /// A regular file, or a pipe or terminal that was opened for us, non-blocking.
    File(File),
    Socket(OwnedFd),
}

impl LogWriter {
    /// A writer for this file, which is duplicated or opened again.
    ///
    /// # Errors
    /// If no descriptor is available.
    pub(super) fn to(file: OwnedFd) -> io::Result<LogWriter> {
        let file = File::from(file);
        let kind = file.metadata()?.file_type();
        let sink = if kind.is_socket() {
            Sink::Socket(file.into())
        } else if kind.is_fifo() || kind.is_char_device() {
            Sink::File(reopen(&file).unwrap_or(file))
        } else {
            Sink::File(file)
        };
        Ok(LogWriter {
            sink,
            rest: Vec::new(),
            dropped: 0,
        })
    }

    /// Writes a line, after what must precede it.
    ///
    /// # Errors
    /// If nothing of the line was written.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_rest()?;
        if self.dropped == 0 {
            return self.write_at_least_a_part(line);
        }
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        let notice = format!("{now}  WARN {} log lines were dropped\n", self.dropped);
        self.write_at_least_a_part(&[notice.as_bytes(), line].concat())?;
        self.dropped = 0;
        Ok(())
    }

    /// Writes this text, and keeps the rest for later if only a part of it fits.
    fn write_at_least_a_part(&mut self, text: &[u8]) -> io::Result<()> {
        let written = self.sink.write(text)?;
        self.rest = text[written..].to_vec();
        // What does not fit now precedes the next line.
        let _ = self.write_rest();
        Ok(())
    }

    /// Writes the rest of an earlier line.
    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let written = self.sink.write(&self.rest)?;
            self.rest.drain(..written);
        }
        Ok(())
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_line(printable_line(line).as_bytes()).is_err() {
            self.dropped += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Writes some of the text, at least one octet.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let written = loop {
            let written = match self {
                Sink::File(file) => file.write(text),
                Sink::Socket(socket) => rustix::net::send(socket, text, flags).map_err(Into::into),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(written)
    }
}

/// The line with everything escaped that could make it look like more than one.
fn printable_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("{}\n", printable(text.strip_suffix('\n').unwrap_or(&text)))
}

/// Opens a pipe or a terminal again, for non-blocking writes.
fn reopen(file: &File) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .append(true)
        .custom_flags(flags.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn to_pipe() -> (PipeReader, LogWriter) {
        let (reader, writer) = pipe().expect("a pipe");
        (reader, LogWriter::to(writer.into()).expect("a writer"))
    }

    /// Writes numbered lines until one is dropped.
    fn fill(writer: &mut LogWriter) -> String {
        let mut written = String::new();
        for number in 0.. {
            let line = format!("line {number}{}\n", " and more".repeat(20));
            writer.write_all(line.as_bytes()).expect("it never fails");
            if writer.dropped > 0 {
                break;
            }
            written += &line;
        }
        written
    }

    #[test]
    fn lines_that_a_reader_does_not_take_are_dropped_and_counted_once_it_reads_again() {
        let (mut reader, mut writer) = to_pipe();
        let expected = fill(&mut writer);
        writer.write_all(&[b'x'; 1000]).expect("it never fails");
        let mut buffer = vec![0; expected.len()];
        reader.read_exact(&mut buffer).expect("what was written");
        assert_eq!(String::from_utf8_lossy(&buffer), expected);

        writer
            .write_all(b"the last line\n")
            .expect("it never fails");
        drop(writer);
        let mut after = String::new();
        reader.read_to_string(&mut after).expect("text");
        assert!(
            after.contains(" WARN 2 log lines were dropped\n"),
            "{after}"
        );
        assert!(after.ends_with("\nthe last line\n"), "{after}");
    }

    #[test]
    fn a_line_stays_one_line_and_controls_no_terminal() {
        let (mut reader, mut writer) = to_pipe();
        writer
            .write_all(b"verb \x1b[2J\n2026 ERROR forged \xff\xe2\x80\xae\n")
            .expect("it never fails");
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        let shown = "verb \\u{1b}[2J\\n2026 ERROR forged \u{fffd}\\u{202e}\n";
        assert_eq!(read, shown);
    }

    #[test]
    fn a_long_line_that_fits_in_part_is_continued_before_the_next() {
        let (mut reader, mut writer) = to_pipe();
        let long = "x".repeat(200_000) + "\n";
        writer.write_all(long.as_bytes()).expect("it never fails");
        writer.write_all(b"lost\n").expect("it never fails");
        let mut read = vec![0; long.len()];
        let mut at = 0;
        while at < long.len() {
            at += reader.read(&mut read[at..]).expect("more of the line");
            writer.write_all(b"next\n").expect("it never fails");
        }
        assert!(read == long.as_bytes(), "the line is whole");
    }

    #[test]
    fn a_closed_pipe_and_a_full_disk_cost_only_lines() {
        let (reader, mut writer) = to_pipe();
        drop(reader);
        writer.write_all(b"lost\n").expect("it never fails");
        assert_eq!(writer.dropped, 1);

        let full = OpenOptions::new().write(true).open("/dev/full");
        let mut writer = LogWriter::to(full.expect("a device").into()).expect("a writer");
        writer.write_all(b"lost\n").expect("it never fails");
        assert_eq!(writer.dropped, 1);
    }

    #[test]
    fn a_socket_that_is_not_read_from_costs_only_lines() {
        let (_reader, socket) = UnixStream::pair().expect("sockets");
        fill(&mut LogWriter::to(socket.into()).expect("a writer"));
    }

    #[test]
    fn the_pipe_of_others_stays_blocking() {
        let (_reader, pipe) = pipe().expect("a pipe");
        let theirs = pipe.try_clone().expect("a descriptor");
        let _writer = LogWriter::to(pipe.into()).expect("a writer");
        let flags = rustix::fs::fcntl_getfl(&theirs).expect("flags");
        assert!(!flags.contains(OFlags::NONBLOCK));
    }
}
