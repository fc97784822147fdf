//! `orfeas doctor`: what is there, and what is wrong.

use std::process::ExitCode;

use super::{CommandError, output, program};
use crate::{
    app, config::Settings, error_chain::chain, image::InputImage, inference::manifest::scan,
};

/// Looks at everything that a node needs and prints what it finds.
///
/// # Errors
/// Never: what is wrong is printed, and makes the exit code.
pub async fn run(settings: Settings) -> Result<ExitCode, CommandError> {
    let mut wrong = 0;
    let mut tell = |what: &str, found: Result<String, String>| match found {
        Ok(text) => output::line(&format!("ok     {what:<10} {text}")),
        Err(text) => {
            wrong += 1;
            output::line(&format!("WRONG  {what:<10} {text}"));
        }
    };
    tell("version", Ok(env!("CARGO_PKG_VERSION").to_owned()));
    libtorch(&mut tell);
    tell("models", models(&settings));
    tell("decoders", decoders(&settings).await);
    tell("storage", storage(&settings).await);
    tell("postgres", postgres(&settings).await);
    tell(
        "keys",
        settings
            .keyring()
            .map(|ring| format!("{ring:?}"))
            .map_err(|error| chain(&error)),
    );
    output::line(if wrong == 0 {
        "\nAll is well."
    } else {
        "\nSomething is wrong; see above."
    });
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(feature = "torch")]
fn libtorch(tell: &mut impl FnMut(&str, Result<String, String>)) {
    let probe = crate::inference::cuda::probe();
    tell(
        "libtorch",
        probe
            .torch_version
            .ok_or_else(|| "its version could not be told".to_owned()),
    );
    // A machine without a GPU is well; one whose driver works while libtorch's CUDA part does not, isn't.
    match (&probe.driver, &probe.torch_cuda) {
        (Err(reason), _) => tell("gpu", Ok(format!("none ({reason}); the CPU computes"))),
        (Ok(_), Err(reason)) => tell(
            "gpu",
            Err(format!(
                "the driver works, but libtorch can't use it: {reason}"
            )),
        ),
        (Ok(driver), Ok(())) => {
            tell(
                "gpu",
                Ok(format!(
                    "driver {}, CUDA {}, {} usable",
                    driver.version, driver.cuda_version, probe.devices_usable
                )),
            );
            for gpu in &driver.gpus {
                let gib = |bytes: u64| bytes >> 30;
                let text = format!(
                    "{}: {} of {} GiB free",
                    gpu.name,
                    gib(gpu.memory.free_bytes),
                    gib(gpu.memory.total_bytes)
                );
                tell("device", Ok(text));
            }
        }
    }
}

#[cfg(not(feature = "torch"))]
fn libtorch(tell: &mut impl FnMut(&str, Result<String, String>)) {
    tell(
        "libtorch",
        Ok("not in this build, which serves ORFEAS_ROLE=api alone".to_owned()),
    );
}

fn models(settings: &Settings) -> Result<String, String> {
    let folder = settings.models_dir().map_err(|error| chain(&error))?;
    let mut names = Vec::new();
    for found in scan(&folder).map_err(|error| chain(&error))? {
        let manifest = found
            .manifest
            .map_err(|error| format!("{}: {}", found.name, chain(&error)))?;
        manifest
            .verified_file(&found.folder)
            .map_err(|error| chain(&error))?;
        names.push(manifest.name);
    }
    if names.contains(&settings.orfeas_default_model) {
        return Ok(format!("{} in {}", names.join(", "), folder.display()));
    }
    Err(format!(
        "the default model {} is not in {}",
        settings.orfeas_default_model,
        folder.display()
    ))
}

/// What decoders are confined by, once one has decoded a picture behind it.
async fn decoders(settings: &Settings) -> Result<String, String> {
    let program = program().map_err(|error| error.to_string())?;
    let pool = app::open::decoder(settings, program).map_err(|error| chain(&error))?;
    let mut png = std::io::Cursor::new(Vec::new());
    ::image::RgbImage::new(1, 1)
        .write_to(&mut png, ::image::ImageFormat::Png)
        .map_err(|error| chain(&error))?;
    let picture = InputImage::parse(png.into_inner().into(), &settings.image_limits())
        .map_err(|error| chain(&error))?;
    pool.check(&picture).await.map_err(|error| chain(&error))?;
    let confinement = pool.confinement().await.map_err(|error| chain(&error))?;
    Ok(confinement.to_string())
}

async fn storage(settings: &Settings) -> Result<String, String> {
    let storage = app::open::storage(settings).map_err(|error| chain(&error))?;
    storage.check().await.map_err(|error| chain(&error))?;
    Ok(settings
        .orfeas_storage
        .clone()
        .unwrap_or_else(|| settings.assets_dir().display().to_string()))
}

async fn postgres(settings: &Settings) -> Result<String, String> {
    let program = program().map_err(|error| error.to_string())?;
    let opened = app::open::database(settings, program)
        .await
        .map_err(|error| chain(&error))?;
    let version = opened.database.version().await;
    let version = version.map_err(|error| chain(&error))?;
    let kind = match &opened.embedded {
        None => "from DATABASE_URL",
        Some(_) => "embedded",
    };
    opened.close().await.map_err(|error| chain(&error))?;
    Ok(format!("{version}, {kind}"))
}
