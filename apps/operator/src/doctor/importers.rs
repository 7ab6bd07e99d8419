//! Which memory reaches a NIC by which interface of VFIO's: the answers of the code that maps it.

use pmd::pci::{ImporterRow, importers};

use super::finding::Finding;

pub(super) fn findings() -> Vec<Finding> {
    match importers() {
        Ok(rows) => rows.iter().map(finding).collect(),
        Err(error) => vec![Finding::skip("table", format!("/dev/null: {error}"))],
    }
}

/// A row: good if any interface takes that memory.
fn finding(row: &ImporterRow) -> Finding {
    let answers = row.answers.iter();
    let cells: Vec<_> = answers
        .map(|(name, answer)| format!("{name} {}", if answer.is_ok() { "yes" } else { "no" }))
        .collect();
    let says = cells.join(", ");
    let reasons: Vec<_> = row
        .answers
        .iter()
        .filter_map(|(name, answer)| Some(format!("{name}: {}", answer.as_ref().err()?)))
        .collect();
    let finding = if row.answers.iter().any(|(_, answer)| answer.is_ok()) {
        Finding::ok(row.memory, says)
    } else {
        Finding::warn(row.memory, says)
    };
    finding.details(reasons)
}
