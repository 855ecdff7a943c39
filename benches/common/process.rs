//! What the kernel counts about a process, read from `/proc`.

/// User and system time so far, in microseconds. The kernel counts in hundredths of a second.
pub fn cpu_us(pid: u32) -> f64 {
    ticks(pid, 2)
}

/// The same of a PostgreSQL server: its first process, the ones it runs now, and the ones that have ended.
pub fn postgres_cpu_us(postmaster: u32) -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|pid| stat(*pid).get(1).is_some_and(|parent| *parent == postmaster.to_string()));
    // Of the first process, the times of its ended children are added: fields 13 and 14.
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

/// Resident memory in bytes, now.
pub fn resident_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1_024.0)
}

/// The most resident memory so far, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib * 1_024.0)
}

/// Bytes that the process has caused to be written to a disk (nothing on a tmpfs).
pub fn written_bytes(pid: u32) -> Option<f64> {
    number(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// The number after `name` at the beginning of a line.
fn number(path: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
