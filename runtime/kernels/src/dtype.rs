//! Element types: of weights ([`DType`]) and of activations ([`ActType`]).

/// Rows of a packed matrix that are interleaved; one output row per SIMD lane.
pub const GROUP: usize = 16;

/// Everything the planner places starts on a multiple of this many bytes: a cache line, a 512-bit vector.
pub const ALIGN: usize = 64;

/// The registry of weight types: one line each, in the order of the discriminants. `registry!(each)` is `each! { lines }`.
///
/// A line has the variant, its name, which is also its file in [`crate::quant`], how its matmuls are made (`float`, or
/// `block` by block), ggml's id, a block's weights and bytes.
macro_rules! registry {
    ($each:ident) => {
        $each! {
            F32 f32 float 0 [1 4] "IEEE single.";
            F16 f16 float 1 [1 2] "IEEE half.";
            BF16 bf16 float 30 [1 2] "The upper half of an IEEE single.";
            Q8_0 q8_0 block 8 [32 34] "8.5 bits a weight, blocks of 32.";
            Q4_0 q4_0 block 2 [32 18] "4.5 bits a weight, blocks of 32.";
            Q4_1 q4_1 block 3 [32 20] "5 bits a weight, blocks of 32.";
            Q5_0 q5_0 block 6 [32 22] "5.5 bits a weight, blocks of 32.";
            Q5_1 q5_1 block 7 [32 24] "6 bits a weight, blocks of 32.";
            Q4K q4_k block 12 [256 144] "4.5 bits a weight, blocks of 256.";
            Q5K q5_k block 13 [256 176] "5.5 bits a weight, blocks of 256.";
            Q6K q6_k block 14 [256 210] "6.5625 bits a weight, blocks of 256.";
        }
    };
}
pub(crate) use registry;

macro_rules! types {
    ($($dtype:ident $name:ident $kind:ident $id:literal [$len:literal $bytes:literal] $about:literal;)*) => {
        /// How the elements of a weight matrix are stored. Names and block geometry are ggml's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType {
            $(#[doc = $about] $dtype,)*
        }

        impl DType {
            /// Every type, in the order of the discriminants.
            pub const ALL: [DType; [$($id),*].len()] = [$(DType::$dtype),*];

            /// Weights in one block: what shares a scale.
            pub const fn block_len(self) -> usize {
                match self { $(DType::$dtype => $len,)* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(DType::$dtype => $bytes,)* }
            }

            /// The name used in YAML, reports and messages.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$dtype => stringify!($name),)* }
            }

            /// What it is, in a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(DType::$dtype => $about,)* }
            }

            /// The id of ggml's type, as in GGUF files.
            pub const fn ggml_id(self) -> u32 {
                match self { $(DType::$dtype => $id,)* }
            }
        }
    };
}
registry!(types);

impl DType {
    /// Bytes of a row of `cols` weights. `cols` must be a multiple of [`DType::block_len`].
    pub const fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }

    /// Bytes of a packed matrix: rows are padded to a whole [`GROUP`], nothing else is.
    pub const fn packed_bytes(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(GROUP) * GROUP * self.row_bytes(cols)
    }

    /// Whether a matmul with such weights reads activations quantised to [`ActType::Q8`].
    pub const fn quantised(self) -> bool {
        self.block_len() > 1
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// Planes of a row of [`ActType::Q8`].
pub const PLANES: usize = 2;

/// Bytes of a plane of `cols` elements: bytes, scales, sums.
pub const fn plane_bytes(cols: usize) -> usize {
    cols + cols / 32 * 8
}

/// How activations are stored in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ActType {
    /// Token ids.
    U32,
    /// IEEE single.
    F32,
    /// IEEE half; KV caches only.
    F16,
    /// Rows quantised in blocks of 32, in [`PLANES`] planes: the second holds what the first left over. A plane is all
    /// signed bytes, then per block an f32 scale, then per block the i32 sum of its bytes. `x = sum of scale * byte` over
    /// the planes, `scale = max|x| / 127`, bytes rounded half away from zero. Row length a multiple of 32.
    ///
    /// One plane is wrong by half a percent of the activations, and a deep model multiplies that; two are wrong by
    /// 2^-15 of a block's largest, which no gate can see.
    Q8,
}

impl ActType {
    /// Bytes of a row of `cols` elements, rounded up to [`ALIGN`] so that every row starts on a cache line.
    /// One-column rows (token ids) are dense.
    pub const fn row_bytes(self, cols: usize) -> usize {
        let raw = match self {
            ActType::U32 | ActType::F32 => cols * 4,
            ActType::F16 => cols * 2,
            ActType::Q8 => PLANES * plane_bytes(cols),
        };
        if cols == 1 { raw } else { raw.next_multiple_of(ALIGN) }
    }

    /// The name used in reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            ActType::U32 => "u32",
            ActType::F32 => "f32",
            ActType::F16 => "f16",
            ActType::Q8 => "q8",
        }
    }
}
