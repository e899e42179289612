#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "deepspec/parallel.hpp"

namespace bench {

struct Options {
    int threads = deepspec::default_threads();
    int repetitions = 15;
    int channels = 384;
    int cells = 0;       // the one size to time; 0 for all
    std::string filter;  // time the parts whose name holds it
};

inline Options parse_options(int argc, char** argv) {
    Options options;
    const auto positive = [](const std::string& name, const std::string& text, int most) {
        char* end = nullptr;
        const long value = std::strtol(text.c_str(), &end, 10);
        if (text.empty() || *end != '\0' || value < 1 || value > most)
            throw std::invalid_argument(name + " must be a whole number from 1 to " + std::to_string(most) +
                                        ", got \"" + text + "\"");
        return static_cast<int>(value);
    };
    for (int i = 1; i < argc; i += 2) {
        const std::string name = argv[i];
        const std::string value = i + 1 < argc ? argv[i + 1] : "";
        if (name == "--threads")
            options.threads = positive(name, value, 256);
        else if (name == "--repetitions")
            options.repetitions = positive(name, value, 1000);
        else if (name == "--channels")
            options.channels = positive(name, value, 65536);
        else if (name == "--cells")
            options.cells = positive(name, value, 1048576);
        else if (name == "--filter")
            options.filter = value;
        else
            throw std::invalid_argument(
                "options are --threads N, --repetitions N, --channels N, --cells N and --filter NAME, got "
                "\"" +
                name + "\"");
    }
    return options;
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return 0.5 * (values[(values.size() - 1) / 2] + values[values.size() / 2]);
}

// Something timed: a stage of the core, or a loop that shows what the machine can do.
struct Part {
    std::string name;
    std::function<void()> work;
    double amount = 0.0;         // of `unit` times seconds that one call of `work` does
    std::string unit;            // of the rate, such as GF/s
    const Part* peak = nullptr;  // what the machine gives of it
    std::string remark = {};
    std::vector<double> seconds = {};  // of one call, round by round

    double rate() const { return amount / median(seconds); }
    bool timed() const { return !seconds.empty(); }
};

// Parts that are compared, so timed in turns: what slows the machine down for a while slows all of them.
class Group {
  public:
    Group(const std::string& title, Options options) : title_(title), options_(std::move(options)) {}

    const Part& add(Part part) { return parts_.emplace_back(std::move(part)); }

    void run() {
        for (Part& part : parts_)
            if (wants(part) && part.peak != nullptr) peaks_.push_back(part.peak);
        for (int round = 0; round < options_.repetitions; ++round)
            for (Part& part : parts_)
                if (wants(part)) part.seconds.push_back(seconds_of(part.work));
        print();
    }

  private:
    bool wants(const Part& part) const {
        return part.name.find(options_.filter) != std::string::npos ||
               std::find(peaks_.begin(), peaks_.end(), &part) != peaks_.end();
    }

    // An untimed call goes ahead, so that the caches and the memory kept for reuse hold what the part itself
    // left there. Short calls are averaged.
    static double seconds_of(const std::function<void()>& work) {
        using Clock = std::chrono::steady_clock;
        constexpr double least = 2e-3;
        work();
        const auto begin = Clock::now();
        double elapsed = 0.0;
        int calls = 0;
        for (; elapsed < least; ++calls) {
            work();
            elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
        }
        return elapsed / calls;
    }

    void print() const {
        if (std::none_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.timed(); })) return;
        std::printf("\n%-30s %10s %10s %18s %8s\n", title_.c_str(), "median ms", "min ms", "rate", "of peak");
        for (const Part& part : parts_) {
            if (!part.timed()) continue;
            std::printf("%-30s %10.3f %10.3f", part.name.c_str(), 1e3 * median(part.seconds),
                        1e3 * *std::min_element(part.seconds.begin(), part.seconds.end()));
            if (part.amount > 0.0) std::printf(" %9.1f %-8s", part.rate(), part.unit.c_str());
            if (part.peak != nullptr) std::printf(" %6.0f %%", 100.0 * part.rate() / part.peak->rate());
            std::printf("%s%s\n", part.remark.empty() ? "" : "  ", part.remark.c_str());
        }
        std::fflush(stdout);
    }

    std::string title_;
    Options options_;
    std::deque<Part> parts_;  // which never move
    std::vector<const Part*> peaks_;
};

}  // namespace bench
