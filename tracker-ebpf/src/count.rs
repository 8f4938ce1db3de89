//! Counting in arrays without a panic: an index out of bounds counts nothing, and the verifier sees the check.

/// Adds to `table[row][column]`.
#[inline(always)]
pub(crate) fn add<const N: usize, const M: usize>(table: &mut [[u64; N]; M], row: usize, column: usize, value: u64) {
    if let Some(row) = table.get_mut(row) {
        add_flat(row, column, value);
    }
}

/// `table[row][column]`, or 0 out of bounds.
#[inline(always)]
pub(crate) fn get<const N: usize, const M: usize>(table: &[[u64; N]; M], row: usize, column: usize) -> u64 {
    match table.get(row) {
        Some(row) => match row.get(column) {
            Some(count) => *count,
            None => 0,
        },
        None => 0,
    }
}

/// Adds to `row[column]`.
#[inline(always)]
pub(crate) fn add_flat<const N: usize>(row: &mut [u64; N], column: usize, value: u64) {
    if let Some(counter) = row.get_mut(column) {
        *counter += value;
    }
}
