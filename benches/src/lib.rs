//! How memwire is measured: time-stamp counter windows, exact instruction counts by single-stepping,
//! and a probe that says how far apart the two cores are right now.

pub mod cases;
pub mod instructions;
pub mod placement;
pub mod plain_socket;
pub mod single_step;
pub mod window;

/// The machine or the build lacks what a case needs; says what. The program ends with status 3.
#[derive(Debug)]
pub struct CannotRunHere(pub String);

impl std::fmt::Display for CannotRunHere {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for CannotRunHere {}
