// Training on several ranks, here threads of one process: the gradients are those of one rank alone, weights stay equal
// to the bit, and what goes wrong on one rank ends the step on all.
#include "ranks.h"

#include <barrier>
#include <bit>
#include <functional>
#include <thread>

#include "adapt/fit_heads.h"
#include "adapt/make_source.h"
#include "base/status.h"
#include "training.h"

using namespace infini;

namespace {

// A sum over threads. `fails_at`: the call, counted from 0, that fails on every rank instead.
class RankThreads {
 public:
  explicit RankThreads(int count, int fails_at = -1)
      : values_(static_cast<size_t>(count)), fails_at_(fails_at), barrier_(count) {
    for (int r = 0; r < count; ++r) members_.push_back({this, r, 0});
  }

  // body(rank, ranks) on a thread each; what it throws, or "".
  std::vector<std::string> run(const std::function<void(int, const Ranks &)> &body) {
    std::vector<std::string> errors(members_.size());
    std::vector<std::thread> threads;
    for (Member &m : members_)
      threads.emplace_back([&] {
        errors[static_cast<size_t>(m.rank)] =
            test::error_of([&] { body(m.rank, Ranks(m.rank, static_cast<int>(members_.size()), sum, &m)); });
      });
    for (std::thread &thread : threads) thread.join();
    return errors;
  }
  int calls() const { return members_[0].calls; }

 private:
  struct Member {
    RankThreads *all;
    int rank, calls;
  };

  static int sum(void *user_data, float *values, size_t n_values) {
    Member &member = *static_cast<Member *>(user_data);
    RankThreads &all = *member.all;
    if (member.calls++ == all.fails_at_) return 7;
    all.values_[static_cast<size_t>(member.rank)] = {values, n_values};
    all.barrier_.arrive_and_wait();
    std::vector<float> total(n_values);
    for (const std::span<const float> part : all.values_)
      for (size_t i = 0; i < n_values; ++i) total[i] += part[i];
    all.barrier_.arrive_and_wait();
    std::copy(total.begin(), total.end(), values);
    return 0;
  }

  std::vector<std::span<const float>> values_;
  std::vector<Member> members_;
  const int fails_at_;
  std::barrier<> barrier_;
};

bool all_say(const std::vector<std::string> &errors, const std::string &part) {
  for (const std::string &error : errors) {
    CAPTURE(error);
    CHECK(error.find(part) != std::string::npos);
    if (error.find(part) == std::string::npos) return false;
  }
  return true;
}

const std::vector<std::string> &none(size_t count) {
  static std::vector<std::string> empty;
  empty.assign(count, "");
  return empty;
}

}  // namespace

TEST_CASE("shares cover everything, in order, and differ by one at most") {
  const auto no_sum = [](void *, float *, size_t) { return 0; };
  for (const int count : {1, 2, 3, 8}) {
    for (const int64_t items : {0, 1, 7, 8, 1000}) {
      int64_t at = 0;
      for (int r = 0; r < count; ++r) {
        const auto [first, end] = Ranks(r, count, no_sum, nullptr).share(items);
        CHECK(first == at);
        CHECK(end - first >= items / count);
        CHECK(end - first <= items / count + 1);
        at = end;
      }
      CHECK(at == items);
    }
  }
}

TEST_CASE("words of every rank come through sums of floats exactly") {
  const std::vector<std::vector<uint64_t>> words = {{0, UINT64_MAX, std::bit_cast<uint64_t>(-1.0 / 3)},
                                                    {uint64_t{1} << 63, 1, std::bit_cast<uint64_t>(1e300)},
                                                    {12345678901234567u, 0x3fffff, 0x400000}};
  RankThreads threads(3);
  const auto errors = threads.run([&](int rank, const Ranks &ranks) {
    const std::vector<uint64_t> all = ranks.gather(words[static_cast<size_t>(rank)]);
    for (size_t i = 0; i < 9; ++i)
      if (all[i] != words[i / 3][i % 3]) fail(Status::INTERNAL, "word ", i, " is ", all[i]);
  });
  CHECK(errors == none(3));
}

TEST_CASE("the gradients of several ranks are those of one") {
  const auto model = test::ranks_model();
  for (const test::RanksCase &c : test::kRanksCases) {
    for (const int count : {2, 4}) {
      CAPTURE(std::string(c.name));
      CAPTURE(count);
      const auto alone = test::ranks_trainer(model, c.more);
      alone->gradients();
      std::vector<std::unique_ptr<RecallTrainer>> trainers;
      for (int r = 0; r < count; ++r) trainers.push_back(test::ranks_trainer(model, c.more));
      RankThreads threads(count);
      CHECK(threads.run([&](int rank, const Ranks &ranks) {
        trainers[static_cast<size_t>(rank)]->set_ranks(ranks);
        trainers[static_cast<size_t>(rank)]->gradients();
      }) == none(static_cast<size_t>(count)));
      // What is summed is what is trained, but for gaps between parameters, in few large pieces.
      CHECK(threads.calls() <= 4);
      size_t numbers = 0;
      for (const std::span<float> piece : alone->trained_gradients()) numbers += piece.size();
      CHECK(numbers >= static_cast<size_t>(alone->trained_parameters()));
      CHECK(numbers < static_cast<size_t>(alone->trained_parameters()) + 500);
      double worst = 0;
      for (const auto &trainer : trainers) worst = std::max(worst, test::gradient_difference(*trainer, *alone));
      CHECK(worst < c.bound);
      const Tally expected = alone->apply().tally, tally = trainers.back()->apply().tally;
      const double weights = test::weight_difference(*trainers.back(), *alone);
      CHECK(weights < c.bound);
      MESSAGE(std::string(c.name) << ", " << count << " ranks: gradients " << worst << ", weights " << weights);
      CHECK(tally.loss == doctest::Approx(expected.loss).epsilon(1e-6));
      CHECK(tally.supervision.retrieval.loss == doctest::Approx(expected.supervision.retrieval.loss).epsilon(1e-6));
      CHECK(tally.supervision.local.loss == doctest::Approx(expected.supervision.local.loss).epsilon(1e-6));
      CHECK(tally.weight == doctest::Approx(expected.weight).epsilon(1e-12));
      CHECK(tally.predictions == expected.predictions);
      CHECK(tally.across == expected.across);
      CHECK(tally.inside == expected.inside);
      CHECK(tally.answers_across == expected.answers_across);
      CHECK(tally.answers_inside == expected.answers_inside);
      CHECK(tally.across > 0);
      const auto asks = [&](const char *what) { return std::string(c.more).find(what) != std::string::npos; };
      CHECK((tally.supervision.retrieval.loss > 0) == asks("\"supervision\""));
      CHECK((tally.supervision.local.loss > 0) == asks("\"local_supervision\""));
    }
  }
}

TEST_CASE("after several steps the state of every rank is the same to the bit, and an evaluation is that of one rank") {
  const auto model = test::ranks_model("linear");
  for (const std::string more : {"", R"(, "train": "lora")"}) {
    std::vector<std::string> states(4);
    std::vector<Tally> tallies(4);
    Tally expected;
    RankThreads threads(4);
    const auto errors = threads.run([&](int rank, const Ranks &ranks) {
      const auto trainer = test::ranks_trainer(model, more);
      trainer->set_ranks(ranks);
      for (int i = 0; i < 6; ++i) trainer->step();
      const auto evaluate = [&] { return trainer->evaluate(*make_source(test::ranks_data(9), *model), 5, 16, 8); };
      tallies[static_cast<size_t>(rank)] = evaluate();
      states[static_cast<size_t>(rank)] = test::state_of(*trainer);
      trainer->set_ranks({});
      if (rank == 0) expected = evaluate();
    });
    CHECK(errors == none(4));
    CHECK(expected.across > 0);
    for (size_t r = 0; r < 4; ++r) {
      CHECK(states[r] == states[0]);
      CHECK(tallies[r].loss == doctest::Approx(expected.loss).epsilon(1e-12));
      CHECK(tallies[r].across_right == expected.across_right);
      CHECK(tallies[r].exact_across == expected.exact_across);
      CHECK(tallies[r].exact_inside == expected.exact_inside);
      CHECK(tallies[r].predictions == expected.predictions);
    }
  }
}

TEST_CASE("heads that begin as a regression are the same on every rank, and are taught together") {
  const auto model = test::ranks_model("linear");
  for (
      const std::string more :
      {R"(, "repeat": 3, "train": "retrieval", "feature_scale": 1, "gates": [[1, -1, 2]], "supervised": [[1, 0, 0], [1, 1, 0]])",
       R"(, "train": "features", "layers": [0, 0], "gates": [[-1, -1, -20]], "local_supervision": 1, "local_supervised": [[0, -1]], "hand_on": 0.5)"}) {
    CAPTURE(more);
    const auto alone = test::ranks_trainer(model, more);
    const std::string untouched = test::state_of(*alone);
    fit_heads(*alone, 10);
    const std::string fitted = test::state_of(*alone);
    CHECK(fitted != untouched);
    for (int i = 0; i < 4; ++i) alone->step();
    std::vector<std::unique_ptr<RecallTrainer>> trainers;
    for (int r = 0; r < 3; ++r) trainers.push_back(test::ranks_trainer(model, more));
    RankThreads threads(3);
    CHECK(threads.run([&](int rank, const Ranks &ranks) {
      RecallTrainer &trainer = *trainers[static_cast<size_t>(rank)];
      trainer.set_ranks(ranks);
      fit_heads(trainer, 10);
      if (test::state_of(trainer) != fitted) fail(Status::INTERNAL, "rank ", rank, " has fitted other heads");
      for (int i = 0; i < 4; ++i) trainer.step();
    }) == none(3));
    for (const auto &trainer : trainers) {
      CHECK(test::state_of(*trainer) == test::state_of(*trainers[0]));
      CHECK(test::weight_difference(*trainer, *alone) < 1e-4);
    }
  }
}

TEST_CASE("a cancel, or a failure, of one rank ends the step of all, and it has not happened") {
  const auto model = test::ranks_model();
  const auto untouched = test::ranks_trainer(model);
  Task task;
  std::vector<std::string> states(3);
  RankThreads threads(3);
  const auto errors = threads.run([&](int rank, const Ranks &ranks) {
    const auto trainer = test::ranks_trainer(model);
    trainer->set_ranks(ranks);
    const auto source = make_source(test::ranks_data(9), *model);
    const auto refused = [&](Status status, const std::string &part, const auto &call) {
      try {
        call();
      } catch (const Error &error) {
        if (error.status() != status || std::string(error.what()).find(part) == std::string::npos) throw;
        return;
      }
      fail(Status::INTERNAL, "nothing was refused");
    };
    if (rank == 1) task.cancel();
    refused(Status::CANCELLED, rank == 1 ? "was cancelled" : "rank 1 of 3 was cancelled",
            [&] { trainer->step(rank == 1 ? &task : nullptr); });
    if (rank == 1) task.cancel();
    refused(Status::CANCELLED, rank == 1 ? "was cancelled" : "rank 1 of 3 was cancelled",
            [&] { trainer->evaluate(*source, 3, 16, 8, rank == 1 ? &task : nullptr); });
    refused(Status::IO, rank == 2 ? "no such file" : "rank 2 of 3 failed", [&] {
      trainer->evaluate(
          [&]() -> SequenceSource & {
            if (rank == 2) fail(Status::IO, "no such file");
            return *source;
          },
          3, 16, 8);
    });
    states[static_cast<size_t>(rank)] = test::state_of(*trainer);
    trainer->step();
  });
  CHECK(errors == none(3));
  for (const std::string &state : states) CHECK(state == test::state_of(*untouched));
}

TEST_CASE("a step whose sum fails has not happened") {
  const auto model = test::ranks_model();
  std::vector<std::unique_ptr<RecallTrainer>> trainers;
  for (int r = 0; r < 2; ++r) trainers.push_back(test::ranks_trainer(model));
  RankThreads working(2);
  const auto step = [&](int rank, const Ranks &ranks) {
    trainers[static_cast<size_t>(rank)]->set_ranks(ranks);
    trainers[static_cast<size_t>(rank)]->step();
  };
  CHECK(working.run(step) == none(2));
  const std::string before = test::state_of(*trainers[0]);
  for (const int call : {0, 1}) {  // when they agree, and when gradients are summed
    RankThreads failing(2, call);
    CHECK(all_say(failing.run(step), "returned 7 on rank "));
    CHECK(failing.calls() == call + 1);
    for (const auto &trainer : trainers) CHECK(test::state_of(*trainer) == before);
  }
  CHECK(working.run(step) == none(2));
  const auto twins = [&] {
    std::vector<std::unique_ptr<RecallTrainer>> made;
    for (int r = 0; r < 2; ++r) made.push_back(test::ranks_trainer(model));
    return made;
  }();
  RankThreads again(2);
  CHECK(again.run([&](int rank, const Ranks &ranks) {
    twins[static_cast<size_t>(rank)]->set_ranks(ranks);
    for (int i = 0; i < 2; ++i) twins[static_cast<size_t>(rank)]->step();
  }) == none(2));
  for (const auto &trainer : trainers) CHECK(test::state_of(*trainer) == test::state_of(*twins[0]));
}

TEST_CASE("ranks that do not train together are told what differs") {
  const auto model = test::ranks_model();
  // Gives so many sequences that are not its source's.
  class Liar : public SequenceSource {
   public:
    Liar(std::unique_ptr<SequenceSource> source, int lies) : source_(std::move(source)), lies_(lies) {}
    Sequence next(int segment, int segments) override {
      Sequence s = source_->next(segment, segments);
      if (lies_-- > 0) std::reverse(s.tokens.begin(), s.tokens.end());
      return s;
    }
    std::string save() const override { return source_->save(); }
    void restore(const std::string &state) override { source_->restore(state); }

   private:
    std::unique_ptr<SequenceSource> source_;
    int lies_;
  };
  const auto told = [&](const std::string &part, const std::function<void(int, const Ranks &)> &body) {
    RankThreads threads(2);
    CHECK(all_say(threads.run(body), part));
  };
  told("descriptions", [&](int rank, const Ranks &ranks) {
    const auto trainer = test::ranks_trainer(model, rank == 1 ? R"(, "clip": 3)" : "");
    trainer->set_ranks(ranks);
    trainer->step();
  });
  told("different sequences", [&](int rank, const Ranks &ranks) {
    const auto trainer = test::ranks_trainer(model, "", 1 + rank);
    trainer->set_ranks(ranks);
    trainer->step();
  });
  told("different sequences", [&](int rank, const Ranks &ranks) {  // from sources that say that they are alike
    auto source = std::make_unique<Liar>(make_source(test::ranks_data(9), *model), rank);
    RecallTrainer trainer(model, test::train_config(R"({"tokens": 128, "segments": 8})"), std::move(source), nullptr,
                          1);
    trainer.set_ranks(ranks);
    trainer.step();
  });
  told("different calls", [&](int rank, const Ranks &ranks) {
    const auto trainer = test::ranks_trainer(model);
    trainer->set_ranks(ranks);
    if (rank == 1) trainer->step();
    else trainer->evaluate(*make_source(test::ranks_data(9), *model), 1, 16, 8);
  });
  told("numbers of steps", [&](int rank, const Ranks &ranks) {
    const auto trainer = test::ranks_trainer(model);
    for (int i = 0; i < rank; ++i) trainer->step();
    trainer->set_ranks(ranks);
    trainer->step();
  });
  told("weights differ", [&](int rank, const Ranks &ranks) {
    auto source = std::make_unique<Liar>(make_source(test::ranks_data(9), *model), rank);
    RecallTrainer trainer(model, test::train_config(R"({"tokens": 128, "segments": 8})"), std::move(source), nullptr,
                          1);
    trainer.step();  // before they train together
    trainer.set_ranks(ranks);
    trainer.step();
  });
}

TEST_CASE("callbacks that do not add up, and ranks that cannot be, are refused") {
  const auto model = test::ranks_model();
  const auto trainer = test::ranks_trainer(model);
  const auto refuse_with = [&](SumCallback sum, const std::string &part) {
    trainer->set_ranks(Ranks(0, 2, sum, nullptr));
    const std::string error = test::error_of([&] { trainer->step(); });
    CAPTURE(error);
    CHECK(error.find(part) != std::string::npos);
    CHECK(trainer->steps() == 0);
  };
  refuse_with([](void *, float *, size_t) { return 0; }, "do not train together");  // rank 1 has said nothing
  refuse_with(
      [](void *, float *values, size_t n) {
    for (size_t i = 0; i < n; ++i) values[i] *= 2;  // as if both had the same number
    return 0;
      },
      "number of its own");
  refuse_with(
      [](void *, float *values, size_t n) {
    std::fill_n(values, n, std::numeric_limits<float>::quiet_NaN());
    return 0;
      },
      "number of its own");
  const auto sum = [](void *, float *, size_t) { return 0; };
  const auto refused = [&](int rank, int count, SumCallback callback) {
    return test::error_of([&] { Ranks(rank, count, callback, nullptr); });
  };
  CHECK(refused(0, 0, sum) == "ranks is 0, but must be 1 to 65536");
  CHECK(refused(0, 65537, sum) == "ranks is 65537, but must be 1 to 65536");
  CHECK(refused(2, 2, sum) == "rank is 2, but of 2 ranks must be 0 to 1");
  CHECK(refused(-1, 2, sum) == "rank is -1, but of 2 ranks must be 0 to 1");
  CHECK(refused(0, 2, nullptr) == "callback is NULL, but 2 ranks need one");
  CHECK(refused(0, 1, nullptr) == "");
}
