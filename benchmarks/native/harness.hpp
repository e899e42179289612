#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/parallel.hpp"

namespace bench {

struct Options {
    int threads = deepspec::default_threads();
    int repetitions = 15;
    std::string filter;  // run the parts whose name holds it
};

inline Options parse_options(int argc, char** argv) {
    Options options;
    const auto positive = [](const std::string& name, const std::string& text) {
        char* end = nullptr;
        const long value = std::strtol(text.c_str(), &end, 10);
        if (text.empty() || *end != '\0' || value < 1 || value > 4096)
            throw std::invalid_argument(name + " must be a whole number from 1 to 4096, got \"" + text +
                                        "\"");
        return static_cast<int>(value);
    };
    for (int i = 1; i < argc; i += 2) {
        const std::string name = argv[i];
        const std::string value = i + 1 < argc ? argv[i + 1] : "";
        if (name == "--threads")
            options.threads = positive(name, value);
        else if (name == "--repetitions")
            options.repetitions = positive(name, value);
        else if (name == "--filter")
            options.filter = value;
        else
            throw std::invalid_argument("options are --threads N, --repetitions N and --filter NAME, got \"" +
                                        name + "\"");
    }
    return options;
}

// "12.3 unit": how much of it a second.
inline std::function<std::string(double)> rate(double amount, const char* unit) {
    return [=](double seconds) {
        char text[64];
        std::snprintf(text, sizeof text, "%.1f %s", amount / seconds, unit);
        return std::string(text);
    };
}

// Times parts and prints a line for each: median and minimum of the repetitions after one warm-up.
class Table {
  public:
    explicit Table(Options options) : options_(std::move(options)) {
        std::printf("%-32s %10s %10s\n", "part", "median ms", "min ms");
    }

    bool wants(const std::string& name) const { return name.find(options_.filter) != std::string::npos; }

    // `remark` makes the last column of the median, in seconds.
    void time(const std::string& name, const std::function<void()>& work,
              const std::function<std::string(double)>& remark) const {
        if (!wants(name)) return;
        using Clock = std::chrono::steady_clock;
        std::vector<double> seconds;
        work();
        for (int i = 0; i < options_.repetitions; ++i) {
            const auto begin = Clock::now();
            work();
            seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        }
        std::sort(seconds.begin(), seconds.end());
        const double median = 0.5 * (seconds[(seconds.size() - 1) / 2] + seconds[seconds.size() / 2]);
        std::printf("%-32s %10.3f %10.3f  %s\n", name.c_str(), 1e3 * median, 1e3 * seconds.front(),
                    remark(median).c_str());
        std::fflush(stdout);
    }

  private:
    Options options_;
};

}  // namespace bench
