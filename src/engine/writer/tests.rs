//! By question, against a whole engine that is driven step by step: what caps do, what reservations do, and whether a restart
//! or a refold can be noticed.

mod bases;
mod caps;
mod consistency;
mod daemon;
mod find;
mod nearest;
mod periods;
mod reservations;
