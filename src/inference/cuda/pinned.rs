//! Memory of the processor that the device reads and writes by itself, while the processor does other things.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::debug;

use super::{
    super::staging::{InPlace, Stage, Staged},
    event::Runtime,
};

/// `cudaHostAllocPortable`: pinned for every device, whichever of them the calling thread uses.
const PORTABLE: u32 = 1;

/// Values in a stretch of pinned memory.
#[derive(Debug)]
struct Pinned {
    values: *mut f32,
    /// How many values have room.
    room: usize,
    /// How many of them are there.
    len: usize,
    runtime: Runtime,
}

// SAFETY: nobody else has the memory, and any thread may read, write and free it.
#[expect(unsafe_code, reason = "the memory is the CUDA runtime's")]
unsafe impl Send for Pinned {}
// SAFETY: as above; it is only written through `&mut`.
#[expect(unsafe_code, reason = "the memory is the CUDA runtime's")]
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Takes pinned memory with room for so many values, none of them there yet.
    ///
    /// # Errors
    /// What the CUDA runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    fn new(runtime: &Runtime, room: usize) -> Result<Self, String> {
        runtime.enter()?;
        let mut place: *mut c_void = std::ptr::null_mut();
        // SAFETY: `place` is a place for the address.
        let status =
            unsafe { (runtime.host_alloc)(&raw mut place, room * size_of::<f32>(), PORTABLE) };
        runtime.judge(status)?;
        Ok(Self {
            values: place.cast(),
            room,
            len: 0,
            runtime: runtime.clone(),
        })
    }

    /// Has values written there, as many as have room at most.
    #[expect(unsafe_code, reason = "the memory is the CUDA runtime's")]
    fn fill(&mut self, count: usize, write: &mut dyn FnMut(&mut [f32])) {
        assert!(count <= self.room, "they have room");
        // SAFETY: so many have room there, nobody else has the memory, and whatever is in the runtime's pages are values.
        write(unsafe { std::slice::from_raw_parts_mut(self.values, count) });
        self.len = count;
    }

    #[expect(unsafe_code, reason = "the memory is the CUDA runtime's")]
    fn values(&self) -> &[f32] {
        // SAFETY: `fill` has put so many there, and `self` is borrowed for as long as they are.
        unsafe { std::slice::from_raw_parts(self.values, self.len) }
    }
}

impl Drop for Pinned {
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    fn drop(&mut self) {
        // SAFETY: taken by `new`. The runtime waits for what the device still reads of it.
        unsafe { (self.runtime.free_host)(self.values.cast()) };
    }
}

/// Pinned memory, kept for who comes next: taking it anew takes longer than a pass.
pub struct Pool {
    runtime: Runtime,
    /// What nobody uses now, by room.
    free: Mutex<BTreeMap<usize, Vec<Pinned>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty one.
    #[must_use]
    pub fn new(runtime: Runtime) -> Arc<Self> {
        let free = Mutex::default();
        Arc::new(Self { runtime, free })
    }

    fn take(&self, len: usize) -> Result<Pinned, String> {
        let room = len.next_power_of_two();
        let kept = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.get_mut(&room).and_then(Vec::pop)
        };
        kept.map_or_else(|| Pinned::new(&self.runtime, room), Ok)
    }
}

impl Stage for Arc<Pool> {
    fn stage(&self, count: usize, write: &mut dyn FnMut(&mut [f32])) -> Staged {
        match self.take(count) {
            Ok(mut pinned) => {
                pinned.fill(count, write);
                Staged::new(Loan {
                    pinned: Some(pinned),
                    pool: Arc::clone(self),
                })
            }
            // The device reads any memory, only not by itself.
            Err(error) => {
                debug!(%error, "No pinned memory for {count} values");
                InPlace.stage(count, write)
            }
        }
    }
}

/// Pinned memory in use. Once this is dropped, it is filled for somebody else, though a copy that was begun for whoever
/// gave up waiting may still be read from it: nobody looks at what comes of that.
struct Loan {
    /// Until it is dropped.
    pinned: Option<Pinned>,
    pool: Arc<Pool>,
}

impl AsRef<[f32]> for Loan {
    fn as_ref(&self) -> &[f32] {
        self.pinned.as_ref().map_or(&[], Pinned::values)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            let mut free = self
                .pool
                .free
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            free.entry(pinned.room).or_default().push(pinned);
        }
    }
}
