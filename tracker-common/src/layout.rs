//! Layouts that the kernel programs and the daemon share, and what follows from a layout: zero, hash and sum.
//!
//! A value of a map is declared by `abi!`, and described by nothing else.

/// A type whose bytes mean the same to a kernel program and to the daemon.
///
/// # Safety
/// It consists of integers, is `#[repr(C)]` and has no padding, so that any bytes are a value of it.
pub unsafe trait Layout: Copy + 'static {
    /// Differs when the name of the type, or the name, type or place of a field differs.
    const HASH: u64;

    /// All bytes are zero. No constant: a kernel program would copy one from memory.
    fn zero() -> Self;
}

/// Adds counters up: over CPUs, and over the sockets of a `SO_REUSEPORT` group.
pub trait Sum {
    /// Adds `other` to `self`, field by field. Sums wrap around.
    fn add(&mut self, other: &Self);
}

macro_rules! integers {
    ($($type:ident)*) => { $(
        // SAFETY: an integer.
        unsafe impl Layout for $type {
            const HASH: u64 = hash_text(hash_text(BASIS, "integer"), stringify!($type));

            #[inline(always)]
            fn zero() -> Self {
                0
            }
        }

        impl Sum for $type {
            #[inline(always)]
            fn add(&mut self, other: &Self) {
                *self = self.wrapping_add(*other);
            }
        }
    )* };
}
integers! { u8 u16 u32 u64 i8 }

// SAFETY: elements of an array follow each other without padding.
unsafe impl<T: Layout, const N: usize> Layout for [T; N] {
    const HASH: u64 = hash_number(T::HASH, N as u64);

    #[inline(always)]
    fn zero() -> Self {
        [T::zero(); N]
    }
}

impl<T: Sum, const N: usize> Sum for [T; N] {
    #[inline(always)]
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.iter_mut().zip(other) {
            mine.add(theirs);
        }
    }
}

/// Declares a structure that both sides share. `: Sum` makes it one whose fields can be added up.
macro_rules! abi {
    (
        $(#[$meta:meta])*
        pub struct $name:ident: Sum { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )* }
    ) => {
        $crate::layout::abi! {
            $(#[$meta])*
            pub struct $name { $( $(#[$field_meta])* pub $field: $type, )* }
        }

        impl $crate::layout::Sum for $name {
            #[inline(always)]
            fn add(&mut self, other: &Self) {
                $( $crate::layout::Sum::add(&mut self.$field, &other.$field); )*
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )* }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type, )* }

        const _: () = assert!(size_of::<$name>() == 0 $( + size_of::<$type>() )*, "the layout has padding");

        // SAFETY: #[repr(C)], all fields are layouts themselves, and their sizes add up to that of the whole.
        unsafe impl $crate::layout::Layout for $name {
            const HASH: u64 = $crate::layout::hash_structure(
                stringify!($name),
                &[$( (stringify!($field), <$type as $crate::layout::Layout>::HASH), )*],
            );

            #[inline(always)]
            fn zero() -> Self {
                Self { $( $field: <$type as $crate::layout::Layout>::zero(), )* }
            }
        }

        impl Default for $name {
            #[inline(always)]
            fn default() -> Self {
                <Self as $crate::layout::Layout>::zero()
            }
        }

        // SAFETY: any bytes are a value of a layout.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use abi;

/// Start of all hashes (FNV-1a, 64 bits).
pub(crate) const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// Takes in a text and its end.
pub(crate) const fn hash_text(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash_number(hash, bytes.len() as u64)
}

/// Takes in a number.
pub(crate) const fn hash_number(mut hash: u64, number: u64) -> u64 {
    let bytes = number.to_le_bytes();
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

/// Hash of a structure, from its name and the name and hash of each field. The offsets follow from these.
pub(crate) const fn hash_structure(name: &str, fields: &[(&str, u64)]) -> u64 {
    let mut hash = hash_text(BASIS, name);
    let mut index = 0;
    while index < fields.len() {
        hash = hash_number(hash_text(hash, fields[index].0), fields[index].1);
        index += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::{Layout, Sum};

    /// A structure called `Sample` in a module of its own.
    macro_rules! sample {
        ($module:ident { $($fields:tt)* }) => {
            mod $module {
                #![allow(dead_code, reason = "only its layout is looked at")]
                super::super::abi! { pub struct Sample: Sum { $($fields)* } }
            }
        };
    }
    sample!(original { pub count: u64, pub times: [u32; 4], });
    sample!(same { pub count: u64, pub times: [u32; 4], });
    sample!(renamed { pub counts: u64, pub times: [u32; 4], });
    sample!(retyped { pub count: u64, pub times: [u16; 8], });
    sample!(reordered { pub times: [u32; 4], pub count: u64, });
    sample!(longer { pub count: u64, pub times: [u32; 6], });

    #[test]
    fn another_field_gives_another_hash() {
        assert_eq!(original::Sample::HASH, same::Sample::HASH);
        let hashes = [
            original::Sample::HASH,
            renamed::Sample::HASH,
            retyped::Sample::HASH,
            reordered::Sample::HASH,
            longer::Sample::HASH,
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[index + 1..].contains(hash), "{index}");
        }
    }

    #[test]
    fn every_field_is_added_and_wraps() {
        let mut sum = original::Sample { count: u64::MAX, times: [1, 2, 3, 4] };
        sum.add(&original::Sample { count: 2, times: [10, 20, 30, u32::MAX] });
        assert_eq!(sum, original::Sample { count: 1, times: [11, 22, 33, 3] });
    }
}
