//! `models`: lists the models on the disk that could be served.

use std::process::ExitCode;

use serde::Serialize;

use super::hub_yaml::HubYaml;
use super::render::{Out, bytes, with_tilde};
use super::room::{self, Fits, Room};
use super::table;
use crate::api::Status;
use crate::config::{Config, is_same};
use crate::model_files::{self, ModelFiles, Places, found};

/// List the models on this disk
///
/// Looks into the Hugging Face cache (HF_HUB_CACHE, HF_HOME), LM Studio's folder and the `model_folders` of
/// hub.yaml, and lists each complete model that a worker can serve: size on the disk, type, quantisation,
/// context length in tokens, whether it fits into this machine's memory (`alone`: once others have left), and
/// its names in hub.yaml. Reads no weights, and asks no network.
///
/// Example: mlx-openai-server-hub models
///
/// Exit status: 0, also when there are none.
#[derive(Debug, clap::Args)]
pub(super) struct Models {
    /// Print them as JSON, sizes in bytes
    #[arg(long)]
    json: bool,
}

/// A model on the disk beside this hub.yaml and machine.
#[derive(Debug, Serialize)]
pub(super) struct Offer {
    #[serde(flatten)]
    pub(super) files: ModelFiles,
    pub(super) fits: Fits,
    /// The names of its entries in hub.yaml.
    pub(super) names: Vec<String>,
}

impl Models {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let status = room::status(hub_yaml).await;
        let config = hub_yaml.config().ok();
        let places = Places::of(config);
        let offers = offers(&places, config, status.as_ref());
        if self.json {
            out.line(serde_json::to_string_pretty(&offers)?);
            return Ok(ExitCode::SUCCESS);
        }
        if config.is_none() && hub_yaml.path.exists() {
            out.warn(format_args!(
                "{} is not valid, so its `model_folders` and names are not known; see `check`",
                hub_yaml.path.display()
            ));
        }
        if offers.is_empty() {
            out.line("No models were found in:");
            let folders = std::iter::once(&places.hugging_face);
            for folder in folders.chain(&places.lm_studio).chain(&places.folders) {
                out.line(format_args!("  {}", folder.display()));
            }
            return Ok(ExitCode::SUCCESS);
        }
        print(&offers, false, out);
        Ok(ExitCode::SUCCESS)
    }
}

/// The models on the disk.
pub(super) fn offers(
    places: &Places,
    config: Option<&Config>,
    status: Option<&Status>,
) -> Vec<Offer> {
    let room = Room::of(status);
    let models = found(places).into_iter();
    models
        .map(|files| offer(files, config, status, room))
        .collect()
}

fn offer(files: ModelFiles, config: Option<&Config>, status: Option<&Status>, room: Room) -> Offer {
    let entries = config.map_or(&[][..], |config| &config.models);
    let is_its = |folder: std::path::PathBuf| is_same(&folder, &files.folder);
    let names = entries
        .iter()
        .filter(|entry| model_files::folder_of(entry).is_some_and(is_its))
        .map(|entry| entry.name.clone());
    let names: Vec<String> = names.collect();
    let mut models = status.iter().flat_map(|status| &status.models);
    let is_loaded = models
        .any(|model| names.contains(&model.id) && model.metadata.facts.memory_state.holds_memory());
    let fits = match is_loaded {
        true => Fits::Loaded,
        false => room.fits(room::need(&files)),
    };
    Offer { files, fits, names }
}

/// A table of models, with their numbers from 1 if somebody is to choose.
pub(super) fn print(offers: &[Offer], is_numbered: bool, out: &mut Out) {
    let rows = offers.iter().enumerate();
    let rows: Vec<_> = rows
        .map(|(at, offer)| {
            let mut row = row(offer);
            if is_numbered {
                row[0] = format!("{} {}", at + 1, row[0]);
            }
            row
        })
        .collect();
    let header = [
        "MODEL", "SIZE", "TYPE", "BITS", "CONTEXT", "FITS", "HUB.YAML",
    ];
    table::print(out, header, &rows, &[0], &[2, 4, 3]);
}

fn row(offer: &Offer) -> [String; 7] {
    let facts = &offer.files.facts;
    let names = Some(offer.names.join(", ")).filter(|names| !names.is_empty());
    [
        with_tilde(&offer.files.model_path),
        bytes(offer.files.bytes),
        facts.model_type.as_str().to_owned(),
        table::or_dash(facts.quantisation.as_ref()),
        table::or_dash(facts.context_length),
        offer.fits.as_str().to_owned(),
        table::or_dash(names),
    ]
}
