//! What an embedder implements: the handler of a connection, and the service that makes handlers.

mod context;

pub use context::Context;
pub(crate) use context::{Attempt, Intent, LocalAddr, LoopOps};

use crate::closed::Closed;
use crate::time::TimerKey;
use std::io;
use std::net::SocketAddr;

/// The code of one side of one connection. The reactor calls it on its own thread, so it must not
/// block.
///
/// A callback that returns an error ends its connection with
/// [`Reason::HandlerError`](crate::Reason::HandlerError), one that panics with
/// [`Reason::Panic`](crate::Reason::Panic): at once, and output that is not sent yet is dropped. No
/// other connection is affected. A panic can be caught only with `panic = "unwind"`, Cargo's
/// default; with `panic = "abort"` it ends the process.
///
/// ```
/// use doorkeeper::{Context, Handler};
/// use std::io;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
///         Ok(cx.write(input))
///     }
/// }
/// ```
pub trait Handler: 'static {
    /// The connection is established. This is called once, before any other callback. It is not
    /// called for an outgoing connection that fails.
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// There is input. Returns how many bytes of it, from the front, are consumed.
    ///
    /// The rest is offered again, in front of new input, when new input arrives, when all output is
    /// sent, or when other code wakes this id. A complete request that is not consumed waits for one
    /// of these, so consume all you can. At most
    /// [`Config::input_max_bytes`](crate::Config::input_max_bytes) are held. At that limit the peer is
    /// not read any more, and neither its end nor a reset is seen until something is consumed.
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize>;

    /// The kernel took all output that this connection had written. Normally there is room for
    /// [`Config::output_max_bytes`](crate::Config::output_max_bytes) more now. [`Context::room`] is
    /// less if a timer of this connection, or another connection's [`send`](Context::send), wrote
    /// first.
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The peer ended its output (a FIN); it may still read. This is called once, after every byte
    /// was offered. Input that is still not consumed ([`Context::unread`]) is offered again on a
    /// drain or a wake, until [`finish`](Context::finish).
    ///
    /// The default calls `finish`, which sends what is written and takes no more. A handler whose
    /// answer comes later, from `on_drain`, from a timer or from another connection, must override
    /// this and call `finish` when the answer is complete.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    /// A timer that [`Context::set_timer`] set is due. It is removed before this call; set it again
    /// for another round.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        let _ = (cx, key);
        Ok(())
    }

    /// The connection is closed, or an outgoing connection failed. This is called exactly once, last,
    /// whatever happened.
    ///
    /// The context still reaches the rest of the loop (to close or wake another connection, to
    /// connect again, to stop). The connection itself is gone: a write takes 0 bytes and a timer is
    /// not set.
    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        let _ = (cx, closed);
    }
}

/// Makes a [`Handler`] for each connection that a listener accepts.
///
/// A closure `FnMut(SocketAddr) -> Option<impl Handler>` is a service.
pub trait Service: 'static {
    /// A connection from `peer` was accepted. With `None` it is closed at once.
    fn open(&mut self, peer: SocketAddr) -> Option<Box<dyn Handler>>;
}

impl<F, H> Service for F
where
    F: FnMut(SocketAddr) -> Option<H> + 'static,
    H: Handler,
{
    fn open(&mut self, peer: SocketAddr) -> Option<Box<dyn Handler>> {
        self(peer).map(|handler| Box::new(handler) as Box<dyn Handler>)
    }
}
