//! Folding: record files that have gathered become a table, and small tables a larger one, so that opening stays cheap.
//!
//! Does not decide what is found. A crash at any point leaves tables that may overlap, and all record files.

use super::table::{Row, Table, Writer};
use super::{Place, record};
use crate::reference::RunId;
use base::{At, Blake3, Error, FileLock, Result, atomic};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What is in no table is read whenever the index is opened: at most so many chunks and packs, about 3 MB.
const RECENT: u64 = 1 << 16;
const RECENT_PACKS: usize = 256;
/// So many places are sorted at once, 24 bytes each.
const BATCH: usize = 1 << 20;
/// A table is made one with those below it unless it is so many times larger than all of them: so there are few tables, and each place is
/// written few times.
const STEP: u64 = 4;
/// What names of tables begin with.
const TABLE: &str = "table-";
/// The name of the lock.
const LOCK: &str = "lock";

/// What is in the folder of an epoch.
pub(super) struct Stock {
    /// The packs that have a record file, sorted.
    pub(super) packs: Vec<Blake3>,
    /// Largest first.
    pub(super) tables: Vec<(Table, Vec<Row>)>,
    /// Packs that are in no table.
    pub(super) recent: Vec<Blake3>,
}

/// Looks at the folder and folds what is due; the lock is held until the stock was read. A folder that is not there is empty.
pub(super) fn stock(folder: &Path, recipient: &str) -> Result<(Stock, Option<FileLock>)> {
    if !folder.is_dir() {
        return Ok((Stock { packs: Vec::new(), tables: Vec::new(), recent: Vec::new() }, None));
    }
    let lock = FileLock::wait(&folder.join(LOCK))?;
    let stock = look(folder, recipient)?;
    if !due(folder, &stock)? {
        return Ok((stock, Some(lock)));
    }
    drop(stock);
    if let Err(error) = fold(folder, recipient) {
        tracing::warn!("the index in {} could not be folded: {}", folder.display(), error.one_line());
    }
    Ok((look(folder, recipient)?, Some(lock)))
}

fn look(folder: &Path, recipient: &str) -> Result<Stock> {
    atomic::sweep_drafts(folder, std::time::Duration::from_secs(24 * 3600));
    let (mut packs, mut tables) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).at("list", folder)? {
        let name = entry.at("list", folder)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(pack) = Blake3::from_hex(name) {
            packs.push(pack);
        } else if name.starts_with(TABLE) {
            let path = folder.join(name);
            match Table::open(&path, recipient) {
                Ok(table) => tables.push(table),
                Err(error) => lost(&path, &error)?,
            }
        }
    }
    packs.sort_unstable_by_key(|pack| pack.0);
    tables.sort_by(|(one, _), (other, _)| (other.len(), other.path()).cmp(&(one.len(), one.path())));
    // A table of which all packs that count are in larger ones was left by a crash.
    let mut covered = HashSet::new();
    let mut kept = Vec::new();
    for (table, rows) in tables {
        let before = covered.len();
        covered.extend(rows.iter().map(|row| row.info.digest).filter(|digest| holds(&packs, digest)));
        if covered.len() == before {
            atomic::remove(table.path())?;
        } else {
            kept.push((table, rows));
        }
    }
    let recent = packs.iter().copied().filter(|pack| !covered.contains(pack)).collect();
    Ok(Stock { packs, tables: kept, recent })
}

/// Whether the sorted list has this pack.
pub(super) fn holds(packs: &[Blake3], pack: &Blake3) -> bool {
    packs.binary_search_by_key(&pack.0, |known| known.0).is_ok()
}

/// A table that cannot be used is not there any more.
pub(super) fn lost(path: &Path, error: &Error) -> Result<()> {
    tracing::warn!("{}", error.one_line());
    atomic::remove(path)
}

fn due(folder: &Path, stock: &Stock) -> Result<bool> {
    let mut bytes = 0;
    for pack in &stock.recent {
        let path = folder.join(pack.hex());
        bytes += match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            other => other.at("stat", &path)?.len(),
        };
    }
    Ok(bytes / record::RECORD as u64 > RECENT || stock.recent.len() > RECENT_PACKS)
}

/// Makes tables of what is recent, and fewer tables of many.
pub(super) fn fold(folder: &Path, recipient: &str) -> Result<()> {
    let stock = look(folder, recipient)?;
    let mut batch = Batch::default();
    for pack in &stock.recent {
        batch.read(&folder.join(pack.hex()));
        if batch.places.len() >= BATCH {
            std::mem::take(&mut batch).write(folder, recipient)?;
        }
    }
    batch.write(folder, recipient)?;
    drop(stock);
    loop {
        let stock = look(folder, recipient)?;
        match merge(folder, recipient, &stock) {
            Ok(()) => return Ok(()),
            // The damaged table is gone; its packs are read again when they are due.
            Err(Stopped::Damaged(path, error)) => lost(&path, &error)?,
            Err(Stopped::Failed(error)) => return Err(error),
        }
    }
}

/// Places of some packs, as many as are sorted at once.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    places: Vec<Place>,
}

impl Batch {
    /// Takes a pack in; one of which the file is damaged is left out.
    fn read(&mut self, path: &Path) {
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        match record::read(path, number) {
            Ok((header, places)) => {
                self.rows.push(Row { info: header.info(), chunks: places.len() as u64 });
                self.places.extend(places);
            }
            Err(error) => tracing::warn!("left out of the index: {}", error.one_line()),
        }
    }

    fn write(mut self, folder: &Path, recipient: &str) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.places.sort_unstable();
        let mut writer = Writer::begin(&new_path(folder)?, recipient, self.places.len() as u64)?;
        self.places.iter().try_for_each(|place| writer.push(place))?;
        writer.finish(&self.rows).map(drop)
    }
}

fn new_path(folder: &Path) -> Result<PathBuf> {
    Ok(folder.join(format!("{TABLE}{}", RunId::generate()?)))
}

/// Why tables were not merged.
enum Stopped {
    /// This one cannot be read.
    Damaged(PathBuf, Error),
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How many of the tables, largest first, stay as they are, by how many places of theirs count.
pub(super) fn staying(sizes: &[u64]) -> usize {
    let mut gathered = 0;
    for (number, size) in sizes.iter().enumerate().rev() {
        if gathered > 0 && *size >= STEP * gathered {
            return number + 1;
        }
        gathered += size;
    }
    0
}

/// Makes one table of all that are small beside the others, without the packs that are forgotten.
fn merge(folder: &Path, recipient: &str, stock: &Stock) -> std::result::Result<(), Stopped> {
    let counts = |row: &&Row| holds(&stock.packs, &row.info.digest);
    let sizes: Vec<u64> = stock.tables.iter().map(|(_, rows)| rows.iter().filter(counts).map(|row| row.chunks).sum()).collect();
    let merged = &stock.tables[staying(&sizes)..];
    let total = sizes[staying(&sizes)..].iter().sum();
    let wasted = merged.iter().map(|(table, _)| table.len()).sum::<u64>() > 2 * total;
    if merged.len() < 2 && !wasted {
        return Ok(());
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut seen = HashSet::new();
    // For each table: its packs' numbers in the new one. A pack that a crash left in two is taken from one.
    let mut numbers = Vec::new();
    for (_, old) in merged {
        let mut map = Vec::with_capacity(old.len());
        for row in old {
            let taken = counts(&row) && seen.insert(row.info.digest);
            map.push(taken.then(|| u32::try_from(rows.len()).unwrap_or(u32::MAX)));
            if taken {
                rows.push(row.clone());
            }
        }
        numbers.push(map);
    }
    let mut writer = Writer::begin(&new_path(folder)?, recipient, total)?;
    let mut cursors: Vec<_> = merged.iter().map(|(table, _)| table.places()).collect();
    let mut heads = BinaryHeap::new();
    let mut step = |number: usize, heads: &mut BinaryHeap<Reverse<(Place, usize)>>| -> std::result::Result<(), Stopped> {
        let cursor: &mut super::table::Places<'_> = &mut cursors[number];
        loop {
            let place = cursor.next().map_err(|error| Stopped::Damaged(merged[number].0.path().to_owned(), error))?;
            let Some(place) = place else { return Ok(()) };
            if let Some(Some(pack)) = numbers[number].get(place.pack as usize) {
                heads.push(Reverse((Place { pack: *pack, ..place }, number)));
                return Ok(());
            }
        }
    };
    for number in 0..merged.len() {
        step(number, &mut heads)?;
    }
    while let Some(Reverse((place, number))) = heads.pop() {
        writer.push(&place)?;
        step(number, &mut heads)?;
    }
    writer.finish(&rows)?;
    merged.iter().try_for_each(|(table, _)| atomic::remove(table.path())).map_err(Stopped::Failed)
}
