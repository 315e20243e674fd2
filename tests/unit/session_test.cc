// What a session promises: cuts, forks, cancelling, and text that comes out.
#include "support.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <nlohmann/json.hpp>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "base/json.h"
#include "base/random.h"
#include "base/testing.h"
#include "model/facts.h"
#include "model/footprint.h"
#include "sessions.h"

using namespace infini;
using test::options_of;

namespace {

#ifdef __GLIBC__
constexpr bool kCountsHeap = true;
int64_t heap_in_use() { return static_cast<int64_t>(mallinfo2().uordblks + mallinfo2().hblkhd); }
#else
constexpr bool kCountsHeap = false;
int64_t heap_in_use() { return 0; }
#endif

const std::string kStories = std::string(INFINI_SOURCE_DIR) + "/samples/models/stories260K.gguf";

std::shared_ptr<const Model> stories(const char *compute = "f32") {
  return Model::open(kStories, options_of({{"compute", std::string(compute)}}));
}

std::vector<int32_t> random_tokens(size_t n, int vocabulary, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t &token : tokens) token = static_cast<int32_t>(random.uniform() * vocabulary);
  return tokens;
}

std::vector<float> all_logits(Session &session, const std::vector<int32_t> &tokens, const std::vector<size_t> &cuts) {
  const auto vocabulary = static_cast<size_t>(session.model().config().vocabulary);
  std::vector<float> logits(tokens.size() * vocabulary);
  size_t done = 0;
  for (size_t i = 0; done < tokens.size(); ++i) {
    const size_t count = std::min(cuts[i % cuts.size()], tokens.size() - done);
    session.feed_logits({tokens.data() + done, count}, logits.data() + done * vocabulary);
    done += count;
  }
  return logits;
}

CreateConfig small_config(const std::string &update) {
  CreateConfig config;
  config.layers = 3, config.width = 96, config.heads = 6, config.kv_heads = 2, config.hidden = 160,
  config.vocabulary = 200;
  config.segment = 48, config.carry = 20, config.sinks = 3, config.update = update, config.seed = 5;
  return config;
}

const std::vector<std::vector<size_t>> kCuts = {{1000000}, {1}, {3}, {7}, {64}, {1, 40, 13, 100, 2}};

}  // namespace

TEST_CASE("the same calls give the same bits") {
  for (const char *compute : {"f32", "bf16"}) {
    const auto model = Model::create(small_config("delta"), options_of({{"compute", std::string(compute)}}));
    const auto tokens = random_tokens(300, 200, 1);
    for (const auto &cuts : kCuts) {
      Session a(model, {}), b(model, {});
      CHECK(all_logits(a, tokens, cuts) == all_logits(b, tokens, cuts));
    }
  }
}

TEST_CASE("any cut gives the same logits within the rounding bound") {
  for (const char *update : {"linear", "delta"}) {
    for (const char *compute : {"f32", "bf16", "f32/int8", "bf16/int8"}) {
      const double bound = compute == std::string("f32") ? 2e-5 : 0.1;
      const auto model = Model::create(small_config(update), test::computing(compute));
      const auto tokens = random_tokens(300, 200, 2);
      Session whole(model, {});
      const auto expected = all_logits(whole, tokens, {1000000});
      for (const auto &cuts : kCuts) {
        Session session(model, options_of({{"chunk", int64_t{100}}}));
        CHECK(test::relative_difference(all_logits(session, tokens, cuts), expected) < bound);
      }
    }
  }
}

TEST_CASE("option deterministic: any cut gives the same bits, on any number of threads") {
  const EagerThreads eager;
  for (const char *compute : {"f32", "bf16", "f32/int8", "bf16/int8"}) {
    const auto model = Model::create(small_config("delta"), test::computing(compute));
    const auto tokens = random_tokens(300, 200, 3);
    Session whole(model, options_of({{"deterministic", int64_t{1}}}));
    const auto expected = all_logits(whole, tokens, {1000000});
    for (const auto &cuts : kCuts) {
      for (const int64_t threads : {1, 2, 3}) {
        Session session(model, options_of({{"deterministic", int64_t{1}}, {"threads", threads}}));
        const int64_t shared = eager.items_of_others();
        CHECK(all_logits(session, tokens, cuts) == expected);
        CHECK((eager.items_of_others() > shared) == (threads > 1));
      }
    }
  }
}

TEST_CASE("a fork goes on exactly as its parent, and they share nothing") {
  const auto model = Model::create(small_config("linear"), {});
  const auto before = random_tokens(130, 200, 4), after = random_tokens(90, 200, 5), other = random_tokens(90, 200, 6);
  Session parent(model, options_of({{"temperature", 1.0}, {"seed", int64_t{3}}, {"repetition_penalty", 1.3}}));
  parent.feed(before);
  const auto child = parent.fork();
  const auto disturber = parent.fork();
  disturber->feed(other);
  CHECK(all_logits(*child, after, {13}) == all_logits(parent, after, {13}));
  for (int i = 0; i < 60; ++i) REQUIRE(child->next() == parent.next());
}

TEST_CASE("a fork costs a copy of the state only" * test::needs(kCountsHeap, "a C library that counts its heap")) {
  CreateConfig config;  // heads that fill their panels, and windows from the heap
  config.layers = 2, config.width = 256, config.heads = 4, config.kv_heads = 2, config.hidden = 64,
  config.vocabulary = 200;
  config.segment = 96, config.carry = 32;
  const auto model = Model::create(config, options_of({{"compute", std::string("f32")}}));
  Session parent(model, {});
  parent.feed(random_tokens(96 * 5 + 95, 200, 4));
  REQUIRE(parent.workspace_bytes() > parent.state_bytes() / 2);  // which a fork makes only when it is fed
  const int64_t before = heap_in_use();
  const auto child = parent.fork();
  const int64_t cost = heap_in_use() - before;
  CHECK(child->state_bytes() == parent.state_bytes());
  CHECK(child->workspace_bytes() == 0);
  MESSAGE("state " << parent.state_bytes() << ", a fork takes " << cost << " bytes");
  CHECK(cost < parent.state_bytes() + parent.state_bytes() / 4 + 65536);
  if (!test::kSanitized) CHECK(cost > parent.state_bytes() / 2);  // sanitizers have a heap of their own
}

TEST_CASE("a reset session is a new one") {
  const auto model = Model::create(small_config("delta"), {});
  const auto tokens = random_tokens(150, 200, 7);
  Session used(model, {}), fresh(model, {});
  used.feed(random_tokens(200, 200, 8));
  used.reset();
  CHECK(used.position() == 0);
  CHECK_THROWS_AS(used.logits(), Error);
  CHECK(all_logits(used, tokens, {50}) == all_logits(fresh, tokens, {50}));
}

TEST_CASE("a cancelled feed says what it consumed, and the session goes on correctly") {
  const auto model = Model::create(small_config("delta"), {});
  const auto tokens = random_tokens(200, 200, 9);
  const Options options = options_of({{"chunk", int64_t{32}}});
  Session cut(model, options), whole(model, options);
  Task task;
  task.set_progress([](void *, const char *, int64_t done, int64_t) { return int{done == 64}; }, nullptr);
  CHECK_THROWS_WITH_AS(cut.feed(tokens, &task), doctest::Contains("cancelled after 64 of 200"), Error);
  CHECK(cut.position() == 64);
  CHECK(task.done() == 64);
  cut.cancel();  // nothing runs: nothing happens
  // In the last chunk: all was read, and yet the call says that it was cancelled, else a loop of calls would go on.
  task.set_progress(
      [](void *session, const char *, int64_t done, int64_t total) {
    if (done == total) static_cast<Session *>(session)->cancel();
    return 0;
      },
      &cut);
  CHECK_THROWS_WITH_AS(cut.feed(std::span(tokens).subspan(64), &task), doctest::Contains("cancelled after 136 of 136"),
                       Error);
  CHECK(cut.position() == 200);
  whole.feed(tokens);
  CHECK(std::equal(cut.logits().begin(), cut.logits().end(), whole.logits().begin()));
  cut.feed(std::span(tokens).first(10));  // a cancel is consumed once
  CHECK(cut.position() == 210);
  task.set_progress(nullptr, nullptr);
  task.cancel();
  CHECK_THROWS_WITH_AS(whole.feed(tokens, &task), doctest::Contains("cancelled after 0 of 200"), Error);
  whole.feed(tokens, &task);
  CHECK(task.done() == 200);
  CHECK(whole.position() == 400);
}

TEST_CASE("a bad token is refused before any is read") {
  const auto model = Model::create(small_config("delta"), {});
  Session session(model, {});
  const std::vector<int32_t> bad = {1, 2, 200};
  CHECK_THROWS_WITH_AS(session.feed(bad), doctest::Contains("token 2 is 200"), Error);
  CHECK(session.position() == 0);
}

TEST_CASE("stories260K writes its golden text and scores its golden story") {
  const auto golden = nlohmann::json::parse(test::read_text(test::fixture("stories260K.golden.json")));
  const auto model = stories();
  Session session(model, options_of({{"max_tokens", int64_t{-1}}}));
  session.feed(std::vector<int32_t>{model->tokenizer().bos()});
  CHECK(test::largest_difference(session.logits(), golden["logits_after_bos"].get<std::vector<float>>()) < 1e-4);
  const auto expected = golden["greedy_from_bos_ids"].get<std::vector<int32_t>>();
  std::vector<int32_t> ids;
  while (ids.size() < expected.size()) ids.push_back(session.next().value());
  CHECK(ids == expected);

  Session story(model, {});
  std::vector<int32_t> tokens = golden["story_ids"];
  tokens.insert(tokens.begin(), model->tokenizer().bos());
  std::vector<float> nll(tokens.size());
  story.score(tokens, nll.data());
  CHECK(std::isnan(nll[0]));
  double mean = 0;
  for (size_t i = 1; i < nll.size(); ++i) mean += nll[i] / static_cast<double>(nll.size() - 1);
  CHECK(mean == doctest::Approx(golden["story_mean_nll_nats_per_token_given_bos"].get<double>()).epsilon(2e-5));
}

TEST_CASE("logits that are not numbers give no score, for the first token of a call neither") {
  const Gguf whole = Gguf::open(kStories);
  Gguf gguf;
  for (const auto &[name, entry] : whole.entries()) gguf.set(name, entry);
  for (const GgufTensor &t : whole.tensors()) {
    std::vector<std::byte> data(t.data.begin(), t.data.end());
    if (t.name == "output_norm.weight") {
      std::vector<float> large(data.size() / sizeof(float), 3e38f);
      std::memcpy(data.data(), large.data(), data.size());
    }
    gguf.add_tensor(t.name, t.type, t.shape, std::move(data));
  }
  const auto model = Model::build(std::move(gguf), options_of({{"compute", std::string("f32")}}));
  const std::vector<int32_t> tokens = {1, 300, 20, 5};
  std::vector<float> nll(4);
  Session session(model, {});
  session.feed(std::span(tokens).first(2));
  // Each is read all the same, so that a host may go on.
  CHECK_THROWS_WITH_AS(session.score(std::span(tokens).subspan(2, 1), nll.data()),
                       doctest::Contains("before token 0 of this call are not numbers"), Error);
  CHECK(session.position() == 3);
  double sum = 0;
  CHECK_THROWS_WITH_AS(session.score_text("once", &sum, nullptr), doctest::Contains("overflow in compute type 'f32'"),
                       Error);
  Session fresh(model, {});
  CHECK_THROWS_WITH_AS(fresh.score(tokens, nll.data()), doctest::Contains("before token 1"), Error);
}

TEST_CASE("scores do not depend on the cut, and equal those of the logits") {
  const auto model = stories();
  const auto tokens = random_tokens(200, 512, 10);
  Session by_score(model, {}), by_logits(model, {});
  std::vector<float> nll(tokens.size());
  for (size_t done = 0; done < tokens.size(); done += 37)
    by_score.score(std::span(tokens).subspan(done, std::min<size_t>(37, tokens.size() - done)), nll.data() + done);
  const auto logits = all_logits(by_logits, tokens, {1000});
  for (size_t t = 1; t < tokens.size(); ++t) {
    const float *row = logits.data() + (t - 1) * 512;
    double sum = 0;
    for (int i = 0; i < 512; ++i) sum += std::exp(static_cast<double>(row[i]));
    CHECK(nll[t] == doctest::Approx(std::log(sum) - row[tokens[t]]).epsilon(1e-4));
  }
}

TEST_CASE("what a session says that it holds covers what it takes of the heap" *
          test::needs(kCountsHeap, "a C library that counts its heap")) {
  CreateConfig config;  // windows from the heap
  config.layers = 2, config.width = 256, config.heads = 4, config.kv_heads = 2, config.hidden = 64,
  config.vocabulary = 200;
  config.segment = 96, config.carry = 32;
  const auto model = Model::create(config, options_of({{"compute", std::string("f32")}, {"threads", int64_t{1}}}));
  const Options options = options_of({{"checkpoints", int64_t{4}}, {"threads", int64_t{1}}, {"chunk", int64_t{64}}});
  const std::vector<int32_t> tokens = random_tokens(96 * 6 + 3, 200, 4);
  Session(model, options).feed(tokens);  // a library's kernels, which go with the model, are made when they are needed
  const int64_t before = heap_in_use();
  Session session(model, options);
  session.feed(tokens);
  const int64_t takes = heap_in_use() - before;
  MESSAGE("takes " << takes << ", says " << session.total_bytes() << ", a copy " << session.state_bytes());
  CHECK(session.total_bytes() > session.state_bytes() + session.workspace_bytes());
  if (!test::kSanitized) CHECK(session.total_bytes() > takes - takes / 20);  // sanitizers have a heap of their own
}

TEST_CASE("next_text gives the same text as next, in whole characters, and ends once") {
  const auto model = stories();
  const Options options = options_of({{"max_tokens", int64_t{60}}});
  Session tokens(model, options), text(model, options);
  tokens.feed_text("Once upon a time");
  text.feed_text("Once upon a time");
  std::vector<int32_t> ids;
  while (const auto id = tokens.next()) ids.push_back(*id);
  CHECK(ids.size() == 60);
  CHECK(tokens.stop_reason() == std::string("max_tokens"));
  std::string out;
  while (const auto piece = test::next_text(text)) out += *piece;
  std::string expected;
  for (const int32_t id : ids) expected += model->tokenizer().piece(id);
  CHECK(out == expected);
  CHECK(test::next_text(text).has_value());  // the call after the end starts another run
}

TEST_CASE("a stop string that spans tokens ends the text before it") {
  const auto model = stories();
  Session plain(model, options_of({{"max_tokens", int64_t{60}}}));
  plain.feed_text("Once upon a time");
  std::string whole;
  while (const auto piece = test::next_text(plain)) whole += *piece;
  for (size_t begin = 5; begin + 7 < whole.size(); begin += 9) {
    const std::string stop = whole.substr(begin, 7);
    if (stop.find('\n') != std::string::npos) continue;
    Session session(model, options_of({{"max_tokens", int64_t{60}}, {"stop", "never in it\n" + stop}}));
    session.feed_text("Once upon a time");
    std::string out;
    while (const auto piece = test::next_text(session)) out += *piece;
    CHECK(out == whole.substr(0, whole.find(stop)));
    CHECK(session.stop_reason() == std::string("stop_string"));
  }
}

TEST_CASE("the same seed gives the same text; penalties and bias do what they say") {
  const auto model = stories();
  const auto run = [&](const Options &options) {
    Session session(model, options);
    session.feed_text("Once upon a time");
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i)
      if (const auto id = session.next()) ids.push_back(*id);
    return ids;
  };
  const auto sampled = [&](int64_t seed) {
    return options_of({{"temperature", 0.9}, {"top_k", int64_t{50}}, {"top_p", 0.95}, {"min_p", 0.01}, {"seed", seed}});
  };
  CHECK(run(sampled(1)) == run(sampled(1)));
  CHECK(run(sampled(1)) != run(sampled(2)));
  const auto greedy = run({});
  const auto without = run(options_of({{"logit_bias", std::to_string(greedy[3]) + ":-inf"}}));
  CHECK(std::find(without.begin(), without.end(), greedy[3]) == without.end());
  CHECK(run(options_of({{"temperature", 5.0}, {"top_k", int64_t{1}}})) == greedy);
  CHECK(run(options_of({{"temperature", 5.0}, {"min_p", 1.0}})) == greedy);
  CHECK(run(options_of({{"temperature", 5.0}, {"top_p", 0.0}})) == greedy);
  const auto distinct = run(options_of({{"presence_penalty", 100.0}, {"penalty_window", int64_t{1000}}}));
  CHECK(std::set<int32_t>(distinct.begin(), distinct.end()).size() == distinct.size());
}

TEST_CASE("sampling follows the probabilities") {
  Options options = options_of({{"temperature", 2.0}});
  Sampler sampler(options.as<GenerationOptions>(), 4);
  Random random(11);
  const std::vector<float> logits = {0, 2, 4, -1e30f};
  std::vector<int> counts(4);
  for (int i = 0; i < 60000; ++i) ++counts[static_cast<size_t>(sampler.sample(logits, {}, random))];
  const double total = 1 + std::exp(1) + std::exp(2);
  for (size_t i = 0; i < 3; ++i)
    CHECK(counts[i] / 60000.0 == doctest::Approx(std::exp(static_cast<double>(i)) / total).epsilon(0.05));
  CHECK(counts[3] == 0);
}

TEST_CASE("penalties count tokens of the longest window") {
  RecentTokens recent;
  recent.set_window(65536);
  for (int i = 0; i < 65536; ++i) recent.push(0);
  Sampler sampler(options_of({{"presence_penalty", 5.0}}).as<GenerationOptions>(), 2);
  Random random(1);
  CHECK(sampler.sample(std::vector<float>{3, 0}, {}, random) == 0);
  CHECK(sampler.sample(std::vector<float>{3, 0}, recent, random) == 1);
}

TEST_CASE("biases of one token add up, to a number") {
  CHECK(parse_logit_bias("3:1,1:2,3:0.5", 4) == std::vector<std::pair<int32_t, float>>{{1, 2.0f}, {3, 1.5f}});
  CHECK_THROWS_WITH_AS(parse_logit_bias("3:3e38,3:3e38", 4), doctest::Contains("a sum of inf"), Error);
}

TEST_CASE("a window of int8 holds what it says, a quarter of f32 and half of bf16, and its logits are near") {
  const auto tokens = random_tokens(300, 200, 6);
  std::map<std::string, int64_t> bytes;
  std::vector<float> expected;
  for (const std::string how : {"f32", "bf16", "f32/int8", "bf16/int8"}) {
    const auto model = Model::create(small_config("delta"), test::computing(how));
    CHECK(fact(*model, "window_type") == (how.ends_with("int8") ? "int8" : how));
    Session session(model, {});
    const std::vector<float> logits = all_logits(session, tokens, {64});
    if (expected.empty()) expected = logits;
    CHECK(test::relative_difference(logits, expected) < 0.15);
    const auto said = parse_json(footprint(*model, 300).text(), Status::INTERNAL, "it");
    bytes[how] = (*said)["window_bytes"].get<int64_t>();
  }
  CHECK(bytes["f32"] == 2 * bytes["bf16"]);
  CHECK(bytes["bf16"] == 71 * 3 * 2 * (16 + 16) * 2);
  CHECK(bytes["bf16/int8"] == 71 * 3 * 2 * (16 + 16 + 8));
  CHECK(bytes["bf16/int8"] == bytes["f32/int8"]);
}

TEST_CASE("memory of a session does not grow once its window is full") {
  const auto model = Model::create(small_config("delta"), {});
  Session session(model, {});
  session.feed(random_tokens(48 * 20, 200, 12));
  const int64_t state = session.state_bytes(), workspace = session.workspace_bytes();
  session.feed(random_tokens(48 * 40, 200, 13));
  CHECK(session.state_bytes() == state);
  CHECK(session.workspace_bytes() == workspace);
}

TEST_CASE("a saved model is the same model") {
  CreateConfig config = small_config("delta");
  config.tokenizer = kStories;
  const auto model = Model::create(config, {});
  const std::string path = "saved_model_test.gguf";
  model->save(path);
  const auto reopened = Model::open(path, {});
  CHECK(reopened->fingerprint() == model->fingerprint());
  const auto tokens = random_tokens(100, 512, 14);
  Session a(model, {}), b(reopened, {});
  CHECK(all_logits(a, tokens, {100}) == all_logits(b, tokens, {100}));
  std::remove(path.c_str());
}
