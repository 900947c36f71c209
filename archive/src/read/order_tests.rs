//! Files whose chunks are spread over frames in any way: each frame is needed once where there is room, and the bytes are right
//! where there is none.

use super::*;
use crate::entry::FileDigest;
use crate::forge::{Forge, Forged};
use crate::read::schedule::Schedule;
use crate::reference::Member;
use proptest::prelude::*;
use std::fs::File;

/// Chunks in frames of about four.
const CHUNKS: usize = 60;

struct Spread {
    forged: Forged,
    files: Vec<Wanted>,
    contents: Vec<Vec<u8>>,
}

/// Files that have these chunks; of every third one the list lies in chunks itself.
fn spread(lists: &[Vec<usize>]) -> Spread {
    let mut forge = Forge::new();
    let chunks: Vec<Vec<u8>> = (0..CHUNKS).map(|n| vec![u8::try_from(n).unwrap(); 500 + n * 20]).collect();
    let places: Vec<Member> = chunks.iter().map(|chunk| forge.chunk(chunk)).collect();
    let (mut files, mut contents) = (Vec::new(), Vec::new());
    for (n, list) in lists.iter().enumerate() {
        let content: Vec<u8> = list.iter().flat_map(|at| chunks[*at].clone()).collect();
        let references = References::of(list.iter().map(|at| places[*at]));
        let expected = Expected { size: content.len() as u64, digest: FileDigest::of(&forge.secrets.chunk_id(&content).0) };
        let content_of = if n % 3 == 2 && !list.is_empty() {
            let text = references.to_string();
            let texts: Vec<Member> = text.as_bytes().chunks(40).map(|text| forge.chunk(text)).collect();
            Content::More(References::of(texts))
        } else {
            Content::Chunks(references)
        };
        files.push(Wanted { content: content_of, expected });
        contents.push(content);
    }
    Spread { forged: forge.finish(vec![crate::forge::folder("")]), files, contents }
}

impl Spread {
    /// What comes of each file, put together as a receiver does.
    fn read(&self, room: Room<'_>) -> Vec<std::result::Result<Vec<u8>, String>> {
        let reader = self.forged.reader();
        let mut found: Vec<std::result::Result<Vec<u8>, String>> = vec![Ok(Vec::new()); self.files.len()];
        let mut whole = HashSet::new();
        read_all(reader.frames(), reader.secrets(), &self.files, room, &mut |Batch { frame, pieces }| {
            for piece in pieces {
                assert!(!whole.contains(&piece.file));
                let Ok(bytes) = &mut found[piece.file] else { panic!("a piece of a file that failed") };
                assert_eq!(bytes.len() as u64, piece.offset);
                for n in &piece.chunks {
                    bytes.extend_from_slice(frame.as_ref().unwrap().chunk(*n).unwrap());
                }
                match piece.state {
                    Reached::Middle => {}
                    Reached::Whole => assert!(whole.insert(piece.file)),
                    Reached::Failed(error) => found[piece.file] = Err(error.one_line()),
                }
            }
            true
        })
        .unwrap();
        assert!((0..found.len()).all(|file| found[file].is_err() || whole.contains(&file)));
        found
    }
}

fn no_file() -> Option<File> {
    None
}

fn some_file() -> Option<File> {
    tempfile::tempfile().ok()
}

/// Much, on the disk alone, some, not as much as was said, none.
fn rooms() -> [Room<'static>; 6] {
    let (none, some): (&dyn Fn() -> Option<File>, &dyn Fn() -> Option<File>) = (&no_file, &some_file);
    [
        Room { memory: 1 << 30, disk: 0, file: none },
        Room { memory: 0, disk: 1 << 30, file: some },
        Room { memory: 3000, disk: 5000, file: some },
        Room { memory: 3000, disk: 1 << 30, file: none },
        Room { memory: 0, disk: 1 << 30, file: none },
        Room { memory: 0, disk: 0, file: none },
    ]
}

fn lists() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let at_random = prop::collection::vec(0..CHUNKS, 0..40);
    let run = (0..CHUNKS, 1usize..30).prop_map(|(first, count)| (first..CHUNKS.min(first + count)).collect());
    let same = (0..CHUNKS, 1usize..20).prop_map(|(n, count)| vec![n; count]);
    prop::collection::vec(prop_oneof![at_random, run, same], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_file_is_right_whatever_room_there_is(lists in lists()) {
        let spread = spread(&lists);
        for (n, room) in rooms().into_iter().enumerate() {
            let found = spread.read(room);
            for (file, content) in spread.contents.iter().enumerate() {
                prop_assert_eq!(found[file].as_ref(), Ok(content), "room {} file {}", n, file);
            }
        }
    }

    #[test]
    fn no_frame_is_needed_twice_where_there_is_room(lists in lists()) {
        let spread = spread(&lists);
        let reader = spread.forged.reader();
        let lists: Vec<List<'_>> = lists_of(&spread.files);
        let (schedule, _) = Schedule::new(reader.frames(), &lists, u64::MAX);
        let mut places = HashSet::new();
        let mut items = vec![0; lists.len()];
        for (place, parts) in schedule {
            prop_assert!(places.insert(place), "{:?} is needed twice", place);
            parts.iter().for_each(|part| items[part.list] += part.items.len());
        }
        // And nothing is left out or comes twice.
        for (list, items) in lists.iter().zip(items) {
            prop_assert_eq!(list.items.len(), items);
        }
    }
}

fn lists_of(files: &[Wanted]) -> Vec<List<'_>> {
    let lists = files.iter().enumerate().filter_map(|(file, wanted)| match &wanted.content {
        Content::Chunks(list) => Some(List { file, items: Cow::Borrowed(&list.0[..]), begins: true, ends: true, each: 1000 }),
        Content::More(_) => None,
    });
    lists.collect()
}

#[test]
fn a_chunk_that_is_repeated_without_end_is_kept_once() {
    // The file comes to the first frame in its second part, and others are there before it.
    let list: Vec<usize> = [vec![50], vec![0; 200_000], vec![51, 0]].concat();
    let spread = spread(&[list, vec![0, 1], vec![0]]);
    for room in [Room { memory: 2000, disk: 0, file: &no_file }, Room { memory: 0, disk: 2000, file: &some_file }] {
        let (reader, lists) = (spread.forged.reader(), lists_of(&spread.files));
        let places: Vec<Place> = Schedule::new(reader.frames(), &lists, room.bytes()).0.map(|(place, _)| place).collect();
        assert_eq!(places.len(), 3, "{places:?}");
        let found = spread.read(room);
        assert!(found.iter().zip(&spread.contents).all(|(found, content)| found.as_ref() == Ok(content)));
    }
}

#[test]
fn a_lost_frame_fails_the_files_that_need_it_and_no_other() {
    let spread = spread(&[vec![50, 0, 20], vec![0, 50], vec![1, 21], vec![55, 3, 56, 2]]);
    // Packs hold four frames of three to four chunks.
    let name = spread.forged.names()[1];
    spread.forged.damage(&name, |bytes| bytes[3000] ^= 1);
    for room in rooms() {
        let found = spread.read(room);
        let failed: Vec<usize> = (0..found.len()).filter(|file| found[*file].is_err()).collect();
        assert_eq!(failed, [0, 2], "{found:?}");
        assert!([1, 3].into_iter().all(|file| found[file].as_ref() == Ok(&spread.contents[file])));
    }
}
