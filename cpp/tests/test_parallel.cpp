#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <latch>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "deepspec/parallel.hpp"

using namespace deepspec;

namespace {

constexpr int thread_counts[] = {1, 2, 4, 7};

void check_runs_all_once(ThreadPool& pool, std::size_t n_tasks) {
    std::vector<std::atomic<int>> runs(n_tasks);
    pool.run(n_tasks, [&](std::size_t i) { ++runs[i]; });
    for (std::size_t i = 0; i < n_tasks; ++i) CHECK_EQUAL(runs[i].load(), 1);
}

void every_task_runs_once() {
    for (const int threads : thread_counts) {
        ThreadPool pool(threads);
        CHECK_EQUAL(pool.size(), threads);
        for (const std::size_t n_tasks : {0u, 1u, 2u, 6u, 1000u})
            for (int repeat = 0; repeat < 20; ++repeat) check_runs_all_once(pool, n_tasks);
    }
    CHECK_THROWS(std::invalid_argument, "threads must be at least 1, got 0", ThreadPool(0));
}

// Tasks that wait for each other finish only when every thread takes one.
void all_threads_work_at_once() {
    for (const int threads : thread_counts) {
        ThreadPool pool(threads);
        std::latch together(threads);
        std::mutex mutex;
        std::set<std::thread::id> seen;
        pool.run(static_cast<std::size_t>(threads), [&](std::size_t) {
            together.arrive_and_wait();
            const std::lock_guard lock(mutex);
            seen.insert(std::this_thread::get_id());
        });
        CHECK_EQUAL(seen.size(), static_cast<std::size_t>(threads));
        CHECK(seen.count(std::this_thread::get_id()) == 1);
    }
}

void exceptions_reach_the_caller() {
    for (const int threads : thread_counts) {
        ThreadPool pool(threads);
        std::atomic<std::size_t> finished{0};
        const auto fail_at_17 = [&](std::size_t i) {
            if (i == 17) throw std::runtime_error("task 17");
            ++finished;
        };
        CHECK_THROWS(std::runtime_error, "task 17", pool.run(1000, fail_at_17));
        if (threads == 1) CHECK_EQUAL(finished.load(), 17u);
        check_runs_all_once(pool, 100);
    }
    ThreadPool pool(2);
    const auto caller = std::this_thread::get_id();
    std::latch both(2);
    const auto fail_in_worker = [&](std::size_t) {
        both.arrive_and_wait();
        if (std::this_thread::get_id() != caller) throw std::runtime_error("worker");
    };
    CHECK_THROWS(std::runtime_error, "worker", pool.run(2, fail_in_worker));
    check_runs_all_once(pool, 100);
}

void poll_may_cancel() {
    for (const int threads : thread_counts) {
        bool cancelled = false, elsewhere = false;
        const auto caller = std::this_thread::get_id();
        ThreadPool pool(threads, [&] {
            elsewhere = elsewhere || std::this_thread::get_id() != caller;
            if (!std::exchange(cancelled, true)) throw std::runtime_error("interrupted");
        });
        std::atomic<int> started{0};
        const auto nap = [&](std::size_t) {
            ++started;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        };
        CHECK_THROWS(std::runtime_error, "interrupted", pool.run(2000, nap));
        CHECK(started < 2000);
        CHECK(!elsewhere);
        check_runs_all_once(pool, 100);
    }
}

void a_task_may_use_a_pool_of_its_own() {
    ThreadPool outer(4);
    std::vector<std::size_t> sums(20);
    outer.run(sums.size(), [&](std::size_t i) {
        ThreadPool inner(2);
        std::atomic<std::size_t> sum{0};
        inner.run(i + 1, [&](std::size_t j) { sum += j; });
        sums[i] = sum;
    });
    for (std::size_t i = 0; i < sums.size(); ++i) CHECK_EQUAL(sums[i], i * (i + 1) / 2);
}

void blocks_cover_exactly() {
    using Blocks = std::vector<std::pair<std::size_t, std::size_t>>;
    for (const std::size_t n : {0u, 1u, 9u, 10u, 11u, 1000u})
        for (const std::size_t grain : {1u, 10u, 4096u}) {
            Blocks expected;
            for (std::size_t begin = 0; begin < n; begin += grain)
                expected.push_back({begin, std::min(n, begin + grain)});
            for (const int threads : thread_counts) {
                ThreadPool pool(threads);
                std::mutex mutex;
                Blocks blocks;
                pool.for_blocks(n, grain, [&](std::size_t begin, std::size_t end) {
                    const std::lock_guard lock(mutex);
                    blocks.push_back({begin, end});
                });
                std::sort(blocks.begin(), blocks.end());
                CHECK(blocks == expected);
            }
        }
}

void set_variable(const char* value) {
#ifdef _WIN32
    _putenv_s("DEEPSPEC_NUM_THREADS", value);
#else
    setenv("DEEPSPEC_NUM_THREADS", value, 1);
#endif
}

void default_threads_follow_the_variable() {
    CHECK(available_threads() >= 1);
    set_variable("");
    CHECK_EQUAL(default_threads(), available_threads());
    set_variable("7");
    CHECK_EQUAL(default_threads(), 7);
    for (const char* wrong : {"0", "-1", "two", "3x", "2.5", "99999999999999999999"}) {
        set_variable(wrong);
        CHECK_THROWS(std::invalid_argument, "got \"" + std::string(wrong) + "\"", default_threads());
    }
}

}  // namespace

int main() {
    every_task_runs_once();
    all_threads_work_at_once();
    exceptions_reach_the_caller();
    poll_may_cancel();
    a_task_may_use_a_pool_of_its_own();
    blocks_cover_exactly();
    default_threads_follow_the_variable();
    return check::result();
}
