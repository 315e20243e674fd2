// Sessions that advance together do what each would do alone.
#include "support.h"

#include "base/random.h"
#include "stream/batch.h"
#include "stream/output.h"

using namespace infini;

namespace {

CreateConfig small_config() {
  CreateConfig config;
  config.layers = 2, config.width = 64, config.heads = 4, config.kv_heads = 2, config.hidden = 128,
  config.vocabulary = 150;
  config.segment = 24, config.carry = 10, config.sinks = 3, config.seed = 5;
  return config;
}

std::vector<int32_t> random_tokens(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t &token : tokens) token = static_cast<int32_t>(random.uniform() * 150);
  return tokens;
}

// Each at its own position, with its own sampler.
std::shared_ptr<Session> make_session(const std::shared_ptr<const Model> &model, int index, bool deterministic) {
  Options options;
  options.set("temperature", index % 3 == 0 ? 0.0 : 0.8);
  options.set("seed", int64_t{index});
  options.set("max_tokens", int64_t{index == 4 ? 10 : -1});
  options.set("deterministic", int64_t{deterministic});
  auto session = std::make_shared<Session>(model, options);
  session->feed(random_tokens(static_cast<size_t>(5 + 9 * index), static_cast<uint64_t>(index)));
  return session;
}

}  // namespace

TEST_CASE("deterministic sessions generate the same tokens and logits, bit for bit, alone and in a batch") {
  for (const char *compute : {"f32", "bf16"}) {
    Options options;
    options.set("compute", compute);
    const auto model = Model::create(small_config(), options);
    Batch batch(model);
    std::vector<std::shared_ptr<Session>> together, alone;
    for (int i = 0; i < 9; ++i) {
      together.push_back(make_session(model, i, true));
      alone.push_back(make_session(model, i, true));
      batch.add(together.back());
    }
    for (int step = 0; step < 60; ++step) {
      std::vector<int32_t> tokens(9);
      batch.next(tokens);
      for (size_t i = 0; i < 9; ++i) REQUIRE(tokens[i] == alone[i]->next().value_or(-1));
    }
    for (size_t i = 0; i < 9; ++i)
      CHECK(std::equal(together[i]->logits().begin(), together[i]->logits().end(), alone[i]->logits().begin()));
  }
}

TEST_CASE("without deterministic, the logits are equal within the rounding bound") {
  for (const char *compute : {"f32", "bf16"}) {
    Options options;
    options.set("compute", compute);
    const auto model = Model::create(small_config(), options);
    Batch batch(model);
    std::vector<std::shared_ptr<Session>> together, alone;
    for (int i = 0; i < 20; ++i) {
      together.push_back(make_session(model, i, false));
      alone.push_back(make_session(model, i, false));
      batch.add(together.back());
    }
    std::vector<int32_t> tokens(20);
    for (int step = 0; step < 30; ++step) {
      batch.next(tokens);
      // Teacher-forced: the lone twin reads what the batch chose.
      for (size_t i = 0; i < 20; ++i)
        if (tokens[i] >= 0) alone[i]->feed(std::vector<int32_t>{tokens[i]});
    }
    for (size_t i = 0; i < 20; ++i)
      CHECK(test::relative_difference(together[i]->logits(), alone[i]->logits()) <
            (compute == std::string("f32") ? 2e-5 : 0.1));
  }
}

TEST_CASE("a batch refuses strangers and twins, and names a session that has no logits") {
  const auto model = Model::create(small_config(), {}), other = Model::create(small_config(), {});
  Batch batch(model);
  batch.add(make_session(model, 0, false));
  const auto twin = make_session(model, 1, false);
  batch.add(twin);
  CHECK_THROWS_AS(batch.add(twin), Error);
  CHECK_THROWS_AS(batch.add(make_session(other, 1, false)), Error);
  batch.add(std::make_shared<Session>(model, Options()));
  std::vector<int32_t> tokens(3);
  CHECK_THROWS_WITH_AS(batch.next(tokens), doctest::Contains("session 2"), Error);
  batch.remove(twin.get());
  CHECK(batch.size() == 2);
}

TEST_CASE("a session without a possible token is named, and no other notices") {
  const auto model = Model::create(small_config(), {});
  std::string nothing;
  for (int token = 0; token < 150; ++token) nothing += (token > 0 ? "," : "") + std::to_string(token) + ":-inf";
  Batch batch(model);
  std::vector<std::shared_ptr<Session>> together, alone;
  for (int i = 0; i < 6; ++i) {
    together.push_back(make_session(model, i, i % 2 == 0));
    alone.push_back(make_session(model, i, i % 2 == 0));
    batch.add(together.back());
  }
  Options impossible;
  impossible.set("logit_bias", nothing);
  const auto broken = std::make_shared<Session>(model, impossible);
  broken->feed(random_tokens(4, 1));
  std::vector<int32_t> tokens(7);
  for (int step = 0; step < 30; ++step) {  // one of them ends after 10, and begins anew
    batch.add(broken);
    const std::vector<std::byte> before = together[1]->save(Session::SnapshotKind::SESSION, {});
    CHECK_THROWS_WITH_AS(batch.next(tokens), doctest::Contains("session 6 of the batch: no token is possible"), Error);
    CHECK(together[1]->save(Session::SnapshotKind::SESSION, {}) == before);
    batch.remove(broken.get());
    batch.next(std::span(tokens).first(6));
    for (size_t i = 0; i < 6; ++i) {
      CAPTURE(i);
      REQUIRE(tokens[i] == alone[i]->next().value_or(-1));
    }
  }
}

TEST_CASE("a session whose run ended in a batch goes on from its snapshot bit for bit") {
  Options f32;
  f32.set("compute", std::string("f32"));
  const auto model = Model::create(small_config(), f32);
  Batch batch(model);
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < 20; ++i) {
    sessions.push_back(make_session(model, i, false));
    batch.add(sessions.back());
  }
  std::vector<int32_t> tokens(20);
  for (int step = 0; step < 11; ++step) batch.next(tokens);
  REQUIRE(tokens[4] == -1);
  Session restored(model, {});
  restored.restore(sessions[4]->save(Session::SnapshotKind::SESSION, {}), "buffer");
  const auto a = sessions[4]->logits(), b = restored.logits();
  CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
}

TEST_CASE("text that nobody takes is kept up to a bound, in whole characters") {
  TextOutput output;
  std::string piece;
  for (int i = 0; i < 333; ++i) piece += "\u20ac";
  size_t pushed = 0;
  for (int i = 0; i < 5000; ++i) {
    output.push(piece);
    pushed += piece.size();
    output.keep_newest();
    REQUIRE(output.ready().size() <= TextOutput::kMostReady);
    REQUIRE(output.ready().size() >= std::min(pushed, TextOutput::kMostReady / 2 - 2));
    REQUIRE(output.ready().size() % 3 == 0);
    REQUIRE(output.ready().starts_with("\u20ac"));
  }
}
