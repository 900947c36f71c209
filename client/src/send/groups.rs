//! Groups: their members are prepared between the same `before` and `after`, and asked for in one commit under one id.
//!
//! The group's own request is in the pool alone. It ends when the last member's has; `point` remembers them until then.

use super::bell::lock;
use super::lanes::{Making, Refusal};
use super::outbox::Draft;
use super::point::Point;
use super::run::NodeRun;
use crate::around::Subject;
use crate::outcome::{Ending, OutcomeFile};
use base::config::GroupEntry;
use base::{Dataset, Error, Kind, RequestId, Result};
use queue::pool::{Claimed, PoolFile, State};

/// Prepares a group and asks for it. True when there is something to be sent.
///
/// # Errors
/// When pool or queue cannot be used.
pub fn work(run: &NodeRun, claimed: &Claimed, entry: &GroupEntry, committed: &(dyn Fn() + Sync)) -> Result<bool> {
    let subject = claimed.file.dataset()?;
    let point = point(run, claimed, entry)?;
    let mut members = Vec::new();
    for member in &point.members {
        let file = PoolFile {
            id: member.request.clone(),
            group: Some(point.id.clone()),
            ..PoolFile::new(&member.dataset, &run.node.name, &claimed.file.tags, claimed.file.reason)?
        };
        match run.pool.take(&file, &claimed.by) {
            Ok(member) => members.push(member),
            Err(error) if error.kind() == Kind::NotNow => return later(run, &subject, error),
            Err(error) => return Err(error),
        }
    }
    tracing::info!("{}: preparing the group {} ({})", run.node.name, entry.name, point.id);
    let mut makings = Vec::new();
    for member in &members {
        match Making::new(run, member, committed)? {
            Ok(making) => match making.settle_earlier() {
                Ok(()) => makings.push(Ok(making)),
                Err(error) if error.kind() == Kind::NotNow => return later(run, &subject, error),
                Err(error) => makings.push(Err(Refusal { ending: Ending::Failed, error })),
            },
            Err(refusal) => makings.push(Err(refusal)),
        }
    }
    // Those that cannot be prepared at all have nothing done around them.
    let places: Vec<usize> = (0..members.len()).filter(|i| makings[*i].is_ok()).collect();
    let group = Subject { dataset: subject.clone(), request: point.id.clone(), commands: entry.commands(), snapshot: None, reads: false };
    let subjects: Vec<Subject> = std::iter::once(group)
        .chain(places.iter().map(|i| Subject::of(&run.config, &point.members[*i].dataset, &point.members[*i].request)))
        .collect();
    let mut prepared: Vec<Option<modules::PreparedRequest>> = members.iter().map(|_| None).collect();
    let report = run.around.work(&subjects, &|| run.has_left(), &mut |which, frozen| {
        let place = places[which - 1];
        if let Ok(making) = &makings[place] {
            prepared[place] = Some(making.prepare(frozen)?);
        }
        Ok(())
    });
    let mut report = match report {
        Ok(report) => report,
        Err(error) if error.kind() == Kind::NotNow => return later(run, &subject, error),
        Err(error) => return Err(error),
    };
    for error in report.untidy {
        run.tell_failed(&error.context(format!("{subject} for {}", run.node.name)));
    }
    if let Some(at) = report.failed.iter().position(|failed| failed.as_ref().is_some_and(|error| error.kind() == Kind::NotNow)) {
        return match report.failed.swap_remove(at) {
            Some(error) => later(run, &subject, error),
            None => Ok(false),
        };
    }
    let mut failed = report.failed.into_iter();
    let of_group = failed.next().flatten();
    for (place, error) in places.iter().zip(failed) {
        if let Some(error) = error {
            let refusal = match &makings[*place] {
                Ok(making) => making.refusal(error)?,
                Err(_) => continue,
            };
            makings[*place] = Err(refusal);
        }
    }
    if let Some(error) = of_group {
        run.tell_failed(&error.context(format!("{subject} for {}", run.node.name)));
    }
    ask(run, &point, &makings, prepared, &members)
}

/// Asks for what was prepared, and ends what was not.
fn ask(
    run: &NodeRun,
    point: &Point,
    makings: &[std::result::Result<Making<'_>, Refusal>],
    prepared: Vec<Option<modules::PreparedRequest>>,
    members: &[Claimed],
) -> Result<bool> {
    let lacks: Vec<usize> = (0..members.len()).filter(|i| makings[*i].is_err()).collect();
    let group = point.group(&lacks);
    let ready = makings.iter().zip(prepared).filter_map(|(making, prepared)| Some((making.as_ref().ok()?, prepared?)));
    let drafts: Vec<Draft> = ready.map(|(making, prepared)| making.draft(prepared, Some(group.clone()))).collect();
    if !drafts.is_empty() {
        run.outbox(|outbox| outbox.commit_together(&drafts, &run.signer))?;
        tracing::info!("{}: committed the group {} with {} of {} members", run.node.name, point.name, drafts.len(), members.len());
    }
    for (making, member) in makings.iter().zip(members) {
        match making {
            Ok(making) => run.hold(making.dataset(), None)?,
            Err(refusal) => refusal.end(run, &member.file)?,
        }
    }
    run.hold(&base::Dataset::new(base::config::GROUP, &point.name)?, None)?;
    Ok(!drafts.is_empty())
}

/// The whole group stays in process, and the next run prepares all of it anew.
fn later(run: &NodeRun, subject: &Dataset, error: Error) -> Result<bool> {
    if !run.has_left() {
        run.hold(subject, Some(&error.context(format!("{subject} cannot be prepared for {} now", run.node.name))))?;
    }
    Ok(false)
}

/// What was begun for this request, or a new beginning where the group has changed since.
fn point(run: &NodeRun, claimed: &Claimed, entry: &GroupEntry) -> Result<Point> {
    if let Some(known) = Point::load(&run.config, &claimed.file.id)? {
        if known.is_of(entry) {
            return Ok(known);
        }
        for member in &known.members {
            // Nothing of it was sent: the group's requests go together.
            modules::discard(&run.config, &run.node, &member.request, &run.unanswered_parts(&member.request)?)?;
            run.pool.cancel(&member.request, &|_| Ok(false))?;
        }
    }
    let point = Point::new(&claimed.file.id, entry, &run.node.name)?;
    point.save(&run.config)?;
    Ok(point)
}

/// Whether a request of this group was sent; then all were that ever will be.
///
/// # Errors
/// When the queue is damaged.
pub fn is_sent(run: &NodeRun, group: &RequestId) -> Result<bool> {
    let Some(point) = Point::load(&run.config, group)? else { return Ok(false) };
    // One that was not prepared may have ended before the process died.
    let mut sent = point.members.iter().any(|member| member.ending.is_some());
    for member in &point.members {
        sent = sent || run.outbox(|outbox| outbox.request_bytes(&member.request))?.is_some();
    }
    Ok(sent)
}

/// Whether a group that is to be prepared anew has this request for one of its members.
///
/// # Errors
/// When pool or queue cannot be read.
pub fn waits_for_its_group(run: &NodeRun, file: &PoolFile) -> Result<bool> {
    let Some(group) = &file.group else { return Ok(false) };
    match run.pool.find_claimed(group) {
        Some((State::Process, group)) => Ok(!is_sent(run, &group.id)?),
        _ => Ok(false),
    }
}

/// Ends the request `file` for a member whose group is not prepared any more.
///
/// # Errors
/// With the path.
pub fn without(run: &NodeRun, file: &PoolFile, group: &RequestId) -> Result<()> {
    if is_sent(run, group)? {
        // A process died between the group's commit and this one's end.
        let error = Error::failed("it belongs to a group that went without it");
        return Refusal { ending: Ending::Failed, error }.end(run, file);
    }
    // The group was taken back, or is not in the configuration any more: nothing of it is to be told.
    let held = lock(&run.points);
    if let Some(point) = Point::load(&run.config, group)? {
        point.remove(&run.config)?;
    }
    drop(held);
    run.end_here(&OutcomeFile::new(&file.id, &file.dataset()?, &run.node.name, Ending::Cancelled))
}

/// Whether `file` is for a group of which a member is in process for itself; then the group waits. `in_process` says what is.
pub fn waits_for_members<'a>(run: &NodeRun, file: &PoolFile, in_process: impl FnOnce() -> &'a [PoolFile]) -> bool {
    let subject = file.dataset().ok();
    let Some(group) = subject.as_ref().and_then(|subject| run.config.group_of(subject)) else { return false };
    let member = |other: &PoolFile| other.dataset().is_ok_and(|dataset| group.members.contains(&dataset));
    in_process().iter().any(|other| other.node == run.node.name && member(other))
}

/// A member's request has ended: noted for its group.
///
/// # Errors
/// With the path.
pub fn note(run: &NodeRun, file: &PoolFile, outcome: &OutcomeFile) -> Result<()> {
    let Some(group) = &file.group else { return Ok(()) };
    let _held = lock(&run.points);
    let Some(mut point) = Point::load(&run.config, group)? else { return Ok(()) };
    if point.ended(outcome) { point.save(&run.config) } else { Ok(()) }
}

/// Ends the requests for groups whose members have all ended.
///
/// # Errors
/// With the path.
pub fn settle(run: &NodeRun) -> Result<()> {
    for Point { id, .. } in Point::all(&run.config, &run.node)? {
        let held = lock(&run.points);
        // Another thread may have done it meanwhile.
        let Some(point) = Point::load(&run.config, &id)? else { continue };
        let subject = Dataset::new(base::config::GROUP, &point.name)?;
        let Some(outcome) = point.outcome(&subject) else {
            // Cancelled, or the pool was lost.
            if run.pool.find_claimed(&point.id).is_none() {
                point.remove(&run.config)?;
            }
            continue;
        };
        run.end(&outcome)?;
        point.remove(&run.config)?;
        drop(held);
        match outcome.outcome {
            Ending::Stored => tracing::info!("{}: the group {} is stored ({})", run.node.name, point.name, point.id),
            _ => run.tell_failed(&Error::failed(format!(
                "the group {} at {} ({}) is {}",
                point.name,
                run.node.name,
                point.id,
                outcome.reason.as_deref().unwrap_or("incomplete")
            ))),
        }
    }
    Ok(())
}
