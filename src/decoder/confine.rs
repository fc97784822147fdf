//! What keeps a decoder child from doing anything but computing, should a picture take it over: the kernel.
//!
//! Two barriers, one behind the other. Landlock takes away all files, and networks and other processes as far as the
//! kernel knows how. Seccomp leaves the few system calls with which a running program computes, reads and writes what is
//! open, and ends; any other kills the process. Neither can be taken back, and whatever it should start inherits both.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};
use serde::{Deserialize, Serialize};

/// The newest version whose rights are asked for; an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V10;

/// The calls of a program that computes: memory, the pipes that are open, clocks, locks, the end. Whatever panics, runs
/// out of memory or overflows its stack needs them as well, to say so.
const ALLOWED: [libc::c_long; 23] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    // The allocator asks for the number of cores when an allocation fails.
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // How a call goes on after the process was stopped and continued.
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// One barrier, as far as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Barrier {
    /// In force; the kernel's version of it, where there are several.
    Up { version: Option<Cow<'static, str>> },
    /// Not in force, for this reason.
    Missing { reason: Cow<'static, str> },
}

/// What a child is confined by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The filter of system calls.
    pub seccomp: Barrier,
    /// The withdrawal of files and networks.
    pub landlock: Barrier,
}

impl Confinement {
    /// Whether both barriers stand.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Self { seccomp, landlock } = self;
        [seccomp, landlock]
            .iter()
            .all(|barrier| matches!(barrier, Barrier::Up { .. }))
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seccomp, landlock } = self;
        for (name, barrier, divider) in [("seccomp", seccomp, ", "), ("landlock", landlock, "")] {
            match barrier {
                Barrier::Up { version: None } => write!(f, "{name}")?,
                Barrier::Up {
                    version: Some(version),
                } => write!(f, "{name} {version}")?,
                Barrier::Missing { reason } => write!(f, "no {name} ({reason})")?,
            }
            f.write_str(divider)?;
        }
        Ok(())
    }
}

fn missing(reason: impl Into<Cow<'static, str>>) -> Barrier {
    Barrier::Missing {
        reason: reason.into(),
    }
}

/// Takes files, networks and signals to others away from this thread and all that it starts, and with them the way to
/// more rights (`no_new_privs`).
pub(super) fn withdraw_files() -> Barrier {
    let status = match withdrawn() {
        Ok(status) => status,
        Err(error) => return missing(error.to_string()),
    };
    match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Barrier::Up {
            version: Some(format!("{effective_abi:?}").into()),
        },
        (_, LandlockStatus::NotEnabled) => missing("it is not enabled in this kernel"),
        (_, LandlockStatus::NotImplemented) => missing("this kernel doesn't have it"),
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            missing("this kernel enforces none of it")
        }
    }
}

fn withdrawn() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()
}

/// Leaves this process the calls that a running decoder needs; any other is its end, by SIGSYS.
pub(super) fn filter_calls() -> Barrier {
    let Some(arch) = target() else {
        return missing("the filter isn't written for this kind of processor");
    };
    let program = match program(arch) {
        Ok(program) => program,
        Err(error) => return missing(error.to_string()),
    };
    match apply_filter_all_threads(&program) {
        Ok(()) => Barrier::Up { version: None },
        Err(error) => missing(error.to_string()),
    }
}

fn target() -> Option<TargetArch> {
    if cfg!(target_arch = "x86_64") {
        Some(TargetArch::x86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(TargetArch::aarch64)
    } else {
        None
    }
}

fn program(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    // Memory may be had, but not to put new code into.
    let exec = u64::try_from(libc::PROT_EXEC).expect("it is a flag");
    let not_executable = || {
        let protection =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0)?;
        SeccompRule::new(vec![protection])
    };
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    // Signals to itself, which is how an abort ends.
    let own = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        std::process::id().into(),
    )?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )?
    .try_into()
}
