//! A program that is nothing but git's way to ssh: the tests of this crate have no binary of the project at hand.

fn main() {
    transport::wrapper::run_if_asked();
}
