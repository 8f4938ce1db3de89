//! Offsets of kernel fields, from the kernel's BTF (`Documentation/bpf/btf.rst`).
//!
//! aya reads BTF but does not expose members, and Rust programs carry no CO-RE relocations, so the few offsets needed
//! are looked up here and handed to the programs as frozen globals.

use std::{collections::HashMap, ops::Range, path::Path};

use tracker_common::fields::{ABSENT, BITS, Field, INODE, INODE_FIELDS, OPTIONAL, REQUIRED};

/// Where the kernel keeps its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Errors from reading offsets, each with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read the kernel's type information (BTF) from {path}: {source}; use a kernel with \
         CONFIG_DEBUG_INFO_BTF=y, or name a BTF file made for this kernel with --btf FILE"
    )]
    Read {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no BTF, or ends early.
    #[error("{path} is not BTF: {what}")]
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A structure or member is missing that every supported kernel has.
    #[error("the BTF in {path} has no {field}; kernels since Linux 6.1 are supported")]
    Missing {
        /// Its path.
        path: String,
        /// `structure.member`.
        field: String,
    },
}

/// Offsets for the globals of the kernel programs, by name.
pub fn offsets(path: &Path) -> Result<Vec<(&'static str, u32)>, BtfError> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| BtfError::Read { path: shown.clone(), source })?;
    let btf = Btf::parse(&bytes).map_err(|what| BtfError::Malformed { path: shown.clone(), what })?;
    resolve(&btf).map_err(|field| BtfError::Missing { path: shown, field })
}

/// The numbers of an enumeration and their names.
pub fn enumerators(path: &Path, name: &str) -> Result<Vec<(u32, String)>, BtfError> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| BtfError::Read { path: shown.clone(), source })?;
    let btf = Btf::parse(&bytes).map_err(|what| BtfError::Malformed { path: shown.clone(), what })?;
    let missing = || BtfError::Missing { path: shown, field: format!("enum {name}") };
    let values = btf.enumerations.get(name.as_bytes()).and_then(|at| bytes.get(at.clone())).ok_or_else(missing)?;
    let named = |value: &[u8]| {
        let [name, number] =
            [0, 4].map(|at| u32::from_le_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]));
        (number, String::from_utf8_lossy(string(btf.strings, name)).into_owned())
    };
    Ok(values.chunks_exact(8).map(named).collect())
}

fn resolve(btf: &Btf<'_>) -> Result<Vec<(&'static str, u32)>, String> {
    let bits = |structure: &str, path: &[&str]| {
        btf.offset_bits(structure, path).ok_or_else(|| format!("{structure}.{}", path.join(".")))
    };
    let mut globals = Vec::new();
    for Field { global, structure, path } in REQUIRED {
        globals.push((*global, bits(structure, path)? / 8));
    }
    for Field { global, structure, path } in OPTIONAL {
        globals.push((*global, bits(structure, path).map_or(ABSENT, |bits| bits / 8)));
    }
    for Field { global, structure, path } in BITS {
        globals.push((*global, bits(structure, path)? % 8));
    }
    let mut inode = 0;
    for (structure, path) in INODE_FIELDS {
        inode += bits(structure, path)? / 8;
    }
    globals.push((INODE, inode));
    Ok(globals)
}

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;

/// The structures, unions and enumerations of a BTF blob.
#[derive(Default)]
struct Btf<'a> {
    strings: &'a [u8],
    /// Kind, name offset, members and the type referred to, by type id.
    types: Vec<Type>,
    structures: HashMap<&'a [u8], usize>,
    /// Where the enumerators are: name offset and value of each.
    enumerations: HashMap<&'a [u8], Range<usize>>,
}

#[derive(Default)]
struct Type {
    kind: u32,
    refers_to: u32,
    bitfields: bool,
    /// Name offset, type id, offset word.
    members: Vec<(u32, u32, u32)>,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let word = |at: usize| -> Result<u32, &'static str> {
            let bytes = bytes.get(at..at + 4).ok_or("it ends early")?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        if word(0)? & 0xffff != 0xeb9f {
            return Err("it does not begin with the magic number");
        }
        let header = word(4)? as usize;
        let (type_start, type_length) = (header + word(8)? as usize, word(12)? as usize);
        let (string_start, string_length) = (header + word(16)? as usize, word(20)? as usize);
        let strings = bytes.get(string_start..string_start + string_length).ok_or("it ends early")?;
        let mut btf = Self { strings, types: vec![Type::default()], ..Self::default() };
        let mut at = type_start;
        while at < type_start + type_length {
            let (name, info, size_or_type) = (word(at)?, word(at + 4)?, word(at + 8)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            at += 12;
            let mut entry = Type { kind, refers_to: size_or_type, bitfields: info >> 31 == 1, members: Vec::new() };
            let (each, extra) = match kind {
                1 | 14 | 17 => (0, 4),
                3 => (0, 12),
                KIND_STRUCT | KIND_UNION | 15 | 19 => (12, 0),
                6 | 13 => (8, 0),
                2 | 7..=12 | 16 | 18 => (0, 0),
                _ => return Err("it has a kind of type that is not known"),
            };
            if kind == KIND_STRUCT || kind == KIND_UNION {
                for member in 0..count {
                    let at = at + member * 12;
                    entry.members.push((word(at)?, word(at + 4)?, word(at + 8)?));
                }
                btf.structures.entry(string(strings, name)).or_insert(btf.types.len());
            }
            if kind == KIND_ENUM {
                btf.enumerations.entry(string(strings, name)).or_insert(at..at + each * count);
            }
            btf.types.push(entry);
            at += each * count + extra;
        }
        Ok(btf)
    }

    /// Offset of a field in bits from the start of a structure.
    fn offset_bits(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut id = *self.structures.get(structure.as_bytes())?;
        let mut bits = 0;
        for name in path {
            let (offset, member) = self.member(id, name.as_bytes())?;
            bits += offset;
            id = self.strip(member);
        }
        Some(bits)
    }

    /// Offset in bits and type of a member, anonymous structures and unions searched too.
    fn member(&self, id: usize, name: &[u8]) -> Option<(u32, u32)> {
        let entry = self.types.get(id)?;
        for &(member_name, member_type, offset) in &entry.members {
            // With bitfields the upper byte is the size of the field (kind_flag).
            let offset = if entry.bitfields { offset & 0x00ff_ffff } else { offset };
            let found = string(self.strings, member_name);
            if found == name {
                return Some((offset, member_type));
            }
            if found.is_empty()
                && let Some((inner, inner_type)) = self.member(self.strip(member_type), name)
            {
                return Some((offset + inner, inner_type));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, id: u32) -> usize {
        let mut id = id as usize;
        while let Some(Type { kind: 8..=11, refers_to, .. }) = self.types.get(id) {
            id = *refers_to as usize;
        }
        id
    }
}

fn string(strings: &[u8], offset: u32) -> &[u8] {
    let tail = strings.get(offset as usize..).unwrap_or_default();
    tail.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_field() {
        let offsets: HashMap<_, _> = offsets(Path::new(KERNEL_BTF)).unwrap().into_iter().collect();
        // These three have not moved since Linux 3.x; a wrong parser would hardly hit them.
        assert_eq!(offsets["OFF_DADDR"], 0);
        assert_eq!(offsets["OFF_FAMILY"], 16);
        assert_eq!(offsets["OFF_STATE"], 18);
        assert!(offsets.values().all(|offset| *offset < 4096 || *offset == ABSENT));
    }

    #[test]
    fn a_file_that_is_no_btf_is_refused_in_one_line() {
        let error = offsets(Path::new("/proc/self/status")).unwrap_err().to_string();
        assert!(error.contains("/proc/self/status is not BTF"), "{error}");
        let error = offsets(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("--btf FILE"), "{error}");
    }

    #[test]
    fn a_cut_blob_is_refused() {
        let whole = std::fs::read(KERNEL_BTF).unwrap();
        for length in [0, 3, 20, 23, 1000, whole.len() / 2] {
            assert!(Btf::parse(&whole[..length]).is_err(), "{length}");
        }
    }
}
