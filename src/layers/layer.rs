//! What an embedder implements.

use crate::handler::AsAny;
use std::io;

/// Translates between the *plain* bytes of a handler and the bytes on the *wire*. It makes no system
/// calls: it is given bytes, and appends bytes. See [`Context::add_layer`](crate::Context::add_layer)
/// and [`Layered`](crate::Layered).
///
/// An error or a panic of a method ends the connection with
/// [`Reason::HandlerError`](crate::Reason::HandlerError) or [`Reason::Panic`](crate::Reason::Panic). What
/// the layer wrote to the wire before an error, such as an alert, is still sent if the kernel takes it.
///
/// ```
/// use doorkeeper::Layer;
/// use std::io;
///
/// /// An example, and no encryption.
/// struct Xor(u8);
///
/// impl Layer for Xor {
///     fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
///         plain.extend(input.iter().map(|byte| byte ^ self.0));
///         Ok(input.len())
///     }
///
///     fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
///         wire.extend(plain.iter().map(|byte| byte ^ self.0));
///         Ok(())
///     }
/// }
/// ```
pub trait Layer: AsAny {
    /// Input from the wire. Appends what it says to `plain`, and what the layer itself answers to `wire`.
    /// Returns how many bytes of it, from the front, are consumed. The rest is offered again: at once after
    /// some were consumed, so one message a call is enough, and otherwise in front of new input; at most
    /// [`input_max_bytes`](crate::Config::input_max_bytes) may be left. Of its answers, at most
    /// [`output_hard_max_bytes`](crate::Config::output_hard_max_bytes) may wait for the socket, or
    /// `output_max_bytes` if that is more. More of either ends the connection as an error of the layer does.
    ///
    /// It is called once with what there is, perhaps nothing, when the layer is added: one side of a
    /// handshake begins here. A layer that can make much of few bytes, such as a decompressor, should
    /// append a bounded number of bytes and consume only what these are made of.
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<usize>;

    /// Output of the handler. Appends all of it to `wire`, in the form that it has there: nothing may stay
    /// behind, because the handler is told when it is sent.
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()>;

    /// This side's output ends ([`finish`](crate::Context::finish),
    /// [`half_close`](crate::Context::half_close)). Appends what says so; then follows the FIN. It is
    /// called once. What [`read`](Layer::read) answers later is thrown away.
    fn end(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        let _ = wire;
        Ok(())
    }

    /// The peer's FIN was read, and [`has_ended`](Layer::has_ended) is false. A layer that has an end of
    /// its own returns an error, because the input is cut short. It is not called if input is left, or
    /// while the layer is not open: both are errors anyway. Nor is it called after
    /// [`finish`](crate::Context::finish), when input is thrown away.
    fn on_eof(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// False while no output of the handler can be taken, as during a handshake. It waits meanwhile.
    fn is_open(&self) -> bool {
        true
    }

    /// True once the peer has ended its output by a message of this layer. [`read`](Layer::read) is not
    /// called any more. The handler is told once all layers have ended.
    fn has_ended(&self) -> bool {
        false
    }
}
