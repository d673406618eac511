//! Circles in a graph of names.

use std::collections::{BTreeMap, BTreeSet};

/// Arrows from a name to other names.
pub type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The strongly connected components of more than one name: in each, every name leads to every
/// other.
pub fn circles<'a>(graph: &Graph<'a>) -> Vec<BTreeSet<&'a str>> {
    let reached: Graph<'a> = graph
        .keys()
        .map(|&from| (from, reach(graph, from)))
        .collect();
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|names| names.contains(to));
    let mut found: Vec<BTreeSet<&'a str>> = Vec::new();
    for &name in graph.keys() {
        let mutual = graph.keys().copied();
        let mutual = mutual.filter(|&other| leads(name, other) && leads(other, name));
        let component: BTreeSet<&str> = mutual.collect();
        if component.len() > 1 && !found.contains(&component) {
            found.push(component);
        }
    }
    found
}

/// Every name that `from` leads to by one arrow or more.
fn reach<'a>(graph: &Graph<'a>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(name) = open.pop() {
        let next = graph.get(name).into_iter().flatten();
        open.extend(next.filter(|&&next| reached.insert(next)));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(arrows: &[(&'static str, &'static str)]) -> Vec<Vec<&'static str>> {
        let mut graph = Graph::new();
        for &(from, to) in arrows {
            graph.entry(from).or_default().insert(to);
            graph.entry(to).or_default();
        }
        let sets = circles(&graph).into_iter();
        sets.map(|set| set.into_iter().collect()).collect()
    }

    #[test]
    fn a_graph_without_circles_has_none() {
        let diamond = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
        assert!(circles_of(&diamond).is_empty());
        assert!(circles_of(&[("a", "a")]).is_empty());
    }

    #[test]
    fn each_circle_is_found_once_and_whole() {
        let arrows = [
            ("a", "b"),
            ("b", "c"),
            ("c", "a"),
            ("c", "d"),
            ("d", "e"),
            ("e", "d"),
            ("e", "f"),
        ];
        assert_eq!(circles_of(&arrows), [vec!["a", "b", "c"], vec!["d", "e"]]);
    }
}
