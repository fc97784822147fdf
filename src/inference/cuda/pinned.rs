//! Memory of the processor that the device reads and writes by itself, while the processor does other things.

use std::ffi::c_void;

use super::event::Runtime;

/// A stretch of pinned memory.
#[derive(Debug)]
pub struct Pinned {
    values: *mut f32,
    len: usize,
    runtime: Runtime,
}

impl Pinned {
    /// Takes pinned memory for at least `len` values. It takes longer than a pass, so keep it.
    ///
    /// # Errors
    /// What the CUDA runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn new(runtime: &Runtime, len: usize) -> Result<Self, String> {
        let len = len.next_power_of_two();
        let mut place: *mut c_void = std::ptr::null_mut();
        // SAFETY: `place` is a place for the address.
        let status = unsafe { (runtime.host_alloc)(&raw mut place, len * size_of::<f32>(), 0) };
        runtime.judge(status)?;
        let values: *mut f32 = place.cast();
        // SAFETY: so much was just taken, and nobody else has it; all bits zero are floats.
        unsafe { values.write_bytes(0, len) };
        Ok(Self {
            values,
            len,
            runtime: runtime.clone(),
        })
    }

    /// How many values have room.
    #[must_use]
    pub fn room(&self) -> usize {
        self.len
    }

    /// The values.
    #[must_use]
    #[expect(unsafe_code, reason = "the memory is the CUDA runtime's")]
    pub fn values(&mut self) -> &mut [f32] {
        // SAFETY: `new` took and filled so many, and `self` is borrowed for as long as they are.
        unsafe { std::slice::from_raw_parts_mut(self.values, self.len) }
    }
}

impl Drop for Pinned {
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    fn drop(&mut self) {
        // SAFETY: taken by `new`; whoever lent it to the device has waited for the device.
        unsafe { (self.runtime.free_host)(self.values.cast()) };
    }
}
