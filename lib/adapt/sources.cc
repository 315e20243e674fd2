#include "adapt/sources.h"

#include <cmath>

#include "base/fields.h"
#include "base/status.h"
#include "train/data.h"

namespace infini {
namespace {

using nlohmann::json;

struct Maker {
  const Tokenizer &tokenizer;
  std::shared_ptr<const Curriculum> curriculum;
  ProseShelf *shelf;

  std::unique_ptr<SequenceSource> make(const json &description, const std::string &where) const {
    Fields fields(description, where);
    const std::string type = fields.text("type", "");
    if (type == "recall" || type == "passkey") return task(fields, type == "recall");
    if (type == "text" || type == "jsonl") return texts(fields, type == "text");
    if (type == "mixture") return mixture(fields);
    if (description.contains("type")) fields.refuse("type", "recall, passkey, text, jsonl or mixture");
    fail(Status::INVALID_ARGUMENT, where, " has no type: recall, passkey, text, jsonl or mixture");
  }

  static uint64_t seed(Fields &fields) { return static_cast<uint64_t>(fields.whole("seed", 1, 0, INT64_MAX)); }

  std::unique_ptr<SequenceSource> task(Fields &fields, bool recall) const {
    TaskSettings s;
    s.kind = recall ? TaskSettings::Kind::RECALL : TaskSettings::Kind::PASSKEY;
    s.seed = seed(fields);
    s.names = fields.texts("names");
    s.prose = fields.texts("prose");
    s.prose_share = fields.number("prose_share", s.prose_share, 0, 1);
    s.numbers = fields.number("numbers", s.numbers, 0, 1000);
    s.difficulty.fold = std::log(fields.number("fold", 1, 1, 1e12));
    if (recall) {
      s.nearest = fields.number("nearest", s.nearest, 1, 1e9);
      s.far = fields.number("far", s.far, 0, 1);
      s.difficulty.distance = fields.number("distance", 0, 0, 1e9);
      if (const auto density = fields.numbers("density", 2, 1e-6, 1000); !density.empty()) {
        if (density[0] > density[1]) fields.refuse("density", "the least, then the greatest");
        s.difficulty.density_least = density[0];
        s.difficulty.density_greatest = density[1];
      }
    } else {
      s.keys = fields.whole("keys", 1, 1, 1000);
      s.questions = fields.whole("questions", 1, 1, 1000);
      if (const auto depth = fields.numbers("depth", 2, 0, 1); !depth.empty()) {
        if (depth[0] > depth[1]) fields.refuse("depth", "the least, then the greatest");
        s.depth_least = depth[0];
        s.depth_greatest = depth[1];
      }
    }
    s.carry = fields.whole("carry", 0, 0, 1 << 24);
    s.inside = fields.number("inside", s.inside, 0, 1e6);
    s.across = fields.number("across", s.across, 0, 1e6);
    const std::string lookups = fields.text("lookups", "all");
    if (lookups != "all" && lookups != "first" && lookups != "value") fields.refuse("lookups", "all, first or value");
    s.lookups = lookups == "all"     ? TaskSettings::Lookups::ALL
                : lookups == "first" ? TaskSettings::Lookups::FIRST
                                     : TaskSettings::Lookups::VALUE;
    s.first = fields.number("first", s.first, 0, 1e6);
    s.other = fields.number("other", s.other, 0, 1e6);
    s.other_share = fields.number("other_share", s.other_share, 0, 1);
    fields.finish();
    return std::make_unique<TaskSource>(tokenizer, s, curriculum, shelf);
  }

  std::unique_ptr<SequenceSource> texts(Fields &fields, bool text) const {
    TextSettings s;
    s.files = fields.texts("files");
    if (s.files.empty()) fail(Status::INVALID_ARGUMENT, fields.path("files"), " must be a list with a file at least");
    s.weight = fields.number("weight", s.weight, 0, 1e6);
    const std::string unknown = fields.text("unknown_text", "error");
    if (unknown != "error" && unknown != "skip" && unknown != "replace")
      fields.refuse("unknown_text", "error, skip or replace");
    s.unknown = unknown_text_of(unknown);
    std::string order = "stream";
    int64_t carry = 0;
    if (text) {
      order = fields.text("order", order);
      if (order != "stream" && order != "excerpts") fields.refuse("order", "stream or excerpts");
    } else {
      s.field = fields.text("field", s.field);
      carry = fields.whole("carry", 0, 0, 1 << 24);
    }
    const uint64_t drawn = order == "excerpts" ? seed(fields) : 0;
    fields.finish();
    if (order == "excerpts") return std::make_unique<ExcerptSource>(tokenizer, s, drawn);
    return std::make_unique<PackedSource>(text ? read_texts(tokenizer, s) : read_jsonl(tokenizer, s), carry);
  }

  std::unique_ptr<SequenceSource> mixture(Fields &fields) const {
    const uint64_t drawn = seed(fields);
    const json *sources = fields.find("sources");
    if (!sources || !sources->is_array() || sources->empty())
      fail(Status::INVALID_ARGUMENT, fields.path("sources"), " must be a list with a source at least");
    std::vector<Mixture::Part> parts;
    for (const json &part : *sources) {
      Fields of_part(part, cat(fields.path("sources"), "[", parts.size(), "]"));
      const double ratio = of_part.number("ratio", 1, 0, 1e9);
      const json *source = of_part.find("source");
      if (!source) fail(Status::INVALID_ARGUMENT, of_part.path("source"), " is missing");
      of_part.finish();
      parts.push_back({ratio, make(*source, of_part.path("source"))});
    }
    fields.finish();
    return std::make_unique<Mixture>(std::move(parts), drawn);
  }
};

}  // namespace

std::unique_ptr<SequenceSource> make_source(std::string_view description, const Tokenizer &tokenizer,
                                            std::shared_ptr<const Curriculum> curriculum, ProseShelf *shelf) {
  return Maker{tokenizer, std::move(curriculum), shelf}.make(
      parse_json(description, Status::INVALID_ARGUMENT, "the description of a source"), "source");
}

}  // namespace infini
