//! memwire as a process: exit codes, what goes where, and whether other programs read what it writes.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn memwire(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
    command.args(line.split_whitespace());
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn stdout(line: &str) -> String {
    let (code, stdout, stderr) = output(&mut memwire(line));
    assert_eq!(code, Some(0), "memwire {line}: {stderr}");
    stdout
}

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Feeds text to a program; what it said on stderr.
fn fed(program: &str, arguments: &[&str], text: &str) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn fits(schema: &str, json: &str) -> Value {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let value: Value = serde_json::from_str(json).unwrap();
    memwire_apps::schema::check(&schema, &value).unwrap();
    value
}

const INFO: &str = include_str!("../../../docs/schema/memwire-info.json");
const STATUS: &str = include_str!("../../../docs/schema/memwire-status.json");
const HUGEPAGES: &str = include_str!("../../../docs/schema/memwire-hugepages.json");

#[test]
fn what_is_here_fits_its_schema() {
    let all = fits(INFO, &stdout("info --json"));
    for section in
        ["machine", "nics", "ports", "drivers", "wrappers", "memory", "hugepages", "support"]
    {
        assert!(!all[section].is_null(), "{section} is missing");
    }
    assert_eq!(all["schema"], "memwire/info/2");
    let drivers = all["drivers"].as_array().unwrap();
    assert!(
        drivers.iter().any(|driver| driver["name"] == "ring" && driver["can"]["split"] == true)
    );
    let some = fits(INFO, &stdout("info --only drivers --json"));
    assert!(some["machine"].is_null() && some["ports"].is_null());
}

#[test]
fn functions_on_the_bus_fit_their_schema() {
    let all = fits(STATUS, &stdout("status --all --json"));
    let functions = all["functions"].as_array().unwrap();
    let text = stdout("status --all");
    for function in functions {
        let address = function["address"].as_str().unwrap();
        assert!(text.contains(&format!("{address} '")), "{address} is not in {text}");
    }
    let nics = fits(STATUS, &stdout("status --json"));
    assert!(nics["functions"].as_array().unwrap().len() <= functions.len());
}

#[test]
fn an_address_that_is_none_or_not_there_ends_before_anything_is_bound() {
    for line in ["bind eth0", "unbind 1:0.0", "status 01:00", "bind"] {
        let (code, _, stderr) = output(&mut memwire(line));
        assert_eq!(code, Some(2), "memwire {line}: {stderr}");
    }
    let (_, _, stderr) = output(&mut memwire("bind eth0"));
    assert!(
        stderr.contains("'eth0' is no PCI address: write domain:bus:device.function"),
        "{stderr}"
    );
    for line in ["bind ffff:ff:1f.7", "unbind ffff:ff:1f.7", "status ffff:ff:1f.7"] {
        let (code, stdout, stderr) = output(&mut memwire(line));
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "memwire {line}: {stderr}");
        assert!(stderr.contains("ffff:ff:1f.7: no such PCI function here"), "{stderr}");
    }
    let (code, _, stderr) = output(&mut memwire("bind 01:00.0 --root /tmp"));
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn ports_that_are_named_are_opened_and_shown_wrapped_or_not() {
    let text = stdout("info ring:a,size=64 null:b,size=128");
    assert!(text.contains("header/data split   by the driver, anywhere"), "{text}");
    assert!(text.contains("longest frame       9216 B without FCS"), "{text}");
    let report = fits(INFO, &stdout("info null:a trace:@null:b --json"));
    assert_eq!(report["ports"][0]["port"], "null:a");
    assert_eq!(report["ports"][1]["can"]["max_frame"], 9216);
}

#[test]
fn a_port_that_writes_a_file_does_not_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pcap");
    stdout(&format!("info pcap:,tx={}", file.display()));
    assert!(!file.exists());
}

#[test]
fn json_goes_to_the_file_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("info.json");
    let printed = stdout(&format!("info --only machine --json={}", file.display()));
    assert_eq!(printed, "");
    fits(INFO, &fs::read_to_string(file).unwrap());
}

#[test]
fn hugepages_fit_their_schema_and_a_table_has_a_row_each() {
    let report = fits(HUGEPAGES, &stdout("hugepages show --json"));
    assert_eq!(report, fits(HUGEPAGES, &stdout("hugepages --json")));
    let rows = report["pages"].as_array().unwrap().len();
    let table = stdout("hugepages");
    let lines = table.lines().skip(1).filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    // A line on promised or on-demand pages starts with a number too.
    assert!(lines.count() >= rows, "{table}");
}

/// A tree like the kernel's, with one node and pages of 2 MiB.
fn machine(total: u64, free: u64) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: String| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for folder in ["sys/kernel/mm", "sys/devices/system/node/node0"] {
        put(&format!("{folder}/hugepages/hugepages-2048kB/nr_hugepages"), format!("{total}\n"));
        put(&format!("{folder}/hugepages/hugepages-2048kB/free_hugepages"), format!("{free}\n"));
    }
    put("sys/devices/system/node/has_memory", "0\n".into());
    put("proc/meminfo", "MemAvailable: 1048576 kB\n".into());
    root
}

fn pages(root: &Path) -> String {
    let node = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    fs::read_to_string(root.join(node)).unwrap().trim().to_owned()
}

#[test]
fn pages_are_set_by_either_spelling_and_never_below_what_is_in_use() {
    let root = machine(10, 4);
    let run =
        |line: &str| output(memwire(&format!("hugepages {line}")).arg("--root").arg(root.path()));
    assert_eq!(run("set 64M --dry-run").0, Some(0));
    assert_eq!(pages(root.path()), "10");
    assert_eq!(run("set 64M --size 2M --node 0").0, Some(0));
    assert_eq!(pages(root.path()), "32");
    assert_eq!(run("-p 2M --setup 60M").0, Some(0));
    assert_eq!(pages(root.path()), "30");
    // The tree still has four free pages: 26 of the 30 are in use.
    let (code, _, says) = run("clear");
    assert_eq!(code, Some(3), "{says}");
    assert!(says.contains("are in use, and only 0 would be left"), "{says}");
    assert_eq!(pages(root.path()), "30");
}

#[test]
fn who_may_not_set_pages_is_told_the_command() {
    let system = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
    if fs::File::options().write(true).open(system.join("nr_hugepages")).is_ok() || !system.exists()
    {
        eprintln!("SKIP who_may_not_set_pages_is_told_the_command: this user may set them");
        return;
    }
    let now = fs::read_to_string(system.join("nr_hugepages")).unwrap();
    let more = now.trim().parse::<u64>().unwrap() * 2 + 2;
    let (code, _, says) = output(&mut memwire(&format!("hugepages set {more}M --size 2M")));
    assert_eq!(code, Some(3), "{says}");
    assert!(says.contains(&format!("sudo memwire hugepages set {more}M --size 2M")), "{says}");
}

#[test]
fn bad_input_is_refused_with_its_exit_code_and_a_reason() {
    for (line, code, says) in [
        ("", 2, "Usage: memwire"),
        ("inof", 2, "a similar subcommand exists: 'info'"),
        ("info --only everything", 2, "possible values: machine, ports, drivers, memory, support"),
        ("info nul:", 2, "did you mean 'null'?"),
        ("info null:,size=1", 2, "should be a frame size"),
        ("info af_packet:no-such-if", 3, "no interface 'no-such-if' here"),
        ("info pcap:/nowhere/in.pcap", 3, "/nowhere/in.pcap"),
        ("info null:a null:a", 2, "named twice"),
        ("info null: --only ports", 2, "cannot be used with"),
        ("info --json=/nowhere/x.json", 3, "error: --json=/nowhere/x.json: "),
        ("info --root /nowhere", 2, "--root /nowhere: not a folder"),
        ("hugepages set", 2, "<AMOUNT>"),
        ("hugepages set much", 2, "a size in bytes such as"),
        ("hugepages set 3M", 2, "3 MiB is not a whole number of 2M pages"),
        ("hugepages set 2M --size 4K", 2, "'4K' is no hugepage size; write 2M or 1G"),
        ("hugepages set 2M --node 77 --dry-run", 2, "there is no NUMA node 77 with memory"),
        ("hugepages set 2M --node minus", 2, "invalid value 'minus'"),
        ("hugepages --clear --setup 2M", 2, "cannot be used with"),
        ("completions bsh", 2, "a similar value exists: 'bash'"),
        ("completions bash l2fw", 2, "no app 'l2fw'; there are: memwire, "),
        ("man nothing", 2, "no app 'nothing'; there are: memwire, "),
        ("man --dir /nowhere", 3, "/nowhere/memwire.1: "),
    ] {
        // Of a kernel with 2 MiB pages, whatever kernel this is.
        let root = machine(0, 0);
        let mut command = memwire(line);
        if line.starts_with("hugepages") {
            command.arg("--root").arg(root.path());
        }
        let (got, stdout, stderr) = output(&mut command);
        assert_eq!(got, Some(code), "memwire {line}: {stderr}");
        assert!(stderr.contains(says), "memwire {line}: {stderr}");
        assert_eq!(stdout, "", "memwire {line}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = memwire("info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

const APPS: [&str; 6] = ["memwire", "gpurx", "gpurx-consumer", "l2fwd", "pktgen", "capture"];

#[test]
fn shells_read_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        for app in APPS {
            let script = stdout(&format!("completions {shell} {app}"));
            assert!(script.contains(app), "{shell} {app}");
            if !is_here(shell) {
                eprintln!("SKIP shells_read_their_completions: no {shell} here");
                continue;
            }
            let (ok, says) = fed(shell, &["-n"], &script);
            assert!(ok && says.is_empty(), "{shell} -n, {app}: {says}");
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(stdout(&format!("completions {shell} gpurx")).contains("gpurx"));
    }
}

#[test]
fn bash_completes_a_subcommand() {
    if !is_here("bash") {
        eprintln!("SKIP bash_completes_a_subcommand: no bash here");
        return;
    }
    let script = stdout("completions bash")
        + "\nCOMP_WORDS=(memwire hug); COMP_CWORD=1; _memwire memwire hug memwire\n\
           [ \"${COMPREPLY[*]}\" = hugepages ] || { echo \"got ${COMPREPLY[*]}\" >&2; exit 1; }\n";
    let (ok, says) = fed("bash", &["-s"], &script);
    assert!(ok, "{says}");
}

#[test]
fn groff_sets_every_manual_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let listed = stdout(&format!("man --dir {}", folder.path().display()));
    for app in APPS {
        let page = folder.path().join(format!("{app}.1"));
        assert!(listed.contains(page.to_str().unwrap()), "{listed}");
    }
    let pages: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|page| page.unwrap().path()).collect();
    assert_eq!(pages.len(), listed.lines().count());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        assert!(
            text.contains(".SH \"EXIT STATUS\"") || !text.contains("Exit codes"),
            "{}",
            page.display()
        );
        if !is_here("groff") {
            continue;
        }
        let (ok, says) = fed("groff", &["-ww", "-man", "-Tutf8"], &text);
        assert!(ok && says.is_empty(), "{}: {says}", page.display());
    }
    if !is_here("groff") {
        eprintln!("SKIP groff_sets_every_manual_without_a_warning: no groff here");
    }
}

#[test]
fn one_manual_goes_to_stdout() {
    let page = stdout("man hugepages");
    assert!(page.contains(".TH memwire-hugepages 1"), "{page}");
    assert_eq!(page, stdout("man memwire-hugepages"));
    assert!(stdout("man").contains(".SH EXAMPLES"));
}

#[test]
fn what_is_no_dma_buf_is_refused_with_its_exit_code() {
    let shell = |redirection: &str, arguments: &str| {
        let line =
            format!("exec {} dmabuf {arguments} {redirection}", env!("CARGO_BIN_EXE_memwire"));
        output(Command::new("sh").args(["-c", &line]))
    };
    for (redirection, arguments, code, words) in [
        ("9</etc/passwd", "info 9", 2, "fd 9 is a regular file (/etc/passwd), not a dma-buf"),
        ("9</dev/null", "info 9", 2, "fd 9 is a device (/dev/null), not a dma-buf"),
        ("9<&-", "info 9", 2, "fd 9 is not open in this process"),
        ("", "info /no/such/socket", 3, "nobody offers there"),
        ("", "export --socket /tmp/x", 2, "--udmabuf"),
        ("", "export --udmabuf 1M --heap system,1M --socket /tmp/x", 2, "cannot be used with"),
        ("", "export --bar 03:00.0 --socket /tmp/x", 2, "is not ADDRESS/barN[,OFFSET,LEN]"),
        ("", "export --heap no-such,1M --socket /tmp/x", 3, "/dev/dma_heap/no-such: No such file"),
        ("", "info 9 --root /tmp", 2, "dma-bufs are this one's"),
    ] {
        let (found, _, stderr) = shell(redirection, arguments);
        assert_eq!(found, Some(code), "{arguments}: {stderr}");
        assert!(stderr.contains(words), "{arguments}: {stderr}");
    }
}
