//! A connection with layers: how it gets them, and its turn.

use super::Reactor;
use super::sources::{Connection, Source};
use crate::closed::{End, Reason};
use crate::config::Config;
use crate::errno::failure;
use crate::guard::discard;
use crate::handler::{Context, Others};
use crate::id::Id;
use crate::layers::{Layer, Layers, Level, LevelLimits, Stack};
use crate::readiness::Readiness;
use crate::sys::TcpStream;
use std::any::Any;
use std::io::{self, ErrorKind};

/// The layers of a connection, as its backlog has them.
pub(super) struct Layering {
    layers: Layers,
    /// Layers that are added after the turn. True beside one that takes all output, also what was written
    /// before it.
    new: Vec<(Box<dyn Layer>, bool)>,
    /// [`Reactor::do_layered_turn`]. Only code that adds a layer names it, so a program that adds none is
    /// linked without it.
    run: fn(&mut Reactor, Id, Option<Readiness>, Source),
}

impl Layering {
    fn of(layers: &mut Option<Box<dyn Any>>) -> Option<&mut Layering> {
        layers.as_mut()?.downcast_mut()
    }
}

/// The destructor of each layer has a guard of its own: a second panic while the first one unwinds would end
/// the process.
impl Drop for Layering {
    fn drop(&mut self) {
        let new = std::mem::take(&mut self.new);
        let dropped = new.into_iter().map(discard).chain(self.layers.discard());
        if dropped.filter(|&dropped| !dropped).count() > 0 {
            std::panic::resume_unwind(Box::new("the drop of a layer"));
        }
    }
}

impl Context<'_> {
    /// Puts a [`Layer`] between this connection's handler and its socket, from the end of this callback on:
    /// TLS after STARTTLS, for example. [`Layered`](crate::Layered) does so from the first byte on.
    ///
    /// Input that is not consumed then is the first input of the layer, and output that is written until
    /// then leaves as it is. From then on all bytes are plain, here and for other code that uses the id:
    /// what is offered and written, [`want`](Context::want), every limit, and the receipt. A layer can be
    /// added to layers; it comes next to the handler.
    ///
    /// # Errors
    /// `NotConnected` if the connection is not established, or if its output has ended
    /// ([`finish`](Context::finish), [`half_close`](Context::half_close)).
    pub fn add_layer(&mut self, layer: impl Layer) -> io::Result<()> {
        self.check_layer()?;
        self.add_boxed_layer(Box::new(layer), false);
        Ok(())
    }

    pub(crate) fn check_layer(&self) -> io::Result<()> {
        if self.has_ended() {
            let message = "a layer needs a connection that is established and whose output is open";
            return Err(failure(ErrorKind::NotConnected, message));
        }
        Ok(())
    }

    /// `takes_all`: the connection has sent nothing yet, so what other code wrote by its id is still held. It
    /// goes through the layer too.
    pub(crate) fn add_boxed_layer(&mut self, layer: Box<dyn Layer>, takes_all: bool) {
        let layers = &mut self.backlog.get_or_insert().layers;
        layers.get_or_insert_with(|| {
            Box::new(Layering {
                layers: Layers::default(),
                new: Vec::new(),
                run: Reactor::do_layered_turn,
            })
        });
        if let Some(layering) = Layering::of(layers) {
            layering.new.push((layer, takes_all));
        }
    }

    /// Runs code with a layer of this connection: for the protocol that TLS negotiated, or the name of the
    /// peer. `None` if no layer is of this type. Of several it is the one next to the handler.
    pub fn with_layer<L: Layer, R>(&mut self, code: impl FnOnce(&mut L) -> R) -> Option<R> {
        let (mut code, mut result) = (Some(code), None);
        self.socket?.layers(&mut |layer| {
            if let Some(layer) = layer.downcast_mut() {
                result = result
                    .take()
                    .or_else(|| code.take().map(|code| code(layer)));
            }
        });
        result
    }
}

/// The layers of a connection over its socket.
pub(super) fn layers_over<'a>(
    layering: Option<&'a Box<dyn Any>>,
    socket: &'a TcpStream,
) -> Option<Stack<'a, TcpStream>> {
    let layering = layering?.downcast_ref::<Layering>()?;
    Some(layering.layers.over(socket))
}

/// Puts back the layers that were taken out, with those that were added meanwhile. True if there are any
/// of these.
pub(super) fn put_back(found: &mut Connection, mut taken: Option<Box<dyn Any>>) -> bool {
    if taken.is_none() {
        return found.backlog.layers.is_some();
    }
    let mut added = found.backlog.take_layers();
    if let (Some(new), Some(layering)) = (Layering::of(&mut added), Layering::of(&mut taken)) {
        layering.new.append(&mut new.new);
    }
    found.backlog.get_or_insert().layers = taken;
    added.is_some()
}

/// Puts the new layers over those that a connection has. True if there are new ones.
fn add_new(found: &mut Connection, layering: &mut Layering, config: &Config) -> bool {
    let limits = LevelLimits {
        input: config.input_max_bytes,
        wire: config.output_hard_max_bytes.max(config.output_max_bytes),
    };
    let added = !layering.new.is_empty();
    for (layer, takes_all) in layering.new.drain(..) {
        let writable = found.machine.is_writable();
        let (input, before, ended) = found.machine.add_layer(&mut found.backlog);
        let before = if takes_all { 0 } else { before };
        let level = Level::new(layer, limits, input, before, ended);
        layering.layers.push(level, writable);
    }
    added
}

impl Reactor {
    /// The turn of a connection with layers.
    pub(super) fn drive_layered(&mut self, id: Id) {
        if let Some(slot) = self.sources.slot(id) {
            let (marks, source) = (slot.pending.take(), slot.check_out());
            self.layered_turn(id, Some(marks), source);
        }
    }

    /// The same, of a connection that is out of its slot. Without marks it has no turn, and only gets the
    /// layers that were added.
    #[inline(never)]
    pub(super) fn layered_turn(&mut self, id: Id, marks: Option<Readiness>, source: Source) {
        let run = match &source {
            Source::Connection(found) => {
                let layers = found.backlog.layers.as_ref();
                layers.and_then(|layers| Some(layers.downcast_ref::<Layering>()?.run))
            }
            _ => None,
        };
        match run {
            Some(run) => run(self, id, marks, source),
            None => self.sources.check_in(id, source),
        }
    }

    /// The turn, unless there are no marks, and after it the layers that were added.
    fn do_layered_turn(&mut self, id: Id, marks: Option<Readiness>, mut source: Source) {
        let Source::Connection(found) = &mut source else {
            return;
        };
        let mut taken = found.backlog.take_layers();
        let result = match (marks, Layering::of(&mut taken)) {
            (Some(marks), Some(layering)) => {
                let result = self.run_machine(id, marks, found, &layering.layers);
                result.and_then(|()| {
                    let armed = marks.intersects(Readiness::ARMED);
                    self.schedule_next(id, armed, found)
                })
            }
            _ => Ok(()),
        };
        put_back(found, taken);
        let mut taken = found.backlog.take_layers();
        let config = &self.common.config;
        let added =
            Layering::of(&mut taken).is_some_and(|layering| add_new(found, layering, config));
        if added {
            found.machine.begin_span(id, &self.common);
        }
        found.backlog.get_or_insert().layers = taken;
        match result {
            Err(end) => return self.close_connection(id, source, end),
            Ok(()) => self.sources.check_in(id, source),
        }
        if added {
            self.sources.enqueue(id, Readiness::LAYERED);
        }
    }

    /// The turn of the machine, over the layers in the place of the socket. Then what the layers wrote by
    /// themselves is sent, if the turn has not used its one write.
    fn run_machine(
        &mut self,
        id: Id,
        mut marks: Readiness,
        found: &mut Connection,
        layers: &Layers,
    ) -> Result<(), End> {
        let (machine, common) = (&mut found.machine, &self.common);
        let readable = marks.intersects(Readiness::INPUT);
        // Before it times out, the socket is tried once more.
        let writable =
            marks.intersects(Readiness::WRITABLE) || machine.overdue(id, common).is_some();
        layers.begin(readable, writable, machine.discards());
        machine.set_writable(layers.is_writable(), layers.are_open());
        marks.remove(Readiness::WRITABLE);
        let (received, sent) = machine.moved();
        let stack = layers.over(&found.socket);
        let mut cx = Context {
            others: Others::new(id, common, &mut self.output, &mut self.sources),
            peer: &found.peer,
            socket: Some(&stack),
            backlog: &mut found.backlog,
        };
        let input = common.input_of_turn(&mut self.input);
        let result = machine.run(marks, input, &stack, &mut *found.handler, &mut cx);
        let result = result.and_then(|_| stack.flush(common.scope(id)).map_err(End::from));
        machine.set_writable(layers.is_writable(), layers.are_open());
        if layers.is_writable() && layers.has_wire() {
            self.sources.enqueue(id, Readiness::default());
        }
        let failed = layers.failed.take();
        if failed.is_some() {
            // What the layer wrote before its error, such as an alert.
            let _ = stack.flush(common.scope(id));
        }
        // The statistics count what the kernel moved, here and for others.
        let (all_received, all_sent) = machine.moved();
        let (counted, moved) = (all_received - received, layers.received.get());
        common.received.set(common.received.get() - counted + moved);
        let (counted, moved) = (all_sent - sent, layers.sent.get());
        common.sent.set(common.sent.get() - counted + moved);
        // In its place the machine saw an error of the socket (`Io`). Any other end is not the layer's, such
        // as an abort that was asked for, and counts.
        if result.as_ref().is_err_and(|end| end.reason != Reason::Io) {
            let panicked = failed
                .as_ref()
                .is_some_and(|end| end.reason == Reason::Panic);
            if panicked | !discard(failed) {
                self.count_panic("a layer");
            }
            return result;
        }
        failed.map_or(result, Err)
    }

    /// The layers of a connection, for the invariants.
    #[cfg(feature = "sim")]
    pub(super) fn layers_of(found: &Connection) -> Option<&Layers> {
        let layering = found.backlog.layers.as_ref()?;
        Some(&layering.downcast_ref::<Layering>()?.layers)
    }
}
