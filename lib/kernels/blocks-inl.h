// blocks.h for one instruction set and one kind of byte product, which stands before: included within HWY_NAMESPACE, once for
// each kind.
//   kSaturates             whether sums of two products of eight bits may not fit
//   RowOf<WIDE>(a)         four numbers of a row, as they are multiplied
//   Step<WIDE>(sum, q, row)  sum[column] plus the products of a quad

// Two vectors of columns of a strip, or of two strips, unpacked to bytes: it stays in the nearest cache while rows go over
// it.
constexpr int kTileVectors = 2, kTileStrips = kTileVectors / kVectors, kTileColumns = kTileVectors * kLanes;
struct Tile {
  HWY_ALIGN uint8_t quads[kLargestUnit / 4][kTileVectors * kByteLanes];
  HWY_ALIGN float scales[kLargestUnit / 16][kTileColumns];
  HWY_ALIGN float minimums[kLargestUnit / 16][kTileColumns];
};

// Scales and minima of a unit, as floats.
template <BlockType TYPE>
HWY_INLINE void UnpackScales(const uint8_t *unit, Tile &tile, int first_block, int first_vector = 0) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const hn::Rebind<int32_t, D> d32;
  const hn::Rebind<uint8_t, D> d8;
  const auto half = [&](int index, int v) HWY_ATTR {
    return hn::PromoteTo(d,
                         hn::LoadU(d16, reinterpret_cast<const hwy::float16_t *>(unit) + index * kStrip + v * kLanes));
  };
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (kSpec.nested) {
      const uint8_t *const scales = unit + 4 * kStrip, *const minimums = scales + kSpec.scales() * kStrip;
      const V scale = half(0, v), minimum = kSpec.minimum ? hn::Neg(half(1, v)) : hn::Zero(d);
      for (int part = 0; part < kSpec.scales(); ++part) {
        const int at = part * kStrip + v * kLanes;
        const auto load = [&](const uint8_t *from) HWY_ATTR { return hn::PromoteTo(d32, hn::LoadU(d8, from + at)); };
        auto whole = load(scales);
        const int column = (first_vector + v) * kLanes;
        float *const to = tile.scales[part] + column;
        if constexpr (kSpec.shared()) {
          hn::Store(hn::Mul(scale, hn::ConvertTo(d, hn::And(whole, hn::Set(d32, 15)))), d, to);
          hn::Store(hn::Mul(minimum, hn::ConvertTo(d, hn::ShiftRight<4>(whole))), d, tile.minimums[part] + column);
        } else {
          whole = hn::ShiftRight<24>(hn::ShiftLeft<24>(whole));
          hn::Store(hn::Mul(scale, hn::ConvertTo(d, whole)), d, to);
          if constexpr (kSpec.minimum)
            hn::Store(hn::Mul(minimum, hn::ConvertTo(d, load(minimums))), d, tile.minimums[part] + column);
        }
      }
    } else {
      for (int part = 0; part < kSpec.scales(); ++part) {
        const int column = (first_vector + v) * kLanes;
        hn::Store(half(part, v), d, tile.scales[first_block + part] + column);
        if constexpr (kSpec.minimum) hn::Store(half(2 + part, v), d, tile.minimums[first_block + part] + column);
      }
    }
  }
}

// The eight quads of a block, as bytes.
template <BlockType TYPE>
HWY_INLINE void Quads(const uint8_t *block, int v, hn::Vec<Bytes> (&q)[8]) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const Bytes bytes;
  const hn::Repartition<uint16_t, Bytes> words;
  const auto shift = [&](auto w, int by) HWY_ATTR {  // within bytes, once masked
    const auto wide = hn::BitCast(words, w);
    return hn::BitCast(bytes, by >= 0 ? hn::ShiftLeftSame(wide, by) : hn::ShiftRightSame(wide, -by));
  };
#pragma GCC unroll 8
  for (int quad = 0; quad < 8; ++quad) {
    q[quad] = hn::Zero(bytes);
    int low = 0, line = 0;
    const auto plane = [&](auto size) HWY_ATTR {
      constexpr int kBits = decltype(size)::value;
      const auto w = hn::LoadU(bytes, block + (line + quad % kBits) * 64 + v * kByteLanes);
      if constexpr (kBits == 8) {
        q[quad] = w;
      } else {
        const auto mask = hn::Set(bytes, static_cast<uint8_t>(((1 << kBits) - 1) << low));
        q[quad] = hn::Or(q[quad], hn::And(shift(w, low - quad / kBits * kBits), mask));
      }
      line += kBits, low += kBits;
    };
    if constexpr (kSpec.bits == 8) plane(std::integral_constant<int, 8>());
    if constexpr (kSpec.bits < 8 && kSpec.bits & 4) plane(std::integral_constant<int, 4>());
    if constexpr (kSpec.bits < 8 && kSpec.bits & 2) plane(std::integral_constant<int, 2>());
    if constexpr (kSpec.bits < 8 && kSpec.bits & 1) plane(std::integral_constant<int, 1>());
    if constexpr (kSpec.table) q[quad] = hn::TableLookupBytes(hn::LoadDup128(bytes, kBlockTable), q[quad]);
  }
}

template <BlockType TYPE>
HWY_INLINE void UnpackUnit(const uint8_t *unit, Tile &tile, int first_block, int first_vector = 0) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  UnpackScales<TYPE>(unit, tile, first_block, first_vector);
  for (int block = 0; block < kSpec.unit() / kBlock; ++block) {
    for (int v = 0; v < kVectors; ++v) {
      hn::Vec<Bytes> q[8];
      Quads<TYPE>(unit + kSpec.head_bytes() + block * kSpec.block_bytes(), v, q);
#pragma GCC unroll 8
      for (int quad = 0; quad < 8; ++quad)
        hn::Store(q[quad], Bytes(), tile.quads[(first_block + block) * 8 + quad] + (first_vector + v) * kByteLanes);
    }
  }
}

// Sums of a block's whole numbers, as they add to a row's sum: the same steps for one row and for many.
HWY_INLINE V AddPart(Whole whole, V scale, float row_scale, V sum) {
  const D d;
  return hn::MulAdd(hn::Mul(hn::ConvertTo(d, whole), scale), hn::Set(d, row_scale), sum);
}

// A vector of columns of C, of which `inside` are there.
HWY_INLINE V LoadSums(const float *c, int64_t inside, bool accumulate) {
  const D d;
  if (!accumulate || inside <= 0) return hn::Zero(d);
  return inside >= kLanes ? hn::LoadU(d, c) : LoadRest(d, c, inside);
}
HWY_INLINE void StoreSums(V sum, int64_t inside, float *c) {
  if (inside >= kLanes) hn::StoreU(sum, D(), c);
  else if (inside > 0) StoreRest(D(), sum, inside, c);
}

// ROWS rows of X times a tile, added to what C holds: a number of X that was loaded serves two vectors of columns, and the
// rows' chains of products run side by side.
template <int PART_ROWS, bool MINIMUM, bool WIDE, int ROWS>
HWY_NOINLINE void TileProduct(const Tile &tile, const BlockRows &x, int64_t first_block, int64_t blocks, float *c,
                              int64_t c_row, int columns, bool accumulate) {
  constexpr int kPerBlock = kBlock / PART_ROWS, kQuads = 8 / kPerBlock;
  const D d;
  const hn::Rebind<int32_t, D> d32;
  const Bytes bytes;
  V sum[ROWS][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v)
      sum[r][v] = LoadSums(c + r * c_row + v * kLanes, columns - v * kLanes, accumulate);
  for (int64_t part = 0; part < blocks * kPerBlock; ++part) {
    const int64_t at = first_block * kPerBlock + part;
    const int8_t *const values = x.values + at * PART_ROWS;
    Whole whole[ROWS][kTileVectors];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) whole[r][v] = hn::Set(d32, x.starts[r * x.parts + at]);
#pragma GCC unroll 8
    for (int quad = 0; quad < kQuads; ++quad) {
      const uint8_t *const from = tile.quads[part * kQuads + quad];
      hn::Vec<Bytes> q[kTileVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) q[v] = hn::Load(bytes, from + v * kByteLanes);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        const auto row = RowOf<WIDE>(values + r * x.stride + 4 * quad);
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v) whole[r][v] = Step<WIDE>(whole[r][v], q[v], row);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) {
      const V scale = hn::Load(d, tile.scales[part] + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r)
        sum[r][v] = AddPart(whole[r][v], scale, x.scales[r * x.blocks + at / kPerBlock], sum[r][v]);
      if constexpr (MINIMUM) {
        const V minimum = hn::Load(d, tile.minimums[part] + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) sum[r][v] = hn::MulAdd(minimum, hn::Set(d, x.sums[r * x.parts + at]), sum[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) StoreSums(sum[r][v], columns - v * kLanes, c + r * c_row + v * kLanes);
}

// So many rows' sums stay in registers.
constexpr int kMostRows = HWY_MAX_BYTES >= 64 ? 8 : 4;

template <int PART_ROWS, bool MINIMUM, bool WIDE, int ROWS = kMostRows>
HWY_INLINE void TileRows(const Tile &tile, const BlockRows &x, int64_t rows, int64_t first_block, int64_t blocks,
                         float *c, int64_t c_row, int columns, bool accumulate) {
  int64_t r = 0;
  for (; rows - r >= ROWS; r += ROWS)
    TileProduct<PART_ROWS, MINIMUM, WIDE, ROWS>(tile, x.from(r), first_block, blocks, c + r * c_row, c_row, columns,
                                                accumulate);
  if constexpr (ROWS > 1) {
    if (r < rows)
      TileRows<PART_ROWS, MINIMUM, WIDE, ROWS / 2>(tile, x.from(r), rows - r, first_block, blocks, c + r * c_row, c_row,
                                                   columns, accumulate);
  }
}

// One row, which waits for the weights alone: they go from memory to sums without a stop.
template <BlockType TYPE, bool WIDE>
HWY_INLINE void RowProduct(const BlockRows &x, const uint8_t *unit, int64_t units, float *c, int columns,
                           bool accumulate) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  constexpr int kPerBlock = kBlock / kSpec.rows, kQuads = 8 / kPerBlock, kBlocks = kSpec.unit() / kBlock;
  constexpr int64_t kAhead = 4096;
  const D d;
  const hn::Rebind<int32_t, D> d32;
  Tile tile;
  V sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = LoadSums(c + v * kLanes, columns - v * kLanes, accumulate);
  for (int64_t i = 0; i < units; ++i, unit += kSpec.unit_bytes()) {
    UnpackScales<TYPE>(unit, tile, 0);
    for (int block = 0; block < kBlocks; ++block) {
      const uint8_t *const from = unit + kSpec.head_bytes() + block * kSpec.block_bytes();
      for (int line = 0; line < kSpec.block_bytes(); line += 64) hwy::Prefetch(from + kAhead + line);
      const int64_t at = i * kBlocks + block;
      for (int v = 0; v < kVectors; ++v) {
        hn::Vec<Bytes> q[8];
        Quads<TYPE>(from, v, q);
#pragma GCC unroll 2
        for (int part = 0; part < kPerBlock; ++part) {
          const int64_t x_part = at * kPerBlock + part, b_part = block * kPerBlock + part;
          Whole whole = hn::Set(d32, x.starts[x_part]);
#pragma GCC unroll 8
          for (int quad = 0; quad < kQuads; ++quad)
            whole = Step<WIDE>(whole, q[part * kQuads + quad], RowOf<WIDE>(x.values + x_part * kSpec.rows + 4 * quad));
          sum[v] = AddPart(whole, hn::Load(d, tile.scales[b_part] + v * kLanes), x.scales[at], sum[v]);
          if constexpr (kSpec.minimum)
            sum[v] = hn::MulAdd(hn::Load(d, tile.minimums[b_part] + v * kLanes), hn::Set(d, x.sums[x_part]), sum[v]);
        }
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) StoreSums(sum[v], columns - v * kLanes, c + v * kLanes);
}

template <BlockType TYPE>
HWY_NOINLINE void Product(const BlockRows &x, int64_t rows, const uint8_t *strips, int64_t k, int64_t begin,
                          int64_t end, float *c, int64_t c_row, bool accumulate) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  constexpr bool kWide = kSaturates && (kSpec.bits == 8 || kSpec.table);
  constexpr int kUnits = kLargestUnit / kSpec.unit(), kBlocks = kSpec.unit() / kBlock;
  const int64_t units = (k + kSpec.unit() - 1) / kSpec.unit();
  const auto strip_at = [&](int64_t j) { return strips + j / kStrip * units * kSpec.unit_bytes(); };
  const auto inside = [&](int64_t j, int most) { return static_cast<int>(end - j < most ? end - j : most); };
  if (rows == 1) {
    for (int64_t j = begin; j < end; j += kStrip)
      RowProduct<TYPE, kWide>(x, strip_at(j), units, c + j, inside(j, kStrip), accumulate);
    return;
  }
  Tile tile;
  std::memset(&tile, 0, sizeof tile);  // where the last strip has no neighbour
  for (int64_t j = begin; j < end; j += kTileColumns) {
    for (int64_t first = 0; first < units; first += kUnits) {
      const int64_t count = units - first < kUnits ? units - first : kUnits;
      for (int strip = 0; strip < kTileStrips && j + strip * kStrip < end; ++strip) {
        const uint8_t *unit = strip_at(j + strip * kStrip) + first * kSpec.unit_bytes();
        for (int64_t i = 0; i < count; ++i, unit += kSpec.unit_bytes())
          UnpackUnit<TYPE>(unit, tile, static_cast<int>(i) * kBlocks, strip * kVectors);
      }
      TileRows<kSpec.rows, kSpec.minimum, kWide>(tile, x, rows, first * kBlocks, count * kBlocks, c + j, c_row,
                                                 inside(j, kTileColumns), accumulate || first > 0);
    }
  }
}
