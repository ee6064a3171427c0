//! `[capture]`: where recordings of what devices said go, and how much room they may take.

use std::path::Path;

use toml::Spanned;

use super::ConfigError;
use super::check::{Source, in_range, one};
use super::document::CaptureSection;
use super::settings::CaptureSettings;
use super::unit::Bytes;

/// Shortest file: one read of a connection fits.
const FILE_BYTES_MIN: u64 = 64 << 10;

/// Checks the section.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn capture(sources: &[Source], state_dir: &Path) -> Result<CaptureSettings, ConfigError> {
    let empty = CaptureSection::default();
    let found = one(sources, "capture", |d| d.capture.as_ref())?;
    let s = found.map_or(&empty, |(_, section)| section.get_ref());
    let source = found.map_or(&sources[0], |(source, _)| source);
    let bytes = |size: &Option<Spanned<Bytes>>, default: u64| {
        size.as_ref().map_or(default, |size| size.get_ref().0)
    };
    let file_bytes_max = bytes(&s.file_size_max, 16 << 20);
    if let Some(size) = &s.file_size_max
        && file_bytes_max < FILE_BYTES_MIN
    {
        return Err(source.error(&size.span(), "file_size_max is below 64KiB"));
    }
    let dir = s.dir.as_ref().map(|dir| source.path(dir));
    Ok(CaptureSettings {
        dir: dir.unwrap_or_else(|| state_dir.join("captures").display().to_string()),
        file_bytes_max,
        files_max: in_range(source, s.files_max.as_ref(), 8, 2..=10_000)?,
        free_bytes_min: bytes(&s.free_min, 64 << 20),
    })
}
