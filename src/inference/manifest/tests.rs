use std::path::PathBuf;

use super::*;

/// The manifest that ships with the project, so that the tests fail when it breaks.
const SHIPPED: &str = include_str!("../../../models/orfeas-mini/model.toml");

fn parse(text: &str) -> Result<Manifest, ModelError> {
    Manifest::parse(text, Path::new("model.toml"))
}

/// The shipped manifest with one line replaced.
fn with_line(line: &str, by: &str) -> String {
    assert!(
        SHIPPED.contains(line),
        "the shipped manifest has no `{line}`"
    );
    SHIPPED.replacen(line, by, 1)
}

fn write_model(models: &Path, folder: &str, manifest: &str) -> PathBuf {
    let folder = models.join(folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
    folder
}

#[test]
fn the_shipped_manifest_is_right() {
    let manifest = parse(SHIPPED).unwrap();
    assert_eq!(manifest.name, "orfeas-mini");
    assert_eq!(manifest.contract.to_string(), "implicit-field/1");
    assert_eq!(manifest.input.values(), 3 * 192 * 192);
    assert_eq!(manifest.cpu.dtype, Dtype::Float32);
    assert!(manifest.matte);
    assert!(manifest.accuracy.contains_key("iou_validation"));
}

#[test]
fn each_wrong_value_is_named() {
    let wrong = [
        ("name = \"orfeas-mini\"", "name = \"Orfeas Mini\"", "name"),
        (
            "name = \"model.pt\"",
            "name = \"../other/model.pt\"",
            "file.name",
        ),
        ("sha256 = \"", "sha256 = \"X", "file.sha256"),
        ("height = 192", "height = 8", "input.height"),
        ("width = 192", "width = 10000", "input.width"),
        (
            "background = [0.5, 0.5, 0.5]",
            "background = [0.5, 1.5, 0.5]",
            "input.background",
        ),
        (
            "background = [0.5, 0.5, 0.5]",
            "background = [0.5, nan, 0.5]",
            "input.background",
        ),
        ("fill = 0.86", "fill = 1.2", "input.fill"),
        ("iso_level = 0.0", "iso_level = inf", "field.iso_level"),
        ("default = 128", "default = 16", "resolution.default"),
        ("min = 32", "min = 31", "resolution.min"),
        ("max = 512", "max = 513", "resolution.max"),
        ("images_max = 32", "images_max = 0", "batch.images_max"),
        (
            "points_per_pass = 16384",
            "points_per_pass = 1",
            "cpu.points_per_pass",
        ),
        (
            "points_per_pass = 1048576",
            "points_per_pass = 99999999",
            "cuda.points_per_pass",
        ),
        (
            "licence = \"MIT OR Apache-2.0\"",
            "licence = \" \"",
            "licence",
        ),
    ];
    for (line, by, expected) in wrong {
        match parse(&with_line(line, by)) {
            Err(ModelError::Value { key, .. }) => assert_eq!(key, expected, "{by}"),
            other => panic!("`{by}` gave {other:?}"),
        }
    }
}

/// The shipped manifest as that of an iterative model.
fn iterative(tables: &str) -> String {
    let second = with_line(
        "contract = \"implicit-field/1\"",
        "contract = \"implicit-field/2\"",
    );
    format!("{second}\n{tables}\n")
}

#[test]
fn an_iterative_model_says_what_may_be_asked_of_it() {
    let steps = "[steps]\ndefault = 20\nmin = 1\nmax = 50";
    let guidance = "[guidance]\ndefault = 3\nmin = 0.5\nmax = 10.0";
    let manifest = parse(&iterative(&format!("{steps}\n{guidance}"))).unwrap();
    assert_eq!(manifest.contract.to_string(), "implicit-field/2");
    let limits = manifest.sampling().unwrap();
    assert_eq!((limits.steps.min, limits.steps.max), (1, 50));
    assert_eq!(limits.guidance.map(|span| span.default), Some(3.0));
    let manifest = parse(&iterative(steps)).unwrap();
    assert_eq!(manifest.sampling().unwrap().guidance, None);
    assert_eq!(parse(SHIPPED).unwrap().sampling(), None);

    let wrong = [
        (iterative(""), "steps"),
        (format!("{SHIPPED}\n{steps}"), "steps"),
        (format!("{SHIPPED}\n{guidance}"), "guidance"),
        (iterative(&steps.replace("min = 1", "min = 0")), "steps.min"),
        (iterative(&steps.replace("50", "1001")), "steps.max"),
        (iterative(&steps.replace("20", "51")), "steps.default"),
        (
            iterative(&format!("{steps}\n{}", guidance.replace("10.0", "nan"))),
            "guidance.max",
        ),
    ];
    for (text, expected) in wrong {
        match parse(&text) {
            Err(ModelError::Value { key, .. }) => assert_eq!(key, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    for text in [
        "",
        "name = 3",
        &with_line(
            "contract = \"implicit-field/1\"",
            "contract = \"implicit-field/9\"",
        ),
        &with_line("iso_level = 0.0", "iso_levle = 0.0"),
        &with_line("dtype = \"half\"", "dtype = \"int4\""),
    ] {
        assert!(
            matches!(parse(text), Err(ModelError::Syntax { .. })),
            "{text}"
        );
    }
}

#[test]
fn a_scan_reports_what_is_broken_and_finds_the_rest() {
    let models = tempfile::tempdir().unwrap();
    let whole = write_model(models.path(), "orfeas-mini", SHIPPED);
    fs::write(whole.join("model.pt"), b"weights").unwrap();
    write_model(
        models.path(),
        "no-file",
        &with_line("name = \"orfeas-mini\"", "name = \"no-file\""),
    );
    write_model(models.path(), "renamed", SHIPPED);
    write_model(models.path(), "torn", "name = ");
    fs::create_dir(models.path().join("empty")).unwrap();
    fs::write(models.path().join("README.md"), "text").unwrap();

    let found = scan(models.path()).unwrap();
    let names: Vec<_> = found.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["no-file", "orfeas-mini", "renamed", "torn"]);
    assert!(matches!(
        found[0].manifest,
        Err(ModelError::FileMissing { .. })
    ));
    assert!(found[1].manifest.is_ok());
    assert!(matches!(
        found[2].manifest,
        Err(ModelError::FolderName { .. })
    ));
    assert!(matches!(found[3].manifest, Err(ModelError::Syntax { .. })));

    // A model's own folder holds one model, whatever lies beside it and however it is named.
    let own = scan(&whole).unwrap();
    assert_eq!(own.len(), 1);
    assert!(own[0].name == "orfeas-mini" && own[0].manifest.is_ok());
    let link = models.path().join("link");
    std::os::unix::fs::symlink(&whole, &link).unwrap();
    for name in [link, whole.join("../orfeas-mini/.")] {
        let own = scan(&name).unwrap();
        assert!(own[0].manifest.is_ok(), "{:?}", own[0].manifest);
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let models = tempfile::tempdir().unwrap();
    assert!(matches!(
        scan(&models.path().join("none")),
        Err(ModelError::Folder { .. })
    ));
}

#[test]
fn the_files_hash_decides() {
    let models = tempfile::tempdir().unwrap();
    // sha256 of the three bytes "abc", FIPS 180-2's first example.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let mut manifest = parse(SHIPPED).unwrap();
    manifest.file.sha256 = abc.to_owned();
    assert!(matches!(
        manifest.verified_file(models.path()),
        Err(ModelError::FileMissing { .. })
    ));
    fs::write(models.path().join("model.pt"), b"abc").unwrap();
    assert_eq!(
        manifest.verified_file(models.path()).unwrap(),
        models.path().join("model.pt")
    );
    fs::write(models.path().join("model.pt"), b"abd").unwrap();
    match manifest.verified_file(models.path()) {
        Err(ModelError::Hash {
            expected, actual, ..
        }) => {
            assert_eq!(expected, abc);
            assert_ne!(actual, abc);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_endless_manifest_is_not_read_to_its_end() {
    let models = tempfile::tempdir().unwrap();
    let folder = write_model(models.path(), "big", &"#".repeat(300 * 1024));
    assert!(matches!(
        Manifest::load(&folder),
        Err(ModelError::ManifestTooLarge { .. })
    ));
}
