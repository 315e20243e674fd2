#include "ranks.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <thread>

#ifdef INFINI_MPI
#include <mpi.h>
#endif

namespace cli {

#ifdef INFINI_MPI

namespace {

// As Open MPI says it, or MPICH and Slurm.
bool started_by_mpirun() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMI_SIZE") || std::getenv("PMIX_RANK");
}

void expect_heard(int status) {
  if (status != MPI_SUCCESS) throw std::runtime_error("MPI: another process cannot be heard");
}

}  // namespace

Ranks::Ranks() {
  if (!started_by_mpirun()) return;
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &count_);
}

Ranks::~Ranks() {
  if (!started_by_mpirun()) return;
  if (count_ > 1 && std::uncaught_exceptions() > 0) MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
}

int64_t Ranks::from_first(int64_t value) const {
  if (count_ > 1) expect_heard(MPI_Bcast(&value, 1, MPI_INT64_T, 0, MPI_COMM_WORLD));
  return value;
}

void Ranks::to_first(const std::string &bytes, const std::function<void(const std::string &bytes)> &take) const {
  const auto each_piece = [](int64_t size, const auto &pass) {
    constexpr int64_t kPiece = int64_t{1} << 30;  // MPI counts in int
    for (int64_t at = 0; at < size; at += kPiece) expect_heard(pass(at, static_cast<int>(std::min(kPiece, size - at))));
  };
  if (!first()) {
    const auto size = static_cast<int64_t>(bytes.size());
    expect_heard(MPI_Send(&size, 1, MPI_INT64_T, 0, 0, MPI_COMM_WORLD));
    each_piece(size, [&](int64_t at, int n) { return MPI_Send(bytes.data() + at, n, MPI_BYTE, 0, 0, MPI_COMM_WORLD); });
    return;
  }
  for (int rank = 1; rank < count_; ++rank) {
    int64_t size = 0;
    expect_heard(MPI_Recv(&size, 1, MPI_INT64_T, rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
    std::string heard(static_cast<size_t>(size), '\0');
    each_piece(size, [&](int64_t at, int n) {
      return MPI_Recv(heard.data() + at, n, MPI_BYTE, rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    });
    take(heard);
  }
}

void Ranks::linger() const {
  if (!first()) std::this_thread::sleep_for(std::chrono::minutes(10));
}

int Ranks::sum(void *, float *values, size_t n_values) {
  constexpr size_t kPiece = size_t{1} << 24;  // MPI counts in int, and copies a piece before it adds
  for (size_t at = 0; at < n_values; at += kPiece) {
    const int n = static_cast<int>(std::min(kPiece, n_values - at));
    if (const int failed = MPI_Allreduce(MPI_IN_PLACE, values + at, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        failed != MPI_SUCCESS)
      return failed;
  }
  return 0;
}

#else

Ranks::Ranks() {
  for (const char *variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char *size = std::getenv(variable); size && std::atoi(size) > 1)
      throw std::runtime_error(
          "this build has no MPI, and cannot be one of several processes: build it with -DINFINI_MPI=ON");
}

Ranks::~Ranks() = default;

int64_t Ranks::from_first(int64_t value) const { return value; }

void Ranks::to_first(const std::string &, const std::function<void(const std::string &bytes)> &) const {}

void Ranks::linger() const {}

int Ranks::sum(void *, float *, size_t) { return 0; }

#endif

void on_ranks(const std::function<void(const Ranks &ranks)> &body) {
  Ranks ranks;
  try {
    body(ranks);
  } catch (const std::exception &error) {
    if (ranks.count() > 1)
      std::fprintf(stderr, "infini: rank %d of %d: %s\n", ranks.rank(), ranks.count(), error.what());
    throw;
  }
}

}  // namespace cli
