//! What this process may do: its capabilities, and how much memory it may pin.

use mempool::format_bytes;

use super::{
    finding::Finding,
    machine::{CAPABILITIES, Machine},
};

/// Less than this is too little for a queue of full frames with room to spare.
const ENOUGH: u64 = 64 << 20;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let Some(process) = &machine.process else {
        return vec![Finding::skip("process", "this tree has none")];
    };
    let has: Vec<_> = CAPABILITIES
        .into_iter()
        .filter(|(number, _)| process.can(*number))
        .map(|(_, name)| name)
        .collect();
    let has = if has.is_empty() {
        "none: all that VFIO needs is a node of one's own".to_owned()
    } else {
        has.join(" ")
    };
    vec![
        Finding::ok("user", process.uid().to_string()),
        Finding::ok("capabilities", has),
        memlock(machine),
    ]
}

/// What may be pinned.
pub(super) fn memlock(machine: &Machine) -> Finding {
    let fix = "ulimit -l, or LimitMEMLOCK= in the service; or CAP_IPC_LOCK";
    match machine.process.as_ref().map(|process| process.pinnable()) {
        None => Finding::skip("memlock", "unknown in this tree"),
        Some(None) => Finding::ok("memlock", "no limit for this process"),
        Some(Some(limit)) if limit < ENOUGH => {
            let says = format!("at most {} may be pinned for devices", format_bytes(limit));
            Finding::warn("memlock", says).fix(fix)
        }
        Some(Some(limit)) => {
            Finding::ok("memlock", format!("at most {} may be pinned", format_bytes(limit)))
        }
    }
}
