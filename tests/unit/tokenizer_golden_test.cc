// Real vocabularies: the ids that the reference implementations give, and promises for any text.
#include <rapidcheck.h>

#include <random>
#include <sstream>

#include "base/status.h"
#include "hf_tokenizer.h"
#include "support.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

using infini::Gguf;
using infini::Tokenizer;
using Ids = std::vector<int32_t>;

namespace {

constexpr Tokenizer::Encode whole{}, parsed{.special = true, .start = false};

Ids read_ids(const std::string &line) {
  std::istringstream in(line);
  return {std::istream_iterator<int32_t>(in), {}};
}

std::string stories() { return INFINI_SOURCE_DIR "/samples/models/stories260K.gguf"; }

// The ids of a text that begins a stream, less the BOS.
Ids encode_bare(const Tokenizer &tokenizer, const std::string &text) {
  const Ids ids = tokenizer.encode(text, whole);
  return {ids.begin() + static_cast<std::ptrdiff_t>(tokenizer.encode("", whole).size()), ids.end()};
}

// The real vocabularies of the development data, by name.
struct Named {
  std::string name;
  Gguf gguf;
};
std::vector<Named> real_vocabularies() {
  std::vector<Named> all;
  all.push_back({"stories260K", Gguf::open(stories())});
  if (test::data_folder().empty()) return all;
  const std::string folder = test::data("tokenizers");
  for (const std::string name : {"gpt-2", "gpt-neox", "mpt", "llama-spm", "phi-3"})
    all.push_back({name, Gguf::open(folder + "/ggml-vocab/ggml-vocab-" + name + ".gguf")});
  all.push_back({"llama-bpe", test::load_tokenizer_json(folder + "/hf/llama3/tokenizer.json", "llama-bpe")});
  all.push_back({"qwen2", test::load_tokenizer_json(folder + "/hf/qwen3/tokenizer.json", "qwen2")});
  all.push_back({"smollm2", Gguf::open(folder + "/../models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")});
  all.push_back({"prototype", Gguf::open(folder + "/../models/prototype/prototype-delta.gguf")});
  return all;
}

}  // namespace

TEST_CASE("ids equal those of the public test vectors" * test::needs_data()) {
  const std::string folder = test::data("tokenizers/ggml-vocab");
  for (const Named &vocabulary : real_vocabularies()) {
    const std::string vectors = folder + "/ggml-vocab-" + vocabulary.name + ".gguf";
    if (!std::ifstream(vectors + ".inp").good()) continue;
    const Tokenizer tokenizer(vocabulary.gguf);
    const std::string separator = "\n__ggml_vocab_test__\n", texts = test::read_text(vectors + ".inp");
    std::istringstream lines(test::read_text(vectors + ".out"));
    int count = 0;
    for (size_t begin = 0, end; (end = texts.find(separator, begin)) != texts.npos; begin = end + separator.size()) {
      const std::string text = texts.substr(begin, end - begin);
      std::string line;
      REQUIRE(std::getline(lines, line));
      CHECK_MESSAGE(encode_bare(tokenizer, text) == read_ids(line), vocabulary.name << ": '" << text << "'");
      ++count;
    }
    CHECK(count > 40);
  }
}

TEST_CASE("ids of a novel and of a program equal those of the reference tokenizers" * test::needs_data()) {
  const std::string folder = test::data("tokenizers");
  const std::vector<Named> vocabularies = [&] {
    std::vector<Named> all;
    all.push_back({"gpt2", test::load_gpt2(folder + "/hf/gpt2")});
    all.push_back({"llama2spm", Gguf::open(folder + "/ggml-vocab/ggml-vocab-llama-spm.gguf")});
    all.push_back({"llama3", test::load_tokenizer_json(folder + "/hf/llama3/tokenizer.json", "llama3")});
    all.push_back({"qwen3", test::load_tokenizer_json(folder + "/hf/qwen3/tokenizer.json", "qwen2")});
    return all;
  }();
  for (const Named &vocabulary : vocabularies) {
    const Tokenizer tokenizer(vocabulary.gguf);
    for (const std::string name : {"dracula", "code"}) {
      const std::string text = test::read_text(folder + "/golden/" + name + ".txt");
      const Ids expected = read_ids(test::read_text(folder + "/golden/" + name + "." + vocabulary.name + ".ids"));
      CHECK_MESSAGE(encode_bare(tokenizer, text) == expected, vocabulary.name << ", " << name);
      CHECK_MESSAGE(tokenizer.decode(expected) == text, vocabulary.name << ", " << name);
    }
  }
}

TEST_CASE("SmolLM2: ids equal the reference, chat markup included" * test::needs_data()) {
  const std::string folder = test::data("models/smollm2");
  const Tokenizer tokenizer(Gguf::open(folder + "/SmolLM2-135M-Instruct.Q4_1.gguf"));
  const nlohmann::json golden = nlohmann::json::parse(test::read_text(folder + "/golden.json"));
  int count = 0;
  for (const auto &[name, entry] : golden.items()) {
    if (!entry.is_object() || !entry.contains("text") || !entry.contains("ids")) continue;
    CAPTURE(name);
    const std::string text = entry["text"];
    CHECK(tokenizer.encode(text, {.special = true, .start = true}) == entry["ids"].get<Ids>());
    CHECK(tokenizer.decode(entry["ids"].get<Ids>(), true) == text);
    CHECK(tokenizer.decode(entry["greedy_ids"].get<Ids>(), true) == entry["greedy_text"].get<std::string>());
    ++count;
  }
  CHECK(count >= 3);
  CHECK(tokenizer.is_end(tokenizer.eos()));
  CHECK(tokenizer.is_end(0));  // <|endoftext|>, by its name
  CHECK_FALSE(tokenizer.is_end(1));
}

TEST_CASE("stories260K: the transcript's text gives its ids") {
  const Tokenizer tokenizer(Gguf::open(stories()));
  const nlohmann::json golden = nlohmann::json::parse(test::read_text(test::fixture("stories260K.golden.json")));
  Ids ids = golden["greedy_from_bos_ids"].get<Ids>();
  std::string text = golden["greedy_text"];
  for (size_t at; (at = text.find("<0x0A>")) != text.npos;) text.replace(at, 6, "\n");
  CHECK(tokenizer.decode(ids) == text);
  ids.insert(ids.begin(), tokenizer.bos());
  CHECK(tokenizer.encode(text, whole) == ids);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(tokenizer.bos() == 1);
  CHECK(tokenizer.eos() == 2);
  CHECK(tokenizer.is_end(2));
  CHECK(tokenizer.model() == "llama");
  CHECK(tokenizer.size() == 512);
}

TEST_CASE("the prototype's tokenizer.json and its GGUF are the same tokenizer" * test::needs_data()) {
  const std::string folder = test::data("models/prototype");
  const Tokenizer from_json(test::load_tokenizer_json(folder + "/tokenizer.json", "smollm"));
  const Tokenizer from_gguf(Gguf::open(folder + "/prototype-delta.gguf"));
  const Ids tokens = test::read_numbers<int32_t>(folder + "/prototype-delta.tokens.i32");
  const std::string text = from_gguf.decode(tokens, true);
  CHECK(from_json.decode(tokens, true) == text);
  CHECK(from_json.encode(text, parsed) == from_gguf.encode(text, parsed));
  CHECK(from_gguf.encode(text + " 71432", parsed).size() > 5);
  const std::string novel = test::read_text(test::data("tokenizers/golden/dracula.txt"));
  CHECK(from_json.encode(novel, whole) == from_gguf.encode(novel, whole));
}

TEST_CASE("decoding is the inverse of encoding, special tokens in the text or not") {
  std::vector<Named> vocabularies = real_vocabularies();
  // Spaces that begin texts, user-defined tokens, and control tokens, in one small vocabulary.
  Gguf small = test::small_spm({{"\u2581", -1}, {"a", -2}, {"\u2581a", -3}, {"b", -4}, {"\u2581\u2581", -5}});
  std::vector<int32_t> types;
  for (const int64_t type : small.get_ints("tokenizer.ggml.token_type")) types.push_back(static_cast<int32_t>(type));
  types[262] = 4;
  small.set("tokenizer.ggml.token_type", test::array(types));
  vocabularies.push_back({"small", small});
  for (const Named &vocabulary : vocabularies) {
    const Tokenizer tokenizer(vocabulary.gguf);
    std::vector<std::string> specials;
    for (int32_t id = 0; id < tokenizer.size(); ++id)
      if (tokenizer.ends_text(id) && specials.size() < 400) specials.push_back(tokenizer.piece(id, true));
    if (specials.empty()) specials.push_back("");
    // SmolLM2's vocabulary lacks some bytes: an error that says so.
    const bool all_bytes = vocabulary.name != "smollm2";
    if (!all_bytes) CHECK_THROWS_AS(tokenizer.encode("\U00040000", whole), infini::Error);
    const bool held = rc::check("decode(encode(text)) == text: " + vocabulary.name, [&] {
      std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
      std::string text;
      for (uint32_t part = 0, parts = random() % 8; part < parts; ++part) {
        if (random() % 3 == 0) text += std::string(random() % 3, ' ');
        if (random() % 2 == 0) text += specials[random() % specials.size()];
        else text += test::random_text(random, static_cast<int>(random() % 20), all_bytes ? 0x110000 : 0x40000);
      }
      if (!all_bytes) std::erase_if(text, [](char c) { return c >= 0 && c < ' ' && c != '\n'; });
      RC_LOG() << "'" << text << "'";
      for (const bool special : {false, true})
        for (const bool start : {false, true}) {
          const Ids ids = tokenizer.encode(text, {.special = special, .start = start});
          const std::string back = tokenizer.decode(ids, special, start);
          if (!tokenizer.normalises()) RC_ASSERT(back == text);
          RC_ASSERT(tokenizer.encode(back, {.special = special, .start = start}) == ids);
        }
    });
    CHECK_MESSAGE(held, vocabulary.name);
  }
}

TEST_CASE("text behind a user-defined token begins as it was written" * test::needs_data()) {
  const std::string folder = test::data("tokenizers/ggml-vocab");
  const Tokenizer tokenizer(Gguf::open(folder + "/ggml-vocab-phi-3.gguf"));
  for (const bool start : {false, true})
    CHECK(tokenizer.decode(tokenizer.encode("a</s>b", {.start = start}), false, start) == "a</s>b");
}

TEST_CASE("a text in pieces gives the tokens of the whole" * test::needs_data()) {
  const std::string path = test::data("tokenizers/golden/dracula.txt");
  const std::string text = test::read_text(path), code = test::read_text(test::data("tokenizers/golden/code.txt"));
  const std::string russian = [] {  // letters beyond ASCII count as letters
    std::string words;
    for (int i = 0; i < 20000; ++i) words += i % 7 == 0 ? "\u00a0 нещо \u3000на" : " Български, 中 国 क्षि é";
    return words;
  }();
  for (const Named &vocabulary : real_vocabularies()) {
    const Tokenizer tokenizer(vocabulary.gguf);
    for (const std::string &each : {text, code, russian}) {
      infini::TextStream stream;
      stream.push(each);
      stream.finish();
      Ids ids;
      int pieces = 0;
      for (std::string piece; !(piece = stream.next()).empty(); ++pieces) {
        const Ids more = tokenizer.encode(piece, {.special = false, .start = pieces == 0});
        ids.insert(ids.end(), more.begin(), more.end());
      }
      CHECK(pieces > 15);
      CHECK_MESSAGE(ids == tokenizer.encode(each, whole), vocabulary.name);
    }
  }
}
