//! This process as the kernel sees it, under the names that Prometheus' own libraries use. Read when it is asked for.

use std::{
    fs, io,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::warn;

/// The kernel counts processor time in hundredths of a second wherever this program runs.
const TICKS_A_SECOND: f64 = 100.0;

/// What `/proc` says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    cpu_seconds: f64,
    threads: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
}

/// Seconds since 1970 when this was first asked for.
pub(super) fn started() -> f64 {
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0.0, |now| now.as_secs_f64())
    })
}

/// Sets the gauges of this process.
pub fn record() {
    metrics::gauge!("process_start_time_seconds").set(started());
    match read() {
        Ok(process) => {
            let Process {
                cpu_seconds,
                threads,
                resident_bytes,
                virtual_bytes,
                open_fds,
                max_fds,
            } = process;
            // A gauge, since counters are whole here; it only grows all the same.
            metrics::gauge!("process_cpu_seconds_total").set(cpu_seconds);
            metrics::gauge!("process_threads").set(threads);
            metrics::gauge!("process_resident_memory_bytes").set(resident_bytes);
            metrics::gauge!("process_virtual_memory_bytes").set(virtual_bytes);
            metrics::gauge!("process_open_fds").set(open_fds);
            metrics::gauge!("process_max_fds").set(max_fds);
        }
        Err(error) => warn!(%error, "This process can't be looked at in /proc"),
    }
}

fn read() -> io::Result<Process> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kibibytes = |name| Some(field(&status, name)? * 1024.0);
    let limits = fs::read_to_string("/proc/self/limits")?;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let missing = || io::Error::from(io::ErrorKind::InvalidData);
    Ok(Process {
        cpu_seconds: cpu_seconds(&stat).ok_or_else(missing)?,
        threads: field(&status, "Threads:").ok_or_else(missing)?,
        resident_bytes: kibibytes("VmRSS:").ok_or_else(missing)?,
        virtual_bytes: kibibytes("VmSize:").ok_or_else(missing)?,
        #[expect(clippy::cast_precision_loss, reason = "files")]
        open_fds: fs::read_dir("/proc/self/fd")?.count() as f64,
        max_fds: field(&limits, "Max open files").ok_or_else(missing)?,
    })
}

/// The first number after a name at the beginning of a line; without bound is infinite.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

/// Of user and system. The second field is the program's name, which may hold anything; it ends with the last bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks = |place: usize| rest.split(' ').nth(place)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let process = read().expect("this is Linux");
        assert!(process.threads >= 1.0 && process.open_fds >= 3.0);
        assert!(process.resident_bytes > 1e6 && process.virtual_bytes > process.resident_bytes);
        assert!(process.max_fds >= process.open_fds);
        let began = process.cpu_seconds;
        let busy = std::time::Instant::now();
        while busy.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        assert!(read().expect("this is Linux").cpu_seconds > began);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 1 0 9";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(
            field("Max open files   unlimited  x", "Max open files"),
            Some(f64::INFINITY)
        );
    }
}
