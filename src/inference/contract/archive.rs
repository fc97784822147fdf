//! Looks into a TorchScript file, which is a zip archive: for the contract's methods, and for what would tie its code to
//! one machine.

use std::{fs::File, io::Read as _, path::Path};

use super::{super::manifest::Manifest, Verdict};

/// The code of one class is some kilobytes of text; a file is read no further than this.
const CODE_BYTES_MAX: u64 = 16 << 20;

/// How TorchScript writes a device, and how it begins a text that is an absolute path.
const DEVICE: &str = "torch.device(\"";
const ABSOLUTE_PATH: &str = "\"/";

/// Whether the code has the methods that a manifest promises, and names no device and no absolute path. A model that was
/// traced on one kind of device may have it in its code and fail on every other, where verifying it on the first would not
/// show it. A method is looked for anywhere in the code, so that what is missing is told by its name; whether it is the
/// right one shows when it is called.
#[must_use]
pub fn examine_code(file: &Path, manifest: &Manifest) -> Verdict {
    let mut methods = manifest.contract.methods().to_vec();
    methods.extend(manifest.matte.then_some("matte"));
    match search(file, &methods) {
        Err(reason) => Verdict::Broken(format!("the file can't be looked into: {reason}")),
        Ok(Search {
            found: Some(found), ..
        }) => Verdict::Broken(found),
        Ok(Search { missing, .. }) if !missing.is_empty() => {
            let contract = manifest.contract;
            let missing = missing.join(", ");
            Verdict::Broken(format!("its code lacks methods of {contract}: {missing}"))
        }
        Ok(Search { code, debug, .. }) => {
            let leaks = if debug > 0 {
                "; its debug records may hold paths of the machine that exported it"
            } else {
                ""
            };
            Verdict::Kept(format!(
                "no device and no absolute path in {code} files of code{leaks}"
            ))
        }
    }
}

struct Search {
    /// Files of code that were read.
    code: usize,
    /// Files that say which line of which source the code comes from. They do no harm where it runs.
    debug: usize,
    /// What ties them to a machine.
    found: Option<String>,
    /// Methods that none of them defines.
    missing: Vec<&'static str>,
}

fn search(file: &Path, methods: &[&'static str]) -> Result<Search, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut archive = zip::ZipArchive::new(opened).map_err(|error| error.to_string())?;
    let mut search = Search {
        code: 0,
        debug: 0,
        found: None,
        missing: methods.to_vec(),
    };
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(|error| error.to_string())?;
        let name = entry.name().to_owned();
        search.debug += usize::from(name.ends_with(".debug_pkl"));
        if !name.contains("/code/") || !name.ends_with(".py") {
            continue;
        }
        let mut code = String::new();
        entry
            .take(CODE_BYTES_MAX)
            .read_to_string(&mut code)
            .map_err(|error| format!("{name}: {error}"))?;
        search.code += 1;
        search.missing.retain(|method| !defines(&code, method));
        if let Some(found) = tie(&code) {
            search.found = Some(format!("{name} names {found}"));
            return Ok(search);
        }
    }
    if search.code == 0 {
        return Err("it holds no code".into());
    }
    Ok(search)
}

/// Whether code defines a method, as TorchScript writes it.
fn defines(code: &str, method: &str) -> bool {
    code.contains(&format!("  def {method}(self"))
}

/// A device or an absolute path in code, if there is one.
fn tie(code: &str) -> Option<String> {
    let literal = |begin: &str, what: &str| {
        let (_, rest) = code.split_once(begin)?;
        let text: String = rest.chars().take_while(|&letter| letter != '"').collect();
        Some(format!("the {what}{text}"))
    };
    literal(DEVICE, "device ").or_else(|| literal(ABSOLUTE_PATH, "path /"))
}

#[cfg(test)]
mod tests {
    use super::{super::super::manifest::Contract, *};

    #[test]
    fn devices_and_paths_are_found_in_code() {
        let sound = "def encode(self, images: Tensor) -> Tensor:\n  return torch.div(images, 2)\n";
        assert_eq!(tie(sound), None);
        let traced = "x = torch.zeros([1], dtype=6, device=torch.device(\"cuda:0\"))";
        assert_eq!(tie(traced).as_deref(), Some("the device cuda:0"));
        let path = "y = torch.from_file(\"/data/table.bin\", False, 4)";
        assert_eq!(tie(path).as_deref(), Some("the path /data/table.bin"));
    }

    #[test]
    fn the_shipped_model_is_portable_and_a_text_is_no_archive() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/orfeas-mini");
        let mut manifest = Manifest::load(&folder).unwrap();
        let verdict = examine_code(&folder.join("model.pt"), &manifest);
        assert!(matches!(verdict, Verdict::Kept(_)), "{verdict:?}");
        let verdict = examine_code(&folder.join("model.toml"), &manifest);
        assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
        manifest.contract = Contract::ImplicitField2;
        let verdict = examine_code(&folder.join("model.pt"), &manifest);
        let says = "its code lacks methods of implicit-field/2: begin, denoise";
        assert_eq!(verdict, Verdict::Broken(says.into()));
    }
}
