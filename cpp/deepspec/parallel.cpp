#include "deepspec/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace deepspec {

int available_threads() {
#ifdef __linux__
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int default_threads() {
    const char* text = std::getenv("DEEPSPEC_NUM_THREADS");
    if (text == nullptr || *text == '\0') return available_threads();
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > 4096)
        throw std::invalid_argument("DEEPSPEC_NUM_THREADS must be a whole number from 1 to 4096, got \"" +
                                    std::string(text) + "\"");
    return static_cast<int>(value);
}

struct ThreadPool::State {
    using Clock = std::chrono::steady_clock;
    static constexpr auto poll_interval = std::chrono::milliseconds(20);
    // Waking a sleeping thread takes longer than a small task: who waits stays awake this long, and yields.
    static constexpr auto patience = std::chrono::microseconds(100);

    std::vector<std::thread> workers;
    std::function<void()> poll;
    Clock::time_point last_poll = Clock::now();

    std::mutex mutex;
    std::condition_variable work_ready;
    std::condition_variable work_done;
    std::atomic<unsigned long> generation{0};
    std::atomic<std::size_t> busy{0};
    std::atomic<bool> stopping{false};

    // Each thread's share of the tasks; where it has done its own, it helps with the next thread's.
    struct alignas(64) Share {
        std::atomic<std::size_t> next{0};
        std::size_t end = 0;
    };

    const std::function<void(std::size_t)>* task = nullptr;
    std::vector<Share> shares;
    std::exception_ptr error;

    void fail(std::exception_ptr thrown) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::move(thrown);
        for (Share& share : shares) share.next.store(share.end);
    }

    void poll_if_due() {
        if (!poll) return;
        const auto now = Clock::now();
        if (now - last_poll < poll_interval) return;
        last_poll = now;
        poll();
    }

    // The caller's thread is number 0.
    void take_tasks(std::size_t thread) {
        try {
            for (std::size_t i = 0; i < shares.size(); ++i) {
                Share& share = shares[(thread + i) % shares.size()];
                for (;;) {
                    if (thread == 0) poll_if_due();
                    const std::size_t index = share.next.fetch_add(1);
                    if (index >= share.end) break;
                    (*task)(index);
                }
            }
        } catch (...) {
            fail(std::current_exception());
        }
    }

    // Returns with the mutex held and the condition true.
    template <class Condition>
    std::unique_lock<std::mutex> wait(std::condition_variable& change, Condition condition) {
        const auto until = Clock::now() + patience;
        while (!condition() && Clock::now() < until) std::this_thread::yield();
        std::unique_lock lock(mutex);
        change.wait(lock, condition);
        return lock;
    }

    void work(std::size_t thread) {
        unsigned long seen = 0;
        for (;;) {
            {
                const auto lock = wait(work_ready, [&] { return stopping || generation != seen; });
                if (stopping) return;
                seen = generation;
            }
            take_tasks(thread);
            const std::lock_guard lock(mutex);
            if (--busy == 0) work_done.notify_one();
        }
    }

    void stop() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        work_ready.notify_all();
        for (std::thread& worker : workers) worker.join();
    }
};

ThreadPool::ThreadPool(int threads, std::function<void()> poll) : state_(std::make_unique<State>()) {
    if (threads < 1)
        throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads));
    state_->poll = std::move(poll);
    const auto count = static_cast<std::size_t>(threads);
    state_->shares = std::vector<State::Share>(count);
    state_->workers.reserve(count - 1);
    try {
        for (std::size_t i = 1; i < count; ++i)
            state_->workers.emplace_back([state = state_.get(), i] { state->work(i); });
    } catch (...) {
        state_->stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
    if (n_tasks == 0) return;
    State& state = *state_;
    const bool alone = n_tasks == 1 || state.workers.empty();
    {
        const std::lock_guard lock(state.mutex);
        state.task = &task;
        const std::size_t count = state.shares.size();
        for (std::size_t i = 0; i < count; ++i) {
            state.shares[i].next.store(n_tasks * i / count);
            state.shares[i].end = n_tasks * (i + 1) / count;
        }
        state.error = nullptr;
        if (!alone) {
            state.busy = state.workers.size();
            ++state.generation;
        }
    }
    if (!alone) state.work_ready.notify_all();
    state.take_tasks(0);
    const auto lock = state.wait(state.work_done, [&] { return state.busy == 0; });
    if (state.error) std::rethrow_exception(state.error);
}

void ThreadPool::for_blocks(std::size_t n, std::size_t grain,
                            const std::function<void(std::size_t, std::size_t)>& body) {
    run((n + grain - 1) / grain,
        [&](std::size_t block) { body(block * grain, std::min(n, (block + 1) * grain)); });
}

}  // namespace deepspec
