//! How memwire is measured: time-stamp counter windows, exact instruction counts by single-stepping,
//! and a probe that says how far apart the two cores are right now.

pub mod cases;
pub mod instructions;
pub mod placement;
pub mod window;
