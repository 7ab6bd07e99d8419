//! The drivers of the 82574 and the 82576 against models of both chips, and the models by themselves.

mod conformance;
mod rig;
