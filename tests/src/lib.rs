//! Nothing but the place of the tests that cross a process; they are in `tests/it/`, one binary.
