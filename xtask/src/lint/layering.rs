//! One direction: apps over pmd and providers, both over mempool; siblings never name each other.

use crate::workspace::{DependencyKind, Package};

/// Below both drivers and providers: opens and maps devices, knows neither pools nor NICs.
const GROUND: [&str; 2] = ["memwire-mempool", "memwire-vfio"];
const SIBLINGS: [&str; 2] = ["memwire-pmd", "memwire-providers"];
/// The folders in which drivers and providers may meet.
const MEETING_PLACES: [&str; 2] = ["apps", "benches"];

/// What breaks the layering, one sentence each.
pub(super) fn violations(packages: &[Package]) -> Vec<String> {
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        for (dependency, kind) in &package.dependencies {
            let dependency = dependency.as_str();
            if ours.contains(&dependency) && dependency != name && !may_use(name, dependency, *kind)
            {
                found.push(format!("layering: {name} must not depend on {dependency}"));
            }
        }
        let meets = SIBLINGS.iter().all(|sibling| {
            package
                .dependencies
                .iter()
                .any(|(name, kind)| name == sibling && *kind != DependencyKind::Dev)
        });
        if meets && !MEETING_PLACES.iter().any(|place| package.folder.starts_with(place)) {
            found.push(format!(
                "layering: {name} joins drivers and providers, which only apps and benches may"
            ));
        }
    }
    found
}

/// Whether one of our crates may depend on another of ours.
fn may_use(name: &str, dependency: &str, kind: DependencyKind) -> bool {
    match name {
        "memwire-mempool" | "memwire-vfio" | "memwire-testbed" | "memwire-charts" | "dpdk-sys" => {
            false
        }
        // Tools of the project's, which link nothing of it.
        "xtask" => ["memwire-testbed", "memwire-charts"].contains(&dependency),
        "memwire-providers" => GROUND.contains(&dependency),
        "memwire-pmd" => {
            GROUND.contains(&dependency)
                || dependency == "dpdk-sys"
                // Its tests may receive into a real provider's memory.
                || (dependency == "memwire-providers" && kind == DependencyKind::Dev)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn package(name: &str, folder: &str, dependencies: &[(&str, DependencyKind)]) -> Package {
        Package {
            name: name.to_owned(),
            folder: PathBuf::from(folder),
            dependencies: dependencies.iter().map(|(n, k)| ((*n).to_owned(), *k)).collect(),
            tests: Vec::new(),
        }
    }

    fn workspace(extra: Package) -> Vec<Package> {
        use DependencyKind::Normal;
        let sound = [
            package("memwire-mempool", "mempool", &[("arrayvec", Normal)]),
            package("memwire-pmd", "pmd", &[("memwire-mempool", Normal)]),
            package("memwire-providers", "providers", &[("memwire-mempool", Normal)]),
        ];
        let replaced = extra.name.clone();
        let others = sound.into_iter().filter(|package| package.name != replaced);
        others.chain([extra]).collect()
    }

    #[test]
    fn an_app_may_join_drivers_and_providers() {
        use DependencyKind::Normal;
        let both = [("memwire-pmd", Normal), ("memwire-providers", Normal)];

        assert!(violations(&workspace(package("gpurx", "apps/gpurx", &both))).is_empty());
        assert_eq!(violations(&workspace(package("helper", "helper", &both))).len(), 1);
    }

    #[test]
    fn the_pool_depends_on_nothing_of_ours_not_even_for_tests() {
        let pool = package("memwire-mempool", "mempool", &[("memwire-pmd", DependencyKind::Dev)]);
        assert_eq!(
            violations(&workspace(pool)),
            ["layering: memwire-mempool must not depend on memwire-pmd"]
        );
    }

    #[test]
    fn siblings_do_not_link_each_other() {
        for kind in [DependencyKind::Normal, DependencyKind::Build] {
            let driver = package("memwire-pmd", "pmd", &[("memwire-providers", kind)]);
            assert_eq!(violations(&workspace(driver)).len(), 1);
        }
        for kind in [DependencyKind::Normal, DependencyKind::Dev] {
            let provider = package("memwire-providers", "providers", &[("memwire-pmd", kind)]);
            assert_eq!(violations(&workspace(provider)).len(), 1);
        }
    }

    #[test]
    fn a_drivers_tests_may_use_a_provider() {
        let driver = package("memwire-pmd", "pmd", &[("memwire-providers", DependencyKind::Dev)]);
        assert!(violations(&workspace(driver)).is_empty());
    }
}
