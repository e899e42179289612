#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "deepspec/color_graph.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/memory.hpp"
#include "fuzz.hpp"

namespace fuzz {
namespace {

using namespace deepspec;

struct Cancelled : std::runtime_error {
    Cancelled() : std::runtime_error("cancelled") {}
};

// Every task once; or until one fails, each at most once, and the failure arrives.
void attempt_run(ThreadPool& pool, Random& random) {
    const std::size_t n_tasks = random.chance(0.1) ? 0 : random.size(1, 300);
    const std::size_t failing = random.chance(0.3) ? random.between(0, 2 * n_tasks) : n_tasks;
    const bool nested = random.chance(0.1);
    std::vector<std::size_t> runs(n_tasks, 0);  // unguarded: tasks must not share an index
    std::size_t n_run = 0;
    std::mutex mutex;
    const auto task = [&](std::size_t i) {
        ++runs[i];
        if (i == failing) throw std::runtime_error("task " + std::to_string(i));
        if (nested) {
            std::atomic<std::size_t> sum{0};
            ThreadPool(2).run(i % 5, [&](std::size_t j) { sum += j; });
            CHECK_EQUAL(sum.load(), i % 5 * (i % 5 - (i % 5 > 0)) / 2);
        }
        const std::lock_guard lock(mutex);
        ++n_run;
    };
    if (failing < n_tasks) {
        CHECK_THROWS(std::runtime_error, "task " + std::to_string(failing), pool.run(n_tasks, task));
        for (const std::size_t count : runs) CHECK(count <= 1);
    } else {
        pool.run(n_tasks, task);
        CHECK_EQUAL(n_run, n_tasks);
        for (const std::size_t count : runs) CHECK_EQUAL(count, 1u);
    }
}

void attempt_blocks(ThreadPool& pool, Random& random) {
    const std::size_t n = random.chance(0.1) ? 0 : random.size(1, 2000), grain = random.size(1, 3000);
    std::vector<std::size_t> visits(n, 0);
    pool.for_blocks(n, grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) ++visits[i];
    });
    CHECK(visits == std::vector<std::size_t>(n, 1));
}

// A job long enough to be asked a few times whether to go on. The result, cut to numbers.
std::vector<double> long_job(ThreadPool& pool, std::size_t subject, std::size_t n) {
    Random random(n);
    const std::size_t side = static_cast<std::size_t>(std::sqrt(static_cast<double>(n)));
    if (subject == 0) {
        const std::vector<double> features = random_vector(side * side * 40, random);
        const TiledMatrix gram =
            feature_gram(FeatureView<double>{features.data(), side, side, 40}, {side, side}, pool);
        std::vector<double> product(gram.size());
        for (int i = 0; i < 30; ++i) gram.multiply(features.data(), product.data(), pool);
        return product;
    }
    std::vector<double> pixels = random_vector(side * side * 3, random);
    for (double& value : pixels) value = std::round(10.0 * std::abs(value)) / 10.0;
    const ColorSearch searches[] = {{20, 2.0}, {10, 0.1}};
    const SparseMatrix graph = knn_color_graph({pixels.data(), side, side}, searches, pool);
    if (subject == 1) return graph.values;
    const FusedAffinity affinity(nullptr, graph.view(), 1.0);
    const Laplacian laplacian(affinity, LaplacianKind::normalized, pool);
    return smallest_eigenpairs(laplacian, 5, find_solver("native"), {1e-8, 10000}, pool).values;
}

}  // namespace

void try_threads(Random& random) {
    const int threads = static_cast<int>(random.between(1, 6));
    ThreadPool pool(threads);
    CHECK_EQUAL(pool.size(), threads);
    for (std::size_t round = 0; round < random.size(1, 30); ++round) {
        attempt_run(pool, random);
        attempt_blocks(pool, random);
        if (random.chance(0.05)) std::this_thread::sleep_for(std::chrono::microseconds(random.size(1, 1000)));
    }
}

// A job that is cancelled ends with what the poll threw, or was done before; its pool then does it as well as
// a new one.
void try_cancelling(Random& random) {
    const int threads = static_cast<int>(random.between(1, 4));
    const std::size_t subject = random.between(0, 2), n = random.size(100, 3000);
    std::size_t polls_left = random.size(1, 10);
    ThreadPool pool(threads, [&] {
        if (polls_left > 0 && --polls_left == 0) throw Cancelled();
    });
    try {
        while (polls_left > 0) long_job(pool, subject, n);
        CHECK(false);
    } catch (const Cancelled&) {
    }
    const std::vector<double> result = long_job(pool, subject, n);
    ThreadPool fresh(static_cast<int>(random.between(1, 4)));
    CHECK(result == long_job(fresh, subject, n));
}

// Jobs of several callers at a time, each with a pool of its own, do not notice one another.
void try_beside_each_other(Random& random) {
    struct Job {
        std::size_t subject, n;
        int threads;
        std::vector<double> result = {};
    };
    std::vector<Job> jobs(random.between(2, 4));
    for (Job& job : jobs)
        job = {random.between(0, 2), random.size(50, 1500), static_cast<int>(random.between(1, 3))};
    std::vector<std::thread> callers;
    for (Job& job : jobs)
        callers.emplace_back([&job] {
            ThreadPool pool(job.threads);
            job.result = long_job(pool, job.subject, job.n);
        });
    for (std::thread& caller : callers) caller.join();
    ThreadPool alone(1);
    for (const Job& job : jobs) CHECK(job.result == long_job(alone, job.subject, job.n));
}

// What is asked beforehand grows with the problem, holds what is kept, and is refused where there is not as
// much.
void try_memory(Random& random) {
    const Grid own{random.size(1, 100'000), random.size(1, 1000)}, wanted{2 * own.height, 2 * own.width};
    const std::size_t channels = random.size(1, 4096), k = random.size(1, 100);
    const int threads = static_cast<int>(random.between(1, 64));
    const Grid to = random.pick({own, wanted});
    GramOptions options{to.height, to.width};
    options.entries = random.pick({Entries::float32, Entries::fixed16});
    const double bytes = feature_gram_bytes(own, channels, options, threads);
    CHECK(bytes >= TiledMatrix::bytes(to.size(), options.entries));
    CHECK(bytes >= static_cast<double>(options.entries == Entries::float32 ? 4 : 2) / 2.0 *
                       static_cast<double>(to.size()) * static_cast<double>(to.size()));
    CHECK(eigenpairs_bytes(to.size(), k) >= 8.0 * static_cast<double>(to.size()) * static_cast<double>(k));
    CHECK(color_graph_bytes(to.size(), k) >= 24.0 * static_cast<double>(to.size()) * static_cast<double>(k));

    const double wanted_bytes = random.magnitude(1.0, 1e18);
    const auto available = static_cast<double>(available_memory());
    if (wanted_bytes > 2.0 * available)
        CHECK_THROWS(InsufficientMemory, "the job needs ", require_memory(wanted_bytes, "the job"));
    if (wanted_bytes < 0.5 * available) require_memory(wanted_bytes, "the job");
    if (wanted_bytes > 2.0 * available || wanted_bytes < 0.5 * available)
        CHECK_EQUAL(has_memory(wanted_bytes), wanted_bytes < available);
}

}  // namespace fuzz
