//! A person's word on a whole dataset: `forget` condemns all of its snapshots, `remember` takes that back.
//!
//! Takes nothing away: pruning does, after the grace, as with everything condemned.

use super::Store;
use super::marks::By;
use base::{Dataset, Error, RequestId, Result};
use jiff::Timestamp;

impl Store {
    /// Condemns every snapshot of a dataset, the newest as well; `name` is what the deed is called in the log. Gives those
    /// that are condemned by it now.
    ///
    /// # Errors
    /// Of kind usage when there is none; of kind refused when one is held; with the path.
    pub fn forget(&self, dataset: &Dataset, name: &str, now: Timestamp) -> Result<Vec<RequestId>> {
        let _lock = self.lock()?;
        let ids = self.of_dataset(dataset)?;
        for id in &ids {
            if self.marks(id)?.held.is_some() {
                return Err(Error::refused(format!("the snapshot {id} of {dataset} is held"))
                    .hint(format!("nightsafe-server unhold {id} lets go of it first.")));
            }
        }
        ids.iter().try_for_each(|id| self.condemn(id, By::Forget, name, now))?;
        Ok(ids)
    }

    /// Takes [`Store::forget`] back, as far as the snapshots are still there. Gives those that are kept again.
    ///
    /// # Errors
    /// Of kind usage when nothing of the dataset is there; with the path.
    pub fn remember(&self, dataset: &Dataset) -> Result<Vec<RequestId>> {
        let _lock = self.lock()?;
        let mut ids = self.of_dataset(dataset)?;
        let mut forgotten = Vec::new();
        for id in ids.drain(..) {
            if self.marks(&id)?.condemned.is_some_and(|condemned| condemned.by == By::Forget) {
                self.spare(&id)?;
                forgotten.push(id);
            }
        }
        Ok(forgotten)
    }

    fn of_dataset(&self, dataset: &Dataset) -> Result<Vec<RequestId>> {
        let ids: Vec<RequestId> =
            self.snapshots()?.into_iter().filter(|snapshot| snapshot.dataset == *dataset).map(|snapshot| snapshot.accepted.id).collect();
        if ids.is_empty() {
            return Err(Error::usage(format!("there is no snapshot of {dataset} in {}", self.path().display()))
                .hint("nightsafe-server snapshots lists what is kept."));
        }
        Ok(ids)
    }
}
