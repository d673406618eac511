//! Finding whole messages in a stream of bytes, without I/O.
//!
//! TCP carries bytes, not messages: one read brings half a message, or several. A decoder looks at the input that a handler has
//! not consumed yet, and answers with a frame, with the number of bytes that it needs at least, or with what is wrong:
//!
//! | decoder | a frame is |
//! |---|---|
//! | [`Lines`] | the bytes before an LF or a CR LF |
//! | [`Delimited`] | the bytes before a delimiter of any bytes |
//! | [`LengthPrefixed`] | the bytes after a [`Prefix`] that counts them: 1, 2, 4 or 8 bytes in either order, or a varint |
//!
//! # Example
//! A server that answers each line with the same line in capital letters:
//!
//! ```
//! use doorkeeper::frame::{Decoded, Lines};
//! use doorkeeper::{Config, Context, Handler, Reactor};
//! use std::io;
//!
//! const LINE_MAX: usize = 512;
//!
//! struct Capitals {
//!     lines: Lines,
//! }
//!
//! impl Handler for Capitals {
//!     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
//!         let mut consumed = 0;
//!         // A line is consumed only while there is room for its answer: a peer that does not read is not read.
//!         while cx.room() > LINE_MAX {
//!             let Decoded::Frame { payload, size } = self.lines.decode(&input[consumed..])? else {
//!                 break;
//!             };
//!             cx.write(&payload.to_ascii_uppercase());
//!             cx.write(b"\n");
//!             consumed += size;
//!         }
//!         Ok(consumed)
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! let mut reactor = Reactor::new(Config::default())?;
//! let id = reactor.listen("127.0.0.1:0".parse().unwrap(), |_| {
//!     Some(Capitals { lines: Lines::new(LINE_MAX) })
//! })?;
//! # use std::io::{Read, Write};
//! # let (address, handle) = (reactor.local_addr(id)?, reactor.handle());
//! # let client = std::thread::spawn(move || -> io::Result<Vec<u8>> {
//! #     let talk = || {
//! #         let mut stream = std::net::TcpStream::connect(address)?;
//! #         let (mut first, mut rest) = ([0; 4], Vec::new());
//! #         stream.write_all(b"one\r\ntw")?;
//! #         stream.read_exact(&mut first)?;
//! #         stream.write_all(b"o\n")?;
//! #         stream.shutdown(std::net::Shutdown::Write)?;
//! #         stream.read_to_end(&mut rest)?;
//! #         Ok([&first[..], &rest].concat())
//! #     };
//! #     let answer = talk();
//! #     handle.stop();
//! #     answer
//! # });
//! reactor.run()?;
//! # assert_eq!(client.join().unwrap()?, b"ONE\nTWO\n");
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//! The input of each call begins with the first byte that is not consumed. After [`Decoded::Frame`], the handler consumes `size`
//! bytes, or offers the frame again later. After [`Decoded::Want`], it consumes nothing and offers the same bytes and more:
//! [`Lines`] and [`Delimited`] remember how much of them they have searched, so a frame that arrives in n pieces is searched
//! once, not n times. A handler that consumes such bytes all the same, or continues after an error, makes a new decoder.
//!
//! Input for which a decoder still wants more when the peer has ended is part of a frame, not a frame.
//! [`Context::unread`](crate::Context::unread) in `on_eof` says how much there is.
//!
//! # Limits
//! Every decoder has a maximum, in bytes of payload; neither ending nor prefix counts. A frame of exactly the maximum is a frame.
//! A longer one is an error as soon as the input shows it, and no decoder wants more than the maximum and the ending or prefix.
//! With a maximum of 0 there are only empty frames.
//!
//! Set [`Config::input_max_bytes`](crate::Config::input_max_bytes) to at least the maximum and the ending or prefix: 2 bytes for
//! lines, the delimiter's length, up to 10 bytes for a prefix. With less, the longest frames are never offered whole, and their
//! connection makes no progress.
//!
//! # Errors
//! An [`Error`] converts to an [`io::Error`](std::io::Error) of kind [`InvalidData`](std::io::ErrorKind::InvalidData), so that
//! `?` in a callback ends the connection, and drops the output not yet sent. A handler that wants to answer first
//! matches the error, writes, calls [`finish`](crate::Context::finish) and consumes all input.
//!
//! No decoder panics or allocates, whatever the input; only the conversion to `io::Error` allocates.

mod decoded;
mod delimiter;
mod error;
mod length;
mod lines;

pub use decoded::Decoded;
pub use delimiter::Delimited;
pub use error::Error;
pub use length::{LengthPrefixed, Prefix};
pub use lines::Lines;
