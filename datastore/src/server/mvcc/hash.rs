//! The hash of a store's history, computed as etcd's `HashKV` does, so that two stores can be compared.

/// CRC-32C (Castagnoli), the polynomial 0x1edc6f41 reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What etcd hashes first: the name of its bucket of records.
const BUCKET_NAME: &[u8] = b"key";

const TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A hash over records in the order of their revisions.
#[derive(Debug)]
pub(crate) struct HistoryHash(u32);

impl HistoryHash {
    pub(crate) fn new() -> Self {
        let mut hash = Self(!0);
        hash.update(BUCKET_NAME);
        hash
    }

    /// Adds one record: its revision as etcd spells it, and the key-value message.
    pub(crate) fn record(&mut self, revision: super::Revision, deletion: bool, message: &[u8]) {
        self.update(&revision.main.to_be_bytes());
        self.update(b"_");
        self.update(&revision.sub.to_be_bytes());
        if deletion {
            self.update(b"t");
        }
        self.update(message);
    }

    pub(crate) fn finish(self) -> u32 {
        !self.0
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let entry = TABLE
                .get(usize::from(self.0 as u8 ^ byte))
                .copied()
                .unwrap_or_default();
            self.0 = (self.0 >> 8) ^ entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_check_value() {
        let mut hash = HistoryHash(!0);
        hash.update(b"123456789");
        assert_eq!(hash.finish(), 0xe306_9283);
    }
}
