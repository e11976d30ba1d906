#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/memory/segment.hpp>
#include <brood/pool/control.hpp>

namespace brood::detail {

/// Where a worker leaves results that are larger than their slot: pages of shared memory that it
/// fills from front to back, and uses again when the owner has consumed all that is in them.
///
/// Used by one worker, from one thread. What is where is the worker's private knowledge; the pages
/// carry the tag of the pool's owner and the worker's group, so that they outlive the worker and
/// are found when it died. A page that it died in is freed as a whole, with its group.
class ResultArea {
 public:
  ResultArea(Segment& segment, Tag owner, std::uint32_t group)
      : segment_(&segment), owner_(owner), group_(group) {}
  ResultArea(const ResultArea&) = delete;
  ResultArea& operator=(const ResultArea&) = delete;
  /// At the worker's end: it goes on to hold what its results name, until the owner has taken that
  /// over.
  ~ResultArea();

  /// Writes one result: encode into it, then commit(). What is not committed never was.
  class Writer final : public ByteSink {
   public:
    explicit Writer(ResultArea& area);
    /// Publishes nothing yet: the caller stores the place where the owner looks for it.
    Encoded commit();

   private:
    void grow(std::size_t at_least) override;

    ResultArea* area_;
  };

  /// Gives back consumed pages beyond a few, and beyond so many bytes; when the worker has nothing
  /// else to do.
  void trim(std::size_t most_bytes) noexcept;
  /// Lets go of the objects that consumed results name. To be called between results, as nobody
  /// tells the worker.
  void let_go() noexcept {
    if (!kept_.empty()) let_go_of_consumed();
  }

 private:
  struct Page {
    Extent extent;
    std::size_t used = 0;
    std::size_t populated = 0;
    [[nodiscard]] ResultPage& header() const { return *reinterpret_cast<ResultPage*>(extent.data); }
    [[nodiscard]] bool consumed() const;
  };

  /// What a result names.
  struct Kept {
    const std::byte* page;
    const std::atomic<std::uint64_t>* consumed;  // the mark in the page
    std::vector<Handle> handles;
  };

  void let_go_of_consumed() noexcept;
  /// The page's results have all been consumed.
  void let_go_of_page(const Page& page) noexcept;
  /// Makes the last page one with room for `bytes` more.
  void open_page(std::size_t bytes);
  void populate(Page& page, std::size_t bytes);

  Segment* segment_;
  Tag owner_;
  std::uint32_t group_;
  std::vector<Page> pages_;  // the last one is being filled
  std::vector<Kept> kept_;
  std::size_t next_look_ = kAlwaysLook;  // with more than this, looks are rare
  static constexpr std::size_t kAlwaysLook = 64;
};

/// The owner has copied or decoded a result and does not need its bytes any more.
void consume(Segment& segment, Encoded result) noexcept;

}  // namespace brood::detail
