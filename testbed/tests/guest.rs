//! One guest, and everything that is promised of it.
use std::time::{Duration, Instant};
#[test]
fn first() {
    let t = Instant::now();
    let mut o = testbed::Options::new("default").unwrap();
    o.agent = Some(env!("CARGO_BIN_EXE_testbed-agent").into());
    let g = testbed::Guest::boot(&o).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("{:?} {}", t.elapsed(), g.boot_s());
    eprintln!(
        "{:?}",
        g.run("uname -a; lspci -nn 2>/dev/null; ls -l /sys/bus/pci/devices; pwd; id").unwrap()
    );
    for s in ["exit 9", "kill -SEGV $$", "true"] {
        eprintln!("{:?}", g.run(s).unwrap());
    }
    eprintln!("{:?}", g.bind(&["igb0", "e1000e0", "bar"]));
    eprintln!("{:?}", g.run("ls /dev/vfio /dev/vfio/devices").unwrap());
    let t = Instant::now();
    eprintln!("{:?} {:?}", g.qmp().device_del("igb0", Duration::from_secs(20)), t.elapsed());
    let t = Instant::now();
    eprintln!("{:?} {:?}", g.device_add("igb0"), t.elapsed());
    eprintln!("{:?}", g.qmp().inject_aer("igb0", "DLP"));
    let c = g.console();
    eprintln!("{}", &c[c.len().saturating_sub(1500)..]);
}
