//! Bits of a raw byte sequence payload (RBSP), H.264 §7.2 and §9.1.

/// Reads bits from a NAL unit's payload, skipping emulation prevention bytes as it goes.
///
/// Every method answers `None` at the end of the data, so a truncated parameter set cannot be read past.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    /// Next byte to load.
    next: usize,
    /// How many zero bytes stand directly before `next`: two and a 0x03 make an emulation prevention byte.
    zeros: u8,
    current: u8,
    /// Bits of `current` not yet read.
    left: u8,
    /// Bits read so far, emulation prevention bytes not counted.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, next: 0, zeros: 0, current: 0, left: 0, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn load(&mut self) -> Option<()> {
        let mut byte = *self.data.get(self.next)?;
        self.next += 1;
        if self.zeros >= 2 && byte == 3 {
            // §7.4.1.1: emulation_prevention_three_byte is not part of the payload.
            self.zeros = 0;
            byte = *self.data.get(self.next)?;
            self.next += 1;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.current = byte;
        self.left = 8;
        Some(())
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.load()?;
        }
        self.left -= 1;
        self.position += 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// `u(n)`, n up to 32.
    pub(crate) fn bits(&mut self, count: u8) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// `ue(v)`, §9.1. More than 31 leading zeros cannot stand for a 32-bit value and end the reading.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0_u8;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1_u64 << zeros) - 1) as u32 + self.bits(zeros)?)
    }

    /// `se(v)`, §9.1.1.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = (code + 1) / 2;
        i32::try_from(if code % 2 == 0 { -value } else { value }).ok()
    }
}

/// Writes a payload bit by bit and puts the emulation prevention bytes in.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    zeros: u8,
    current: u8,
    filled: u8,
}

impl BitWriter {
    pub(crate) fn new(header: &[u8]) -> Self {
        Self { bytes: header.to_vec(), ..Self::default() }
    }

    pub(crate) fn bit(&mut self, bit: bool) {
        self.current = self.current << 1 | u8::from(bit);
        self.filled += 1;
        if self.filled == 8 {
            if self.zeros >= 2 && self.current <= 3 {
                self.bytes.push(3);
                self.zeros = 0;
            }
            self.zeros = if self.current == 0 { self.zeros + 1 } else { 0 };
            self.bytes.push(self.current);
            (self.current, self.filled) = (0, 0);
        }
    }

    pub(crate) fn bits(&mut self, value: u32, count: u8) {
        for shift in (0..count).rev() {
            self.bit(value >> shift & 1 == 1);
        }
    }

    pub(crate) fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros() as u8;
        for _ in 1..length {
            self.bit(false);
        }
        for shift in (0..length).rev() {
            self.bit(code >> shift & 1 == 1);
        }
    }

    /// The payload, filled up with zero bits to a whole byte.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        while self.filled != 0 {
            self.bit(false);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_standard_are_read() {
        // H.264 table 9-2: 1 | 010 | 011 | 00100 | 00101 -> 0 1 2 3 4, then se(v) of code 3, 4 -> 2, -2.
        let data = [0b1010_0110, 0b0100_0010, 0b1001_0000, 0b1010_0000];
        let mut bits = BitReader::new(&data);
        let codes: Vec<_> = (0..5).map(|_| bits.ue()).collect();
        assert_eq!(codes, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!((bits.se(), bits.se()), (Some(2), Some(-2)));
    }

    #[test]
    fn emulation_prevention_bytes_are_skipped_and_written() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(32), Some(0x0000_0100));
        assert_eq!(bits.bits(8), Some(0));
        assert_eq!(bits.bit(), None, "a trailing prevention byte is no payload");

        let mut writer = BitWriter::new(&[0x67]);
        for byte in [0, 0, 1, 0, 0, 0, 4] {
            writer.bits(byte, 8);
        }
        assert_eq!(writer.finish(), [0x67, 0, 0, 3, 1, 0, 0, 3, 0, 4]);
    }

    #[test]
    fn written_codes_read_back() {
        let values = [0, 1, 2, 7, 8, 255, 65_535, u32::MAX - 1];
        let mut writer = BitWriter::default();
        values.iter().for_each(|&value| writer.ue(value));
        let bytes = writer.finish();
        let mut bits = BitReader::new(&bytes);
        assert_eq!(values.map(|_| bits.ue()), values.map(Some));
    }

    #[test]
    fn endless_zeros_end_the_reading() {
        assert_eq!(BitReader::new(&[0; 64]).ue(), None);
        assert_eq!(BitReader::new(&[]).bits(1), None);
    }
}
