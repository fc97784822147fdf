//! The promises of iterative models: latents that are begun, and denoised step by step in whatever company.

use tch::Tensor;

use super::{
    super::super::{
        backend::{Backend as _, Beginning, Denoising},
        error::{EngineError, Operation},
        sampling::{Sampling, SamplingLimits},
    },
    Fault, NO_CODES, NO_LATENTS, NO_VALUES, PICTURES, Probe, broken,
    fields::{Move, agree, field},
};

/// Steps more than the least that conversions in flight have, so that some leave while others stay.
const STEPS_MORE: u32 = 2;
/// Passes between one conversion's joining and the next one's.
const STAGGER: usize = 1;

impl Probe<'_> {
    /// The latents that a picture of noise starts from.
    pub(super) fn begin(&mut self) -> Result<String, Fault> {
        let codes = self.first_codes()?;
        let latents = self.begun(&codes, 1)?;
        let detail = format!(
            "latents of shape {:?} for one picture, all finite",
            latents.size()
        );
        self.latents = Some(latents);
        Ok(detail)
    }

    /// As few steps as the model allows, the first of them twice: a method that keeps something between calls gives
    /// another answer the second time. One that changes its arguments has nothing left to be called with again.
    pub(super) fn denoise(&mut self) -> Result<String, Fault> {
        let first = self.latents.take().ok_or(NO_LATENTS)?;
        let codes = self.first_codes()?;
        let sampling = self.limits().shortest(1);
        let before = first.f_detach_copy();
        let before = before.map_err(self.backend.failed(Operation::Denoise))?;
        let mut latents = self.stepped(&first, &codes, 0, sampling)?;
        if self.code_move(&before, &first)? != 0.0 {
            return Err(broken("denoise changed the latents that it was given"));
        }
        let again = self.stepped(&first, &codes, 0, sampling)?;
        let moved = self.code_move(&latents, &again)?;
        if self.is_other(moved) {
            return Err(broken(
                "denoise gave other latents for the same arguments the second time",
            ));
        }
        for step in 1..sampling.steps {
            latents = self.stepped(&latents, &codes, step, sampling)?;
        }
        self.latents = Some(latents);
        let steps = sampling.steps;
        Ok(format!(
            "latents of the shape it gets, all finite, in each of {steps} steps"
        ))
    }

    pub(super) fn seed(&mut self) -> Result<String, Fault> {
        let codes = self.first_codes()?;
        let mut begun = Vec::new();
        for seed in [1, 1, 2] {
            begun.push(self.begun(&codes, seed)?);
        }
        let repeated = self.code_move(&begun[0], &begun[1])?;
        if self.is_other(repeated) {
            return Err(broken("begin gave other latents for the same seed"));
        }
        if !self.is_other(self.code_move(&begun[0], &begun[2])?) {
            return Err(broken("begin gave the same latents for another seed"));
        }
        Ok("the same seed gives the same latents, another seed others".into())
    }

    /// Conversions that come one after another and go after different numbers of steps.
    pub(super) fn in_flight(&mut self) -> Result<String, Fault> {
        if !self.is_finite {
            return Err(NO_VALUES);
        }
        let limits = self.limits();
        let samplings: Vec<_> = (0..PICTURES as u32)
            .map(|at| Sampling {
                steps: (limits.steps.min + at % 2 * STEPS_MORE).min(limits.steps.max),
                ..limits.shortest(at.into())
            })
            .collect();
        let mut codes = Vec::new();
        for image in self.pictures() {
            codes.extend(self.codes(&[&image])?);
        }
        let shared = codes.iter().map(Tensor::shallow_clone).collect();
        let together = self
            .backend
            .denoised(self.model, shared, &samplings, STAGGER)?;
        let points = self.compared(10);
        let mut moved = Move::default();
        for ((codes, sampling), together) in codes.into_iter().zip(&samplings).zip(&together) {
            let alone = self
                .backend
                .denoised(self.model, vec![codes], &[*sampling], 0)?;
            let alone = field(self.backend, self.model, &alone[0], &points)?;
            let together = field(self.backend, self.model, together, &points)?;
            moved = moved.and(agree(
                &alone,
                &together,
                "a conversion that shares its steps with others gets another field than alone",
            )?);
        }
        Ok(format!(
            "{PICTURES} conversions that share steps have the fields they have alone ({moved})"
        ))
    }

    fn limits(&self) -> SamplingLimits {
        let limits = self.manifest.sampling();
        limits.expect("only iterative models make these promises")
    }

    fn first_codes(&self) -> Result<Tensor, Fault> {
        self.codes
            .as_ref()
            .map(Tensor::shallow_clone)
            .ok_or(NO_CODES)
    }

    fn begun(&mut self, codes: &Tensor, seed: i64) -> Result<Tensor, EngineError> {
        let row = Beginning { codes, seed };
        let rows = self.backend.begin(self.model, &[row])?.land()?;
        rows.into_iter().next().expect("one row has one answer")
    }

    fn stepped(
        &mut self,
        latents: &Tensor,
        codes: &Tensor,
        step: u32,
        sampling: Sampling,
    ) -> Result<Tensor, EngineError> {
        let row = Denoising {
            latents,
            codes,
            step,
            sampling,
        };
        let rows = self.backend.denoise(self.model, &[row])?.land()?;
        rows.into_iter().next().expect("one row has one answer")
    }
}
