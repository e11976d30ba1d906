#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>
#include <brood/channel/exception_data.hpp>
#include <brood/platform/code_location.hpp>
#include <brood/register_exception.hpp>

#include <any>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace brood_test {

struct Registered : std::runtime_error {
  explicit Registered(const std::string& what) : std::runtime_error("Registered: " + what) {}
};
BROOD_REGISTER_EXCEPTION(Registered);

struct DefaultOnly : std::exception {
  const char* what() const noexcept override { return "default only"; }
};
BROOD_REGISTER_EXCEPTION(DefaultOnly);

struct Refused {  // not derived from std::exception
  int code;
};
std::string encode_refused(const Refused& e) { return std::to_string(e.code); }
Refused decode_refused(std::string_view bytes) { return {std::stoi(std::string(bytes))}; }
BROOD_REGISTER_EXCEPTION(Refused, encode_refused, decode_refused);

struct Sealed final : std::logic_error {
  using std::logic_error::logic_error;
};
BROOD_REGISTER_EXCEPTION(Sealed);

template <class T>
struct Parametrised : std::runtime_error {
  using std::runtime_error::runtime_error;
};
BROOD_REGISTER_EXCEPTION(Parametrised<std::vector<int>>);

struct OwnNested : std::runtime_error, std::nested_exception {
  using std::runtime_error::runtime_error;
};
BROOD_REGISTER_EXCEPTION(OwnNested);

struct Unencodable : std::runtime_error {
  using std::runtime_error::runtime_error;
};
std::string encode_never(const Unencodable&) { throw std::runtime_error("cannot"); }
Unencodable decode_never(std::string_view) { return Unencodable("decoded"); }
BROOD_REGISTER_EXCEPTION(Unencodable, encode_never, decode_never);

struct DerivedFromRegistered : Registered {
  using Registered::Registered;
};
struct NotRegistered : std::out_of_range {
  using std::out_of_range::out_of_range;
};

}  // namespace brood_test

namespace brood::detail::exception_data_test {
namespace {

using namespace brood_test;

[[gnu::noinline]] void throws_three() { throw std::out_of_range("three"); }
[[gnu::noinline]] void asks_for_three() {
  throws_three();
  asm volatile("" ::: "memory");
}

std::string text(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += "\n  " + line;
  return all;
}

std::vector<std::byte> encoded(const ErrorRecord& record) {
  std::vector<std::byte> bytes;
  encode_error(bytes, record);
  return bytes;
}

template <class Body>
ErrorRecord record_of(Body&& body) {
  ErrorRecord record;
  EXPECT_FALSE(run_catching(body, record)) << "nothing was thrown";
  return record;
}

// What another process would get.
ErrorRecord carried(const ErrorRecord& record) {
  ErrorRecord there = decode_error(encoded(record));
  EXPECT_EQ(there.stack, record.stack);
  EXPECT_TRUE(there == record) << remote_failure(there).describe() << "\nis not\n"
                               << remote_failure(record).describe();
  return there;
}

// Throws `object` here, carries it, throws it there, and gives what was caught as an E to `look`.
template <class E, class Look>
void round_trip(const E& object, Look&& look) {
  const ErrorRecord record = carried(record_of([&] { throw object; }));
  bool caught = false;
  try {
    throw_error(record);
  } catch (const E& e) {
    caught = true;
    if constexpr (std::is_polymorphic_v<E>) {
      if constexpr (!std::is_final_v<E>) {
        const RemoteTrace* trace = remote_trace(e);
        ASSERT_NE(trace, nullptr) << record.type;
        EXPECT_EQ(trace->type(), record.type);
        EXPECT_EQ(trace->stack(), record.stack);
      }
    }
    if constexpr (std::is_base_of_v<std::exception, E>) {
      EXPECT_STREQ(e.what(), object.what()) << record.type;
    }
    look(e);
  } catch (...) {
    ADD_FAILURE() << record.type << " came back as " << record_current_exception().type;
  }
  EXPECT_TRUE(caught) << record.type;
}

template <class E>
void round_trip(const E& object) {
  round_trip(object, [](const E&) {});
}

TEST(RunCatching, ReturnsTrueAndLeavesTheRecordAlone) {
  ErrorRecord record{.type = "untouched", .message = ""};
  bool ran = false;
  EXPECT_TRUE(run_catching([&] { ran = true; }, record));
  EXPECT_TRUE(ran);
  EXPECT_EQ(record.type, "untouched");
}

TEST(RunCatching, RecordsTypeMessageAndTheStackAtTheThrow) {
  const ErrorRecord record = record_of([] { asks_for_three(); });
  EXPECT_EQ(record.type, "std::out_of_range");
  EXPECT_EQ(record.message, "three");
  if (!reads_debug_information()) GTEST_SKIP() << "no libdw: functions have no names";
  ASSERT_GE(record.stack.size(), 2u) << text(record.stack);
  EXPECT_NE(record.stack[0].find("throws_three()"), std::string::npos) << text(record.stack);
  EXPECT_NE(record.stack[0].find("exception_data_test.cpp:"), std::string::npos)
      << text(record.stack);
  EXPECT_NE(record.stack[1].find("asks_for_three()"), std::string::npos) << text(record.stack);
}

TEST(RunCatching, CostsNothingForWhatTheBodyCatches) {
  const auto before = probed_throws_for_testing();
  ErrorRecord record;
  EXPECT_TRUE(run_catching(
      [] {
        try {
          asks_for_three();
        } catch (const std::out_of_range&) {
        }
      },
      record));
  EXPECT_EQ(probed_throws_for_testing(), before);
}

TEST(RunCatching, RecordsWhatIsNoException) {
  const ErrorRecord number = record_of([] { throw 42; });
  EXPECT_EQ(number.type, "int");
  EXPECT_EQ(number.message, "");
  EXPECT_FALSE(number.stack.empty());
  EXPECT_EQ(record_of([] { throw "text"; }).type, "char const*");
  EXPECT_EQ(record_of([] { throw std::string("text"); }).type,
            "std::basic_string<char, std::char_traits<char>, std::allocator<char> >");
}

TEST(RunCatching, LetsACancelledThreadGo) {
  struct Waiting {
    std::atomic<bool> started = false;
    bool caught = false;
  } waiting;
  pthread_t thread{};
  ASSERT_EQ(::pthread_create(
                &thread, nullptr,
                [](void* argument) -> void* {
                  auto& shared = *static_cast<Waiting*>(argument);
                  ErrorRecord record;
                  shared.caught = !run_catching(
                      [&] {
                        shared.started = true;
                        for (;;) ::pause();
                      },
                      record);
                  return nullptr;
                },
                &waiting),
            0);
  while (!waiting.started) std::this_thread::yield();
  ASSERT_EQ(::pthread_cancel(thread), 0);
  void* result = nullptr;
  ASSERT_EQ(::pthread_join(thread, &result), 0);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_FALSE(waiting.caught);
}

TEST(KnownTypes, ThoseWithAMessage) {
  round_trip(std::logic_error("a logic error"));
  round_trip(std::domain_error("a domain error"));
  round_trip(std::invalid_argument("an invalid argument"));
  round_trip(std::length_error("a length error"));
  round_trip(std::out_of_range("out of range"));
  round_trip(std::runtime_error("a runtime error"));
  round_trip(std::range_error("a range error"));
  round_trip(std::overflow_error("an overflow"));
  round_trip(std::underflow_error(""));
}

TEST(KnownTypes, ThoseWithoutAMessage) {
  round_trip(std::exception());
  round_trip(std::bad_alloc());
  round_trip(std::bad_array_new_length());
  round_trip(std::bad_cast());
  round_trip(std::bad_any_cast());
  round_trip(std::bad_typeid());
  round_trip(std::bad_exception());
  round_trip(std::bad_function_call());
  round_trip(std::bad_weak_ptr());
  round_trip(std::bad_optional_access());
  round_trip(std::bad_variant_access());
}

TEST(KnownTypes, TypeIsExactNotABase) {
  const ErrorRecord record = carried(record_of([] { throw std::bad_array_new_length(); }));
  EXPECT_THROW(throw_error(record), std::bad_array_new_length);
  try {
    throw_error(carried(record_of([] { throw std::logic_error("only logic"); })));
  } catch (const std::invalid_argument&) {
    ADD_FAILURE() << "a base came back as what derives from it";
  } catch (const std::logic_error& e) {
    EXPECT_STREQ(e.what(), "only logic");
  }
}

TEST(KnownTypes, SystemErrorsKeepTheirCode) {
  const auto same_code = [](const auto& sent) {
    return [code = sent.code()](const auto& e) { EXPECT_EQ(e.code(), code); };
  };
  const std::system_error generic(ENOENT, std::generic_category(), "opening");
  round_trip(generic, same_code(generic));
  const std::system_error system(EIO, std::system_category());
  round_trip(system, same_code(system));
  const std::ios_base::failure failure("stream", std::io_errc::stream);
  round_trip(failure, same_code(failure));
  const std::future_error future(std::future_errc::no_state);
  round_trip(future, same_code(future));
}

TEST(KnownTypes, FilesystemErrorsKeepTheirPaths) {
  const std::filesystem::filesystem_error sent("cannot copy", "/a/b", "relative/c",
                                               std::make_error_code(std::errc::permission_denied));
  round_trip(sent, [](const std::filesystem::filesystem_error& e) {
    EXPECT_EQ(e.path1(), "/a/b");
    EXPECT_EQ(e.path2(), "relative/c");
    EXPECT_EQ(e.code(), std::errc::permission_denied);
  });
  EXPECT_EQ(record_of([&] { throw sent; }).type, "std::filesystem::filesystem_error");
}

TEST(KnownTypes, RegexErrorsKeepTheirCode) {
  const std::regex_error sent(std::regex_constants::error_paren);
  round_trip(sent, [&](const std::regex_error& e) { EXPECT_EQ(e.code(), sent.code()); });
}

TEST(KnownTypes, BroodsOwn) {
  round_trip(Error("an error"));
  round_trip(DecodeError("bytes"));
  round_trip(UnknownFunction("function"));
  round_trip(SharedMemoryFull("full"));
  round_trip(StartError("start"));
  round_trip(TimeoutError("late"));
  round_trip(TaskTimeout("later"));
  round_trip(StateError("state"));
  round_trip(PoolClosed("closed"));
  round_trip(TaskCancelled("cancelled"));
  round_trip(BrokenBarrierError("broken"));
  round_trip(WorkerLost("lost"));
  round_trip(SystemError("open", "path=/x", ENOENT), [](const SystemError& e) {
    EXPECT_EQ(e.call(), "open");
    EXPECT_EQ(e.arguments(), "path=/x");
    EXPECT_EQ(e.code(), std::errc::no_such_file_or_directory);
  });
  round_trip(WorkerCrashed({.worker = "w",
                            .pid = 9,
                            .signal = SIGSEGV,
                            .exit_code = 0,
                            .item = 4,
                            .attempt = 3,
                            .address = 0x10,
                            .stack = {"f()", "g()"}}),
             [](const WorkerCrashed& e) {
               EXPECT_EQ(e.signal_name(), "SIGSEGV");
               EXPECT_EQ(e.item(), 4u);
               EXPECT_EQ(e.attempt(), 3u);
               EXPECT_EQ(e.crash().address, 0x10u);
               EXPECT_EQ(e.stack().size(), 2u);
             });
}

class CustomCategory : public std::error_category {
 public:
  explicit CustomCategory(const char* name) : name_(name) {}
  const char* name() const noexcept override { return name_; }
  std::string message(int value) const override { return "custom " + std::to_string(value); }

 private:
  const char* name_;
};

TEST(KnownTypes, ErrorCodesOfRegisteredCategoriesOnly) {
  static const CustomCategory registered("brood_test.registered");
  static const CustomCategory other("brood_test.other");
  register_error_category(registered);
  round_trip(std::system_error(7, registered, "known"), [](const std::system_error& e) {
    EXPECT_EQ(e.code(), std::error_code(7, registered));
  });
  const auto record = carried(record_of([] { throw std::system_error(7, other, "unknown"); }));
  try {
    throw_error(record);
  } catch (const RemoteError& e) {
    EXPECT_EQ(e.type(), "std::system_error");
    EXPECT_EQ(e.message(), "unknown: custom 7");
  }
}

TEST(RegisteredTypes, ComeBackAsThemselvesWithTheirText) {
  round_trip(Registered("once"));  // whose constructor would put its prefix before it a second time
  round_trip(DefaultOnly());
  round_trip(Sealed("sealed"));
  round_trip(Parametrised<std::vector<int>>("of vectors"));
  round_trip(Refused{17}, [](const Refused& e) { EXPECT_EQ(e.code, 17); });
}

TEST(RegisteredTypes, TheirDerivedTypesDoNot) {
  const auto record = carried(record_of([] { throw DerivedFromRegistered("derived"); }));
  try {
    throw_error(record);
  } catch (const RemoteError& e) {
    EXPECT_EQ(e.type(), "brood_test::DerivedFromRegistered");
    EXPECT_EQ(e.message(), "Registered: derived");
  }
}

TEST(RegisteredTypes, ACodecThatFailsMakesARemoteError) {
  const auto unencoded = carried(record_of([] { throw Unencodable("kept"); }));
  EXPECT_EQ(unencoded.message, "kept");
  EXPECT_THROW(throw_error(unencoded), RemoteError);

  auto undecodable = record_of([] { throw Refused{1}; });
  undecodable.payload = "no number";
  EXPECT_THROW(throw_error(carried(undecodable)), RemoteError);
}

TEST(UnknownTypes, BecomeRemoteErrorsWithAllThatIsKnown) {
  ErrorRecord record = record_of([] { throw NotRegistered("mine"); });
  record.process = "brood-worker-2 (pid 123)";
  record.item = 17;
  try {
    throw_error(carried(record));
  } catch (const RemoteError& e) {
    EXPECT_EQ(e.type(), "brood_test::NotRegistered");
    EXPECT_EQ(e.message(), "mine");
    EXPECT_EQ(e.stack(), record.stack);
    const std::string what = e.what();
    EXPECT_NE(what.find("brood_test::NotRegistered: mine"), std::string::npos) << what;
    EXPECT_NE(what.find("computing item 17 in brood-worker-2 (pid 123)"), std::string::npos)
        << what;
    ASSERT_FALSE(record.stack.empty());
    EXPECT_NE(what.find(record.stack[0]), std::string::npos) << what;
    EXPECT_EQ(remote_trace(e), &e);
  }
  EXPECT_THROW(throw_error(carried(record_of([] { throw 42; }))), RemoteError);
}

void throw_nested_twice() {
  try {
    try {
      throw std::out_of_range("innermost");
    } catch (...) {
      std::throw_with_nested(Registered("middle"));
    }
  } catch (...) {
    std::throw_with_nested(NotRegistered("outermost"));
  }
}

// The chain of causes as "type: what", found as users find it.
std::vector<std::string> chain_of(const std::exception& e) {
  std::vector<std::string> chain{e.what()};
  try {
    std::rethrow_if_nested(e);
  } catch (const RemoteError& cause) {
    auto rest = chain_of(cause);
    chain.push_back("RemoteError");
    chain.insert(chain.end(), rest.begin() + 1, rest.end());
  } catch (const Registered& cause) {
    chain.push_back("Registered");
    auto rest = chain_of(cause);
    chain.insert(chain.end(), rest.begin(), rest.end());
  } catch (const std::out_of_range& cause) {
    chain.push_back("out_of_range");
    auto rest = chain_of(cause);
    chain.insert(chain.end(), rest.begin(), rest.end());
  }
  return chain;
}

TEST(Causes, AreRecordedAndNestedAgain) {
  const ErrorRecord record = carried(record_of([] { throw_nested_twice(); }));
  EXPECT_EQ(record.type, "brood_test::NotRegistered");
  ASSERT_EQ(record.causes.size(), 1u);
  EXPECT_EQ(record.causes[0].type, "brood_test::Registered");
  ASSERT_EQ(record.causes[0].causes.size(), 1u);
  EXPECT_EQ(record.causes[0].causes[0].type, "std::out_of_range");
  try {
    throw_error(record);
  } catch (const RemoteError& e) {
    const auto chain = chain_of(e);
    const std::vector<std::string> expected{"Registered", "Registered: middle", "out_of_range",
                                            "innermost"};
    EXPECT_EQ(std::vector<std::string>(chain.begin() + 1, chain.end()), expected) << text(chain);
    ASSERT_EQ(e.causes().size(), 1u);
    EXPECT_EQ(e.causes()[0].message, "Registered: middle");
    EXPECT_NE(std::string(e.what()).find("caused by std::out_of_range: innermost"),
              std::string::npos)
        << e.what();
  }
}

TEST(Causes, OfTypesThatBringTheirOwn) {
  const ErrorRecord record = carried(record_of([] {
    try {
      throw std::out_of_range("reason");
    } catch (...) {
      throw OwnNested("outcome");
    }
  }));
  try {
    throw_error(record);
  } catch (const OwnNested& e) {
    const auto chain = chain_of(e);
    EXPECT_EQ(chain, (std::vector<std::string>{"outcome", "out_of_range", "reason"}));
    EXPECT_NE(remote_trace(e), nullptr);
  }
}

TEST(Causes, EndlessChainsAreCut) {
  const auto nest = [](auto& self, int depth) -> void {
    if (depth == 0) throw std::runtime_error("bottom");
    try {
      self(self, depth - 1);
    } catch (...) {
      std::throw_with_nested(std::runtime_error("level " + std::to_string(depth)));
    }
  };
  const ErrorRecord record = carried(record_of([&] { nest(nest, 50); }));
  EXPECT_EQ(record.message, "level 50");
  int depth = 0;
  for (const ErrorRecord* at = &record; !at->causes.empty(); at = &at->causes[0]) ++depth;
  EXPECT_EQ(depth, 7);
  EXPECT_THROW(throw_error(record), std::runtime_error);
}

TEST(PassedOn, KeepsTypeCausesAndBothStacks) {
  const ErrorRecord first = carried(record_of([] {
    try {
      throws_three();
    } catch (...) {
      std::throw_with_nested(Registered("outer"));
    }
  }));
  const ErrorRecord second = carried(record_of([&] { throw_error(first); }));
  EXPECT_EQ(second.type, first.type);
  EXPECT_EQ(second.message, first.message);
  EXPECT_EQ(second.key, first.key);
  ASSERT_EQ(second.causes.size(), 1u);
  EXPECT_EQ(second.causes[0].key, first.causes[0].key);
  ASSERT_GT(second.stack.size(), first.stack.size()) << text(second.stack);
  EXPECT_TRUE(std::equal(first.stack.begin(), first.stack.end(), second.stack.begin()))
      << text(second.stack);
  EXPECT_THROW(throw_error(second), Registered);

  const ErrorRecord unknown = carried(record_of([] { throw NotRegistered("far"); }));
  const ErrorRecord again = carried(record_of([&] { throw_error(unknown); }));
  EXPECT_EQ(again.type, "brood_test::NotRegistered");
  EXPECT_EQ(again.message, "far");
}

TEST(PassedOn, WrappedByAnotherExceptionItIsItsCause) {
  const ErrorRecord first = carried(record_of([] { throw Refused{3}; }));
  const ErrorRecord second = carried(record_of([&] {
    try {
      throw_error(first);
    } catch (...) {
      std::throw_with_nested(std::runtime_error("asked and was refused"));
    }
  }));
  EXPECT_EQ(second.type, "std::runtime_error");
  ASSERT_EQ(second.causes.size(), 1u);
  try {
    throw_error(second);
  } catch (const std::runtime_error& e) {
    try {
      std::rethrow_if_nested(e);
      ADD_FAILURE() << "no cause";
    } catch (const Refused& cause) {
      EXPECT_EQ(cause.code, 3);
    }
  }
}

TEST(RecordException, OfAnExceptionPointer) {
  const ErrorRecord record = record_exception(std::make_exception_ptr(std::range_error("kept")));
  EXPECT_EQ(record.type, "std::range_error");
  EXPECT_EQ(record.message, "kept");
  EXPECT_THROW(throw_error(record), std::range_error);
}

TEST(Encoding, IsBoundedWhateverTheSizeOfTheException) {
  ErrorRecord record{.type = std::string(100'000, 't'), .message = std::string(5'000'000, 'm')};
  record.stack.assign(10'000, std::string(10'000, 's'));
  record.causes.assign(300, ErrorRecord{.type = "cause", .message = std::string(100'000, 'c')});
  record.causes.front().causes = record.causes;
  record.key = typeid(std::runtime_error).name();
  record.payload = std::string(1'000'000, 'p');
  const auto bytes = encoded(record);
  EXPECT_LE(bytes.size(), kMaxEncodedError);
  const ErrorRecord got = decode_error(bytes);
  EXPECT_TRUE(got.message.starts_with("mmm"));
  EXPECT_TRUE(got.message.ends_with(" bytes more)")) << got.message.substr(got.message.size() - 60);
  EXPECT_EQ(got.key, "") << "what it keeps was too much, so it cannot be built again";
  EXPECT_EQ(encoded(got), encoded(decode_error(encoded(got)))) << "what was cut is not cut again";
}

// Something of everything.
ErrorRecord rich_record() {
  ErrorRecord record = record_of([] {
    try {
      throw std::filesystem::filesystem_error("copy", "/a", "/b",
                                              std::make_error_code(std::errc::io_error));
    } catch (...) {
      std::throw_with_nested(SystemError("open", "path=/x", ENOENT));
    }
  });
  record.stack.resize(2, "f()");
  record.item = 3;
  record.process = "p (pid 1)";
  return record;
}

TEST(DamagedBytes, EveryTruncationIsRefused) {
  const auto bytes = encoded(rich_record());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of exactly that size, so that reading beyond it is seen by the address sanitizer.
    const std::vector<std::byte> cut(bytes.begin(),
                                     bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(decode_error(cut), DecodeError) << size << " of " << bytes.size() << " bytes";
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_THROW(decode_error(longer), DecodeError);
}

TEST(DamagedBytes, EveryFlippedBitIsRefusedOrThrownAsSomething) {
  const auto bytes = encoded(rich_record());
  std::size_t refused = 0;
  std::size_t thrown = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto damaged = bytes;
      damaged[i] ^= std::byte{1} << bit;
      try {
        throw_error(decode_error(damaged));
      } catch (const RemoteTrace&) {
        ++thrown;
      } catch (const DecodeError&) {
        ++refused;
      }
    }
  }
  EXPECT_EQ(refused + thrown, bytes.size() * 8);
  EXPECT_GT(refused, 0u);
  EXPECT_GT(thrown, 0u);
}

TEST(DamagedBytes, PayloadsOfEveryKnownTypeAreChecked) {
  const std::vector<ErrorRecord> records{
      record_of([] { throw std::system_error(1, std::generic_category()); }),
      record_of([] { throw std::ios_base::failure("stream"); }),
      record_of([] { throw std::future_error(std::future_errc::no_state); }),
      record_of([] { throw std::regex_error(std::regex_constants::error_paren); }),
      record_of([] { throw std::filesystem::filesystem_error("x", "/a", "/b", {}); }),
      record_of([] { throw SystemError("c", "a", 1); }),
      record_of([] { throw WorkerCrashed({.worker = "w", .pid = 1, .stack = {"f()"}}); }),
  };
  for (const ErrorRecord& record : records) {
    ASSERT_FALSE(record.payload.empty()) << record.type;
    for (std::size_t size = 0; size < record.payload.size(); ++size) {
      ErrorRecord damaged = record;
      damaged.payload.resize(size);
      damaged.payload.shrink_to_fit();
      EXPECT_THROW(throw_error(damaged), RemoteError) << record.type << ", " << size << " bytes";
    }
    for (std::size_t i = 0; i < record.payload.size() * 8; ++i) {
      ErrorRecord damaged = record;
      damaged.payload[i / 8] = static_cast<char>(damaged.payload[i / 8] ^ (1 << (i % 8)));
      EXPECT_THROW(throw_error(damaged), RemoteTrace) << record.type << ", bit " << i;
    }
  }
}

TEST(ReportUncaught, IsOneReadableText) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_DIRECT), 0);  // one read gives one write
  report_uncaught(ends[1], "hopeless", 123,
                  {.type = "std::runtime_error",
                   .message = "no such luck",
                   .stack = {"failing() at jobs.cpp:20 (jobs+0x1234)"},
                   .causes = {{.type = "int", .message = ""}}});
  std::string got(4096, '\0');
  got.resize(static_cast<std::size_t>(::read(ends[0], got.data(), got.size())));
  EXPECT_EQ(got,
            "Process hopeless (pid 123): uncaught std::runtime_error: no such luck\n"
            "    failing() at jobs.cpp:20 (jobs+0x1234)\n"
            "caused by int\n");
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace brood::detail::exception_data_test
