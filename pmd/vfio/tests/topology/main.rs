//! Distances and verdicts on machines made of text, and what is said of broken ones. The expected numbers
//! are counted by hand, by the rules of `calc_map_type_and_dist()` in Linux 7.3.

mod broken;
mod machines;
mod tree;
