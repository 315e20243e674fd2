// The backward pass of one (stream, KV head).
#pragma once

#include "train/stream_supervision.h"

namespace infini {

class StreamBackward : public StreamSupervision {
 public:
  using StreamSupervision::StreamSupervision;

  // Before backward(): `da`, d loss / d A, is what it reads, `dbeta` what it adds to. Gradients of keys, values and
  // memory become 0.
  void begin(const float *da, int64_t da_stride, double *dbeta) {
    da_ = da;
    da_stride_ = da_stride;
    dbeta_ = dbeta;
    clear_gradients();
  }
  // Segment s of the stream, after those behind it.
  void backward(int64_t s) {
    start(s);
    announce(s - 1);
    if (remembers_ && !is_last(s)) fold_backward();
    load_window(true);
    clear_rows(dwindow_keys_, window_count_, keys_);
    clear_rows(dwindow_values_, window_count_, values_);
    if (reads()) transpose(memory(s).matrix(), keys_, values_, transposed_memory_);
    each_tile([&](int64_t token, int64_t tokens) {
      load_queries(token, tokens);
      load_output_gradient(token, tokens);
      local_backward(token, tokens);
      if (reads()) retrieve_backward(token, tokens);
    });
    store_window_gradient();
  }

 private:
  // Gradients of queries are written by local_backward(), all others are sums.
  void clear_gradients() {
    for (int64_t row = stream_.first; row < stream_.first + stream_.tokens; ++row) {
      std::memset(dkey(row), 0, static_cast<size_t>(keys_) * sizeof(float));
      std::memset(dvalue(row), 0, static_cast<size_t>(values_) * sizeof(float));
    }
    std::fill_n(dmemory().data, dmemory().size(), 0.0f);
  }

  // dlocal_ = (1 - gate) dA.
  void load_output_gradient(int64_t token, int64_t tokens) {
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *da = da_ + row * da_stride_ + head(g) * values_;
      each_panel(values_, [&](int64_t p, int64_t n) {
        mix(da + p * kPanel, 1 - gate(g), da + p * kPanel, 0, n, dlocal_.panel(p) + r * kPanel);
      });
      prefetch(da, da_stride_, values_);
    });
  }

  void local_backward(int64_t token, int64_t tokens) {
    const int64_t rows = tokens * group_, last = seen(token, rows - 1), count = round_up(last, 16);
    product_to_rows(queries_, rows, keys_, transposed_keys_, count, scores_, count, false);
    product_to_rows(dlocal_, rows, values_, transposed_values_, count, dscores_, count, false);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *a_dot = layer_.trace.a_dot.data() + trace_at(row, g),
                  *da = da_ + row * da_stride_ + head(g) * values_;
      const float along = dot(da, a_dot, values_), weight = gate(g);
      prefetch(a_dot, shape_.heads * values_, values_);
      dbeta_[head(g)] -= static_cast<double>(along) * weight * (1 - weight);  // what A_mem gives is added with it
      const int64_t from = unseen(token, r), to = seen(token, r);
      float *const scores = scores_ + r * count, *const dscores = dscores_ + r * count;
      const float cap = layer_.rules.soft_cap;
      if (cap > 0) soft_cap(scores, to, cap), std::copy_n(scores, to, capped_);
      std::fill_n(scores, from, 0.0f);
      std::fill_n(dscores, from, 0.0f);
      softmax_gradient(scores + from, layer_.trace.log_sum[row * shape_.heads + head(g)], (1 - weight) * along,
                       to - from, count - from, dscores + from);
      if (layer_.supervision) supervise_locally(row, head(g), scores, from, to, dscores);
      if (cap > 0) soft_cap_gradient(capped_, to, cap, dscores);
    });
    product(scores_, 1, count, last, rows, dlocal_, values_, dwindow_values_, true);
    product(dscores_, 1, count, last, rows, queries_, keys_, dwindow_keys_, true);
    product(dscores_, count, 1, rows, last, window_keys_, keys_, dqueries_, false);
    const float scale = layer_.rules.score_scale();
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const int64_t at = own_ + row - segment_.first;
      layer_.rope.rotate_gradient(as_row(dqueries_, r), keys_, at, scale, dquery(row, g));
      prefetch(dquery(row, g), layer_.qkv.stride, keys_);
    });
  }

  void retrieve_backward(int64_t token, int64_t tokens) {
    const int64_t rows = tokens * group_;
    retrieve(tokens);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *da = da_ + row * da_stride_ + head(g) * values_;
      const float weight = gate(g), scale = weight / denominator_[r];
      float along = 0;  // dA . A_mem
      each_panel(values_, [&](int64_t p, int64_t n) {
        along += dot(da + p * kPanel, a_mem_.row(p, r), n) / denominator_[r];
        mix(da + p * kPanel, scale, da + p * kPanel, 0, n, dretrieved_.row(p, r));
      });
      dbeta_[head(g)] += static_cast<double>(along) * weight * (1 - weight);
      ddenominator_[r] = -scale * along;
    });
    clear_rows(dsigma_, rows, keys_);
    kind_.read_gradient(memory(index_), transposed_memory_, sigma_, rows, dretrieved_, ddenominator_, dsigma_,
                        dmemory());
    if (supervises_) supervise(token, tokens);
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) { add_sigma_gradient(r, dquery(row, g)); });
  }

  void store_window_gradient() {
    for (int64_t i = 0; i < window_count_; ++i) {
      const int64_t row = row_at(i);
      layer_.rope.rotate_gradient(as_row(dwindow_keys_, i), keys_, i, 1, rotated_);
      add_scaled(rotated_, 1, keys_, dkey(row));
      add_row(dwindow_values_, i, 1, values_, dvalue(row));
      if (i < own_) continue;
      prefetch(dkey(row), layer_.qkv.stride, keys_);
      prefetch(dvalue(row), layer_.qkv.stride, values_);
    }
  }

  const float *da_ = nullptr;
  int64_t da_stride_ = 0;
  double *dbeta_ = nullptr;
};

}  // namespace infini
