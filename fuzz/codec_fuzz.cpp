// Decodes many types from arbitrary bytes. Whatever they are, either a DecodeError (or, for a
// function, UnknownFunction) is thrown or a value comes out which, encoded and decoded again, is
// the same.
#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <brood/bind.hpp>
#include <brood/channel/codec.hpp>
#include <brood/errors.hpp>

namespace {

using brood::detail::ByteSource;
using brood::detail::decode;
using brood::detail::encode;
using brood::detail::VectorSink;

enum class Mode : bool { off, on };

struct Flags {
  bool a;
  char between;
  bool b[3];
  Mode mode;
  double number;
};

struct Tree {
  std::string name;
  std::variant<std::monostate, int, std::string, std::vector<bool>> value;
  std::vector<Tree> children;
  std::unique_ptr<Tree> next;
  bool known;
};

struct Mixed {
  std::string words[2];
  std::array<std::optional<int>, 3> numbers;
  std::filesystem::path path;
};

class WithCereal {
 public:
  template <class Archive>
  void serialize(Archive& archive, std::uint32_t version) {
    archive(numbers_, text_, flags_);
    if (version > 0) archive(text_);
  }

 private:
  std::vector<int> numbers_;
  std::string text_;
  Flags flags_{};
};

template <class T>
void decode_one(std::span<const std::uint8_t> bytes) {
  ByteSource source(std::as_bytes(bytes));
  std::optional<T> value;
  try {
    value.emplace(decode<T>(source));
  } catch (const brood::DecodeError&) {
    return;
  } catch (const brood::UnknownFunction&) {
    return;
  }
  VectorSink once;
  encode(once, *value);
  ByteSource again(once.bytes());
  const T copy = decode<T>(again);
  if (again.remaining() != 0) std::abort();
  // Containers without an order may come in another one, but they are as large.
  VectorSink twice;
  encode(twice, copy);
  if (once.written() != twice.written()) std::abort();
}

template <class... Ts>
void decode_chosen(std::size_t choice, std::span<const std::uint8_t> bytes) {
  using Decode = void (*)(std::span<const std::uint8_t>);
  constexpr std::array<Decode, sizeof...(Ts)> kAll{&decode_one<Ts>...};
  kAll[choice % kAll.size()](bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  decode_chosen<bool, double, Flags, std::vector<Flags>, std::string, std::u32string,
                std::vector<bool>, std::vector<std::string>, std::vector<std::uint64_t>,
                std::vector<std::monostate>, Tree, Mixed, std::vector<Mixed>, WithCereal,
                std::vector<WithCereal>, std::map<std::string, std::vector<int>>,
                std::unordered_map<std::string, std::set<int>>,
                std::multimap<int, std::optional<std::string>>, std::deque<std::list<short>>,
                std::forward_list<std::string>, std::priority_queue<int>, std::bitset<77>,
                std::tuple<std::complex<float>, std::chrono::nanoseconds, std::pair<bool, Mode>>,
                std::vector<std::shared_ptr<std::string>>,
                std::tuple<std::shared_ptr<int>, std::shared_ptr<std::string>, std::weak_ptr<int>>,
                int (*)(int), int (std::string::*)(const std::string&) const,
                brood::Bound<int (*)(int, int), int>>(data[0], {data + 1, size - 1});
  return 0;
}
