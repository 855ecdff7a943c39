//! Faults below the process: system calls of it that fail, by `strace -e inject`.

use std::process::{Child, Command, Stdio};

/// System calls fail as long as this lives.
pub struct Injected {
    tracer: Child,
}

impl Injected {
    /// Lets every one of `calls` (names with commas between) of these processes fail with `error`, `times` at most.
    pub fn into(pids: &[u32], calls: &str, error: &str, times: Option<u32>) -> Injected {
        let times = times.map(|times| format!(":when=1..{times}")).unwrap_or_default();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:error={error}{times}")]);
        pids.iter().for_each(|pid| _ = command.args(["-p", &pid.to_string()]));
        let tracer = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("this fault needs strace: `apt-get install strace` (`make test` does that when it is root): {error}")
        });
        Injected { tracer }
    }

    /// Whether it is still attached.
    pub fn lasts(&mut self) -> bool {
        self.tracer.try_wait().expect("a child of ours").is_none()
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // It lets go of the processes when it is asked to end; killed, it would as well, but not as surely in order.
        let _ = Command::new("kill").args(["-INT", &self.tracer.id().to_string()]).status();
        let _ = self.tracer.wait();
    }
}
