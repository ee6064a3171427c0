//! Cells of the mobile network, which vendors list in several ways.

use super::super::fields::Fields;
use super::super::text;

/// Most cells that are told.
const CELLS_MAX: usize = 8;

/// Area and cell as they stand.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Of NBR: network, delay, count, then area, cell and signal of each.
pub(super) fn of_neighbours(fields: &Fields) -> Option<String> {
    let count = fields.u8(7).map_or(0, usize::from);
    let cells = fields.from(8).chunks_exact(3).take(count);
    decimal(fields.get(4), fields.get(5), cells.map(pair))
}

/// Of V3: network as one number, count, then four fields to a cell. Also gives the code of the battery behind them.
pub(super) fn with_battery<'a>(fields: &Fields<'a>) -> (Option<String>, Option<&'a str>) {
    let count = fields.u8(5).map_or(0, usize::from);
    let (mcc, mnc) = fields.get(4).split_at(fields.get(4).len().min(3));
    let cells = fields.from(6).chunks_exact(4).take(count);
    let battery = fields.text(6 + 4 * count);
    (
        decimal(mcc, mnc, cells.map(pair)),
        battery.filter(|code| code.len() == 4),
    )
}

/// Of BS: network, then area, cell and signal of each in hexadecimal, filled with zeros.
pub(super) fn of_base_stations(fields: &Fields) -> Option<String> {
    let cells = fields.from(6).chunks_exact(3);
    hexadecimal(fields.get(4), fields.get(5), cells.map(pair))
}

/// Of VP1: network, then `area,cell,signal` with a letter behind each.
pub(super) fn of_letters(fields: &Fields) -> Option<String> {
    let listed = fields.from(6).join(&b',');
    let cells = listed.split(|&byte| byte == b'Y').filter_map(|cell| {
        let mut parts = cell.split(|&byte| byte == b',');
        Some((parts.next()?, parts.next()?))
    });
    decimal(fields.get(4), fields.get(5), cells)
}

/// Network and pairs of area and cell in decimals.
pub(super) fn decimal<'a>(
    mcc: &[u8],
    mnc: &[u8],
    cells: impl Iterator<Item = Pair<'a>>,
) -> Option<String> {
    let number = |field: &[u8]| u32::try_from(text::decimal(field, 0)?).ok();
    told(number, mcc, mnc, cells)
}

/// Network and pairs of area and cell in hexadecimal.
pub(super) fn hexadecimal<'a>(
    mcc: &[u8],
    mnc: &[u8],
    cells: impl Iterator<Item = Pair<'a>>,
) -> Option<String> {
    let number = |field: &[u8]| u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok();
    told(number, mcc, mnc, cells)
}

/// `mcc-mnc-area-cell`, spaces between; areas of zero are filling.
fn told<'a>(
    number: impl Fn(&[u8]) -> Option<u32>,
    mcc: &[u8],
    mnc: &[u8],
    cells: impl Iterator<Item = Pair<'a>>,
) -> Option<String> {
    let (mcc, mnc) = (number(mcc)?, number(mnc)?);
    let cells: Vec<_> = cells
        .filter_map(|(area, cell)| Some((number(area)?, number(cell)?)))
        .filter(|&(area, _)| area != 0)
        .take(CELLS_MAX)
        .map(|(area, cell)| format!("{mcc}-{mnc}-{area}-{cell}"))
        .collect();
    (!cells.is_empty()).then(|| cells.join(" "))
}

fn pair<'a>(cell: &[&'a [u8]]) -> Pair<'a> {
    (cell[0], cell[1])
}
