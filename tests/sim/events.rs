//! What an observer is told of listeners and of readiness, and the words of what is printed.

use crate::running::{Echo, address};
use doorkeeper::sim::Sim;
use doorkeeper::{Budget, Config, Event, Observer, PostError, Reactor};
use std::cell::RefCell;
use std::rc::Rc;

/// Keeps what is said of budgets, listeners and readiness.
struct Keeps(Rc<RefCell<Vec<String>>>);

impl Observer for Keeps {
    fn event(&mut self, event: &Event<'_>) {
        let text = match event {
            Event::BudgetSpent {
                budget: Budget::Accept,
                ..
            } => "budget".to_string(),
            Event::ListenerState { state, .. } => format!("{state:?}"),
            Event::Ready { id, readable, .. } => format!("{id} is readable: {readable}"),
            _ => return,
        };
        self.0.borrow_mut().push(text);
    }
}

#[test]
fn an_observer_hears_of_budgets_pauses_and_readiness_once_each() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.accept_budget = 2;
    let server = sim.reactor(config).unwrap();
    let kept = Rc::new(RefCell::new(Vec::new()));
    let observer = Box::new(Keeps(Rc::clone(&kept)));
    server.borrow_mut().observe(observer);
    let listening = server.borrow_mut().listen(address(), |_| Some(Echo));
    let listener = listening.unwrap();
    sim.run_now();
    let peers = [(); 5].map(|()| sim.connect(address()));
    sim.run_now();
    assert_eq!(
        *kept.borrow(),
        ["0.0 is readable: true", "budget", "budget"]
    );
    kept.borrow_mut().clear();
    peers[0].send(b"x");
    sim.run_now();
    assert_eq!(*kept.borrow(), ["1.1 is readable: true"]);
    kept.borrow_mut().clear();
    for is_first in [true, false] {
        server.borrow_mut().pause(listener);
        assert_eq!(kept.borrow().len(), usize::from(is_first));
        kept.borrow_mut().clear();
    }
    server.borrow_mut().resume(listener);
    assert_eq!(*kept.borrow(), ["Accepting"]);
}

#[test]
fn what_a_program_prints_is_in_words() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let id = server.borrow_mut().listen(address(), |_| Some(Echo));
    assert_eq!(format!("{:?}", id.unwrap()), "Id(0.0)");
    let text = format!("{:?}", server.borrow());
    assert!(text.starts_with("Reactor { config: Config {"), "{text}");
    let handle = server.borrow().handle();
    assert_eq!(format!("{handle:?}"), "Handle { .. }");
    drop(server);
    let closed = handle.post(|_: &mut Reactor| {}).unwrap_err();
    assert_eq!(
        format!("{closed:?}: {closed}"),
        "Closed(..): the reactor is gone"
    );
    let full = PostError::Full(());
    assert_eq!(
        format!("{full:?}: {full}"),
        "Full(..): too many posted closures wait"
    );
}
