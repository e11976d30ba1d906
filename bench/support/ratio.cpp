#include "ratio.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

namespace bench {
namespace {

bool is_quick = false;

// A side of a row: the medians are taken over the repetitions.
using Samples = std::map<std::string, std::vector<benchmark::BenchmarkReporter::Run>>;

// "map/16/real_time" -> "map/16". Repetitions and times are our own options, not the reader's.
std::string plain_name(const benchmark::BenchmarkName& name) {
  return name.args.empty() ? name.function_name : name.function_name + "/" + name.args;
}

// Keeps all runs, and prints what Google Benchmark's own reporter prints, but of repeated ones
// only the summary. (The flag for that would keep the runs from us, too.)
class Console : public benchmark::ConsoleReporter {
 public:
  explicit Console(Samples& samples) : ConsoleReporter(OO_Tabular), samples_(samples) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> shown;
    for (const Run& run : runs) {
      const bool is_sample = run.run_type == Run::RT_Iteration;
      if (run.error_occurred)
        failed_ = true;
      else if (is_sample)
        samples_[plain_name(run.run_name)].push_back(run);
      if (run.error_occurred || !is_sample || run.repetitions == 1) shown.push_back(run);
    }
    if (!shown.empty()) ConsoleReporter::ReportRuns(shown);
  }

  bool failed() const { return failed_; }

 private:
  Samples& samples_;
  bool failed_ = false;
};

struct Verdict {
  const Row* row;
  std::optional<double> ours;    // seconds, or the counter's value
  std::optional<double> beside;  // the same
  std::optional<double> ratio;
  std::optional<bool> reached;
};

double value_of(const benchmark::BenchmarkReporter::Run& run, const std::string& counter) {
  if (!counter.empty()) {
    const auto found = run.counters.find(counter);
    return found == run.counters.end() ? 0 : found->second.value;
  }
  const auto items = run.counters.find("items_per_second");
  if (items != run.counters.end()) return 1 / items->second.value;
  return run.real_accumulated_time / static_cast<double>(run.iterations);
}

std::optional<double> median(const Samples& samples, const std::string& name,
                             const std::string& counter) {
  const auto found = samples.find(name);
  if (found == samples.end()) return std::nullopt;
  std::vector<double> values;
  for (const auto& run : found->second) values.push_back(value_of(run, counter));
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double unit_in_seconds(const std::string& unit) {
  if (unit == "ns") return 1e-9;
  if (unit == "us") return 1e-6;
  if (unit == "ms") return 1e-3;
  return 1;
}

Verdict judge(const Row& row, const Samples& samples) {
  Verdict verdict{&row, median(samples, row.ours, row.counter), {}, {}, {}};
  if (!row.beside.empty()) verdict.beside = median(samples, row.beside, row.counter);
  if (verdict.ours && verdict.beside) {
    verdict.ratio = row.judged == Judged::times_as_fast ? *verdict.beside / *verdict.ours
                                                        : *verdict.ours / *verdict.beside;
  }
  if (quick()) return verdict;
  switch (row.judged) {
    case Judged::at_most:
      if (verdict.ratio) verdict.reached = *verdict.ratio <= row.target;
      break;
    case Judged::times_as_fast:
      if (verdict.ratio) verdict.reached = *verdict.ratio >= row.target;
      break;
    case Judged::ours_at_most:
      if (verdict.ours) {
        const double unit = row.counter.empty() ? unit_in_seconds(row.unit) : 1;
        verdict.reached = *verdict.ours <= row.target * unit;
      }
      break;
    case Judged::for_information:
      break;
  }
  return verdict;
}

std::string shown(std::optional<double> value, const Row& row) {
  if (!value) return "";
  if (!row.counter.empty()) {
    return fmt::format("{:.{}f} {}", *value, *value != 0 && *value < 10 ? 2 : 0, row.unit);
  }
  if (*value < 1e-6) return fmt::format("{:.2f} ns", *value * 1e9);
  if (*value < 1e-3) return fmt::format("{:.2f} us", *value * 1e6);
  if (*value < 1) return fmt::format("{:.2f} ms", *value * 1e3);
  return fmt::format("{:.2f} s", *value);
}

std::string shown_target(const Row& row) {
  switch (row.judged) {
    case Judged::at_most:
      return fmt::format("<= {:g}", row.target);
    case Judged::times_as_fast:
      return fmt::format(">= {:g}", row.target);
    case Judged::ours_at_most:
      return fmt::format("<= {:g} {}", row.target, row.unit);
    case Judged::for_information:
      break;
  }
  return "";
}

void print_table(const std::vector<Verdict>& verdicts) {
  std::size_t width = 4;
  for (const Verdict& verdict : verdicts) width = std::max(width, verdict.row->what.size());
  fmt::print("\n{:<{}}  {:>12} {:>12} {:>8}   {:<12} {}\n", "what", width, "ours", "beside",
             "ratio", "target", quick() ? "(a quick run: nothing is judged)" : "");
  for (const Verdict& verdict : verdicts) {
    fmt::print("{:<{}}  {:>12} {:>12} {:>8}   {:<12} {}\n", verdict.row->what, width,
               shown(verdict.ours, *verdict.row), shown(verdict.beside, *verdict.row),
               verdict.ratio ? fmt::format("{:.2f}", *verdict.ratio) : "",
               shown_target(*verdict.row),
               verdict.reached ? (*verdict.reached ? "reached" : "MISSED") : "");
  }
}

// Google Benchmark's JSON, and after its entries one for each row of the table.
class Json : public benchmark::JSONReporter {
 public:
  Json(const std::vector<Row>& rows, const Samples& samples) : rows_(rows), samples_(samples) {}

  void Finalize() override {
    std::vector<Run> runs;
    for (const Row& row : rows_) {
      const Verdict verdict = judge(row, samples_);
      Run run;
      run.run_name.function_name = "verdict: " + row.what.substr(row.what.find_first_not_of(' '));
      run.family_index = 0;  // these four have no defaults
      run.per_family_instance_index = 0;
      run.repetition_index = Run::no_repetition_index;
      run.repetitions = 1;
      run.time_unit = benchmark::kNanosecond;
      const auto set = [&run](const char* name, const std::optional<double>& value) {
        if (value) run.counters[name] = benchmark::Counter(*value);
      };
      set("ours", verdict.ours);
      set("beside", verdict.beside);
      set("ratio", verdict.ratio);
      if (row.judged != Judged::for_information) set("target", row.target);
      if (verdict.reached) set("reached", *verdict.reached ? 1 : 0);
      runs.push_back(std::move(run));
    }
    if (!runs.empty()) ReportRuns(runs);
    JSONReporter::Finalize();
  }

 private:
  const std::vector<Row>& rows_;
  const Samples& samples_;
};

}  // namespace

bool quick() { return is_quick; }

long scaled(long full) { return quick() ? std::max(full / 100, 1L) : full; }

void parse_quick(int& argc, char** argv) {
  const char* const variable = std::getenv("BROOD_BENCH_QUICK");
  if (variable != nullptr && std::strcmp(variable, "0") != 0 && *variable != '\0') is_quick = true;
  char** const end = std::remove_if(argv + 1, argv + argc, [](const char* argument) {
    return !std::strcmp(argument, "--quick");
  });
  if (end != argv + argc) is_quick = true;
  argc = static_cast<int>(end - argv);
}

int run(int argc, char** argv, const std::vector<Row>& rows) {
  parse_quick(argc, argv);
  // Ours first: those that the user gives come later and win.
  std::vector<std::string> arguments = {
      argv[0], "--benchmark_enable_random_interleaving=true",
      quick() ? "--benchmark_repetitions=1" : "--benchmark_repetitions=9",
      quick() ? "--benchmark_min_time=0.001" : "--benchmark_min_time=0.1"};
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  const bool to_file = std::any_of(arguments.begin(), arguments.end(), [](std::string_view flag) {
    return flag.starts_with("--benchmark_out=");
  });

  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 1;
  Samples samples;
  Console console(samples);
  Json json(rows, samples);
  if (benchmark::RunSpecifiedBenchmarks(&console, to_file ? &json : nullptr) == 0) return 1;
  benchmark::Shutdown();

  std::vector<Verdict> verdicts;
  for (const Row& row : rows) {
    const Verdict verdict = judge(row, samples);
    if (verdict.ours) verdicts.push_back(verdict);  // a filter may have left it out
  }
  print_table(verdicts);
  return console.failed() ? 1 : 0;
}

}  // namespace bench
