use super::*;
use std::sync::mpsc::channel;

/// A state folder with nothing in it, and a client of which it is.
struct World {
    dir: tempfile::TempDir,
    config: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nname = \"web1\"\nstate = \"{}\"", dir.path().display());
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        state::make_folders(&config).unwrap();
        Self { dir, config: Arc::new(config) }
    }

    fn around(&self) -> Around {
        Around::new(&self.config, &Name::new("n1").unwrap())
    }

    /// A subject whose commands write down that they ran, and how it went.
    fn subject(&self) -> Subject {
        let words = |word: &str| {
            let log = self.dir.path().join("log");
            vec!["sh".to_owned(), "-c".to_owned(), format!("echo {word} $NIGHTSAFE_OUTCOME >>'{}'", log.display())]
        };
        Subject {
            dataset: "files:/a".parse().unwrap(),
            request: RequestId::generate().unwrap(),
            commands: Commands { before: words("before"), after: words("after"), time_limit: Duration::from_secs(60) },
            snapshot: None,
            reads: true,
        }
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn notes(&self) -> usize {
        std::fs::read_dir(state::around_folder(&self.config)).unwrap().count()
    }

    /// What a process that was killed has left.
    fn leave_behind(&self, subject: &Subject) {
        let after = command::After::of(&subject.dataset, &subject.request, &subject.commands).unwrap();
        Journal::new(&self.config, &Name::new("n1").unwrap(), &subject.request).add(Open::After(after)).unwrap();
    }
}

fn unheard(error: &Error) {
    panic!("{}", error.render());
}

#[test]
fn what_another_node_has_stopped_is_not_begun_beneath_it() {
    let world = World::new();
    let subject = world.subject();
    world.leave_behind(&subject);
    let other = FileLock::try_now(&lock_path(&world.config, &subject.dataset)).unwrap().unwrap();
    world.around().finish_left_behind(&unheard).unwrap();
    assert_eq!((world.log().len(), world.notes()), (0, 1), "another node reads it");
    finish_strays(&world.config, &unheard).unwrap();
    assert_eq!((world.log().len(), world.notes()), (0, 1));
    drop(other);
    // The same node's next backup of it does that first.
    world.around().work(&[world.subject()], &|| false, &mut |_, _| Ok(())).unwrap();
    assert_eq!(world.log(), ["after interrupted", "before", "after done"]);
    assert_eq!(world.notes(), 0);
    world.leave_behind(&subject);
    world.around().finish_left_behind(&unheard).unwrap();
    assert_eq!((world.log().len(), world.notes()), (4, 0));
}

#[test]
fn what_is_being_read_is_not_taken_for_left_behind() {
    let world = World::new();
    let (around, subject) = (world.around(), world.subject());
    let taken = || FileLock::try_now(&lock_path(&world.config, &subject.dataset)).unwrap().is_none();
    let report = around.work(std::slice::from_ref(&subject), &|| false, &mut |_, _| {
        assert!(taken() && world.notes() == 1);
        around.finish_left_behind(&unheard)
    });
    assert!(report.unwrap().failed[0].is_none() && !taken());
    assert_eq!(world.log(), ["before", "after done"]);
}

#[test]
fn whoever_stops_runs_what_comes_after_and_the_backup_comes_to_nothing() {
    let world = World::new();
    let (around, subject) = (&world.around(), world.subject());
    let ((reads, begun), (goes_on, go_on)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let lane = scope.spawn(move || {
            around.work(&[subject], &|| false, &mut |_, _| {
                reads.send(()).unwrap();
                go_on.recv().map_err(|_| Error::failed("nobody says so"))
            })
        });
        begun.recv().unwrap();
        around.take_over(&unheard);
        assert_eq!(world.log(), ["before", "after interrupted"]);
        goes_on.send(()).unwrap();
        // It was read to its end, but not while it stood still.
        let report = lane.join().unwrap().unwrap();
        assert!(report.failed[0].as_ref().is_some_and(|error| error.kind() == base::Kind::NotNow) && report.untidy.is_empty());
    });
    assert_eq!((world.log().len(), world.notes()), (2, 0), "once");
}

/// Other nodes need not wait until the snapshot is read.
#[test]
fn what_is_open_again_may_be_stopped_by_another() {
    let world = World::new();
    let (node, subject) = (Name::new("n1").unwrap(), world.subject());
    let subjects = std::slice::from_ref(&subject);
    let around = world.around();
    let notes = Mutex::new(Some(Journal::new(&world.config, &node, &subject.request)));
    let locks = around.alone(subjects, &|| false).unwrap();
    let mut read = |_: usize, _: Option<&Frozen>| Ok(());
    let mut hands = Work::new(&world.config, &node, subjects, &|| false, &mut read, &notes, locks);
    let free = || FileLock::try_now(&lock_path(&world.config, &subject.dataset)).unwrap().is_some();
    steps::Hands::before(&mut hands, 0).unwrap();
    assert!(!free());
    steps::Hands::after(&mut hands, 0, true).unwrap();
    assert!(free());
    assert!(hands.untidy().is_empty());
}
