//! Other values in place of some in a JSON text, found by their paths.
//!
//! One pass, whatever stands in the text and however many paths there are; what no path leads
//! through is not looked at.

use std::borrow::Cow;

use crate::proto::ipc::members::{after_comma, elements, quote, string, value};

/// Steps of one path; the walk takes stack for each.
const MAX_STEPS: usize = 256;
/// Paths into one text.
const MAX_PATHS: usize = 4096;

/// From the root of a value: names of members, and numbers of elements as text.
pub type Path<'a> = Vec<Cow<'a, str>>;

/// The path in a JSON array of strings and numbers; `None`: it is none, or too long to follow.
#[must_use]
pub fn path(json: &str) -> Option<Path<'_>> {
    let steps: Path<'_> = elements(json)
        .take(MAX_STEPS + 1)
        .map(|step| if step.starts_with('"') { string(step) } else { Some(Cow::Borrowed(step)) })
        .collect::<Option<_>>()?;
    (json.starts_with('[') && steps.len() <= MAX_STEPS).then_some(steps)
}

/// A path as a JSON array of strings.
#[must_use]
pub fn path_text(path: &[Cow<'_, str>]) -> String {
    let steps: Vec<String> = path.iter().map(|step| quote(step)).collect();
    format!("[{}]", steps.join(","))
}

/// A value that is looked for.
#[derive(Debug)]
struct Spot<'a> {
    path: Path<'a>,
    /// In place of which of the texts.
    mark: usize,
    span: Option<(usize, usize)>,
}

/// Values to be put into a text.
#[derive(Debug, Default)]
pub struct Graft<'a> {
    spots: Vec<Spot<'a>>,
    texts: Vec<Cow<'a, str>>,
    /// The texts that count only if a value is found for the mark after them.
    conditional: Vec<bool>,
}

impl<'a> Graft<'a> {
    /// Puts `text` where `path` leads; where that is nowhere, nothing happens.
    pub fn put(&mut self, path: Path<'a>, text: impl Into<Cow<'a, str>>) {
        self.add(path, text.into(), false);
    }

    /// The same, but only where `source` leads somewhere as well.
    pub fn refer(&mut self, path: Path<'a>, source: Path<'a>) {
        self.add(path, format!("{{\"$ref\":{}}}", path_text(&source)).into(), true);
        self.add(source, Cow::Borrowed(""), false);
    }

    fn add(&mut self, path: Path<'a>, text: Cow<'a, str>, conditional: bool) {
        self.spots.push(Spot { path, mark: self.texts.len(), span: None });
        self.texts.push(text);
        self.conditional.push(conditional);
    }

    /// Whether these are more than one text is searched for.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.texts.len() > MAX_PATHS
    }

    /// `json` with all of them in it.
    #[must_use]
    pub fn apply(mut self, json: &str) -> String {
        let compare = |one: &Spot<'_>, two: &Spot<'_>| one.path < two.path;
        crate::sorted::sort_by(&mut self.spots, compare);
        walk(json, json.len(), &mut self.spots, 0);
        let mut spans = vec![None; self.texts.len()];
        for spot in &self.spots {
            spans[spot.mark] = spot.span;
        }
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (mark, span) in spans.iter().enumerate() {
            let is_there =
                !self.conditional[mark] || spans.get(mark + 1).is_some_and(Option::is_some);
            if let (Some((start, end)), true, false) = (span, is_there, self.texts[mark].is_empty())
            {
                order.push((*start, *end, mark));
            }
        }
        crate::sorted::sort(&mut order);
        let mut out = String::with_capacity(json.len());
        let mut at = 0;
        for (start, end, mark) in order {
            // What lies in something that was replaced is gone.
            if start >= at {
                out.push_str(json.get(at..start).unwrap_or_default());
                out.push_str(&self.texts[mark]);
                at = end;
            }
        }
        out.push_str(json.get(at..).unwrap_or_default());
        out
    }
}

/// Finds the spots in the value in front of `text`, the end of a text of `whole` bytes, and gives
/// what follows that value. All spots are below it; they are sorted.
fn walk<'t>(text: &'t str, whole: usize, spots: &mut [Spot<'_>], depth: usize) -> &'t str {
    let text = text.trim_start();
    let here = spots.partition_point(|spot| spot.path.len() <= depth);
    let (own, below) = spots.split_at_mut(here);
    let rest = match text.as_bytes().first() {
        Some(b'{') if !below.is_empty() => inside(text, whole, below, depth, true),
        Some(b'[') if !below.is_empty() => inside(text, whole, below, depth, false),
        _ => value(text).map_or("", |(_, rest)| rest),
    };
    for spot in own {
        spot.span = Some((whole - text.len(), whole - rest.len()));
    }
    rest
}

fn inside<'t>(
    text: &'t str,
    whole: usize,
    spots: &mut [Spot<'_>],
    depth: usize,
    named: bool,
) -> &'t str {
    let mut rest = text.get(1..).unwrap_or_default();
    for index in 0_usize.. {
        rest = after_comma(rest);
        if let Some(after) = rest.strip_prefix(['}', ']']) {
            return after;
        }
        let step = if named {
            let Some((name, after)) = value(rest) else { return "" };
            rest = after.trim_start().strip_prefix(':').unwrap_or_default();
            string(name).unwrap_or_default()
        } else {
            Cow::Owned(index.to_string())
        };
        if rest.is_empty() {
            break;
        }
        let start = spots.partition_point(|spot| spot.path[depth] < step);
        let end = spots.partition_point(|spot| spot.path[depth] <= step);
        rest = walk(rest, whole, &mut spots[start..end], depth + 1);
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grafted(json: &str, puts: &[(&str, &str)]) -> String {
        let mut graft = Graft::default();
        for (to, text) in puts {
            graft.put(path(to).unwrap(), *text);
        }
        graft.apply(json)
    }

    #[test]
    fn values_are_found_by_their_paths() {
        let json = r#"[ "a", {"f":"x" , "g\u0061":[1,[2 ]],"":0,"f":"y"}, 3]"#;
        for (to, expected) in [
            (r#"["0"]"#, r#"[ Z, {"f":"x" , "g\u0061":[1,[2 ]],"":0,"f":"y"}, 3]"#),
            (r#"[2]"#, r#"[ "a", {"f":"x" , "g\u0061":[1,[2 ]],"":0,"f":"y"}, Z]"#),
            (r#"["1","ga","1","0"]"#, r#"[ "a", {"f":"x" , "g\u0061":[1,[Z ]],"":0,"f":"y"}, 3]"#),
            (r#"["1","f"]"#, r#"[ "a", {"f":"x" , "g\u0061":[1,[2 ]],"":0,"f":Z}, 3]"#),
            (r#"["1",""]"#, r#"[ "a", {"f":"x" , "g\u0061":[1,[2 ]],"":Z,"f":"y"}, 3]"#),
            ("[]", "Z"),
        ] {
            assert_eq!(grafted(json, &[(to, "Z")]), expected, "{to}");
        }
        for nowhere in [r#"["3"]"#, r#"["1","h"]"#, r#"["0","0"]"#, r#"["-1"]"#, r#"["length"]"#] {
            assert_eq!(grafted(json, &[(nowhere, "Z")]), json, "{nowhere}");
        }
        let several = [(r#"["1","f"]"#, "F"), (r#"["0"]"#, "A"), (r#"["1","ga"]"#, "G")];
        assert_eq!(grafted(json, &several), r#"[ A, {"f":"x" , "g\u0061":G,"":0,"f":F}, 3]"#);
        // One within another: what was there is gone.
        assert_eq!(grafted(r#"[[1,2],3]"#, &[(r#"["0","1"]"#, "Y"), (r#"["0"]"#, "X")]), "[X,3]");
    }

    #[test]
    fn a_reference_needs_what_it_refers_to() {
        let json = r#"[1,{"self":"[Circular]"}]"#;
        let refer = |from: &str| {
            let mut graft = Graft::default();
            graft.refer(path(r#"["1","self"]"#).unwrap(), path(from).unwrap());
            graft.apply(json)
        };
        assert_eq!(refer(r#"["1"]"#), r#"[1,{"self":{"$ref":["1"]}}]"#);
        assert_eq!(refer(r#"["1","none"]"#), json);
    }

    #[test]
    fn paths_that_are_none() {
        for json in ["{}", "1", "\"a\"", r#"["\ud800"]"#, &format!("[{}0]", "0,".repeat(256))] {
            assert!(path(json).is_none(), "{json}");
        }
        assert_eq!(path_text(&path(r#"["a\"", 0]"#).unwrap()), r#"["a\"","0"]"#);
    }
}
