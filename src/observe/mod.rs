//! Observing: the observer and its events, the snapshot, the statistics.

mod event;
mod observation;
mod snapshot;
mod stats;
mod throttle;

pub use event::{Budget, Call, Callback, Event, ListenerState, Observer, Reported};
pub(crate) use observation::{CallScope, Observation, Returned};
pub use snapshot::{
    AcceptQueue, ConnectionState, ConnectionView, ListenerView, Overflows, Snapshot,
};
pub use stats::Stats;
pub(crate) use throttle::Throttle;
