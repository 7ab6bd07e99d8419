//! Why hugepages cannot be had, and what helps: turns a refused system call into the one line a user
//! needs. Reads counts; allocates nothing.

use std::{io, path::Path};

use mempool::{ProviderError, format_bytes};

use crate::{PageSize, Sysfs, cgroup};

/// Hugepages somebody wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) provider: &'a str,
    pub(crate) sysfs: &'a Sysfs,
    pub(crate) size: PageSize,
    pub(crate) node: Option<u32>,
}

/// The system call that failed, and how.
pub(crate) type Refusal = (&'static str, io::Error);

impl Want<'_> {
    /// Bytes that can be had now; `None` where the kernel has no such pages.
    pub(crate) fn available(&self) -> Option<u64> {
        let group = cgroup::hugepages(self.sysfs.root(), self.size);
        Some(self.free()?.min(group.map_or(u64::MAX, |limit| limit.left)))
    }

    /// Bytes that the machine has free, whatever a control group says.
    fn free(&self) -> Option<u64> {
        let pages = self.sysfs.available_hugepages(self.size, self.node)?;
        pages.checked_mul(self.size.bytes() as u64)
    }

    /// Says why `len` bytes could not be had. Called when everything is given back already, so that
    /// the counts are true.
    pub(crate) fn explain(&self, len: usize, (step, source): Refusal) -> ProviderError {
        let needed = len as u64;
        let system = |hint: String, source| ProviderError::System {
            provider: self.provider.into(),
            what: format!("{step} of {}", format_bytes(needed)),
            source,
            hint,
        };
        let exhausted = |available: u64, fix: String| ProviderError::Exhausted {
            provider: self.provider.into(),
            needed,
            available,
            fix,
        };
        let Some(free) = self.free() else {
            return system(self.unknown_size(), source);
        };
        if !is_shortage(&source) {
            return system(hint(step, &source).into(), source);
        }
        if let Some(available) = self.available().filter(|available| *available < needed) {
            return exhausted(available, self.fix(len));
        }
        let (free, size) = (format_bytes(free), self.size.cgroup_name());
        let text = format!(
            "{free} are free now: another process held them a moment ago (try again), or a control \
             group stands in the way (see hugetlb.{size}.max and hugetlb.{size}.rsvd.max)"
        );
        system(text, source)
    }

    /// What makes `len` bytes available.
    pub(crate) fn fix(&self, len: usize) -> String {
        let needed = len as u64;
        let group = cgroup::hugepages(self.sysfs.root(), self.size);
        let group = group.filter(|limit| limit.left < needed);
        match group {
            Some(limit) if self.free().is_some_and(|free| free >= needed) => {
                format!("raise the limit in {}", limit.file.display())
            }
            Some(limit) => format!("{}, and raise {}", self.command(len), limit.file.display()),
            None => self.command(len),
        }
    }

    /// The command that gives the kernel enough pages.
    fn command(&self, len: usize) -> String {
        let counts = self.sysfs.hugepages(self.size, self.node).unwrap_or_default();
        let bytes = self.size.bytes() as u64;
        let missing = (len as u64).saturating_sub(self.free().unwrap_or(0)).div_ceil(bytes);
        let pages = counts.total + missing;
        let folder = match self.node {
            None => "/sys/kernel/mm/hugepages".into(),
            Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
        };
        let file = Path::new(&folder).join(self.size.sysfs_name()).join("nr_hugepages");
        if self.node.is_none() && self.sysfs.default_hugepage() == Some(bytes) {
            return format!("run `sysctl -w vm.nr_hugepages={pages}`");
        }
        let boot = match self.size {
            PageSize::TwoMiB => String::new(),
            // Once memory is in use, so much of it in one piece is rare.
            PageSize::OneGiB => format!(", or boot with hugepagesz=1G hugepages={pages}"),
        };
        format!("run `echo {pages} > {}`{boot}", file.display())
    }

    fn unknown_size(&self) -> String {
        match self.node {
            Some(node) => format!("node {node} has no {} hugepages", self.size),
            None => {
                format!("this kernel has no {} hugepages; use another size, or Host", self.size)
            }
        }
    }

    /// Says why hugepages of this size cannot be had at all.
    pub(crate) fn unsupported(&self, (step, source): Refusal) -> ProviderError {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => hint(step, &source).into(),
            _ => self.unknown_size(),
        };
        ProviderError::System { provider: self.provider.into(), what: step.into(), source, hint }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    // EFAULT: a page could not be had while populating; a touch would have been a SIGBUS.
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EFAULT | libc::ENOSPC))
}

/// What helps against refusals that are no shortage.
pub(crate) fn hint(step: &str, error: &io::Error) -> &'static str {
    match (step, error.raw_os_error()) {
        ("mbind", Some(libc::EPERM | libc::ENOSYS)) => {
            "a container's seccomp profile may forbid it: allow mbind, or name no node"
        }
        ("mbind", Some(libc::EINVAL)) => "this process's cpuset may not use memory of that node",
        ("populating", Some(libc::EOPNOTSUPP)) => "this needs Linux 5.14; use Hugepages",
        (_, Some(libc::EPERM | libc::EACCES)) => "a seccomp profile or security module forbids it",
        (_, Some(libc::EMFILE | libc::ENFILE)) => "too many open files: raise `ulimit -n`",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    const TWO: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";
    const ONE: &str = "sys/kernel/mm/hugepages/hugepages-1048576kB";
    const NODE: &str = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
    const MEMINFO: (&str, &str) = ("proc/meminfo", "Hugepagesize:       2048 kB\n");

    fn refused(step: &'static str, errno: i32) -> Refusal {
        (step, io::Error::from_raw_os_error(errno))
    }

    fn text(
        files: &[(&str, &str)],
        (size, node): (PageSize, Option<u32>),
        len: usize,
        refusal: Refusal,
    ) -> String {
        let (_root, sysfs) = tree(files);
        let provider = format!("hugepage:{size}");
        Want { provider: &provider, sysfs: &sysfs, size, node }.explain(len, refusal).to_string()
    }

    fn pool<'a>(folder: &str, total: &'a str, free: &'a str) -> [(String, &'a str); 2] {
        [(format!("{folder}/nr_hugepages"), total), (format!("{folder}/free_hugepages"), free)]
    }

    fn files<'a>(owned: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
        owned.iter().map(|(path, text)| (path.as_str(), *text)).collect()
    }

    #[test]
    fn a_shortage_says_how_much_and_the_command_that_helps() {
        let owned = pool(TWO, "512", "3");
        let mut tree = files(&owned);
        tree.push(MEMINFO);
        let anywhere = (PageSize::TwoMiB, None);
        let said = text(&tree, anywhere, 512 << 20, refused("mmap", libc::ENOMEM));
        assert_eq!(
            said,
            "hugepage:2M: needs 512 MiB, but only 6 MiB can be had; \
             run `sysctl -w vm.nr_hugepages=765`"
        );
    }

    #[test]
    fn large_pages_are_asked_for_by_their_own_file() {
        let owned = pool(ONE, "0", "0");
        let mut tree = files(&owned);
        tree.push(MEMINFO);
        let anywhere = (PageSize::OneGiB, None);
        let said = text(&tree, anywhere, 2 << 30, refused("mmap", libc::ENOMEM));
        assert_eq!(
            said,
            "hugepage:1G: needs 2 GiB, but only 0 B can be had; run `echo 2 > \
             /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages`, or boot with \
             hugepagesz=1G hugepages=2"
        );
    }

    #[test]
    fn a_node_that_is_short_is_named_even_where_the_machine_has_plenty() {
        let mut owned = pool(TWO, "512", "400").to_vec();
        owned.extend(pool(NODE, "8", "1"));
        let here = (PageSize::TwoMiB, Some(1));
        let said = text(&files(&owned), here, 8 << 20, refused("populating", libc::EFAULT));
        assert_eq!(
            said,
            "hugepage:2M: needs 8 MiB, but only 2 MiB can be had; run `echo 11 > \
             /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages`"
        );
    }

    #[test]
    fn a_control_group_in_the_way_is_named_by_its_file() {
        let mut owned = pool(TWO, "512", "400").to_vec();
        owned.push(("proc/self/cgroup".into(), "0::/app\n"));
        owned.push(("sys/fs/cgroup/app/hugetlb.2MB.max".into(), "4194304\n"));
        let anywhere = (PageSize::TwoMiB, None);
        let said = text(&files(&owned), anywhere, 8 << 20, refused("populating", libc::EFAULT));
        assert!(
            said.starts_with(
                "hugepage:2M: needs 8 MiB, but only 4 MiB can be had; raise the limit in "
            ),
            "{said}"
        );
        assert!(said.ends_with("/sys/fs/cgroup/app/hugetlb.2MB.max"), "{said}");
    }

    #[test]
    fn a_refusal_that_the_counts_do_not_explain_says_what_may() {
        let owned = pool(TWO, "512", "400");
        let anywhere = (PageSize::TwoMiB, None);
        let said = text(&files(&owned), anywhere, 8 << 20, refused("populating", libc::EFAULT));
        assert!(said.contains("populating of 8 MiB"), "{said}");
        assert!(said.contains("800 MiB are free now"), "{said}");
        assert!(said.contains("hugetlb.2MB.max"), "{said}");
    }

    #[test]
    fn a_kernel_without_such_pages_says_so() {
        let anywhere = (PageSize::OneGiB, None);
        let said = text(&[], anywhere, 1 << 30, refused("memfd_create", libc::ENODEV));
        assert!(said.contains("this kernel has no 1G hugepages"), "{said}");
    }
}
