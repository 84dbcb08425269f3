//! Caps through the real program: what they refuse, what they tell, what they hold; once, whatever fails on the way.

mod alerts;
mod bad_input;
mod book;
mod checks;
mod late;
mod multi;
mod periods;
mod race;
mod readme;
mod refusals;
mod reservations;
pub mod scene;
