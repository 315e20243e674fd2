// blocks.h for one instruction set and one kind of byte product, which stands before: included within HWY_NAMESPACE,
// once for each kind.
//   kWideApart               whether numbers of eight bits are multiplied in another way than those of fewer
//   kWidePlanes              into so many of fewer bits they are split before
//   RowOf<WIDE>(a)           four numbers of a row, as they are multiplied
//   Held                     sums of columns, before they are whole numbers of 32 bits
//   held_quads(bits)         so many quads of weights of so many bits fit them
//   Begin(sum)               what the first of these quads is added to
//   Step<WIDE>(held, q, row) plus the products of a quad
//   End(sum, held, plane)    the sum with them

// The vectors of columns of a strip, or the one of each of two, unpacked to bytes: it stays in the nearest cache for
// all rows.
constexpr int kTileVectors = kVectors < 2 ? 2 : kVectors, kTileStrips = kTileVectors / kVectors,
              kTileColumns = kTileVectors * kLanes;
template <int DEPTH, int PLANES>
struct Tile {
  HWY_ALIGN uint8_t quads[DEPTH / 4][PLANES][kTileVectors * kByteLanes];
  HWY_ALIGN float scales[DEPTH / 16][kTileColumns];
  HWY_ALIGN float minimums[DEPTH / 16][kTileColumns];
};
using UnitTile = Tile<kLargestUnit, 1>;
// As deep as leaves room for a group of rows beside it.
constexpr int deep_units(int planes) { return planes == 1 ? 3 : 2; }  // of the largest
template <int PLANES>
using DeepTile = Tile<deep_units(PLANES) * kLargestUnit, PLANES>;

// How weights of a type are multiplied.
template <BlockType TYPE>
struct Ways {
  static constexpr BlockSpec kSpec = spec_of(TYPE);
  static constexpr bool kWide = kWideApart && (kSpec.bits == 8 || kSpec.table);
  static constexpr int kPlanes = kWide ? kWidePlanes : 1;
  static constexpr int kHeld = std::min(kSpec.rows / 4, held_quads(kWide ? 8 / kPlanes : kSpec.bits));
};

// Bytes of a quad that a plane holds.
template <int PLANES>
HWY_INLINE hn::Vec<Bytes> Plane(hn::Vec<Bytes> q, int plane) {
  if constexpr (PLANES == 1) return q;
  const hn::Repartition<uint16_t, Bytes> words;
  if (plane == 1) q = hn::BitCast(Bytes(), hn::ShiftRight<4>(hn::BitCast(words, q)));
  return hn::And(q, hn::Set(Bytes(), 15));
}

// Scales and minima of a unit, as floats.
template <BlockType TYPE, int DEPTH, int PLANES>
HWY_INLINE void UnpackScales(const uint8_t *unit, Tile<DEPTH, PLANES> &tile, int first_block, int first_vector = 0) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const int first_part = first_block * kSpec.parts();
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const hn::Rebind<int32_t, D> d32;
  const hn::Rebind<uint8_t, D> d8;
  const auto half = [&](int index, int v) HWY_ATTR {
    return hn::PromoteTo(
        d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t *>(unit + kSpec.half_at(index, v * kLanes))));
  };
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (kSpec.nested) {
      const V scale = half(0, v), minimum = kSpec.minimum ? hn::Neg(half(kSpec.first_minimum(), v)) : hn::Zero(d);
      for (int part = 0; part < kSpec.scales(); ++part) {
        const auto load = [&](int at) HWY_ATTR { return hn::PromoteTo(d32, hn::LoadU(d8, unit + at)); };
        auto whole = load(kSpec.scale_at(part, v * kLanes));
        const int column = (first_vector + v) * kLanes;
        float *const to = tile.scales[first_part + part] + column, *const to_minimum =
                                                                       tile.minimums[first_part + part] + column;
        if constexpr (kSpec.shared()) {
          hn::Store(hn::Mul(scale, hn::ConvertTo(d, hn::And(whole, hn::Set(d32, 15)))), d, to);
          hn::Store(hn::Mul(minimum, hn::ConvertTo(d, hn::ShiftRight<4>(whole))), d, to_minimum);
        } else {
          whole = hn::ShiftRight<24>(hn::ShiftLeft<24>(whole));
          hn::Store(hn::Mul(scale, hn::ConvertTo(d, whole)), d, to);
          if constexpr (kSpec.minimum)
            hn::Store(hn::Mul(minimum, hn::ConvertTo(d, load(kSpec.minimum_at(part, v * kLanes)))), d, to_minimum);
        }
      }
    } else {
      for (int part = 0; part < kSpec.scales(); ++part) {
        const int column = (first_vector + v) * kLanes;
        hn::Store(half(part, v), d, tile.scales[first_part + part] + column);
        if constexpr (kSpec.minimum)
          hn::Store(half(kSpec.first_minimum() + part, v), d, tile.minimums[first_part + part] + column);
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

template <BlockType TYPE, int DEPTH, int PLANES>
HWY_INLINE void UnpackUnit(const uint8_t *unit, Tile<DEPTH, PLANES> &tile, int first_block, int first_vector = 0) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  UnpackScales<TYPE>(unit, tile, first_block, first_vector);
  for (int block = 0; block < kSpec.unit() / kBlock; ++block) {
    for (int v = 0; v < kVectors; ++v) {
      hn::Vec<Bytes> q[8];
      Quads<TYPE>(unit + kSpec.head_bytes() + block * kSpec.block_bytes(), v, q);
#pragma GCC unroll 8
      for (int quad = 0; quad < 8; ++quad)
#pragma GCC unroll 2
        for (int plane = 0; plane < PLANES; ++plane)
          hn::Store(Plane<PLANES>(q[quad], plane), Bytes(),
                    tile.quads[(first_block + block) * 8 + quad][plane] + (first_vector + v) * kByteLanes);
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

HWY_INLINE float FloatAt(const uint8_t *from) {
  float number;
  std::memcpy(&number, from, sizeof number);
  return number;
}
HWY_INLINE int32_t WholeAt(const uint8_t *from) {
  int32_t number;
  std::memcpy(&number, from, sizeof number);
  return number;
}

// What the tile after this one is made of, in the strips of its columns: each part of a product asks for kLaterBytes of
// each, until the end, and then for what is there already.
constexpr int kLaterBytes = 256;
struct Later {
  const uint8_t *next, *end;
  int64_t strip_bytes, step;
  HWY_INLINE void Go(int64_t parts) {
    next += parts * step;
    if (next >= end) next = end - step, step = 0;
  }
};

// ROWS rows of a group, from its row `first` on, times a tile, added to what C holds: a number of X that was loaded
// serves two vectors of columns, and the rows' chains of products run side by side.
template <int PART_ROWS, bool MINIMUM, bool WIDE, int PLANES, int HELD, int ROWS>
HWY_NOINLINE void TileProduct(const DeepTile<PLANES> &tile, const uint8_t *x, int first, int64_t parts, float *c,
                              int64_t c_row, int columns, bool accumulate, const Later &later) {
  const D d;
  const hn::Rebind<int32_t, D> d32;
  const Bytes bytes;
  V sum[ROWS][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v)
      sum[r][v] = LoadSums(c + r * c_row + v * kLanes, columns - v * kLanes, accumulate);
  const auto *values = reinterpret_cast<const int8_t *>(x) + first * PART_ROWS;
  const uint8_t *scales = x + kRowGroup * PART_ROWS + 4 * first;
  constexpr int64_t kPartBytes = kRowGroup * (PART_ROWS + 4 + 4);
  const uint8_t *next = later.next;
  const int64_t step = later.step, strip_bytes = later.strip_bytes;
  for (int64_t part = 0; part < parts; ++part, values += kPartBytes, scales += kPartBytes, next += step) {
#pragma GCC unroll 4
    for (int line = 0; line < kLaterBytes; line += 64)
#pragma GCC unroll 2
      for (int strip = 0; strip < kTileStrips; ++strip) hwy::Prefetch(next + strip * strip_bytes + line);
    const auto number = [&](int r) HWY_ATTR { return scales + 4 * kRowGroup + 4 * r; };
    Whole whole[ROWS][kTileVectors];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) whole[r][v] = MINIMUM ? hn::Zero(d32) : hn::Set(d32, WholeAt(number(r)));
#pragma GCC unroll 2
    for (int plane = 0; plane < PLANES; ++plane) {
#pragma GCC unroll 4
      for (int first_quad = 0; first_quad < PART_ROWS / 4; first_quad += HELD) {
        Held held[ROWS][kTileVectors];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) held[r][v] = Begin(whole[r][v]);
#pragma GCC unroll 8
        for (int quad = first_quad; quad < first_quad + HELD; ++quad) {
          const uint8_t *const from = tile.quads[part * (PART_ROWS / 4) + quad][plane];
          hn::Vec<Bytes> q[kTileVectors];
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) q[v] = hn::Load(bytes, from + v * kByteLanes);
#pragma GCC unroll 8
          for (int r = 0; r < ROWS; ++r) {
            const auto row = RowOf<WIDE>(values + r * PART_ROWS + 4 * quad);
#pragma GCC unroll 8
            for (int v = 0; v < kTileVectors; ++v) held[r][v] = Step<WIDE>(held[r][v], q[v], row);
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) whole[r][v] = End(whole[r][v], held[r][v], plane);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) {
      const V scale = hn::Load(d, tile.scales[part] + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) sum[r][v] = AddPart(whole[r][v], scale, FloatAt(scales + 4 * r), sum[r][v]);
      if constexpr (MINIMUM) {
        const V minimum = hn::Load(d, tile.minimums[part] + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) sum[r][v] = hn::MulAdd(minimum, hn::Set(d, FloatAt(number(r))), sum[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) StoreSums(sum[r][v], columns - v * kLanes, c + r * c_row + v * kLanes);
}

// So many rows' sums stay in registers.
constexpr int kMostRows = HWY_MAX_BYTES >= 64 ? kRowGroup : kRowGroup / 2;

// Rows [first, rows) of a group.
template <int PART_ROWS, bool MINIMUM, bool WIDE, int PLANES, int HELD, int ROWS = kMostRows>
HWY_INLINE void TileRows(const DeepTile<PLANES> &tile, const uint8_t *x, int first, int rows, int64_t parts, float *c,
                         int64_t c_row, int columns, bool accumulate, Later &later) {
  for (; rows - first >= ROWS; first += ROWS) {
    TileProduct<PART_ROWS, MINIMUM, WIDE, PLANES, HELD, ROWS>(tile, x, first, parts, c + first * c_row, c_row, columns,
                                                              accumulate, later);
    later.Go(parts);
  }
  if constexpr (ROWS > 1) {
    if (first < rows)
      TileRows<PART_ROWS, MINIMUM, WIDE, PLANES, HELD, ROWS / 2>(tile, x, first, rows, parts, c, c_row, columns,
                                                                 accumulate, later);
  }
}

// One row, which waits for the weights alone: they go from memory to sums without a stop. The rows that follow it find
// the strip in the cache.
template <BlockType TYPE>
HWY_INLINE void RowProduct(const uint8_t *x, const uint8_t *unit, int64_t units, float *c, int columns,
                           bool accumulate) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  using Way = Ways<TYPE>;
  constexpr int kPerBlock = kSpec.parts(), kQuads = 8 / kPerBlock, kBlocks = kSpec.unit() / kBlock;
  constexpr int64_t kPartBytes = row_part_bytes(kSpec, 1);
  constexpr int64_t kAhead = 4096;  // bytes: what memory gives while it answers one load
  const D d;
  const hn::Rebind<int32_t, D> d32;
  UnitTile tile;
  V sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = LoadSums(c + v * kLanes, columns - v * kLanes, accumulate);
  for (int64_t i = 0; i < units; ++i, unit += kSpec.unit_bytes(), x += kSpec.scales() * kPartBytes) {
    for (int line = 0; line < kSpec.head_bytes(); line += 64) hwy::Prefetch(unit + kAhead + line);
    UnpackScales<TYPE>(unit, tile, 0);
    for (int block = 0; block < kBlocks; ++block) {
      const uint8_t *const from = unit + kSpec.head_bytes() + block * kSpec.block_bytes();
      for (int line = 0; line < kSpec.block_bytes(); line += 64) hwy::Prefetch(from + kAhead + line);
      for (int v = 0; v < kVectors; ++v) {
        hn::Vec<Bytes> q[8];
        Quads<TYPE>(from, v, q);
#pragma GCC unroll 2
        for (int part = 0; part < kPerBlock; ++part) {
          const int at = block * kPerBlock + part;
          const uint8_t *const values = x + at * kPartBytes, *const scale = values + kSpec.rows;
          Whole whole = kSpec.minimum ? hn::Zero(d32) : hn::Set(d32, WholeAt(scale + 4));
#pragma GCC unroll 2
          for (int plane = 0; plane < Way::kPlanes; ++plane) {
#pragma GCC unroll 4
            for (int first_quad = 0; first_quad < kQuads; first_quad += Way::kHeld) {
              Held held = Begin(whole);
#pragma GCC unroll 8
              for (int quad = first_quad; quad < first_quad + Way::kHeld; ++quad)
                held = Step<Way::kWide>(held, Plane<Way::kPlanes>(q[part * kQuads + quad], plane),
                                        RowOf<Way::kWide>(reinterpret_cast<const int8_t *>(values) + 4 * quad));
              whole = End(whole, held, plane);
            }
          }
          sum[v] = AddPart(whole, hn::Load(d, tile.scales[at] + v * kLanes), FloatAt(scale), sum[v]);
          if constexpr (kSpec.minimum)
            sum[v] = hn::MulAdd(hn::Load(d, tile.minimums[at] + v * kLanes), hn::Set(d, FloatAt(scale + 4)), sum[v]);
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
  using Way = Ways<TYPE>;
  constexpr int64_t kMostUnits = deep_units(Way::kPlanes) * kLargestUnit / kSpec.unit();
  constexpr int kBlocks = kSpec.unit() / kBlock;
  const int64_t units = (k + kSpec.unit() - 1) / kSpec.unit(),
                unit_bytes = kSpec.scales() * row_part_bytes(kSpec, x.group), group_bytes = units * unit_bytes;
  const auto strip_at = [&](int64_t j) { return strips + j / kStrip * units * kSpec.unit_bytes(); };
  const auto inside = [&](int64_t j, int most) { return static_cast<int>(end - j < most ? end - j : most); };
  if (x.group == 1) {
    for (int64_t j = begin; j < end; j += kStrip)
      for (int64_t r = 0; r < rows; ++r)
        RowProduct<TYPE>(x.data + r * group_bytes, strip_at(j), units, c + r * c_row + j, inside(j, kStrip),
                         accumulate);
    return;
  }
  const int64_t passes = (units + kMostUnits - 1) / kMostUnits;
  DeepTile<Way::kPlanes> tile;
  for (int64_t pass = 0; pass < passes; ++pass) {  // what is read of X again and again stays in the cache
    const int64_t first = units * pass / passes, count = units * (pass + 1) / passes - first;
    for (int64_t j = begin; j < end; j += kTileColumns) {
      for (int strip = 0; strip < kTileStrips; ++strip) {
        // Where the last strip has no neighbour, it is its own.
        const int64_t column = j + strip * kStrip < end ? j + strip * kStrip : j;
        const uint8_t *unit = strip_at(column) + first * kSpec.unit_bytes();
        for (int64_t i = 0; i < count; ++i, unit += kSpec.unit_bytes())
          UnpackUnit<TYPE>(unit, tile, static_cast<int>(i) * kBlocks, strip * kVectors);
      }
      const uint8_t *const next = strip_at(j + kTileColumns) + first * kSpec.unit_bytes();
      Later later{next, next + count * kSpec.unit_bytes(), units * kSpec.unit_bytes(), kLaterBytes};
      const uint8_t *group = x.data + first * unit_bytes;
      for (int64_t r = 0; r < rows; r += kRowGroup, group += group_bytes)
        TileRows<kSpec.rows, kSpec.minimum, Way::kWide, Way::kPlanes, Way::kHeld>(
            tile, group, 0, static_cast<int>(rows - r < kRowGroup ? rows - r : kRowGroup), count * kSpec.scales(),
            c + r * c_row + j, c_row, inside(j, kTileColumns), accumulate || pass > 0, later);
    }
  }
}
