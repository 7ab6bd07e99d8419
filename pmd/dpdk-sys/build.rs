//! Binds the libdpdk that pkg-config names. What is missing is said in one message.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "system")]
    system::bind();
}

#[cfg(feature = "system")]
mod system {
    use std::{
        env,
        panic::{self, AssertUnwindSafe},
        path::PathBuf,
        process,
    };

    /// What `memwire-pmd` calls; nothing else is bound.
    const FUNCTIONS: &[&str] = &[
        "rte_version",
        "rte_strerror",
        "rte_openlog_stream",
        "rte_log_cur_msg_log(level|type)",
        "rte_eal_(init|cleanup|iova_mode|has_hugepages)",
        "rte_eal_(hotplug_remove|alarm_set)",
        "rte_dev_(probe|remove|name|dma_map|dma_unmap)",
        "rte_dev_driver|rte_dev_numa_node|rte_driver_name|rte_dev_bus|rte_bus_name",
        "rte_extmem_(un)?register|rte_memseg_list_walk",
        "rte_zmalloc_socket|rte_free",
        "rte_mempool_(create_empty|free|set_ops_byname|register_ops|populate_iova)",
        "rte_pktmbuf_(pool_init|pool_create|free_bulk)",
        "rte_eth_iterator_(init|next|cleanup)",
        "rte_eth_dev_(info_get|configure|start|stop|close|is_valid_port|is_removed|socket_id)",
        "rte_eth_dev_(get_name_by_port|adjust_nb_rx_tx_desc|set_mtu|get_port_by_name|get_mtu|rss_reta_update|mac_addr_add)",
        "rte_eth_(rx|tx)_queue_setup",
        "rte_eth_tx_done_cleanup|rte_eth_buffer_split_get_supported_hdr_ptypes",
        "rte_eth_(macaddr_get|promiscuous_enable|allmulticast_enable)",
        "rte_eth_(stats_get|xstats_get|xstats_get_names)",
        "memwire_.*",
        "fopencookie|setvbuf|fclose",
    ];
    const TYPES: &[&str] =
        &["rte_eth_fp_ops", "rte_mbuf_ext_shared_info", "rte_pktmbuf_pool_private"];
    const VARIABLES: &[&str] =
        &["rte_eth_fp_ops", "MEMWIRE_.*", "RTE_MAX_ETHPORTS", "RTE_CACHE_LINE_SIZE"];
    /// Where those functions are; others of pkg-config's list would be loaded for nothing. Drivers are
    /// plugins, which the environment abstraction layer loads from DPDK's own folder.
    const LIBRARIES: &[&str] = &["rte_eal", "rte_ethdev", "rte_mempool", "rte_mbuf", "rte_log"];

    pub(crate) fn bind() {
        for file in ["c/wrapper.h", "c/shim.c"] {
            println!("cargo:rerun-if-changed={file}");
        }
        let library = pkg_config::Config::new()
            .atleast_version("22.11")
            .cargo_metadata(false)
            .probe("libdpdk")
            .unwrap_or_else(|error| missing("libdpdk 22.11 or newer", "libdpdk-dev", &error));
        let flags = cflags();
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        let builder = bindgen::Builder::default()
            .header("c/wrapper.h")
            .clang_args(&flags)
            .allowlist_function(FUNCTIONS.join("|"))
            .allowlist_type(TYPES.join("|"))
            .allowlist_var(VARIABLES.join("|"))
            // Packed, with an aligned member: no Rust type can be that.
            .opaque_type(
                "rte_l2tpv2_combined_msg_hdr|rte_gtp_psc_generic_hdr|rte_arp_ipv4|rte_arp_hdr",
            )
            .default_enum_style(bindgen::EnumVariation::Consts)
            .derive_debug(false)
            .wrap_unsafe_ops(true)
            .generate_comments(false)
            .formatter(bindgen::Formatter::None);
        // Without libclang bindgen panics.
        panic::set_hook(Box::new(|_| {}));
        let bindings = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
        let _ = panic::take_hook();
        let bindings = match bindings {
            Ok(Ok(bindings)) => bindings,
            Ok(Err(error)) => stop(&format!("libdpdk's headers cannot be read: {error}")),
            Err(_) => missing("libclang", "libclang-dev", &"bindgen reads C headers by it"),
        };
        let bindings = bindings.write_to_file(out.join("bindings.rs"));
        bindings.unwrap_or_else(|error| stop(&format!("the bindings cannot be written: {error}")));

        let mut shim = cc::Build::new();
        shim.file("c/shim.c").warnings(false).flags(&flags);
        shim.try_compile("memwire_dpdk_shim")
            .unwrap_or_else(|error| missing("a C compiler that works", "gcc", &error));
        for path in &library.link_paths {
            println!("cargo:rustc-link-search=native={}", path.display());
        }
        for name in library.libs.iter().filter(|name| LIBRARIES.contains(&name.as_str())) {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }

    /// The flags that DPDK's headers need, `-include rte_config.h` and `-march` among them.
    fn cflags() -> Vec<String> {
        let output = process::Command::new("pkg-config").args(["--cflags", "libdpdk"]).output();
        let output = output.unwrap_or_else(|error| missing("pkg-config", "pkg-config", &error));
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn missing(what: &str, package: &str, why: &dyn std::fmt::Display) -> ! {
        let why = why.to_string();
        let why = why.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        stop(&format!(
            "the feature 'dpdk' needs {what}, which is not here ({why}); install it (Debian: apt-get install \
             {package}), or build without the feature"
        ))
    }

    fn stop(why: &str) -> ! {
        println!("cargo:warning=dpdk-sys: {why}");
        process::exit(1);
    }
}
