#include "adapt/make_source.h"

#include "base/limits.h"
#include "base/schema.h"
#include "base/status.h"
#include "train/source_helpers.h"
#include "train/text_sources.h"

namespace infini {
namespace {

using nlohmann::json;

constexpr const char *kTypes = "recall|passkey|text|jsonl|mixture|random";

enum class Order { STREAM, EXCERPTS };

// What a source of texts and one of lines of JSON have in common.
struct Files : TextSettings {
  template <class Visitor>
  void common(Visitor &v, const char *type) {
    std::string standard = type;
    v.required("type", standard, type, "");
    v.required("files", files, "", "which are read");
    v("weight", weight, 0, 1e6, "loss weight of a token");
    v("unknown_text", unknown, "error|skip|replace",
      "characters that the vocabulary has no token for; replace: U+FFFD");
  }
};

struct TextFiles : Files {
  Order order = Order::STREAM;
  uint64_t seed = 1;
  template <class Visitor>
  void fields(Visitor &v) {
    common(v, "text");
    v("order", order, "stream|excerpts", "one after the other, for ever, or pieces at random");
    v("seed", seed, 0, 0x1p63, "of excerpts");
  }
  void complete(const Fields &given) const {
    if (order == Order::STREAM && given.has("seed")) given.refuse("seed", "left out where order is stream");
  }
};

struct JsonLines : Files {
  int64_t carry = 0;
  template <class Visitor>
  void fields(Visitor &v) {
    common(v, "jsonl");
    v("field", field, "", "of a line, a document, that holds its text");
    v("carry", carry, 0, kMostWindow, "tokens before a segment that are in view too");
  }
};

struct MixturePart {
  double ratio = 1;
  JsonText source{"null"};
  template <class Visitor>
  void fields(Visitor &v) {
    v("ratio", ratio, 0, 1e9, "how often its sequences are drawn, beside those of the others");
    v.required("source", source, "any of these sources");
  }
};

struct MixtureSettings {
  std::string type = "mixture";
  uint64_t seed = 1;
  std::vector<MixturePart> sources;
  template <class Visitor>
  void fields(Visitor &v) {
    v.required("type", type, "mixture", "every sequence is one of several sources'");
    v("seed", seed, 0, 0x1p63, "of what is drawn");
    v.required("sources", sources, "one at least");
  }
};

// Tokens drawn at random: what a benchmark reads.
class RandomSource : public SequenceSource {
 public:
  RandomSource(uint64_t seed, double share, int vocabulary) : random_(seed), share_(share), vocabulary_(vocabulary) {}
  Sequence next(int segment, int segments) override {
    Sequence s;
    const size_t size = static_cast<size_t>(sequence_size(segment, segments));
    for (size_t t = 0; t < size; ++t) {
      s.tokens.push_back(static_cast<int32_t>(draw_below(random_, static_cast<size_t>(vocabulary_))));
      s.weight.push_back(random_.uniform() < share_ ? 1.0f : 0.0f);
    }
    s.answer.assign(size, 0);
    return s;
  }
  std::string save() const override { return save_random(random_); }
  void restore(const std::string &state) override { restore_random(*parse_state(state), random_); }

 private:
  Random random_;
  const double share_;
  const int vocabulary_;
};

struct RandomSettings {
  std::string type = "random";
  uint64_t seed = 1;
  double share = 1;
  template <class Visitor>
  void fields(Visitor &v) {
    v.required("type", type, "random", "tokens at random, to measure speed; needs no tokenizer");
    v("seed", seed, 0, 0x1p63, "of what is drawn");
    v("share", share, 0, 1, "of the tokens that are predicted");
  }
};

struct Maker {
  const Model &model;
  std::shared_ptr<const Curriculum> curriculum;
  TokenCache *cache;
  Task *task;

  std::unique_ptr<SequenceSource> make(const json &description, const std::string &where) const {
    Fields fields(description, where);
    if (!fields.has("type")) fail(Status::INVALID_ARGUMENT, where, " has no type: ", listed(kTypes));
    const std::string type = fields.text("type", "");
    if (!is_choice(type, kTypes)) fields.refuse("type", listed(kTypes));
    if (type == "recall" || type == "passkey")
      return std::make_unique<RecallSource>(model.tokenizer(), read_settings<RecallTask>(description, where),
                                            curriculum, cache, task);
    if (type == "random") {
      const auto random = read_settings<RandomSettings>(description, where);
      return std::make_unique<RandomSource>(random.seed, random.share, model.config().vocabulary);
    }
    if (type == "mixture") return mixture(read_settings<MixtureSettings>(description, where), where);
    if (type == "jsonl") {
      const auto lines = read_settings<JsonLines>(description, where);
      return std::make_unique<PackedSource>(read_jsonl(model.tokenizer(), lines), lines.carry);
    }
    const auto texts = read_settings<TextFiles>(description, where);
    if (texts.order == Order::EXCERPTS) return std::make_unique<ExcerptSource>(model.tokenizer(), texts, texts.seed);
    return std::make_unique<PackedSource>(read_texts(model.tokenizer(), texts));
  }

  std::unique_ptr<SequenceSource> mixture(const MixtureSettings &settings, const std::string &where) const {
    std::vector<MixedSource::Part> parts;
    for (const MixturePart &part : settings.sources)
      parts.push_back({part.ratio, make(*parse_json(part.source.text, Status::INVALID_ARGUMENT, where),
                                        cat(where, ".sources[", parts.size(), "].source"))});
    return std::make_unique<MixedSource>(std::move(parts), settings.seed);
  }
};

}  // namespace

void RecallTask::complete(const Fields &given) {
  const auto ascending = [&](const char *name, double least, double greatest) {
    if (least > greatest) given.refuse(name, "the least, then the greatest");
  };
  ascending("density", difficulty.density_least, difficulty.density_greatest);
  ascending("depth", depth_least, depth_greatest);
}

JsonObject describe_sources() {
  RecallTask passkey;
  passkey.kind = RecallTask::Kind::PASSKEY;
  return JsonObject()
      .add("recall", describe_settings<RecallTask>())
      .add("passkey", describe_settings(passkey))
      .add("text", describe_settings<TextFiles>())
      .add("jsonl", describe_settings<JsonLines>())
      .add("mixture", describe_settings<MixtureSettings>())
      .add("random", describe_settings<RandomSettings>());
}

std::unique_ptr<SequenceSource> make_source(const json &description, const Model &model,
                                            std::shared_ptr<const Curriculum> curriculum, TokenCache *cache,
                                            Task *task) {
  return Maker{model, std::move(curriculum), cache, task}.make(description, "source");
}

std::unique_ptr<SequenceSource> make_source(std::string_view description, const Model &model, TokenCache *cache,
                                            Task *task) {
  return make_source(*parse_json(description, Status::INVALID_ARGUMENT, "the description of a source"), model, nullptr,
                     cache, task);
}

}  // namespace infini
