//! What a control group still allows. Reads version 1 and 2; knows which file sets the limit, so
//! that an error can name it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{PageSize, sysfs::number};

/// The tightest limit on the way from this process's group to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Bytes still allowed.
    pub(crate) left: u64,
    /// The file that sets it.
    pub(crate) file: PathBuf,
}

/// A limit's file, and the file with what is used of it.
type Pair = (String, String);

/// What is left of the memory limit. Clean file pages count as free: the kernel drops them first.
pub(crate) fn memory(root: &Path) -> Option<Limit> {
    let v2 = [("memory.max".into(), "memory.current".into())];
    let v1 = [("memory.limit_in_bytes".into(), "memory.usage_in_bytes".into())];
    tightest(root, "memory", &v2, &v1, |folder| {
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let clean = |key| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        clean("total_inactive_file ").or_else(|| clean("inactive_file ")).unwrap_or(0)
    })
}

/// What is left of the limits on hugepages: those in use, and those reserved.
pub(crate) fn hugepages(root: &Path, size: PageSize) -> Option<Limit> {
    let name = size.cgroup_name();
    let pair = |limit: &str, used: &str| -> Pair {
        (format!("hugetlb.{name}.{limit}"), format!("hugetlb.{name}.{used}"))
    };
    let v2 = [pair("max", "current"), pair("rsvd.max", "rsvd.current")];
    let v1 = [
        pair("limit_in_bytes", "usage_in_bytes"),
        pair("rsvd.limit_in_bytes", "rsvd.usage_in_bytes"),
    ];
    tightest(root, "hugetlb", &v2, &v1, |_| 0)
}

fn tightest(
    root: &Path,
    controller: &str,
    v2: &[Pair],
    v1: &[Pair],
    reclaimable: impl Fn(&Path) -> u64,
) -> Option<Limit> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mount = root.join("sys/fs/cgroup");
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (top, pairs) = if controllers.is_empty() {
            // Beside version 1, version 2 has a folder of its own.
            let beside = mount.join("unified");
            (if beside.is_dir() { beside } else { mount.clone() }, v2)
        } else if controllers.split(',').any(|known| known == controller) {
            (mount.join(controllers), v1)
        } else {
            continue;
        };
        let leaf = top.join(path.trim_start_matches('/'));
        for folder in leaf.ancestors().take_while(|folder| folder.starts_with(&top)) {
            for (limit, used) in pairs {
                let file = folder.join(limit);
                // `max`, or no file: no limit here.
                let Some(allowed) = number(&file) else {
                    continue;
                };
                let used = number(&folder.join(used)).unwrap_or(0);
                let left = allowed.saturating_sub(used.saturating_sub(reclaimable(folder)));
                limits.push(Limit { left, file });
            }
        }
    }
    limits.into_iter().min_by_key(|limit| limit.left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    #[test]
    fn a_parents_limit_counts() {
        let (root, _) = tree(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/hugetlb.2MB.max", "max\n"),
            ("sys/fs/cgroup/a/hugetlb.2MB.max", "8388608\n"),
            ("sys/fs/cgroup/a/hugetlb.2MB.current", "2097152\n"),
        ]);
        let limit = hugepages(root.path(), PageSize::TwoMiB).unwrap();
        assert_eq!(limit.left, 6 << 20);
        assert!(limit.file.ends_with("a/hugetlb.2MB.max"), "{limit:?}");
        assert_eq!(hugepages(root.path(), PageSize::OneGiB), None);
    }

    #[test]
    fn version_1_is_read_by_controller() {
        let (root, _) = tree(&[
            ("proc/self/cgroup", "7:hugetlb:/x\n4:memory:/x\n0::/\n"),
            ("sys/fs/cgroup/hugetlb/x/hugetlb.1GB.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/hugetlb/x/hugetlb.1GB.usage_in_bytes", "0\n"),
        ]);
        assert_eq!(hugepages(root.path(), PageSize::OneGiB).unwrap().left, 1 << 30);
        assert_eq!(memory(root.path()), None);
    }
}
