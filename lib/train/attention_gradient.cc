#include "train/attention_gradient.h"

#include <span>

#include "train/stream_attention.h"

namespace infini {

void RopeTable::prepare(const AttentionRules &rules) {
  const Rope &rope = rules.rope;
  const int64_t indices = window_rows(rules.shape), half = rope.dimensions / 2,
                stride = rope.adjacent ? 2 * half : half;
  const bool same = rope.adjacent == rope_.adjacent && rope.dimensions == rope_.dimensions &&
                    rope.frequency == rope_.frequency && rope.magnitude == rope_.magnitude;
  if (same && cosine_.size() >= indices * stride) return;
  rope_ = rope;
  stride_ = stride;
  for (Buffer<float> *table : {&cosine_, &sine_, &minus_}) *table = Buffer<float>(indices * stride);
  std::vector<float> cosine(static_cast<size_t>(half)), sine(cosine.size());
  for (int64_t i = 0; i < indices; ++i) {
    rope.angles(i, cosine.data(), sine.data());
    for (int64_t j = 0; j < stride; ++j) {
      const size_t pair = static_cast<size_t>(rope.adjacent ? j / 2 : j);
      const float sign = rope.adjacent && j % 2 == 0 ? -1.0f : 1.0f;
      cosine_[i * stride + j] = cosine[pair];
      sine_[i * stride + j] = sign * sine[pair];
      minus_[i * stride + j] = -sign * sine[pair];
    }
  }
}

void RopeTable::turn(const float *x, int64_t size, int64_t index, float scale, float *y,
                     const Buffer<float> &sine) const {
  const float *c = cosine_.data() + index * stride_, *s = sine.data() + index * stride_;
  if (rope_.adjacent) rotate_pairs(x, c, s, rope_.dimensions, scale, y);
  else rotate(x, c, s, rope_.dimensions, false, scale, y);
  for (int64_t i = rope_.dimensions; i < size; ++i) y[i] = x[i] * scale;
}

void AttentionTrace::reserve(const AttentionRules &rules, const Layout &layout) {
  const AttentionShape &shape = rules.shape;
  a_dot.reserve(layout.rows() * shape.heads * shape.value_size);
  log_sum.reserve(layout.rows() * shape.heads);
  memory.reserve(static_cast<int64_t>(layout.segments.size()) * shape.kv_heads * memory_size(shape));
}

namespace {

constexpr float kLeastShare = 1e-30f;  // of sigma(q) z, whose logarithm is taken

// The same stream on its way back. Gradients of what has a name begin with d.
class StreamGradient : public StreamAttention {
 public:
  StreamGradient(const AttentionPass &pass, int64_t item, float *dqkv) : StreamAttention(pass, item), dqkv_(dqkv) {}

  // What `backward` reads and adds to; dqkv becomes that of no loss.
  void begin(const float *da, int64_t da_stride, double *dbeta) {
    da_ = da;
    da_stride_ = da_stride;
    dbeta_ = dbeta;
    clear_gradients();
  }
  // Segment s of the stream; those behind it have been.
  void backward(int64_t s) {
    start(s);
    announce(s - 1);
    if (remembers_ && s + 1 < stream_.first_segment + stream_.segments) fold_backward();
    load_window(true);
    clear_rows(dwindow_keys_, window_count_, keys_);
    clear_rows(dwindow_values_, window_count_, values_);
    if (reads()) transpose({memory(s), keys_}, keys_, values_, turned_memory_);
    each_tile([&](int64_t token, int64_t tokens) {
      load_queries(token, tokens);
      load_output_gradient(token, tokens);
      local_backward(token, tokens);
      if (reads()) retrieve_backward(token, tokens);
    });
    store_window_gradient();
  }
  Supervision supervision() const { return {supervised_, locally_supervised_}; }

  // Supervised retrievals alone, forward and backward. Their shares need z, not M: values are not read, nor queries of other
  // rows than `told`, whose gradients alone are written.
  Supervised supervise_alone(std::span<const int64_t> told) {
    for (int64_t row = stream_.first; row < stream_.first + stream_.tokens; ++row) std::fill_n(dkey(row), keys_, 0.0f);
    for (const int64_t row : within(told, stream_.first, stream_.tokens))
      for (int64_t g = 0; g < group_; ++g) std::fill_n(dquery(row, g), keys_, 0.0f);
    std::fill_n(normaliser(dmemory_.data), keys_, 0.0f);
    if (!remembers_) return {};
    const int64_t end = stream_.first_segment + stream_.segments;
    for (int64_t s = stream_.first_segment; s + 1 < end; ++s) {
      start(s);
      fold_features();
    }
    for (int64_t s = end - 1; s >= stream_.first_segment; --s) {
      start(s);
      if (s + 1 < end) fold_features_backward();
      if (reads())
        each_tile([&](int64_t token, int64_t tokens) {
          supervise_tile(token, tokens, within(told, segment_.first + token, tokens));
        });
    }
    return supervised_;
  }

 private:
  float *dkey(int64_t row) const { return dqkv_ + row * pass_.qkv.stride + key_column(); }
  float *dvalue(int64_t row) const { return dqkv_ + row * pass_.qkv.stride + value_column(); }
  float *dquery(int64_t row, int64_t g) const { return dqkv_ + row * pass_.qkv.stride + head(g) * keys_; }

  // Gradients of the keys and values that went into the memory, and of the memory before the segment.
  void fold_backward() {
    struct Piece {
      int64_t row, count;
      bool delta;
    };
    std::vector<Piece> pieces;  // one, unless an early closed segment was short
    each_piece([&](int64_t row, int64_t count, bool delta) { pieces.push_back({row, count, delta}); });
    while (!pieces.empty()) {
      const Piece last = pieces.back();
      pieces.pop_back();
      float *M = memory(index_);
      if (last.delta && !pieces.empty()) {  // the memory as it was before this piece
        M = piece_memory_;
        if (segment_.held == 0)
          std::memset(M, 0, static_cast<size_t>(AttentionTrace::memory_size(shape_)) * sizeof(float));
        else std::memcpy(M, memory(index_), static_cast<size_t>(AttentionTrace::memory_size(shape_)) * sizeof(float));
        for (const Piece &p : pieces) fold_piece(M, p.row, p.count, p.delta);
      }
      piece_backward(M, last.row, last.count, last.delta);
    }
  }

  void piece_backward(float *M, int64_t row, int64_t count, bool delta) {
    transpose(dmemory_, keys_, values_, turned_gradient_);
    if (delta) transpose({M, keys_}, keys_, values_, turned_memory_);
    float *dz = normaliser(dmemory_.data);
    if (delta) {  // what is added to dM and dz must not be read by the piece's other rows
      std::memset(sums_, 0, static_cast<size_t>(AttentionTrace::memory_size(shape_)) * sizeof(float));
    }
    for (int64_t done = 0; done < count; done += kFoldRows) {
      const int64_t some = std::min(kFoldRows, count - done);
      load_fold(row + done, some);
      if (delta) subtract_known(M, some);
      product(fold_values_, some, values_, turned_gradient_, keys_, dsigma_, false);
      product(sigma_, some, keys_, dmemory_, values_, fold_gradient_, false);
      for (int64_t t = 0; t < some; ++t) {
        const int64_t at = row + done + t;
        add_row(fold_gradient_, t, segment_.fold, values_, dvalue(at));
        each_panel(keys_, [&](int64_t p, int64_t n) {
          float *d = dsigma_.panel(p) + t * kPanel;
          mix(d, segment_.fold, dz + p * kPanel, segment_.fold, n, d);
        });
        if (!delta) add_sigma_gradient(t, dkey(at));
      }
      if (delta) known_backward(M, row + done, some);
    }
    if (delta) add_scaled(sums_, 1, AttentionTrace::memory_size(shape_), dmemory_.data);
  }

  // The part of (9) that is taken off: like a retrieval, by the keys.
  void known_backward(float *M, int64_t row, int64_t count) {
    float *dz = normaliser(sums_);
    const float *z = normaliser(M);
    for (int64_t t = 0; t < count; ++t) {
      float along = 0;
      each_panel(values_, [&](int64_t p, int64_t n) {
        float *d = fold_gradient_.panel(p) + t * kPanel;
        const float scale = -segment_.fold / denominator_[t];
        mix(d, scale, d, 0, n, d);  // of the numerator
        along -= dot(d, fold_known_.panel(p) + t * kPanel, n);
      });
      each_panel(keys_, [&](int64_t p, int64_t n) {
        add_scaled(z + p * kPanel, along, n, dsigma_.panel(p) + t * kPanel);
        add_scaled(sigma_.panel(p) + t * kPanel, along, n, dz + p * kPanel);
      });
    }
    product(fold_gradient_, count, values_, turned_memory_, keys_, dsigma_, true);
    product_transposed(sigma_, count, keys_, fold_gradient_, values_, {sums_, keys_}, true);
    for (int64_t t = 0; t < count; ++t) add_sigma_gradient(t, dkey(row + t));
  }

  // (8) and (9) without M: z of the next segment, and on the way back what it gives the keys.
  void fold_features() {
    float *z = normaliser(memory(index_ + 1));
    if (segment_.held == 0) std::fill_n(z, keys_, 0.0f);
    else std::copy_n(normaliser(memory(index_)), keys_, z);
    std::fill_n(sums_, keys_, 0.0f);
    for (int64_t row = segment_.first; row < segment_.first + segment_.tokens; ++row) {
      elu_plus_one(key(row), keys_, row_);
      add_scaled(row_, 1, keys_, sums_);
    }
    add_scaled(sums_, segment_.fold, keys_, z);
  }
  void fold_features_backward() {
    const float *dz = normaliser(dmemory_.data);
    mix(dz, segment_.fold, dz, 0, keys_, turned_);
    for (int64_t row = segment_.first; row < segment_.first + segment_.tokens; ++row) {
      elu_plus_one(key(row), keys_, row_);
      add_elu_gradient(row_, turned_, keys_, dkey(row));
    }
  }

  // Through sigma: adds row t of dsigma_ to the gradient of a query or key.
  void add_sigma_gradient(int64_t t, float *to) {
    each_panel(keys_, [&](int64_t p, int64_t n) {
      add_elu_gradient(sigma_.panel(p) + t * kPanel, dsigma_.panel(p) + t * kPanel, n, to + p * kPanel);
    });
  }

  // Queries' are written by the local attention; all others are added up.
  void clear_gradients() {
    for (int64_t row = stream_.first; row < stream_.first + stream_.tokens; ++row) {
      std::memset(dkey(row), 0, static_cast<size_t>(keys_) * sizeof(float));
      std::memset(dvalue(row), 0, static_cast<size_t>(values_) * sizeof(float));
    }
    std::memset(dmemory_.data, 0, static_cast<size_t>(AttentionTrace::memory_size(shape_)) * sizeof(float));
  }

  // dlocal_ = (1 - gate) dA.
  void load_output_gradient(int64_t token, int64_t tokens) {
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *da = da_ + row * da_stride_ + head(g) * values_;
      each_panel(values_, [&](int64_t p, int64_t n) {
        mix(da + p * kPanel, 1 - gate(g), da + p * kPanel, 0, n, dlocal_.panel(p) + r * kPanel);
      });
      ask(da, da_stride_, values_);
    });
  }

  void local_backward(int64_t token, int64_t tokens) {
    const int64_t rows = tokens * group_, last = seen(token, rows - 1), count = round_up(last, 16);
    product_to_rows(queries_, rows, keys_, turned_keys_, count, scores_, count, false);
    product_to_rows(dlocal_, rows, values_, turned_values_, count, dscores_, count, false);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *a_dot = pass_.trace.a_dot.data() + trace_at(row, g),
                  *da = da_ + row * da_stride_ + head(g) * values_;
      const float along = dot(da, a_dot, values_), weight = gate(g);
      ask(a_dot, shape_.heads * values_, values_);
      dbeta_[head(g)] -= static_cast<double>(along) * weight * (1 - weight);  // what A_mem gives is added with it
      softmax_gradient(scores_ + r * count, pass_.trace.log_sum[row * shape_.heads + head(g)], (1 - weight) * along,
                       seen(token, r), count, dscores_ + r * count);
      if (pass_.targets.local)
        supervise_locally(row, head(g), scores_ + r * count, seen(token, r), dscores_ + r * count);
    });
    product(scores_, 1, count, last, rows, dlocal_, values_, dwindow_values_, true);
    product(dscores_, 1, count, last, rows, queries_, keys_, dwindow_keys_, true);
    product(dscores_, count, 1, rows, last, window_keys_, keys_, dqueries_, false);
    const float scale = 1 / std::sqrt(static_cast<float>(keys_));
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const int64_t at = own_ + row - segment_.first;
      pass_.rope.turn_gradient(as_row(dqueries_, r), keys_, at, scale, dquery(row, g));
      ask(dquery(row, g), pass_.qkv.stride, keys_);
    });
  }

  // Supervision of local attention: the loss gains -weight * log(p of the row that is looked for), where it is in view.
  void supervise_locally(int64_t row, int h, const float *p, int64_t seen, float *dscores) {
    const float weight = pass_.targets.local[h];
    const int64_t subject = pass_.layout.subject[static_cast<size_t>(row)];
    const int64_t at = own_ + subject - segment_.first;
    if (weight == 0 || subject < 0 || at < view_.sinks) return;
    add_scaled(p, weight, seen, dscores);
    dscores[at] -= weight;
    const double share = std::max(static_cast<double>(p[at]), 1e-30);  // which a score far below others rounds to 0
    locally_supervised_.add({-static_cast<double>(weight) * std::log(share), share, 1});
  }

  void retrieve_backward(int64_t token, int64_t tokens) {
    const int64_t rows = tokens * group_;
    float *M = memory(index_), *dz = normaliser(dmemory_.data);
    const float *z = normaliser(M);
    retrieve(tokens);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *da = da_ + row * da_stride_ + head(g) * values_;
      const float weight = gate(g), scale = weight / denominator_[r];
      float along = 0;  // dA . A_mem
      each_panel(values_, [&](int64_t p, int64_t n) {
        along += dot(da + p * kPanel, a_mem_.panel(p) + r * kPanel, n) / denominator_[r];
        mix(da + p * kPanel, scale, da + p * kPanel, 0, n, dretrieved_.panel(p) + r * kPanel);
      });
      dbeta_[head(g)] += static_cast<double>(along) * weight * (1 - weight);
      const float ddenominator = -scale * along;
      each_panel(keys_, [&](int64_t p, int64_t n) {
        mix(z + p * kPanel, ddenominator, z + p * kPanel, 0, n, dsigma_.panel(p) + r * kPanel);
        add_scaled(sigma_.panel(p) + r * kPanel, ddenominator, n, dz + p * kPanel);
      });
    });
    product(dretrieved_, rows, values_, turned_memory_, keys_, dsigma_, true);
    product_transposed(sigma_, rows, keys_, dretrieved_, values_, dmemory_, true);
    if (pass_.targets.retrieval) supervise(token, tokens, z, dz);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) { add_sigma_gradient(r, dquery(row, g)); });
  }

  void supervise_tile(int64_t token, int64_t tokens, std::span<const int64_t> told) {
    if (told.empty()) return;
    const float *z = normaliser(memory(index_));
    const auto each_told = [&](const auto &f) {
      for (const int64_t row : told)
        for (int64_t g = 0; g < group_; ++g) f((row - segment_.first - token) * group_ + g, row, g);
    };
    each_told([&](int64_t r, int64_t row, int64_t g) {
      into_row(sigma_, r, [&](float *to) { elu_plus_one(query(row, g), keys_, to); });
      denominator_[r] = dot_row(sigma_, r, z, keys_) + pass_.rules.epsilon;
      each_panel(keys_, [&](int64_t p, int64_t n) { std::fill_n(dsigma_.panel(p) + r * kPanel, n, 0.0f); });
    });
    supervise(token, tokens, z, normaliser(dmemory_.data));
    each_told([&](int64_t r, int64_t row, int64_t g) { add_sigma_gradient(r, dquery(row, g)); });
  }

  std::vector<Retrieval>::const_iterator first_retrieval(int64_t row) const {
    const std::vector<Retrieval> &all = pass_.layout.retrievals;
    return std::lower_bound(all.begin(), all.end(), row, [](const Retrieval &r, int64_t at) { return r.row < at; });
  }

  // Those of `rows`, which ascend, from `first` on.
  static std::span<const int64_t> within(std::span<const int64_t> rows, int64_t first, int64_t count) {
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first);
    return {begin, std::lower_bound(begin, rows.end(), first + count)};
  }
  std::span<const int64_t> quiet_rows(int64_t first, int64_t tokens) const {
    if (!pass_.targets.silence) return {};
    return within(pass_.layout.quiet, first, tokens);
  }
  int32_t place_of(int h) const { return pass_.targets.places ? pass_.targets.places[h] : -1; }

  // The loss gains weight * log(1 + sigma(q) z / epsilon), for row r of the tile: beside epsilon the head finds nothing.
  void silence(int64_t r, int h, const float *z, float *dz) {
    const float weight = pass_.targets.silence ? pass_.targets.silence[h] : 0, total = denominator_[r];
    if (weight == 0 || pass_.rules.epsilon == 0) return;
    supervised_.loss += static_cast<double>(weight) * std::log(static_cast<double>(total) / pass_.rules.epsilon);
    each_panel(keys_, [&](int64_t p, int64_t n) {
      add_scaled(z + p * kPanel, weight / total, n, dsigma_.panel(p) + r * kPanel);
      add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
    });
  }

  // Attention supervision: the loss gains -weight * log(share of the sources in sigma(q) z + epsilon). The share has no
  // epsilon of its own: features that vanish would have all of nothing.
  void supervise(int64_t token, int64_t tokens, const float *z, float *dz) {
    const std::vector<Retrieval> &all = pass_.layout.retrievals;
    const int64_t first = segment_.first + token;
    auto next = first_retrieval(first);
    std::vector<float> there(static_cast<size_t>(keys_)), sigma(there.size());
    for (; next != all.end() && next->row < first + tokens; ++next) {
      // What the sources added to z.
      const auto each_source = [&](const auto &f) {
        for (int64_t i = 0; i < next->sources; ++i) {
          const int64_t row = pass_.layout.source_rows[static_cast<size_t>(next->first_source + i)];
          elu_plus_one(key(row), keys_, sigma.data());
          f(row, factor_of(row));
        }
      };
      std::fill(there.begin(), there.end(), 0.0f);
      each_source([&](int64_t, float factor) { add_scaled(sigma.data(), factor, keys_, there.data()); });
      for (int64_t g = 0; g < group_; ++g) {
        const float weight = pass_.targets.retrieval[head(g)] * next->weight;
        if (weight == 0) continue;
        const int64_t r = (next->row - first) * group_ + g;
        if (const int32_t place = place_of(head(g)); place >= 0 && place != next->place) {
          silence(r, head(g), z, dz);
          continue;
        }
        const float share = std::max(dot_row(sigma_, r, there.data(), keys_), kLeastShare), total = denominator_[r];
        supervised_.add({-static_cast<double>(weight) * std::log(static_cast<double>(share) / total),
                         static_cast<double>(share) / total, 1});
        each_panel(keys_, [&](int64_t p, int64_t n) {
          float *dsigma = dsigma_.panel(p) + r * kPanel;
          add_scaled(z + p * kPanel, weight / total, n, dsigma);
          add_scaled(there.data() + p * kPanel, -weight / share, n, dsigma);
          add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
        });
        std::fill_n(row_, keys_, 0.0f);
        add_row(sigma_, r, -weight / share, keys_, row_);
        each_source([&](int64_t row, float factor) {
          for (int64_t i = 0; i < keys_; ++i)
            dkey(row)[i] += factor * row_[i] * std::min(sigma[static_cast<size_t>(i)], 1.0f);
        });
      }
    }
    for (const int64_t row : quiet_rows(first, tokens))
      for (int64_t g = 0; g < group_; ++g)
        if (place_of(head(g)) >= 0 && pass_.targets.retrieval[head(g)] != 0)
          silence((row - first) * group_ + g, head(g), z, dz);
  }
  float factor_of(int64_t row) const {
    const auto begin = pass_.layout.segments.begin() + stream_.first_segment;
    const auto after = std::upper_bound(begin, begin + stream_.segments, row,
                                        [](int64_t at, const SegmentSpan &s) { return at < s.first; });
    return (after - 1)->fold;
  }

  void store_window_gradient() {
    for (int64_t i = 0; i < window_count_; ++i) {
      const int64_t row = row_at(i);
      pass_.rope.turn_gradient(as_row(dwindow_keys_, i), keys_, i, 1, turned_);
      add_scaled(turned_, 1, keys_, dkey(row));
      add_row(dwindow_values_, i, 1, values_, dvalue(row));
      if (i < own_) continue;
      ask(dkey(row), pass_.qkv.stride, keys_);
      ask(dvalue(row), pass_.qkv.stride, values_);
    }
  }

  float *const dqkv_;
  const float *da_ = nullptr;
  int64_t da_stride_ = 0;
  double *dbeta_ = nullptr;
  Supervised supervised_, locally_supervised_;
};

template <class Part>
Part sum_of(const std::vector<Part> &parts) {
  Part sum;
  for (const Part &part : parts) sum.add(part);
  return sum;
}

}  // namespace

void Supervised::add(const Supervised &other) {
  loss += other.loss;
  share += other.share;
  count += other.count;
}

void Supervision::add(const Supervision &other) {
  retrieval.add(other.retrieval);
  local.add(other.local);
}

void TraceScratch::reserve(const AttentionRules &rules, int threads) {
  per_thread_ = 0;
  StreamTiles().arrange(rules.shape, [&](int64_t floats) {
    per_thread_ += round_up(floats, 16);
    return static_cast<float *>(nullptr);
  });
  numbers_.reserve(threads * per_thread_);
}

namespace {

int64_t operations(const AttentionPass &pass) {
  const AttentionShape &shape = pass.rules.shape;
  return pass.layout.rows() * shape.heads * (shape.key_size + shape.value_size) * (shape.segment + shape.key_size);
}

}  // namespace

// f(first item, items, stream) for shares of all (stream, KV head), each of heads of one stream. A thread takes the heads of
// its share through a segment one by one, then through the next: what they read of a token lies side by side, and the
// second head finds in the cache what the first one fetched.
template <class Function>
void each_share(const AttentionPass &pass, int64_t operations, const Function &f) {
  const int64_t streams = static_cast<int64_t>(pass.layout.streams.size()), heads = pass.rules.shape.kv_heads;
  const int64_t shares = thread_count() == 1 ? 1 : std::min<int64_t>(heads, 3 * thread_count() / streams + 1);
  parallel_items(streams * shares, operations, [&](int64_t item) {
    const int64_t stream = item / shares, first = heads * (item % shares) / shares,
                  end = heads * (item % shares + 1) / shares;
    f(stream * heads + first, end - first, pass.layout.streams[static_cast<size_t>(stream)]);
  });
}

void attend_streams(const AttentionPass &pass, NumberType type, void *out, int64_t out_stride) {
  each_share(pass, operations(pass), [&](int64_t first, int64_t items, const StreamSpan &stream) {
    std::vector<StreamAttention> heads;
    for (int64_t item = first; item < first + items; ++item) heads.emplace_back(pass, item);
    for (int64_t s = stream.first_segment; s < stream.first_segment + stream.segments; ++s)
      for (StreamAttention &head : heads) head.forward(s, type, out, out_stride);
  });
}

Supervision attend_streams_gradient(const AttentionPass &pass, const float *da, int64_t da_stride, float *dqkv,
                                    double *dbeta) {
  const AttentionShape &shape = pass.rules.shape;
  const int64_t items = static_cast<int64_t>(pass.layout.streams.size()) * shape.kv_heads;
  // Each head of a stream has its own sums, which are added in order: the same on any number of threads.
  std::vector<double> gates(static_cast<size_t>(items * shape.heads));
  std::vector<Supervision> supervised(static_cast<size_t>(items));
  each_share(pass, 2 * operations(pass), [&](int64_t first, int64_t count, const StreamSpan &stream) {
    std::vector<StreamGradient> heads;
    for (int64_t item = first; item < first + count; ++item)
      heads.emplace_back(pass, item, dqkv).begin(da, da_stride, gates.data() + item * shape.heads);
    for (int64_t s = stream.first_segment + stream.segments - 1; s >= stream.first_segment; --s)
      for (StreamGradient &head : heads) head.backward(s);
    for (int64_t i = 0; i < count; ++i)
      supervised[static_cast<size_t>(first + i)] = heads[static_cast<size_t>(i)].supervision();
  });
  for (int64_t item = 0; item < items; ++item)
    for (int h = 0; h < shape.heads; ++h) dbeta[h] += gates[static_cast<size_t>(item * shape.heads + h)];
  return sum_of(supervised);
}

Supervised supervise_streams(const AttentionPass &pass, std::span<const int64_t> told, float *dqkv) {
  std::vector<Supervised> supervised(pass.layout.streams.size() * static_cast<size_t>(pass.rules.shape.kv_heads));
  parallel_items(static_cast<int64_t>(supervised.size()), operations(pass), [&](int64_t item) {
    supervised[static_cast<size_t>(item)] = StreamGradient(pass, item, dqkv).supervise_alone(told);
  });
  return sum_of(supervised);
}

}  // namespace infini
