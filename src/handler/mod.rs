//! What an embedder implements: the handler of a connection, and the service that makes handlers.

mod context;
mod others;

pub use context::Context;
pub use others::{Arrival, Others};
pub(crate) use others::{Attempt, Intent, LocalAddr, LoopOps};

use crate::closed::Closed;
use crate::time::TimerKey;
use std::any::Any;
use std::io;

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
pub trait Handler: AsAny {
    /// The connection is established. This is called once, before any other callback. It is not
    /// called for an outgoing connection that fails. What other code [sent](Others::send) before takes
    /// room, and leaves first.
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
    /// less if a timer of this connection, or another connection's [`send`](Others::send), wrote
    /// first.
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The peer ended its output (a FIN); it may still read. This is called once, after every byte
    /// was offered. Input that is still not consumed ([`Context::unread`]) is offered again on a
    /// drain or a wake, until [`finish`](Context::finish).
    ///
    /// The default calls [`finish_when_quiet`](Context::finish_when_quiet), so an answer that is streamed
    /// from `on_drain`, or that a timer writes, is still sent whole. A handler whose answer comes from
    /// another connection or another thread must override this and call `finish` when the answer is
    /// complete.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish_when_quiet();
        Ok(())
    }

    /// Other code called [`wake`](Others::wake) with the id of this connection. Several wakes make one
    /// call. Unconsumed input is offered after it.
    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// A timer that [`Context::set_timer`] set is due. It is removed before this call; set it again
    /// for another round.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        let _ = (cx, key);
        Ok(())
    }

    /// The loop shuts down ([`Reactor::shutdown`](crate::Reactor::shutdown)), and waits for this
    /// connection as long as its patience lasts. This is called once, after all input that has arrived
    /// was read and offered; for a connection that is accepted or established later, too. It is not
    /// called after [`finish`](Context::finish), and not while the peer is not read because of a limit.
    ///
    /// The default does nothing. A handler that waits for a next request should call
    /// [`finish_when_quiet`](Context::finish_when_quiet), for which half a request counts as under way.
    /// One whose answers come from elsewhere can ask
    /// [`is_shutting_down`](Context::is_shutting_down) when it has answered, and call `finish`.
    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The connection is closed, or an outgoing connection failed. This is called exactly once, last,
    /// whatever happened.
    ///
    /// The connection itself is gone, and its id names nothing. `others` reaches everything else: to
    /// close or wake another connection, to connect again, to stop.
    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let _ = (others, closed);
    }
}

/// The type of a handler that is known only as `dyn Handler`. Every type has it.
pub trait AsAny: 'static {
    #[doc(hidden)]
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: 'static> AsAny for T {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// A handler in a box. One that is in a box already is not boxed again.
pub(crate) fn boxed<H: Handler>(mut handler: H) -> Box<dyn Handler> {
    let any: &mut dyn Any = &mut handler;
    match any.downcast_mut::<Box<dyn Handler>>() {
        Some(boxed) => std::mem::replace(boxed, Box::new(Nobody)),
        None => Box::new(handler),
    }
}

/// What stands in the place of a handler that was taken out. It takes no memory.
struct Nobody;

impl Handler for Nobody {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// A handler that was chosen at run time.
impl<H: Handler + ?Sized> Handler for Box<H> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (**self).on_open(cx)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        (**self).on_data(cx, input)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (**self).on_drain(cx)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (**self).on_eof(cx)
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (**self).on_wake(cx)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        (**self).on_timer(cx, key)
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (**self).on_shutdown(cx)
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        (**self).on_close(others, closed);
    }
}

/// What makes a handler for each connection that a listener accepts. With `None` the connection is
/// closed at once.
pub(crate) type Service = Box<dyn FnMut(&mut Arrival<'_>) -> Option<Box<dyn Handler>>>;
