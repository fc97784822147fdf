//! Holds a loaded model to its contract before anybody's picture meets it.

use tch::{Kind, TchError, Tensor};

use super::{
    super::{
        backend::{Backend as _, FieldValues},
        contract::{Check, Finding, Verdict},
        error::{EngineError, Operation},
        manifest::{Manifest, ModelError},
    },
    TorchBackend,
};
use fields::{Move, agree, field, fields, range};
use inputs::{blank, cloud, noise, picture};

mod denoising;
mod fields;
pub mod inputs;

/// How far colours and alpha may leave 0..1: rounding of half precision.
const ROUNDING: f32 = 2e-3;
/// How far a code may move that is encoded twice on a GPU, as a share of the largest; on a CPU nothing may move.
const CODE_MOVE_SHARE_MAX: f64 = 1e-3;
/// The most points of the checks that compare fields: enough to meet the object's inside, outside and surface.
const COMPARED_POINTS_MAX: usize = 4096;
/// Pictures that are encoded together.
const PICTURES: usize = 3;

/// Tries the promises of [`Check::AT_START`].
///
/// # Errors
/// [`ModelError::Contract`] with the reason of the first that is broken.
pub fn holds_its_contract(
    backend: &mut TorchBackend,
    model: usize,
    manifest: &Manifest,
) -> Result<(), ModelError> {
    let mut probe = Probe::new(backend, model, manifest);
    for check in Check::AT_START {
        if probe.has(check)
            && let Verdict::Broken(reason) = probe.verdict(check)
        {
            return Err(ModelError::Contract { reason });
        }
    }
    Ok(())
}

/// Tries every promise that a loaded model makes.
#[must_use]
pub fn findings(backend: &mut TorchBackend, model: usize, manifest: &Manifest) -> Vec<Finding> {
    let mut probe = Probe::new(backend, model, manifest);
    let mut findings = Vec::new();
    for check in Check::OF_METHODS {
        if probe.has(check) {
            let verdict = probe.verdict(check);
            findings.push(Finding { check, verdict });
        }
    }
    findings
}

/// Why a check did not find its promise kept.
enum Fault {
    Broken(String),
    Untried(&'static str),
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A model under examination, and what earlier checks got from it.
struct Probe<'a> {
    backend: &'a mut TorchBackend,
    model: usize,
    manifest: &'a Manifest,
    codes: Option<Tensor>,
    latents: Option<Tensor>,
    values: Option<FieldValues>,
    /// Whether all of their logits are; where not, there is nothing to compare fields by.
    is_finite: bool,
}

impl<'a> Probe<'a> {
    fn new(backend: &'a mut TorchBackend, model: usize, manifest: &'a Manifest) -> Self {
        Self {
            backend,
            model,
            manifest,
            codes: None,
            latents: None,
            values: None,
            is_finite: false,
        }
    }

    /// Whether the model makes this promise.
    fn has(&self, check: Check) -> bool {
        self.manifest.sampling().is_some() || !check.of_steps()
    }

    fn verdict(&mut self, check: Check) -> Verdict {
        let found = match check {
            Check::Encode => self.encode(),
            Check::Begin => self.begin(),
            Check::Denoise => self.denoise(),
            Check::Query => self.query(),
            Check::Logits => self.logits(),
            Check::Colors => self.colors(),
            Check::Matte => self.matte(),
            Check::Seed => self.seed(),
            Check::InFlight => self.in_flight(),
            Check::Blank => self.blank(),
            Check::Repeat => self.repeat(),
            Check::Split => self.split(),
            Check::Join => self.join(),
            Check::Points => self.points(),
            Check::Manifest | Check::File | Check::Code | Check::Load => Err(Fault::Untried(
                "this is looked at before the model is loaded",
            )),
        };
        match found {
            Ok(detail) => Verdict::Kept(detail),
            Err(Fault::Broken(reason)) => Verdict::Broken(reason),
            Err(Fault::Untried(reason)) => Verdict::Untried(reason.to_owned()),
        }
    }

    /// One picture of noise.
    fn encode(&mut self) -> Result<String, Fault> {
        let image = noise(1, self.manifest.input.values());
        let codes = self.codes(&[&image])?;
        let [codes] =
            <[_; 1]>::try_from(codes).map_err(|_| broken("encode gave no row for its image"))?;
        let detail = format!(
            "codes of shape {:?} for one picture, all finite",
            codes.size()
        );
        self.codes = Some(codes);
        Ok(detail)
    }

    /// One pass of points: noise, and the corners of the cube, beyond which no query goes.
    fn query(&mut self) -> Result<String, Fault> {
        let codes = match self.manifest.sampling() {
            None => self.codes.as_ref().ok_or(NO_CODES)?,
            Some(_) => self.latents.as_ref().ok_or(NO_LATENTS)?,
        };
        let points = cloud(2, self.backend.points_per_pass(self.model));
        let values = field(self.backend, self.model, codes, &points)?;
        self.values = Some(values);
        Ok(format!(
            "a logit and a colour for each of {} points",
            points.len()
        ))
    }

    fn logits(&mut self) -> Result<String, Fault> {
        let values = self.values.as_ref().ok_or(NO_VALUES)?;
        if !values.logits.iter().all(|logit| logit.is_finite()) {
            return Err(broken("query gave logits that are not finite"));
        }
        self.is_finite = true;
        let (low, high) = range(&values.logits);
        Ok(format!(
            "finite, {low:.2} to {high:.2} for a picture of noise"
        ))
    }

    fn colors(&mut self) -> Result<String, Fault> {
        let values = self.values.as_ref().ok_or(NO_VALUES)?;
        if !values
            .rgb
            .as_flattened()
            .iter()
            .all(|&value| in_unit(value))
        {
            return Err(broken("query gave colours outside 0..1"));
        }
        Ok("within 0..1".into())
    }

    fn matte(&mut self) -> Result<String, Fault> {
        if !self.manifest.matte {
            return Err(Fault::Untried("the manifest says that there is none"));
        }
        let image = noise(1, self.manifest.input.values());
        let alpha = self.backend.matte(self.model, &[&image])?.land()?;
        if !alpha.iter().flatten().all(|&value| in_unit(value)) {
            return Err(broken("matte gave alpha outside 0..1"));
        }
        Ok("one value within 0..1 for each pixel".into())
    }

    /// A model may look for the object, and must bear not to find any.
    fn blank(&mut self) -> Result<String, Fault> {
        let codes = self.alone(&blank(self.manifest))?;
        let points = self.compared(9);
        let values = field(self.backend, self.model, &codes, &points)?;
        if !values.logits.iter().all(|logit| logit.is_finite()) {
            return Err(broken(
                "query gave logits that are not finite for a picture without an object",
            ));
        }
        Ok("a picture without an object has a field, too".into())
    }

    fn repeat(&mut self) -> Result<String, Fault> {
        let image = picture(self.manifest, 0);
        let once = self.alone(&image)?;
        let again = self.alone(&image)?;
        let moved = self.code_move(&once, &again)?;
        if self.is_other(moved) {
            return Err(broken(
                "encode gave other codes for the same picture the second time",
            ));
        }
        let points = self.compared(3);
        let values = field(self.backend, self.model, &once, &points)?;
        let repeated = field(self.backend, self.model, &once, &points)?;
        agree(
            &values,
            &repeated,
            "query gave other values for the same points the second time",
        )?;
        Ok("encode and query gave the same again".into())
    }

    fn split(&mut self) -> Result<String, Fault> {
        if !self.is_finite {
            return Err(NO_VALUES);
        }
        let pictures = self.pictures();
        let together: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
        let rows = self.codes(&together)?;
        let points = self.compared(4);
        let mut moved = Move::default();
        for (row, image) in rows.into_iter().zip(&pictures) {
            let alone = self.alone(image)?;
            let alone = field(self.backend, self.model, &alone, &points)?;
            let row = self.finished(vec![row])?.remove(0);
            let row = field(self.backend, self.model, &row, &points)?;
            moved = moved.and(agree(
                &alone,
                &row,
                "a picture that is encoded with others gets another field than alone",
            )?);
        }
        Ok(format!(
            "{PICTURES} pictures encoded at once have the fields they have alone ({moved})"
        ))
    }

    fn join(&mut self) -> Result<String, Fault> {
        let rows = self
            .pictures()
            .iter()
            .map(|image| self.alone(image))
            .collect::<Result<Vec<_>, _>>()?;
        let clouds: Vec<_> = (0..PICTURES as u64)
            .map(|row| self.compared(5 + row))
            .collect();
        let together: Vec<_> = rows.iter().zip(clouds.iter().map(Vec::as_slice)).collect();
        let together = fields(self.backend, self.model, &together)?;
        let mut moved = Move::default();
        for ((row, points), joined) in rows.iter().zip(&clouds).zip(&together) {
            let alone = field(self.backend, self.model, row, points)?;
            moved = moved.and(agree(
                &alone,
                joined,
                "a row of codes that is asked with others answers otherwise than alone",
            )?);
        }
        Ok(format!(
            "{PICTURES} rows asked at once answer as they do alone ({moved})"
        ))
    }

    fn points(&mut self) -> Result<String, Fault> {
        let codes = self.alone(&picture(self.manifest, 0))?;
        let mut points = self.compared(8);
        // So that each part is another side of the cube, and not as good a sample of it as the whole.
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let whole = field(self.backend, self.model, &codes, &points)?;
        let mut cut = FieldValues::default();
        for part in points.chunks(points.len().div_ceil(3)) {
            let values = field(self.backend, self.model, &codes, part)?;
            cut.logits.extend(values.logits);
            cut.rgb.extend(values.rgb);
        }
        let moved = agree(
            &whole,
            &cut,
            "points that are asked in parts get other values than at once",
        )?;
        Ok(format!("a query may be cut ({moved})"))
    }

    fn pictures(&self) -> Vec<Vec<f32>> {
        (0..PICTURES)
            .map(|number| picture(self.manifest, number))
            .collect()
    }

    /// Points of one pass.
    fn compared(&self, seed: u64) -> Vec<[f32; 3]> {
        let pass = self.backend.points_per_pass(self.model);
        cloud(seed, pass.min(COMPARED_POINTS_MAX))
    }

    /// The codes of one picture, encoded by itself.
    fn alone(&mut self, image: &[f32]) -> Result<Tensor, Fault> {
        if !self.is_finite {
            return Err(NO_VALUES);
        }
        self.encoded(&[image])?
            .into_iter()
            .next()
            .ok_or_else(|| broken("encode gave no row for its image"))
    }

    /// Whether codes that moved so far are other codes, and not the same computed again.
    fn is_other(&self, moved: f64) -> bool {
        // On a GPU sums may be taken in another order each time.
        let may_move = if self.backend.shares_passes() {
            CODE_MOVE_SHARE_MAX
        } else {
            0.0
        };
        moved.is_nan() || moved > may_move
    }

    /// The largest difference of two codes, as a share of the largest of them.
    fn code_move(&self, one: &Tensor, other: &Tensor) -> Result<f64, Fault> {
        let largest = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
        let share = || {
            let (one, other) = (one.f_to_kind(Kind::Float)?, other.f_to_kind(Kind::Float)?);
            Ok(largest(&one.f_sub(&other)?)? / largest(&one)?.max(f64::MIN_POSITIVE))
        };
        share().map_err(|error: TchError| self.backend.failed(Operation::Encode)(error).into())
    }

    /// What `query` gets for pictures that are encoded at once: their codes, or an iterative model's last latents.
    fn encoded(&mut self, images: &[&[f32]]) -> Result<Vec<Tensor>, EngineError> {
        let codes = self.codes(images)?;
        self.finished(codes)
    }

    /// What `query` gets for codes.
    fn finished(&mut self, codes: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        self.backend.shortest(self.model, self.manifest, codes)
    }

    /// The codes of pictures, encoded at once.
    fn codes(&mut self, images: &[&[f32]]) -> Result<Vec<Tensor>, EngineError> {
        let rows = self.backend.encode(self.model, images)?.land()?;
        rows.into_iter().collect()
    }
}

const NO_CODES: Fault = Fault::Untried("encode gave no codes");
const NO_LATENTS: Fault = Fault::Untried("denoise gave no latents");
const NO_VALUES: Fault = Fault::Untried("query gave no values, or none that can be compared");

fn broken(reason: &str) -> Fault {
    Fault::Broken(reason.to_owned())
}

fn in_unit(value: f32) -> bool {
    (-ROUNDING..=1.0 + ROUNDING).contains(&value)
}
