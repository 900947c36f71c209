//! The rules on examples with clock changes, and the promises on anything.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn id(n: usize) -> RequestId {
    format!("20261120T031500Z-{n:08x}").parse().unwrap()
}

fn candidate(n: usize, received: Timestamp) -> Candidate {
    Candidate { id: id(n), received, damaged: false, held: false, pinned: false, mends: false, forgotten: false, given_up: false }
}

fn candidates(times: &[&str]) -> Vec<Candidate> {
    times.iter().enumerate().map(|(n, time)| candidate(n, at(time))).collect()
}

fn policy(keep: &str) -> Policy {
    Policy { keep: Some(keep.parse().unwrap()), ..Policy::default() }
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// Which are kept by a rule; the newest is always kept and is left out.
fn by_rule(times: &[&str], keep: &str, now: &str) -> Vec<usize> {
    let kept = retain(&candidates(times), &policy(keep), at(now), &berlin());
    (0..times.len()).filter(|i| kept[*i].iter().any(|reason| matches!(reason, Reason::Rule(_)))).collect()
}

#[test]
fn a_period_keeps_its_first() {
    // Local time is an hour ahead: 23:30Z is the next day.
    let times = ["2026-11-17T23:30:00Z", "2026-11-18T05:00:00Z", "2026-11-18T22:59:59Z", "2026-11-18T23:00:00Z", "2026-11-20T08:00:00Z"];
    let now = "2026-11-20T09:00:00Z";
    assert_eq!(by_rule(&times, "daily=3", now), [0, 3, 4]);
    assert_eq!(by_rule(&times, "daily=2", now), [3, 4]);
    assert_eq!(by_rule(&times, "daily=1", now), [4]);
    assert_eq!(by_rule(&times, "weekly=1", now), [0]);
    assert_eq!(by_rule(&times, "1W:1D", now), [0, 3, 4]);
    assert_eq!(by_rule(&times, "within=33h", now), [4]);
    assert_eq!(by_rule(&times, "within=34h", now), [3, 4]);
    assert_eq!(by_rule(&times, "within=3d", now), [0, 1, 2, 3, 4]);
    assert_eq!(by_rule(&times, "U:U", now), [0, 1, 2, 3, 4]);
    assert_eq!(by_rule(&times, "U:1Y", now), [0]);
    assert_eq!(by_rule(&times, "hourly=2", now), [4]);
    // Weeks begin on Monday, and the last days of a year belong with the first of the next.
    let year = ["2026-12-28T08:00:00Z", "2026-12-31T08:00:00Z", "2027-01-01T08:00:00Z", "2027-01-03T22:59:00Z", "2027-01-03T23:00:00Z"];
    assert_eq!(by_rule(&year, "weekly=2", "2027-01-05T00:00:00Z"), [0, 4]);
    assert_eq!(by_rule(&year, "monthly=2", "2027-01-05T00:00:00Z"), [0, 2]);
    assert_eq!(by_rule(&year, "yearly=1", "2027-01-05T00:00:00Z"), [2]);
    // Before the epoch too, where a clock was wrong.
    assert_eq!(by_rule(&["1969-12-31T08:00:00Z", "1970-01-01T08:00:00Z"], "U:1D", "2026-01-01T00:00:00Z"), [0, 1]);
}

#[test]
fn the_handbooks_steps() {
    // Daily snapshots of a year at 03:00, thinned out as "1W:1D,4W:1W,12M:1M" says.
    let now = at("2026-11-20T12:00:00Z");
    let all: Vec<Candidate> = (0..400).rev().map(|days| candidate(days, now - SignedDuration::from_hours(24 * days as i64 + 9))).collect();
    let kept = retain(&all, &policy("1W:1D,4W:1W,12M:1M"), now, &TimeZone::UTC);
    let days: Vec<String> =
        all.iter().zip(&kept).filter(|(_, kept)| !kept.is_empty()).map(|(one, _)| one.received.strftime("%m-%d").to_string()).collect();
    assert_eq!(
        days.join(" "),
        "11-01 12-01 01-01 02-01 03-01 04-01 05-01 06-01 07-01 08-01 09-01 10-01 10-19 10-26 11-01 11-02 11-09 11-13 11-14 11-15 11-16 11-17 11-18 11-19 11-20"
    );
}

#[test]
fn days_of_23_and_25_hours() {
    // On 2026-10-25 the clock goes back at 03:00 summer time: the day has 25 hours, and 02:30 comes twice.
    let times = [
        "2026-10-24T21:30:00Z",
        "2026-10-24T22:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T22:59:00Z",
        "2026-10-25T23:01:00Z",
    ];
    assert_eq!(by_rule(&times, "daily=2", "2026-10-26T08:00:00Z"), [1, 5]);
    assert_eq!(by_rule(&times, "hourly=48", "2026-10-26T08:00:00Z"), [0, 1, 2, 3, 4, 5]);
    // A week back by the calendar is 169 hours here.
    let times = ["2026-10-19T07:59:00Z", "2026-10-19T06:59:00Z"];
    assert_eq!(by_rule(&times, "1W:U", "2026-10-26T08:00:00Z"), [0]);
    // In spring 02:30 does not come at all.
    let times = ["2026-03-28T22:59:00Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:00Z", "2026-03-29T22:00:00Z"];
    assert_eq!(by_rule(&times, "daily=2", "2026-03-30T08:00:00Z"), [1, 3]);
}

#[test]
fn last_counts_what_is_far_enough_apart() {
    let times = [
        "2026-11-17T03:00:00Z",
        "2026-11-18T03:10:00Z",
        "2026-11-18T12:00:00Z",
        "2026-11-19T03:00:00Z",
        "2026-11-19T04:00:00Z",
        "2026-11-19T05:00:00Z",
    ];
    let kept = |count: &str, expect: u64| {
        let policy = Policy { expect: Duration::from_secs(expect), ..policy(count) };
        let kept = retain(&candidates(&times), &policy, at("2026-11-19T06:00:00Z"), &TimeZone::UTC);
        (0..times.len()).filter(|i| kept[*i].iter().any(|reason| matches!(reason, Reason::Rule(_)))).collect::<Vec<_>>()
    };
    assert_eq!(kept("last=3", 0), [3, 4, 5]);
    // A crowd of snapshots takes nobody's place; ten minutes less than a day are a day.
    assert_eq!(kept("last=3", 86_400), [0, 1, 3]);
    assert_eq!(kept("last=2", 86_400), [1, 3]);
    // A clock that was a year ahead once does not stop the count.
    let times = ["2026-11-17T03:00:00Z", "2027-11-18T03:00:00Z", "2026-11-18T03:00:00Z", "2026-11-19T03:00:00Z"];
    let policy = Policy { expect: Duration::from_secs(86_400), ..policy("last=2") };
    let reasons = retain(&candidates(&times), &policy, at("2026-11-19T06:00:00Z"), &TimeZone::UTC);
    assert!(!reasons[2].is_empty() && !reasons[3].is_empty());
}

#[test]
fn who_may_never_go() {
    let mut all = candidates(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]);
    let none = Policy { keep: Some("within=1s".parse().unwrap()), ..Policy::default() };
    let reasons = |all: &[Candidate], policy: &Policy| retain(all, policy, at("2026-11-20T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(reasons(&all, &none), [vec![], vec![], vec![], vec![Reason::Newest, Reason::NewestUndamaged]]);
    all[3].damaged = true;
    all[1].held = true;
    all[0].pinned = true;
    assert_eq!(reasons(&all, &none), [vec![Reason::Pinned], vec![Reason::Held], vec![Reason::NewestUndamaged], vec![Reason::Newest]]);
    assert!(reasons(&all, &Policy::default()).iter().all(|kept| kept.contains(&Reason::NoPolicy)));
    // Given up by a command: the policy, or that there is none, does not bring it back; the node's floor does.
    all[2].given_up = true;
    all[3].damaged = false;
    assert!(reasons(&all, &Policy::default())[2].is_empty());
    let floor = Policy { floor: Some("yearly=1".parse().unwrap()), ..Policy::default() };
    all[2].given_up = false;
    all[0] = Candidate { given_up: true, pinned: false, ..all[0].clone() };
    assert_eq!(reasons(&all, &floor)[0].len(), 1);
    assert!(matches!(reasons(&all, &floor)[0][0], Reason::Floor(_)));
    // Forgotten: all of it, the last one too; what is held stays.
    for snapshot in &mut all {
        snapshot.forgotten = true;
    }
    assert_eq!(reasons(&all, &floor), [vec![], vec![Reason::Held], vec![], vec![]]);
    assert!(retain(&[], &floor, at("2026-11-20T00:00:00Z"), &TimeZone::UTC).is_empty());
    // What is damaged takes nobody's place.
    let mut day = candidates(&["2026-11-18T01:00:00Z", "2026-11-18T02:00:00Z", "2026-11-18T03:00:00Z", "2026-11-19T00:00:00Z"]);
    day[0].damaged = true;
    let kept = reasons(&day, &policy("daily=3"));
    assert_eq!(kept.iter().map(|reasons| !reasons.is_empty()).collect::<Vec<_>>(), [true, true, false, true]);
}

#[test]
fn much_smaller_is_under_half() {
    let counts = |files, bytes| Counts { entries: files, files, bytes, unreadable: 0 };
    let before = counts(1000, 10 << 20);
    for (files, bytes, smaller) in
        [(1000, 5 << 20, false), (1000, (5 << 20) - 1, true), (500, 10 << 20, false), (499, 10 << 20, true), (0, 0, true)]
    {
        assert_eq!(much_smaller(&before, &counts(files, bytes)), smaller, "{files} {bytes}");
    }
    assert!(!much_smaller(&counts(15, 1000), &counts(0, 0)) && !much_smaller(&counts(0, 0), &before));
}

fn any_unit() -> impl Strategy<Value = Unit> {
    prop::sample::select(vec![Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year])
}

fn any_rule(last: bool) -> impl Strategy<Value = KeepRule> {
    let length = || (1u32..15, any_unit()).prop_map(|(count, unit)| Length { count, unit });
    let calendar = (any_unit(), 1u32..12).prop_map(|(unit, count)| KeepRule::Calendar(unit, count)).boxed();
    let within = (1u64..5_000_000).prop_map(|seconds| KeepRule::Within(base::Span(Duration::from_secs(seconds)))).boxed();
    let step =
        (prop::option::of(length()), prop::option::of(length())).prop_map(|(within, each)| KeepRule::Step(Step { within, each })).boxed();
    let lasts = (1u32..6).prop_map(KeepRule::Last).boxed();
    if last { prop_oneof![calendar, within, step, lasts].boxed() } else { prop_oneof![calendar, within, step].boxed() }
}

fn any_keep(last: bool) -> impl Strategy<Value = Keep> {
    prop::collection::vec(any_rule(last), 1..4).prop_map(|rules| Keep::new(rules).unwrap())
}

fn any_policy(last: bool) -> impl Strategy<Value = Policy> {
    let part = || prop::option::of(any_keep(last));
    (part(), part(), 0u64..200_000).prop_map(|(keep, floor, expect)| Policy { keep, floor, expect: Duration::from_secs(expect) })
}

const NOW: i64 = 1_795_000_000;

/// Snapshots up to about now, some on the same day, with a clock that was sometimes set back.
fn any_snapshots() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (prop_oneof![0i64..5_000, 0i64..200_000, -100_000i64..3_000_000], 0u8..12);
    prop::collection::vec(one, 0..25).prop_map(|gaps| {
        let mut time = NOW - gaps.iter().map(|(gap, _)| gap).sum::<i64>();
        let mut all = Vec::new();
        for (n, (gap, odd)) in gaps.into_iter().enumerate() {
            time += gap;
            let one = candidate(n, Timestamp::from_second(time).unwrap());
            all.push(Candidate { damaged: odd == 0, held: odd == 1, pinned: odd == 2, forgotten: odd == 3, given_up: odd == 4, ..one });
        }
        all
    })
}

fn zone(n: usize) -> TimeZone {
    [TimeZone::UTC, berlin(), TimeZone::get("Australia/Lord_Howe").unwrap(), TimeZone::get("Asia/Kolkata").unwrap()][n].clone()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// What rules other than `last` say; the newest is only newest until the next.
fn lasting(reasons: &[Reason]) -> Vec<Reason> {
    let passing = |reason: &Reason| {
        matches!(reason, Reason::Newest | Reason::NewestUndamaged | Reason::Rule(KeepRule::Last(_)) | Reason::Floor(KeepRule::Last(_)))
    };
    reasons.iter().filter(|reason| !passing(reason)).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn accepting_one_never_condemns_another(all in any_snapshots(), policy in any_policy(true), zone_n in 0usize..4, gap in -200_000i64..200_000, damaged: bool) {
        let zone = zone(zone_n);
        let before = retain(&all, &policy, now(), &zone);
        let mut more = all.clone();
        more.push(Candidate { damaged, ..candidate(99, Timestamp::from_second(NOW + gap).unwrap()) });
        let after = retain(&more, &policy, now(), &zone);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(lasting(before).iter().all(|reason| after.contains(reason)), "{:?} became {:?}", before, after);
        }
        // And `last` gives up at most one place for it, and none when it came too soon.
        if let Some(keep) = policy.keep.as_ref().filter(|keep| matches!(keep.rules(), [KeepRule::Last(_)])) {
            let only = Policy { keep: Some(keep.clone()), expect: policy.expect, floor: None };
            let plain: Vec<Candidate> = all.iter().map(|one| candidate(0, one.received)).collect();
            let mut more = plain.clone();
            more.push(candidate(1, Timestamp::from_second(NOW + gap).unwrap()));
            let (before, after) = (retain(&plain, &only, now(), &zone), retain(&more, &only, now(), &zone));
            let rule = |reasons: &Vec<Reason>| reasons.iter().any(|reason| matches!(reason, Reason::Rule(_)));
            let lost = before.iter().zip(&after).filter(|(before, after)| rule(before) && !rule(after)).count();
            prop_assert!(lost <= usize::from(after.last().is_some_and(rule)));
        }
    }

    #[test]
    fn floors_hold_and_more_rules_keep_more(all in any_snapshots(), policy in any_policy(true), extra in any_keep(true), zone_n in 0usize..4) {
        let zone = zone(zone_n);
        let kept = |policy: &Policy| retain(&all, policy, now(), &zone).iter().map(|reasons| !reasons.is_empty()).collect::<Vec<_>>();
        let within = |less: &[bool], more: &[bool]| less.iter().zip(more).all(|(less, more)| !less || *more);
        let now_kept = kept(&policy);
        if let Some(floor) = &policy.floor {
            // What the floor would keep if it were the policy, and nobody had given anything up.
            let plain: Vec<Candidate> = all.iter().map(|one| Candidate { given_up: false, ..one.clone() }).collect();
            let alone = retain(&plain, &Policy { keep: Some(floor.clone()), floor: None, expect: policy.expect }, now(), &zone);
            let alone: Vec<bool> = alone.iter().map(|reasons| !reasons.is_empty()).collect();
            prop_assert!(within(&alone, &now_kept));
        }
        if let Some(keep) = &policy.keep {
            let more = Keep::new(keep.rules().iter().chain(extra.rules()).copied().collect()).unwrap();
            let with_more = kept(&Policy { keep: Some(more), ..policy.clone() });
            prop_assert!(within(&now_kept, &with_more));
            let higher = keep.rules().iter().map(|rule| match rule {
                KeepRule::Last(n) => KeepRule::Last(n + 1),
                KeepRule::Calendar(unit, n) => KeepRule::Calendar(*unit, n + 1),
                KeepRule::Within(span) => KeepRule::Within(base::Span(span.0 * 2)),
                KeepRule::Step(step) => KeepRule::Step(Step { within: step.within.map(|length| Length { count: length.count + 1, ..length }), ..*step }),
            });
            let with_higher = kept(&Policy { keep: Some(Keep::new(higher.collect()).unwrap()), ..policy.clone() });
            prop_assert!(within(&now_kept, &with_higher));
            let with_none = kept(&Policy { keep: None, ..policy.clone() });
            prop_assert!(within(&now_kept, &with_none));
        }
    }

    #[test]
    fn ids_mean_nothing_and_some_always_stay(all in any_snapshots(), policy in any_policy(true), zone_n in 0usize..4, ids in prop::collection::vec(any::<u32>(), 25)) {
        let zone = zone(zone_n);
        let reasons = retain(&all, &policy, now(), &zone);
        let renamed: Vec<Candidate> = all.iter().zip(ids).map(|(one, id)| Candidate { id: format!("19990101T000000Z-{id:08x}").parse().unwrap(), ..one.clone() }).collect();
        prop_assert_eq!(&retain(&renamed, &policy, now(), &zone), &reasons);
        let newest = all.iter().rposition(|one| !one.forgotten);
        let whole = all.iter().rposition(|one| !one.forgotten && !one.damaged);
        for (i, (one, reasons)) in all.iter().zip(&reasons).enumerate() {
            let stays = one.held || !one.forgotten && one.pinned || Some(i) == newest || Some(i) == whole;
            prop_assert!(!stays || !reasons.is_empty());
            prop_assert!(!one.forgotten || one.held || reasons.is_empty());
        }
    }

    #[test]
    fn taking_away_what_is_condemned_condemns_nothing_more(all in any_snapshots(), policy in any_policy(false), zone_n in 0usize..4) {
        let zone = zone(zone_n);
        let reasons = retain(&all, &policy, now(), &zone);
        let left: Vec<Candidate> = all.iter().zip(&reasons).filter(|(_, reasons)| !reasons.is_empty()).map(|(one, _)| one.clone()).collect();
        prop_assert!(retain(&left, &policy, now(), &zone).iter().all(|reasons| !reasons.is_empty()));
    }
}

#[test]
fn what_others_need_of_a_repair_is_kept() {
    let mut all = candidates(&["2026-01-01T03:00:00Z", "2026-02-01T03:00:00Z", "2026-11-20T03:00:00Z"]);
    let reasons = |all: &[Candidate]| retain(all, &policy("1W:1D"), at("2026-11-20T12:00:00Z"), &berlin())[1].clone();
    assert!(reasons(&all).is_empty());
    all[1].mends = true;
    assert_eq!(reasons(&all), [Reason::Mends]);
    all[1].forgotten = true;
    assert!(reasons(&all).is_empty());
}
