//! Small charts of one dataset over time, as SVG that is a part of the page: its size, and how old its newest snapshot was.
//!
//! Pure. However many snapshots there are, a chart has so many steps and no more.

use super::{safe, size, span, whole};
use jiff::Timestamp;
use maud::{Markup, PreEscaped, html};
use std::fmt::Write as _;

/// The chart's own units; the page stretches it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;
/// How many steps it has at most.
const STEPS: usize = 300;

/// The figures' frame: a title, what it is now, the picture, and the ends of its axis.
fn figure(title: &str, now: &str, words: &str, top: &str, from: Timestamp, picture: &str) -> Markup {
    html! {
        figure.chart {
            figcaption { (title) span { (now) } }
            div.axis { span { (top) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(safe(words)) { (PreEscaped(picture)) }
            div.axis { span { (whole(from).get(..10).unwrap_or_default()) } span { "now" } }
        }
    }
}

/// Where a time is, from left to right.
fn across(then: i64, from: i64, to: i64) -> f64 {
    part(then.saturating_sub(from), to.saturating_sub(from)) * WIDTH
}

/// Where a value is, from the top down.
fn down(value: u64, most: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a picture's place")]
    let share = if most == 0 { 0.0 } else { value as f64 / most as f64 };
    HEIGHT - share.clamp(0.0, 1.0) * (HEIGHT - 4.0)
}

#[expect(clippy::cast_precision_loss, reason = "a picture's place")]
fn part(of: i64, whole: i64) -> f64 {
    if whole <= 0 { 0.0 } else { (of as f64 / whole as f64).clamp(0.0, 1.0) }
}

/// The size of a dataset: it holds from each snapshot to the next. `points` are times and bytes, the oldest first.
pub fn sizes(title: &str, points: &[(Timestamp, u64)], now: Timestamp) -> Markup {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return html! {} };
    let most = points.iter().map(|point| point.1).max().unwrap_or(0);
    let (from, to) = (first.0.as_second(), now.as_second());
    // Of many that fall into one step the last is shown, and the last of all always is.
    let every = points.len().div_ceil(STEPS).max(1);
    let shown = points.iter().enumerate().filter(|(at, _)| at % every == 0 || at + 1 == points.len()).map(|(_, point)| point);
    let mut line = String::new();
    for (time, bytes) in shown {
        let (x, y) = (across(time.as_second(), from, to), down(*bytes, most));
        let _ = if line.is_empty() { write!(line, "M{x:.1} {y:.1}") } else { write!(line, "H{x:.1}V{y:.1}") };
    }
    let _ = write!(line, "H{WIDTH}");
    let picture = format!(
        "<path class=\"fill\" d=\"{line}V{HEIGHT}H0Z\"/><path class=\"base\" d=\"M0 {HEIGHT}H{WIDTH}\"/><path class=\"line\" d=\"{line}\"/>"
    );
    let words = format!("{title}: {} at first, {} now, {} at most", size(first.1), size(last.1), size(most));
    figure(title, &size(last.1), &words, &size(most), first.0, &picture)
}

/// How old the newest snapshot was: a tooth from each snapshot to the next, and the last one to now. The dashed line is how
/// often one is expected, in seconds. `times` are the oldest first.
pub fn ages(times: &[Timestamp], expected: Option<i64>, now: Timestamp) -> Markup {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return html! {} };
    let (from, to) = (first.as_second(), now.as_second());
    let ends = times.iter().skip(1).map(|time| time.as_second()).chain([to]);
    let teeth: Vec<(i64, i64)> = times.iter().map(|time| time.as_second()).zip(ends).filter(|(begin, end)| end >= begin).collect();
    let every = teeth.len().div_ceil(STEPS).max(1);
    // Of many that fall into one step the longest is shown: that is what a person looks for.
    let shown = teeth.chunks(every).filter_map(|some| some.iter().max_by_key(|(begin, end)| end - begin)).copied();
    let age = |(begin, end): (i64, i64)| u64::try_from(end - begin).unwrap_or(0);
    let longest = teeth.iter().map(|tooth| age(*tooth)).max().unwrap_or(0);
    let limit = expected.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let most = longest.max(limit.map_or(0, |limit| limit.saturating_add(limit / 4)));
    let mut picture = format!("<path class=\"base\" d=\"M0 {HEIGHT}H{WIDTH}\"/>");
    let (mut good, mut late) = (String::new(), String::new());
    for tooth in shown {
        let (begin, end, y) = (across(tooth.0, from, to), across(tooth.1, from, to), down(age(tooth), most));
        // Late by half is what the node counts as late.
        let path = if limit.is_some_and(|limit| age(tooth) > limit.saturating_add(limit / 2)) { &mut late } else { &mut good };
        let _ = write!(path, "M{begin:.1} {HEIGHT}L{end:.1} {y:.1}V{HEIGHT}Z");
    }
    for (class, path) in [("fill", &good), ("line", &good), ("late", &late)] {
        if !path.is_empty() {
            let _ = write!(picture, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    if let Some(limit) = limit {
        let y = down(limit, most);
        let _ = write!(picture, "<path class=\"limit\" d=\"M0 {y:.1}H{WIDTH}\"/>");
    }
    let age_now = span(to - last.as_second());
    let expected = limit.map_or_else(String::new, |limit| format!(", expected every {}", span(i64::try_from(limit).unwrap_or(i64::MAX))));
    let longest = span(i64::try_from(longest).unwrap_or(i64::MAX));
    let words = format!("Age of the newest snapshot: {age_now} now, {longest} at most{expected}");
    figure("Age of the newest", &format!("{age_now}{expected}"), &words, &span(i64::try_from(most).unwrap_or(i64::MAX)), *first, &picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn steps_and_teeth_are_where_they_belong() {
        let chart = sizes("Size", &[(at(0), 50), (at(50), 100)], at(100)).into_string();
        assert!(chart.contains("d=\"M0.0 62.0H300.0V4.0H600\""), "{chart}");
        assert!(chart.contains("Size: 50 B at first, 100 B now, 100 B at most"), "{chart}");
        let chart = ages(&[at(0), at(50)], Some(25), at(100)).into_string();
        assert!(chart.contains("class=\"late\" d=\"M0.0 120L300.0 4.0V120ZM300.0 120L600.0 4.0V120Z\""), "{chart}");
        assert!(
            chart.contains("class=\"limit\" d=\"M0 62.0H600\"") && chart.contains("50 s now, 50 s at most, expected every 25 s"),
            "{chart}"
        );
        assert_eq!(sizes("Size", &[], at(0)).into_string() + &ages(&[], None, at(0)).into_string(), "");
    }

    proptest! {
        #[test]
        fn a_chart_is_small_and_inside_whatever_it_shows(seconds in prop::collection::vec((0i64..9_000_000, any::<u64>()), 1..2000), expected in prop::option::of(any::<i64>())) {
            let points: Vec<(Timestamp, u64)> = seconds.iter().map(|(second, bytes)| (at(*second), *bytes)).collect();
            let times: Vec<Timestamp> = points.iter().map(|point| point.0).collect();
            for chart in [sizes("Size", &points, at(9_000_000)).into_string(), ages(&times, expected, at(9_000_000)).into_string()] {
                prop_assert!(chart.len() < 60_000, "{}", chart.len());
                for path in chart.split(" d=\"").skip(1) {
                    for number in path.split('"').next().unwrap().split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).filter(|n| !n.is_empty()) {
                        let number: f64 = number.parse().unwrap();
                        prop_assert!((0.0..=600.0).contains(&number), "{number}");
                    }
                }
            }
        }
    }
}
