use super::*;
use crate::index::Record;
use crate::reference::RunId;
use std::path::PathBuf;

fn pack(tag: u64) -> PackInfo {
    let digest = Blake3::of(&tag.to_le_bytes());
    PackInfo { digest, size: 40 << 20, run: RunId(tag), first: 0, frames: 4, table: digest, plain: 1000 }
}

fn id(n: u64) -> RequestId {
    format!("20261120T031500Z-{n:08x}").parse().unwrap()
}

struct Setup {
    dir: tempfile::TempDir,
    next: u64,
}

impl Setup {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), next: 0 }
    }

    fn index(&self) -> Index {
        Index::load(self.dir.path(), "age1x").unwrap()
    }

    /// A backup that uses so much of these packs, by their tags; those that the index does not have are new. Not acknowledged.
    fn prepare(&mut self, dataset: &str, uses: &[(u64, u64)]) -> RequestId {
        self.next += 1;
        let (index, dataset) = (self.index(), dataset.parse().unwrap());
        let plan = Plan::of(&index, &dataset);
        let mut marks = Marks::new(index.packs().len());
        let mut fresh = Vec::new();
        for (tag, used) in uses {
            match index.packs().iter().position(|known| known.digest == pack(*tag).digest) {
                Some(number) => {
                    assert!(!plan.given_up(number), "{tag} is given up");
                    let at = crate::reference::Member { run: RunId(*tag), frame: 0, n: 0 };
                    marks.chunk(number, 0, at, *used);
                }
                None => fresh.push(pack(*tag)),
            }
        }
        for info in &fresh {
            index.note(&id(self.next), info, &Vec::<Record>::new()).unwrap();
        }
        Outcome::new(plan, &marks, RunId(0), 0).note(&index, &id(self.next), &dataset, &fresh).unwrap();
        id(self.next)
    }

    fn keep(&mut self, dataset: &str, uses: &[(u64, u64)]) {
        let id = self.prepare(dataset, uses);
        Index::acknowledge(self.dir.path(), &id).unwrap();
        Index::acknowledge(self.dir.path(), &id).unwrap();
    }

    /// How the packs stand with a dataset, by their tags; only those that the index has.
    fn standing(&self, dataset: &str) -> Vec<(u64, Standing)> {
        let index = self.index();
        let plan = Plan::of(&index, &dataset.parse().unwrap());
        let find = |tag: u64| index.packs().iter().position(|known| known.digest == pack(tag).digest);
        (0..20).filter_map(|tag| find(tag).map(|number| (tag, plan.standing(number)))).collect()
    }

    fn use_files(&self) -> Vec<PathBuf> {
        let folder = self.index().epoch_folder();
        let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("use-"));
        all.sort();
        all
    }
}

#[test]
fn a_pack_used_less_than_half_is_given_up_and_leaves_the_index() {
    use Standing::{GivenUp, Own};
    let mut setup = Setup::new();
    setup.keep("files:/a", &[(1, 0), (2, 0)]);
    assert_eq!(setup.standing("files:/a"), [(1, Own), (2, Own)]);
    setup.keep("files:/a", &[(1, 499), (2, 900), (3, 0)]);
    assert_eq!(setup.standing("files:/a"), [(1, GivenUp), (2, Own), (3, Own)]);
    // What is refused, or never heard of again, changes nothing.
    let refused = setup.prepare("files:/a", &[(2, 1), (4, 0)]);
    assert_eq!(setup.standing("files:/a"), [(1, GivenUp), (2, Own), (3, Own)]);
    Index::discard(setup.dir.path(), &refused).unwrap();
    setup.prepare("files:/a", &[(2, 1), (5, 0)]);
    assert_eq!(setup.standing("files:/a"), [(1, GivenUp), (2, Own), (3, Own)]);
    // The next snapshot does not refer to it, so it may go on the node and is not looked for any more.
    setup.keep("files:/a", &[(2, 900), (3, 900), (6, 0)]);
    assert_eq!(setup.standing("files:/a"), [(2, Own), (3, Own), (6, Own)]);
    assert_eq!(setup.index().rewriting_below(0.95).rewrite_below(), 0.95);
}

#[test]
fn a_pack_of_two_datasets_is_given_up_by_one_for_good_and_stays_for_the_other() {
    use Standing::{Foreign, GivenUp, Own};
    let mut setup = Setup::new();
    setup.keep("files:/a", &[(1, 0)]);
    assert_eq!(setup.standing("files:/b"), [(1, Foreign)]);
    setup.keep("files:/b", &[(1, 100), (2, 0)]);
    assert_eq!(setup.standing("files:/b"), [(1, GivenUp), (2, Own)]);
    assert_eq!(setup.standing("files:/a"), [(1, Own), (2, Foreign)]);
    for night in 0..5 {
        setup.keep("files:/b", &[(2, 1000), (3 + night, 0)]);
        setup.keep("files:/a", &[(1, 1000)]);
        assert!(setup.standing("files:/b").contains(&(1, GivenUp)), "night {night}");
    }
    // When the other one gives it up as well, it goes.
    setup.keep("files:/a", &[(1, 200), (19, 0)]);
    assert!(setup.standing("files:/a").contains(&(1, GivenUp)));
    setup.keep("files:/a", &[(19, 1000)]);
    assert!(setup.standing("files:/b").iter().all(|(tag, _)| *tag != 1));
}

#[test]
fn a_request_that_waits_keeps_its_packs_in_the_index() {
    let mut setup = Setup::new();
    setup.keep("files:/a", &[(1, 0), (2, 0)]);
    let waiting = setup.prepare("files:/b", &[(1, 900)]);
    setup.keep("files:/a", &[(2, 1000)]);
    assert_eq!(setup.standing("files:/a").len(), 2);
    Index::acknowledge(setup.dir.path(), &waiting).unwrap();
    setup.keep("files:/a", &[(2, 1000)]);
    assert_eq!(setup.standing("files:/b")[0], (1, Standing::Own));
}

#[test]
fn a_lost_or_damaged_file_gives_nothing_up() {
    let mut setup = Setup::new();
    setup.keep("files:/a", &[(1, 0), (2, 0)]);
    setup.keep("files:/a", &[(1, 10), (2, 1000)]);
    setup.keep("files:/b", &[(1, 10)]);
    let [a, b] = &setup.use_files()[..] else { panic!("two files") };
    let (first, second) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    for at in 0..first.len() {
        let mut bytes = first.clone();
        bytes[at] ^= 1;
        assert!(Usage::parse(&bytes).is_none() && Usage::parse(&first[..at]).is_none());
    }
    for bad in [None, Some(&b"damaged"[..]), Some(&second[..])] {
        match bad {
            Some(bytes) => fs::write(a, bytes).unwrap(),
            None => fs::remove_file(a).unwrap(),
        }
        let swapped = bad == Some(&second[..]);
        let foreign = |dataset: &str| setup.standing(dataset).iter().all(|(_, standing)| *standing == Standing::Foreign);
        assert!(foreign("files:/a") || foreign("files:/b"));
        assert_eq!(setup.standing("files:/a").len(), 2, "{swapped}");
    }
    // What others use is not known: nothing leaves the index.
    fs::write(a, b"damaged").unwrap();
    fs::write(b, b"damaged").unwrap();
    setup.keep("files:/c", &[(3, 0)]);
    setup.keep("files:/c", &[(4, 0)]);
    assert_eq!(setup.standing("files:/c").len(), 4);
}
