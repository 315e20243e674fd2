// Over MPI, gradients and the weights after a step are those of one process with the same batch, and states stay equal
// to the bit. Each rank trains alone beside it, to compare.
#include "infini/ranks.h"
#include "unit/ranks.h"

#include "base/hash.h"

using namespace infini;

namespace {

const cli::Ranks &joined() {
  static const cli::Ranks ranks;
  return ranks;
}
Ranks ranks() { return {joined().rank(), joined().count(), cli::Ranks::sum, nullptr}; }

}  // namespace

TEST_CASE("gradients and the weights after a step are those of one process") {
  REQUIRE(joined().count() > 1);
  const auto model = test::ranks_model();
  for (const test::RanksCase &c : test::kRanksCases) {
    CAPTURE(std::string(c.name));
    CAPTURE(joined().rank());
    const auto alone = test::ranks_trainer(model, c.more), together = test::ranks_trainer(model, c.more);
    together->set_ranks(ranks());
    alone->gradients();
    together->gradients();
    const double gradients = test::gradient_difference(*together, *alone);
    alone->apply();
    together->apply();
    const double weights = test::weight_difference(*together, *alone);
    CHECK(gradients < c.bound);
    CHECK(weights < c.bound);
    if (joined().first())
      MESSAGE(std::string(c.name) << ", " << joined().count() << " ranks: gradients " << gradients << ", weights "
                                  << weights);
  }
}

TEST_CASE("after several steps every rank's state is the same to the bit") {
  const auto trainer = test::ranks_trainer(test::ranks_model("linear"));
  trainer->set_ranks(ranks());
  for (int i = 0; i < 8; ++i) trainer->step();
  const std::string state = test::state_of(*trainer);
  const uint64_t sum = checksum(state.data(), state.size());
  for (const uint64_t other : ranks().gather({&sum, 1})) CHECK(other == sum);
}
