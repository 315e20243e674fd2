// The processes that train, or read, together, as mpirun started them: each is a rank. A process that it did not start
// is one rank alone, and so is every process of a build without MPI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace cli {

// One in a process, used by the thread that calls the library.
class Ranks {
 public:
  // Joins the others. Throws where there are several but this build has no MPI: each would work alone, and overwrite
  // what the others save.
  Ranks();
  // Leaves them. Where an exception is on its way out, the others may be waiting for this rank for ever: then all end.
  ~Ranks();
  Ranks(const Ranks &) = delete;
  Ranks &operator=(const Ranks &) = delete;

  int rank() const { return rank_; }
  int count() const { return count_; }
  bool first() const { return rank_ == 0; }  // the one that shows, logs and saves
  // The value that the first one gives, on all: what it alone can know. Throws where others are lost.
  int64_t from_first(int64_t value) const;

  // What each of the others has comes to the first one, rank by rank, and is taken there. Throws where others are lost.
  void to_first(const std::string &bytes, const std::function<void(const std::string &bytes)> &take) const;

  // Where all have failed at once, and each is about to leave: gives the first one, which ends all when it leaves, time
  // to save. Others wait in vain only where it is itself waiting for them.
  void linger() const;

  // infini_trainer_set_ranks(trainer, ranks.rank(), ranks.count(), Ranks::sum, nullptr)
  static int sum(void *user_data, float *values, size_t n_values);

 private:
  int rank_ = 0, count_ = 1;
};

// Runs `body` as one of the ranks. On several, what it throws is said, on standard error, and ends them all.
void on_ranks(const std::function<void(const Ranks &ranks)> &body);

}  // namespace cli
