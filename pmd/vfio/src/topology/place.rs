//! Where a function stands: the bridges above it, up to its host bridge, as the path of its folder in
//! sysfs says it.

use std::{fs, path::PathBuf};

use crate::{
    Error, Result,
    pci::{Address, Sysfs, has_vanished},
};

/// A function and what is above it.
#[derive(Debug)]
pub(super) struct Place {
    /// The host bridge: `pci0000:00`.
    pub(super) host_bridge: String,
    /// Its folder.
    pub(super) host_folder: PathBuf,
    /// The function, the port above it, and so on up to the root bus.
    pub(super) chain: Vec<Node>,
}

/// One function of the chain.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) folder: PathBuf,
}

impl Place {
    /// Follows the link on the bus to where the function is.
    pub(super) fn read(sysfs: &Sysfs, address: Address) -> Result<Self> {
        let link = sysfs.function(address);
        let malformed =
            |problem: String| Error::Malformed { path: link.display().to_string(), problem };
        let folder = fs::canonicalize(&link).map_err(|error| match has_vanished(&error) {
            true => Error::NoFunction(address),
            false => malformed(error.to_string()),
        })?;
        let root = fs::canonicalize(sysfs.root()).map_err(|error| malformed(error.to_string()))?;
        let below = folder
            .strip_prefix(&root)
            .map_err(|_| malformed(format!("leads to {}, out of the tree", folder.display())))?;
        let names: Vec<String> =
            below.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        // The last one: a host bridge may itself stand below a function (Intel's VMD).
        let at = names.iter().rposition(|name| is_host_bridge(name)).ok_or_else(|| {
            malformed("expected a link to a folder below a host bridge (pci0000:00)".to_owned())
        })?;
        let mut node_folder: PathBuf = root.join(names[..=at].iter().collect::<PathBuf>());
        let host_folder = node_folder.clone();
        let mut chain = Vec::new();
        for name in &names[at + 1..] {
            node_folder.push(name);
            let above =
                name.parse().map_err(|_| malformed(format!("'{name}' above it is no function")))?;
            chain.push(Node { address: above, folder: node_folder.clone() });
        }
        chain.reverse();
        match chain.first() {
            Some(node) if node.address == address => {
                Ok(Self { host_bridge: names[at].clone(), host_folder, chain })
            }
            _ => Err(malformed(format!("leads to {}, another function", below.display()))),
        }
    }
}

/// `pci` and domain:bus.
fn is_host_bridge(name: &str) -> bool {
    let numbers = name.strip_prefix("pci").and_then(|rest| rest.split_once(':'));
    numbers.is_some_and(|(domain, bus)| {
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        domain.len() >= 4 && bus.len() == 2 && hex(domain) && hex(bus)
    })
}
