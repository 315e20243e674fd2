// Matrices that a run leaves alone stay at their bits: their products, the gradients of adapters beside them, and the
// memory that such a trainer takes.
#include "support.h"

#include "adapt/recall_trainer.h"
#include "base/random.h"
#include "base/testing.h"
#include "format/quantize.h"
#include "reference_model.h"
#include "train/graph.h"
#include "training.h"

using namespace infini;

namespace {

constexpr TensorType kTypes[] = {TensorType::Q4_K, TensorType::Q4_0, TensorType::F16,   TensorType::Q8_0,
                                 TensorType::Q6_K, TensorType::BF16, TensorType::Q5_1,  TensorType::F32,
                                 TensorType::Q2_K, TensorType::Q4_1, TensorType::IQ4_XS};

GgufTensor tensor_of(TensorType type, int64_t columns, int64_t rows, Random &random, std::vector<std::byte> &bytes) {
  std::vector<float> values(static_cast<size_t>(columns * rows));
  for (float &x : values) x = 0.1f * static_cast<float>(random.normal());
  bytes.resize(static_cast<size_t>(tensor_layout(type)->bytes(columns) * rows));
  quantize(type, values.data(), columns * rows, bytes.data());
  GgufTensor tensor;
  tensor.name = "w", tensor.type = type, tensor.shape = {columns, rows}, tensor.data = bytes;
  return tensor;
}

Options f32() {
  Options options;
  options.set("compute", std::string("f32"));
  return options;
}

// A model whose matrices are of these types in turn, or of blocks of 32 where rows are too short.
std::shared_ptr<const Model> quantised(CreateConfig config, std::initializer_list<TensorType> types) {
  const auto model = Model::create(config, f32());
  Gguf out;
  for (const auto &[key, value] : model->gguf().entries()) out.set(key, value);
  size_t next = 0;
  for (const GgufTensor &tensor : model->gguf().tensors()) {
    std::vector<std::byte> bytes(tensor.data.begin(), tensor.data.end());
    TensorType type = tensor.type;
    if (tensor.shape.size() > 1) {
      type = type_for_rows(types.begin()[next++ % types.size()], tensor.shape[0]);
      bytes.resize(static_cast<size_t>(tensor_layout(type)->bytes(tensor.elements())));
      quantize(type, reinterpret_cast<const float *>(tensor.data.data()), tensor.elements(), bytes.data());
    }
    out.add_tensor(tensor.name, type, tensor.shape, std::move(bytes));
  }
  return Model::build(std::move(out), f32());
}

CreateConfig wide() {
  CreateConfig config;
  config.layers = 2, config.width = 256, config.heads = 4, config.kv_heads = 2, config.head_size = 8;
  config.hidden = 256, config.vocabulary = 40, config.segment = 8, config.tied = true, config.gate = 0.3;
  return config;
}

Sequence random_sequence(Random &random, int tokens, int vocabulary) {
  Sequence s;
  for (int t = 0; t < tokens; ++t) s.tokens.push_back(static_cast<int32_t>(random.uniform() * vocabulary));
  for (int t = 0; t < tokens; ++t) s.weight.push_back(t % 3 == 0 ? 0.0f : 0.1f * static_cast<float>(random.uniform()));
  s.answer.assign(s.tokens.size(), 0);
  return s;
}

bool is_matrix(const TensorSpec &spec) { return spec.role != Role::NORM && spec.role != Role::BIAS; }

}  // namespace

TEST_CASE("products of a frozen matrix are those of its floats, of every type and any number of threads") {
  const EagerThreads eager;
  ThreadPool pool;
  const Gemm gemm(GemmLibrary::NATIVE);
  Random random(1);
  struct Shape {
    int64_t inputs, first, upper, lower;  // rows of the second tensor before the matrix's own
  };
  for (const TensorType type : kTypes)
    for (const Shape &shape : {Shape{256, 0, 64, 0}, {768, 5, 33, 90}, {2048, 0, 2100, 30}, {20, 3, 7, 2}}) {
      if (shape.inputs % tensor_layout(type)->block_elements != 0) continue;
      if (shape.upper > 2000 && type != TensorType::Q4_K && type != TensorType::F16) continue;  // several pieces
      CAPTURE(tensor_type_name(type));
      CAPTURE(shape.inputs);
      std::vector<std::byte> bytes[2];
      const GgufTensor above = tensor_of(type, shape.inputs, shape.upper, random, bytes[0]),
                       below = tensor_of(type, shape.inputs, shape.first + shape.lower + 1, random, bytes[1]);
      std::vector<TensorPart> parts{{&above, 0, shape.upper}};
      if (shape.lower > 0) parts.push_back({&below, shape.first, shape.lower});
      const int64_t outputs = shape.upper + shape.lower, rows = 9;
      std::vector<float> w;
      for (const TensorPart &part : parts)
        for (int64_t row = 0; row < part.rows; ++row) {
          w.resize(w.size() + static_cast<size_t>(shape.inputs));
          unpack_row(part, row, shape.inputs, w.data() + w.size() - shape.inputs);
        }
      std::vector<float> x(static_cast<size_t>(rows * shape.inputs)), dy(static_cast<size_t>(rows * outputs));
      for (std::vector<float> *of : {&x, &dy})
        for (float &value : *of) value = bf16_to_float(float_to_bf16(static_cast<float>(random.normal())));
      std::vector<double> y(dy.size()), dx(x.size());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < outputs; ++j)
          for (int64_t i = 0; i < shape.inputs; ++i) {
            const double weight = w[static_cast<size_t>(j * shape.inputs + i)];
            y[static_cast<size_t>(r * outputs + j)] += x[static_cast<size_t>(r * shape.inputs + i)] * weight;
            dx[static_cast<size_t>(r * shape.inputs + i)] += dy[static_cast<size_t>(r * outputs + j)] * weight;
          }
      const MatrixProducts products(parts, shape.inputs);
      for (const NumberType compute : {NumberType::F32, NumberType::BF16})
        for (const bool backward : {false, true}) {
          const std::vector<float> &from = backward ? dy : x;
          const std::vector<double> &expected = backward ? dx : y;
          const int64_t k = backward ? outputs : shape.inputs, n = backward ? shape.inputs : outputs;
          Buffer<uint16_t> narrow(rows * k);
          for (int64_t i = 0; i < rows * k; ++i) narrow[i] = float_to_bf16(from[static_cast<size_t>(i)]);
          const ConstRows in =
              compute == NumberType::F32 ? ConstRows{compute, from.data(), k} : ConstRows{compute, narrow.data(), k};
          const int64_t stride = round_up(n, kPanel);
          const auto made = [&](int threads) {
            const ThreadScope team(pool, threads);
            Buffer<float> out(rows * stride);
            std::fill_n(out.data(), out.size(), 0.5f);
            if (backward) products.backward(team, gemm, in, rows, out.data(), stride, true);
            else products.forward(team, gemm, in, rows, out.data(), stride, true);
            return out;
          };
          const Buffer<float> one = made(1), three = made(3);
          double worst = 0;
          bool same = true;
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < n; ++j) {
              same = same && one[r * stride + j] == three[r * stride + j];
              worst =
                  test::larger(worst, std::abs(one[r * stride + j] - 0.5 - expected[static_cast<size_t>(r * n + j)]));
            }
          CHECK(same);
          CHECK(worst < (compute == NumberType::F32 ? 1e-6 : 2e-3) * std::sqrt(static_cast<double>(k)));
        }
    }
  CHECK(eager.items_of_others() > 0);
}

TEST_CASE(
    "beside frozen blocks, gradients of adapters and gates are slopes of the loss in f64 of the unpacked floats") {
  const EagerThreads eager;
  ThreadPool pool;
  Random random(2);
  const auto model =
      quantised(wide(), {TensorType::Q8_0, TensorType::Q4_K, TensorType::Q4_0, TensorType::BF16, TensorType::Q6_K});
  const Sequence sequence = random_sequence(random, 20, wide().vocabulary);
  BatchLayout layout;
  layout.add(sequence, 8, wide().vocabulary);
  const Parameters masters(Threads(), *model), frozen(Threads(), *model, is_matrix);
  CHECK(frozen.size() < masters.size() / 100);
  std::vector<size_t> targets;
  for (size_t i = 0; i < frozen.list().size(); ++i)
    if (const std::string &name = frozen[i].projection; !name.empty() && name != "k") targets.push_back(i);
  REQUIRE(targets.size() == 12);
  const LoraConfig config{3, 4.5, {}};
  Lora lora(frozen, targets, config, NumberType::F32, 1);
  for (int64_t i = 0; i < lora.size(); ++i) lora.values()[i] = 0.1f * static_cast<float>(random.normal());
  const std::vector<Variable> factors = lora.variables();
  std::vector<bool> trained(frozen.list().size());
  trained[frozen.gates()] = true;
  const Gemm native(GemmLibrary::NATIVE);
  const auto run = [&](const Gemm &gemm, NumberType compute, int64_t keep, int threads) {
    const ThreadScope team(pool, threads);
    Lora own(frozen, targets, config, compute, 1);
    std::copy_n(lora.values(), lora.size(), own.values());
    own.pack(team);
    TrainingGraph graph(team, *model, gemm, frozen, trained, compute, keep, TrainedPart::LORA, &own);
    Buffer<float> gates(frozen.size());
    RunRequest request;
    request.gradients = gates.data();
    std::vector<float> all{static_cast<float>(graph.run(team, layout, request).loss)};
    all.insert(all.end(), own.gradients(), own.gradients() + own.size());
    const Parameter &p = frozen[frozen.gates()];
    all.insert(all.end(), gates.data() + p.offset, gates.data() + p.offset + p.size());
    return all;
  };
  const std::vector<float> found = run(native, NumberType::F32, int64_t{1} << 40, 1);
  CHECK(run(native, NumberType::F32, 0, 3) == found);
  CHECK(eager.items_of_others() > 0);
  const auto difference = [&](const std::vector<float> &gradients) {  // its norm over that of what was found
    double squares = 0, all = 0;
    for (size_t i = 1; i < found.size(); ++i) {
      const double less = static_cast<double>(gradients[i]) - found[i];
      squares += less * less, all += static_cast<double>(found[i]) * found[i];
    }
    return std::sqrt(squares / all);
  };
  CHECK(difference(run(model->gemm(), NumberType::F32, 0, 1)) < 1e-5);
  CHECK(difference(run(native, NumberType::BF16, 0, 1)) < 0.05);

  // The reference has weights W + alpha / rank * B A.
  test::ReferenceModel reference(*model, masters);
  const std::vector<double> base = reference.values;
  std::vector<double> values(lora.values(), lora.values() + lora.size());
  const auto loss = [&] {
    reference.values = base;
    for (size_t t = 0; t < targets.size(); ++t) {
      const Parameter &p = masters[targets[t]];
      for (int64_t i = 0; i < p.rows; ++i)
        for (int64_t j = 0; j < p.columns; ++j)
          for (int64_t r = 0; r < config.rank; ++r)
            reference.values[static_cast<size_t>(p.offset + i * p.columns + j)] +=
                config.alpha / config.rank *
                values[static_cast<size_t>(factors[2 * t + 1].offset + i * config.rank + r)] *
                values[static_cast<size_t>(factors[2 * t].offset + r * p.columns + j)];
    }
    return reference.loss(layout, {});
  };
  CHECK(found[0] == doctest::Approx(loss()).epsilon(1e-5));
  for (size_t f = 0; f < factors.size(); ++f) {
    const Parameter &p = masters[targets[f / 2]];
    CAPTURE(p.name);
    const auto first = static_cast<size_t>(factors[f].offset);
    const auto size = static_cast<size_t>(config.rank * (f % 2 == 0 ? p.columns : p.rows));
    std::vector<double> direction(size);
    double length = 0, along = 0, norm = 0;
    for (double &d : direction) d = random.normal(), length += d * d;
    for (size_t i = 0; i < size; ++i) {
      const double g = found[1 + first + i];
      direction[i] /= std::sqrt(length), along += direction[i] * g, norm += g * g;
    }
    const auto at = [&](double distance) {
      const std::vector<double> before = values;
      for (size_t i = 0; i < size; ++i) values[first + i] += distance * direction[i];
      const double result = loss();
      values = before;
      return result;
    };
    const double slope = (at(1e-4) - at(-1e-4)) / 2e-4;
    CHECK(norm > 0);
    CHECK(std::abs(along - slope) < 2e-5 * std::sqrt(norm / static_cast<double>(size)) + 1e-8);
  }
  const Parameter &gates = masters[masters.gates()];
  for (int64_t i = 0; i < gates.size(); ++i) {
    loss();
    double &beta = reference.values[static_cast<size_t>(gates.offset + i)];
    beta += 1e-4;
    const double above = reference.loss(layout, {});
    beta -= 2e-4;
    const double slope = (above - reference.loss(layout, {})) / 2e-4;
    CHECK(found[1 + static_cast<size_t>(lora.size() + i)] == doctest::Approx(slope).epsilon(1e-4));
  }
}

TEST_CASE("a trainer of adapters, or of gates, takes far less memory than masters of its base would") {
  CreateConfig config = wide();
  config.layers = 4, config.hidden = 1024, config.vocabulary = 500, config.tied = false;
  const auto model = quantised(config, {TensorType::Q4_0});
  int64_t masters = 0;  // of f32
  for (const GgufTensor &tensor : model->gguf().tensors()) masters += 4 * tensor.elements();
  Random random(3);
  const Sequence sequence = random_sequence(random, 32, config.vocabulary);
  const auto bytes = [&](const std::string &part) {
    RecallTrainer trainer(
        model, test::train_config(R"({"compute": "f32", "tokens": 32, "rows": 32, "train": ")" + part + "\"}"),
        std::make_unique<test::OneSequence>(sequence), nullptr, 1);
    CHECK(std::isfinite(trainer.step().gradient_norm));
    return trainer.bytes();
  };
  for (const char *part : {"lora", "gates"}) {
    CAPTURE(std::string(part));
    const int64_t taken = bytes(part);
    MESSAGE("bytes: " << taken << ", masters " << masters);
    CHECK(taken < masters / 2);
  }
  CHECK(bytes("attention") > 3 * masters);
}
