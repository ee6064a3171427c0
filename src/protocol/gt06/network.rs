//! Cells and access points that a message names.

use std::fmt::Write;

use super::super::bytes::{Reader, number};

/// Characters of a list: what does not fit a frame is of no use.
const LIST_CHARS_MAX: usize = 400;

/// Characters of most cells.
const CELL_CHARS: usize = 24;

/// A cell of a mobile network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) mcc: u16,
    pub(super) mnc: u16,
    pub(super) lac: u32,
    pub(super) id: u64,
}

/// Widths of the fields of a cell, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    /// The MNC has two bytes even if the MCC does not say so.
    pub(super) wide_mnc: bool,
    pub(super) lac: usize,
    pub(super) id: usize,
}

/// GSM.
pub(super) const NARROW: Widths = Widths {
    wide_mnc: false,
    lac: 2,
    id: 3,
};

/// 3G: the cell has four bytes.
pub(super) const WIDE: Widths = Widths {
    wide_mnc: false,
    lac: 2,
    id: 4,
};

/// The same with two bytes of MNC.
pub(super) const WIDE_MNC: Widths = Widths {
    wide_mnc: true,
    lac: 2,
    id: 4,
};

/// 4G.
pub(super) const LONG: Widths = Widths {
    wide_mnc: false,
    lac: 4,
    id: 8,
};

/// What a message says about the networks around.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// MCC-MNC-LAC-cell, separated by spaces.
    pub(super) cells: String,
    /// Address and signal, separated by spaces.
    pub(super) points: String,
}

impl Network {
    /// Notes a cell; zeros are the place of one that is not heard, or of a network that is not known.
    pub(super) fn add_cell(&mut self, cell: Cell) {
        if cell.mcc == 0 || cell.lac == 0 && cell.id == 0 || self.cells.len() > LIST_CHARS_MAX {
            return;
        }
        self.cells.reserve(CELL_CHARS);
        space(&mut self.cells);
        let Cell { mcc, mnc, lac, id } = cell;
        for (at, number) in [mcc.into(), mnc.into(), lac.into(), id]
            .into_iter()
            .enumerate()
        {
            if at > 0 {
                self.cells.push('-');
            }
            push_decimal(&mut self.cells, number);
        }
    }

    /// Notes an access point.
    pub(super) fn add_point(&mut self, address: [u8; 6], signal: Option<u8>) {
        if address == [0; 6] || self.points.len() > LIST_CHARS_MAX {
            return;
        }
        space(&mut self.points);
        for (at, byte) in address.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            let _ = write!(self.points, "{colon}{byte:02x}");
        }
        // dBm, by some with its sign, by others without.
        if let Some(signal) = signal {
            let dbm = -i16::from((signal as i8).unsigned_abs());
            let _ = write!(self.points, ",{dbm}");
        }
    }

    /// Reads one cell with its network.
    pub(super) fn read_cell(&mut self, reader: &mut Reader, widths: Widths) -> Option<()> {
        let (mcc, mnc) = read_operator(reader, widths.wide_mnc)?;
        self.read_cell_of(reader, mcc, mnc, widths)
    }

    fn read_cell_of(
        &mut self,
        reader: &mut Reader,
        mcc: u16,
        mnc: u16,
        widths: Widths,
    ) -> Option<()> {
        let lac = number(reader.take(widths.lac)?) as u32;
        let id = number(reader.take(widths.id)?);
        self.add_cell(Cell { mcc, mnc, lac, id });
        Some(())
    }

    /// Reads `count` cells of one network, each with its signal.
    pub(super) fn read_cells(
        &mut self,
        reader: &mut Reader,
        (mcc, mnc): (u16, u16),
        count: u8,
        widths: Widths,
    ) -> Option<()> {
        for _ in 0..count {
            self.read_cell_of(reader, mcc, mnc, widths)?;
            reader.skip(1)?;
        }
        Some(())
    }

    /// Reads a count and as many access points, each with its signal.
    pub(super) fn read_points(&mut self, reader: &mut Reader) -> Option<()> {
        for _ in 0..reader.u8()? {
            self.add_point(reader.array()?, Some(reader.u8()?));
        }
        Some(())
    }
}

/// MCC and MNC; the top bit of the MCC says that the MNC has two bytes.
pub(super) fn read_operator(reader: &mut Reader, wide: bool) -> Option<(u16, u16)> {
    let mcc = reader.u16()?;
    let mnc = match wide || mcc & 0x8000 != 0 {
        true => reader.u16()?,
        false => u16::from(reader.u8()?),
    };
    Some((mcc & 0x7fff, mnc))
}

/// Adds a number in decimal digits. Formatting the cells took a tenth of the time of a message.
fn push_decimal(list: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    list.push_str(std::str::from_utf8(&digits[start..]).expect("digits are ASCII"));
}

fn space(list: &mut String) {
    if !list.is_empty() {
        list.push(' ');
    }
}
