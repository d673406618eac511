//! A handler that begins with a layer.

use super::layer::Layer;
use crate::closed::Closed;
use crate::handler::{Context, Handler, Others, boxed};
use std::fmt;
use std::io;

/// Wraps any handler in a [`Layer`], from the first byte of the connection on: it adds the layer
/// ([`Context::add_layer`]) and gives the connection to the handler
/// ([`Context::become_handler`]). A handler that is wrapped twice has two layers; the outer one is next to
/// the socket.
pub struct Layered {
    /// Both are gone once the connection is established.
    parts: Option<(Box<dyn Layer>, Box<dyn Handler>)>,
    /// It took over from another handler, whose output leaves as it is.
    takes_over: bool,
}

impl Layered {
    /// A handler that has its connection through a layer.
    pub fn new(layer: impl Layer, handler: impl Handler) -> Layered {
        let layer: Box<dyn Layer> = Box::new(layer);
        let parts = Some((layer, boxed(handler)));
        Layered {
            parts,
            takes_over: false,
        }
    }

    /// It follows another handler.
    pub(crate) fn take_over(&mut self) {
        self.takes_over = true;
    }

    /// The handler inside, while the connection is not established.
    pub(crate) fn handler(&mut self) -> Option<&mut dyn Handler> {
        self.parts.as_mut().map(|(_, handler)| &mut **handler)
    }
}

impl Handler for Layered {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.takes_over {
            cx.check_layer()?;
        }
        let mut parts = self.parts.take();
        // All at once, because nothing leaves between them.
        while let Some((layer, mut handler)) = parts {
            cx.add_boxed_layer(layer, !self.takes_over);
            let inside = (*handler).as_any().downcast_mut::<Layered>();
            parts = inside.and_then(|inside| inside.parts.take());
            if parts.is_none() {
                cx.become_handler(handler);
            }
        }
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        if let Some((_, mut handler)) = self.parts.take() {
            handler.on_close(others, closed);
        }
    }
}

impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}
