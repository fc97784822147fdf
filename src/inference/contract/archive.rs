//! Looks into a TorchScript file, which is a zip archive, for what would tie its code to one machine.

use std::{fs::File, io::Read as _, path::Path};

use super::Verdict;

/// The code of one class is some kilobytes of text; a file is read no further than this.
const CODE_BYTES_MAX: u64 = 16 << 20;

/// How TorchScript writes a device, and how it begins a text that is an absolute path.
const DEVICE: &str = "torch.device(\"";
const ABSOLUTE_PATH: &str = "\"/";

/// Whether the code names no device and no absolute path. A model that was traced on one kind of device may have it
/// in its code and fail on every other, where verifying it on the first would not show it.
#[must_use]
pub fn code_is_portable(file: &Path) -> Verdict {
    match search(file) {
        Err(reason) => Verdict::Broken(format!("the file can't be looked into: {reason}")),
        Ok(Search {
            found: Some(found), ..
        }) => Verdict::Broken(found),
        Ok(Search {
            code,
            debug,
            found: None,
        }) => {
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
}

fn search(file: &Path) -> Result<Search, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut archive = zip::ZipArchive::new(opened).map_err(|error| error.to_string())?;
    let mut search = Search {
        code: 0,
        debug: 0,
        found: None,
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
    use super::*;

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
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let verdict = code_is_portable(&root.join("models/orfeas-mini/model.pt"));
        assert!(matches!(verdict, Verdict::Kept(_)), "{verdict:?}");
        let verdict = code_is_portable(&root.join("models/orfeas-mini/model.toml"));
        assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
    }
}
