//! Whatever is taken back in whatever order: counters, totals and the store are what the events that are left come to.

mod house;
mod known_errors;
mod random;
mod reverts;
mod running;
