//! Kernel counters of a process, from `/proc`.

/// User and system time, in microseconds. The kernel's resolution is 10 ms.
pub fn cpu_us(pid: u32) -> f64 {
    ticks(pid, 2)
}

/// CPU time of a PostgreSQL server: its first process, its current children and those that have ended.
pub fn postgres_cpu_us(postmaster: u32) -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|pid| stat(*pid).get(1).is_some_and(|parent| *parent == postmaster.to_string()));
    // Fields 13 and 14 of the first process include its ended children.
    ticks(postmaster, 4) + children.map(cpu_us).sum::<f64>()
}

fn ticks(pid: u32, fields: usize) -> f64 {
    stat(pid).iter().skip(11).take(fields).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// The fields of `/proc/PID/stat` after the process's name.
fn stat(pid: u32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Current resident memory, in bytes.
pub fn resident_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1_024.0)
}

/// Peak resident memory, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib * 1_024.0)
}

/// Bytes written to a disk; nothing on a tmpfs.
pub fn written_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// The number after a line's label.
fn number(path: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
